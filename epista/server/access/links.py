"""
Signed links: what a link says.

A link names one version, the token it was made with and the moment it ends. It is an authority to ask, not a decision: who may
is asked again when it is used.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from epista.server.access import signatures

_LINK = re.compile(r"(\w+)\.(\w+)\.(\w+)\.(\w*)\.(\d{1,15})\.[\w-]+", re.ASCII)

_PURPOSE = b"epista link 1, GET and HEAD"


class Ticket(NamedTuple):
    """What a link says; every part but the last is an opaque id."""

    key: str
    """The signing key."""
    workspace: str
    """The workspace of the version."""
    version: str
    """The version that may be read."""
    token: str
    """The token it was made with; empty for the owner of an embedded lab."""
    ends: int
    """When it ends, in seconds since 1970."""


def sign(ticket: Ticket, secret: bytes) -> str:
    """Return *ticket* as the text of a link, all of whose characters may stand in an address."""
    return signatures.sign(".".join(map(str, ticket)), secret, _PURPOSE)


def read(link: str) -> Ticket | None:
    """Return what *link* says, true or not; None if it is no link at all."""
    found = _LINK.fullmatch(link)
    return Ticket(found[1], found[2], found[3], found[4], int(found[5])) if found else None


def is_signed(link: str, secret: bytes) -> bool:
    """Whether *link* was signed with *secret*."""
    return signatures.is_signed(link, secret, _PURPOSE)
