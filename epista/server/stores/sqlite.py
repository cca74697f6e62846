"""
The catalog in one SQLite database in WAL mode.

Several processes may open one catalog: SQLite's own busy handler is unfair between them (one process can starve), so each
writer first takes a file lock.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from epista.contract.errors import EpistaError, SettingsError, StorageFullError, UnavailableError
from epista.server.stores.catalog import MAKE_ROOM, is_current
from epista.server.stores.local import NO_ROOM
from epista.server.stores.writer import Writer

if sys.platform != "win32":
    import fcntl

R = TypeVar("R")

BUSY_SECONDS = 30
"""How long a statement waits for another process's transaction."""


class SqliteCatalog:
    """Reads on pooled connections, writes through one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._readers = _engine(path, begin="BEGIN", read_only=True)
        self._writers = _engine(path, begin="BEGIN IMMEDIATE", read_only=False)
        self._lock = _FileLock(path.with_name(".writer"))
        self._writer = Writer(self._begun, _is_begun)

    def open(self) -> None:
        """Bring the schema up to date and start to take writes."""
        with self._lock:
            self._migrate()
        self._writer.open()

    def close(self) -> None:
        """Finish the writes that wait, and let go of the file."""
        self._writer.close()
        self._readers.dispose()
        self._writers.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view of the catalog, for reading only; keep it short."""
        with _own_errors(), self._readers.begin() as tx:
            yield tx

    def write(self, work: Callable[[Connection], R]) -> R:
        """Run *work* in a transaction and return its result once that is durable. *work* never commits."""
        with _own_errors():
            return self._writer.write(work)

    def copy_to(self, path: Path) -> None:
        """Copy the catalog, as of one moment, into a new file at *path*."""
        with _own_errors(), closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        with self._lock, self._writers.begin() as tx:
            yield tx

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
        with self._writers.begin() as tx:
            known = tx.execute(text("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")).first()
            found = tx.execute(text("SELECT version_num FROM alembic_version")).scalar() if known else None
            if is_current(tx, found):
                return
        from epista.server.stores import migrations

        # A table that others refer to can only be made anew while nobody looks at that (sqlite.org/lang_altertable.html).
        engine = _engine(self._path, begin="BEGIN IMMEDIATE", read_only=False, foreign_keys=False)
        try:
            with engine.begin() as tx:
                migrations.upgrade(tx)
                if broken := tx.execute(text("PRAGMA foreign_key_check")).first():
                    raise SettingsError(f"the catalog {str(self._path)!r} is damaged: a row of {broken[0]} points at nothing")
        finally:
            engine.dispose()


def _engine(path: Path, *, begin: str, read_only: bool, foreign_keys: bool = True) -> Engine:
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
        # Mapped as far as SQLite may: among a million assets, reading pages one by one takes half of a search's time.
        references = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
        for pragma in ("synchronous=FULL", references, "cache_size=-16000", "mmap_size=2147418112", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Past SQLAlchemy, where it would cost as much as a whole statement.
        driver: Any = connection.connection.dbapi_connection
        driver.execute(begin)

    return engine


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
            raise StorageFullError(f"the catalog cannot be written: {error.strerror}", hint=MAKE_ROOM) from error
        raise UnavailableError(f"the catalog cannot be used: {error.strerror}", hint="try again in a moment") from error
    except (DBAPIError, sqlite3.Error) as error:
        fault = str(error.orig if isinstance(error, DBAPIError) else error)
        if "full" in fault or "disk I/O" in fault:
            raise StorageFullError(f"the catalog cannot be written: {fault}", hint=MAKE_ROOM) from error
        if "locked" in fault or "busy" in fault:
            raise UnavailableError("the catalog is busy", hint="try again in a moment") from error
        if "unable to open" in fault:
            raise UnavailableError("the catalog cannot be opened", hint="try again in a moment") from error
        raise
