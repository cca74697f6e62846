"""
Routes for frames: many small objects in one request.

A frame that comes in is held in memory whole, because every hash must agree before anything of it is kept; it is short. One that
goes out is read and sent a piece at a time.
"""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from epista.contract import frames, objects
from epista.contract.endpoints import Endpoint
from epista.contract.errors import TooLargeError
from epista.server.access.actors import Actor
from epista.server.routes import decode
from epista.server.routes.dispatch import Door, read_body, with_fingerprint
from epista.server.routes.transfers import Raw, opening, waited_for
from epista.server.services.batches import Batches
from epista.server.services.frames import Frames
from epista.server.stores.blobs import CHUNK

_FRAME_BYTES = frames.MAX_BODY_BYTES + CHUNK
"""The longest frame with its header."""


class FrameUpload(Raw):
    """Small objects come in together, with what is to be made of them."""

    def __init__(self, row: Endpoint, door: Door, service: Frames) -> None:
        super().__init__(row, door)
        self._service = service

    async def move(self, actor: Actor, wanted: objects.SendFrame, request: Request, send: Send) -> None:
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= CHUNK):
            # Before a large body is read; a small one is here sooner than that is answered.
            await run_in_threadpool(self._service.refuse_early, actor, wanted)
        # What is before the frame is no longer than other JSON.
        limit = self._door.resources.config.max_json_bytes + _FRAME_BYTES
        async with self._door.slow.turn(actor.caller):
            body = await read_body(request, limit, self._timeout)
            sent = await self._door.slow.run(self._received, actor, wanted, request, body)
        await Response(msgspec.json.encode(sent), media_type="application/json")(request.scope, request.receive, send)

    def _received(self, actor: Actor, wanted: objects.SendFrame, request: Request, body: bytes) -> objects.Framed:
        room = self._service.refuse_early(actor, wanted)
        told, frame = frames.split(body)
        message = bytes(told)
        head = decode.message(objects.FrameHead, message)
        if len(frame) > _FRAME_BYTES:
            raise TooLargeError(f"a frame has at most {_FRAME_BYTES:,} bytes", hint="send several")
        # The header of a frame stands for all of it.
        asked = request.scope["path"].encode() + b"\0" + message + bytes(frame[: frames.header_bytes(frame)])
        return self._service.send(with_fingerprint(actor, asked), wanted, head, frame, room)


class FrameDownload(Raw):
    """Small objects go out together."""

    def __init__(self, row: Endpoint, door: Door, service: Frames) -> None:
        super().__init__(row, door)
        self._service = service

    async def move(self, actor: Actor, wanted: objects.ReadFrames, request: Request, send: Send) -> None:
        pieces = await run_in_threadpool(self._service.read, actor, wanted)
        piece = await run_in_threadpool(next, pieces, b"")
        await self._send(send, opening(200, {"Content-Type": "application/octet-stream"}))
        await self._stream(piece, waited_for(pieces), request, send)


class BatchCommit(Raw):
    """What was set aside becomes visible, and the receipts go out a part at a time."""

    def __init__(self, row: Endpoint, door: Door, service: Batches) -> None:
        super().__init__(row, door)
        self._service = service

    async def move(self, actor: Actor, wanted: objects.CommitBatch, request: Request, send: Send) -> None:
        async with self._door.slow.turn(actor.caller):
            pieces = await self._door.slow.run(self._service.commit, actor, wanted)
        piece = await run_in_threadpool(next, pieces, b"")
        await self._send(send, opening(200, {"Content-Type": "application/x-ndjson"}))
        await self._stream(piece, waited_for(pieces), request, send)
