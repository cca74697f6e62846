"""Signed links: one version to read, for whoever has the link, for a short time."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Instant, Reply, Request, Text


class CreateLink(Request, frozen=True, kw_only=True):
    """Make a link that opens the bytes of one version without a token, for a short time."""

    workspace: Text
    """The workspace."""
    version: Text
    """The id of the version, of an asset that is not deleted."""
    seconds: Annotated[int, msgspec.Meta(ge=1, le=2**31)] | None = None
    """How long it shall work; null: an hour, or the most that the server allows if that is less."""


class Link(Reply, frozen=True, kw_only=True):
    """A link. Whoever has it can read these bytes, and nothing else, until it ends."""

    url: str
    """Where to ask with GET, ranges allowed: a path below the server's address, or a whole address."""
    expires_at: Instant
    """When it ends: never later than the token that made it."""
    name: str
    """The file's name."""

    def __repr__(self) -> str:
        return f"Link(url=<hidden>, expires_at={self.expires_at!r}, name={self.name!r})"


class OpenLink(Request, frozen=True, kw_only=True):
    """Download what a signed link opens; HEAD, ``Range`` and conditions (RFC 9110) are understood, ``ETag`` is the sha256."""

    link: Text
    """What the server signed."""
    name: Text
    """The file's name, as it came with the link."""

    def __repr__(self) -> str:
        return f"OpenLink(link=<hidden>, name={self.name!r})"
