"""
A proxy in front of an HTTP server that fails on purpose: it answers with errors, resets, stalls, or cuts a body short.

    with proxied(seaweed.url) as proxy:
        proxy.fail(Fault("slow down"), Fault("slow down"))      # the next two requests
        proxy.fail(Fault("cut", method="GET", after=1000))      # the next GET, after that much of its answer

A fault is used once, by the first request that it fits. Requests and bytes are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

_PIECE = 256 * 1024

_STATUS = {
    "500": (500, "Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
    "slow down": (503, "Slow Down", "SlowDown", "Please reduce your request rate."),
    "forbidden": (403, "Forbidden", "AccessDenied", "Access Denied"),
}


@dataclass(frozen=True)
class Fault:
    """What happens to one request."""

    kind: Literal["500", "slow down", "forbidden", "reset", "stall", "cut"]
    method: str = ""
    """Only for requests of this method."""
    holding: str = ""
    """Only for requests whose path and query have this in them."""
    after: int = 0
    """For ``cut`` and ``stall``: how many bytes of the answer come through."""

    def fits(self, method: str, target: str) -> bool:
        return (not self.method or method == self.method) and self.holding in target


class Proxy:
    """Runs in a thread of its own."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = address.hostname, address.port
        self._faults: list[Fault] = []
        self._cuts: list[int] = []
        self._guard = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []
        """Method and target of each request, in order."""
        self.heads: list[str] = []
        """The whole head of each request."""
        self.sent = 0
        """How many bytes the clients sent."""
        self.received = 0
        """How many bytes the clients received."""
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()

    def fail(self, *faults: Fault) -> None:
        """Let the next requests that fit fail, one for each fault."""
        with self._guard:
            self._faults += faults

    def cut_when_sent(self, *totals: int) -> None:
        """Reset every connection when the clients have sent so many bytes, for each of the growing totals."""
        with self._guard:
            self._cuts += totals

    @property
    def waiting(self) -> list[Fault]:
        """The faults that no request has met yet."""
        with self._guard:
            return list(self._faults)

    def heal(self) -> None:
        """Forget all faults that are still to come."""
        with self._guard:
            self._faults.clear()

    def forget(self) -> None:
        """Begin to count anew."""
        with self._guard:
            self.requests.clear()
            self.heads.clear()
            self.sent = self.received = 0

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _count(self, size: int) -> None:
        with self._guard:
            self.sent += size
            is_cut = bool(self._cuts) and self.sent >= self._cuts[0]
            if is_cut:
                del self._cuts[0]
        if is_cut:
            for task in self._tasks:
                task.cancel()

    def _fault(self, head: str, method: str, target: str) -> Fault | None:
        with self._guard:
            self.heads.append(head)
            self.requests.append(f"{method} {target}")
            found = next((fault for fault in self._faults if fault.fits(method, target)), None)
            if found:
                self._faults.remove(found)
            return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await _Connection(self, reader, writer).run(*self._upstream)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


class _Connection:
    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._left: int | None = None
        """How many more bytes of the answer come through; None for all."""
        self._is_stalling = False

    async def run(self, host: str | None, port: int | None) -> None:
        upstream, to_upstream = await asyncio.open_connection(host, port, limit=2**20)
        answers = asyncio.ensure_future(self._relay(upstream))
        try:
            while True:
                head = await self._reader.readuntil(b"\r\n\r\n")
                text = head.decode("latin-1")
                method, target, _ = text.split("\r\n", 1)[0].split(" ")
                fault = self._proxy._fault(text, method, target)
                if fault and fault.kind == "reset":
                    return
                if fault and fault.kind in _STATUS:
                    async for _ in self._body(head):
                        pass
                    await self._answer(fault.kind)
                    continue
                self._left = fault.after if fault else None
                self._is_stalling = bool(fault and fault.kind == "stall")
                to_upstream.write(head)
                async for piece in self._body(head):
                    to_upstream.write(piece)
                    await to_upstream.drain()
        finally:
            answers.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await answers
            to_upstream.transport.abort()

    async def _body(self, head: bytes) -> AsyncIterator[bytes]:
        found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        left = int(found[1]) if found else 0
        self._proxy._count(len(head))
        while left:
            piece = await self._reader.read(min(left, _PIECE))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            self._proxy._count(len(piece))
            yield piece

    async def _answer(self, kind: str) -> None:
        status, reason, code, message = _STATUS[kind]
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write((head + body).encode())
        await self._writer.drain()

    async def _relay(self, upstream: asyncio.StreamReader) -> None:
        while piece := await upstream.read(_PIECE):
            if self._left is not None:
                piece, self._left = piece[: self._left], self._left - len(piece)
            # Counted first: a client that has the last piece may ask at once.
            self._proxy.received += len(piece)
            self._writer.write(piece)
            await self._writer.drain()
            if self._left is not None and self._left <= 0:
                if self._is_stalling:
                    await asyncio.Event().wait()
                break
        self._writer.transport.abort()


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of the server at *upstream*."""
    proxy = Proxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
