"""
Rows of tables that are made of several parquet files, which are parts of them in an order.

The content of such a version is a manifest: its row has no sha256, and only this module adds rows of parts. So no bytes that
somebody sends are ever taken for a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from epista.server.stores.dialects import new_ids
from epista.server.stores.tables import assets, blob_sources, blobs, table_facts, table_parts, versions

_PLACE = [blobs.c[name] for name in ("id", "sha256", "size", "object", "offset", "root")]
_PARTS = select(*_PLACE).join(table_parts, table_parts.c.part_id == blobs.c.id).order_by(table_parts.c.position)
_OF_VERSION = _PARTS.join(versions, versions.c.blob_id == table_parts.c.blob_id).where(versions.c.id == bindparam("version"))
_OF_BLOB = _PARTS.where(table_parts.c.blob_id == bindparam("blob"))


class Made(NamedTuple):
    """A whole object of the store that the server made."""

    object: str
    sha256: str
    size: int


def manifest(sha256: Sequence[str]) -> bytes:
    """Return what is stored of a table whose files have these sha256."""
    return json.dumps({"table": {"parts": [{"sha256": one} for one in sha256]}}, indent=1).encode()


def of_version(tx: Connection, version_id: int) -> list[RowMapping]:
    """Return the files of a version that has several, in their order; none for one that is a file itself."""
    return list(tx.execute(_OF_VERSION, {"version": version_id}).mappings())


def content(tx: Connection, version_id: int) -> RowMapping | None:
    """Return where the content of a version lies; None if the version was erased."""
    found = select(*_PLACE).join(versions, versions.c.blob_id == blobs.c.id).where(versions.c.id == version_id)
    return tx.execute(found).mappings().first()


def of_blob(tx: Connection, blob_id: int) -> list[RowMapping]:
    """Return the same of a content."""
    return list(tx.execute(_OF_BLOB, {"blob": blob_id}).mappings())


def add(tx: Connection, part_ids: Sequence[int], *, object: str, size: int, at: int) -> int:
    """Add a table of several files; its manifest lies in *object*, and its files have *size* bytes together."""
    (blob_id,) = new_ids(tx, blobs, 1)
    tx.execute(insert(blobs).values(id=blob_id, sha256=None, size=size, object=object, offset=0, created_at=at))
    tx.execute(
        insert(table_parts),
        [{"blob_id": blob_id, "position": position, "part_id": part} for position, part in enumerate(part_ids)],
    )
    return blob_id


def keep(tx: Connection, made: Made, *, at: int) -> int:
    """Record a content that the server made, and return its id; one that is there already, and whole, stays where it lies."""
    known = tx.execute(select(blobs).where(blobs.c.sha256 == made.sha256, blobs.c.root.is_(None))).mappings().first()
    if known is None:
        (blob_id,) = new_ids(tx, blobs, 1)
        tx.execute(insert(blobs).values(id=blob_id, **made._asdict(), offset=0, created_at=at))
        return blob_id
    if known["damaged_at"] is not None:
        place = update(blobs).where(blobs.c.id == known["id"])
        tx.execute(place.values(object=made.object, offset=0, damaged_at=None))
    return int(known["id"])


def add_sources(tx: Connection, blob_id: int, source_ids: Collection[int]) -> None:
    """Record what a content was made from."""
    known = set(tx.execute(select(blob_sources.c.source_id).where(blob_sources.c.blob_id == blob_id)).scalars())
    rows = [{"blob_id": blob_id, "source_id": one} for one in sorted(set(source_ids) - known - {blob_id})]
    if rows:
        tx.execute(insert(blob_sources), rows)


def workspaces_of(tx: Connection, blob_id: int) -> list[int]:
    """Return the workspaces with a version of that content."""
    found = select(assets.c.workspace_id).join(versions, versions.c.asset_id == assets.c.id).where(versions.c.blob_id == blob_id)
    return sorted(set(tx.execute(found).scalars()))


def replace(tx: Connection, blob_id: int, whole_id: int) -> None:
    """Let versions point at one file with all the rows of the table that they pointed at, which then is no more."""
    tx.execute(update(versions).where(versions.c.blob_id == blob_id).values(blob_id=whole_id))
    for table, column in ((table_parts, table_parts.c.blob_id), (table_facts, table_facts.c.blob_id), (blobs, blobs.c.id)):
        tx.execute(delete(table).where(column == blob_id))


def in_parts(tx: Connection, *, more_than: int, limit: int) -> list[int]:
    """Return the current versions of more than that many files."""
    many = select(table_parts.c.blob_id).where(table_parts.c.position == more_than)
    found = select(versions.c.id).join(assets, assets.c.head_id == versions.c.id)
    found = found.where(versions.c.blob_id.in_(many), assets.c.deleted_at.is_(None)).order_by(versions.c.id).limit(limit)
    return list(tx.execute(found).scalars())
