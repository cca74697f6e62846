"""
Audit rows, each chained to the one before it by sha256.

One chain per workspace, and one (0) for the lab. The newest row of a chain is read within the transaction that extends it, under
the writer's lock; it is never remembered between transactions, because other processes write too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from epista.server.stores.dialects import add
from epista.server.stores.tables import audit, audit_heads

LAB = 0
"""The chain of acts that belong to no workspace."""

_START = "0" * 64

# Written once: every act executes them.
_HEAD = select(audit_heads).where(audit_heads.c.workspace_id == bindparam("chain"))
_ADD_HEAD = insert(audit_heads).values(workspace_id=bindparam("chain"))
_SET_HEAD = (
    update(audit_heads)
    .where(audit_heads.c.workspace_id == bindparam("chain"))
    .values(number=bindparam("number"), hash=bindparam("hash"))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One act, before it has its place in a chain."""

    workspace_id: int
    at: int
    actor: str
    token: str | None
    action: str
    target: str
    outcome: str
    request_id: str
    details: str = field(default="{}")
    """JSON text."""


def append(tx: Connection, entries: Sequence[Entry]) -> None:
    """Chain *entries* on, in their order."""
    for workspace_id in dict.fromkeys(entry.workspace_id for entry in entries):
        head = _head(tx, workspace_id)
        number, last = (head["number"], head["hash"]) if head else (0, _START)
        rows = []
        for entry in entries:
            if entry.workspace_id == workspace_id:
                number += 1
                last = _chained(last, number, entry)
                rows.append(_row(entry) | {"number": number, "hash": last})
        add(tx, audit, rows)
        tx.execute(_SET_HEAD if head else _ADD_HEAD, {"chain": workspace_id, "number": number, "hash": last})


def page(tx: Connection, workspace_id: int, *, filters: dict[str, str], before: int | None, limit: int) -> list[RowMapping]:
    """Return rows of a chain, newest first, that equal all *filters* (column to value)."""
    found = select(audit).where(
        audit.c.workspace_id == workspace_id, *(audit.c[name] == value for name, value in filters.items())
    )
    if before is not None:
        found = found.where(audit.c.number < before)
    return list(tx.execute(found.order_by(audit.c.number.desc()).limit(limit)).mappings())


def verify(tx: Connection, workspace_id: int) -> tuple[int, str, list[str]]:
    """Recompute a chain; return how many rows it has, its head and what is wrong with it."""
    problems: list[str] = []
    count, number, last = 0, 0, _START
    for row in _rows(tx, workspace_id):
        count += 1
        if row["number"] != number + 1:
            missing = f"row {number + 1}" if row["number"] == number + 2 else f"rows {number + 1} to {row['number'] - 1}"
            problems.append(f"{missing} missing")
        entry = Entry(**{name: row[name] for name in Entry.__slots__})
        if _chained(last, row["number"], entry) != row["hash"] and row["number"] == number + 1:
            problems.append(f"row {row['number']} was changed")
        # Go on from what the row says of itself, so that one change is reported once.
        number, last = row["number"], row["hash"]
    head = _head(tx, workspace_id)
    expected = (head["number"], head["hash"]) if head else (0, _START)
    if head and head["number"] > number:
        problems.append(f"rows {number + 1} to {head['number']} missing at the end")
    elif expected != (number, last):
        problems.append("the last row is not the one that was written last")
    return count, last, problems


def _head(tx: Connection, workspace_id: int) -> RowMapping | None:
    return tx.execute(_HEAD, {"chain": workspace_id}).mappings().first()


def _rows(tx: Connection, workspace_id: int) -> Iterator[RowMapping]:
    after = 0
    while True:
        found = select(audit).where(audit.c.workspace_id == workspace_id, audit.c.number > after).order_by(audit.c.number)
        rows = list(tx.execute(found.limit(5000)).mappings())
        yield from rows
        if len(rows) < 5000:
            return
        after = rows[-1]["number"]


def _row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__slots__}


def _chained(last: str, number: int, entry: Entry) -> str:
    # A JSON array: every field delimited, so that no two different rows read the same.
    text = json.dumps([last, number, *astuple(entry)], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
