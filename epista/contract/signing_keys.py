"""Signing keys: what the links of a lab are signed with, and how all of them are ended."""

from __future__ import annotations

from epista.contract.messages import Instant, Reply, Request


class SigningKey(Reply, frozen=True, kw_only=True):
    """A signing key, without its secret, which never leaves the lab."""

    id: str
    """Opaque."""
    created_at: Instant
    """When it was made."""
    retired_at: Instant | None
    """From when on its links are refused; null for the key that signs new ones."""


class SigningKeys(Reply, frozen=True, kw_only=True):
    """The signing keys of the lab."""

    keys: tuple[SigningKey, ...]
    """Newest first."""


class ListSigningKeys(Request, frozen=True, kw_only=True):
    """List the signing keys of the lab."""


class RotateSigningKey(Request, frozen=True, kw_only=True):
    """Make a new signing key. Links that are out go on working until they end, unless all older keys are retired at once."""

    retire_all: bool = False
    """Refuse every link that was made until now."""
