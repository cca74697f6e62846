"""
Raw routes of tile sessions: what a token in the address lets one look at.

What is asked about one version never changes, so caches may keep it, but only the browser's own: a token is somebody's right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Send

from epista.contract.endpoints import Endpoint
from epista.server.access import actors
from epista.server.access.actors import Actor
from epista.server.routes import conditions
from epista.server.routes.dispatch import Door
from epista.server.routes.transfers import CrossOrigin, opening
from epista.server.routes.turns import Turns
from epista.server.services.images import Made
from epista.server.stores.blobs import CHUNK

PICTURES = 32
"""How many pictures are drawn and sent at once; each may have 64 MiB."""

REGIONS = 8
"""How many regions are read and sent at once: each may have a quarter of a gigabyte, which is in memory until it is sent."""


class Tiles(CrossOrigin):
    """One question about an image."""

    _headers: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        row: Endpoint,
        door: Door,
        maker: Callable[[str, actors.Request], Actor],
        answer: Callable[..., Any],
        turns: Turns | None = None,
    ) -> None:
        super().__init__(row, door)
        self._turns = turns
        self._maker = maker
        self._answer = answer

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
        async with self._door.looks.turn(actor.caller):
            made = await self._door.looks.run(self._made, actor, wanted, request)
        headers = {
            "ETag": f'"{made.tag}"',
            "Cache-Control": "private, max-age=31536000, immutable" if made.is_lasting else "private, no-cache",
            "X-Content-Type-Options": "nosniff",
            **self._headers,
        }
        if conditions.answer(request.method, request.headers, tag=headers["ETag"], size=len(made.body)).status == 304:
            await self._send(send, opening(304, headers))
            await self._send(send, {"type": "http.response.body", "body": b""})
            return
        # Of a picture no part is sent: it is drawn anew for each.
        headers |= {"Content-Type": made.media_type, "Content-Length": str(len(made.body))}
        await self._send(send, opening(200, headers))
        body = made.body if request.method == "GET" else b""
        # In pieces, so that the time for each is bounded: nobody keeps a turn by not reading.
        for start in range(0, max(1, len(body)), CHUNK):
            more = start + CHUNK < len(body)
            await self._send(send, {"type": "http.response.body", "body": body[start : start + CHUNK], "more_body": more})

    def _made(self, actor: Actor, wanted: Any, request: Request) -> Made:
        made: Made = self._answer(actor, wanted)
        return made


class Told(Tiles):
    """What is said of an image, as JSON."""

    def _made(self, actor: Actor, wanted: Any, request: Request) -> Made:
        told = msgspec.json.encode(self._answer(actor, wanted))
        return Made(told, "application/json", hashlib.sha256(told).hexdigest()[:32])


class PictureInfo(Tiles):
    """What pictures an image has; the document names its own address."""

    _headers: ClassVar[dict[str, str]] = {"Vary": "Accept"}

    def _made(self, actor: Actor, wanted: Any, request: Request) -> Made:
        host = request.headers.get("host", "")
        address = self._door.resources.config.public_url or f"{request.url.scheme}://{host}"
        made: Made = self._answer(actor, wanted, f"{address.rstrip('/')}{_base(request)}".removesuffix("/info.json"))
        is_linked = "application/ld+json" in request.headers.get("accept", "")
        return made._replace(media_type=_LINKED_JSON, tag=f"{made.tag}-ld") if is_linked else made


class PictureBase(Tiles):
    """The way from the base address of an image to what is said of it."""

    async def move(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        await run_in_threadpool(self._answer, actor, wanted)
        await self._send(send, opening(303, {"Location": f"{_base(request)}/info.json", "Content-Length": "0"}))
        await self._send(send, {"type": "http.response.body", "body": b""})


def _base(request: Request) -> str:
    """Return the path as it was asked for."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return raw.partition(b"?")[0].decode("ascii", errors="replace")


_LINKED_JSON = 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'
