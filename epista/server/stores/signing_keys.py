"""Rows of the keys that links are signed with. Read anew each time: another server may just have rotated them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from epista.server.stores.tables import signing_keys


def add(tx: Connection, **row: Any) -> None:
    """Add a key."""
    tx.execute(insert(signing_keys).values(**row))


def signing(tx: Connection) -> RowMapping | None:
    """Return the key that signs new links."""
    found = select(signing_keys).where(signing_keys.c.retired_at.is_(None)).order_by(signing_keys.c.id.desc()).limit(1)
    return tx.execute(found).mappings().first()


def verifying(tx: Connection, uid: str, at: int) -> RowMapping | None:
    """Return a key whose links still count."""
    counts = or_(signing_keys.c.retired_at.is_(None), signing_keys.c.retired_at > at)
    return tx.execute(select(signing_keys).where(signing_keys.c.uid == uid, counts)).mappings().first()


def newest_first(tx: Connection) -> list[RowMapping]:
    """Return all keys."""
    return list(tx.execute(select(signing_keys).order_by(signing_keys.c.id.desc())).mappings())


def retire(tx: Connection, at: int) -> None:
    """Let no key count beyond *at*; those that end sooner do so."""
    later = or_(signing_keys.c.retired_at.is_(None), signing_keys.c.retired_at > at)
    tx.execute(update(signing_keys).where(later).values(retired_at=at))
