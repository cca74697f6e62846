"""
Raw routes: bytes along a plan that a service returned.

Plain ASGI, because bytes move fastest there. Disk and hashing happen in the thread pool, so that other requests stay alive; every
wait for the other side is bounded; and once the first byte of a body is out, no error can become a status: the connection
is broken, and the length and sha256 tell the client.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.utils import quote
from typing import Any
from urllib.parse import quote as percent_encoded

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from epista.contract import assets, links, messages, objects, uploads
from epista.contract.endpoints import Endpoint
from epista.contract.errors import EpistaError, InvalidRequestError, TooLargeError
from epista.contract.messages import Reply
from epista.server.access.actors import Actor
from epista.server.routes import conditions, decode, problems
from epista.server.routes.dispatch import Door, read_body
from epista.server.services import contents, spans
from epista.server.services.assets import Assets
from epista.server.services.contents import Content, Contents
from epista.server.services.links import Links
from epista.server.services.resources import Resources
from epista.server.services.uploads import Uploads
from epista.server.stores.blobs import CHUNK, BlobStore

_DRAINED_BYTES = 16 * CHUNK
"""How much of a refused body is read on, so that the sender comes to read the refusal."""


class Raw:
    """What raw routes share: who asks, what is asked, and errors before the first byte."""

    def __init__(self, row: Endpoint, door: Door) -> None:
        self._row = row
        self._door = door
        self._timeout = door.resources.config.body_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["epista.endpoint"] = self._row.name
        actor: Actor | None = None
        wanted: Any = None
        is_whole = is_begun = False

        async def take() -> Message:
            nonlocal is_whole
            message = await receive()
            is_whole = message["type"] != "http.request" or not message.get("more_body")
            return message

        async def answer(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        request = Request(scope, take)
        try:
            actor = await self.admit(request)
            async with self._door.streams.turn(actor.caller):
                wanted = await self._asked(request)
                await self.move(actor, wanted, request, answer)
        except EpistaError as error:
            if actor is not None:
                await run_in_threadpool(self._door.resources.refused, actor, wanted, error, request.path_params)
            if is_begun:
                raise  # too late for a status: the server closes the connection
            if self._row.raw == "up" and not is_whole and not isinstance(error, _Gone):
                await self._drain(receive)
            await problems.response(error, scope["epista.request_id"])(scope, receive, send)

    async def admit(self, request: Request) -> Actor:
        """Return who asks."""
        known, secret = self._door.identify(request.scope, self._row)
        return await run_in_threadpool(self._door.admit, known, secret)

    async def move(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        """Answer the request; an error may be raised until the answer has begun."""

    async def _asked(self, request: Request) -> messages.Request:
        query = request.query_params.multi_items()
        if self._row.raw == "up" or self._row.method == "GET":
            return decode.from_query(self._row, request.path_params, query)
        if query:
            raise InvalidRequestError(f"{self._row.name} takes its fields in the body, not in the query")
        body = await read_body(request, self._door.resources.config.max_json_bytes, self._timeout)
        return decode.from_json(self._row, request.path_params, body)

    async def _stream(
        self, piece: bytes | bytearray, following: Callable[[], Awaitable[bytes | bytearray]], request: Request, send: Send
    ) -> None:
        # After a client leaves, send() silently succeeds; only a pending receive() tells.
        gone = asyncio.ensure_future(until_gone(request.receive))
        try:
            while piece and not gone.done():
                await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
                piece = await following()
            if not gone.done():
                await self._send(send, {"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._timeout):
            await send(message)

    async def _drain(self, receive: Receive) -> None:
        size = 0
        try:
            async with asyncio.timeout(5):
                while size < _DRAINED_BYTES:
                    message = await receive()
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except (TimeoutError, RuntimeError):
            return


class _Gone(InvalidRequestError):
    """The other side is gone; nobody will read the answer."""


class _Coming(Raw):
    """Bytes come in, a piece at a time."""

    async def move(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise InvalidRequestError("the bytes of an object have no Content-Encoding")
        reply = await self.take(actor, wanted, request, *_announced(request))
        await Response(msgspec.json.encode(reply), media_type="application/json")(request.scope, request.receive, send)

    async def take(self, actor: Actor, wanted: Any, request: Request, size: int | None, digest: str | None) -> Reply:
        """Take the body in and return the answer; *size* and *digest* are what the sender said of it."""
        raise NotImplementedError

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        waiting, size = [], 0
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    message = await request.receive()
            except TimeoutError as error:
                raise _Gone(f"no byte of the body came for {self._timeout:g} s") from error
            if message["type"] == "http.disconnect":
                raise _Gone("the connection closed before the body was whole")
            waiting.append(message.get("body", b""))
            size += len(waiting[-1])
            if size >= CHUNK or not message.get("more_body"):
                yield b"".join(waiting)
                waiting, size = [], 0
            if not message.get("more_body"):
                return


class Upload(_Coming):
    """Bytes come in, into a blob."""

    def __init__(self, row: Endpoint, door: Door, service: Contents) -> None:
        super().__init__(row, door)
        self._service = service

    async def take(
        self, actor: Actor, wanted: objects.UploadBlob, request: Request, size: int | None, digest: str | None
    ) -> objects.Blob:
        incoming = await run_in_threadpool(self._service.receive, actor, wanted, size)
        try:
            async for piece in self._pieces(request):
                if incoming.size + len(piece) > self._door.resources.config.max_upload_bytes:
                    self._service.refuse_size(incoming.size + len(piece))
                await run_in_threadpool(incoming.write, piece)
            return await run_in_threadpool(self._service.received, actor, wanted, incoming, size, digest)
        finally:
            incoming.discard()


class PartUpload(_Coming):
    """Bytes come in, into one part of an upload."""

    def __init__(self, row: Endpoint, door: Door, service: Uploads) -> None:
        super().__init__(row, door)
        self._service = service

    async def take(
        self, actor: Actor, wanted: uploads.PutPart, request: Request, size: int | None, digest: str | None
    ) -> uploads.Part:
        arriving = await run_in_threadpool(self._service.receive, actor, wanted, size, digest)
        try:
            async for piece in self._pieces(request):
                await run_in_threadpool(arriving.write, piece)
            return await run_in_threadpool(self._service.received, actor, wanted, arriving)
        finally:
            arriving.discard()


class Download(Raw):
    """The bytes of a version go out, whole or in one range."""

    def __init__(self, row: Endpoint, door: Door, find: Callable[[Actor, Any], Content], blobs: BlobStore) -> None:
        super().__init__(row, door)
        self._find = find
        self._blobs = blobs

    def headers(self, content: Content) -> dict[str, str]:
        """Return the headers of an answer with *content*, whole or in part."""
        return _content_headers(content)

    def detour(self, content: Content, request: Request) -> str | None:
        """Return where else the bytes are to be had, if the caller wants to know and it is worth a second request."""
        config = self._door.resources.config
        wishes = {wish.strip() for wish in request.headers.get("prefer", "").split(",")}
        # What the condition of If-Range compares with is not known there. Of a pack only a part may be read. And that a linked
        # file is still what was linked, only this server can tell.
        is_whole = not content.is_linked and not content.offset
        if request.method != "GET" or "redirect" not in wishes or "if-range" in request.headers or not is_whole:
            return None
        if not config.s3_direct_bytes or content.size < config.s3_direct_bytes:
            return None
        return self._blobs.link(
            content.object, name=content.name, media_type=content.media_type, seconds=config.s3_direct_seconds
        )

    async def move(self, actor: Actor, wanted: Any, request: Request, send: Send) -> None:
        content: Content = await run_in_threadpool(self._find, actor, wanted)
        while content.is_in_parts:
            # With threads of its own: it takes as long as the table is large.
            await self._door.slow.run(contents.join, self._door.resources, actor, content)
            content = await run_in_threadpool(self._find, actor, wanted)
        headers = self.headers(content)
        status, start, stop = conditions.answer(request.method, request.headers, tag=headers["ETag"], size=content.size)
        if status in (304, 412, 416):
            if status == 416:
                headers["Content-Range"] = f"bytes */{content.size}"
            if status != 304:
                # This one answer is refused; another one, to the same question without the condition, may be kept.
                headers["Cache-Control"] = "no-store"
            await Response(status_code=status, headers=headers)(request.scope, request.receive, send)
            return
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
        if (address := self.detour(content, request)) is not None:
            there = {"Location": address, "Cache-Control": "no-store", "Preference-Applied": "redirect"}
            await Response(status_code=307, headers=there)(request.scope, request.receive, send)
            return
        headers["Content-Length"] = str(stop - start)
        if request.method == "HEAD":
            stop = start
        reading = _Reading(self._door.resources, content, start, stop)
        try:
            # The first piece is read before the answer begins, so that a fault can still become a status.
            piece = await reading.first()
            await self._send(send, opening(status, headers))
            if len(piece) == stop - start:
                # All of it: no need to ask for more, or to watch for a client that leaves.
                await self._send(send, {"type": "http.response.body", "body": piece})
            else:
                await self._stream(piece, reading.following, request, send)
        finally:
            reading.close()


class _Reading:
    """The bytes of a span in order: what is in memory is taken at once, for anything else a thread waits."""

    def __init__(self, resources: Resources, content: Content, start: int, stop: int) -> None:
        self._resources = resources
        self._left = content.span(start, stop)
        self._pieces = contents.pieces(resources, content, start, stop)
        self._may_be_near = not content.is_linked
        self._is_behind = False

    async def first(self) -> bytes | bytearray:
        """Return the first piece, by which a content that is missing shows."""
        return self._taken(await run_in_threadpool(next, self._pieces, b""))

    async def following(self) -> bytes | bytearray:
        """Return the next piece; an empty one at the end."""
        left = self._left
        if left.start >= left.stop:
            return b""
        if self._may_be_near and (piece := self._resources.blobs.near(left.object, left.first, left.end)):
            self._is_behind = True
            return self._taken(piece)
        if self._is_behind:
            self.close()
            self._pieces = spans.read(self._resources, [left])
            self._is_behind = False
        return await self.first()

    def close(self) -> None:
        """Let go of what is open."""
        self._pieces.close()

    def _taken(self, piece: bytes | bytearray) -> bytes | bytearray:
        self._left = self._left._replace(start=self._left.start + len(piece))
        return piece


class CrossOrigin(Raw):
    """
    What the page of any site may ask, and ask whether it may (CORS, https://fetch.spec.whatwg.org).

    For addresses that are the right to read themselves: no cookie or other standing right of a browser has a part in it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_FOR_ALL_SITES]
            await send(message)

        if scope["method"] == "OPTIONS":
            scope["epista.endpoint"] = self._row.name
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, answer)
        else:
            await super().__call__(scope, receive, answer)


class LinkDownload(CrossOrigin, Download):
    """
    The same, for whoever has a signed link, in place of a token.

    Caches ask again before each use, because the right to read can end any moment.
    """

    def __init__(self, row: Endpoint, door: Door, links: Links, blobs: BlobStore) -> None:
        super().__init__(row, door, links.open, blobs)
        self._links = links

    async def admit(self, request: Request) -> Actor:
        wanted = decode.from_query(self._row, request.path_params, request.query_params.multi_items())
        assert isinstance(wanted, links.OpenLink)
        known, _ = self._door.identify(request.scope, self._row)
        actor = await run_in_threadpool(self._links.maker, wanted.link, known)
        self._door.limit.take(actor.caller)
        return actor

    def detour(self, content: Content, request: Request) -> str | None:
        """None: who rotates the keys that sign links ends them all at once, and the store would not know."""
        return None

    def headers(self, content: Content) -> dict[str, str]:
        return super().headers(content) | {"Cache-Control": "private, no-cache"}


class KeyStream(Raw):
    """Every key, one a line, a page at a time."""

    def __init__(self, row: Endpoint, door: Door, service: Assets) -> None:
        super().__init__(row, door)
        self._service = service

    async def move(self, actor: Actor, wanted: assets.ListKeys, request: Request, send: Send) -> None:
        pages = await run_in_threadpool(self._service.keys, actor, wanted)
        # The first page is read before the answer begins, so that a fault can still become a status.
        page = await run_in_threadpool(next, pages, b"")
        await self._send(send, opening(200, {"Content-Type": "text/plain; charset=utf-8"}))
        await self._stream(b"" if request.method == "HEAD" else page, waited_for(pages), request, send)


def waited_for(pieces: Iterator[bytes]) -> Callable[[], Awaitable[bytes]]:
    """Return what gives the next piece, for which a thread waits; an empty one at the end."""
    return functools.partial(run_in_threadpool, next, pieces, b"")


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left; the body of the request must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def opening(status: int, headers: dict[str, str]) -> dict[str, Any]:
    """Return the message that begins an answer."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _content_headers(content: Content) -> dict[str, str]:
    utf8 = percent_encoded(content.name, safe="")
    plain = content.name.encode("ascii", "replace").decode().replace("?", "_")
    digest = {}
    if content.is_linked and content.sha256 is not None:
        digest = {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(content.sha256)).decode()}:"}
    return digest | {
        "Content-Type": content.media_type,
        "Accept-Ranges": "bytes",
        "ETag": f'"{content.tag}"',
        # A version never changes, and nobody else may see it.
        "Cache-Control": "private, max-age=31536000, immutable",
        # Users' bytes are never run as a page of this server.
        "Content-Disposition": f"attachment; filename=\"{quote(plain)}\"; filename*=UTF-8''{utf8}",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }


_FOR_ALL_SITES = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"accept-ranges, content-disposition, content-length, content-range, etag, repr-digest"),
    # The address is the right to read: it goes to no other site.
    (b"referrer-policy", b"no-referrer"),
)

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    # A type with a profile, as IIIF names it, is no plain Accept to browsers.
    "Access-Control-Allow-Headers": "accept, range, if-match, if-none-match, if-range",
    "Access-Control-Max-Age": "600",
}


def _announced(request: Request) -> tuple[int | None, str | None]:
    """Return the size and the sha256 that the sender announces."""
    length = request.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise InvalidRequestError(f"Content-Length {length[:40]!r} is no number")
    if length is not None and len(length) > 18:
        raise TooLargeError("the object is over every limit")
    header = request.headers.get("content-digest")
    if header is None:
        return None if length is None else int(length), None
    for item in header.split(","):
        name, _, value = item.strip().partition("=")
        if name == "sha-256":
            try:
                digest = base64.b64decode(value.strip(":"), validate=True)
            except (binascii.Error, ValueError) as error:
                raise InvalidRequestError("Content-Digest is not as in RFC 9530: sha-256=:BASE64:") from error
            if len(digest) != 32:
                raise InvalidRequestError("a sha-256 has 32 bytes")
            return None if length is None else int(length), digest.hex()
    raise InvalidRequestError("of the algorithms of Content-Digest, this server knows sha-256")
