"""Naming conventions of a workspace, and what the server makes of a name."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from epista.contract.messages import Instant, Reply, Request, Text

ConventionName = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$(?!\n)")]
"""What a convention may be called: lower-case letters, digits and single hyphens."""


class Convention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One convention, declared as data."""

    name: ConventionName
    """What it is called."""
    declaration: dict[str, Any]
    """The tokens of its names in their order, and what stands between them; see the guide to naming conventions."""


class Conventions(Reply, frozen=True, kw_only=True):
    """The conventions by which a workspace reads names."""

    version: int
    """Counts the changes; 0 before the first."""
    conventions: tuple[Convention, ...]
    """The workspace's own, in the order in which they are asked, before all others."""
    installed: tuple[str, ...]
    """The names of those installed on the server, which are asked next."""
    packaged: tuple[str, ...]
    """The names of those that come with Epista, which are asked last."""
    changed_at: Instant | None
    """When this version was set."""
    changed_by: str | None
    """Who set it."""


class SetConventions(Request, frozen=True, kw_only=True):
    """Replace the naming conventions of a workspace; what names say changes with them."""

    workspace: Text
    """The workspace."""
    conventions: Annotated[tuple[Convention, ...], msgspec.Meta(max_length=50)]
    """All of the workspace's own, in the order in which they are to be asked."""
    expect: int | None = None
    """The version these replace; another one in between is a conflict."""


class ShowConventions(Request, frozen=True, kw_only=True):
    """Look at the naming conventions."""

    workspace: Text
    """The workspace."""
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    """An older version, or null for the one in force."""


class ExplainName(Request, frozen=True, kw_only=True):
    """Ask what every convention makes of a name, as the server knows them."""

    workspace: Text
    """The workspace."""
    text: Annotated[str, msgspec.Meta(max_length=2048)]
    """A name or a path."""


class NameReading(Reply, frozen=True, kw_only=True):
    """What one convention makes of a text."""

    convention: str
    """Which."""
    canonical: str | None
    """The canonical name, if it reads one."""
    kind: str | None
    """``raw``, ``derived`` or ``other``, if it reads one."""
    fields: dict[str, Any]
    """What the name says."""
    warnings: tuple[str, ...]
    """What was odd about it."""
    reason: str | None
    """Why it refused, if it did."""
    at: int | None
    """From which character of the text on, counted from 0."""


class NameReadings(Reply, frozen=True, kw_only=True):
    """What every convention makes of a text."""

    readings: tuple[NameReading, ...]
    """In the order in which they are asked; the first that reads it decides."""
