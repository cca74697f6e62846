"""
Rows of what names say: which folders and assets belong to one recording, and the search for experiments over them.

A row stays when nothing lives at its key any more: whether something does is asked of the assets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    update,
)

from epista.server.stores.assets import starting_with, visible
from epista.server.stores.dialects import add as add_rows
from epista.server.stores.dialects import among
from epista.server.stores.tables import (
    assets,
    experiment_tags,
    experiments,
    projects,
    recordings,
    users,
    versions,
    workspaces,
)

NOWHEN = 2**62
"""Where those stand in the order that tell of no time: after all others."""

_RANK = 5
"""How many characters of a rank stand before a key."""


class Asked(NamedTuple):
    """Which experiments are searched for; texts as rows have them, in one case."""

    subject: str | None = None
    platform: str | None = None
    convention: str | None = None
    label: str | None = None
    since: int | None = None
    until: int | None = None
    near: tuple[int, int] | None = None
    tags: Sequence[str] = ()
    prefix: str | None = None
    project: str | None = None
    status: str | None = None


def conventions(tx: Connection, workspace_id: int) -> str | None:
    """Return the digest of the conventions by which the rows of a workspace were made; None before they were."""
    return tx.execute(select(workspaces.c.conventions).where(workspaces.c.id == workspace_id)).scalar()


def set_conventions(tx: Connection, workspace_id: int, digest: str) -> None:
    """Record by which conventions the rows of a workspace are made."""
    tx.execute(update(workspaces).where(workspaces.c.id == workspace_id).values(conventions=digest))


def add(tx: Connection, workspace_id: int, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows at keys that have none; the others stay."""
    if not rows:
        return
    wanted = select(recordings.c.key).where(recordings.c.workspace_id == workspace_id, among(recordings.c.key, "keys"))
    known = set(tx.execute(wanted, {"keys": [row["key"] for row in rows]}).scalars())
    add_rows(tx, recordings, [{"workspace_id": workspace_id, **row} for row in rows if row["key"] not in known])


def clear(tx: Connection, workspace_id: int) -> None:
    """Remove every row of a workspace."""
    tx.execute(delete(recordings).where(recordings.c.workspace_id == workspace_id))


def keys_of(tx: Connection, workspace_id: int) -> Iterator[list[tuple[str, int]]]:
    """Give all keys, of deleted assets too, each with when its first version was made, in pages."""
    made = select(func.min(versions.c.created_at)).where(versions.c.asset_id == assets.c.id).scalar_subquery()
    last = ""
    while True:
        found = select(assets.c.key, made).where(assets.c.workspace_id == workspace_id, assets.c.key > last)
        page = [(row[0], row[1]) for row in tx.execute(found.order_by(assets.c.key).limit(10_000))]
        if not page:
            return
        yield page
        last = page[-1][0]


def experiments_of(tx: Connection, workspace_id: int) -> list[tuple[str, int]]:
    """Return the names of all experiments, with when they were made."""
    found = select(experiments.c.name, experiments.c.created_at).where(experiments.c.workspace_id == workspace_id)
    return [(row[0], row[1]) for row in tx.execute(found)]


def rename(tx: Connection, workspace_id: int, old: str, new: str) -> None:
    """Let the rows below an experiment's folder be of another name; that of the folder itself is for the caller to add."""
    mine = recordings.c.workspace_id == workspace_id, recordings.c.experiment == old
    tx.execute(delete(recordings).where(*mine, recordings.c.key == old))
    moved = literal(new).concat(func.substr(recordings.c.key, len(old) + 1))
    tx.execute(update(recordings).where(*mine).values(key=moved, experiment=new))


def forget(tx: Connection, workspace_id: int, keys: Sequence[str]) -> None:
    """Remove what is said by those of *keys* at which, and below which, there is no asset any more, not even a deleted one."""
    here = assets.c.workspace_id == recordings.c.workspace_id
    there = or_(exists().where(here, assets.c.key == recordings.c.key), exists().where(here, *_below(recordings)))
    gone = delete(recordings).where(recordings.c.workspace_id == workspace_id, among(recordings.c.key, "keys"), ~there)
    tx.execute(gone, {"keys": list(keys)})


def _below(at: FromClause) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return assets.c.key > at.c.key.concat("/"), assets.c.key < at.c.key.concat("0")


def _lives(at: FromClause) -> ColumnElement[bool]:
    """Whether a live asset stands at a key, or below it as a folder."""
    here = assets.c.workspace_id == at.c.workspace_id, assets.c.deleted_at.is_(None)
    return or_(
        exists().where(*here, assets.c.key == at.c.key),
        exists().where(*here, *_below(at)),
    )


def _seen(workspace_id: int, allowed: Collection[str] | None) -> list[ColumnElement[bool]]:
    seen = [recordings.c.workspace_id == workspace_id]
    if allowed is not None:
        seen.append(recordings.c.experiment.in_(sorted(allowed)))
    return seen


def _there(workspace_id: int) -> ColumnElement[bool]:
    """Whether something lives at the key of a row, or it is an experiment that somebody described."""
    described = exists().where(
        experiments.c.workspace_id == workspace_id, experiments.c.name == recordings.c.key, experiments.c.described
    )
    return or_(_lives(recordings), described)


class Position(NamedTuple):
    """Where a page ended."""

    started: int
    subject: str
    main: str


def page(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, asked: Asked, *, after: Position | None, limit: int
) -> list[RowMapping]:
    """
    Return recordings and experiments: ``recording, started, subject, main``, by time, subject and key of their main name.

    Every member of a recording that the caller may read counts: one of them has the platform, one the label.
    """
    row = recordings.c
    grouped = (
        select(
            row.recording,
            func.coalesce(func.min(row.started), literal(NOWHEN)).label("started"),
            func.coalesce(func.min(row.subject), "").label("subject"),
            func.min(row.rank.concat(row.key)).label("ranked"),
        )
        .where(*_seen(workspace_id, allowed), _there(workspace_id))
        .group_by(row.recording)
    )
    # What all names of a recording share may narrow the rows; what one of them has, only the groups.
    if asked.subject is not None:
        grouped = grouped.where(row.subject == asked.subject)
    if asked.since is not None:
        grouped = grouped.where(row.started >= asked.since)
    if asked.until is not None:
        grouped = grouped.where(row.started <= asked.until)
    if asked.near is not None:
        grouped = grouped.where(row.started.between(*asked.near))
    for column, value in ((row.platform, asked.platform), (row.convention, asked.convention), (row.label, asked.label)):
        if value is not None:
            grouped = grouped.having(func.max(case((column == value, 1), else_=0)) == 1)
    groups = grouped.subquery()
    main = func.substr(groups.c.ranked, _RANK + 1).label("main")
    found = select(groups.c.recording, groups.c.started, groups.c.subject, main).select_from(groups)
    about = and_(experiments.c.workspace_id == workspace_id, experiments.c.name == main)
    for tag in asked.tags:
        tagged = exists().where(experiment_tags.c.experiment_id == experiments.c.id, experiment_tags.c.tag == tag)
        found = found.where(exists().where(about, tagged))
    if asked.status is not None:
        found = found.where(exists().where(about, experiments.c.status == asked.status))
    if asked.project is not None:
        named = and_(projects.c.workspace_id == workspace_id, projects.c.name == asked.project)
        found = found.where(exists().where(about, experiments.c.project_id == projects.c.id, named))
    if asked.prefix:
        found = found.where(func.substr(main, 1, len(asked.prefix)) == asked.prefix)
    if after is not None:
        found = found.where(_beyond((groups.c.started, groups.c.subject, main), after))
    found = found.order_by(groups.c.started, groups.c.subject, main).limit(limit)
    return list(tx.execute(found).mappings())


def _beyond(columns: Sequence[ColumnElement[Any]], after: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a row comes after a position, in the order of *columns*."""
    (first, *others), (value, *values) = columns, after
    return or_(first > value, and_(first == value, _beyond(others, values)) if others else false())


def members(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, wanted: Sequence[str], *, limit: int | None = None
) -> list[RowMapping]:
    """Return the names of recordings under which something lives that the caller may read, the main name of each first."""
    found = select(recordings).where(*_seen(workspace_id, allowed), among(recordings.c.recording, "wanted"), _there(workspace_id))
    found = found.order_by(recordings.c.recording, recordings.c.rank, recordings.c.key)
    return list(tx.execute(found if limit is None else found.limit(limit), {"wanted": list(wanted)}).mappings())


def at_keys(tx: Connection, workspace_id: int, allowed: Collection[str] | None, keys: Sequence[str]) -> list[RowMapping]:
    """Return what is said by those of the names at *keys* at which something lives that the caller may read."""
    found = select(recordings).where(*_seen(workspace_id, allowed), among(recordings.c.key, "keys"), _there(workspace_id))
    return list(tx.execute(found, {"keys": list(keys)}).mappings())


def values(tx: Connection, workspace_id: int, allowed: Collection[str] | None, field: str) -> list[str]:
    """Return the different platforms, labels or conventions of what the caller may read."""
    column = recordings.c[field]
    found = select(column).where(*_seen(workspace_id, allowed), column.is_not(None), _there(workspace_id)).distinct()
    return sorted(tx.execute(found).scalars())


def folders(tx: Connection, workspace_id: int, allowed: Collection[str] | None) -> Iterator[str]:
    """Give the keys of all names that say something."""
    found = select(recordings.c.key).where(*_seen(workspace_id, allowed), recordings.c.parsed.is_not(None))
    with tx.execute(found) as rows:
        yield from rows.scalars()


def parsed(tx: Connection, names: dict[str, int]) -> dict[str, str | None]:
    """Return what the names of experiments say, each given with its workspace."""
    found = select(recordings.c.key, recordings.c.parsed).where(among(recordings.c.key, "names"))
    found = found.where(recordings.c.workspace_id.in_(set(names.values())))
    return {row[0]: row[1] for row in tx.execute(found, {"names": list(names)})}


def _at_or_below(workspace_id: int, allowed: Collection[str] | None, key: str) -> list[ColumnElement[bool]]:
    here = or_(assets.c.key == key, starting_with(key + "/"))
    return [visible(workspace_id, allowed), assets.c.deleted_at.is_(None), here]


def held(tx: Connection, workspace_id: int, allowed: Collection[str] | None, key: str) -> int:
    """Count the live assets at a key, and below it."""
    return int(tx.execute(select(func.count()).where(*_at_or_below(workspace_id, allowed, key))).scalar_one())


def author(tx: Connection, workspace_id: int, allowed: Collection[str] | None, key: str) -> str:
    """Return who made the current version of the first asset at a key, or below it."""
    found = select(users.c.name).join(versions, versions.c.author_id == users.c.id)
    found = found.join(assets, assets.c.head_id == versions.c.id).where(*_at_or_below(workspace_id, allowed, key))
    return str(tx.execute(found.order_by(assets.c.key).limit(1)).scalar() or "")


def oldest(tx: Connection, workspace_id: int, folder: str) -> int:
    """Return when the first of the current versions below a folder was made."""
    below = select(func.min(versions.c.created_at)).join(assets, assets.c.head_id == versions.c.id)
    return int(tx.execute(below.where(*_at_or_below(workspace_id, None, folder))).scalar() or 0)
