"""Objects: contents come in, versions are made of them, and what stands at a key is hidden or brought back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, RowMapping

from epista.contract import assets as asset_messages
from epista.contract import formats, keys, metadata
from epista.contract import objects as wire
from epista.contract.errors import (
    ConflictError,
    ForbiddenError,
    IntegrityError,
    InvalidKeyError,
    KeyNotFoundError,
    NotFoundError,
    TooLargeError,
    ValidationError,
)
from epista.contract.messages import Reply
from epista.contract.workspaces import Rule
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.engines import extraction
from epista.server.engines.extractors import Job
from epista.server.services import experiments, metadata_rules, purges, usage
from epista.server.services.assets import asset, locate, refuse_folder, version_row, whole
from epista.server.services.metadata_rules import Subject
from epista.server.services.resources import Resources
from epista.server.stores import assets as rows
from epista.server.stores import moments
from epista.server.stores import usage as usage_rows
from epista.server.stores.blobs import Incoming, Stored
from epista.server.stores.local import LocalBlobs
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

Checked = set[tuple[int, Subject]]
"""Metadata that satisfies the rules, with the version of the rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Where the bytes of a version lie, and what to call them."""

    object: str
    offset: int
    size: int
    sha256: str
    name: str
    media_type: str
    is_deleted: bool


@dataclass(kw_only=True, slots=True)
class Draft:
    """One key of a commit on its way to become a version."""

    wanted: wire.PutObject
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


class _Copy(NamedTuple):
    """One asset on its way to another key."""

    source: RowMapping
    version: RowMapping
    draft: Draft

    @property
    def text_is_indexed(self) -> bool:
        """Whether the words of the source are those of the copy: the same bytes, read in the same way."""
        draft, source = self.draft, self.source
        is_as_gzipped = formats.is_gzipped(draft.key) == formats.is_gzipped(source["key"])
        return self.version["uid"] == source["uid"] and draft.format == source["format"] and is_as_gzipped


class _Made(Reply, frozen=True, kw_only=True):
    """The current version of each key of a commit, in the order of the request."""

    versions: tuple[int, ...]


class Fresh(Protocol):
    """Contents that have just come in, and are recorded by the commit that needs them."""

    def places(self) -> dict[str, dict[str, Any]]:
        """Return where the bytes of each sha256 lie: ``object``, ``offset`` and ``size``."""

    def record(self, tx: Connection, access: Access) -> Mapping[str, int]:
        """Record them, and return the id of each sha256."""


class Objects:
    """Nothing is overwritten: a put makes a version, a delete hides, and one act is one transaction."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    # Contents

    def receive(self, actor: Actor, wanted: wire.UploadBlob, size: int | None) -> Incoming:
        """Let content come in, if the caller may write anything here; `received` ends it."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            usage.refuse_early(tx, access, size or 0)
        self.refuse_size(size or 0)
        return self._all.blobs.create(size=size)

    def refuse_size(self, size: int) -> None:
        """Refuse content over the limit of the server."""
        limit = self._all.config.max_upload_bytes
        if size > limit:
            raise TooLargeError(f"the object is over the limit of {limit:,} bytes", details={"limit_bytes": limit})

    def received(
        self, actor: Actor, wanted: wire.UploadBlob, incoming: Incoming, size: int | None, digest: str | None
    ) -> wire.Blob:
        """Keep content that has come in whole; *size* and *digest* are what the sender said of it."""
        if size is not None and incoming.size != size:
            raise IntegrityError(f"the body has {incoming.size:,} bytes, its Content-Length said {size:,}")
        stored = incoming.finish()
        if digest is not None and digest != stored.sha256:
            self._all.blobs.delete(stored.object)
            raise IntegrityError(
                f"the bytes that arrived have sha256 {stored.sha256}, but {digest} was announced",
                hint="send them again",
                details={"sha256": stored.sha256},
            )
        return self._keep(actor, wanted.workspace, stored)

    def missing(self, actor: Actor, wanted: wire.MissingBlobs) -> wire.Missing:
        """Say which contents have to be sent."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            known = self.known(tx, actor, access, wanted.sha256)
        self._all.note(actor, access.workspace_id, f"{len(wanted.sha256)} contents")
        return wire.Missing(sha256=tuple(digest for digest in wanted.sha256 if digest not in known))

    def stage(self, actor: Actor, wanted: wire.StageBlob) -> wire.Stage:
        """Give the owner of an embedded lab a file to copy bytes into."""
        with self._all.read(actor, "write", wanted.workspace) as (_, access):
            folder = self._folder(actor)
        name, path = folder.stage()
        self._all.note(actor, access.workspace_id, name)
        return wire.Stage(stage=name, path=str(path))

    def take_staged(self, actor: Actor, wanted: wire.TakeStaged) -> wire.Blob:
        """Take in a staged file: the server hashes the copy it owns, because the source may change."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            folder = self._folder(actor)
            # Asked before the stage, which a first try has taken away.
            if (kept := self._all.kept(tx, actor, wire.Blob)) is not None:
                self._all.note(actor, access.workspace_id, "", {"repeats": actor.request.idempotency_key})
                return kept
        stored = folder.take(wanted.stage, self._all.config.max_upload_bytes)
        if stored.size > self._all.config.max_upload_bytes:
            folder.delete(stored.object)
        self.refuse_size(stored.size)
        return self._keep(actor, wanted.workspace, stored)

    def locate(self, actor: Actor, wanted: wire.LocateBlob) -> wire.Location:
        """Tell the owner of an embedded lab where in the folder the bytes of a version lie."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            folder = self._folder(actor)
            found = content_of(tx, access, wanted.version)
        if found.offset:
            raise NotFoundError("these bytes have no file of their own", hint="read them through the server: objects.content")
        self._all.note(actor, access.workspace_id, wanted.version)
        path = str(folder.path(found.object).absolute())
        return wire.Location(path=path, offset=found.offset, size_bytes=found.size, sha256=found.sha256)

    def content(self, actor: Actor, wanted: wire.ReadContent) -> Content:
        """Return where the bytes of a version lie, for whoever may read its asset."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = content_of(tx, access, wanted.version)
        self._all.note(actor, access.workspace_id, found.name, {"version": wanted.version})
        return found

    # Versions

    def commit(self, actor: Actor, wanted: wire.CommitObjects) -> wire.Assets:
        """Make versions of contents that are there: all of them in one transaction, or none."""
        return wire.Assets(assets=tuple(self.put(actor, wanted)))

    def put(self, actor: Actor, wanted: wire.CommitObjects, fresh: Fresh | None = None) -> list[asset_messages.Asset]:
        """Make versions, of contents that are there or *fresh*, which are recorded in the same transaction."""
        self.check(wanted.objects, wanted.inputs)
        texts = self.texts(actor, wanted.workspace, wanted.objects, fresh)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> _Made:
            ids = fresh.record(tx, access) if fresh else {}
            drafts = self.drafts(tx, actor, access, wanted.objects, ids)
            self.refuse_conflicts(tx, access, drafts)
            _require_checked(tx, access, drafts, checked)
            inputs = self.inputs(tx, access, wanted.inputs)
            made = self.make(tx, actor, access, drafts, texts, inputs, wanted.notebook, note="put")
            self._all.record(tx, actor, access.workspace_id, *for_audit(drafts))
            return _Made(versions=tuple(made[draft.key] for draft in drafts))

        return self._receipts(actor, wanted.workspace, work, checked)

    def set_meta(self, actor: Actor, wanted: wire.SetMetadata) -> asset_messages.Asset:
        """Describe an asset anew: a version on the same bytes."""
        refuse_folder(wanted.key, "put_dir(..., meta=...)")
        metadata.check(wanted.meta)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            row = locate(tx, access, wanted.key, wanted.experiment)
            access.require_key(row["key"])
            draft = _as_draft(row, row)
            draft.meta = json.dumps(wanted.meta, ensure_ascii=False)
            _refuse_stale(draft, wanted.expect)
            _require_checked(tx, access, [draft], checked)
            text = self._all.search.content_of(tx, row["asset_id"])
            self.make(tx, actor, access, [draft], {draft.key: text}, [], None, note="metadata")
            return self._receipt(tx, actor, access, row["key"])

        return self._write_checked(actor, wanted.workspace, asset_messages.Asset, work, checked)

    # Hiding and bringing back

    def delete(self, actor: Actor, wanted: wire.DeleteAsset) -> asset_messages.Asset:
        """Hide an asset; its versions stay."""
        refuse_folder(wanted.key, f"delete_dir({wanted.key!r}), or: epista rm --dir {wanted.key}")

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            try:
                row = locate(tx, access, wanted.key, wanted.experiment)
            except KeyNotFoundError as error:
                if folder := error.details.get("folder"):
                    raise InvalidKeyError(
                        f"{folder!r} is a folder", hint=f"for a folder: delete_dir({folder!r}), or: epista rm --dir {folder}"
                    ) from None
                raise
            access.require_key(row["key"])
            hidden = asset(tx, access, row)
            self._hide(tx, access, [row["asset_id"]])
            self._all.record(tx, actor, access.workspace_id, hidden.key, {"version": hidden.version})
            return hidden

        return self._all.write(actor, "write", wanted.workspace, asset_messages.Asset, work)

    def delete_dir(self, actor: Actor, wanted: wire.DeleteFolder) -> wire.Keys:
        """Hide everything below a folder, at its boundary: all or nothing."""
        folder = keys.normalise_folder(wanted.path)
        if not folder:
            raise InvalidKeyError("an empty folder would mean the whole workspace", hint="delete_dir('EXP-12/')")

        def work(tx: Connection, access: Access) -> wire.Keys:
            here = access.workspace_id, access.experiments
            found = rows.keys_after(tx, *here, prefix=folder, after=None, limit=2**62)
            for key in found:
                access.require_key(key)
            if not wanted.dry_run:
                known = rows.by_keys(tx, access.workspace_id, found, light=True)
                self._hide(tx, access, [known[key]["asset_id"] for key in found])
            details = {"keys": found[:LISTED_IN_AUDIT], "count": len(found), "dry_run": wanted.dry_run}
            self._all.record(tx, actor, access.workspace_id, folder, details)
            return wire.Keys(keys=tuple(found))

        return self._all.write(actor, "write", wanted.workspace, wire.Keys, work)

    def restore(self, actor: Actor, wanted: wire.RestoreAsset) -> asset_messages.Asset:
        """Bring a deleted asset back, or make an old version the current one; doing it again changes nothing."""
        refuse_folder(wanted.key, "restore each of its keys")
        texts = self._restored_text(actor, wanted)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> asset_messages.Asset:
            row = locate(tx, access, wanted.key, wanted.experiment, deleted=True)
            access.require_key(row["key"])
            draft = _as_draft(row, row if wanted.version is None else version_row(tx, row, wanted.version))
            self.refuse_conflicts(tx, access, [draft])
            if wanted.version is not None:
                _require_checked(tx, access, [draft], checked)
            if _says_the_same(row, draft):
                if not draft.is_live:
                    usage.count(tx, access, assets=1)
                    rows.show(tx, row["asset_id"])
                    self._index(tx, access, [(row["asset_id"], draft)], texts)
            else:
                old = version_row(tx, row, str(wanted.version))
                note = f"restored from version {old['number']}"
                self.make(tx, actor, access, [draft], texts, [old["id"]], None, note=note)
            return self._receipt(tx, actor, access, row["key"])

        return self._write_checked(actor, wanted.workspace, asset_messages.Asset, work, checked)

    def purge(self, actor: Actor, wanted: wire.PurgeVersions) -> wire.Purged:
        """Erase versions for good."""
        return purges.purge(self._all, actor, wanted)

    # To other keys

    def copy(self, actor: Actor, wanted: wire.CopyObjects) -> wire.Assets:
        """Make versions of what stands at other keys, without moving bytes: all of them, or none."""
        return self._relocate(actor, wanted, wanted.objects, note="copied")

    def move(self, actor: Actor, wanted: wire.MoveObjects) -> wire.Assets:
        """Copy and hide the sources in one commit; their versions stay with them."""
        return self._relocate(actor, wanted, wanted.objects, note="moved")

    def _relocate(
        self, actor: Actor, wanted: wire.CopyObjects | wire.MoveObjects, objects: Sequence[wire.MoveObject], *, note: str
    ) -> wire.Assets:
        is_move = note == "moved"
        read = self._copied_texts(actor, wanted, objects)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> _Made:
            copies = self._copies(tx, access, objects, wanted.experiment)
            drafts = [copy.draft for copy in copies]
            texts = {copy.draft.key: self._copied_text(tx, copy, read) for copy in copies}
            if is_move:
                # First, for a target may lie below a key that is free only then.
                self._hide_moved(tx, access, copies)
            self.refuse_conflicts(tx, access, drafts)
            _require_checked(tx, access, drafts, checked)
            made = self.make(tx, actor, access, drafts, texts, [], wanted.notebook, note=note)
            rows.add_sources(tx, [(made[copy.draft.key], copy.version["id"]) for copy in copies])
            target, details = for_audit(drafts)
            sources = [{"key": copy.source["key"], "version": copy.version["uid"]} for copy in copies[:LISTED_IN_AUDIT]]
            self._all.record(tx, actor, access.workspace_id, target, details | {"sources": sources})
            return _Made(versions=tuple(made[draft.key] for draft in drafts))

        return wire.Assets(assets=tuple(self._receipts(actor, wanted.workspace, work, checked)))

    def _copies(self, tx: Connection, access: Access, objects: Sequence[wire.MoveObject], experiment: str | None) -> list[_Copy]:
        """Return what is to be copied, folders as all that is below them."""
        plan: dict[str, tuple[wire.MoveObject, RowMapping]] = {}
        for one in objects:
            for target, row in _sources(tx, access, one, experiment):
                if target in plan:
                    raise ValidationError(f"{target!r} is the target of {plan[target][1]['key']!r} and of {row['key']!r}")
                access.require_key(target)
                plan[target] = one, row
        _refuse_file_and_folder(plan.keys())
        before = rows.by_keys(tx, access.workspace_id, list(plan))
        copies: list[_Copy] = []
        for target, (one, row) in plan.items():
            number = one.version if isinstance(one, wire.CopyObject) else None
            version = row if number is None else version_row(tx, row, number)
            draft = _as_copy(version, row["key"], target, before.get(target))
            _refuse_stale(draft, one.expect)
            copies.append(_Copy(row, version, draft))
        return copies

    def _hide_moved(self, tx: Connection, access: Access, copies: Sequence[_Copy]) -> None:
        """Hide the sources, but for those that are the target of another."""
        targets = {copy.draft.key for copy in copies}
        for copy in copies:
            access.require_key(copy.source["key"])
        self._hide(tx, access, [copy.source["asset_id"] for copy in copies if copy.source["key"] not in targets])

    def _copied_texts(
        self, actor: Actor, wanted: wire.CopyObjects | wire.MoveObjects, objects: Sequence[wire.MoveObject]
    ) -> dict[tuple[str, str], str]:
        """Read the words, by version and target, of what is indexed in another way at its target, or not at all any more."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            copies = [copy for copy in self._copies(tx, access, objects, wanted.experiment) if not copy.text_is_indexed]
            here = access.workspace_id, access.experiments
            blobs = {copy.version["uid"]: rows.blob_of(tx, *here, copy.version["uid"]) for copy in copies}
        texts: dict[tuple[str, str], str] = {}
        for _, version, draft in copies:
            blob = blobs[version["uid"]]
            assert blob is not None, "a version has a blob"
            texts[version["uid"], draft.key] = self._text(draft.key, dict(blob), draft.format, json.loads(draft.options))
        return texts

    def _copied_text(self, tx: Connection, copy: _Copy, read: Mapping[tuple[str, str], str]) -> str:
        if copy.text_is_indexed:
            return self._all.search.content_of(tx, copy.source["asset_id"])
        text = read.get((copy.version["uid"], copy.draft.key))
        if text is None:
            raise ConflictError(f"{copy.source['key']!r} changed meanwhile", hint="try again")
        return text

    # Steps

    def _hide(self, tx: Connection, access: Access, ids: Sequence[int]) -> None:
        rows.hide(tx, ids, self._all.clock())
        self._all.search.remove(tx, ids)
        usage.count(tx, access, assets=-len(ids))

    def _folder(self, actor: Actor) -> LocalBlobs:
        """Return the folder with the bytes of an embedded lab, which only its user may touch."""
        store = self._all.blobs
        if not actor.is_local or not isinstance(store, LocalBlobs):
            raise ForbiddenError("only the user of an embedded lab may touch its folder", hint="send the bytes instead")
        return store

    def _keep(self, actor: Actor, workspace: str, stored: Stored) -> wire.Blob:
        kept = False

        def work(tx: Connection, access: Access) -> wire.Blob:
            nonlocal kept
            _, kept = rows.keep_blobs(
                tx,
                [rows.New(stored.sha256, stored.size, 0)],
                object=stored.object,
                workspace_id=access.workspace_id,
                user_id=actor.user_id,
                at=self._all.clock(),
            )
            self._all.record(tx, actor, access.workspace_id, stored.sha256, {"size_bytes": stored.size})
            return wire.Blob(sha256=stored.sha256, size_bytes=stored.size)

        try:
            return self._all.write(actor, "write", workspace, wire.Blob, work)
        except BaseException:
            kept = False
            raise
        finally:
            # The content was there already, or could not be recorded: the new copy is one too many. If the commit failed
            # in doubt, the row may point at it, so only a copy that no row can know is removed.
            if not kept and not self._is_recorded(stored):
                self._all.blobs.delete(stored.object)

    def _is_recorded(self, stored: Stored) -> bool:
        # Asked by a write, which waits for every commit that is under way, also for one whose answer was lost.
        return self._all.catalog.write(lambda tx: rows.is_object_known(tx, stored.object))

    def known(self, tx: Connection, actor: Actor, access: Access, sha256: Sequence[str]) -> dict[str, RowMapping]:
        return rows.known_blobs(
            tx,
            workspace_id=access.workspace_id,
            allowed=access.experiments,
            user_id=actor.user_id,
            sha256=list(dict.fromkeys(sha256)),
        )

    def check(self, objects: Sequence[wire.PutObject], inputs: Sequence[str]) -> None:
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
        _refuse_file_and_folder(seen)
        if faults:
            raise ValidationError(
                f"{faults[0]['key']}: {faults[0]['path']}: {faults[0]['message']}", details={"violations": faults}
            )

    def texts(self, actor: Actor, workspace: str, objects: Sequence[wire.PutObject], fresh: Fresh | None) -> dict[str, str]:
        """Read the words worth indexing out of the contents, before the transaction, because it takes its time."""
        blobs = fresh.places() if fresh else {}
        if older := [one.sha256 for one in objects if one.sha256 not in blobs]:
            with self._all.read(actor, "write", workspace) as (tx, access):
                blobs |= _located(self.known(tx, actor, access, older))
        texts: dict[str, str] = {}
        together: dict[str, Job] = {}
        for one in objects:
            key = keys.normalise(one.key)
            format = _format(one.format, key)
            blob = blobs.get(one.sha256)
            if blob is None or not extraction.needed(format, blob["size"]):
                continue
            path = self._all.blobs.path(blob["object"])
            if path is None:
                texts[key] = self._text(key, blob, format, one.options)
            else:
                place = {"offset": blob["offset"], "size": blob["size"]}
                together[key] = extraction.job_of(
                    path, **place, format=format, gzipped=formats.is_gzipped(key), options=one.options
                )
        found = self._all.extractor.texts(list(together.values()))
        return texts | dict(zip(together, found, strict=True))

    def _restored_text(self, actor: Actor, wanted: wire.RestoreAsset) -> dict[str, str]:
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            row = locate(tx, access, wanted.key, wanted.experiment, deleted=True)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            blob = rows.blob_of(tx, access.workspace_id, access.experiments, version["uid"])
        assert blob is not None, "a version has a blob"
        return {row["key"]: self._text(row["key"], dict(blob), version["format"], json.loads(version["options"]))}

    def _text(self, key: str, blob: Mapping[str, Any], format: str, options: Mapping[str, Any]) -> str:
        try:
            with self._excerpt(blob, extraction.needed(format, blob["size"])) as (path, offset):
                return self._all.extractor.text(
                    path,
                    offset=offset,
                    size=blob["size"],
                    format=format,
                    gzipped=formats.is_gzipped(key),
                    options=options,
                )
        except IntegrityError:  # damaged bytes have no words, which `verify` says better
            return ""

    @contextmanager
    def _excerpt(self, blob: Mapping[str, Any], parts: Sequence[tuple[int, int]]) -> Iterator[tuple[Path, int]]:
        """Give a file in which at least *parts* of a blob stand, and where in it the blob begins."""
        store, object, offset = self._all.blobs, blob["object"], blob["offset"]
        if (path := store.path(object)) is not None:
            yield path, offset
            return
        with tempfile.NamedTemporaryFile(prefix="epista-excerpt-") as file:
            # The rest is a hole, which takes no room.
            file.truncate(blob["size"])
            for start, stop in parts:
                file.seek(start)
                for piece in store.read(object, offset + start, offset + stop):
                    file.write(piece)
            file.flush()
            yield Path(file.name), 0

    def blob_ids(
        self, tx: Connection, actor: Actor, access: Access, objects: Sequence[wire.PutObject], ids: Mapping[str, int]
    ) -> dict[str, int]:
        """Return the id of each content, by its sha256: one of *ids*, or one that the caller may point at."""
        older = self.known(tx, actor, access, [one.sha256 for one in objects if one.sha256 not in ids])
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
        by_key = {keys.normalise(one.key): one for one in objects}
        # What one may write is decided by experiment, so one key of each is asked about.
        for key in {keys.experiment_of(key): key for key in by_key}.values():
            access.require_key(key)
        before = rows.by_keys(tx, access.workspace_id, list(by_key))
        blobs = self.blob_ids(tx, actor, access, objects, ids)
        drafts = []
        for key, one in by_key.items():
            row = before.get(key)
            live = row is not None and row["deleted_at"] is None
            format = _format(one.format, key)
            kept = row if live else None
            draft = Draft(
                wanted=one,
                key=key,
                before=row,
                blob_id=blobs[one.sha256],
                kind=_kind(one, format, kept),
                format=format,
                meta=json.dumps(one.meta, ensure_ascii=False) if one.meta is not None else (kept["meta"] if kept else "{}"),
                tags=_tags(one.tags) if one.tags is not None else tuple(json.loads(kept["tags"])) if kept else (),
                options=json.dumps(one.options, ensure_ascii=False),
            )
            _refuse_stale(draft, one.expect)
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

    def _write_checked(
        self, actor: Actor, workspace: str, reply: type[R], work: Callable[[Connection, Access], R], checked: Checked
    ) -> R:
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

    def _receipts(
        self, actor: Actor, workspace: str, work: Callable[[Connection, Access], _Made], checked: Checked
    ) -> list[asset_messages.Asset]:
        """Run *work* as one commit; what is kept for a retry are the ids alone, from which the receipts are read again."""
        made = self._write_checked(actor, workspace, _Made, work, checked)
        with self._all.read(actor, "write", workspace) as (tx, access):
            found = rows.by_versions(tx, made.versions)
            return whole(tx, access, [found[version] for version in made.versions])

    def inputs(self, tx: Connection, access: Access, wanted: Sequence[str]) -> list[int]:
        known = rows.version_ids(tx, access.workspace_id, access.experiments, list(dict.fromkeys(wanted)))
        for uid in wanted:
            if uid not in known:
                raise NotFoundError(f"no version {uid!r}, which is given as an input", hint="epista history KEY")
        return list(known.values())

    def make(
        self,
        tx: Connection,
        actor: Actor,
        access: Access,
        drafts: Sequence[Draft],
        texts: Mapping[str, str],
        inputs: Sequence[int],
        notebook: str | None,
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
        ids = self._asset_ids(tx, access, changed)
        numbers = rows.last_numbers(tx, known)
        version_ids = rows.add_versions(
            tx,
            [
                {
                    "uid": draft.new_version,
                    "asset_id": ids[draft.key],
                    "number": numbers.get(ids[draft.key], 0) + 1,
                    "blob_id": draft.blob_id,
                    "kind": draft.kind,
                    "format": draft.format,
                    "options": draft.options,
                    "meta": draft.meta,
                    "tags": json.dumps(draft.tags, ensure_ascii=False),
                    "created_at": now,
                    "author_id": actor.user_id,
                    "note": note,
                    "notebook": notebook,
                }
                for draft in changed
            ],
        )
        rows.set_heads(
            tx,
            [
                {
                    "asset_id": ids[draft.key],
                    "head_id": version_id,
                    "kind": draft.kind,
                    "format": draft.format,
                    "tags": draft.tags,
                    "workspace_id": access.workspace_id,
                }
                for draft, version_id in zip(changed, version_ids, strict=True)
            ],
            known=known,
        )
        if inputs:
            rows.add_inputs(tx, [*version_ids, *same.values()], inputs)
        experiments.ensure(tx, access, {keys.experiment_of(draft.key) for draft in changed}, user_id=actor.user_id, at=now)
        self._index(tx, access, [(ids[draft.key], draft) for draft in changed], texts)
        return same | dict(zip((draft.key for draft in changed), version_ids, strict=True))

    def _asset_ids(self, tx: Connection, access: Access, drafts: Sequence[Draft]) -> dict[str, int]:
        new = [draft for draft in drafts if draft.before is None]
        added = rows.add_assets(
            tx,
            [
                {
                    "uid": secrets.identifier("as"),
                    "workspace_id": access.workspace_id,
                    "key": draft.key,
                    "experiment": keys.experiment_of(draft.key),
                    "name": keys.name_of(draft.key),
                    "kind": draft.kind,
                    "format": draft.format,
                    # Set with the version, in this transaction.
                    "head_id": 0,
                }
                for draft in new
            ],
        )
        ids = {draft.key: draft.before["asset_id"] for draft in drafts if draft.before is not None}
        return ids | dict(zip((draft.key for draft in new), added, strict=True))

    def _index(self, tx: Connection, access: Access, drafts: Sequence[tuple[int, Draft]], texts: Mapping[str, str]) -> None:
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

    def _receipt(self, tx: Connection, actor: Actor, access: Access, key: str) -> asset_messages.Asset:
        row = rows.by_key(tx, access.workspace_id, access.experiments, key)
        assert row is not None, "it was just written"
        done = asset(tx, access, row)
        self._all.record(tx, actor, access.workspace_id, key, {"version": done.version})
        return done


def _located(blobs: Mapping[str, RowMapping]) -> dict[str, dict[str, Any]]:
    return {sha256: {name: row[name] for name in ("object", "offset", "size")} for sha256, row in blobs.items()}


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


def _require_checked(tx: Connection, access: Access, drafts: Sequence[Draft], checked: Checked) -> None:
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


def _refuse_file_and_folder(wanted: AbstractSet[str]) -> None:
    """Refuse keys of which one would be the folder of another."""
    folders = {folder: key for key in sorted(wanted) for folder in keys.folders_of(key)}
    for key in sorted(wanted & folders.keys()):
        raise ConflictError(f"{key!r} would be a file and the folder of {folders[key]!r} at once", hint="rename one of them")


def _sources(tx: Connection, access: Access, one: wire.MoveObject, experiment: str | None) -> Iterator[tuple[str, RowMapping]]:
    """Give the assets that *one* is about, each after its target."""
    if not one.source.endswith("/"):
        target = keys.normalise(one.target)
        try:
            row = locate(tx, access, one.source, experiment)
        except KeyNotFoundError as error:
            if folder := error.details.get("folder"):
                raise InvalidKeyError(f"{folder!r} is a folder", hint=f"a folder is named '{folder}/'") from None
            raise
        if row["key"] == target:
            raise ValidationError(f"{target!r} is the source and the target at once")
        yield target, row
        return
    source, folder = keys.normalise_folder(one.source), keys.normalise_folder(one.target)
    if not source:
        raise InvalidKeyError("an empty folder would mean the whole workspace", hint="name a folder, such as 'EXP-12/'")
    if folder.startswith(source):
        raise ValidationError(f"{source!r} cannot go to {folder!r}, which is in itself")
    if isinstance(one, wire.CopyObject) and one.version is not None:
        raise ValidationError(f"{source!r} is a folder; a version is one of a single asset")
    found = rows.keys_after(tx, access.workspace_id, access.experiments, prefix=source, after=None, limit=2**62)
    if not found:
        raise KeyNotFoundError(f"there is no folder {source!r}", hint="epista ls")
    known = rows.by_keys(tx, access.workspace_id, found)
    for key in found:
        yield keys.normalise(folder + key.removeprefix(source)), known[key]


def _as_copy(version: RowMapping, source: str, target: str, before: RowMapping | None) -> Draft:
    """Return a draft for *target* that says what *version* of *source* says, as far as the new name allows."""
    named = formats.of_key(target)
    is_same = named is None or named == formats.of_key(source) or named.name == version["format"]
    format = named.name if named and not is_same else version["format"]
    return Draft(
        wanted=wire.PutObject(key=target, sha256=version["sha256"]),
        key=target,
        before=before,
        blob_id=version["blob_id"],
        kind=version["kind"] if is_same else formats.BY_NAME[format].kind,
        format=format,
        meta=version["meta"],
        tags=tuple(json.loads(version["tags"])),
        options=version["options"] if is_same else "{}",
    )


def _as_draft(row: RowMapping, version: RowMapping) -> Draft:
    """Return a draft for the asset in *row* that says what *version* says."""
    return Draft(
        wanted=wire.PutObject(key=row["key"], sha256=version["sha256"]),
        key=row["key"],
        before=row,
        blob_id=version["blob_id"],
        kind=version["kind"],
        format=version["format"],
        meta=version["meta"],
        tags=tuple(json.loads(version["tags"])),
        options=version["options"],
    )


def _says_the_same(row: RowMapping, draft: Draft) -> bool:
    names = ("kind", "format", "meta", "options")
    return (
        row["blob_id"] == draft.blob_id
        and tuple(json.loads(row["tags"])) == draft.tags
        and all(row[name] == getattr(draft, name) for name in names)
    )


def _refuse_stale(draft: Draft, expect: str | None) -> None:
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


def _format(wanted: str | None, key: str) -> str:
    return wanted or (formats.of_key(key) or formats.UNKNOWN).name


def _kind(one: wire.PutObject, format: str, kept: RowMapping | None) -> str:
    if one.kind is not None:
        return one.kind.upper()
    if kept is not None and kept["format"] == format:
        return str(kept["kind"])
    if one.kind_hint is not None:
        return one.kind_hint.upper()
    return formats.BY_NAME.get(format, formats.UNKNOWN).kind


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


def content_of(tx: Connection, access: Access, version: str) -> Content:
    """Return where the bytes of a version lie, also of a deleted asset, so that a download that has begun can end."""
    row = rows.blob_of(tx, access.workspace_id, access.experiments, version)
    if row is None:
        raise NotFoundError(f"no version {version!r}", hint="epista history KEY")
    known = formats.BY_NAME.get(row["format"], formats.UNKNOWN)
    return Content(
        object=row["object"],
        offset=row["offset"],
        size=row["size"],
        sha256=row["sha256"],
        name=row["name"],
        media_type="application/gzip" if formats.is_gzipped(row["key"]) else known.media_type,
        is_deleted=row["deleted_at"] is not None,
    )


def for_audit(drafts: Sequence[Draft]) -> tuple[str, dict[str, Any]]:
    """Return what the audit row of a commit says: its target and its details."""
    target = drafts[0].key if len(drafts) == 1 else f"{len(drafts)} assets"
    listed = [
        {
            "key": one.key,
            "version": one.before["uid"] if one.before is not None and one.is_unchanged else one.new_version,
            "sha256": one.wanted.sha256,
        }
        for one in drafts[:LISTED_IN_AUDIT]
    ]
    return target, {"assets": listed, "count": len(drafts)}
