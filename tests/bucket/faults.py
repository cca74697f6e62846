"""
Faults between the client and the real server: an ASGI app around the server's, which fails on demand and notes what passes.

Each fault answers one request. What it cuts off, the server did in full: only the answer is lost, as on a bad network.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Fault = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]
"""What answers in place of the server; it may let the server answer and spoil that."""


@dataclass
class Exchange:
    """One request that passed, and how much of its answer."""

    method: str
    path: str
    range: str | None
    answered_bytes: int = 0


class Faults:
    """The server's app, and what goes wrong on the way to it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[Exchange] = []
        self._waiting: list[tuple[re.Pattern[str], Fault]] = []
        self._lock = threading.Lock()

    def next(self, path: str, fault: Fault, *, times: int = 1) -> None:
        """Let *fault* answer the next requests whose path ends as the pattern *path* says."""
        with self._lock:
            self._waiting += [(re.compile(f"(?:{path})$"), fault)] * times

    def clear(self) -> None:
        """Forget what has passed, and go wrong no more."""
        with self._lock:
            self._waiting.clear()
            self.seen.clear()

    def passed(self, path: str) -> list[Exchange]:
        """Return the requests so far whose path ends as the pattern *path* says."""
        return [exchange for exchange in self.seen if re.search(f"(?:{path})$", exchange.path)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode() for name, value in scope["headers"]}
        exchange = Exchange(scope["method"], scope["path"], headers.get(b"range"))
        self.seen.append(exchange)

        async def counted(message: Message) -> None:
            exchange.answered_bytes += len(message.get("body", b""))
            await send(message)

        fault = self._fault(scope["path"])
        if fault is None:
            await self.app(scope, receive, counted)
        else:
            await fault(self.app, scope, receive, counted)

    def _fault(self, path: str) -> Fault | None:
        with self._lock:
            for place, (pattern, fault) in enumerate(self._waiting):
                if pattern.search(path):
                    del self._waiting[place]
                    return fault
        return None


def cut(after: int) -> Fault:
    """Close the connection after so many bytes of the body."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        left = after

        async def until_then(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                await send(message)
            elif left:
                body = message.get("body", b"")[:left]
                left -= len(body)
                await send({"type": "http.response.body", "body": body, "more_body": True})

        await app(scope, receive, until_then)
        # An app that returns before the end of its body makes the server close the connection.

    return fault


def lose_reply() -> Fault:
    """Let the server act, and lose what it says about it."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def lose(message: Message) -> None:
            pass

        await app(scope, receive, lose)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})

    return fault


def answer(status: int) -> Fault:
    """Answer in place of the server, as a proxy does whose server is away."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<h1>Bad gateway</h1>"})

    return fault


def flip(at: int) -> Fault:
    """Flip one bit of the byte *at* of the body."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        passed = 0

        async def flipped(message: Message) -> None:
            nonlocal passed
            body = bytearray(message.get("body", b""))
            if passed <= at < passed + len(body):
                body[at - passed] ^= 1
            passed += len(body)
            await send({**message, "body": bytes(body)} if "body" in message else message)

        await app(scope, receive, flipped)

    return fault


def stall(after: int, released: threading.Event) -> Fault:
    """Send so many bytes of the body and then nothing, until *released* or the client is gone."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()
        left = after

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        async def stalled(message: Message) -> None:
            nonlocal left
            body = message.get("body", b"")
            if len(body) > left:
                await send({"type": "http.response.body", "body": body[:left], "more_body": True})
                while not (released.is_set() or gone.is_set()):
                    await asyncio.sleep(0.01)
                message, left = {**message, "body": body[left:]}, len(body)
            left -= len(message.get("body", b""))
            await send(message)

        await app(scope, watched, stalled)

    return fault


def meanwhile(act: Callable[[], object]) -> Fault:
    """Do something when the first bytes of the answer's body are out."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        done = False

        async def acting(message: Message) -> None:
            nonlocal done
            body = message.get("body", b"")
            if body and not done:
                done = True
                await send({"type": "http.response.body", "body": body[:1], "more_body": True})
                await run_in_threadpool(act)
                message = {**message, "body": body[1:]}
            await send(message)

        await app(scope, receive, acting)

    return fault


def while_sending(act: Callable[[], object]) -> Fault:
    """Do something when the first bytes of the request's body have come."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        done = False

        async def acting() -> Message:
            nonlocal done
            message = await receive()
            if not done:
                done = True
                await run_in_threadpool(act)
            return message

        await app(scope, acting, send)

    return fault


def rewrite(change: Callable[[Any], Any]) -> Fault:
    """Change the JSON of the answer: a server that lies."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        body = b""

        async def changed(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                lie = json.dumps(change(json.loads(body))).encode()
                headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(lie)).encode())]})
                await send({"type": "http.response.body", "body": lie})

        await app(scope, receive, changed)

    return fault
