"""
The catalog in a PostgreSQL database, for labs that several server processes share.

Each read is a REPEATABLE READ, READ ONLY transaction. Each writing transaction first takes one advisory lock of the lab, and then
sees everything that was committed before: what SQLite's single writer gives, for any number of processes. A connection that
broke is noticed before it is used; a commit whose answer never came is reported as what it is, in doubt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from epista.contract.errors import EpistaError, SettingsError, StorageFullError, UnavailableError
from epista.server.stores import copying
from epista.server.stores.catalog import MAKE_ROOM, is_current
from epista.server.stores.columns import without_nul
from epista.server.stores.writer import Writer

R = TypeVar("R")

SCHEME = "postgresql://"
"""What the address of a database begins with."""

WAIT_SECONDS = 30
"""How long a write waits for other processes' transactions, and a read for a free connection."""

CONNECT_SECONDS = 10
"""How long a connection may take to be made."""

RETURN_SECONDS = 15
"""How long to wait for a database that is gone, as while it restarts, before that is reported."""

LOCK = 0x65706973_7461
"""The advisory lock of the lab; one database holds one lab."""

# Texts that are full of terms the planner cannot guess make it compile for longer than the query takes. So does starting
# processes for one page of a listing. And what is looked up lies in memory, or on a disk without heads.
_PLANNED = "SET jit = off; SET max_parallel_workers_per_gather = 0; SET random_page_cost = 1.1"

_SESSION = f"{_PLANNED}; SET lock_timeout = '{WAIT_SECONDS}s'; SET idle_in_transaction_session_timeout = '300s'"

_TRY_AGAIN = "try again in a moment"


class PostgresCatalog:
    """Reads on pooled connections, writes through one thread; *connections* at most, and one more that writes."""

    def __init__(self, url: str, *, connections: int) -> None:
        self._readers = _engine(url, "REPEATABLE READ", size=connections).execution_options(postgresql_readonly=True)
        self._writers = _engine(url, "READ COMMITTED", size=1)
        self._writer = Writer(self._begun, _is_begun)

    def open(self) -> None:
        """Bring the schema up to date and start to take writes."""
        with _own_errors():
            try:
                connection = self._writers.connect()
            except DBAPIError as error:
                # To whoever starts the server, and without the address, which has a password.
                raise SettingsError(
                    f"the database cannot be opened: {str(error.orig).strip().splitlines()[-1]}",
                    hint="check the setting `database`, and whether PostgreSQL runs",
                ) from None
            connection.close()
            with self._begun() as tx:
                _migrate(tx)
        self._writer.open()

    def close(self) -> None:
        """Finish the writes that wait, and let go of the database."""
        self._writer.close()
        self._readers.dispose()
        self._writers.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one consistent view of the catalog, for reading only; keep it short."""
        with _own_errors(), _connected(self._readers) as tx, tx.begin():
            yield tx

    def write(self, work: Callable[[Connection], R]) -> R:
        """Run *work* in a transaction and return its result once that is durable. *work* never commits."""
        with _own_errors():
            return self._writer.write(work)

    def copy_to(self, path: Path) -> None:
        """Copy the catalog, as of one moment, into a new file at *path*."""
        with self.read() as tx:
            copying.into_sqlite(tx, path)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        with _connected(self._writers) as tx, tx.begin() as transaction:
            # Each statement after this one sees all that was committed before: READ COMMITTED, and nobody else writes.
            tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield tx
            try:
                transaction.commit()
            except DBAPIError as error:
                raise UnavailableError(
                    "the database was lost while it committed: whether this was written is not known",
                    hint="send it again with the same Idempotency-Key: what was done is not done twice",
                ) from error


class _Texts(StrDumperUnknown):
    """Sends texts as PostgreSQL can keep them, wherever they stand in a statement."""

    def dump(self, obj: str) -> Any:
        return super().dump(without_nul(obj))


def _engine(url: str, isolation: str, *, size: int) -> Engine:
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(
            address,
            isolation_level=isolation,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "epista"},
            pool_size=size,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            pool_pre_ping=True,
            # What is written are users' keys and metadata, and hashes of secrets: they do not belong into messages and logs.
            hide_parameters=True,
        )
    except (ArgumentError, ValueError):
        raise SettingsError(
            "the setting `database` is no address of a PostgreSQL database", hint=f"{SCHEME}USER@HOST/DATABASE"
        ) from None

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.adapters.register_dumper(str, _Texts)
        connection.autocommit = True
        connection.execute(_SESSION)
        if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            # What was acknowledged survives a power cut, however the database is set up for others.
            connection.execute("SET synchronous_commit = on")
        connection.autocommit = False

    return engine


def _connected(engine: Engine) -> Connection:
    """Return a connection that works, now or when the database is back."""
    until = time.monotonic() + RETURN_SECONDS
    while True:
        try:
            return engine.connect()
        except DBAPIError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def _migrate(tx: Connection) -> None:
    encoding = tx.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise SettingsError(f"the database has the encoding {encoding}", hint="make one with ENCODING 'UTF8'")
    tables = set(inspect(tx).get_table_names())
    if tables and "alembic_version" not in tables:
        raise SettingsError("the database is not a lab's: it has tables of others", hint="give a new or an empty database")
    found = tx.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if tables else None
    if not is_current(tx, found):
        from epista.server.stores import migrations

        migrations.upgrade(tx)


def _is_begun(tx: Connection) -> bool:
    """Whether the transaction still stands: it is gone with its connection."""
    if tx.invalidated:
        return False
    connection: Any = tx.connection.dbapi_connection
    return not (connection.closed or connection.broken)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Let only our own errors out of the catalog, and nothing of the database's address."""
    try:
        yield
    except EpistaError:
        raise
    except PoolTimeoutError as error:
        raise UnavailableError("the catalog is busy", hint=_TRY_AGAIN) from error
    except (DBAPIError, psycopg.Error) as error:
        fault = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(fault, "sqlstate", None) or ""
        if state[:2] in ("08", "57") or (not state and isinstance(fault, psycopg.OperationalError)):
            raise UnavailableError("the catalog cannot be reached", hint=_TRY_AGAIN) from error
        if state == "53100":
            raise StorageFullError("the catalog cannot be written: the database has no room", hint=MAKE_ROOM) from error
        if state[:2] in ("40", "53", "55") or state == "25006":
            raise UnavailableError("the catalog is busy", hint=_TRY_AGAIN) from error
        raise
    except (PendingRollbackError, ResourceClosedError) as error:
        # Of a connection that was lost meanwhile.
        raise UnavailableError("the catalog cannot be reached", hint=_TRY_AGAIN) from error
