"""
Who may do what: this one screen answers it.

    scope    the token must have it, and besides the user must be
    any      - anybody with a valid token; in a workspace, a member
    tokens   - anybody; what is made or seen are one's own tokens
    read     viewer of the workspace
    write    editor of the workspace
    admin    admin of the workspace
    lab      manager of the lab

A member, and a token, may be restricted to experiments; both restrictions hold. Then assets of other experiments, and those
at the root of the workspace, do not exist for the caller. A workspace that one is no member of does not exist either.

A member may be more in one experiment than in the workspace. This role adds, and takes nothing away; a token's restriction holds
all the same:

    viewer   reads it, also if restricted to others
    editor   writes in it, describes, renames and archives it
    owner    also says who is what in it, as admins of the workspace do

In an experiment that is archived nobody writes. Projects are made, described and removed by whoever may write everywhere; an
experiment is moved between them by whoever may write in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from epista.contract import keys
from epista.contract.errors import ForbiddenError, NotFoundError
from epista.contract.scopes import ROLES
from epista.server.access.actors import Actor

LEAST_ROLE = {"any": "viewer", "read": "viewer", "write": "editor", "admin": "admin"}
"""The least role in a workspace that each scope needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """What the catalog says of a user in a workspace."""

    workspace_id: int
    workspace_uid: str
    workspace: str
    role: str
    experiments: AbstractSet[str] | None
    roles: Mapping[str, str] = field(default_factory=dict)
    """What the member is in single experiments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """What an actor may do in a workspace, decided."""

    workspace_id: int
    workspace_uid: str
    workspace: str
    role: str
    experiments: AbstractSet[str] | None
    """The experiments that exist for the actor; None for everything, the root included."""
    writable: AbstractSet[str] | None = frozenset()
    """Those in which the actor may write; None for everything, the root included."""
    owned: AbstractSet[str] | None = frozenset()
    """Those in which the actor says who is what; None for all."""

    def sees(self, key: str) -> bool:
        """Whether an asset at *key* exists for the actor."""
        return self.experiments is None or keys.experiment_of(key) in self.experiments

    def require_key(self, key: str) -> None:
        """Refuse to write at *key* outside the experiments in which the actor may write."""
        if self.writable is not None and keys.experiment_of(key) not in self.writable:
            raise ForbiddenError(
                f"you may not write {key!r}: your access is restricted to {_named(self.writable)}",
                hint="give a key in one of these experiments, or ask an admin of the workspace",
            )

    def require_everything(self, act: str) -> None:
        """Refuse what is about more than single experiments to whoever may write in some only."""
        if self.writable is not None:
            raise ForbiddenError(f"you may not {act}: your access is restricted", hint="ask an admin of the workspace")


def require(actor: Actor, scope: str, membership: Membership | None, workspace: str) -> Access:
    """
    Return what *actor* may do in *workspace*, given the *membership* found there.

    Raises:
        NotFoundError: as far as the actor may know, there is no such workspace.
        ForbiddenError: the token has not the scope, or the member not the role.
    """
    require_scope(actor, scope)
    if membership is None or actor.workspace_id not in (None, membership.workspace_id):
        raise NotFoundError(f"no workspace {workspace!r}", hint="epista workspace list")
    needed = LEAST_ROLE[scope]
    seen, writable, owned = _reach(membership)
    if actor.experiments is not None:
        seen, writable, owned = (_within(actor.experiments, some) for some in (seen, writable, owned))
    is_enough = ROLES.index(membership.role) >= ROLES.index(needed)
    if not is_enough and not (scope == "write" and writable):
        raise ForbiddenError(
            f"this needs the role {needed} in workspace {membership.workspace!r}; yours is {membership.role}",
            hint="ask an admin of the workspace",
        )
    if scope == "admin" and seen is not None:
        raise ForbiddenError("a token restricted to experiments cannot manage the workspace")
    return Access(
        workspace_id=membership.workspace_id,
        workspace_uid=membership.workspace_uid,
        workspace=membership.workspace,
        role=membership.role,
        experiments=seen,
        writable=writable,
        owned=owned,
    )


_Some = AbstractSet[str] | None


def _reach(membership: Membership) -> tuple[_Some, _Some, _Some]:
    """Return the experiments that a member sees, writes in and owns; None for all."""
    everywhere, roles = membership.experiments, membership.roles
    owned = frozenset(name for name, role in roles.items() if role == "owner")
    edited = owned | {name for name, role in roles.items() if role == "editor"}
    seen = None if everywhere is None else everywhere | roles.keys()
    if ROLES.index(membership.role) >= ROLES.index(LEAST_ROLE["write"]):
        edited = None if everywhere is None else edited | everywhere  # type: ignore[assignment]
    return seen, edited, None if membership.role == "admin" else owned


def _within(limit: AbstractSet[str], some: _Some) -> _Some:
    return frozenset(limit) if some is None else frozenset(limit & some)


def require_scope(actor: Actor, scope: str) -> None:
    """Refuse what the token of *actor* does not allow."""
    if scope != "any" and scope not in actor.scopes:
        raise ForbiddenError(
            f"this needs a token with the scope {scope!r}; yours has {_named(actor.scopes)}",
            hint=f"epista token create NAME --scope {scope}",
        )


def require_lab(actor: Actor) -> None:
    """Refuse whoever does not manage the lab, or shows a token that is meant for less."""
    require_scope(actor, "lab")
    if not actor.is_lab_admin:
        raise ForbiddenError("this needs a manager of the lab", hint="ask whoever runs the server")
    if actor.is_restricted:
        raise ForbiddenError("a token restricted to a workspace or to experiments cannot manage the lab")


def manages_lab(actor: Actor) -> bool:
    """Whether `require_lab` lets *actor* pass."""
    return actor.is_lab_admin and "lab" in actor.scopes and not actor.is_restricted


def _named(things: AbstractSet[str] | None) -> str:
    return ", ".join(sorted(things or ())) or "none"
