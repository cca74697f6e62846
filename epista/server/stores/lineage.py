"""
Steps from versions to what they came from, and to what came of them.

Each step is one statement. What the caller may not read, and what was erased, is null, and stands once beside each node, so that
no number of it leaves the database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    RowMapping,
    Select,
    Subquery,
    case,
    cast,
    null,
    or_,
    select,
    union_all,
)

from epista.server.stores.assets import visible
from epista.server.stores.dialects import among
from epista.server.stores.tables import (
    activities,
    activity_inputs,
    activity_queries,
    assets,
    queries,
    query_inputs,
    users,
    version_inputs,
    versions,
)

_NONE = cast(null(), Integer)


class Step(NamedTuple):
    """From one node to a neighbour."""

    id: int
    """The node."""
    version: int | None
    """The neighbour, if it is a version that the caller may read."""
    activity: int | None
    """The neighbour, if it is an activity, or what is between the two; neither, if it is nothing that the caller may read."""


def into_versions(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int], limit: int
) -> list[Step]:
    """Return what versions were made from directly, and by which activities."""
    stated = select(
        version_inputs.c.version_id.label("node"), version_inputs.c.input_id.label("version"), _NONE.label("activity")
    ).where(among(version_inputs.c.version_id, "ids"))
    made = select(versions.c.id, _NONE, versions.c.activity_id).where(
        among(versions.c.id, "ids"), versions.c.activity_id.is_not(None)
    )
    gone = select(versions.c.id, _NONE, _NONE).where(among(versions.c.id, "ids"), versions.c.gone_inputs > 0)
    found = _seen(union_all(stated, made, gone), visible(workspace_id, allowed))
    return _steps(tx, found, ids, limit, restricted=True)


def into_activities(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int], limit: int
) -> list[Step]:
    """Return what activities had read, or asked for."""
    read = select(
        activity_inputs.c.activity_id.label("node"), activity_inputs.c.version_id.label("version"), _NONE.label("activity")
    ).where(among(activity_inputs.c.activity_id, "ids"))
    mine = select(activity_queries.c.activity_id, query_inputs.c.version_id, _NONE).where(
        among(activity_queries.c.activity_id, "ids")
    )
    asked = mine.join(query_inputs, query_inputs.c.query_id == activity_queries.c.query_id)
    gone = select(activities.c.id, _NONE, _NONE).where(among(activities.c.id, "ids"), activities.c.gone_inputs > 0)
    unasked = select(activity_queries.c.activity_id, _NONE, _NONE).where(among(activity_queries.c.activity_id, "ids"))
    lost = unasked.join(queries, queries.c.id == activity_queries.c.query_id).where(queries.c.gone_inputs > 0)
    found = _seen(union_all(read, asked, gone, lost), visible(workspace_id, allowed))
    return _steps(tx, found, ids, limit, restricted=True)


def out_of_versions(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int], limit: int
) -> list[Step]:
    """Return what was made from stated versions, by what, and the activities that had read them and made what may be read."""
    stated = (
        select(version_inputs.c.input_id.label("node"), versions.c.id.label("version"), versions.c.activity_id.label("activity"))
        .join(versions, versions.c.id == version_inputs.c.version_id)
        .where(among(version_inputs.c.input_id, "ids"))
    )
    read = select(activity_inputs.c.version_id, _NONE, activity_inputs.c.activity_id).where(
        among(activity_inputs.c.version_id, "ids"), _shown(activity_inputs.c.activity_id, workspace_id, allowed)
    )
    asked = (
        select(query_inputs.c.version_id, _NONE, activity_queries.c.activity_id)
        .join(activity_queries, activity_queries.c.query_id == query_inputs.c.query_id)
        .where(among(query_inputs.c.version_id, "ids"), _shown(activity_queries.c.activity_id, workspace_id, allowed))
    )
    found = _seen(union_all(stated, read, asked), visible(workspace_id, allowed))
    return _steps(tx, found, ids, limit, restricted=False)


def out_of_activities(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int], limit: int
) -> list[Step]:
    """Return the versions that activities made, as far as the caller may read them."""
    made = select(versions.c.activity_id.label("node"), versions.c.id.label("version"), _NONE.label("activity"))
    found = _seen(made.where(among(versions.c.activity_id, "ids")), visible(workspace_id, allowed))
    return _steps(tx, found, ids, limit, restricted=False)


def nodes(tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int]) -> list[RowMapping]:
    """Return versions as nodes of a graph, as far as the caller may read them."""
    columns = [versions.c[name] for name in ("id", "uid", "number", "kind", "format", "created_at", "notebook")]
    found = (
        select(*columns, assets.c.key, assets.c.deleted_at, users.c.name.label("author"))
        .join(assets, assets.c.id == versions.c.asset_id)
        .join(users, users.c.id == versions.c.author_id)
        .where(among(versions.c.id, "ids"), visible(workspace_id, allowed))
        .order_by(versions.c.id)
    )
    return list(tx.execute(found, {"ids": list(ids)}).mappings())


def _shown(activity_id: ColumnElement[int], workspace_id: int, allowed: Collection[str] | None) -> ColumnElement[bool]:
    """The filter for activities that made anything that the caller may read."""
    made = select(versions.c.id).join(assets, assets.c.id == versions.c.asset_id)
    return made.where(versions.c.activity_id == activity_id, visible(workspace_id, allowed)).exists()


def _seen(pairs: Select[Any] | CompoundSelect[Any], is_visible: ColumnElement[bool]) -> Subquery:
    """Return the pairs of ``node, version, activity``, each once, with null for versions that the caller may not read."""
    every = pairs.subquery()
    # Joined from the pairs outwards: SQLite would rather walk through the whole workspace.
    known = every.outerjoin(versions, versions.c.id == every.c.version).outerjoin(assets, assets.c.id == versions.c.asset_id)
    version = case((is_visible, every.c.version)).label("version")
    activity = case((or_(every.c.version.is_(None), is_visible), every.c.activity)).label("activity")
    return select(every.c.node, version, activity).select_from(known).distinct().subquery()


def _steps(tx: Connection, found: Subquery, ids: Sequence[int], limit: int, *, restricted: bool) -> list[Step]:
    """Return *limit* pairs: what is restricted first, for of that there is one at most for each node; then the newest."""
    is_known = or_(found.c.version.is_not(None), found.c.activity.is_not(None))
    chosen = select(found.c.node, found.c.version, found.c.activity)
    if not restricted:
        chosen = chosen.where(is_known)
    chosen = chosen.order_by(case((is_known, 1), else_=0), found.c.version.desc(), found.c.activity.desc(), found.c.node)
    return [Step(*row) for row in tx.execute(chosen.limit(limit), {"ids": list(ids)})]
