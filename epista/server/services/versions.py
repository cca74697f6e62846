"""Making versions: what each key shall say, whether it may, and the rows that say it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, RowMapping

from epista.contract import assets as asset_messages
from epista.contract import formats, keys, lineage, metadata
from epista.contract import objects as wire
from epista.contract.errors import (
    ConflictError,
    NotFoundError,
    ValidationError,
)
from epista.contract.messages import Reply
from epista.contract.workspaces import Rule
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import activities, experiment_names, metadata_rules, recordings, usage
from epista.server.services.activities import Origin
from epista.server.services.assets import asset, receipts_of
from epista.server.services.contents import known_to
from epista.server.services.metadata_rules import Subject
from epista.server.services.resources import Resources
from epista.server.stores import assets as rows
from epista.server.stores import moments, tables
from epista.server.stores import usage as usage_rows
from epista.server.stores.dialects import new_ids
from epista.server.stores.search.index import Document

MAX_OPTIONS_BYTES = 64 * 1024
"""How much JSON the options of a serializer may be."""

MAX_EDGES = 250_000
"""How many inputs the objects of one commit may have together; other writers wait while they are recorded."""

LISTED_IN_AUDIT = 50
"""How many things one audit row names."""

MOST_CHECKS = 5
"""How often the rules are checked while they, or the assets, change."""

R = TypeVar("R", bound=Reply)

_dumped = json.JSONEncoder(ensure_ascii=False).encode
"""As `json.dumps`, which would make an encoder each time."""

Checked = set[tuple[int, Subject]]
"""Metadata that satisfies the rules, with the version of the rules."""


@dataclass(kw_only=True, slots=True)
class Draft:
    """One key of a commit on its way to become a version."""

    sha256: str | None
    key: str
    before: RowMapping | None
    blob_id: int
    kind: str
    format: str
    meta: str
    tags: tuple[str, ...]
    options: str
    new_version: str = field(default_factory=partial(secrets.identifier, "ve"))
    """The id of the version that this becomes, if it says something new."""

    @property
    def is_live(self) -> bool:
        return self.before is not None and self.before["deleted_at"] is None

    @property
    def is_unchanged(self) -> bool:
        """Whether the same content, described alike, stands there already."""
        before = self.before
        return (
            before is not None
            and self.is_live
            and (before["blob_id"], before["kind"], before["format"]) == (self.blob_id, self.kind, self.format)
            and tuple(json.loads(before["tags"])) == self.tags
            and _is_same_json(before["meta"], self.meta)
            and _is_same_json(before["options"], self.options)
        )


class Made(Reply, frozen=True, kw_only=True):
    """The current version of each key of a commit, in the order of the request."""

    versions: tuple[int, ...]


class Fresh(Protocol):
    """Contents that have just come in, and are recorded by the commit that needs them."""

    def places(self) -> dict[str, dict[str, Any]]:
        """Return where the bytes of each sha256 lie: ``sha256``, ``object``, ``offset`` and ``size``."""

    def record(self, tx: Connection, access: Access) -> Mapping[str, int]:
        """Record them, and return the id of each sha256."""


class Versions:
    """The steps of every commit that makes versions."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def check(self, objects: Sequence[wire.Described], inputs: Sequence[str]) -> None:
        """Refuse what can be refused without the catalog; every fault of every key is reported."""
        refuse_edges(len(objects), inputs)
        faults: list[dict[str, str]] = []
        seen: set[str] = set()
        for one in objects:
            key = keys.normalise(one.key)
            if key in seen:
                faults.append({"key": key, "path": "key", "message": "stands in the commit twice"})
            seen.add(key)
            for path, kind in (("kind", one.kind), ("kind_hint", one.kind_hint)):
                if kind is not None and kind.upper() not in formats.KINDS:
                    message = f"no kind {kind!r}; there are {', '.join(formats.KINDS)}"
                    faults.append({"key": key, "path": path, "message": message})
            if one.format is not None and not (0 < len(one.format) <= 64 and one.format.isprintable()):
                faults.append({"key": key, "path": "format", "message": "a format has a short printable name"})
            if len(json.dumps(one.options).encode()) > MAX_OPTIONS_BYTES:
                faults.append({"key": key, "path": "options", "message": f"more than {MAX_OPTIONS_BYTES} bytes"})
            if one.meta is not None:
                try:
                    metadata.check(one.meta)
                except ValidationError as error:
                    faults.extend({"key": key, **violation} for violation in error.details.get("violations", []))
        refuse_file_and_folder(seen)
        if faults:
            raise ValidationError(
                f"{faults[0]['key']}: {faults[0]['path']}: {faults[0]['message']}", details={"violations": faults}
            )

    def blob_ids(
        self, tx: Connection, actor: Actor, access: Access, objects: Sequence[wire.PutObject], ids: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the id of each content, by its sha256: one of *ids*, or one that the caller may point at."""
        older = known_to(tx, actor, access, [one.sha256 for one in objects if one.sha256 not in ids])
        blobs = {**ids, **{sha256: row["id"] for sha256, row in older.items()}}
        absent = [one.sha256 for one in objects if one.sha256 not in blobs]
        if absent:
            raise NotFoundError(
                f"content {absent[0]} has not been sent" + (f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""),
                hint="send the bytes first",
                details={"missing": absent[:1000]},
            )
        return blobs

    def drafts(
        self, tx: Connection, actor: Actor, access: Access, objects: Sequence[wire.PutObject], ids: Mapping[str, int]
    ) -> list[Draft]:
        """Return what each key shall say; *ids* are those of contents that this transaction has recorded."""
        _require_keys(access, [keys.normalise(one.key) for one in objects])
        blobs = self.blob_ids(tx, actor, access, objects, ids)
        return self.drafted(tx, access, [(one, blobs[one.sha256], one.sha256) for one in objects])

    def drafted(self, tx: Connection, access: Access, objects: Sequence[tuple[wire.Described, int, str | None]]) -> list[Draft]:
        """Return what each key shall say, of the content with that id, and that sha256 as far as it is known."""
        by_key = {keys.normalise(one.key): (one, blob_id, sha256) for one, blob_id, sha256 in objects}
        _require_keys(access, by_key)
        before = rows.by_keys(tx, access.workspace_id, list(by_key))
        drafts = []
        for key, (one, blob_id, sha256) in by_key.items():
            row = before.get(key)
            live = row is not None and row["deleted_at"] is None
            format = one.format or (formats.of_key(key) or formats.UNKNOWN).name
            kept = row if live else None
            draft = Draft(
                sha256=sha256,
                key=key,
                before=row,
                blob_id=blob_id,
                kind=_kind(one, format, kept),
                format=format,
                meta=_dumped(one.meta) if one.meta is not None else (kept["meta"] if kept else "{}"),
                tags=_tags(one.tags) if one.tags is not None else tuple(json.loads(kept["tags"])) if kept else (),
                options=_dumped(one.options),
            )
            refuse_stale(draft, one.expect)
            drafts.append(draft)
        return drafts

    def refuse_conflicts(self, tx: Connection, access: Access, drafts: Sequence[Draft]) -> None:
        """One name is a file or a folder."""
        new = [draft.key for draft in drafts if not draft.is_live]
        folders = sorted({folder for key in new for folder in keys.folders_of(key)})
        if way := rows.in_the_way(tx, access.workspace_id, new, folders):
            if not access.sees(way):
                raise ConflictError("this name cannot be used: it would be a file and a folder at once", hint="choose another")
            raise ConflictError(
                f"{way!r} is in the way: one name cannot be a file and a folder at once",
                hint="choose another key, or delete what is in the way",
                details={"found": way},
            )

    def write(self, actor: Actor, workspace: str, reply: type[R], work: Callable[[Connection, Access], R], checked: Checked) -> R:
        """
        Run *work* as one commit, with the metadata rules checked outside of it.

        A check may take its time, and other writes must not wait for it. So *work* says what it finds unchecked, under which
        version of the rules; that is checked, and *work* runs again.
        """
        for _ in range(MOST_CHECKS):
            try:
                return self._all.write(actor, "write", workspace, reply, work)
            except _Unchecked as todo:
                metadata_rules.refuse(metadata_rules.violations(self._all.schema_checks, todo.rules, todo.subjects))
                checked.update((todo.version, subject) for subject in todo.subjects)
        raise ConflictError("the rules or the assets changed again and again meanwhile", hint="try again in a moment")

    def receipts(
        self, actor: Actor, workspace: str, work: Callable[[Connection, Access], Made], checked: Checked
    ) -> list[asset_messages.Asset]:
        """Run *work* as one commit; what is kept for a retry are the ids alone, from which the receipts are read again."""
        made = self.write(actor, workspace, Made, work, checked)
        with self._all.read(actor, "write", workspace) as (tx, access):
            return receipts_of(tx, access, made.versions)

    def origin(self, tx: Connection, actor: Actor, access: Access, wanted: lineage.Origin) -> Origin:
        """Return where the versions of a commit come from; see `activities.origin`."""
        return activities.origin(tx, actor, access, wanted, at=self._all.clock())

    def make(
        self,
        tx: Connection,
        actor: Actor,
        access: Access,
        drafts: Sequence[Draft],
        texts: Mapping[str, str],
        origin: Origin,
        *,
        note: str,
    ) -> dict[str, int]:
        """Make a version of each draft that says something new, current and searchable; return the current one of each key."""
        same = {draft.key: draft.before["id"] for draft in drafts if draft.before is not None and draft.is_unchanged}
        changed = [draft for draft in drafts if draft.key not in same]
        known = [draft.before["asset_id"] for draft in changed if draft.before is not None]
        now = self._all.clock()
        usage.count(
            tx,
            access,
            stored_bytes=usage_rows.fresh_bytes(tx, access.workspace_id, {draft.blob_id for draft in changed}),
            assets=sum(not draft.is_live for draft in changed),
            versions=len(changed),
        )
        ids = {draft.key: draft.before["asset_id"] for draft in changed if draft.before is not None}
        new = [draft for draft in changed if draft.before is None]
        ids |= zip((draft.key for draft in new), new_ids(tx, tables.assets, len(new)), strict=True)
        made = dict(zip((draft.key for draft in changed), new_ids(tx, tables.versions, len(changed)), strict=True))
        rows.add_assets(
            tx,
            [
                {
                    "id": ids[draft.key],
                    "uid": secrets.identifier("as"),
                    "workspace_id": access.workspace_id,
                    "key": draft.key,
                    "experiment": keys.experiment_of(draft.key),
                    "name": keys.name_of(draft.key),
                    "stem": rows.stem_of(keys.name_of(draft.key)),
                    "kind": draft.kind,
                    "format": draft.format,
                    "head_id": made[draft.key],
                }
                for draft in new
            ],
        )
        numbers = rows.last_numbers(tx, known)
        activity_id = origin.activity_id(tx) if changed else None
        rows.add_versions(
            tx,
            [
                {
                    "id": made[draft.key],
                    "uid": draft.new_version,
                    "asset_id": ids[draft.key],
                    "number": numbers.get(ids[draft.key], 0) + 1,
                    "blob_id": draft.blob_id,
                    "kind": draft.kind,
                    "format": draft.format,
                    "options": draft.options,
                    "meta": draft.meta,
                    "tags": _dumped(draft.tags),
                    "created_at": now,
                    "author_id": actor.user_id,
                    "note": note,
                    "notebook": origin.notebook,
                    "activity_id": activity_id,
                }
                for draft in changed
            ],
        )
        rows.set_heads(
            tx,
            [
                {
                    "asset_id": ids[draft.key],
                    "new_head_id": made[draft.key],
                    "new_kind": draft.kind,
                    "new_format": draft.format,
                }
                for draft in changed
                if draft.before is not None
            ],
        )
        rows.add_tags(tx, access.workspace_id, ((ids[draft.key], draft.tags) for draft in changed))
        if origin.inputs:
            rows.add_inputs(tx, [*made.values(), *same.values()], origin.inputs)
        experiment_names.ensure(tx, access, {keys.experiment_of(draft.key) for draft in drafts}, user_id=actor.user_id, at=now)
        recordings.note(tx, access.workspace_id, [draft.key for draft in new], at=now)
        self.index(tx, access, [(ids[draft.key], draft) for draft in changed], texts)
        return same | made

    def index(self, tx: Connection, access: Access, drafts: Sequence[tuple[int, Draft]], texts: Mapping[str, str]) -> None:
        self._all.search.index(
            tx,
            [
                Document(
                    asset_id=asset_id,
                    workspace_id=access.workspace_id,
                    key=draft.key,
                    tags=draft.tags,
                    meta=json.loads(draft.meta),
                    content=texts.get(draft.key, ""),
                )
                for asset_id, draft in drafts
            ],
        )

    def receipt(self, tx: Connection, actor: Actor, access: Access, key: str) -> asset_messages.Asset:
        row = rows.by_key(tx, access.workspace_id, access.experiments, key)
        assert row is not None, "it was just written"
        done = asset(tx, access, row)
        self._all.record(tx, actor, access.workspace_id, key, {"version": done.version})
        return done

    def hide(self, tx: Connection, access: Access, ids: Sequence[int]) -> None:
        rows.hide(tx, ids, self._all.clock())
        self._all.search.remove(tx, ids)
        usage.count(tx, access, assets=-len(ids))


def refuse_edges(objects: int, inputs: Sequence[str]) -> None:
    """Refuse more lineage than one commit may record."""
    if objects * len(inputs) > MAX_EDGES:
        raise ValidationError(
            f"{len(inputs):,} inputs of {objects:,} objects are more than {MAX_EDGES:,} edges of lineage",
            hint="put what has many inputs by itself",
        )


def _is_same_json(one: str, other: str) -> bool:
    """Whether two documents say the same in any order of their keys: to Python, 1, 1.0 and True were equal."""
    return one == other or json.dumps(json.loads(one), sort_keys=True) == json.dumps(json.loads(other), sort_keys=True)


def require_checked(tx: Connection, access: Access, drafts: Sequence[Draft], checked: Checked) -> None:
    """Make sure that the metadata of *drafts* is checked against the rules in force."""
    row = metadata_rules.current(tx, access.workspace_id)
    if row is None:
        return
    subjects = subjects_of(drafts)
    unchecked = [subject for subject in subjects if (row["version"], subject) not in checked]
    if unchecked:
        raise _Unchecked(row["version"], metadata_rules.loaded(row), unchecked)


def subjects_of(drafts: Sequence[Draft]) -> list[Subject]:
    """Return what the rules of the workspace are about."""
    return [Subject(draft.key, draft.kind, draft.meta) for draft in drafts]


class _Unchecked(Exception):
    """Metadata that is to be checked before the transaction can go on."""

    def __init__(self, version: int, rules: Sequence[Rule], subjects: Sequence[Subject]) -> None:
        super().__init__(version)
        self.version = version
        self.rules = rules
        self.subjects = subjects


def refuse_file_and_folder(wanted: AbstractSet[str]) -> None:
    """Refuse keys of which one would be the folder of another."""
    folders = {folder: key for key in sorted(wanted) for folder in keys.folders_of(key)}
    for key in sorted(wanted & folders.keys()):
        raise ConflictError(f"{key!r} would be a file and the folder of {folders[key]!r} at once", hint="rename one of them")


def refuse_stale(draft: Draft, expect: str | None) -> None:
    """Hold a conditional write to its condition, and tell the loser who won."""
    if expect is None:
        return
    row = draft.before if draft.is_live else None
    if expect == "absent" and row is None:
        return
    if row is not None and expect == row["uid"]:
        return
    if row is None:
        raise ConflictError(
            f"{draft.key!r} is not there, but version {expect!r} was expected", hint="put it with expect='absent'"
        )
    at = moments.to_datetime(row["created_at"])
    expected = "nothing" if expect == "absent" else f"version {expect!r}"
    raise ConflictError(
        f"{draft.key!r} is at version {row['number']} ({row['uid']}) by {row['author']}, "
        f"{at.isoformat(timespec='seconds')}; {expected} was expected",
        hint=f"look at it, then put again with expect={row['uid']!r}",
        details={"found": row["uid"], "number": row["number"], "author": row["author"], "at": at.isoformat()},
    )


def _require_keys(access: Access, wanted: Iterable[str]) -> None:
    # What one may write is decided by experiment, so one key of each is asked about.
    for key in {keys.experiment_of(key): key for key in wanted}.values():
        access.require_key(key)


def _kind(one: wire.Described, format: str, kept: RowMapping | None) -> str:
    if one.kind is not None:
        return one.kind.upper()
    if kept is not None and kept["format"] == format:
        return str(kept["kind"])
    if one.kind_hint is not None:
        return one.kind_hint.upper()
    return formats.BY_NAME.get(format, formats.UNKNOWN).kind


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


def for_audit(drafts: Sequence[Draft]) -> tuple[str, dict[str, Any]]:
    """Return what the audit row of a commit says: its target and its details."""
    target = drafts[0].key if len(drafts) == 1 else f"{len(drafts)} assets"
    listed = [
        {
            "key": one.key,
            "version": one.before["uid"] if one.before is not None and one.is_unchanged else one.new_version,
            "sha256": one.sha256,
        }
        for one in drafts[:LISTED_IN_AUDIT]
    ]
    return target, {"assets": listed, "count": len(drafts)}
