"""
JSON routes: a row of the contract bound to the service method of the same name, without code of its own.

Who asks is settled before the body is read, so a stranger cannot make the server hold a large one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from epista.contract import messages
from epista.contract.endpoints import Endpoint
from epista.contract.errors import AuthenticationError, EpistaError, InvalidRequestError, TooLargeError
from epista.server.access import actors
from epista.server.access.actors import Actor
from epista.server.routes import decode, problems
from epista.server.routes.limits import RateLimit
from epista.server.routes.turns import LOOKS, SLOW, Pool, Turns
from epista.server.services.resources import Resources
from epista.server.services.tokens import Tokens

_STRANGERS_BYTES = 64 * 1024
"""The largest body of a request that needs no token."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """What every route passes through: who asks, and how often."""

    tokens: Tokens
    resources: Resources
    limit: RateLimit
    slow: Pool
    """For what may wait."""
    looks: Pool
    """For what looks into files."""
    streams: Turns
    """At moving bytes."""

    def pool(self, row: Endpoint) -> Pool | None:
        """Return what an endpoint has a part in, or None: it answers at once."""
        if row.name in LOOKS:
            return self.looks
        return self.slow if row.name in SLOW else None

    def identify(self, scope: Scope, row: Endpoint) -> tuple[actors.Request, str | None]:
        """Return the request and the secret it presents."""
        request = Request(scope)
        # Where asking twice is safe, the key has no use; where the reply has a secret, nothing of it may be kept.
        key = request.headers.get("idempotency-key") if row.retry == "key" else None
        if key is not None and not (0 < len(key) <= 128 and key.isprintable()):
            raise InvalidRequestError("an idempotency key has 1 to 128 printable characters")
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        known = actors.Request(id=scope["epista.request_id"], endpoint=row.name, idempotency_key=key)
        return known, secret.strip() if scheme.lower() == "bearer" and secret.strip() else None

    def admit(self, request: actors.Request, secret: str | None) -> Actor:
        """Return who asks."""
        if secret is None:
            raise AuthenticationError("this needs a token", hint="epista auth login")
        actor = self.tokens.authenticate(secret, request)
        self.limit.take(actor.caller)
        return actor


class JsonRoute:
    """One row, as an ASGI application."""

    def __init__(self, row: Endpoint, method: Callable[..., Any], door: Door) -> None:
        self._row = row
        self._method = method
        self._door = door
        self._pool = door.pool(row)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        scope["epista.endpoint"] = self._row.name
        try:
            reply = await self._answer(request, scope)
            response = Response(msgspec.json.encode(reply), media_type="application/json")
        except EpistaError as error:
            response = problems.response(error, scope["epista.request_id"])
        await response(scope, receive, send)

    async def _answer(self, request: Request, scope: Scope) -> messages.Reply:
        config = self._door.resources.config
        known, secret = self._door.identify(scope, self._row)
        if self._row.scope is None:
            self._door.limit.take(request.client.host if request.client else "unknown")
            body = await read_body(request, _STRANGERS_BYTES, config.body_timeout_seconds)
            asked = self._decode(request, body)
            return await run_in_threadpool(self._method, secret, asked, known)
        if self._row.method == "GET" and self._pool is None:
            return await run_in_threadpool(self._read, known, secret, request)
        actor = await run_in_threadpool(self._door.admit, known, secret)
        wanted: messages.Request | None = None
        run = run_in_threadpool if self._pool is None else self._pool.run
        try:
            async with nullcontext() if self._pool is None else self._pool.turn(actor.caller):
                body = await read_body(request, config.max_json_bytes, config.body_timeout_seconds)
                wanted = self._decode(request, body)
                actor = with_fingerprint(actor, scope["path"].encode() + b"\0" + body)
                reply: messages.Reply = await run(self._method, actor, wanted)
                return reply
        except EpistaError as error:
            await run_in_threadpool(self._door.resources.refused, actor, wanted, error, request.path_params)
            raise

    def _read(self, known: actors.Request, secret: str | None, request: Request) -> messages.Reply:
        """Answer what has no body to wait for, in one thread from beginning to end."""
        actor = self._door.admit(known, secret)
        wanted: messages.Request | None = None
        try:
            if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
                raise InvalidRequestError("GET takes no body")
            wanted = self._decode(request, b"")
            reply: messages.Reply = self._method(actor, wanted)
        except EpistaError as error:
            self._door.resources.refused(actor, wanted, error, request.path_params)
            raise
        return reply

    def _decode(self, request: Request, body: bytes) -> messages.Request:
        query = request.query_params.multi_items()
        if self._row.method in ("GET", "DELETE"):
            if body:
                raise InvalidRequestError(f"{self._row.method} takes no body")
            return decode.from_query(self._row, request.path_params, query)
        if query:
            raise InvalidRequestError(f"{self._row.name} takes its fields in the body, not in the query")
        return decode.from_json(self._row, request.path_params, body)


def with_fingerprint(actor: Actor, asked: bytes) -> Actor:
    """Return *actor* with the fingerprint of what is asked, which an idempotency key needs."""
    if actor.request.idempotency_key is None:
        return actor
    digest = hashlib.sha256(actor.request.endpoint.encode() + b"\0" + asked).hexdigest()
    return replace(actor, request=replace(actor.request, fingerprint=digest))


async def read_body(request: Request, limit: int, timeout_seconds: float) -> bytes:
    """Return the body of a JSON request, of at most *limit* bytes."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequestError("a body has no Content-Encoding here")
    pieces: list[bytes] = []
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(timeout_seconds):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise InvalidRequestError(f"no byte of the body came for {timeout_seconds:g} s") from error
        except ClientDisconnect as error:
            raise InvalidRequestError("the connection closed before the body was whole") from error
        if piece is None:
            return b"".join(pieces)
        size += len(piece)
        if size > limit:
            raise TooLargeError(
                f"the request is over the limit of {limit:,} bytes", details={"limit_bytes": limit}, hint="split it"
            )
        pieces.append(piece)
