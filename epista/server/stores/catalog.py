"""
The catalog: one SQLite database in WAL mode, written by one thread in groups.

A write is durable when `Catalog.write` returns. Writes that arrive together share one transaction, each in a savepoint of its
own, so that a failing one takes none of the others along. Several processes may open one catalog: SQLite's own busy
handler is unfair between them (one process can starve), so each writer first takes a file lock.
"""

from __future__ import annotations

import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from epista.contract.errors import EpistaError, SettingsError, StorageFullError, UnavailableError
from epista.server.stores.local import NO_ROOM

if sys.platform != "win32":
    import fcntl

R = TypeVar("R")

SCHEMA = "0003"
"""The newest migration. Alembic is imported only when a database says something else."""

BUSY_SECONDS = 30
"""How long a statement waits for another process's transaction."""

GROUP_SECONDS = 0.2
"""How long one transaction may go on taking in further writes."""

_MAKE_ROOM = "make room on the server's disk"


class Catalog:
    """Reads on pooled connections, writes through one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = _engine(path, begin="BEGIN", read_only=True)
        self._writer = _engine(path, begin="BEGIN IMMEDIATE", read_only=False)
        self._jobs: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = _FileLock(path.with_name(".writer"))
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        self._closed = False

    def open(self) -> None:
        """Bring the schema up to date and start to take writes."""
        with self._lock:
            self._migrate()
        self._thread = threading.Thread(target=self._write_groups, name="epista-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the writes that wait, and let go of the file."""
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        if self._thread:
            self._thread.join()
        self._readers.dispose()
        self._writer.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view of the catalog, for reading only; keep it short."""
        with _own_errors(), self._readers.begin() as tx:
            yield tx

    def write(self, work: Callable[[Connection], R]) -> R:
        """Run *work* in a transaction and return its result once that is durable. *work* never commits."""
        future: Future[R] = Future()
        with self._closing:
            if self._closed:
                raise UnavailableError("the server is stopping", hint="try again in a moment")
            self._jobs.put((work, future))
        with _own_errors():
            return future.result()

    def copy_to(self, path: Path) -> None:
        """Copy the catalog, as of one moment, into a new file at *path*."""
        with _own_errors(), closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)

    def _write_groups(self) -> None:
        while (job := self._jobs.get()) is not None:
            more = self._write_group(job)
            if not more:
                return

    def _write_group(self, first: tuple[Callable[[Connection], Any], Future[Any]]) -> bool:
        done: list[tuple[Future[Any], Any]] = []
        waiting = [first[1]]
        more = True
        try:
            with self._lock, self._writer.begin() as tx:
                # Begun by hand: until the first statement, SQLAlchemy has not told SQLite to begin.
                until = time.monotonic() + GROUP_SECONDS
                job: tuple[Callable[[Connection], Any], Future[Any]] | None = first
                while job is not None:
                    work, future = job
                    try:
                        done.append((future, _in_savepoint(tx, work)))
                    except Exception as error:
                        if not _is_begun(tx):
                            raise  # SQLite gave up the transaction, and with it what the others of this group wrote
                        future.set_exception(error)
                    job = None
                    if time.monotonic() < until:
                        try:
                            job = self._jobs.get_nowait()
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

    def _migrate(self) -> None:
        # WAL is a property of the file, and cannot be changed within a transaction.
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as plain:
            try:
                tables = {row[0] for row in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if tables and "alembic_version" not in tables:
                    raise SettingsError(f"the database {str(self._path)!r} is not a lab's", hint="give a new or an empty folder")
                plain.execute("PRAGMA journal_mode=WAL")
            except sqlite3.DatabaseError as error:
                raise SettingsError(
                    f"the catalog {str(self._path)!r} cannot be opened: {error}", hint="was it copied while it was in use?"
                ) from error
        with self._writer.begin() as tx:
            known = tx.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")).first()
            found = tx.execute(text("SELECT version_num FROM alembic_version")).scalar() if known else None
            if found == SCHEMA:
                return
            if found is not None and found > SCHEMA:
                raise SettingsError(
                    f"the lab was last opened by a newer Epista (schema {found}; this one knows {SCHEMA})",
                    hint="pip install --upgrade epista",
                )
            from epista.server.stores import migrations

            migrations.upgrade(tx)


def _engine(path: Path, *, begin: str, read_only: bool) -> Engine:
    # A connection is used by one thread at a time, so the pool may hand it on; it needs room for every pool thread.
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=48,
        max_overflow=48,
        # What is written are users' keys and metadata, and hashes of secrets: they do not belong into messages and logs.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        # Transactions are begun by the listener below, not guessed by the driver.
        connection.isolation_level = None
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-16000", "mmap_size=268435456", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _in_savepoint(tx: Connection, work: Callable[[Connection], R]) -> R:
    point = tx.begin_nested()
    try:
        result = work(tx)
        point.commit()
    except BaseException:
        if _is_begun(tx):
            point.rollback()
        raise
    return result


def _is_begun(tx: Connection) -> bool:
    """Whether the transaction still stands: when the disk is full, SQLite rolls back the whole of it unasked."""
    connection: Any = tx.connection.dbapi_connection
    return bool(connection.in_transaction)


class _FileLock:
    """One writer at a time among the processes that share a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def __enter__(self) -> None:
        if sys.platform == "win32":  # no flock there; SQLite's own busy timeout has to do
            return
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
            self._file = None


@contextmanager
def _own_errors() -> Iterator[None]:
    """Let only our own errors out of the catalog."""
    try:
        yield
    except EpistaError:
        raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError(f"the catalog cannot be written: {error.strerror}", hint=_MAKE_ROOM) from error
        raise UnavailableError(f"the catalog cannot be used: {error.strerror}", hint="try again in a moment") from error
    except (DBAPIError, sqlite3.Error) as error:
        fault = str(error.orig if isinstance(error, DBAPIError) else error)
        if "full" in fault or "disk I/O" in fault:
            raise StorageFullError(f"the catalog cannot be written: {fault}", hint=_MAKE_ROOM) from error
        if "locked" in fault or "busy" in fault:
            raise UnavailableError("the catalog is busy", hint="try again in a moment") from error
        if "unable to open" in fault:
            raise UnavailableError("the catalog cannot be opened", hint="try again in a moment") from error
        raise
