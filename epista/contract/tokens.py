"""Tokens and the people behind them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from epista.contract.messages import Instant, Name, Reply, Request, Restriction, Text


class Token(Reply, frozen=True, kw_only=True):
    """A token as its owner sees it later: everything but the secret."""

    id: str
    """Opaque; names the token when it is to be revoked."""
    name: str
    """What its maker called it."""
    kind: str
    """``personal``, or ``kernel`` for a short-lived one that renews itself."""
    scopes: tuple[str, ...]
    """What it may be used for."""
    workspace: str | None
    """The one workspace it opens, or null for all that its user may open."""
    experiments: tuple[str, ...] | None
    """The experiments it is restricted to, or null for no restriction."""
    created_at: Instant
    """When it was made."""
    expires_at: Instant | None
    """When it ends, or null for never."""
    revoked_at: Instant | None
    """When it was revoked, or null."""


class NewToken(Reply, frozen=True, kw_only=True):
    """A token with its secret, shown this once and stored only as a hash."""

    secret: str
    """The secret. It cannot be shown again."""
    token: Token
    """What the token is."""
    renew_until: Instant | None = None
    """Until when a kernel token can be renewed; null for personal tokens."""

    def __repr__(self) -> str:
        return f"NewToken(secret=<hidden>, token={self.token!r})"


class Tokens(Reply, frozen=True, kw_only=True):
    """The caller's own tokens, newest first."""

    tokens: tuple[Token, ...]
    """Live, expired and revoked ones."""


class Me(Reply, frozen=True, kw_only=True):
    """Who the caller is, as the server sees it."""

    user: str
    """The user's name."""
    is_lab_admin: bool
    """Whether the user manages the whole lab."""
    scopes: tuple[str, ...]
    """What the presented token may be used for."""
    workspaces: tuple[str, ...]
    """The names of the workspaces the caller may open."""
    experiments: tuple[str, ...] | None
    """The experiments that the presented token is restricted to, or null."""
    expires_at: Instant | None
    """When the presented token ends, or null."""
    token: str | None = None
    """The id of the presented token; null for the private one of an embedded lab."""


class WhoAmI(Request, frozen=True, kw_only=True):
    """Ask who the presented token belongs to."""


class CreateToken(Request, frozen=True, kw_only=True):
    """Make a token, never wider than the one presented."""

    name: Name
    """What to call it."""
    kind: Literal["personal", "kernel"] = "personal"
    """``kernel``: lives for minutes and renews itself, for notebooks that a server starts."""
    scopes: Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)] = ("read", "write")
    """What it may be used for."""
    workspace: Name | None = None
    """Restrict it to one workspace."""
    experiments: Restriction | None = None
    """Restrict it to these experiments."""
    expires_at: Instant | None = None
    """When it ends. Kernel tokens have a short life of their own; for them this ends the renewals."""


class ListTokens(Request, frozen=True, kw_only=True):
    """List one's own tokens."""


class RevokeToken(Request, frozen=True, kw_only=True):
    """End one of one's own tokens at once."""

    id: Text
    """Which."""


class RenewToken(Request, frozen=True, kw_only=True):
    """Exchange the presented kernel token, also one that has just expired, for a fresh one."""


class SignIn(Request, frozen=True, kw_only=True):
    """Turn the code of a one-time sign-in link into a token."""

    code: Text
    """What stands behind ``#`` in the link."""
    name: Name = "sign-in"
    """What to call the token."""

    def __repr__(self) -> str:
        return f"SignIn(code=<hidden>, name={self.name!r})"
