"""
Naming conventions: what a workspace declares, and what names say by it.

`known` is for whoever reads names in a transaction; its digest is another one whenever names may say something else.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping

from epista import naming
from epista.contract import conventions as wire
from epista.contract.errors import ConflictError, NotFoundError, ValidationError
from epista.naming import registry
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services.resources import Resources
from epista.server.stores import conventions as rows
from epista.server.stores import moments

_EDITION = "1"
"""Of the packaged conventions: another one makes every digest another."""

_NONE = "[]"


class Known(NamedTuple):
    """The conventions that are valid for a workspace."""

    conventions: naming.Conventions
    """The workspace's own, those installed on this server, the packaged."""
    digest: str
    """Stands for them: another one if names may say something else."""
    packaged_only: bool
    """Whether there are none but the packaged."""


def known(tx: Connection, workspace_id: int) -> Known:
    """Return the conventions that are valid for a workspace."""
    row = rows.current(tx, workspace_id)
    installed = tuple(f"{name} {type(one).__module__}.{type(one).__qualname__}" for name, one in registry.registered().items())
    return _known(row["document"] if row else _NONE, installed)


class Conventions:
    """Admins declare conventions; all members may read what decides what their names say."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def set(self, actor: Actor, wanted: wire.SetConventions) -> wire.Conventions:
        """Replace the workspace's own conventions; the versions before are kept."""

        def work(tx: Connection, access: Access) -> wire.Conventions:
            document = _document(wanted.conventions)
            before = rows.current(tx, access.workspace_id)
            version = before["version"] if before else 0
            if wanted.expect is not None and wanted.expect != version:
                raise ConflictError(
                    f"the conventions are at version {version}, not {wanted.expect}",
                    hint="epista convention list, then set them again",
                    details={"found": version},
                )
            rows.add(
                tx,
                workspace_id=access.workspace_id,
                version=version + 1,
                document=document,
                user_id=actor.user_id,
                at=self._all.clock(),
            )
            names = [convention.name for convention in wanted.conventions]
            self._all.record(tx, actor, access.workspace_id, f"version {version + 1}", {"conventions": names})
            return _message(rows.current(tx, access.workspace_id))

        return self._all.write(actor, "admin", wanted.workspace, wire.Conventions, work)

    def get(self, actor: Actor, wanted: wire.ShowConventions) -> wire.Conventions:
        """Look at the conventions in force, or at an older version of the workspace's own."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = rows.current(tx, access.workspace_id, wanted.version)
            if row is None and wanted.version is not None:
                raise NotFoundError(f"the conventions have no version {wanted.version}", hint="epista convention list")
        self._all.note(actor, access.workspace_id, access.workspace)
        return _message(row)

    def explain(self, actor: Actor, wanted: wire.ExplainName) -> wire.NameReadings:
        """Tell what every convention makes of a name."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            asked = known(tx, access.workspace_id).conventions
        self._all.note(actor, access.workspace_id, access.workspace)
        return wire.NameReadings(readings=tuple(map(_reading, asked.explain(wanted.text))))


@lru_cache(maxsize=64)
def _known(document: str, installed: tuple[str, ...]) -> Known:
    own = {one["name"]: one["declaration"] for one in json.loads(document)}
    digest = hashlib.sha256(json.dumps([_EDITION, document, installed]).encode()).hexdigest()
    return Known(naming.conventions(own), digest, packaged_only=not own and not installed)


def _document(wanted: tuple[wire.Convention, ...]) -> str:
    """Return what is kept of declarations that break no rule; every violation is reported."""
    kept: list[dict[str, Any]] = []
    violations: list[dict[str, Any]] = []
    for number, one in enumerate(wanted):
        path = f"conventions[{number}] ({one.name})"
        if one.name in {**registry.PACKAGED, **registry.registered()} or one.name in [other["name"] for other in kept]:
            violations.append({"path": path, "message": f"the name {one.name!r} is taken", "rule": "convention"})
        try:
            kept.append({"name": one.name, "declaration": naming.declaration(one.declaration)})
        except ValidationError as error:
            violations += [{**found, "path": f"{path}.{found['path']}".rstrip(".")} for found in error.violations]
    if violations:
        raise ValidationError(
            f"{violations[0]['path']}: {violations[0]['message']}",
            hint="a declaration has tokens and separators; see the guide to naming conventions",
            details={"violations": violations},
        )
    return json.dumps(kept)


def _message(row: RowMapping | None) -> wire.Conventions:
    return wire.Conventions(
        version=row["version"] if row else 0,
        conventions=msgspec.json.decode(row["document"], type=tuple[wire.Convention, ...]) if row else (),
        installed=tuple(registry.registered()),
        packaged=tuple(registry.PACKAGED),
        changed_at=moments.to_datetime(row["created_at"]) if row else None,
        changed_by=row["author"] if row else None,
    )


def _reading(reading: naming.Reading) -> wire.NameReading:
    parsed = reading.parsed
    return wire.NameReading(
        convention=reading.convention,
        canonical=parsed.canonical if parsed else None,
        kind=parsed.kind if parsed else None,
        fields=_plain(parsed.fields) if parsed else {},
        warnings=parsed.warnings if parsed else (),
        reason=reading.reason,
        at=reading.at,
    )


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields as JSON has them: times without an offset, as names carry them."""
    plain: dict[str, Any] = dict(fields)
    for name, value in fields.items():
        if isinstance(value, date):
            plain[name] = value.isoformat()
    if "tokens" in plain:
        plain["tokens"] = dict(plain["tokens"])
    if "earlier" in plain:
        plain["earlier"] = [{"label": label, "time": time.isoformat() if time else None} for label, time in plain["earlier"]]
    return plain
