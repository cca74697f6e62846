"""Rows of what is known about contents that are tables."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select

from epista.server.stores.assets import chunks
from epista.server.stores.tables import blobs, table_facts

_FACTS = select(table_facts.c.document).where(
    table_facts.c.blob_id == bindparam("blob"), table_facts.c.reading == bindparam("read_as")
)


def known(tx: Connection, blob_id: int, reading: str) -> str | None:
    """Return what is known about a content that is a table, read in one way: a JSON document."""
    found: str | None = tx.execute(_FACTS, {"blob": blob_id, "read_as": reading}).scalar()
    return found


def keep(tx: Connection, blob_id: int, reading: str, document: str) -> None:
    """Record what was found out, unless that is known, or the content is gone."""
    is_there = tx.execute(select(blobs.c.id).where(blobs.c.id == blob_id)).first() is not None
    if is_there and known(tx, blob_id, reading) is None:
        tx.execute(insert(table_facts).values(blob_id=blob_id, reading=reading, document=document))


def unknown(tx: Connection, sources: Sequence[str]) -> set[str]:
    """Return those of *sources* that are no contents of the lab, each its sha256, or what `linked_source` gives."""
    found: set[str | None] = set()
    for some in chunks(sources):
        found.update(tx.execute(select(blobs.c.sha256).where(blobs.c.sha256.in_(some))).scalars())
    if any(one not in found for one in sources):
        linked = select(blobs.c.object).where(blobs.c.root.is_not(None), blobs.c.sha256.is_(None))
        found.update(map(linked_source, tx.execute(linked).scalars()))
    return {one for one in sources if one not in found}


def linked_source(object: str) -> str:
    """Return what a linked file is called of which nobody knows the sha256."""
    return "linked." + hashlib.sha256(object.encode()).hexdigest()
