"""Rows of experiments."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, and_, bindparam, func, insert, or_, select, update

from epista.server.stores.dialects import among
from epista.server.stores.tables import assets, experiments, users

Row = RowMapping


_KNOWN = select(experiments.c.name).where(
    experiments.c.workspace_id == bindparam("workspace_id"), among(experiments.c.name, "names")
)


def ensure(tx: Connection, *, workspace_id: int, names: Sequence[str], user_id: int, at: int) -> None:
    """Add the experiments that are not there yet, undescribed."""
    wanted = list(dict.fromkeys(names))
    known = set(tx.execute(_KNOWN, {"workspace_id": workspace_id, "names": wanted}).scalars())
    new = [
        {
            "workspace_id": workspace_id,
            "name": name,
            "number": name,
            "title": None,
            "meta": "{}",
            "described": False,
            "created_at": at,
            "created_by": user_id,
        }
        for name in wanted
        if name not in known
    ]
    if new:
        tx.execute(insert(experiments), new)


def describe(tx: Connection, *, workspace_id: int, name: str, title: str | None, meta: str, user_id: int, at: int) -> bool:
    """Describe an experiment, added if it is not there; return False if it is described already."""
    ensure(tx, workspace_id=workspace_id, names=[name], user_id=user_id, at=at)
    row = update(experiments).where(
        experiments.c.workspace_id == workspace_id, experiments.c.name == name, experiments.c.described.is_(False)
    )
    return tx.execute(row.values(title=title, meta=meta, described=True, created_at=at, created_by=user_id)).rowcount == 1


def page(
    tx: Connection,
    workspace_id: int,
    allowed: Collection[str] | None,
    *,
    after: str | None,
    limit: int,
    name: str | None = None,
) -> list[Row]:
    """Return experiments by name, each with its author and how many live assets it holds."""
    held = (
        select(func.count())
        .where(
            assets.c.workspace_id == experiments.c.workspace_id,
            assets.c.experiment == experiments.c.name,
            assets.c.deleted_at.is_(None),
        )
        .scalar_subquery()
    )
    found = (
        select(experiments, users.c.name.label("author"), held.label("assets"))
        .join(users, users.c.id == experiments.c.created_by)
        .where(and_(experiments.c.workspace_id == workspace_id, or_(experiments.c.described, held > 0)))
    )
    if allowed is not None:
        found = found.where(experiments.c.name.in_(sorted(allowed)))
    if name is not None:
        found = found.where(experiments.c.name == name)
    if after is not None:
        found = found.where(experiments.c.name > after)
    return list(tx.execute(found.order_by(experiments.c.name).limit(limit)).mappings())
