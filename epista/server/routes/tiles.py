"""
Raw routes of tile sessions: what a token in the address lets one look at.

A page of any site may show what it has a token for; no cookie or other standing right of a browser has a part in it. What is
asked about one version never changes, so caches may keep it, but only the browser's own: a token is somebody's right.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from epista.contract.endpoints import Endpoint
from epista.server.access import actors
from epista.server.access.actors import Actor
from epista.server.routes import conditions
from epista.server.routes.dispatch import Door
from epista.server.routes.transfers import Raw, opening
from epista.server.routes.turns import Turns
from epista.server.services.images import Made
from epista.server.stores.blobs import CHUNK

THREADS = 32
"""How many questions about images wait for a child at once, in threads of their own: they hold up nothing else."""

REGIONS = 8
"""How many regions are read and sent at once: each may have a quarter of a gigabyte, which is in memory until it is sent."""


class Tiles(Raw):
    """One question about an image."""

    def __init__(
        self,
        row: Endpoint,
        door: Door,
        maker: Callable[[str, actors.Request], Actor],
        answer: Callable[[Actor, Any], Made],
        threads: CapacityLimiter,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(row, door)
        self._turns = turns
        self._threads = threads
        self._maker = maker
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_FOR_ALL_SITES]
            await send(message)

        await super().__call__(scope, receive, answer)

    async def admit(self, request: Request) -> Actor:
        """Return on whose behalf the session looks."""
        # Nonsense is told before anybody is asked for.
        wanted: Any = await self._asked(request)
        known, _ = self._door.identify(request.scope, self._row)
        actor = await run_in_threadpool(self._maker, wanted.token, known)
        self._door.limit.take(actor.caller)
        return actor

    async def move(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        async with self._turns.turn(actor.caller) if self._turns else nullcontext():
            await self._send_made(actor, wanted, request, send)

    async def _send_made(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        made: Made = await to_thread.run_sync(self._answer, actor, wanted, limiter=self._threads)
        headers = {
            "ETag": f'"{made.tag}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        if conditions.answer(request.method, request.headers, tag=headers["ETag"], size=len(made.body)).status == 304:
            await self._send(send, opening(304, headers))
            await self._send(send, {"type": "http.response.body", "body": b""})
            return
        # Of a picture no part is sent: it is drawn anew for each.
        headers |= {"Content-Type": made.media_type, "Content-Length": str(len(made.body))}
        await self._send(send, opening(200, headers))
        # In pieces, so that the time for each is bounded: nobody keeps a turn by not reading.
        for start in range(0, len(made.body) if request.method == "GET" else 0, CHUNK):
            piece = made.body[start : start + CHUNK]
            await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        await self._send(send, {"type": "http.response.body", "body": b""})


_FOR_ALL_SITES = (
    (b"access-control-allow-origin", b"*"),
    # The address is the right to look: it goes to no other site.
    (b"referrer-policy", b"no-referrer"),
)
