"""
Rows of experiments: what they are called and were called before, who may do what in one, and what belongs to a name.

A name, a number, or a name of before means one experiment of its workspace and no other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from epista.server.stores import recordings
from epista.server.stores.dialects import among
from epista.server.stores.tables import (
    activities,
    assets,
    experiment_names,
    experiment_roles,
    experiment_tags,
    experiments,
    members,
    projects,
    queries,
    tokens,
    users,
)

Row = RowMapping

_KNOWN = select(experiments.c.name, experiments.c.status).where(
    experiments.c.workspace_id == bindparam("workspace_id"), among(experiments.c.name, "names")
)


def known(tx: Connection, workspace_id: int, names: Sequence[str]) -> dict[str, str]:
    """Return the status of each of the experiments that are there."""
    return {row[0]: row[1] for row in tx.execute(_KNOWN, {"workspace_id": workspace_id, "names": names})}


_ELSEWHERE = union_all(
    select(experiments.c.name.label("current"), experiments.c.number.label("called")).where(
        experiments.c.workspace_id == bindparam("workspace_id"),
        among(experiments.c.number, "names"),
        experiments.c.number != experiments.c.name,
    ),
    select(experiments.c.name, experiment_names.c.name)
    .join(experiments, experiments.c.id == experiment_names.c.experiment_id)
    .where(experiment_names.c.workspace_id == bindparam("workspace_id"), among(experiment_names.c.name, "names")),
)


def called(tx: Connection, workspace_id: int, names: Sequence[str]) -> dict[str, str]:
    """Return the name of the experiment for each of *names* that is a number of one, or what it was called before."""
    return {row.called: row.current for row in tx.execute(_ELSEWHERE, {"workspace_id": workspace_id, "names": names})}


_OLD_NAMES = (
    select(experiment_names.c.name, experiments.c.name)
    .join(experiments, experiments.c.id == experiment_names.c.experiment_id)
    .where(experiment_names.c.workspace_id == bindparam("workspace_id"), among(experiment_names.c.name, "names"))
)


def current(tx: Connection, workspace_id: int, names: Collection[str]) -> frozenset[str]:
    """Return the names that experiments have now, for names of which some may be older."""
    older = {row[0]: row[1] for row in tx.execute(_OLD_NAMES, {"workspace_id": workspace_id, "names": sorted(names)})}
    return frozenset(older.get(name, name) for name in names)


def add(tx: Connection, *, workspace_id: int, uids: Mapping[str, str], user_id: int, at: int) -> None:
    """Add experiments that are not there yet, undescribed, by name with their ids."""
    tx.execute(
        insert(experiments),
        [
            {
                "uid": uid,
                "workspace_id": workspace_id,
                "name": name,
                "number": name,
                "title": None,
                "meta": "{}",
                "described": False,
                "created_at": at,
                "created_by": user_id,
            }
            for name, uid in uids.items()
        ],
    )


def change(tx: Connection, experiment_id: int, **values: Any) -> None:
    """Change columns of an experiment."""
    tx.execute(update(experiments).where(experiments.c.id == experiment_id).values(**values))


def set_tags(tx: Connection, experiment_id: int, tags: Sequence[str]) -> None:
    """Say what tags an experiment has."""
    change(tx, experiment_id, tags=json.dumps(tags, ensure_ascii=False))
    tx.execute(delete(experiment_tags).where(experiment_tags.c.experiment_id == experiment_id))
    if tags:
        tx.execute(insert(experiment_tags), [{"experiment_id": experiment_id, "tag": tag} for tag in dict.fromkeys(tags)])


def _is_there() -> ColumnElement[bool]:
    """Whether somebody described it, or it holds a live asset."""
    live = exists().where(
        assets.c.workspace_id == experiments.c.workspace_id,
        assets.c.experiment == experiments.c.name,
        assets.c.deleted_at.is_(None),
    )
    return or_(experiments.c.described, live)


def _held() -> ColumnElement[int]:
    return (
        select(func.count())
        .where(
            assets.c.workspace_id == experiments.c.workspace_id,
            assets.c.experiment == experiments.c.name,
            assets.c.deleted_at.is_(None),
        )
        .scalar_subquery()
    )


def _selected(workspace_id: int, allowed: Collection[str] | None) -> Select[Any]:
    found = (
        select(
            experiments,
            users.c.name.label("author"),
            _held().label("assets"),
            projects.c.name.label("project"),
        )
        .join(users, users.c.id == experiments.c.created_by)
        .join(projects, projects.c.id == experiments.c.project_id, isouter=True)
        .where(experiments.c.workspace_id == workspace_id, _is_there())
    )
    return found if allowed is None else found.where(experiments.c.name.in_(sorted(allowed)))


def get(tx: Connection, workspace_id: int, allowed: Collection[str] | None, ref: str) -> Row | None:
    """Return the experiment of that name, else of that number or id, if it exists for the caller."""
    by = or_(experiments.c.name == ref, experiments.c.number == ref, experiments.c.uid == ref)
    # A name first: whoever described nothing may have called a folder like the id of another.
    found = _selected(workspace_id, allowed).where(by).order_by(experiments.c.name != ref).limit(1)
    return tx.execute(found).mappings().first()


def by_names(tx: Connection, workspace_id: int, names: Sequence[str]) -> dict[str, Row]:
    """Return experiments by their names, also such as hold nothing."""
    found = (
        select(experiments, users.c.name.label("author"), projects.c.name.label("project"), _held().label("assets"))
        .join(users, users.c.id == experiments.c.created_by)
        .join(projects, projects.c.id == experiments.c.project_id, isouter=True)
        .where(experiments.c.workspace_id == workspace_id, among(experiments.c.name, "names"))
    )
    return {row["name"]: row for row in tx.execute(found, {"names": names}).mappings()}


def is_free(tx: Connection, workspace_id: int, name: str, experiment_id: int) -> str | None:
    """Return None if the experiment may be called *name*, else what has that name, or had it: a name, a number or a key."""
    others = or_(experiments.c.name == name, experiments.c.number == name)
    found = select(experiments.c.name).where(experiments.c.workspace_id == workspace_id, others)
    before = (
        select(experiments.c.name)
        .join(experiment_names, experiment_names.c.experiment_id == experiments.c.id)
        .where(experiment_names.c.workspace_id == workspace_id, experiment_names.c.name == name)
    )
    mine = experiments.c.id == experiment_id
    for taken in (found.where(~mine), before.where(~mine)):
        if (other := tx.execute(taken.limit(1)).scalar()) is not None:
            return str(other)
    return None


def key_at(tx: Connection, workspace_id: int, name: str) -> str | None:
    """Return a key at *name* or below that folder, also a deleted one."""
    here = assets.c.workspace_id == workspace_id
    below = select(assets.c.key).where(here, assets.c.key >= name + "/", assets.c.key < name + "0").limit(1)
    at = select(assets.c.key).where(here, assets.c.key == name, assets.c.deleted_at.is_(None))
    found = tx.execute(below).scalar() or tx.execute(at).scalar()
    return None if found is None else str(found)


def longest_keys(tx: Connection, workspace_id: int, name: str, characters: int) -> Iterable[str]:
    """Give the keys of an experiment that have more than so many characters, deleted ones too."""
    found = select(assets.c.key).where(assets.c.workspace_id == workspace_id, assets.c.experiment == name)
    with tx.execute(found.where(func.length(assets.c.key) > characters)) as rows:
        yield from rows.scalars()


def rename(tx: Connection, *, workspace_id: int, experiment_id: int, old: str, new: str) -> None:
    """Call an experiment *new*, with all keys in it, and everything else that names it."""
    rest = len(old) + 1
    mine = assets.c.workspace_id == workspace_id, assets.c.experiment == old
    moved = literal(new).concat(func.substr(assets.c.key, rest))
    tx.execute(update(assets).where(*mine).values(key=moved, experiment=new))
    recordings.rename(tx, workspace_id, old, new)
    row = update(experiments).where(experiments.c.id == experiment_id)
    tx.execute(row.where(experiments.c.number == old).values(number=new))
    tx.execute(row.values(name=new))
    tx.execute(
        delete(experiment_names).where(experiment_names.c.workspace_id == workspace_id, experiment_names.c.name.in_([old, new]))
    )
    tx.execute(insert(experiment_names).values(workspace_id=workspace_id, name=old, experiment_id=experiment_id))
    asked = queries.c.workspace_id == workspace_id, queries.c.experiment == old
    tx.execute(update(queries).where(*asked).values(experiment=new))
    for table, column, here in (
        (members, members.c.experiments, members.c.workspace_id == workspace_id),
        (tokens, tokens.c.experiments, tokens.c.workspace_id == workspace_id),
        (queries, queries.c.within, queries.c.workspace_id == workspace_id),
        (activities, activities.c.within, activities.c.workspace_id == workspace_id),
    ):
        _rename_in(tx, table, column, here, old, new)
    _rename_roles(tx, workspace_id, old, new)


def _rename_in(tx: Connection, table: Any, column: Any, here: ColumnElement[bool], old: str, new: str) -> None:
    """Replace a name in the lists of names that a column keeps as JSON."""
    wanted = select(column).where(here, column.is_not(None)).distinct()
    for document in list(tx.execute(wanted).scalars()):
        names = json.loads(document)
        if old in names:
            changed = json.dumps(sorted({new if name == old else name for name in names}), ensure_ascii=False)
            tx.execute(update(table).where(here, column == document).values({column.name: changed}))


def _rename_roles(tx: Connection, workspace_id: int, old: str, new: str) -> None:
    """Let the keys that metadata of experiments gives as roles of theirs go on to name what they named."""
    described = select(experiments.c.id, experiments.c.meta).where(
        experiments.c.workspace_id == workspace_id, experiments.c.meta.contains('"roles"', autoescape=True)
    )
    for row in list(tx.execute(described)):
        meta = json.loads(row.meta)
        roles = meta.get("roles")
        if not isinstance(roles, dict):
            continue
        renamed = {role: _renamed(value, old, new) for role, value in roles.items()}
        if renamed != roles:
            change(tx, row.id, meta=json.dumps(meta | {"roles": renamed}, ensure_ascii=False))


def _renamed(value: Any, old: str, new: str) -> Any:
    if isinstance(value, list):
        return [_renamed(one, old, new) for one in value]
    is_key = isinstance(value, str) and (value == old or value.startswith(old + "/"))
    return new + value[len(old) :] if is_key else value


def heads_of(tx: Connection, workspace_id: int, name: str) -> tuple[int, int]:
    """Return how many assets an experiment has, and the newest version that is current: what changes if any of them does."""
    found = select(func.count(), func.max(assets.c.head_id)).where(
        assets.c.workspace_id == workspace_id, assets.c.experiment == name, assets.c.deleted_at.is_(None)
    )
    count, newest = tx.execute(found).one()
    return count, newest or 0


# Roles.


def roles_in(tx: Connection, experiment_ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """Return who is what in each experiment, by the name of the user."""
    found = (
        select(experiment_roles.c.experiment_id, users.c.name, experiment_roles.c.role)
        .join(users, users.c.id == experiment_roles.c.user_id)
        .where(among(experiment_roles.c.experiment_id, "ids"))
        .order_by(users.c.name)
    )
    roles: dict[int, dict[str, str]] = {}
    for id, user, role in tx.execute(found, {"ids": experiment_ids}):
        roles.setdefault(id, {})[user] = role
    return roles


def set_role(tx: Connection, *, workspace_id: int, user_id: int, experiment_id: int, role: str | None) -> None:
    """Say what a member is in one experiment; None for nothing more than in the workspace."""
    mine = {"workspace_id": workspace_id, "user_id": user_id, "experiment_id": experiment_id}
    tx.execute(delete(experiment_roles).where(*(experiment_roles.c[name] == value for name, value in mine.items())))
    if role is not None:
        tx.execute(insert(experiment_roles).values(**mine, role=role))


# Projects.


def add_project(tx: Connection, **row: Any) -> None:
    """Add a project."""
    tx.execute(insert(projects).values(**row))


def set_project(tx: Connection, project_id: int, **values: Any) -> None:
    """Change columns of a project."""
    tx.execute(update(projects).where(projects.c.id == project_id).values(**values))


def remove_project(tx: Connection, project_id: int) -> None:
    """Remove a project; its experiments are in none then."""
    tx.execute(update(experiments).where(experiments.c.project_id == project_id).values(project_id=None))
    tx.execute(delete(projects).where(projects.c.id == project_id))


def project(tx: Connection, workspace_id: int, allowed: Collection[str] | None, name: str) -> Row | None:
    """Return a project, if it exists for the caller."""
    return tx.execute(_projects(workspace_id, allowed).where(projects.c.name == name)).mappings().first()


def project_called(tx: Connection, workspace_id: int, name: str) -> bool:
    """Whether there is a project of that name, for anybody."""
    found = select(projects.c.id).where(projects.c.workspace_id == workspace_id, projects.c.name == name)
    return tx.execute(found).first() is not None


def project_page(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, *, after: str | None, limit: int
) -> list[Row]:
    """Return projects by name, each with how many experiments it holds for the caller."""
    found = _projects(workspace_id, allowed)
    if after is not None:
        found = found.where(projects.c.name > after)
    return list(tx.execute(found.order_by(projects.c.name).limit(limit)).mappings())


def _projects(workspace_id: int, allowed: Collection[str] | None) -> Select[Any]:
    here = [experiments.c.project_id == projects.c.id, _is_there()]
    if allowed is not None:
        here.append(experiments.c.name.in_(sorted(allowed)))
    held = select(func.count()).select_from(experiments).where(*here).scalar_subquery()
    found = select(projects, users.c.name.label("author"), held.label("experiments")).join(
        users, users.c.id == projects.c.created_by
    )
    found = found.where(projects.c.workspace_id == workspace_id)
    # To whoever sees some experiments only, a project is there if one of these is in it.
    return found if allowed is None else found.where(held > 0)
