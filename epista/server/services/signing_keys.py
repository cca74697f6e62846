"""Signing keys: what links and tile sessions are signed with, shared by every server of the lab through the catalog."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping

from epista.contract import signing_keys as wire
from epista.server.access import policy, secrets, signatures, tiles
from epista.server.access.actors import Actor
from epista.server.services.resources import Resources
from epista.server.stores import audit, moments
from epista.server.stores import signing_keys as rows


class SigningKeys:
    """Only managers of the lab; a secret is never shown."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def find(self, actor: Actor, wanted: wire.ListSigningKeys) -> wire.SigningKeys:
        """List the keys."""
        policy.require_lab(actor)
        with self._all.catalog.read() as tx:
            found = _listed(tx)
        self._all.note(actor, audit.LAB, "signing keys")
        return found

    def rotate(self, actor: Actor, wanted: wire.RotateSigningKey) -> wire.SigningKeys:
        """Sign new links with a new key; the older ones count as long as links made with them may live, or no longer at all."""
        policy.require_lab(actor)

        def work(tx: Connection) -> wire.SigningKeys:
            now = self._all.clock()
            longest = max(self._all.config.link_seconds, tiles.SECONDS)
            rows.retire(tx, now if wanted.retire_all else now + longest * 1_000_000)
            made = add(tx, now)
            self._all.record(tx, actor, audit.LAB, made["uid"], {"retire_all": wanted.retire_all})
            return _listed(tx)

        return self._all.write_lab(actor, wire.SigningKeys, work)


def add(tx: Connection, at: int) -> RowMapping:
    """Make the key that signs from now on."""
    rows.add(tx, uid=secrets.identifier("sk"), secret=signatures.fresh_key(), created_at=at)
    made = rows.signing(tx)
    assert made is not None, "it was just added"
    return made


def _listed(tx: Connection) -> wire.SigningKeys:
    return wire.SigningKeys(keys=tuple(map(_message, rows.newest_first(tx))))


def _message(row: RowMapping) -> wire.SigningKey:
    retired_at = None if row["retired_at"] is None else moments.to_datetime(row["retired_at"])
    return wire.SigningKey(id=row["uid"], created_at=moments.to_datetime(row["created_at"]), retired_at=retired_at)
