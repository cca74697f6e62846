"""Signed links: addresses that a browser, curl, pandas or IGV can use as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.client import assets, listings
from epista.contract import assets as asset_messages
from epista.contract import links as wire

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from epista.client.session import Session


class Link(str):
    """The address itself, for anything that takes one. Its `repr` hides it, so that no notebook keeps it by accident."""

    __slots__ = ("expires_at", "name")

    expires_at: datetime
    """When it ends."""
    name: str
    """The file's name."""

    def __new__(cls, address: str, expires_at: datetime, name: str) -> Self:
        made = super().__new__(cls, address)
        made.expires_at = expires_at
        made.name = name
        return made

    def __repr__(self) -> str:
        return f"<Link to {self.name!r} until {listings.moment(self.expires_at)} UTC; print() shows the address>"

    def __reduce__(self) -> tuple[type[Link], tuple[str, datetime, str]]:
        return Link, (str(self), self.expires_at, self.name)


def create(
    here: Session, ref: str | asset_messages.AssetRef, *, version: str | int | None = None, seconds: int | None = None
) -> Link:
    """
    Make a link to the bytes of one version, as it is now or the *version* given (an id or a number).

    Whoever has the link can read these bytes, ranges included, without a token; for *seconds*, an hour if not given, and never
    longer than you may read them yourself. In an embedded lab it works on this machine, until the lab is closed.

    Raises:
        KeyNotFoundError: nothing fits that you may read.
        ValidationError: the server allows links for a shorter time only.
    """
    found = assets.get(here, ref)
    pinned = found.version
    if version is not None:
        wanted = asset_messages.GetVersion(workspace=here.name, key=found.key, version=str(version))
        pinned = here.wire.call("assets.version", wanted, reply=asset_messages.Version).id
    return of_version(here, pinned, seconds)


def of_version(here: Session, version_id: str, seconds: int | None = None) -> Link:
    """Make a link to the bytes of the version that has this id; see `create`."""
    request = wire.CreateLink(workspace=here.name, version=version_id, seconds=seconds)
    made = here.wire.call("links.create", request, reply=wire.Link)
    return Link(here.url + made.url if made.url.startswith("/") else made.url, made.expires_at, made.name)
