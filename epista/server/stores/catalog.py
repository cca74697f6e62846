"""
What a catalog does, whatever the database: reads of one consistent view each, and writes that are durable when they return.

Stores take the open transaction of a catalog and never commit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection, inspect, select

from epista.contract.errors import SettingsError
from epista.server.stores.tables import compatibility

R = TypeVar("R")

SCHEMA = "0015"
"""The newest migration. Alembic is imported only when a database says something else."""

COMPATIBLE = "0014"
"""
The oldest schema whose servers may go on with a database of this one, as in a rolling upgrade.

It stays when a migration adds what older servers can leave alone without breaking a promise: not their `gc`, not a quota. Else
it becomes the new `SCHEMA`, and all servers of a lab have to stop for the upgrade.
"""

MAKE_ROOM = "make room on the server's disk"


class Catalog(Protocol):
    """The rows of one lab."""

    def open(self) -> None:
        """
        Bring the schema up to date and start to take writes.

        Raises:
            SettingsError: this is no lab's database, or one of a newer Epista.
            UnavailableError: it cannot be reached.
        """

    def close(self) -> None:
        """Finish the writes that wait, and let go of the database."""

    def read(self) -> AbstractContextManager[Connection]:
        """Open one consistent view of the catalog, for reading only; keep it short."""

    def write(self, work: Callable[[Connection], R]) -> R:
        """
        Run *work* in a transaction and return its result once that is durable. *work* never commits.

        No two writes of a lab, in whatever process, see less than all of each other: what *work* reads stays true until it has
        written.

        Raises:
            UnavailableError: nothing was written or, if the message says so, that is not known.
        """

    def copy_to(self, path: Path) -> None:
        """Copy the catalog, as of one moment, into a new file at *path*: an SQLite catalog."""


def is_current(tx: Connection, found: str | None) -> bool:
    """
    Whether a database at the migration *found* can be used as it is; else it wants migrating.

    Raises:
        SettingsError: a newer Epista has migrated it, such that this one may not go on.
    """
    if found is None or found <= SCHEMA:
        return found == SCHEMA
    oldest = tx.execute(select(compatibility.c.oldest)).scalar() if inspect(tx).has_table("compatibility") else None
    if oldest is None or oldest > SCHEMA:
        raise SettingsError(
            f"the lab was last opened by a newer Epista (schema {found}; this one knows {SCHEMA})",
            hint="pip install --upgrade epista",
        )
    return True
