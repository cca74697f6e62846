"""Tile sessions: whoever has the token of one may look at the pixels of one version, as long as its maker may."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from epista.contract import images as wire
from epista.contract.errors import ForbiddenError, NotFoundError
from epista.server.access import tiles
from epista.server.access.actors import Actor, Request
from epista.server.access.policy import Access
from epista.server.access.tiles import Ticket
from epista.server.services import signing_keys
from epista.server.services.assets import resolve, version_row
from epista.server.services.contents import Content, content_of
from epista.server.services.resources import Resources
from epista.server.services.tokens import Tokens
from epista.server.stores import moments
from epista.server.stores import signing_keys as keys

CHECKED_SECONDS = 30
"""For how long a right that was checked is not checked again; a screen asks for dozens of tiles at once."""

_MOST_KNOWN = 10_000
_SECOND = 1_000_000
_ASK_AGAIN = "open the image again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sitting:
    """A session whose right was checked a moment ago."""

    ticket: Ticket
    actor: Actor
    """Its maker, with the right to read and nothing else."""
    content: Content
    """Of the version."""
    checked_at: int


class TileSessions:
    """A session can do no more than its maker, at the moment it is used, or half a minute later."""

    def __init__(self, resources: Resources, tokens: Tokens) -> None:
        self._all = resources
        self._tokens = tokens
        self._known: OrderedDict[str, Sitting] = OrderedDict()
        self._guard = threading.Lock()

    def open(self, actor: Actor, wanted: wire.OpenTiles) -> wire.TileSession:
        """Open a session on a version that the caller may read and that is not deleted."""

        def work(tx: Connection, access: Access) -> wire.TileSession:
            row = resolve(tx, access, wanted.ref, wanted.experiment)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            now = self._all.clock() // _SECOND
            last = min(now + tiles.RENEWED_SECONDS, (actor.ends_at or 2**62) // _SECOND)
            key = keys.signing(tx) or signing_keys.add(tx, self._all.clock())
            ticket = Ticket(key["uid"], access.workspace_uid, version["uid"], actor.token or "", 0, last)
            made = self._signed(ticket, now, key["secret"])
            details = {"version": made.version, "expires_at": made.expires_at.isoformat(), "signing_key": key["uid"]}
            self._all.record(tx, actor, access.workspace_id, row["key"], details)
            return made

        return self._all.write(actor, "read", wanted.workspace, wire.TileSession, work)

    def renew(self, wanted: wire.RenewTiles, request: Request) -> wire.TileSession:
        """Exchange the token of a session that works for another one."""
        sitting = self.sitting(wanted.token, request)
        actor, ticket = sitting.actor, sitting.ticket

        def work(tx: Connection, access: Access) -> wire.TileSession:
            found = content_of(tx, access, ticket.version)
            key = keys.signing(tx) or signing_keys.add(tx, self._all.clock())
            made = self._signed(ticket._replace(key=key["uid"]), self._all.clock() // _SECOND, key["secret"])
            details = {"version": made.version, "expires_at": made.expires_at.isoformat(), "signing_key": key["uid"]}
            self._all.record(tx, actor, access.workspace_id, found.name, details)
            return made

        return self._all.write(actor, "read", ticket.workspace, wire.TileSession, work)

    def sitting(self, token: str, request: Request) -> Sitting:
        """
        Return what a session may see, and on whose behalf.

        Raises:
            ForbiddenError: forged, at its end, signed with a key that is retired, or made with a token that was revoked.
            NotFoundError: its maker may not read the version any more, or it was deleted.
        """
        now = self._all.clock()
        with self._guard:
            known = self._known.get(token)
        if known is None or not known.checked_at <= now < known.checked_at + CHECKED_SECONDS * _SECOND:
            known = self._checked(token, request, now)
            with self._guard:
                self._known[token] = known
                self._known.move_to_end(token)
                if len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        if now >= known.ticket.ends * _SECOND:
            ended = moments.to_datetime(known.ticket.ends * _SECOND).isoformat()
            raise ForbiddenError(f"this session worked until {ended}", hint=_ASK_AGAIN)
        return replace(known, actor=replace(known.actor, request=request))

    def _checked(self, token: str, request: Request, now: int) -> Sitting:
        ticket = tiles.read(token)
        with self._all.catalog.read() as tx:
            key = keys.verifying(tx, ticket.key, now) if ticket else None
        if ticket is None or key is None or not tiles.is_signed(token, key["secret"]):
            raise ForbiddenError("this session was not opened here, or no longer counts", hint=_ASK_AGAIN)
        maker = self._tokens.maker(ticket.token, request)
        if maker is None:
            raise ForbiddenError("this session no longer counts: the token it was opened with has ended", hint=_ASK_AGAIN)
        gone = NotFoundError("there is no image behind this session, or no longer", hint=_ASK_AGAIN)
        try:
            with self._all.read(maker, "read", ticket.workspace) as (tx, access):
                found = content_of(tx, access, ticket.version)
        except NotFoundError:
            # Not what the maker would hear: whoever has the token need not know more than that.
            raise gone from None
        if found.is_deleted:
            raise gone
        return Sitting(ticket=ticket, actor=maker, content=found, checked_at=now)

    def _signed(self, ticket: Ticket, now: int, secret: bytes) -> wire.TileSession:
        ticket = ticket._replace(ends=min(now + tiles.SECONDS, ticket.last))
        return wire.TileSession(
            token=tiles.sign(ticket, secret),
            version=ticket.version,
            expires_at=moments.to_datetime(ticket.ends * _SECOND),
            renew_until=moments.to_datetime(ticket.last * _SECOND),
        )
