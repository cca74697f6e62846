"""The audit log: of a workspace for its admins, of the lab for its managers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping

from epista.contract import audit as wire
from epista.server.access.actors import Actor
from epista.server.services import cursors
from epista.server.services.resources import Resources
from epista.server.stores import audit as rows
from epista.server.stores import moments


class Audit:
    """Rows are added and read, never changed; reading them is audited too."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def find(self, actor: Actor, wanted: wire.ReadAudit) -> wire.AuditPage:
        """Read the log, newest first, including what was read up to now."""
        self._all.trail.flush()
        with self._all.read(actor, "admin", wanted.workspace) as (tx, access):
            page = read(tx, access.workspace_id, wanted)
        self._all.note(actor, access.workspace_id, access.workspace)
        return page

    def verify(self, actor: Actor, wanted: wire.VerifyAudit) -> wire.AuditVerdict:
        """Recompute the chain of the workspace."""
        self._all.trail.flush()
        with self._all.read(actor, "admin", wanted.workspace) as (tx, access):
            verdict = verified(tx, access.workspace_id)
        self._all.note(actor, access.workspace_id, access.workspace, {"problems": len(verdict.problems)})
        return verdict


def read(tx: Connection, chain: int, wanted: wire.ReadAudit | wire.ReadLabAudit) -> wire.AuditPage:
    """Return one page of a chain."""
    before = cursors.number(wanted.after)
    asked = {"actor": wanted.actor, "action": wanted.action, "target": wanted.target}
    filters = {name: value for name, value in asked.items() if value is not None}
    found = rows.page(tx, chain, filters=filters, before=before, limit=wanted.limit)
    more = cursors.of(found[-1]["number"]) if len(found) == wanted.limit else None
    return wire.AuditPage(rows=tuple(map(_message, found)), next=more)


def verified(tx: Connection, chain: int) -> wire.AuditVerdict:
    """Return what recomputing a chain shows."""
    count, head, problems = rows.verify(tx, chain)
    return wire.AuditVerdict(rows=count, head=head, problems=tuple(problems[:1000]))


def _message(row: RowMapping) -> wire.AuditRow:
    details: dict[str, Any] = cursors.document(row["details"])
    return wire.AuditRow(
        number=row["number"],
        at=moments.to_datetime(row["at"]),
        actor=row["actor"],
        token=row["token"],
        action=row["action"],
        target=row["target"],
        outcome=row["outcome"],
        request_id=row["request_id"],
        details=details,
        hash=row["hash"],
    )
