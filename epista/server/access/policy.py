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
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """What an actor may do in a workspace, decided."""

    workspace_id: int
    workspace_uid: str
    workspace: str
    role: str
    experiments: AbstractSet[str] | None
    """The experiments that exist for the actor; None for everything, the root included."""

    def sees(self, key: str) -> bool:
        """Whether an asset at *key* exists for the actor."""
        return self.experiments is None or keys.experiment_of(key) in self.experiments

    def require_key(self, key: str) -> None:
        """Refuse to write at *key* outside the experiments of the actor."""
        if not self.sees(key):
            raise ForbiddenError(
                f"you may not write {key!r}: your access is restricted to {_named(self.experiments)}",
                hint="give a key in one of these experiments, or ask an admin of the workspace",
            )


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
    if ROLES.index(membership.role) < ROLES.index(needed):
        raise ForbiddenError(
            f"this needs the role {needed} in workspace {membership.workspace!r}; yours is {membership.role}",
            hint="ask an admin of the workspace",
        )
    restrictions = [limit for limit in (membership.experiments, actor.experiments) if limit is not None]
    experiments = frozenset.intersection(*map(frozenset, restrictions)) if restrictions else None
    if scope == "admin" and experiments is not None:
        raise ForbiddenError("a token restricted to experiments cannot manage the workspace")
    return Access(
        workspace_id=membership.workspace_id,
        workspace_uid=membership.workspace_uid,
        workspace=membership.workspace,
        role=membership.role,
        experiments=experiments,
    )


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
