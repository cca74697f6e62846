"""
Contents that lie in packs although no row points at them there.

They came a second time, along with others that were new, or nothing needed them and the rest of their pack stayed. Each is
written down in the commit that leaves it behind, so that a purge of the content finds all copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from epista.server.stores.dialects import among
from epista.server.stores.tables import blobs, remains

_KNOWN = exists().where(remains.c.sha256 == blobs.c.sha256, remains.c.object == blobs.c.object)
_PACKED = select(blobs.c.sha256, blobs.c.object).where(
    blobs.c.root.is_(None), among(blobs.c.sha256, "contents"), blobs.c.offset > 0, ~_KNOWN
)
_LEAVE = insert(remains).from_select(["sha256", "object"], _PACKED)
_OBJECTS = select(remains.c.object).where(among(remains.c.sha256, "contents")).distinct()
_FORGET = delete(remains).where(among(remains.c.object, "objects"))
_NEEDED = delete(remains).where(remains.c.object == bindparam("object"), among(remains.c.sha256, "contents"))


def leave(tx: Connection, sha256: Sequence[str]) -> None:
    """Write down where contents lie in packs now, for their rows are about to go, or to point elsewhere."""
    tx.execute(_LEAVE, {"contents": list(sha256)})


def add(tx: Connection, sha256: Sequence[str], object: str) -> None:
    """Write down contents that a new pack has, and whose rows point elsewhere."""
    if sha256:
        tx.execute(insert(remains), [{"sha256": one, "object": object} for one in sha256])


def needed(tx: Connection, sha256: Sequence[str], object: str) -> None:
    """Strike contents out at whose place in a pack rows point again."""
    tx.execute(_NEEDED, {"contents": list(sha256), "object": object})


def objects_with(tx: Connection, sha256: Sequence[str]) -> set[str]:
    """Return the packs in which something is left of these contents."""
    return set(tx.execute(_OBJECTS, {"contents": list(sha256)}).scalars())


def forget(tx: Connection, objects: Sequence[str]) -> None:
    """Strike out packs that are gone, or about to go."""
    tx.execute(_FORGET, {"objects": list(objects)})
