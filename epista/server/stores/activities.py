"""Rows of activities: what somebody did when versions were made, and what that had read."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, union

from epista.server.stores.assets import visible
from epista.server.stores.dialects import among
from epista.server.stores.tables import (
    activities,
    activity_inputs,
    activity_queries,
    assets,
    inserted,
    queries,
    query_inputs,
    tellings,
    users,
    version_inputs,
    versions,
)

_ADD = insert(activities)
_ADD_INPUT = insert(activity_inputs)
_ADD_QUERY = insert(activity_queries)
_ADD_TELLING = insert(tellings)
_TOLD = select(tellings.c.id).where(tellings.c.sha256 == bindparam("sha256"))
_GET = (
    select(activities, tellings.c.document, users.c.name.label("user"))
    .join(tellings, tellings.c.id == activities.c.telling_id)
    .join(users, users.c.id == activities.c.user_id)
)


def add(tx: Connection, row: Mapping[str, Any], told: str, version_ids: Collection[int], query_ids: Collection[int]) -> int:
    """Record an activity with what was *told* of it, and the versions and the queries that went in; return its id."""
    telling = {"sha256": hashlib.sha256(told.encode()).hexdigest(), "document": told}
    telling_id = tx.execute(_TOLD, telling).scalar()
    if telling_id is None:
        telling_id = inserted(tx.execute(_ADD_TELLING, telling))
    id = inserted(tx.execute(_ADD, {**row, "telling_id": telling_id}))
    if version_ids:
        tx.execute(_ADD_INPUT, [{"activity_id": id, "version_id": one} for one in sorted(set(version_ids))])
    if query_ids:
        tx.execute(_ADD_QUERY, [{"activity_id": id, "query_id": one} for one in sorted(set(query_ids))])
    return id


def get(tx: Connection, ids: Collection[int]) -> dict[int, RowMapping]:
    """Return activities, with the names of their users."""
    found = tx.execute(_GET.where(among(activities.c.id, "ids")), {"ids": sorted(ids)}).mappings()
    return {row["id"]: row for row in found}


def inputs_of(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Collection[int]
) -> dict[int, list[RowMapping]]:
    """Return what went into each activity, read or asked for, as far as the caller may read it; by key."""
    if not ids:
        return {}
    read = select(activity_inputs.c.activity_id, activity_inputs.c.version_id)
    asked = select(activity_queries.c.activity_id, query_inputs.c.version_id).join(
        query_inputs, query_inputs.c.query_id == activity_queries.c.query_id
    )
    both = union(
        read.where(among(activity_inputs.c.activity_id, "ids")), asked.where(among(activity_queries.c.activity_id, "ids"))
    ).subquery()
    found = (
        select(both.c.activity_id, versions.c.uid, versions.c.number, assets.c.key)
        .join(versions, versions.c.id == both.c.version_id)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(visible(workspace_id, allowed))
        .order_by(assets.c.key, versions.c.number)
    )
    grouped: dict[int, list[RowMapping]] = {}
    for row in tx.execute(found, {"ids": sorted(ids)}).mappings():
        grouped.setdefault(row["activity_id"], []).append(row)
    return grouped


def outputs_of(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, version_id: int, limit: int
) -> list[RowMapping]:
    """Return the versions that a version went into, in whichever way, as far as the caller may read them; newest first."""
    read = select(activity_inputs.c.activity_id).where(activity_inputs.c.version_id == version_id)
    asked = (
        select(activity_queries.c.activity_id)
        .join(query_inputs, query_inputs.c.query_id == activity_queries.c.query_id)
        .where(query_inputs.c.version_id == version_id)
    )
    stated = select(version_inputs.c.version_id).where(version_inputs.c.input_id == version_id)
    told = select(versions.c.id).where(versions.c.activity_id.in_(union(read, asked)))
    found = (
        select(versions.c.uid, versions.c.number, assets.c.key)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(versions.c.id.in_(union(stated, told)), visible(workspace_id, allowed))
        .order_by(versions.c.id.desc())
        .limit(limit)
    )
    return list(tx.execute(found).mappings())


def queries_of(tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Collection[int]) -> list[RowMapping]:
    """Return the queries of activities; ``unread`` is how many of their inputs the caller may not read, or were erased."""
    every = select(func.count()).select_from(query_inputs).where(query_inputs.c.query_id == queries.c.id)
    seen = (
        select(func.count())
        .select_from(query_inputs.join(versions, versions.c.id == query_inputs.c.version_id).join(assets))
        .where(query_inputs.c.query_id == queries.c.id, visible(workspace_id, allowed))
    )
    unread = every.scalar_subquery() - seen.scalar_subquery() + queries.c.gone_inputs
    found = (
        select(activity_queries.c.activity_id, queries, unread.label("unread"))
        .join(queries, queries.c.id == activity_queries.c.query_id)
        .where(among(activity_queries.c.activity_id, "ids"))
        .order_by(queries.c.id)
    )
    return list(tx.execute(found, {"ids": sorted(ids)}).mappings())


def own_queries(tx: Connection, workspace_id: int, user_id: int, uids: Collection[str]) -> list[int]:
    """Return the ids of those of the queries that a user asked."""
    if not uids:
        return []
    found = select(queries.c.id).where(
        among(queries.c.uid, "uids"), queries.c.workspace_id == workspace_id, queries.c.user_id == user_id
    )
    return list(tx.execute(found, {"uids": list(uids)}).scalars())
