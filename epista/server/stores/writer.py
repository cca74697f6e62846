"""
The one thread of a process that writes, on whatever database.

Writes that arrive together share one transaction, each but the first in a savepoint of its own, so that a failing one takes none
of the others along.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection

from epista.contract.errors import UnavailableError

R = TypeVar("R")

GROUP_SECONDS = 0.2
"""How long one transaction may go on taking in further writes."""

Job: TypeAlias = "tuple[Callable[[Connection], Any], Future[Any]]"


class Writer:
    """
    Commits writes in groups.

    *begin* opens a transaction that no other process's overlaps, and commits it; *is_begun* says whether it still stands after
    a statement failed, because a database may give up the whole of it unasked.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection]], is_begun: Callable[[Connection], bool]) -> None:
        self._begin = begin
        self._is_begun = is_begun
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Start to take writes."""
        self._thread = threading.Thread(target=self._run, name="epista-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the writes that wait."""
        with self._closing:
            self._closed = True
            self.jobs.put(None)
        if self._thread:
            self._thread.join()

    def write(self, work: Callable[[Connection], R]) -> R:
        """Return the result of *work* once it is durable."""
        future: Future[R] = Future()
        with self._closing:
            if self._closed:
                raise UnavailableError("the server is stopping", hint="try again in a moment")
            self.jobs.put((work, future))
        return future.result()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            more = self._write_group(job)
            if not more:
                return

    def _write_group(self, first: Job) -> bool:
        done: list[tuple[Future[Any], Any]] = []
        waiting = [first[1]]
        more = True
        try:
            with self._begin() as tx:
                until = time.monotonic() + GROUP_SECONDS
                job: Job | None = first
                while job is not None:
                    work, future = job
                    try:
                        # If the first one fails there is nothing yet to be kept, and no other is in the group.
                        done.append((future, work(tx) if job is first else self._in_savepoint(tx, work)))
                    except Exception as error:
                        if job is first or not self._is_begun(tx):
                            raise  # or the database gave up the transaction, and with it what the others of this group wrote
                        future.set_exception(error)
                    job = None
                    if time.monotonic() < until:
                        try:
                            job = self.jobs.get_nowait()
                        except queue.Empty:
                            break
                        if job is None:
                            more = False
                        else:
                            waiting.append(job[1])
        except Exception as error:  # noqa: BLE001 - nothing of this group was committed, and each caller must hear it
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
            return more
        for future, result in done:
            future.set_result(result)
        return more

    def _in_savepoint(self, tx: Connection, work: Callable[[Connection], R]) -> R:
        point = tx.begin_nested()
        try:
            result = work(tx)
            point.commit()
        except BaseException:
            if self._is_begun(tx):
                point.rollback()
            raise
        return result
