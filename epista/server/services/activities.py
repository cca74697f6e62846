"""Activities: where the versions of a commit come from, as it is recorded and as others may see it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping

from epista.contract import lineage as wire
from epista.contract.errors import NotFoundError
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.stores import activities as rows
from epista.server.stores import assets, moments


@dataclass(kw_only=True, slots=True)
class Origin:
    """Where the versions of one commit come from."""

    inputs: Sequence[int] = ()
    notebook: str | None = None
    row: Mapping[str, Any] | None = None
    """Of the activity, if it was told."""
    told: str = ""
    """What was told of it, as JSON."""
    read: Sequence[int] = ()
    queries: Sequence[int] = ()
    _id: int | None = field(default=None, init=False)

    def activity_id(self, tx: Connection) -> int | None:
        """Return the id of the activity, which is recorded with the first version that it makes."""
        if self._id is None and self.row is not None:
            self._id = rows.add(tx, self.row, self.told, self.read, self.queries)
        return self._id


def origin(tx: Connection, actor: Actor, access: Access, wanted: wire.Origin, *, at: int) -> Origin:
    """
    Return what a commit says of where its versions come from, looked up.

    What is stated has to be there. What was noted by the way may be gone since, and is left out then: a commit shall not fail
    because of what was told without being asked for.

    Raises:
        NotFoundError: the caller may read no version of a stated id.
    """
    told = wanted.activity
    noted = told.read if told is not None else ()
    uids = list(dict.fromkeys((*wanted.inputs, *noted)))
    known = assets.version_ids(tx, access.workspace_id, access.experiments, uids) if uids else {}
    for uid in wanted.inputs:
        if uid not in known:
            raise NotFoundError(f"no version {uid!r}, which is given as an input", hint="epista history KEY")
    found = Origin(inputs=[known[uid] for uid in dict.fromkeys(wanted.inputs)], notebook=wanted.notebook)
    if told is not None:
        found.read = [known[uid] for uid in dict.fromkeys(noted) if uid in known]
        found.queries = rows.own_queries(tx, access.workspace_id, actor.user_id, told.queries)
        found.row = {
            "uid": secrets.identifier("ac"),
            "workspace_id": access.workspace_id,
            "user_id": actor.user_id,
            "at": at,
            "within": None if access.experiments is None else json.dumps(sorted(access.experiments)),
        }
        found.told = msgspec.json.encode(msgspec.structs.replace(told, read=(), queries=())).decode()
    return found


def may_see(access: Access, within: str | None) -> bool:
    """Whether nothing that was told *within* some experiments (None: all) speaks of others than exist for the caller."""
    return access.experiments is None or (within is not None and access.experiments >= set(json.loads(within)))


def recorded(tx: Connection, actor: Actor, access: Access, ids: Collection[int]) -> dict[int, wire.RecordedActivity]:
    """Return activities as the caller may see them: names of assets stand in code and SQL, also of some that went in nowhere."""
    if not ids:
        return {}
    asked: dict[int, list[wire.AskedQuery]] = {}
    for row in rows.queries_of(tx, access.workspace_id, access.experiments, ids):
        is_open = not row["unread"] or (row["user_id"] == actor.user_id and may_see(access, row["within"]))
        asked.setdefault(row["activity_id"], []).append(wire.AskedQuery(id=row["uid"], sql=row["sql"] if is_open else None))
    return {
        id: wire.RecordedActivity(
            id=row["uid"],
            by=row["user"],
            at=moments.to_datetime(row["at"]),
            told=_told(actor, access, row),
            queries=tuple(asked.get(id, ())),
        )
        for id, row in rows.get(tx, ids).items()
    }


def _told(actor: Actor, access: Access, row: RowMapping) -> wire.Activity:
    told = msgspec.json.decode(row["document"], type=wire.Activity)
    if access.experiments is None or (row["user_id"] == actor.user_id and may_see(access, row["within"])):
        return told
    cell = told.cell and msgspec.structs.replace(told.cell, source=None)
    return msgspec.structs.replace(told, cell=cell, left_out=0)
