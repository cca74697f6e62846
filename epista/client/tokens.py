"""Tokens: who you are to a server, and for whom else you let a program speak."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from epista.client import settings
from epista.client.wire import Wire
from epista.contract import tokens as wire
from epista.contract.errors import InvalidRequestError
from epista.contract.messages import Done
from epista.contract.scopes import DATA_SCOPES

if TYPE_CHECKING:
    from epista.client.session import Session


def me(here: Session) -> wire.Me:
    """Ask who the session's token belongs to, and what it allows."""
    return here.wire.call("tokens.who", wire.WhoAmI(), reply=wire.Me)


def create(
    here: Session,
    name: str,
    *,
    kind: Literal["personal", "kernel"] = "personal",
    scopes: Iterable[str] = DATA_SCOPES,
    workspace: str | None = None,
    experiments: Iterable[str] | None = None,
    expires_at: datetime | None = None,
) -> wire.NewToken:
    """Make a token, never wider than the session's own. Its secret is shown this once."""
    wanted = wire.CreateToken(
        name=name,
        kind=kind,
        scopes=tuple(scopes),
        workspace=workspace,
        experiments=None if experiments is None else tuple(experiments),
        expires_at=expires_at,
    )
    return here.wire.call("tokens.create", wanted, reply=wire.NewToken)


def find(here: Session) -> tuple[wire.Token, ...]:
    """List your own tokens, newest first: live, expired and revoked ones."""
    return here.wire.call("tokens.find", wire.ListTokens(), reply=wire.Tokens).tokens


def revoke(here: Session, id: str) -> None:
    """End one of your own tokens, and those made with it, at once."""
    here.wire.call("tokens.revoke", wire.RevokeToken(id=id), reply=Done)


def sign_in(link: str, *, name: str = "sign-in") -> tuple[str, wire.NewToken]:
    """
    Turn a one-time sign-in link into a token; return the server's address and the token.

    Raises:
        InvalidRequestError: *link* is no sign-in link.
        AuthenticationError: the link was used, or has expired.
    """
    address, _, code = link.strip().partition("#")
    if not code or not settings.is_url(address):
        raise InvalidRequestError("this is no sign-in link", hint="one looks like http://127.0.0.1:8717/sign-in#...")
    url = settings.normalise(address, "the sign-in link").removesuffix("/sign-in")
    with Wire(url, None) as server:
        return url, server.call("tokens.sign_in", wire.SignIn(code=code, name=name), reply=wire.NewToken)
