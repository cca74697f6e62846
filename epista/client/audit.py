"""The audit log of a workspace, and the care of the lab's bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from epista.client import listings
from epista.client.listings import Listing, Pages
from epista.contract import audit as wire

if TYPE_CHECKING:
    from epista.client.session import Session

PATIENCE_SECONDS = 24 * 3600.0
"""How long to wait for a backup or a collection, which say nothing until they are done."""


def find(
    here: Session,
    *,
    of_lab: bool = False,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    limit: int = 100,
) -> Listing[wire.AuditRow]:
    """
    List the rows of the audit log that fit, newest first, lazily paged; *limit* is the size of a page.

    Of the workspace, or with *of_lab* of the lab itself: tokens, sign-ins, workspaces, care.
    """
    wanted = wire.ReadLabAudit(actor=actor, action=action, target=target, limit=limit)

    def fetch(after: str | None) -> wire.AuditPage:
        if of_lab:
            return here.wire.call("lab.audit", msgspec.structs.replace(wanted, after=after), reply=wire.AuditPage)
        fields = msgspec.structs.asdict(wanted) | {"after": after}
        return here.wire.call("audit.find", wire.ReadAudit(workspace=here.name, **fields), reply=wire.AuditPage)

    return Listing(
        Pages(fetch),
        lambda page: page.rows,
        identity=lambda row: str(row.number),
        columns=("number", "at", "actor", "action", "target", "outcome", "request"),
        row=_row,
    )


def verify(here: Session, *, of_lab: bool = False) -> wire.AuditVerdict:
    """Have the chain of hashes of the audit log recomputed: that of the workspace, or of the lab itself."""
    if of_lab:
        wanted = wire.VerifyLabAudit()
        return here.wire.call("lab.verify_audit", wanted, reply=wire.AuditVerdict, read_seconds=PATIENCE_SECONDS)
    return here.wire.call(
        "audit.verify", wire.VerifyAudit(workspace=here.name), reply=wire.AuditVerdict, read_seconds=PATIENCE_SECONDS
    )


def verify_blobs(here: Session) -> Iterator[wire.BlobVerdict]:
    """Check every blob of the lab against its hash, some at a time; each step says what it read and what is wrong."""
    after = None
    while True:
        step = here.wire.call("lab.verify", wire.VerifyBlobs(after=after), reply=wire.BlobVerdict, read_seconds=PATIENCE_SECONDS)
        yield step
        if step.next is None:
            return
        after = step.next


def gc(here: Session, *, dry_run: bool = False, grace_seconds: int | None = None) -> wire.Garbage:
    """Remove content that no version needs and that has lain there for longer than the grace period, a day by default."""
    wanted = wire.CollectGarbage(dry_run=dry_run)
    if grace_seconds is not None:
        wanted = msgspec.structs.replace(wanted, grace_seconds=grace_seconds)
    return here.wire.call("lab.gc", wanted, reply=wire.Garbage, read_seconds=PATIENCE_SECONDS)


def backup(here: Session, destination: str | os.PathLike[str]) -> wire.Backup:
    """
    Copy a folder lab, as of one moment, into a new folder on the server's machine. The copy is a lab of its own.

    A relative *destination* starts at this process's folder in an embedded lab; to a server it must be absolute.
    """
    path = os.fspath(destination)
    if here.is_embedded:
        path = str(Path(path).expanduser().absolute())
    return here.wire.call("lab.backup", wire.BackUp(destination=path), reply=wire.Backup, read_seconds=PATIENCE_SECONDS)


def _row(row: wire.AuditRow) -> tuple[str, ...]:
    return (str(row.number), listings.moment(row.at), row.actor, row.action, row.target, row.outcome, row.request_id)
