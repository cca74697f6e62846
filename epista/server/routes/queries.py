"""The route of queries: an Arrow stream, as the engine gives it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.types import Send

from epista.contract.endpoints import Endpoint
from epista.contract.errors import RateLimitError
from epista.contract.queries import RunQuery
from epista.server.access.actors import Actor
from epista.server.routes.dispatch import Door
from epista.server.routes.transfers import Raw, opening, until_gone
from epista.server.routes.turns import Turns
from epista.server.services.queries import Queries, Running

T = TypeVar("T")

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
"""Of a result (IANA's name of the Arrow IPC streaming format)."""


class QueryStream(Raw):
    """Runs a query; whoever leaves ends it."""

    def __init__(self, row: Endpoint, door: Door, service: Queries, turns: Turns) -> None:
        super().__init__(row, door)
        self._service = service
        self._turns = turns
        # A thread waits for each running query, and one may have to end it.
        self._threads = CapacityLimiter(2 * turns.at_once + 2)

    async def move(self, actor: Actor, wanted: RunQuery, request: Request, send: Send) -> None:
        async with self._turns.turn(actor.caller):
            running: Running = await self._wait(self._service.run, actor, wanted)
            leaving = asyncio.ensure_future(self._end_when_gone(running, request))
            try:
                piece = await self._wait(next, running, b"")
                headers = {"Content-Type": MEDIA_TYPE, "Epista-Query": running.uid, "Cache-Control": "no-store"}
                await self._send(send, opening(200, headers))
                while piece:
                    await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await self._wait(next, running, b"")
                await self._send(send, {"type": "http.response.body", "body": b""})
            finally:
                leaving.cancel()
                with anyio.CancelScope(shield=True):
                    await self._wait(running.close)

    async def _end_when_gone(self, running: Running, request: Request) -> None:
        await until_gone(request.receive)
        await self._wait(running.cancel, "its reader left")

    async def _wait(self, work: Any, *given: Any) -> Any:
        return await run_sync(functools.partial(work, *given), limiter=self._threads)


def too_many() -> RateLimitError:
    """Return the error for a query that had no turn in time."""
    return RateLimitError(
        "more queries are running than may run at once",
        hint="wait for one of yours to end: epista queries",
        details={"retry_after_seconds": 5},
    )
