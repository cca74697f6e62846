"""Rows of batches: what is set aside, part by part, for one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from epista.server.stores.assets import chunks
from epista.server.stores.tables import batch_parts, batches, inserted


class Owner(NamedTuple):
    """Whose batch it is, and how they call it."""

    workspace_id: int
    user_id: int
    uid: str


def find(tx: Connection, owner: Owner) -> RowMapping | None:
    """Return a batch of its owner."""
    mine = [batches.c[name] == value for name, value in owner._asdict().items()]
    return tx.execute(select(batches).where(*mine)).mappings().first()


def add(tx: Connection, owner: Owner, *, at: int) -> int:
    """Begin a batch; return its id."""
    return inserted(tx.execute(insert(batches).values(**owner._asdict(), at=at)))


def set_part(tx: Connection, batch_id: int, number: int, documents: Sequence[bytes], *, at: int) -> None:
    """Set a part aside, in place of what it was; the batch lives on from this moment."""
    tx.execute(delete(batch_parts).where(batch_parts.c.batch_id == batch_id, batch_parts.c.number == number))
    rows = [
        {"batch_id": batch_id, "number": number, "piece": piece, "document": document} for piece, document in enumerate(documents)
    ]
    tx.execute(insert(batch_parts), rows)
    tx.execute(update(batches).where(batches.c.id == batch_id).values(at=at))


def part(tx: Connection, batch_id: int, number: int) -> list[bytes]:
    """Return the pieces of a part; none if it was never sent."""
    mine = (batch_parts.c.batch_id == batch_id, batch_parts.c.number == number)
    return list(tx.execute(select(batch_parts.c.document).where(*mine).order_by(batch_parts.c.piece)).scalars())


def parts(tx: Connection, batch_id: int) -> int:
    """Return how many parts are set aside."""
    numbers = select(func.count(batch_parts.c.number.distinct())).where(batch_parts.c.batch_id == batch_id)
    return int(tx.execute(numbers).scalar_one())


def keep_newest(tx: Connection, owner: Owner, count: int) -> None:
    """Forget what the owner of this one has under way in the workspace, but for the *count* that were touched last."""
    mine = (batches.c.workspace_id == owner.workspace_id, batches.c.user_id == owner.user_id, batches.c.made_at.is_(None))
    older = select(batches.c.id).where(*mine).order_by(batches.c.at.desc(), batches.c.id.desc()).offset(count)
    _forget(tx, list(tx.execute(older).scalars()))


def made(tx: Connection, batch_id: int, at: int) -> None:
    """Record that the versions of a batch are made."""
    tx.execute(update(batches).where(batches.c.id == batch_id).values(made_at=at, at=at))


def expire(tx: Connection, before: int) -> int:
    """Forget batches that nobody has touched since *before*; return how many were never made."""
    old = tx.execute(select(batches.c.id, batches.c.made_at).where(batches.c.at < before)).all()
    _forget(tx, [row.id for row in old])
    return sum(row.made_at is None for row in old)


def _forget(tx: Connection, ids: Sequence[int]) -> None:
    for some in chunks(ids):
        tx.execute(delete(batch_parts).where(batch_parts.c.batch_id.in_(some)))
        tx.execute(delete(batches).where(batches.c.id.in_(some)))
