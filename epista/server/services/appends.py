"""
Appends: rows are added to a table as another file of it, and a version has all of them.

What a version with several files has as its content is a manifest: a small object that names them, and rows that only the server
writes. Its bytes are nobody's to read; whoever asks for the bytes of the table gets one file with all rows (`joins`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping

from epista.contract import assets as asset_messages
from epista.contract import formats, keys, lineage
from epista.contract import objects as objects_messages
from epista.contract import tables as wire
from epista.contract.errors import ConflictError, FormatError, NotFoundError
from epista.contract.objects import Blob as Joined
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.engines.table_files import Column, Facts
from epista.server.services import joins, packs
from epista.server.services.contents import known_to
from epista.server.services.objects import Objects, as_draft
from epista.server.services.readings import PLAIN, together
from epista.server.services.resources import Resources
from epista.server.services.table_names import Blob
from epista.server.services.tables import Tables, document
from epista.server.services.versions import Checked, Made, Versions, for_audit, refuse_stale, require_checked
from epista.server.stores import assets as rows
from epista.server.stores import table_facts, table_parts

Part = Blob | table_parts.Made
"""A file of a table: a content that is there, or one that was made and no row knows yet."""

MOST_FILES = 200
"""How many files a table has; then they are joined before there is another one."""

MOST_TRIES = 100
"""How often an append begins anew because another one was faster."""


class _Moved(Exception):
    """The version that rows were to be added to is not the current one any more."""


class _Plan(NamedTuple):
    """What becomes the new version."""

    parts: list[Part]
    facts: Facts
    new: list[str]
    """The names of the columns that were not there before."""
    rows: int
    """How many are added."""


class Appends:
    """Rows that are added stand behind those that were there; two who add some at once both do."""

    def __init__(self, resources: Resources, versions: Versions, objects: Objects) -> None:
        self._all = resources
        self._versions = versions
        self._objects = objects
        self._tables = Tables(resources)

    def append(self, actor: Actor, wanted: wire.AppendRows) -> asset_messages.Asset:
        """Add rows to a table; where there is none, put them."""
        key = keys.normalise(wanted.key)
        for _ in range(MOST_TRIES):
            with self._all.read(actor, "write", wanted.workspace) as (tx, access):
                access.require_key(key)
                kept = self._all.kept(tx, actor, Made)
                row = rows.by_key(tx, access.workspace_id, access.experiments, key)
                part = None if kept else self._part(tx, actor, access, wanted.sha256)
            if part is None:
                # Asked again after the reply was lost: what was made then is found under the key of the request.
                return self._versions.receipts(actor, wanted.workspace, lambda *_: Made(versions=()), set())[0]
            try:
                if row is None:
                    return self._put(actor, wanted, key, part)
                return self._append(actor, wanted, row, part)
            except _Moved:
                continue
        raise ConflictError(f"others changed {key!r} again and again meanwhile", hint="try again in a moment")

    def join(self, actor: Actor, wanted: wire.JoinTable) -> Joined:
        """Make one file of a version that has several, for whoever may read it."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.blob_of(tx, access.workspace_id, access.experiments, wanted.version)
            if found is None:
                raise NotFoundError(f"no version {wanted.version!r}", hint="epista history KEY")
            ids = rows.version_ids(tx, access.workspace_id, access.experiments, [wanted.version])
        joins.join(self._all, actor, ids[wanted.version])
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.blob_of(tx, access.workspace_id, access.experiments, wanted.version)
        if found is None or found["sha256"] is None:
            raise NotFoundError(f"version {wanted.version!r} was erased meanwhile, or is linked")
        self._all.note(actor, access.workspace_id, found["name"], {"version": wanted.version})
        return Joined(sha256=found["sha256"], size_bytes=found["size"])

    def _part(self, tx: Connection, actor: Actor, access: Access, sha256: str) -> Blob:
        found = known_to(tx, actor, access, [sha256]).get(sha256)
        if found is None:
            raise NotFoundError(f"content {sha256} has not been sent", hint="send the bytes first", details={"missing": [sha256]})
        return Blob(**{name: found[name] for name in ("id", "sha256", "size", "object", "offset", "root")})

    def _put(self, actor: Actor, wanted: wire.AppendRows, key: str, part: Blob) -> asset_messages.Asset:
        _require_parquet(key, (formats.of_key(key) or formats.BY_NAME["parquet"]).name)
        self._tables.facts(part)
        one = objects_messages.PutObject(key=key, sha256=wanted.sha256, format="parquet", expect=wanted.expect or "absent")
        commit = objects_messages.CommitObjects(workspace=wanted.workspace, objects=(one,), **lineage.said(wanted))
        try:
            return self._objects.put(actor, commit)[0]
        except ConflictError as error:
            # Somebody else put it first: then there is something to add to.
            if wanted.expect is None and "number" in error.details:
                raise _Moved from error
            raise

    def _append(self, actor: Actor, wanted: wire.AppendRows, row: RowMapping, part: Blob) -> asset_messages.Asset:
        _require_parquet(row["key"], row["format"])
        refuse_stale(as_draft(row, row), wanted.expect)
        plan = self._planned(actor, row, part)
        manifest: str | None = None
        if plan.rows or plan.new:
            manifest = self._stored(table_parts.manifest([str(one.sha256) for one in plan.parts]))
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> Made:
            head = rows.by_key(tx, access.workspace_id, access.experiments, row["key"])
            if head is None or (head["id"], head["blob_id"]) != (row["id"], row["blob_id"]):
                raise _Moved
            access.require_key(row["key"])
            draft = as_draft(head, head)
            refuse_stale(draft, wanted.expect)
            self._part(tx, actor, access, wanted.sha256)
            if manifest is None:
                self._all.record(tx, actor, access.workspace_id, row["key"], {"rows": 0})
                return Made(versions=(head["id"],))
            now = self._all.clock()
            ids = [one.id if isinstance(one, Blob) else table_parts.keep(tx, one, at=now) for one in plan.parts]
            if not isinstance(plan.parts[-1], Blob):
                table_parts.add_sources(tx, ids[-1], [part.id])
            size = sum(one.size for one in plan.parts)
            draft.sha256, draft.blob_id = None, table_parts.add(tx, ids, object=manifest, size=size, at=now)
            table_facts.keep(tx, draft.blob_id, PLAIN.digest, document(plan.facts))
            require_checked(tx, access, [draft], checked)
            text = self._all.search.contents_of(tx, [row["asset_id"]]).get(row["asset_id"], "")
            texts = {row["key"]: "\n".join([text, *plan.new])}
            origin = self._versions.origin(tx, actor, access, wanted)
            origin.inputs = [*origin.inputs, head["id"]]
            note = f"appended {plan.rows:,} row{'' if plan.rows == 1 else 's'}"
            made = self._versions.make(tx, actor, access, [draft], texts, origin, note=note)
            target, details = for_audit([draft])
            self._all.record(tx, actor, access.workspace_id, target, details | {"rows": plan.rows})
            return Made(versions=(made[row["key"]],))

        try:
            return self._versions.receipts(actor, wanted.workspace, work, checked)[0]
        finally:
            written = {one.object for one in plan.parts if not isinstance(one, Blob)}
            packs.drop(self._all, written | ({manifest} if manifest is not None else set()))

    def _planned(self, actor: Actor, row: RowMapping, part: Blob) -> _Plan:
        with self._all.catalog.read() as tx:
            content = table_parts.content(tx, row["id"])
            parts = table_parts.of_version(tx, row["id"])
        if content is None or content["id"] != row["blob_id"]:
            raise _Moved
        if len(parts) >= MOST_FILES:
            joins.join(self._all, actor, row["id"])
            raise _Moved
        old, new = self._tables.facts(Blob(**content)), self._tables.facts(part)
        for facts, whose in ((old, f"{row['key']!r} has"), (new, "the new rows have")):
            if facts.is_renamed:
                raise FormatError(f"{whose} columns whose names engines do not tell apart: {facts.notes[0]}", hint="rename them")
        columns = fitted(old.columns, new.columns)
        known = {one.name for one in old.columns}
        added = [one.name for one in columns if one.name not in known]
        files: list[Part] = [Blob(**one) for one in parts] or [Blob(**content)]
        if not old.is_plain or content["root"] is not None or _of(columns, old.columns) != old.columns:
            old, made = self._rewritten(Blob(**content), old, new, columns)
            files = [made]
        if not new.is_plain or _of(columns, new.columns) != new.columns:
            new, made = self._rewritten(part, new, old, columns)
            files.append(made)
        else:
            files.append(part)
        whole = Facts(
            columns=columns,
            rows=old.rows + new.rows,
            files=together(columns, [*old.files, *new.files]),
            file_count=old.file_count + new.file_count,
            schemas=list(dict.fromkeys([*old.schemas, *new.schemas])),
        )
        return _Plan(files, whole, added, new.rows)

    def _rewritten(self, blob: Blob, facts: Facts, other: Facts, columns: Sequence[Column]) -> tuple[Facts, table_parts.Made]:
        """Write the rows of a content as one file, in the types of *columns*."""
        with self._all.table_cache.use() as use:
            into = use.scratch()
            found = self._all.table_files.join(
                self._tables.files(blob, use),
                columns=_of(columns, facts.columns),
                schemas=[*facts.schemas, *other.schemas],
                into=into,
            )
            return found, joins.stored(self._all, into)

    def _stored(self, data: bytes) -> str:
        incoming = self._all.blobs.create(size=len(data))
        try:
            incoming.write(data)
            return incoming.finish().object
        finally:
            incoming.discard()


def fitted(old: Sequence[Column], new: Sequence[Column]) -> list[Column]:
    """
    Return the columns of a table to which rows are added: those it has, each in a type that holds both, and then new ones.

    Raises:
        FormatError: a column has types that do not go together, or nothing but case tells it from another; or none is shared.
    """
    known, given = {one.name: one for one in old}, {one.name: one for one in new}
    folded = {one.name.casefold(): one.name for one in old}
    for name in given:
        if name not in known and (other := folded.get(name.casefold())) is not None:
            raise FormatError(f"only case tells the column {name!r} from {other!r}", hint="rename it")
    if not known.keys() & given.keys():
        raise FormatError(
            f"the new rows have none of the columns of the table: {', '.join(known)}", details={"columns": list(known)}
        )
    columns = []
    faults = []
    for name in dict.fromkeys([*known, *given]):
        # A column that only one of them has is its own match.
        was, now = known.get(name) or given[name], given.get(name) or known[name]
        kind = now.type if was.is_empty else was.type if now.is_empty else _wider(was.type, now.type)
        if kind is None:
            faults.append(f"column {name!r} is {was.type}, and {now.type} in the new rows")
        columns.append(Column(name=name, type=kind or was.type))
    if faults:
        raise FormatError("; ".join(faults), hint="convert it before; or put the whole table anew", details={"faults": faults})
    return columns


_INTEGER = re.compile("(u?)int(8|16|32|64)")
_MOMENT = re.compile(r"timestamp\[(?:s|ms|us|ns)(.*)\]")


def _wider(one: str, other: str) -> str | None:
    """Return the type that holds the values of both; of two that differ in their unit alone, the first."""
    if one == other:
        return one
    whole, another = _INTEGER.fullmatch(one), _INTEGER.fullmatch(other)
    if whole and another:
        bits, others = int(whole[2]), int(another[2])
        if whole[1] == another[1]:
            return one if bits > others else other
        # A signed type holds unsigned integers of half its size.
        needed = max(others if whole[1] == "" else bits, 2 * (bits if whole[1] else others))
        return f"int{needed}" if needed <= 64 else None
    numbers = ("float", "double")
    if (whole or one in numbers) and (another or other in numbers):
        return "double"
    moment, second = _MOMENT.fullmatch(one), _MOMENT.fullmatch(other)
    if moment and second and moment[1] == second[1]:
        return one
    return None


def _of(columns: Sequence[Column], some: Sequence[Column]) -> list[Column]:
    """Return *some* as they are among *columns*."""
    known = {one.name: one for one in columns}
    return [known[one.name] for one in some]


def _require_parquet(key: str, format: str) -> None:
    if format != "parquet" or formats.is_gzipped(key):
        raise FormatError(
            f"rows are added to Parquet, and {key!r} is {format}{', gzipped' if formats.is_gzipped(key) else ''}",
            hint="put the table as .parquet, and append to that",
        )
