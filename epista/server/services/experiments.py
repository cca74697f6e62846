"""Experiments: folders at the root of a workspace, with a title and metadata if somebody described them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Connection

from epista.contract import experiments as wire
from epista.contract import keys, metadata
from epista.contract.errors import ConflictError, NotFoundError
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import cursors
from epista.server.services.resources import Resources
from epista.server.stores import experiments as rows
from epista.server.stores import moments


class Experiments:
    """An experiment exists for whoever may read its assets."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def create(self, actor: Actor, wanted: wire.CreateExperiment) -> wire.Experiment:
        """Describe an experiment once; its folder may be there already."""
        name = keys.normalise(wanted.name)
        metadata.check(wanted.meta)

        def work(tx: Connection, access: Access) -> wire.Experiment:
            access.require_key(name + "/")
            described = rows.describe(
                tx,
                workspace_id=access.workspace_id,
                name=name,
                title=wanted.title,
                meta=json.dumps(wanted.meta, ensure_ascii=False),
                user_id=actor.user_id,
                at=self._all.clock(),
            )
            if not described:
                raise ConflictError(f"experiment {name!r} is described already", hint=f"epista experiment show {name}")
            self._all.record(tx, actor, access.workspace_id, name, {"title": wanted.title})
            return _one(tx, access, name)

        return self._all.write(actor, "write", wanted.workspace, wire.Experiment, work)

    def find(self, actor: Actor, wanted: wire.ListExperiments) -> wire.Experiments:
        """List experiments: described ones, and folders that hold a live asset."""
        after = cursors.text(wanted.after)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.page(tx, access.workspace_id, access.experiments, after=after, limit=wanted.limit)
        self._all.note(actor, access.workspace_id, access.workspace)
        more = cursors.of(found[-1]["name"]) if len(found) == wanted.limit else None
        return wire.Experiments(experiments=tuple(map(_message, found)), next=more)

    def get(self, actor: Actor, wanted: wire.GetExperiment) -> wire.Experiment:
        """Look at one experiment."""
        name = keys.normalise_prefix(wanted.name)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = _one(tx, access, name)
        self._all.note(actor, access.workspace_id, name)
        return found


def ensure(tx: Connection, access: Access, names: Iterable[str | None], *, user_id: int, at: int) -> None:
    """Make the experiments that a put's folders name known, where nobody described them."""
    rows.ensure(tx, workspace_id=access.workspace_id, names=[name for name in names if name], user_id=user_id, at=at)


def _one(tx: Connection, access: Access, name: str) -> wire.Experiment:
    found = rows.page(tx, access.workspace_id, access.experiments, name=name, after=None, limit=1)
    if not found:
        raise NotFoundError(f"no experiment {name!r}", hint="epista experiment list")
    return _message(found[0])


def _message(row: rows.Row) -> wire.Experiment:
    return wire.Experiment(
        name=row["name"],
        title=row["title"],
        meta=cursors.document(row["meta"]),
        assets=row["assets"],
        created_at=moments.to_datetime(row["created_at"]),
        created_by=row["author"],
    )
