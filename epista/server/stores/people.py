"""Rows of users, workspaces, members and tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, delete, func, insert, or_, select, update

from epista.server.stores.tables import experiment_roles, experiments, inserted, members, tokens, users, workspaces

# What every request asks is written once: to put a statement together costs more than SQLite takes to answer it.
_ROLES = (
    select(func.aggregate_strings(experiment_roles.c.role.concat("/").concat(experiments.c.name), "\n"))
    .join(experiments, experiments.c.id == experiment_roles.c.experiment_id)
    .where(experiment_roles.c.workspace_id == members.c.workspace_id, experiment_roles.c.user_id == members.c.user_id)
    .scalar_subquery()
)
_MEMBERSHIP = (
    select(workspaces, members.c.role, members.c.experiments, _ROLES.label("roles"))
    .join(members, members.c.workspace_id == workspaces.c.id)
    .where(
        members.c.user_id == bindparam("user_id"),
        or_(workspaces.c.name == bindparam("name"), workspaces.c.uid == bindparam("name")),
    )
)
_TOKEN = (
    select(tokens, users.c.name.label("user"), users.c.is_lab_admin, workspaces.c.name.label("workspace"))
    .join(users, users.c.id == tokens.c.user_id)
    .join(workspaces, workspaces.c.id == tokens.c.workspace_id, isouter=True)
    .where(tokens.c.hash == bindparam("hash"))
)
_REVOKED_AT = select(tokens.c.revoked_at).where(tokens.c.id == bindparam("id"))


def loaded(text: str | None) -> frozenset[str] | None:
    """Return a kept JSON list as a set; None stays None."""
    return None if text is None else frozenset(json.loads(text))


def roles(text: str | None) -> dict[str, str]:
    """Return what a member is in single experiments, by their names, of a row of `membership`."""
    pairs = (line.partition("/") for line in text.split("\n")) if text else ()
    return {name: role for role, _, name in pairs}


def dumped(names: Iterable[str] | None) -> str | None:
    """Return names as they are kept."""
    return None if names is None else json.dumps(sorted(set(names)), ensure_ascii=False)


def add_user(tx: Connection, *, uid: str, name: str, is_lab_admin: bool, at: int) -> int:
    """Add a user; return the row's id."""
    row = insert(users).values(uid=uid, name=name, is_lab_admin=is_lab_admin, created_at=at)
    return inserted(tx.execute(row))


def user(tx: Connection, name: str) -> RowMapping | None:
    """Return the user called *name*."""
    return tx.execute(select(users).where(users.c.name == name)).mappings().first()


def first_lab_admin(tx: Connection) -> RowMapping | None:
    """Return the user who made the lab."""
    return tx.execute(select(users).where(users.c.is_lab_admin).order_by(users.c.id).limit(1)).mappings().first()


def add_workspace(tx: Connection, *, uid: str, name: str, at: int) -> int:
    """Add a workspace; return the row's id."""
    return inserted(tx.execute(insert(workspaces).values(uid=uid, name=name, created_at=at)))


def workspace(tx: Connection, name: str) -> RowMapping | None:
    """Return the workspace whose name or id is *name*."""
    found = select(workspaces).where(or_(workspaces.c.name == name, workspaces.c.uid == name))
    return tx.execute(found).mappings().first()


def membership(tx: Connection, user_id: int, name: str) -> RowMapping | None:
    """Return the workspace whose name or id is *name*, with what the user is in it."""
    return tx.execute(_MEMBERSHIP, {"user_id": user_id, "name": name}).mappings().first()


def memberships(tx: Connection, user_id: int) -> list[RowMapping]:
    """Return the user's workspaces by name, with what the user is in each."""
    found = (
        select(workspaces, members.c.role, members.c.experiments)
        .join(members, members.c.workspace_id == workspaces.c.id)
        .where(members.c.user_id == user_id)
        .order_by(workspaces.c.name)
    )
    return list(tx.execute(found).mappings())


def members_of(tx: Connection, workspace_id: int) -> list[RowMapping]:
    """Return the members of a workspace by name."""
    found = (
        select(users.c.id, users.c.name, members.c.role, members.c.experiments)
        .join(users, users.c.id == members.c.user_id)
        .where(members.c.workspace_id == workspace_id)
        .order_by(users.c.name)
    )
    return list(tx.execute(found).mappings())


def set_member(tx: Connection, *, workspace_id: int, user_id: int, role: str, experiments: Iterable[str] | None) -> None:
    """Make a user a member, or change what the member is."""
    tx.execute(delete(members).where(members.c.workspace_id == workspace_id, members.c.user_id == user_id))
    tx.execute(insert(members).values(workspace_id=workspace_id, user_id=user_id, role=role, experiments=dumped(experiments)))


def remove_member(tx: Connection, *, workspace_id: int, user_id: int) -> None:
    """End a membership, and what the member is in single experiments."""
    mine = experiment_roles.c.workspace_id == workspace_id, experiment_roles.c.user_id == user_id
    tx.execute(delete(experiment_roles).where(*mine))
    tx.execute(delete(members).where(members.c.workspace_id == workspace_id, members.c.user_id == user_id))


def add_token(tx: Connection, **row: Any) -> None:
    """Add a token."""
    tx.execute(insert(tokens).values(**row))


def token(tx: Connection, digest: str) -> RowMapping | None:
    """Return the token with that hash, its user, and the name of its workspace."""
    return tx.execute(_TOKEN, {"hash": digest}).mappings().first()


def token_called(tx: Connection, uid: str) -> RowMapping | None:
    """Return the token with that id, and its user."""
    found = (
        select(tokens, users.c.name.label("user"), users.c.is_lab_admin)
        .join(users, users.c.id == tokens.c.user_id)
        .where(tokens.c.uid == uid)
    )
    return tx.execute(found).mappings().first()


def tokens_of(tx: Connection, user_id: int, *, of: int | None = None) -> list[RowMapping]:
    """
    Return the personal and kernel tokens of a user, newest first, with the names of their workspaces.

    With *of*, only that token and what was made with it.
    """
    found = (
        select(tokens, workspaces.c.name.label("workspace"))
        .join(workspaces, workspaces.c.id == tokens.c.workspace_id, isouter=True)
        .where(tokens.c.user_id == user_id, tokens.c.kind != "link")
        .order_by(tokens.c.id.desc())
    )
    if of is not None:
        found = found.where(tokens.c.id.in_(_made_with(of)))
    return list(tx.execute(found).mappings())


def revoke(tx: Connection, token_id: int, at: int) -> None:
    """End a token, and every token that was made with it or renews it."""
    ended = update(tokens).where(tokens.c.id.in_(_made_with(token_id)), tokens.c.revoked_at.is_(None)).values(revoked_at=at)
    tx.execute(ended)


def is_revoked(tx: Connection, token_id: int) -> bool:
    """Whether a token was ended before its time."""
    return tx.execute(_REVOKED_AT, {"id": token_id}).scalar() is not None


def is_line_revoked(tx: Connection, token_id: int) -> bool:
    """Whether a token, or a kernel token that was made with it, such as its renewal, was ended before its time."""
    line = tokens.c.id.in_(_made_with(token_id)), or_(tokens.c.id == token_id, tokens.c.kind == "kernel")
    return tx.execute(select(tokens.c.id).where(*line, tokens.c.revoked_at.is_not(None)).limit(1)).first() is not None


def _made_with(token_id: int) -> Select[Any]:
    """Select a token and all that were made with it, or with those."""
    made = select(tokens.c.id).where(tokens.c.id == token_id).cte(recursive=True)
    made = made.union_all(select(tokens.c.id).join(made, tokens.c.parent_id == made.c.id))
    return select(made.c.id)


def live_sign_ins(tx: Connection, user_id: int, at: int) -> int:
    """Count the personal tokens with which the user can still get in."""
    found = select(func.count()).where(
        tokens.c.user_id == user_id,
        tokens.c.kind == "personal",
        tokens.c.revoked_at.is_(None),
        or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > at),
    )
    return int(tx.execute(found).scalar_one())
