"""Signed links: bytes for whoever has the link, as long as its maker may read them."""

from __future__ import annotations

from urllib.parse import quote

from sqlalchemy import Connection

from epista.contract import links as wire
from epista.contract.endpoints import BY_NAME
from epista.contract.errors import ForbiddenError, NotFoundError, ValidationError
from epista.server.access import links
from epista.server.access.actors import Actor, Request
from epista.server.access.links import Ticket
from epista.server.access.policy import Access
from epista.server.services import signing_keys
from epista.server.services.contents import Content, content_of
from epista.server.services.resources import Resources
from epista.server.services.tokens import Tokens
from epista.server.stores import moments
from epista.server.stores import signing_keys as keys

USUAL_SECONDS = 3600
"""How long a link works unless its maker says otherwise."""

_SECOND = 1_000_000

_ASK_AGAIN = "ask whoever gave it to you for a new one"


class Links:
    """A link can do no more than its maker, at the moment it is used."""

    def __init__(self, resources: Resources, tokens: Tokens) -> None:
        self._all = resources
        self._tokens = tokens

    def create(self, actor: Actor, wanted: wire.CreateLink) -> wire.Link:
        """Make a link to a version that the caller may read and that is not deleted."""
        most = self._all.config.link_seconds
        if not most:
            raise ForbiddenError("this server makes no links", hint="whoever runs it can allow them: link_seconds")
        seconds = min(USUAL_SECONDS, most) if wanted.seconds is None else wanted.seconds
        if seconds > most:
            raise ValidationError(f"a link works for at most {most:,} s here, and {seconds:,} were asked for")

        def work(tx: Connection, access: Access) -> wire.Link:
            found = content_of(tx, access, wanted.version)
            if found.is_deleted:
                raise NotFoundError(
                    f"the asset of version {wanted.version!r} was deleted", hint="bring it back: epista restore KEY"
                )
            now = self._all.clock()
            key = keys.signing(tx) or signing_keys.add(tx, now)
            ends = min(now + seconds * _SECOND, actor.ends_at or 2**62) // _SECOND
            ticket = Ticket(key["uid"], access.workspace_uid, wanted.version, actor.token or "", ends)
            at = moments.to_datetime(ends * _SECOND)
            details = {"version": wanted.version, "expires_at": at.isoformat(), "signing_key": key["uid"]}
            self._all.record(tx, actor, access.workspace_id, found.name, details)
            path = BY_NAME["links.open"].path.format(link=links.sign(ticket, key["secret"]), name=quote(found.name, safe=""))
            return wire.Link(url=path, expires_at=at, name=found.name)

        return self._all.write(actor, "read", wanted.workspace, wire.Link, work)

    def maker(self, link: str, request: Request) -> Actor:
        """
        Return who made *link*, with the right to read and nothing else.

        Raises:
            ForbiddenError: forged, at its end, signed with a key that is retired, or made with a token that was revoked.
        """
        now = self._all.clock()
        ticket = links.read(link)
        with self._all.catalog.read() as tx:
            key = keys.verifying(tx, ticket.key, now) if ticket else None
        if ticket is None or key is None or not links.is_signed(link, key["secret"]):
            raise ForbiddenError("this link was not made here, or no longer counts; was it copied whole?", hint=_ASK_AGAIN)
        if now >= ticket.ends * _SECOND:
            ended = moments.to_datetime(ticket.ends * _SECOND).isoformat()
            raise ForbiddenError(f"this link worked until {ended}", hint=_ASK_AGAIN)
        maker = self._tokens.maker(ticket.token, request)
        if maker is None:
            raise ForbiddenError("this link no longer counts: the token it was made with has ended", hint=_ASK_AGAIN)
        return maker

    def open(self, actor: Actor, wanted: wire.OpenLink) -> Content:
        """Return where the bytes behind a link lie, if its maker, *actor*, may still read them and the asset is not deleted."""
        ticket = links.read(wanted.link)
        assert ticket is not None, "its maker is known"
        gone = NotFoundError("there is nothing behind this link, or no longer", hint=_ASK_AGAIN)
        try:
            with self._all.read(actor, "read", ticket.workspace) as (tx, access):
                found = content_of(tx, access, ticket.version)
        except NotFoundError:
            # Not what the maker would hear: whoever has the link need not know more than that.
            raise gone from None
        # The name belongs to it: a program that looks for `x.bam.bai` beside `x.bam` must not be given the latter.
        if found.is_deleted or found.name != wanted.name:
            raise gone
        if found.is_in_parts:
            return found  # to be joined first, and asked for again
        self._all.note(
            actor, access.workspace_id, found.name, {"version": ticket.version, "by": "link", "signing_key": ticket.key}
        )
        return found
