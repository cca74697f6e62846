"""Rows of contents that come in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, func, insert, select, update

from epista.server.stores.tables import incomplete_uploads, inserted, upload_parts, users

_RECEIVED = (
    select(func.coalesce(func.sum(upload_parts.c.size), 0))
    .where(upload_parts.c.upload_id == incomplete_uploads.c.id)
    .scalar_subquery()
    .label("received")
)


def add(tx: Connection, **row: Any) -> int:
    """Add an upload; return its id."""
    return inserted(tx.execute(insert(incomplete_uploads).values(**row)))


def by_uid(tx: Connection, workspace_id: int, uid: str) -> RowMapping | None:
    """Return the upload with that id, also a complete one, with the name of its user."""
    return tx.execute(_uploads(workspace_id).where(incomplete_uploads.c.uid == uid)).mappings().first()


def incomplete(
    tx: Connection, workspace_id: int, *, user_id: int | None, size: int | None, at: int, limit: int
) -> list[RowMapping]:
    """Return incomplete uploads that have not expired, newest first; of one user, or (None) of all."""
    found = _uploads(workspace_id).where(incomplete_uploads.c.sha256.is_(None), incomplete_uploads.c.expires_at > at)
    if user_id is not None:
        found = found.where(incomplete_uploads.c.user_id == user_id)
    if size is not None:
        found = found.where(incomplete_uploads.c.size == size)
    return list(tx.execute(found.order_by(incomplete_uploads.c.id.desc()).limit(limit)).mappings())


def parts(tx: Connection, upload_id: int) -> list[RowMapping]:
    """Return the parts that are there, by number."""
    found = select(upload_parts).where(upload_parts.c.upload_id == upload_id)
    return list(tx.execute(found.order_by(upload_parts.c.number)).mappings())


def part(tx: Connection, upload_id: int, number: int) -> RowMapping | None:
    """Return one part, if it is there."""
    found = select(upload_parts).where(upload_parts.c.upload_id == upload_id, upload_parts.c.number == number)
    return tx.execute(found).mappings().first()


def add_part(tx: Connection, **row: Any) -> None:
    """Record a part."""
    tx.execute(insert(upload_parts).values(**row))


def complete(tx: Connection, upload_id: int, sha256: str) -> None:
    """Record what became of an upload, whose parts are no longer of interest."""
    tx.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
    tx.execute(update(incomplete_uploads).where(incomplete_uploads.c.id == upload_id).values(sha256=sha256))


def forget(tx: Connection, upload_ids: Sequence[int]) -> None:
    """Remove uploads."""
    for upload_id in upload_ids:
        tx.execute(delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
        tx.execute(delete(incomplete_uploads).where(incomplete_uploads.c.id == upload_id))


def expired(tx: Connection, at: int) -> list[RowMapping]:
    """Return the uploads, also complete ones, whose time is over."""
    found = select(incomplete_uploads, _RECEIVED).where(incomplete_uploads.c.expires_at <= at)
    return list(tx.execute(found).mappings())


def unfinished(tx: Connection) -> list[str]:
    """Return the store's names of all that is not complete."""
    return list(tx.execute(select(incomplete_uploads.c.unfinished).where(incomplete_uploads.c.sha256.is_(None))).scalars())


def _uploads(workspace_id: int) -> Select[Any]:
    return (
        select(incomplete_uploads, users.c.name.label("user"), _RECEIVED)
        .join(users, users.c.id == incomplete_uploads.c.user_id)
        .where(incomplete_uploads.c.workspace_id == workspace_id)
    )
