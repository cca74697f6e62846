"""Workspaces, their members and their metadata rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from epista.contract import workspaces as wire
from epista.contract.messages import Done

if TYPE_CHECKING:
    from epista.client.session import Session


def create(here: Session, name: str) -> wire.Workspace:
    """Make a workspace, with yourself as its first admin."""
    return here.wire.call("workspaces.create", wire.CreateWorkspace(name=name), reply=wire.Workspace)


def find(here: Session) -> tuple[wire.Workspace, ...]:
    """List the workspaces that you may open, by name."""
    return here.wire.call("workspaces.find", wire.ListWorkspaces(), reply=wire.Workspaces).workspaces


def get(here: Session) -> wire.Workspace:
    """Look at the session's workspace, and what you are in it."""
    return here.wire.call("workspaces.get", wire.GetWorkspace(workspace=here.name), reply=wire.Workspace)


def members(here: Session) -> tuple[wire.Member, ...]:
    """List the members of the session's workspace, by name."""
    return here.wire.call("workspaces.members", wire.ListMembers(workspace=here.name), reply=wire.Members).members


def add_member(
    here: Session,
    user: str,
    role: Literal["viewer", "editor", "admin"],
    *,
    experiments: Iterable[str] | None = None,
    new_link: bool = False,
) -> wire.Member:
    """
    Make a user a member, or change what the member may do.

    For a user who cannot sign in yet, or with *new_link* for any, the result has a `sign_in_link`, which works once and is
    shown this once.
    """
    restricted = None if experiments is None else tuple(experiments)
    wanted = wire.AddMember(workspace=here.name, user=user, role=role, experiments=restricted, new_link=new_link)
    return here.wire.call("workspaces.add_member", wanted, reply=wire.Member)


def remove_member(here: Session, user: str) -> None:
    """End a membership; the last admin stays."""
    here.wire.call("workspaces.remove_member", wire.RemoveMember(workspace=here.name, user=user), reply=Done)


def rules(here: Session, *, version: int | None = None) -> wire.Rules:
    """Look at the metadata rules in force, or at an older version of them."""
    return here.wire.call("workspaces.rules", wire.ShowRules(workspace=here.name, version=version), reply=wire.Rules)


def set_rules(here: Session, rules: Iterable[wire.Rule], *, expect: int | None = None) -> wire.Rules:
    """Replace the metadata rules. What is there already stays as it is; `check_rules` finds what breaks them."""
    wanted = wire.SetRules(workspace=here.name, rules=tuple(rules), expect=expect)
    return here.wire.call("workspaces.set_rules", wanted, reply=wire.Rules)


def check_rules(here: Session) -> Iterator[wire.RuleBreaks]:
    """Check all assets against the rules in force, a page at a time; each says how many it checked and which break rules."""
    after = None
    while True:
        page = here.wire.call("workspaces.check_rules", wire.CheckRules(workspace=here.name, after=after), reply=wire.RuleBreaks)
        yield page
        if page.next is None:
            return
        after = page.next
