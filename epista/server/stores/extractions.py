"""Rows of extractions: by which version of its extractor each format was read, and what is to be read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, case, func, insert, select, update

from epista.server.stores.tables import assets, blobs, extractions, versions

_LIVE = (
    select(
        assets.c.id.label("asset_id"),
        assets.c.key,
        versions.c.format,
        versions.c.options,
        blobs.c.id,
        blobs.c.sha256,
        blobs.c.size,
        blobs.c.object,
        blobs.c.offset,
        blobs.c.root,
    )
    .join(versions, versions.c.id == assets.c.head_id)
    .join(blobs, blobs.c.id == versions.c.blob_id)
    .where(assets.c.deleted_at.is_(None))
)


def known(tx: Connection) -> dict[str, RowMapping]:
    """Return what is recorded of each format."""
    return {row["format"]: row for row in tx.execute(select(extractions)).mappings()}


def keep(tx: Connection, format: str, **values: Any) -> None:
    """Record something of a format."""
    if not tx.execute(update(extractions).where(extractions.c.format == format).values(values)).rowcount:
        first = {"version": 0, "towards": 0, "after_id": 0, "holder": "", "held_until": 0}
        tx.execute(insert(extractions).values({"format": format, **first, **values}))


def after(tx: Connection, format: str, asset_id: int, limit: int) -> list[RowMapping]:
    """Return the next live assets of a format with the contents of their current versions."""
    found = _LIVE.where(assets.c.format == format, assets.c.id > asset_id).order_by(assets.c.id).limit(limit)
    return list(tx.execute(found).mappings())


def still(tx: Connection, read: Sequence[RowMapping]) -> list[RowMapping]:
    """Return those of some assets that are live and have the contents that *read* says, with how they are described now."""
    names = ("asset_id", "id", "format", "options")
    now = {tuple(row[name] for name in names): row for row in _described(tx, [row["asset_id"] for row in read])}
    return [now[one] for row in read if (one := tuple(row[name] for name in names)) in now]


def _described(tx: Connection, ids: Sequence[int]) -> Iterable[RowMapping]:
    found = _LIVE.add_columns(assets.c.workspace_id, versions.c.tags, versions.c.meta).where(assets.c.id.in_(ids))
    return tx.execute(found).mappings()


def counts(tx: Connection, after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return of some formats how many live assets there are, and how many of them come after the given ones."""
    if not after:
        return {}
    later = case(*((assets.c.format == format, case((assets.c.id > asset_id, 1), else_=0)) for format, asset_id in after.items()))
    found = (
        select(assets.c.format, func.count(), func.sum(later))
        .where(assets.c.deleted_at.is_(None), assets.c.format.in_(sorted(after)))
        .group_by(assets.c.format)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in tx.execute(found)}
