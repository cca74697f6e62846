"""Copying and moving: versions of what stands at other keys, without moving bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping

from epista.contract import formats, keys
from epista.contract import objects as wire
from epista.contract.errors import (
    ConflictError,
    InvalidKeyError,
    KeyNotFoundError,
    ValidationError,
)
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import words
from epista.server.services.activities import Origin
from epista.server.services.assets import locate, version_row
from epista.server.services.experiment_names import require_writable
from epista.server.services.resources import Resources
from epista.server.services.versions import (
    LISTED_IN_AUDIT,
    Checked,
    Draft,
    Made,
    Versions,
    for_audit,
    refuse_file_and_folder,
    refuse_stale,
    require_checked,
)
from epista.server.stores import assets as rows


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


class Relocations:
    """Copies and moves, each one commit."""

    def __init__(self, resources: Resources, versions: Versions) -> None:
        self._all = resources
        self._versions = versions

    def relocate(
        self, actor: Actor, wanted: wire.CopyObjects | wire.MoveObjects, objects: Sequence[wire.MoveObject], *, note: str
    ) -> wire.Assets:
        is_move = note == "moved"
        read = self._copied_texts(actor, wanted, objects)
        checked: Checked = set()

        def work(tx: Connection, access: Access) -> Made:
            copies = self._copies(tx, access, objects, wanted.experiment)
            drafts = [copy.draft for copy in copies]
            texts = self._texts(tx, copies, read)
            if is_move:
                # First, for a target may lie below a key that is free only then.
                self._hide_moved(tx, access, copies)
            self._versions.refuse_conflicts(tx, access, drafts)
            require_checked(tx, access, drafts, checked)
            made = self._versions.make(tx, actor, access, drafts, texts, Origin(notebook=wanted.notebook), note=note)
            rows.add_sources(tx, [(made[copy.draft.key], copy.version["id"]) for copy in copies])
            target, details = for_audit(drafts)
            sources = [{"key": copy.source["key"], "version": copy.version["uid"]} for copy in copies[:LISTED_IN_AUDIT]]
            self._all.record(tx, actor, access.workspace_id, target, details | {"sources": sources})
            return Made(versions=tuple(made[draft.key] for draft in drafts))

        return wire.Assets(assets=tuple(self._versions.receipts(actor, wanted.workspace, work, checked)))

    def _copies(self, tx: Connection, access: Access, objects: Sequence[wire.MoveObject], experiment: str | None) -> list[_Copy]:
        """Return what is to be copied, folders as all that is below them."""
        plan: dict[str, tuple[wire.MoveObject, RowMapping]] = {}
        for one in objects:
            for target, row in _sources(tx, access, one, experiment):
                if target in plan:
                    raise ValidationError(f"{target!r} is the target of {plan[target][1]['key']!r} and of {row['key']!r}")
                access.require_key(target)
                plan[target] = one, row
        refuse_file_and_folder(plan.keys())
        before = rows.by_keys(tx, access.workspace_id, list(plan))
        copies: list[_Copy] = []
        for target, (one, row) in plan.items():
            number = one.version if isinstance(one, wire.CopyObject) else None
            version = row if number is None else version_row(tx, row, number)
            draft = _as_copy(version, row["key"], target, before.get(target))
            refuse_stale(draft, one.expect)
            copies.append(_Copy(row, version, draft))
        return copies

    def _hide_moved(self, tx: Connection, access: Access, copies: Sequence[_Copy]) -> None:
        """Hide the sources, but for those that are the target of another."""
        targets = {copy.draft.key for copy in copies}
        require_writable(tx, access, [copy.source["key"] for copy in copies])
        self._versions.hide(tx, access, [copy.source["asset_id"] for copy in copies if copy.source["key"] not in targets])

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
            texts[version["uid"], draft.key] = words.of_blob(
                self._all, draft.key, dict(blob), draft.format, json.loads(draft.options)
            )
        return texts

    def _texts(self, tx: Connection, copies: Sequence[_Copy], read: Mapping[tuple[str, str], str]) -> dict[str, str]:
        """Return the words of each copy, by its key: those of its source, or those that were *read* for it."""
        indexed = self._all.search.contents_of(tx, [copy.source["asset_id"] for copy in copies if copy.text_is_indexed])
        texts: dict[str, str] = {}
        for copy in copies:
            if copy.text_is_indexed:
                text = indexed.get(copy.source["asset_id"], "")
            elif (found := read.get((copy.version["uid"], copy.draft.key))) is not None:
                text = found
            else:
                raise ConflictError(f"{copy.source['key']!r} changed meanwhile", hint="try again")
            texts[copy.draft.key] = text
        return texts


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
        sha256=version["sha256"],
        key=target,
        before=before,
        blob_id=version["blob_id"],
        kind=version["kind"] if is_same else formats.BY_NAME[format].kind,
        format=format,
        meta=version["meta"],
        tags=tuple(json.loads(version["tags"])),
        options=version["options"] if is_same else "{}",
    )
