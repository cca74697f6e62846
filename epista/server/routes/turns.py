"""
How many requests may do the same at once, in this process: so many in all, and so many of one caller.

What answers in milliseconds shares one pool of threads. What may wait (for a child that reads a file, for the pattern of a rule,
for every row of a log) has threads of its own, so that it can never hold up a read; what shows a file has others, since it may
hold up no write either; and streams, which keep buffers while they last, are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from epista.contract.errors import EpistaError, UnavailableError

SLOW = frozenset(
    (
        "audit.verify",
        "experiments.rename",
        "lab.backup",
        "lab.gc",
        "lab.verify",
        "lab.verify_audit",
        "objects.commit",
        "objects.copy",
        "objects.move",
        "objects.restore",
        "objects.set_meta",
        "tables.append",
        "tables.join",
        "uploads.complete",
        "uploads.take_part",
        "workspaces.check_rules",
        "workspaces.set_rules",
    )
)
"""The endpoints that may wait."""

SLOW_THREADS = 32
"""How many of them run at once."""

LOOKS = frozenset(("images.info", "images.rendering", "previews.get", "sequences.locate"))
"""The endpoints that may wait for a child that looks into a file; besides those of pictures and pixels."""

LOOK_THREADS = 32
"""How many of them run at once, pictures and pixels among them."""

WAIT_SECONDS = 20.0
"""How long a request waits for its turn before it is sent away, to come again."""


_Made = TypeVar("_Made")


def _busy() -> EpistaError:
    return UnavailableError("the server does as much of this at once as it may", hint="try again in a moment")


@dataclass(slots=True)
class _Caller:
    turns: asyncio.Semaphore
    requests: int = 0


class Turns:
    """Turns at one thing."""

    def __init__(
        self,
        at_once: int,
        *,
        per_caller: int | None = None,
        wait_seconds: float = WAIT_SECONDS,
        refusal: Callable[[], EpistaError] = _busy,
    ) -> None:
        self.at_once = at_once
        """How many there are."""
        self._all = asyncio.Semaphore(at_once)
        # A quarter each: with one caller alone that is plenty, and it takes four to keep others out.
        self._per_caller = max(1, at_once // 4) if per_caller is None else per_caller
        self._callers: dict[str, _Caller] = {}
        self._wait_seconds = wait_seconds
        self._refusal = refusal

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """
        Wait for a turn of *who*, and keep it while the context lasts.

        Raises:
            UnavailableError: none came in time; or what was given as the refusal.
        """
        caller = self._callers.setdefault(who, _Caller(asyncio.Semaphore(self._per_caller)))
        caller.requests += 1
        try:
            await self._take(caller)
            try:
                yield
            finally:
                self._all.release()
                caller.turns.release()
        finally:
            caller.requests -= 1
            if not caller.requests:
                del self._callers[who]

    async def _take(self, caller: _Caller) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await caller.turns.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    caller.turns.release()
                    raise
        except TimeoutError as error:
            raise self._refusal() from error


class Pool:
    """
    Threads for one kind of work, of which each caller has a part.

    A turn is held while the body is read, too, so that requests in the queue hold no bodies.
    """

    def __init__(self, threads: int, *, at_once: int, per_caller: int) -> None:
        self._threads = CapacityLimiter(threads)
        self._turns = Turns(at_once, per_caller=per_caller)

    def turn(self, who: str) -> AbstractAsyncContextManager[None]:
        """Wait for a turn of *who*; see `Turns.turn`."""
        return self._turns.turn(who)

    async def run(self, work: Callable[..., _Made], *given: Any) -> _Made:
        """Do *work* in one of the threads, for whoever has a turn."""
        return await to_thread.run_sync(work, *given, limiter=self._threads)
