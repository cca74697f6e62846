"""
How much each workspace holds, counted as it changes.

Counters, because a quota is asked about in every commit: summing over a million versions there would take a second.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Column, Connection, RowMapping, and_, bindparam, exists, func, not_, or_, select, update

from epista.server.stores.assets import visible
from epista.server.stores.dialects import among
from epista.server.stores.tables import assets, blobs, table_parts, versions, workspaces

_COUNTED = [workspaces.c[name] for name in ("name", "stored_bytes", "assets", "versions", "max_bytes", "max_assets")]


_ADD = (
    update(workspaces)
    .where(workspaces.c.id == bindparam("workspace_id"))
    .values({name: workspaces.c[name] + bindparam(f"more_{name}") for name in ("stored_bytes", "assets", "versions")})
    .returning(*_COUNTED)
)
_HERE = (
    exists()
    .where(versions.c.blob_id == blobs.c.id, versions.c.asset_id == assets.c.id)
    .where(assets.c.workspace_id == bindparam("workspace_id"))
)
_IN_TABLE = (
    exists()
    .where(table_parts.c.part_id == blobs.c.id, versions.c.blob_id == table_parts.c.blob_id)
    .where(versions.c.asset_id == assets.c.id, assets.c.workspace_id == bindparam("workspace_id"))
)
_KEPT = and_(blobs.c.root.is_(None), blobs.c.sha256.is_not(None))
"""What takes room: no linked files, and of tables of several files those."""
_FRESH_BYTES = select(func.sum(blobs.c.size)).where(among(blobs.c.id, "ids"), _KEPT, not_(_HERE), not_(_IN_TABLE))
_PARTS = select(table_parts.c.part_id).where(among(table_parts.c.blob_id, "ids"))

_OF_WORKSPACE = select(*_COUNTED).where(workspaces.c.id == bindparam("workspace_id"))

_HELD = select(blobs.c.sha256).where(blobs.c.root.is_(None), among(blobs.c.sha256, "sha256"), _HERE)


def fresh_bytes(tx: Connection, workspace_id: int, blob_ids: Collection[int]) -> int:
    """Return the size of those contents, and of their parts, that no version of the workspace has; linked ones take no room."""
    ids = sorted(set(blob_ids))
    ids += tx.execute(_PARTS, {"ids": ids}).scalars()
    return int(tx.execute(_FRESH_BYTES, {"workspace_id": workspace_id, "ids": ids}).scalar() or 0)


def held(tx: Connection, workspace_id: int, sha256: Sequence[str]) -> set[str]:
    """Return those of the contents that versions of the workspace have."""
    given = {"workspace_id": workspace_id, "sha256": list(sha256)}
    return set(tx.execute(_HELD, given).scalars())


def add(tx: Connection, workspace_id: int, *, stored_bytes: int = 0, assets: int = 0, versions: int = 0) -> RowMapping:
    """Count some more, or fewer; return what there is now, and what there may be."""
    more = {"more_stored_bytes": stored_bytes, "more_assets": assets, "more_versions": versions}
    return tx.execute(_ADD, {"workspace_id": workspace_id, **more}).mappings().one()


def of_workspace(tx: Connection, workspace_id: int) -> RowMapping:
    """Return the counters and the quota of a workspace."""
    return tx.execute(_OF_WORKSPACE, {"workspace_id": workspace_id}).mappings().one()


def of_lab(tx: Connection) -> list[RowMapping]:
    """Return the counters and quotas of all workspaces, with their names, the largest first."""
    return list(tx.execute(select(*_COUNTED).order_by(workspaces.c.stored_bytes.desc(), workspaces.c.name)).mappings())


def contents(tx: Connection) -> tuple[int, int]:
    """Return how many contents the lab keeps itself, and their bytes."""
    counted = select(func.count(), func.coalesce(func.sum(blobs.c.size), 0)).where(_KEPT)
    count, size = tx.execute(counted.select_from(blobs)).one()
    return int(count), int(size)


def set_quota(tx: Connection, workspace_id: int, *, max_bytes: int | None, max_assets: int | None) -> None:
    """Limit a workspace."""
    tx.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(max_bytes=max_bytes, max_assets=max_assets))


def recounted(tx: Connection, workspace_id: int, allowed: Collection[str] | None) -> tuple[int, int, int]:
    """Count what is visible of a workspace anew: stored bytes, live assets and versions."""
    seen = visible(workspace_id, allowed)
    needed = select(versions.c.blob_id).join(assets, assets.c.id == versions.c.asset_id).where(seen)
    parts = select(table_parts.c.part_id).where(table_parts.c.blob_id.in_(needed))
    sizes = select(func.coalesce(func.sum(blobs.c.size), 0)).where(or_(blobs.c.id.in_(needed), blobs.c.id.in_(parts)), _KEPT)
    stored = tx.execute(sizes).scalar_one()
    live = tx.execute(select(func.count()).select_from(assets).where(seen, assets.c.deleted_at.is_(None))).scalar_one()
    of_assets = select(func.count()).select_from(versions.join(assets, assets.c.id == versions.c.asset_id)).where(seen)
    return int(stored), int(live), int(tx.execute(of_assets).scalar_one())


def by_experiment(tx: Connection, workspace_id: int, allowed: Collection[str] | None) -> Sequence[RowMapping]:
    """Return what each experiment has of the live assets: ``name, assets, size``, the largest first."""
    return _shares(tx, assets.c.experiment, workspace_id, allowed)


def by_kind(tx: Connection, workspace_id: int, allowed: Collection[str] | None) -> Sequence[RowMapping]:
    """Return the same of each kind."""
    return _shares(tx, assets.c.kind, workspace_id, allowed)


def _shares(tx: Connection, column: Column[str], workspace_id: int, allowed: Collection[str] | None) -> Sequence[RowMapping]:
    size = func.sum(blobs.c.size)
    found = (
        select(column.label("name"), func.count().label("assets"), size.label("size"))
        .select_from(assets.join(versions, versions.c.id == assets.c.head_id).join(blobs, blobs.c.id == versions.c.blob_id))
        .where(visible(workspace_id, allowed), assets.c.deleted_at.is_(None))
        .group_by(column)
        .order_by(size.desc(), column)
    )
    return tx.execute(found).mappings().all()
