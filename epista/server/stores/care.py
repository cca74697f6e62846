"""Rows that the care of a lab needs: which blobs there are, and which of them nothing needs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, delete, exists, select, update

from epista.server.stores.assets import chunks
from epista.server.stores.tables import assets, blobs, uploads, versions, workspaces


def blobs_after(tx: Connection, after: int, limit: int) -> list[RowMapping]:
    """Return blobs by id."""
    return list(tx.execute(select(blobs).where(blobs.c.id > after).order_by(blobs.c.id).limit(limit)).mappings())


def is_blob(tx: Connection, blob_id: int, object: str) -> bool:
    """Whether the blob is still there, in the same object."""
    return tx.execute(select(blobs.c.id).where(blobs.c.id == blob_id, blobs.c.object == object)).first() is not None


def keys_of_blob(tx: Connection, blob_id: int, limit: int) -> list[str]:
    """Return some of the assets that need a blob, as ``workspace:key@version``."""
    found = (
        select(workspaces.c.name, assets.c.key, versions.c.number)
        .join(assets, assets.c.workspace_id == workspaces.c.id)
        .join(versions, versions.c.asset_id == assets.c.id)
        .where(versions.c.blob_id == blob_id)
        .limit(limit)
    )
    return [f"{row.name}:{row.key}@{row.number}" for row in tx.execute(found)]


def mark_damaged(tx: Connection, blob_id: int, at: int | None) -> None:
    """Record that a blob is not what it should be, or (None) that it is again."""
    tx.execute(update(blobs).where(blobs.c.id == blob_id).values(damaged_at=at))


def unneeded(tx: Connection, before: int) -> list[RowMapping]:
    """Return blobs that no version needs, and that nobody sent again since *before*."""
    needed = exists().where(versions.c.blob_id == blobs.c.id)
    fresh = exists().where(uploads.c.blob_id == blobs.c.id, uploads.c.at > before)
    return list(tx.execute(select(blobs).where(~needed, ~fresh, blobs.c.created_at <= before)).mappings())


def forget(tx: Connection, blob_ids: Sequence[int]) -> None:
    """Remove the rows of blobs."""
    for some in chunks(blob_ids):
        tx.execute(delete(uploads).where(uploads.c.blob_id.in_(some)))
        tx.execute(delete(blobs).where(blobs.c.id.in_(some)))


def objects(tx: Connection) -> list[str]:
    """Return the names of all objects that rows know."""
    return list(tx.execute(select(blobs.c.object).distinct()).scalars())


def newest_object(tx: Connection) -> str | None:
    """Return the name of the object that came last, of those that are not known as damaged."""
    newest = select(blobs.c.object).where(blobs.c.damaged_at.is_(None)).order_by(blobs.c.id.desc()).limit(1)
    return tx.execute(newest).scalar()
