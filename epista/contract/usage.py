"""Usage: how much a workspace holds, and how much it may."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Reply, Request, Text

Quota = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""The most that there may be."""


class ReadUsage(Request, frozen=True, kw_only=True):
    """Ask how much a workspace holds, as far as the caller may read it."""

    workspace: Text
    """The workspace."""


class Share(Reply, frozen=True, kw_only=True):
    """What one experiment or one kind has of the whole."""

    name: str | None
    """Of the experiment or the kind; null for what stands at the root."""
    assets: int
    """How many live assets it has."""
    size_bytes: int
    """What their current versions are long, together."""


class Usage(Reply, frozen=True, kw_only=True):
    """How much a workspace holds. Who is restricted to some experiments sees theirs alone, and no quota."""

    workspace: str
    """Its name."""
    stored_bytes: int
    """What all versions need, also old ones and those of deleted assets: the same content counts once."""
    assets: int
    """How many live assets there are."""
    versions: int
    """How many versions there are, of all assets."""
    quota_bytes: int | None
    """The most that `stored_bytes` may be; null for no limit."""
    quota_assets: int | None
    """The most that `assets` may be; null for no limit."""
    experiments: tuple[Share, ...] = ()
    """By experiment, the largest first."""
    kinds: tuple[Share, ...] = ()
    """By kind, the largest first."""


class SetQuota(Request, frozen=True, kw_only=True):
    """Limit what a workspace may hold. What is there already stays, also if it is more."""

    name: Text
    """The workspace, by its name or id."""
    max_bytes: Quota | None = None
    """The most that all versions may need; null for no limit."""
    max_assets: Quota | None = None
    """The most live assets there may be; null for no limit."""


class ReadLabUsage(Request, frozen=True, kw_only=True):
    """Ask how much the whole lab holds."""


class LabUsage(Reply, frozen=True, kw_only=True):
    """How much the whole lab holds."""

    stored_bytes: int
    """What all contents need, each once, whatever workspaces have it; also those that wait to be collected."""
    blobs: int
    """How many contents there are."""
    workspaces: tuple[Usage, ...]
    """Each workspace, the largest first, without its shares."""
