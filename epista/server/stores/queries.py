"""Rows of the query log."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from epista.server.stores.assets import visible
from epista.server.stores.dialects import among
from epista.server.stores.tables import assets, inserted, queries, query_inputs, users, versions

_ADD = insert(queries)
_ADD_INPUT = insert(query_inputs)
_SET = update(queries).where(queries.c.id == bindparam("row_id"), queries.c.ended_at.is_(None))
_WITH_USER = select(queries, users.c.name.label("user")).join(users, users.c.id == queries.c.user_id)


def add(tx: Connection, row: Mapping[str, Any], version_ids: Collection[int]) -> int:
    """Log a query and the versions that it reads; return its id."""
    id = inserted(tx.execute(_ADD, dict(row)))
    if version_ids:
        tx.execute(_ADD_INPUT, [{"query_id": id, "version_id": version} for version in sorted(set(version_ids))])
    return id


def change(tx: Connection, id: int, **values: Any) -> bool:
    """Say more of a query that has not ended; whether there was one."""
    return bool(tx.execute(_SET.values(**values), {"row_id": id}).rowcount)


def get(tx: Connection, workspace_id: int, uid: str) -> RowMapping | None:
    """Return one query."""
    return tx.execute(_WITH_USER.where(queries.c.workspace_id == workspace_id, queries.c.uid == uid)).mappings().first()


def page(tx: Connection, workspace_id: int, *, user_id: int | None, before: int | None, limit: int) -> list[RowMapping]:
    """Return queries of a user, or of all, newest first."""
    found = _WITH_USER.where(queries.c.workspace_id == workspace_id)
    if user_id is not None:
        found = found.where(queries.c.user_id == user_id)
    if before is not None:
        found = found.where(queries.c.id < before)
    return list(tx.execute(found.order_by(queries.c.id.desc()).limit(limit)).mappings())


def inputs_of(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, query_ids: Sequence[int]
) -> dict[int, list[RowMapping]]:
    """Return what each query read, as far as the caller may read it."""
    if not query_ids:
        return {}
    found = (
        select(query_inputs.c.query_id, versions.c.uid, versions.c.number, assets.c.key)
        .join(versions, versions.c.id == query_inputs.c.version_id)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(among(query_inputs.c.query_id, "ids"), visible(workspace_id, allowed))
        .order_by(assets.c.key, versions.c.number)
    )
    grouped: dict[int, list[RowMapping]] = {}
    for row in tx.execute(found, {"ids": list(query_ids)}).mappings():
        grouped.setdefault(row["query_id"], []).append(row)
    return grouped


def cancelled(tx: Connection, ids: Collection[int]) -> list[int]:
    """Return those of the queries that somebody asked to end."""
    found = select(queries.c.id).where(among(queries.c.id, "ids"), queries.c.cancel_asked_at.is_not(None))
    return list(tx.execute(found, {"ids": sorted(ids)}).scalars())


def keep_alive(tx: Connection, ids: Collection[int], until: int) -> None:
    """Say that the queries still run."""
    tx.execute(update(queries).where(among(queries.c.id, "ids")).values(alive_until=until), {"ids": sorted(ids)})
