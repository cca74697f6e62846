"""
Tile sessions: what the token says that stands in the addresses of tiles.

Like a signed link it names one version, the token it was made with and the moment it ends, and is an authority to ask. But it
can be exchanged for another one until its *last* moment, since a picture may be looked at for hours, and tokens in addresses
shall not live for as long.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from epista.server.access import signatures

SECONDS = 15 * 60
"""How long a token works."""

RENEWED_SECONDS = 12 * 3600
"""For how long it may be exchanged for another one."""

_TOKEN = re.compile(r"(\w+)\.(\w+)\.(\w+)\.(\w*)\.(\d{1,15})\.(\d{1,15})\.[\w-]+", re.ASCII)

_PURPOSE = b"epista tiles 1, GET and HEAD"


class Ticket(NamedTuple):
    """What a token says; all but the moments are opaque ids."""

    key: str
    """The signing key."""
    workspace: str
    """The workspace of the version."""
    version: str
    """The version whose pixels may be read."""
    token: str
    """The token of a person that it was made with; empty for the owner of an embedded lab."""
    ends: int
    """When it ends, in seconds since 1970."""
    last: int
    """When the last one that it can be exchanged for ends."""


def sign(ticket: Ticket, secret: bytes) -> str:
    """Return *ticket* as text, all of whose characters may stand in an address."""
    return signatures.sign(".".join(map(str, ticket)), secret, _PURPOSE)


def read(token: str) -> Ticket | None:
    """Return what *token* says, true or not; None if it is none at all."""
    found = _TOKEN.fullmatch(token)
    return Ticket(found[1], found[2], found[3], found[4], int(found[5]), int(found[6])) if found else None


def is_signed(token: str, secret: bytes) -> bool:
    """Whether *token* was signed with *secret*."""
    return signatures.is_signed(token, secret, _PURPOSE)
