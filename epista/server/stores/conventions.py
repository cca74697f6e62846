"""Rows of the naming conventions that workspaces declare: every version, whole."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from epista.server.stores.tables import conventions, users

# Written once: every commit asks it.
_NEWEST = (
    select(conventions, users.c.name.label("author"))
    .join(users, users.c.id == conventions.c.created_by)
    .where(conventions.c.workspace_id == bindparam("workspace_id"))
    .order_by(conventions.c.version.desc())
    .limit(1)
)


def current(tx: Connection, workspace_id: int, version: int | None = None) -> RowMapping | None:
    """Return the row of the conventions in force, or of an older version."""
    found = _NEWEST if version is None else _NEWEST.where(conventions.c.version == version)
    return tx.execute(found, {"workspace_id": workspace_id}).mappings().first()


def add(tx: Connection, *, workspace_id: int, version: int, document: str, user_id: int, at: int) -> None:
    """Add a version of the conventions."""
    row = {"workspace_id": workspace_id, "version": version, "document": document, "created_at": at, "created_by": user_id}
    tx.execute(insert(conventions).values(row))
