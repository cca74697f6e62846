"""
DuckDB, for one query at a time and process.

The server's side: it starts a limited child (`duckdb_child.py`) for each query, forwards the bytes that come, and kills it when a
limit is passed. A child that stands by makes the next query need no start. This module never reads what a query gives.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from epista.contract.errors import (
    EpistaError,
    QueryCancelledError,
    QueryError,
    QueryMemoryError,
    QueryTimeoutError,
    ResultTooLargeError,
    UnavailableError,
)
from epista.server.engines import duckdb_child
from epista.server.engines.duckdb_child import BYTES, END, FAILED, HEADER_BYTES, READY, ROWS, Failure, Job, Table
from epista.server.engines.plans import EngineHealth, Limits, Plan
from epista.server.engines.sandbox import bare_environment

PACKAGES = ("duckdb", "duckdb_extension_httpfs", "sqlglot")
"""What the extra ``sql`` installs."""

_PIECE_BYTES = 1024 * 1024
_WATCH_SECONDS = 0.1
_END_SECONDS = 5.0
_START_SECONDS = 60.0

# A pool of threads for each core would not fit into the memory limit.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DuckDB:
    """Runs plans in children whose working folders lie below *scratch*."""

    dialect = "duckdb"

    def __init__(self, scratch: Path, *, reach: Literal["files", "links"] = "files", keep_warm: bool = True) -> None:
        self.reach: Literal["files", "links", "cluster"] = reach
        self._scratch = scratch
        self._keep_warm = keep_warm
        self._lock = threading.Lock()
        self._idle: _Child | None = None
        self._starting: threading.Thread | None = None
        self._running: dict[str, Result] = {}
        self._is_open = True

    def run(self, plan: Plan, *, query_id: str) -> Result:
        """Begin a query, and return its result as it comes."""
        child = self._take()
        try:
            result = Result(child, plan, lambda: self._forget(query_id))
        except BaseException:
            child.close()
            raise
        with self._lock:
            if self._is_open:
                self._running[query_id] = result
                if self._keep_warm and self._idle is None and not (self._starting and self._starting.is_alive()):
                    # Beside the query, which has what it needs.
                    self._starting = threading.Thread(target=self._stand_by, name="duckdb-start", daemon=True)
                    self._starting.start()
                return result
        result.close()
        raise UnavailableError("the server is stopping")

    def cancel(self, query_id: str) -> None:
        """End a query of this process; an unknown one is fine."""
        with self._lock:
            result = self._running.get(query_id)
        if result is not None:
            result.cancel()

    def health(self) -> EngineHealth:
        """Say whether queries can run."""
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        return EngineHealth(is_ready=not missing, said=f"DuckDB; missing: {', '.join(missing)}" if missing else "DuckDB")

    def close(self) -> None:
        """End whatever runs, and every child."""
        with self._lock:
            self._is_open = False
            running, idle, self._idle = list(self._running.values()), self._idle, None
            starting = self._starting
        for result in running:
            result.cancel()
        if idle is not None:
            idle.close()
        if starting is not None:
            starting.join()  # it closes what it has started

    def _take(self) -> _Child:
        with self._lock:
            child, self._idle = self._idle, None
        if child is not None:
            if child.is_alive():
                return child
            child.close()
        return _Child(self._scratch)

    def _stand_by(self) -> None:
        try:
            child = _Child(self._scratch)
        except EpistaError:
            return  # the next query says what is wrong
        with self._lock:
            if self._is_open and self._idle is None:
                self._idle = child
                return
        child.close()

    def _forget(self, query_id: str) -> None:
        with self._lock:
            self._running.pop(query_id, None)


class Result:
    """A result on its way: an iterator of bytes. See `plans.ResultStream`."""

    def __init__(self, child: _Child, plan: Plan, ended: Any) -> None:
        self.rows = 0
        self._child = child
        self._limits = plan.limits
        self._told = _Told(plan, child.folder)
        self._ended = ended
        self._bytes = 0
        self._left = 0
        self._is_done = False
        self._is_cancelled = False
        child.begin(msgspec.msgpack.encode(_job(plan)), plan.limits)

    def __iter__(self) -> Result:
        return self

    def __next__(self) -> bytes:
        if self._is_done:
            raise StopIteration
        error: EpistaError | None = None
        with self._child.at_work():
            try:
                piece = self._next()
            except EOFError:
                error = self._why()
            except EpistaError as problem:
                error = problem
            else:
                if piece:
                    return piece
        self.close()
        if error is not None:
            raise error
        raise StopIteration

    def cancel(self) -> None:
        """End the query, from whatever thread; its reader gets `QueryCancelledError`."""
        self._is_cancelled = True
        self._child.kill()

    def close(self) -> None:
        """End the query, if it is not done, and let go of everything."""
        self._is_done = True
        self._ended()
        self._child.close()

    def _next(self) -> bytes:
        """Return the next bytes; none at the end."""
        while not self._left:
            head = self._child.read(HEADER_BYTES)
            kind, size = head[:1], int.from_bytes(head[1:], "big")
            if kind == BYTES:
                self._left = size
            elif kind == ROWS:
                self._count(int.from_bytes(self._child.read(size), "big"))
            elif kind == END:
                return b""
            elif kind == FAILED:
                raise self._told.error(msgspec.json.decode(self._child.read(size), type=Failure))
            else:
                raise UnavailableError("the engine answered something strange", hint="ask again")
        piece = self._child.read(min(self._left, _PIECE_BYTES))
        self._left -= len(piece)
        self._bytes += len(piece)
        if self._limits.bytes is not None and self._bytes > self._limits.bytes:
            raise _too_large(f"{self._limits.bytes:,} bytes", "bytes", self._limits.bytes)
        return piece

    def _count(self, rows: int) -> None:
        if self._limits.rows is not None and rows > self._limits.rows:
            raise _too_large(f"{self._limits.rows:,} rows", "rows", self._limits.rows)
        self.rows = rows

    def _why(self) -> EpistaError:
        """Return why the child ended without a word."""
        if self._is_cancelled:
            return QueryCancelledError("the query was cancelled")
        code = self._child.wait()
        if self._child.is_late or code == -getattr(signal, "SIGXCPU", 0):
            return QueryTimeoutError(
                f"the query took longer than {self._limits.seconds:g} s",
                hint="ask for less, or have the limit raised: query_seconds",
            )
        return QueryMemoryError(
            f"the engine of the query ended without a word ({code}), as it does when memory runs out", hint=_LESS_MEMORY
        )


class _Child:
    """One process, its folder, and a thread that ends it when it works for too long."""

    def __init__(self, scratch: Path) -> None:
        self.is_late = False
        self._limit = 0.0
        self._spent = 0.0
        self._since: float | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        try:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="query-", dir=scratch))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", duckdb_child.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self.folder,
                env={**bare_environment(), **_ENVIRONMENT},
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"no engine could be started: {error.strerror}", hint="try again in a moment") from error

    def begin(self, job: bytes, limits: Limits) -> None:
        """Hand over the one job, once the process is ready: its start is not the query's time."""
        self._limit = _START_SECONDS
        threading.Thread(target=self._end_when_late, name="duckdb-watch", daemon=True).start()
        with self.at_work():
            try:
                self.read(len(READY))
            except EOFError:
                raise UnavailableError("the engine did not start", hint="try again in a moment") from None
        with self._lock:
            self._limit, self._spent = limits.seconds, 0.0
        stdin = self._process.stdin
        assert stdin
        # A child that is dead already shows when its answer is read.
        with contextlib.suppress(OSError):
            stdin.write(len(job).to_bytes(8, "big") + job)
            stdin.flush()

    @contextlib.contextmanager
    def at_work(self) -> Any:
        """Count the time until the block ends as the query's; while nobody reads, it may wait as long as it likes."""
        with self._lock:
            self._since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._spent += time.monotonic() - (self._since or 0.0)
                self._since = None

    def read(self, size: int) -> bytes:
        """Return exactly *size* bytes of the answer."""
        stdout: IO[bytes] | None = self._process.stdout
        assert stdout
        try:
            data = stdout.read(size)
        except (OSError, ValueError) as error:
            raise EOFError from error
        if len(data) < size:
            raise EOFError
        return data

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_END_SECONDS)
        return None

    def kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing of it behind; twice is fine."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self.kill()
        self.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_when_late(self) -> None:
        while not self._closed.wait(_WATCH_SECONDS):
            with self._lock:
                spent = self._spent + (time.monotonic() - self._since if self._since is not None else 0.0)
            if spent > self._limit:
                self.is_late = True
                self.kill()
                return


_LESS_MEMORY = "ask for fewer rows or columns at a time, or have the limit raised: query_memory_bytes"

_MEMORY = ("OutOfMemoryException", "MemoryError", "ArrowMemoryError", "bad_alloc")

_NO_FAULT_OF_THE_QUERY = ("IOException", "HTTPException", "FatalException", "InternalException", "ConnectionException")

_INTERNAL = re.compile(r'"?\b((?:t_[0-9a-f]{16})|(?:c_[0-9]+))\b"?')


class _Told:
    """Turns what DuckDB says into what a user may hear: names as typed, and no word of paths, links or settings."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        from sqlglot import exp

        self._limits = plan.limits
        self._names = {table.name: table.alias_or_name for table in plan.ast.find_all(exp.Table)}
        self._hidden = [*(file for table in plan.tables for file in table.files), str(folder)]

    def clean(self, text: str) -> str:
        """Return *text* in the words of the query."""
        for hidden in self._hidden:
            text = text.replace(hidden, "(a file)")
        return _INTERNAL.sub(lambda found: self._names.get(found[1], "(a table)"), text)

    def error(self, failure: Failure) -> EpistaError:
        """Return the error that a user meets."""
        # What follows shows the SQL as it was printed, which nobody typed.
        text = self.clean(failure.text.partition("\n\nLINE ")[0].strip())
        if failure.kind in _MEMORY or "Out of Memory" in text:
            if "max_temp_directory_size" in text or "temp_directory" in text:
                return QueryMemoryError(
                    f"the query needed more than {self._limits.spill_bytes:,} bytes of the disk to work on", hint=_LESS_MEMORY
                )
            return QueryMemoryError(f"the query needed more memory than {self._limits.memory_bytes:,} bytes", hint=_LESS_MEMORY)
        if failure.kind in _NO_FAULT_OF_THE_QUERY:
            return UnavailableError("the engine could not read a file of a table, or failed itself", hint="ask again")
        if failure.kind == "PermissionException":
            return QueryError("the query asks for something outside of its tables")
        first, _, rest = text.partition(": ")
        said = rest if first.endswith("Error") and rest else text
        fact, _, more = said.partition("\n")
        return QueryError(fact, hint=" ".join(more.split()) or None)


def _job(plan: Plan) -> Job:
    # Not with the module: it would cost every start of a server a seventh of a second.
    from sqlglot import exp

    tree = plan.ast.copy()
    for placeholder in list(tree.find_all(exp.Placeholder)):
        name = exp.Literal.string(f"p_{placeholder.name}")
        placeholder.replace(exp.Anonymous(this="getvariable", expressions=[name]))
    given = plan.params.items() if isinstance(plan.params, Mapping) else enumerate(plan.params, 1)
    return Job(
        sql=tree.sql(dialect="duckdb"),
        tables=tuple(
            Table(name=table.internal, files=table.files, columns=tuple(column.name for column in table.schema))
            for table in plan.tables
        ),
        variables={f"p_{name}": _packed(value) for name, value in given},
        is_explain=plan.is_explain,
        memory_bytes=plan.limits.memory_bytes,
        spill_bytes=plan.limits.spill_bytes,
        # A net below the clock, for a child that nobody is left to end.
        cpu_seconds=int(plan.limits.seconds * (plan.limits.threads + 1)) + 10,
        threads=plan.limits.threads,
    )


def _packed(value: Any) -> Any:
    """Return a value as msgpack has it; what it has not is tagged."""
    if isinstance(value, list):
        return [_packed(one) for one in value]
    for kind, tag in ((datetime, "timestamp"), (date, "date"), (time_of_day, "time")):
        if isinstance(value, kind):
            return {tag: value.isoformat()}
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _too_large(said: str, limit: str, value: int) -> ResultTooLargeError:
    return ResultTooLargeError(
        f"the result has more than {said}",
        hint="take less of it with LIMIT, or write it to a file: epista query SQL --out FILE",
        details={"limit": limit, f"limit_{limit}": value},
    )
