"""
Raw routes of tile sessions: what a token in the address lets one look at.

A page of any site may show what it has a token for; no cookie or other standing right of a browser has a part in it. What is
asked about one version never changes, so caches may keep it, but only the browser's own: a token is somebody's right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from epista.contract.endpoints import Endpoint
from epista.server.access import actors
from epista.server.access.actors import Actor
from epista.server.routes import conditions
from epista.server.routes.dispatch import Door
from epista.server.routes.transfers import Raw
from epista.server.services.images import Made

THREADS = 32
"""How many questions about images wait for a child at once, in threads of their own: they hold up nothing else."""


class Tiles(Raw):
    """One question about an image."""

    def __init__(
        self,
        row: Endpoint,
        door: Door,
        maker: Callable[[str, actors.Request], Actor],
        answer: Callable[[Actor, Any], Made],
        threads: CapacityLimiter,
    ) -> None:
        super().__init__(row, door)
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
        made: Made = await to_thread.run_sync(self._answer, actor, wanted, limiter=self._threads)
        headers = {
            "ETag": f'"{made.tag}"',
            "Cache-Control": "private, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
        }
        status = conditions.answer(request.method, request.headers, tag=headers["ETag"], size=len(made.body)).status
        if status == 304:
            response = Response(status_code=304, headers=headers)
        else:
            # Of a picture no part is sent: it is drawn anew for each.
            response = Response(made.body, media_type=made.media_type, headers=headers)
        await response(request.scope, request.receive, send)


_FOR_ALL_SITES = (
    (b"access-control-allow-origin", b"*"),
    # The address is the right to look: it goes to no other site.
    (b"referrer-policy", b"no-referrer"),
)
