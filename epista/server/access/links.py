"""
Signed links: what a link says, and the signature that makes it true.

A link names one version, the token it was made with and the moment it ends, and is signed with HMAC-SHA256 (RFC 2104). It is
an authority to ask, not a decision: who may is asked again when it is used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

KEY_BYTES = 32
"""The size of the secret of a signing key."""

_LINK = re.compile(r"(\w+)\.(\w+)\.(\w+)\.(\w*)\.(\d{1,15})\.[\w-]+", re.ASCII)

# What is signed besides: another use of the same key, or another verb, could never pass for a link.
_PURPOSE = b"epista link 1, GET and HEAD\0"


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


def fresh_key() -> bytes:
    """Return the secret of a new signing key."""
    return secrets.token_bytes(KEY_BYTES)


def sign(ticket: Ticket, secret: bytes) -> str:
    """Return *ticket* as the text of a link, all of whose characters may stand in an address."""
    said = ".".join(map(str, ticket))
    return f"{said}.{_signature(said, secret)}"


def read(link: str) -> Ticket | None:
    """Return what *link* says, true or not; None if it is no link at all."""
    found = _LINK.fullmatch(link)
    return Ticket(found[1], found[2], found[3], found[4], int(found[5])) if found else None


def is_signed(link: str, secret: bytes) -> bool:
    """Whether *link* was signed with *secret*, found out in a time that tells nothing."""
    said, _, signature = link.rpartition(".")
    return hmac.compare_digest(_signature(said, secret).encode(), signature.encode(errors="replace"))


def _signature(said: str, secret: bytes) -> str:
    digest = hmac.digest(secret, _PURPOSE + said.encode(errors="replace"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
