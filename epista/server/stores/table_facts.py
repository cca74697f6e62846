"""Rows of what is known about tables, and of the files that some of them are made of."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from epista.server.stores.tables import blobs, table_facts, table_parts, versions

_FACTS = select(table_facts.c.document).where(
    table_facts.c.blob_id == bindparam("blob"), table_facts.c.reading == bindparam("read_as")
)
_PARTS = (
    select(*(blobs.c[name] for name in ("id", "sha256", "size", "object", "offset", "root")))
    .join(table_parts, table_parts.c.part_id == blobs.c.id)
    .order_by(table_parts.c.position)
)
_OF_VERSION = _PARTS.join(versions, versions.c.blob_id == table_parts.c.blob_id).where(versions.c.id == bindparam("version"))


def known(tx: Connection, blob_id: int, reading: str) -> str | None:
    """Return what is known about a content that is a table, read in one way: a JSON document."""
    found: str | None = tx.execute(_FACTS, {"blob": blob_id, "read_as": reading}).scalar()
    return found


def keep(tx: Connection, blob_id: int, reading: str, document: str) -> None:
    """Record what was found out, unless that is known, or the content is gone."""
    is_there = tx.execute(select(blobs.c.id).where(blobs.c.id == blob_id)).first() is not None
    if is_there and known(tx, blob_id, reading) is None:
        tx.execute(insert(table_facts).values(blob_id=blob_id, reading=reading, document=document))


def parts_of(tx: Connection, version_id: int) -> list[RowMapping]:
    """Return the files of a version that has several, in their order; none for one that is a file itself."""
    return list(tx.execute(_OF_VERSION, {"version": version_id}).mappings())


def unknown(tx: Connection, sha256: Collection[str]) -> set[str]:
    """Return those of the contents that the lab does not know any more."""
    found: set[Any] = set()
    wanted = sorted(sha256)
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        found.update(tx.execute(select(blobs.c.sha256).where(blobs.c.sha256.in_(some))).scalars())
    return set(wanted) - found
