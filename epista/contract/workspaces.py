"""Workspaces, their members and their metadata rules."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from epista.contract.messages import Cursor, Instant, Name, PageSize, Reply, Request, Restriction, Text

WorkspaceName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)")]
"""The name of a workspace: letters, digits, ``.``, ``_``, ``-``; it stands in addresses."""

UserName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$(?!\n)")]
"""The name of a user: letters, digits and ``._@+-``, so that an e-mail address is one."""


class Workspace(Reply, frozen=True, kw_only=True):
    """One bucket with its own members, rules and audit log."""

    id: str
    """Opaque."""
    name: str
    """Unique in the lab."""
    role: str
    """What the caller is in it."""
    experiments: tuple[str, ...] | None
    """The experiments that the caller is restricted to, or null."""
    created_at: Instant
    """When it was made."""


class Workspaces(Reply, frozen=True, kw_only=True):
    """The workspaces that the caller may open, by name."""

    workspaces: tuple[Workspace, ...]
    """In order of their names."""


class CreateWorkspace(Request, frozen=True, kw_only=True):
    """Make a workspace, with the caller as its first admin."""

    name: WorkspaceName
    """What to call it."""


class ListWorkspaces(Request, frozen=True, kw_only=True):
    """List the workspaces that the caller may open."""


class GetWorkspace(Request, frozen=True, kw_only=True):
    """Look at one workspace."""

    workspace: Text
    """Its name or id."""


class Member(Reply, frozen=True, kw_only=True):
    """A user in a workspace."""

    user: str
    """The user's name."""
    role: str
    """``viewer``, ``editor`` or ``admin``."""
    experiments: tuple[str, ...] | None
    """The experiments the member is restricted to, or null for all."""
    sign_in_link: str | None = None
    """For a user who has no way to sign in yet: a link that works once; shown this once."""

    def __repr__(self) -> str:
        link = "<hidden>" if self.sign_in_link else None
        return f"Member(user={self.user!r}, role={self.role!r}, experiments={self.experiments!r}, sign_in_link={link})"


class Members(Reply, frozen=True, kw_only=True):
    """The members of a workspace, by name."""

    members: tuple[Member, ...]
    """In order of their names."""


class AddMember(Request, frozen=True, kw_only=True):
    """Make a user a member, or change what the member may do."""

    workspace: Text
    """The workspace."""
    user: UserName
    """The user, created if the lab has none of that name and the caller manages the lab."""
    role: Literal["viewer", "editor", "admin"]
    """What the member may do."""
    experiments: Restriction | None = None
    """Restrict the member to these experiments; an admin cannot be restricted."""
    new_link: bool = False
    """Make a sign-in link also for a user who has signed in before, and lost the token; only managers of the lab may."""


class ListMembers(Request, frozen=True, kw_only=True):
    """List the members of a workspace."""

    workspace: Text
    """The workspace."""


class RemoveMember(Request, frozen=True, kw_only=True):
    """End a membership; the last admin stays."""

    workspace: Text
    """The workspace."""
    user: Text
    """Who leaves."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metadata rule: metadata of matching assets must satisfy a JSON Schema (draft 2020-12)."""

    name: Name
    """What to call it in reports."""
    schema: dict[str, Any]
    """The JSON Schema; references stay within it."""
    experiment: Text | None = None
    """Only assets of experiments that match this shell pattern, such as ``EXP-*``."""
    kind: Text | None = None
    """Only assets of this kind."""
    key: Text | None = None
    """Only assets whose key matches this shell pattern; ``*`` also crosses ``/``."""


class Rules(Reply, frozen=True, kw_only=True):
    """The metadata rules of a workspace."""

    version: int
    """Counts the changes; 0 before the first."""
    rules: tuple[Rule, ...]
    """In the order in which they are checked."""
    changed_at: Instant | None
    """When this version was set."""
    changed_by: str | None
    """Who set it."""


class SetRules(Request, frozen=True, kw_only=True):
    """Replace the metadata rules of a workspace. What is already there stays; see `CheckRules`."""

    workspace: Text
    """The workspace."""
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=1000)]
    """All rules; none lifts them."""
    expect: int | None = None
    """The version these replace; another one in between is a conflict."""


class ShowRules(Request, frozen=True, kw_only=True):
    """Look at the metadata rules."""

    workspace: Text
    """The workspace."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """An older version, or null for the one in force."""


class CheckRules(Request, frozen=True, kw_only=True):
    """Find assets whose metadata breaks the rules in force."""

    workspace: Text
    """The workspace."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """How many assets to check."""


class RuleBreak(Reply, frozen=True, kw_only=True):
    """One asset that breaks rules."""

    key: str
    """Where it stands."""
    violations: tuple[dict[str, Any], ...]
    """Each with ``path``, ``message`` and ``rule``."""


class RuleBreaks(Reply, frozen=True, kw_only=True):
    """One page of a check."""

    checked: int
    """How many assets this page checked."""
    breaks: tuple[RuleBreak, ...]
    """Those that break rules."""
    next: str | None
    """Where the next page begins, or null at the end."""
