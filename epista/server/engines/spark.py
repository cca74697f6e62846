"""
The Spark engine: a child process for each query, which speaks Spark Connect with a cluster that the lab runs.

Results of more than a few rows never cross Connect. The cluster writes them as parquet into a scratch place, from where a child
streams them; the server itself forwards bytes, and reads nothing that the cluster made.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, Protocol
from urllib.parse import quote, unquote, urlsplit

import msgspec

from epista.contract.errors import (
    MissingExtraError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    SettingsError,
    UnavailableError,
)
from epista.server.engines.plans import BoundTable, EngineHealth, Plan
from epista.server.engines.sandbox import bare_environment
from epista.server.engines.spark_child import (
    DATA,
    FAILED,
    HEADER,
    OVER,
    READY,
    SIZE,
    WRITTEN,
    Cancel,
    Failure,
    Files,
    Job,
    Table,
)
from epista.server.engines.spark_errors import said, too_large
from epista.server.engines.spark_sql import DUCKDB_ONLY, Translation, translate
from epista.server.engines.spark_types import spark_type

SMALL_ROWS = 10_000
"""Results whose outermost LIMIT is at most this come through Connect; all others through scratch."""

CHILD_MEMORY_BYTES = 4 * 1024**3
"""Address space of a child; most of it is never touched."""

MAX_FRAME_BYTES = 2 * 1024**3

START_SECONDS = 60.0
"""How long a child may take to load what it needs."""

GRACE_SECONDS = 5.0
"""How long a child may take to end a query on the cluster, before it is killed."""

RESTART_SECONDS = 30.0
"""How long to wait for a cluster that went away, before its query is tried once more."""

STALE_SECONDS = 24 * 3600
"""After how long what lies in scratch belongs to nobody any more."""

_SIZE_CHECK_SECONDS = 2.0
_STDERR_BYTES = 4096

_log = logging.getLogger(__name__)


class Scratch(Protocol):
    """A place that the cluster writes to, and the server reads and clears; a folder in it for each query."""

    def address(self, folder: str) -> str:
        """Return where the cluster finds a folder; it makes it itself."""

    def files(self, folder: str) -> tuple[str, ...]:
        """Return what the cluster wrote there, in order, as a child reaches it."""

    def size(self, folder: str) -> int:
        """Return how many bytes are there, unfinished ones too."""

    def stage(self, folder: str, path: Path) -> str:
        """Bring a file of this machine there, and return where the cluster finds it."""

    def remove(self, folder: str) -> None:
        """Remove a folder, if it is there."""

    def sweep(self, older_than: float) -> None:
        """Remove what nobody has touched since that time."""


class FolderScratch:
    """A scratch place in a folder that the server and the cluster share."""

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        self._folder = folder
        self._url = (url or f"file://{quote(str(folder.absolute()))}").rstrip("/")

    def address(self, folder: str) -> str:
        return f"{self._url}/{folder}"

    def files(self, folder: str) -> tuple[str, ...]:
        return tuple(sorted(str(path) for path in (self._folder / folder).glob("part-*.parquet")))

    def size(self, folder: str) -> int:
        total = 0
        for base, _, names in os.walk(self._folder / folder):
            for name in names:
                try:
                    total += os.stat(os.path.join(base, name)).st_size  # noqa: PTH116, PTH118 - thousands of times a minute
                except FileNotFoundError:
                    pass  # renamed meanwhile, by the cluster
        return total

    def stage(self, folder: str, path: Path) -> str:
        name = f"{secrets.token_hex(8)}.parquet"
        staged = self._folder / f"{folder}-in"
        staged.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(path, staged / name)
        return f"{self.address(f'{folder}-in')}/{name}"

    def remove(self, folder: str) -> None:
        for name in (folder, f"{folder}-in"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def sweep(self, older_than: float) -> None:
        for path in self._folder.glob("q-*"):
            try:
                is_stale = path.stat().st_mtime < older_than
            except FileNotFoundError:
                continue
            if is_stale:
                shutil.rmtree(path, ignore_errors=True)


class Spark:
    """
    Runs plans on the cluster behind *url*, which is ``sc://HOST:PORT`` as Spark writes it.

    *files* says how the cluster reaches what plans name: what a file's path or address begins with, and what stands there for the
    cluster. What none fits is copied into scratch first. *token* is the cluster's own.
    """

    dialect = "spark"
    reach: Literal["files", "links", "cluster"] = "cluster"

    def __init__(
        self,
        url: str,
        *,
        scratch: Scratch,
        files: Mapping[str, str] | None = None,
        token: str | None = None,
        is_warm: bool = True,
    ) -> None:
        self._url = url
        self._token = token
        self._scratch = scratch
        self._files = dict(files or {})
        self._is_warm = is_warm
        self._lock = threading.Lock()
        self._idle: _Child | None = None
        self._running: dict[str, _Query] = {}
        self._is_open = True
        self._swept_at = 0.0
        host = urlsplit("http" + url[2:]) if url.startswith("sc://") else None
        if host is None or not host.hostname:
            raise SettingsError("spark_url is no address of a Spark Connect server", hint="sc://HOST:15002")
        self._address = (host.hostname, host.port or 15002)

    def __repr__(self) -> str:
        return f"Spark({self._address[0]}:{self._address[1]})"

    def run(self, plan: Plan, *, query_id: str) -> _Query:
        """Begin a query; the result comes when Spark is done with it, and its first bytes are there."""
        return self._begin(plan, query_id, folder=None, is_read_back=True)

    def run_to(self, plan: Plan, uri: str, *, query_id: str) -> list[str]:
        """Write the result below *uri*, the name of a new folder in scratch; whoever asked reads and removes it."""
        query = self._begin(plan, query_id, folder=uri, is_read_back=False)
        for _ in query:
            pass
        return list(self._scratch.files(uri))

    def cancel(self, query_id: str) -> None:
        with self._lock:
            query = self._running.get(query_id)
        if query:
            query.close()

    def health(self) -> EngineHealth:
        try:
            _check_installed()
        except MissingExtraError as problem:
            return EngineHealth(is_ready=False, said=str(problem))
        where = "Spark Connect at {}:{}".format(*self._address)
        if self.answers():
            return EngineHealth(is_ready=True, said=f"{where} answers")
        return EngineHealth(is_ready=False, said=f"{where} does not answer")

    def close(self) -> None:
        with self._lock:
            self._is_open = False
            idle, self._idle = self._idle, None
            running = list(self._running.values())
        for query in running:
            query.close()
        for query in running:
            query.join()
        if idle:
            idle.kill()

    def answers(self) -> bool:
        """Whether somebody listens at the cluster's address."""
        try:
            with socket.create_connection(self._address, timeout=2):
                return True
        except OSError:
            return False

    def _begin(self, plan: Plan, query_id: str, *, folder: str | None, is_read_back: bool) -> _Query:
        _check_installed()
        if plan.is_explain:
            raise QueryError("the Spark engine shows no plans", hint=DUCKDB_ONLY)
        translation = translate(plan)
        is_small = translation.limit is not None and translation.limit <= SMALL_ROWS
        own = f"q-{secrets.token_hex(12)}"
        query = _Query(
            engine=self,
            plan=plan,
            translation=translation,
            query_id=query_id,
            folder=None if is_small and is_read_back else folder or own,
            staged=own,
            is_read_back=is_read_back,
        )
        with self._lock:
            if not self._is_open:
                raise UnavailableError("the server is stopping", hint="try again in a minute")
            self._running[query_id] = query
        self._sweep()
        query.begin()
        return query

    def _sweep(self) -> None:
        now = time.time()
        if now - self._swept_at > STALE_SECONDS / 24:
            self._swept_at = now
            self._scratch.sweep(now - STALE_SECONDS)

    def _take(self) -> _Child:
        """Return a child that has loaded what it needs, or is about to, and start its successor."""
        with self._lock:
            child, self._idle = self._idle, None
        taken = child if child and child.is_alive() else _Child()
        if self._is_warm:
            successor = _Child()
            with self._lock:
                if self._is_open and not self._idle:
                    self._idle, successor = successor, None  # type: ignore[assignment]
            if successor:
                successor.kill()
        return taken

    def _reached(self, table: BoundTable, staged: str) -> Table:
        columns = []
        for column in table.schema:
            kind = spark_type(column.type)
            columns.append((column.name, kind.ddl, kind.read))
        files = tuple(self._address_of(file, staged) for file in table.files)
        return Table(internal=table.internal, files=files, columns=tuple(columns))

    def _address_of(self, file: str, staged: str) -> str:
        for prefix, stands_for in self._files.items():
            if file.startswith(prefix):
                # Of an address with a signature only the name counts: the cluster reads with a credential of its own.
                rest = file[len(prefix) :].partition("?")[0]
                return stands_for + (rest if file.startswith("/") else unquote(rest))
        if not file.startswith("/"):
            raise UnavailableError(
                "the Spark cluster cannot reach the lab's files", hint="whoever runs the server: see spark_files"
            )
        return self._scratch.stage(staged, Path(file))

    def _forget(self, query_id: str, query: _Query) -> None:
        with self._lock:
            if self._running.get(query_id) is query:
                del self._running[query_id]


class _Lost(Exception):
    """The cluster, or the child, is not there any more."""


class _Query:
    """One query under way, and the stream of its result."""

    def __init__(
        self,
        *,
        engine: Spark,
        plan: Plan,
        translation: Translation,
        query_id: str,
        folder: str | None,
        staged: str,
        is_read_back: bool,
    ) -> None:
        self.rows = 0
        self._engine = engine
        self._plan = plan
        self._translation = translation
        self._query_id = query_id
        self._folder = folder
        self._staged = staged
        self._is_read_back = is_read_back
        self._left = plan.limits.seconds
        self._child: _Child | None = None
        self._first: bytes | None = None
        self._is_done = False
        self._lock = threading.Lock()
        self._ending: threading.Thread | None = None

    def begin(self) -> None:
        """Return when there are bytes, or, where nothing is read back, when all is written."""
        try:
            if not self._engine.answers():
                raise UnavailableError("the Spark cluster does not answer", hint="try again in a minute")
            try:
                self._first = self._next()
            except _Lost:
                _log.warning("the Spark cluster went away during query %s, which is tried once more", self._query_id)
                self._first = self._again()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._is_done:
            raise StopIteration
        try:
            found = self._next()
        except _Lost as problem:
            self.close()
            raise said(Failure(reason="lost"), self._plan.limits) from problem
        except BaseException:
            self.close()
            raise
        if found is None:
            raise StopIteration
        return found

    def close(self) -> None:
        with self._lock:
            if self._ending:
                return
            self._ending = threading.Thread(target=self._end, name="spark-end", daemon=True)
            self._ending.start()

    def join(self) -> None:
        """Wait until a closed one has ended."""
        if self._ending:
            self._ending.join(2 * GRACE_SECONDS)

    def _again(self) -> bytes | None:
        """Try once more, now or when the cluster is back."""
        with self._lock:
            child, self._child = self._child, None
        if child:
            child.kill()
        if self._folder:
            self._engine._scratch.remove(self._folder)
        until = time.monotonic() + min(RESTART_SECONDS, self._left)
        while not self._engine.answers():
            if time.monotonic() > until or self._ending:
                raise said(Failure(reason="lost"), self._plan.limits)
            time.sleep(0.5)
        try:
            return self._next()
        except _Lost as problem:
            raise said(Failure(reason="lost"), self._plan.limits) from problem

    def _start(self) -> _Child:
        limits, engine = self._plan.limits, self._engine
        job = Job(
            url=engine._url,
            token=engine._token,
            query_id=self._query_id,
            sql=self._translation.sql,
            params=dict(self._translation.params),
            tables=tuple(engine._reached(table, self._staged) for table in self._plan.tables),
            scratch=engine._scratch.address(self._folder) if self._folder else None,
            is_read_back=self._is_read_back,
            rows=limits.rows,
            bytes=limits.bytes,
            memory_bytes=CHILD_MEMORY_BYTES,
        )
        child = engine._take()
        with self._lock:
            if self._ending:
                child.kill()
                raise QueryCancelledError("the query was ended before it was done")
            self._child = child
        kind, _, _ = child.frame(START_SECONDS)
        if kind != READY:
            raise _Lost
        child.send(job)
        return child

    def _next(self) -> bytes | None:
        """Return the next bytes, None when there are no more."""
        child = self._child or self._start()
        while True:
            began = time.monotonic()
            try:
                kind, rows, body = child.frame(self._left, self._check_size)
            except TimeoutError as problem:
                raise QueryTimeoutError(
                    f"the query took longer than {self._plan.limits.seconds:g} s", hint="ask for less, or filter earlier"
                ) from problem
            except _Lost:
                if self._ending:
                    raise QueryCancelledError("the query was ended before it was done") from None
                _log.warning("a child of the Spark engine ended: %s", child.last_words())
                raise
            finally:
                self._left -= time.monotonic() - began
            if kind == DATA:
                self.rows += rows
                return body
            if kind == OVER:
                self._is_done = True
                self.close()
                return None
            if kind == WRITTEN:
                assert self._folder
                child.send(Files(files=self._engine._scratch.files(self._folder) if self._is_read_back else ()))
            elif kind == FAILED:
                raise self._failed(msgspec.msgpack.decode(body, type=Failure))

    def _failed(self, failure: Failure) -> Exception:
        if failure.reason == "lost":
            return _Lost()
        _log.info("Spark refused query %s: %s", self._query_id, failure.reason)
        return said(failure, self._plan.limits)

    def _check_size(self) -> None:
        """Refuse a result that fills the scratch place; what Arrow needs for it is at least about as much."""
        most = self._plan.limits.bytes
        if self._folder and most is not None and self._engine._scratch.size(self._folder) > 2 * most:
            raise too_large("bytes", self._plan.limits)

    def _end(self) -> None:
        """End it on the cluster, and remove what is left of it."""
        child = self._child
        if child:
            if not self._is_done:
                child.send(Cancel())
            child.end(GRACE_SECONDS)
        self._engine._forget(self._query_id, self)
        if self._folder and self._is_read_back:
            self._engine._scratch.remove(self._folder)
        self._engine._scratch.remove(self._staged)


class _Child:
    """A process that runs one query, seen from here."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "epista.server.engines.spark_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=os.sep,
            env={**bare_environment(), "TZ": "UTC"},
            start_new_session=True,
        )
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._is_over = False
        self._stderr = b""
        threading.Thread(target=self._keep_stderr, name="spark-stderr", daemon=True).start()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: msgspec.Struct) -> None:
        """Tell the child something; one that is gone hears nothing."""
        body = msgspec.msgpack.encode(message)
        with self._writing:
            if self._is_over:
                return
            assert self._process.stdin
            try:
                _write_all(self._process.stdin, SIZE.pack(len(body)) + body)
            except OSError:
                pass  # whoever reads its frames finds out

    def frame(self, seconds: float, each: Callable[[], None] | None = None) -> tuple[bytes, int, bytes]:
        """
        Return the next frame: its kind, rows and body. *each* is called now and then meanwhile.

        Raises:
            TimeoutError: none in that time.
            _Lost: the child has ended.
        """
        until = time.monotonic() + seconds
        with self._reading:
            kind, rows, size = HEADER.unpack(self._read(HEADER.size, until, each))
            if size > MAX_FRAME_BYTES:
                raise _Lost
            return kind, rows, self._read(size, until, each)

    def end(self, seconds: float) -> None:
        """Let it end by itself for that long, then kill it; its pipes are closed after that."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        with self._writing:
            if self._is_over:
                return
            self._is_over = True
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except OSError:
                pass  # ended just now
        self._process.wait()
        # A reader sees the end of the pipe first: its number must not become another file's under it.
        with self._reading:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe
                pipe.close()

    def last_words(self) -> str:
        return self._stderr.decode("utf-8", "replace").strip()

    def _read(self, size: int, until: float, each: Callable[[], None] | None) -> bytes:
        pipe = self._process.stdout
        assert pipe
        if pipe.closed:
            raise _Lost
        body = bytearray(size)
        view = memoryview(body)
        got = 0
        while got < size:
            left = until - time.monotonic()
            if not select.select([pipe], [], [], max(0.0, min(left, _SIZE_CHECK_SECONDS)))[0]:
                if left <= 0:
                    raise TimeoutError
                if each:
                    each()
                continue
            count = pipe.readinto(view[got:])  # type: ignore[attr-defined]
            if not count:
                raise _Lost
            got += count
        return bytes(body)

    def _keep_stderr(self) -> None:
        assert self._process.stderr
        with self._process.stderr as stderr:
            while chunk := os.read(stderr.fileno(), _STDERR_BYTES):
                self._stderr = (self._stderr + chunk)[-_STDERR_BYTES:]


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[pipe.write(left) or 0 :]


def _check_installed() -> None:
    if importlib.util.find_spec("pyspark") is None:
        raise MissingExtraError("the Spark engine is not installed on the server", hint='pip install "epista[spark]"')
