"""
Batches: commits of more objects than fit one request.

Their keys are set aside part by part, with what takes time done already: the words are read, the contents found. The commit then
goes through the parts one after another, so it needs no more memory for a million objects than for a thousand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from sqlalchemy import Connection

from epista.contract import keys
from epista.contract import objects as wire
from epista.contract.errors import ConflictError, InvalidRequestError, NotFoundError
from epista.contract.messages import Done
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import metadata_rules, words
from epista.server.services.assets import receipts_of
from epista.server.services.metadata_rules import Subject
from epista.server.services.resources import Resources
from epista.server.services.versions import (
    LISTED_IN_AUDIT,
    MOST_CHECKS,
    Draft,
    Fresh,
    Versions,
    for_audit,
    refuse_edges,
    subjects_of,
)
from epista.server.stores import assets as rows
from epista.server.stores import batches

PIECE_BYTES = 8 * 1024 * 1024
"""How much text and metadata one piece of a part has before the next begins."""

MOST_UNMADE = 100
"""How many batches one user has under way in a workspace at most; another one ends the one that was touched the longest ago."""

_MOST_VIOLATIONS = 1000


class Linking(wire.Described, frozen=True, kw_only=True):
    """A key at which a file is linked."""

    root: str
    object: str
    size: int


class _Aside(msgspec.Struct, frozen=True, kw_only=True):
    """One key that is set aside."""

    wanted: wire.PutObject | None = None
    blob_id: int = 0
    text: str = ""
    linked: Linking | None = None
    """A file that stays where it is, in place of content that was sent."""


_Rules = dict[int, tuple[int, str]]
"""By part: under which version of the rules which subjects were found to satisfy them."""


class _Changed(Exception):
    """The rules, or what they are about, changed since they were checked."""


class Batches:
    """A batch belongs to whoever sends it; nobody else sees it before it is made, and then it is made whole."""

    def __init__(self, resources: Resources, versions: Versions) -> None:
        self._all = resources
        self._versions = versions

    def set_aside(self, actor: Actor, workspace: str, head: wire.FrameHead, fresh: Fresh | None) -> None:
        """Keep the keys of one part until their batch is committed."""
        uid = str(head.batch)
        self._versions.check(head.objects, ())
        _refuse_disorder(head.objects, "")
        texts = words.of_objects(self._all, actor, workspace, head.objects, fresh)

        def work(tx: Connection, access: Access) -> Done:
            ids = fresh.record(tx, access) if fresh else {}
            blobs = self._versions.blob_ids(tx, actor, access, head.objects, ids)
            aside = [
                _Aside(wanted=one, blob_id=blobs[one.sha256], text=texts.get(keys.normalise(one.key), "")) for one in head.objects
            ]
            self._keep(tx, actor, access, uid, head.part, aside)
            details = {"batch": uid, "part": head.part, "count": len(aside), "blobs": len(ids)}
            self._all.record(tx, actor, access.workspace_id, f"{len(aside)} keys set aside", details)
            return Done()

        self._all.write(actor, "write", workspace, Done, work)

    def set_linked_aside(
        self, tx: Connection, actor: Actor, access: Access, batch: str, part: int, files: Sequence[Linking]
    ) -> None:
        """Keep one part of files that stay where they are until their batch is committed."""
        self._keep(tx, actor, access, batch, part, [_Aside(linked=one) for one in files])

    def _keep(self, tx: Connection, actor: Actor, access: Access, uid: str, part: int, aside: Sequence[_Aside]) -> None:
        mine = batches.Owner(access.workspace_id, actor.user_id, uid)
        found, now = batches.find(tx, mine), self._all.clock()
        if found is not None and found["made_at"] is not None:
            raise ConflictError("this batch is committed already", hint="begin another one")
        if found is None:
            # What broke off stays for a day, counts against no quota, and must not pile up.
            batches.keep_newest(tx, mine, MOST_UNMADE - 1)
        batch_id = batches.add(tx, mine, at=now) if found is None else found["id"]
        batches.set_part(tx, batch_id, part, list(_pieces(aside)), at=now)

    def commit(self, actor: Actor, wanted: wire.CommitBatch) -> Iterator[bytes]:
        """Make versions of all that was set aside, in one transaction, and return the receipts, a line for each part."""

        def work(tx: Connection, access: Access) -> Done:
            batch_id, is_made = self._batch(tx, actor, access, wanted.batch)
            there = batches.parts(tx, batch_id)
            if there > wanted.parts or (is_made and there != wanted.parts):
                raise InvalidRequestError(f"the batch has {there:,} parts, and {wanted.parts:,} are to be committed")
            if not is_made:
                self._make(tx, actor, access, wanted, batch_id, checked)
            return Done()

        checked: _Rules = {}
        for _ in range(MOST_CHECKS):
            # Checks may take their time, and other writes must not wait for them.
            self._check_rules(actor, wanted, checked)
            try:
                self._all.write(actor, "write", wanted.workspace, Done, work)
            except _Changed:
                continue
            return self._receipts(actor, wanted)
        raise ConflictError("the rules or the assets changed again and again meanwhile", hint="try again in a moment")

    def _make(
        self, tx: Connection, actor: Actor, access: Access, wanted: wire.CommitBatch, batch_id: int, checked: _Rules
    ) -> None:
        origin = self._versions.origin(tx, actor, access, wanted)
        last, count, listed = "", 0, list[Draft]()
        for number in range(wanted.parts):
            aside = _part(tx, batch_id, number)
            last = _refuse_disorder([one.wanted for one in aside if one.wanted], last)
            count += len(aside)
            refuse_edges(count, wanted.inputs)
            linked = [rows.Linked(one.root, one.object, one.size) for one in _linked(aside)]
            rows.keep_linked(tx, linked, at=self._all.clock())
            drafts = self._drafts(tx, actor, access, aside)
            self._versions.refuse_conflicts(tx, access, drafts)
            _require_checked(tx, access, number, drafts, checked)
            texts = {draft.key: one.text for draft, one in zip(drafts, aside, strict=True)}
            note = f"linked from {linked[0].root}" if linked else "put"
            made = self._versions.make(tx, actor, access, drafts, texts, origin, note=note)
            # For the receipts; what was set aside is not needed any more.
            versions = msgspec.json.encode([made[draft.key] for draft in drafts])
            batches.set_part(tx, batch_id, number, [versions], at=self._all.clock())
            listed += drafts[: LISTED_IN_AUDIT - len(listed)]
        batches.made(tx, batch_id, self._all.clock())
        target, details = for_audit(listed)
        self._all.record(
            tx,
            actor,
            access.workspace_id,
            target if count == 1 else f"{count} assets",
            details | {"count": count, "batch": wanted.batch},
        )

    def _drafts(self, tx: Connection, actor: Actor, access: Access, aside: Sequence[_Aside]) -> list[Draft]:
        # Ids may have been given again since, if a collection removed the blob.
        there = rows.whole_blobs(tx, [one.blob_id for one in aside])
        sent = [(one.wanted, one.blob_id) for one in aside if one.wanted]
        ids = {one.sha256: blob_id for one, blob_id in sent if there.get(blob_id) == one.sha256}
        drafts = self._versions.drafts(tx, actor, access, [one for one, _ in sent], ids)
        # Before the commit there may be none yet; its rules are not about the content.
        linked = list(_linked(aside))
        places = rows.linked_ids(tx, [one.object for one in linked])
        return drafts + self._versions.drafted(tx, access, [(one, places.get(one.object, 0), None) for one in linked])

    def _check_rules(self, actor: Actor, wanted: wire.CommitBatch, checked: _Rules) -> None:
        broken: list[dict[str, str]] = []
        for number in range(wanted.parts):
            with self._all.read(actor, "write", wanted.workspace) as (tx, access):
                rule_row = metadata_rules.current(tx, access.workspace_id)
                batch_id, is_made = self._batch(tx, actor, access, wanted.batch)
                if rule_row is None or is_made:
                    return
                subjects = subjects_of(self._drafts(tx, actor, access, _part(tx, batch_id, number)))
            found = rule_row["version"], _digest(subjects)
            if checked.get(number) != found:
                broken += metadata_rules.violations(self._all.schema_checks, metadata_rules.loaded(rule_row), subjects)
                checked[number] = found
            if len(broken) > _MOST_VIOLATIONS:
                break
        metadata_rules.refuse(broken)

    def _receipts(self, actor: Actor, wanted: wire.CommitBatch) -> Iterator[bytes]:
        for number in range(wanted.parts):
            with self._all.read(actor, "write", wanted.workspace) as (tx, access):
                batch_id, _ = self._batch(tx, actor, access, wanted.batch)
                (document,) = batches.part(tx, batch_id, number)
                page = receipts_of(tx, access, msgspec.json.decode(document, type=list[int]))
            yield msgspec.json.encode(wire.Assets(assets=tuple(page))) + b"\n"

    def _batch(self, tx: Connection, actor: Actor, access: Access, uid: str) -> tuple[int, bool]:
        found = batches.find(tx, batches.Owner(access.workspace_id, actor.user_id, uid))
        if found is None:
            raise NotFoundError(f"nothing is set aside as {uid!r}", hint="put it again")
        return found["id"], found["made_at"] is not None


def _part(tx: Connection, batch_id: int, number: int) -> list[_Aside]:
    documents = batches.part(tx, batch_id, number)
    if not documents:
        raise NotFoundError(f"part {number} of the batch was not sent", hint="send it, then commit again")
    return [one for document in documents for one in msgspec.json.decode(document, type=list[_Aside])]


def _linked(aside: Sequence[_Aside]) -> Iterator[Linking]:
    return (one.linked for one in aside if one.linked)


def _pieces(aside: Sequence[_Aside]) -> Iterator[bytes]:
    """Give what is set aside as documents that are not long."""
    piece: list[bytes] = []
    size = 0
    for one in map(msgspec.json.encode, aside):
        if piece and size + len(one) > PIECE_BYTES:
            yield b"[" + b",".join(piece) + b"]"
            piece, size = [], 0
        piece.append(one)
        size += len(one)
    yield b"[" + b",".join(piece) + b"]"


def _refuse_disorder(objects: Sequence[wire.PutObject], last: str) -> str:
    """Refuse keys that do not ascend from *last* on, which also keeps a key from standing in a batch twice; return the last."""
    for one in objects:
        key = keys.normalise(one.key)
        if key <= last:
            raise InvalidRequestError(f"the keys of a batch ascend, but {key!r} comes after {last!r}")
        last = key
    return last


def _require_checked(
    tx: Connection, access: Access, number: int, drafts: Sequence[Draft], checked: Mapping[int, tuple[int, str]]
) -> None:
    row = metadata_rules.current(tx, access.workspace_id)
    if row is not None and checked.get(number) != (row["version"], _digest(subjects_of(drafts))):
        raise _Changed


def _digest(subjects: Sequence[Subject]) -> str:
    return hashlib.sha256(repr(subjects).encode(errors="surrogatepass")).hexdigest()
