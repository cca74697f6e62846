"""The care of the lab as a whole, for its managers: verification, garbage, backup."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, RowMapping

from epista.contract import audit as wire
from epista.contract.errors import ConflictError, EpistaError, ForbiddenError, InvalidRequestError, StorageFullError
from epista.server.access import policy
from epista.server.access.actors import Actor
from epista.server.services import cursors, joins, linked, packs
from epista.server.services.audit import read, verified
from epista.server.services.resources import REPLY_KEPT_MICROSECONDS, Resources
from epista.server.services.uploads import expire
from epista.server.stores import audit, batches, blobs, care, copying, table_facts, table_parts, uploads
from epista.server.stores.assets import is_object_known
from epista.server.stores.local import NO_ROOM

VERIFY_SECONDS = 5.0
"""How long one step of a verification reads; the caller asks again for the next."""

VERIFY_BLOBS = 5000
"""How many blobs one step checks at most."""


FORGOTTEN_AT_ONCE = 5000
"""How many blobs one transaction of a collection forgets; other writers wait meanwhile."""

WALKED_AT_ONCE = 500
"""How many objects of the store are compared with rows at once."""

MANY_FILES = 20
"""A table of more files is made one file by a collection."""

JOINED_AT_ONCE = 1000
"""How many tables one collection makes one file."""

BATCH_KEPT_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long a batch is kept that nobody touches, made or not."""

MOST_COPIES = 5
"""How often a backup copies the catalog because what that names was moved meanwhile."""

FILE_GRACE_SECONDS = 600
"""Files without a row are left alone for at least this long: they may be an upload between its last byte and its row."""


class Lab:
    """Only managers of the lab; nothing here shows what an asset says."""

    def __init__(self, resources: Resources, folder: Path) -> None:
        self._all = resources
        self._folder = folder

    def verify(self, actor: Actor, wanted: wire.VerifyBlobs) -> wire.BlobVerdict:
        """Read blobs and compare them with their hashes; what is damaged is marked and never served for new puts."""
        policy.require_lab(actor)
        until = time.monotonic() + VERIFY_SECONDS
        after = cursors.number(wanted.after) or 0
        with self._all.catalog.read() as tx:
            found = care.blobs_after(tx, after, VERIFY_BLOBS)
        problems: list[wire.BlobProblem] = []
        count = size = 0
        for row in found:
            is_linked = row["root"] is not None
            problem = linked.problem(self._all, row) if is_linked else self._problem(row)
            count, size, after = count + 1, size + row["size"], row["id"]
            if problem is not None:
                with self._all.catalog.read() as tx:
                    # A collection may have removed the blob since the list was read: then nothing needs it.
                    is_there = care.is_blob(tx, row["id"], row["object"])
                    keys = care.keys_of_blob(tx, row["id"], limit=20, only_current=is_linked) if is_there else None
                # That a file which was linked again is no longer what it was before is as it should be.
                if keys is not None and (keys or not is_linked):
                    problems.append(wire.BlobProblem(sha256=row["sha256"], problem=problem, keys=tuple(keys)))
                    self._mark(row["id"], self._all.clock())
            elif row["damaged_at"] is not None:
                self._mark(row["id"], None)
            if time.monotonic() > until:
                break
        self._all.note(actor, audit.LAB, "blobs", {"checked": count, "problems": len(problems)})
        done = count == len(found) < VERIFY_BLOBS
        return wire.BlobVerdict(blobs=count, size_bytes=size, problems=tuple(problems), next=None if done else cursors.of(after))

    def audit(self, actor: Actor, wanted: wire.ReadLabAudit) -> wire.AuditPage:
        """Read the log of what belongs to no workspace."""
        policy.require_lab(actor)
        self._all.trail.flush()
        with self._all.catalog.read() as tx:
            page = read(tx, audit.LAB, wanted)
        self._all.note(actor, audit.LAB, "audit")
        return page

    def verify_audit(self, actor: Actor, wanted: wire.VerifyLabAudit) -> wire.AuditVerdict:
        """Recompute the chain of what belongs to no workspace."""
        policy.require_lab(actor)
        self._all.trail.flush()
        with self._all.catalog.read() as tx:
            verdict = verified(tx, audit.LAB)
        self._all.note(actor, audit.LAB, "audit", {"problems": len(verdict.problems)})
        return verdict

    def gc(self, actor: Actor, wanted: wire.CollectGarbage) -> wire.Garbage:
        """
        Remove content that no version needs, and temporary files, both older than the grace period, and rewrite sparse packs.

        The rows go first, then the files: a crash in between leaves files that no row knows, which the next collection finds.
        """
        policy.require_lab(actor)
        now = self._all.clock()
        before = now - wanted.grace_seconds * 1_000_000
        tables = self._in_many_files()
        if not wanted.dry_run:
            self._all.catalog.write(lambda tx: self._forget_old(tx, before, now))
            for version in tables:
                with suppress(EpistaError):  # larger than a child may write: its files stay as they are
                    joins.join(self._all, actor, version)
        count, size, gone = self._forget(actor, wanted, before)
        file_grace = max(wanted.grace_seconds, FILE_GRACE_SECONDS)
        files, swept = self._all.blobs.sweep(file_grace, dry_run=wanted.dry_run)
        expired, expired_size = expire(self._all, grace_seconds=file_grace, dry_run=wanted.dry_run)
        orphans, sparse = self._walk(file_grace, before, gone)
        packed, packed_size = len(sparse), sum(one.size - one.needed.size for one in sparse)
        if not wanted.dry_run:
            packs.drop(self._all, {name for name, _ in orphans})
            packed, packed_size = packs.compact(self._all, actor, sparse)
            self._all.table_cache.drop(self._unknown)
        files += expired + len(orphans)
        size += swept + expired_size + sum(orphan_size for _, orphan_size in orphans)
        details = {"blobs": count, "files": files, "packs": packed, "dry_run": wanted.dry_run}
        self._all.catalog.write(lambda tx: self._all.record(tx, actor, audit.LAB, "garbage", details))
        return wire.Garbage(blobs=count, files=files, size_bytes=size, packs=packed, packs_bytes=packed_size, tables=len(tables))

    def _in_many_files(self) -> list[int]:
        with self._all.catalog.read() as tx:
            return table_parts.in_parts(tx, more_than=MANY_FILES, limit=JOINED_AT_ONCE)

    def _unknown(self, sources: list[str]) -> set[str]:
        """Return those of which files for queries were made that the lab does not know any more."""
        with self._all.catalog.read() as tx:
            return table_facts.unknown(tx, sources)

    def _forget_old(self, tx: Connection, before: int, now: int) -> None:
        batches.expire(tx, min(before, now - BATCH_KEPT_MICROSECONDS))
        care.forget_replies(tx, now - REPLY_KEPT_MICROSECONDS)

    def _forget(self, actor: Actor, wanted: wire.CollectGarbage, before: int) -> tuple[int, int, set[str]]:
        """Remove what no version needs, some at a time; return how many, their bytes, and the objects that went along."""
        count = size = after = 0
        gone: set[str] = set()
        while True:
            with self._all.catalog.read() as tx:
                ids = care.unneeded(tx, before, after=after, limit=FORGOTTEN_AT_ONCE)
            if not ids:
                return count, size, gone

            def work(tx: Connection, ids: Sequence[int] = ids) -> list[RowMapping]:
                # Asked again where nobody else writes: a commit may have come to need one.
                found = care.still_unneeded(tx, before, ids)
                if not wanted.dry_run:
                    care.forget(tx, [row["id"] for row in found])
                    self._all.record(tx, actor, audit.LAB, "contents", {"blobs": len(found)})
                return found

            found = self._all.catalog.write(work)
            count, size, after = count + len(found), size + sum(row["size"] for row in found if row["root"] is None), ids[-1]
            names = {row["object"] for row in found}
            gone |= names
            if not wanted.dry_run:
                packs.drop(self._all, names)

    def backup(self, actor: Actor, wanted: wire.BackUp) -> wire.Backup:
        """
        Copy the lab as of one moment: first the catalog, then every object that it names, unless they are in a store elsewhere.

        Objects are never changed. If one is gone by its turn, and the lab knows it no more, its pack was rewritten: then the
        catalog is copied anew. One that the lab still knows was missing before, which `verify` says of lab and backup alike.
        """
        policy.require_lab(actor)
        destination = self._destination(actor, wanted.destination)
        if destination.is_relative_to(self._folder.resolve()):
            raise InvalidRequestError("the destination lies inside the lab", hint="give a folder outside of it")
        self._all.trail.flush()
        try:
            if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
                raise ConflictError(f"{wanted.destination!r} is there already", hint="give a new or an empty folder")
            destination.mkdir(mode=0o700, parents=True, exist_ok=True)
            count, size = self._copy(destination)
        except OSError as error:
            kind = StorageFullError if error.errno in NO_ROOM else InvalidRequestError
            raise kind(
                f"the backup cannot be written: {error.strerror or error}", hint="what was copied so far is no lab; remove it"
            ) from error
        self._all.note(actor, audit.LAB, wanted.destination, {"blobs": count})
        left_out = self._all.config.blobs or None
        with self._all.catalog.read() as tx:
            linked_blobs = care.linked_blobs(tx)
        return wire.Backup(path=str(destination), blobs=count, size_bytes=size, left_out=left_out, linked_blobs=linked_blobs)

    def _destination(self, actor: Actor, wanted: str) -> Path:
        """Return where a backup goes: who manages a lab over the network may not write anywhere on the server's disk."""
        if "\0" in wanted or not Path(wanted).is_absolute():
            raise InvalidRequestError(f"the destination {wanted!r} is no absolute path")
        try:
            destination = Path(wanted).resolve()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise InvalidRequestError(f"the destination {wanted!r} is no usable path") from error
        root = self._all.config.backup_root
        if not actor.is_local and (root is None or not destination.is_relative_to(Path(root).resolve())):
            raise ForbiddenError(
                "backups go below the server's backup_root" if root else "this server has no backup_root, below which backups go",
                hint=f"give a folder below {root}" if root else "whoever runs the server can set backup_root",
            )
        return destination

    def _problem(self, row: RowMapping) -> str | None:
        if row["sha256"] is None:
            return self._problem_of_table(row)
        digest = blobs.digest(self._all.blobs, row["object"], row["offset"], row["size"])
        if digest == row["sha256"]:
            return None
        return "is missing or too short" if digest is None else f"has the sha256 {digest} instead"

    def _problem_of_table(self, row: RowMapping) -> str | None:
        """Compare the manifest of a table with its rows; its files are contents of their own."""
        with self._all.catalog.read() as tx:
            expected = table_parts.manifest([one["sha256"] for one in table_parts.of_blob(tx, row["id"])])
        digest = blobs.digest(self._all.blobs, row["object"], 0, len(expected))
        is_whole = self._all.blobs.size(row["object"]) == len(expected) and digest == hashlib.sha256(expected).hexdigest()
        return None if is_whole else "is a table of several files whose list is missing or is not theirs"

    def _mark(self, blob_id: int, damaged_at: int | None) -> None:
        self._all.catalog.write(lambda tx: care.mark_damaged(tx, blob_id, damaged_at))

    def _copy(self, destination: Path) -> tuple[int, int]:
        # The catalog gets its final name last: an interrupted backup is not mistaken for a lab.
        unfinished, folder = destination / "lab.db.unfinished", destination / "blobs"
        there: dict[str, int] = {}
        for _ in range(MOST_COPIES):
            unfinished.unlink(missing_ok=True)
            self._all.catalog.copy_to(unfinished)
            named = copying.objects_in(unfinished)
            for name in there.keys() - named:
                (folder / name[:2] / name).unlink()
                del there[name]
            lost = self._copy_objects(named - there.keys(), folder, there)
            with self._all.catalog.read() as tx:
                # What was lost before stays lost. What was moved since, out of a pack, only a newer catalog knows.
                if all(is_object_known(tx, name) for name in lost):
                    break
        else:
            raise ConflictError("packs were rewritten again and again meanwhile", hint="try again when no collection runs")
        (destination / "staging").mkdir(mode=0o700)
        for made in (*([*folder.iterdir(), folder] if there else []), unfinished):
            _sync(made)
        unfinished.rename(destination / "lab.db")
        _sync(destination)
        return len(there), sum(there.values())

    def _copy_objects(self, names: Collection[str], folder: Path, there: dict[str, int]) -> list[str]:
        """Copy objects that lie in a folder, and note their sizes in *there*; return those that are missing."""
        lost: list[str] = []
        for name in sorted(names):
            source = self._all.blobs.path(name)
            if source is None:
                break  # in a store elsewhere, as all of them
            target = folder / name[:2] / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, target)
            except FileNotFoundError:
                lost.append(name)
                continue
            target.chmod(0o444)
            _sync(target)
            there[name] = target.stat().st_size
        return lost

    def _walk(self, grace_seconds: int, before: int, gone: set[str]) -> tuple[list[tuple[str, int]], list[packs.Sparse]]:
        """Return the objects that no row knows, and the packs of which little is needed."""
        orphans: list[tuple[str, int]] = []
        sparse: list[packs.Sparse] = []
        walk = self._all.blobs.objects()
        while some := list(islice(walk, WALKED_AT_ONCE)):
            # Only what lay there before the rows were read can be an orphan; the grace period covers what is on its way.
            with self._all.catalog.read() as tx:
                known = care.shares(tx, [one.object for one in some], before)
                # What was joined of parts belongs to an upload until that is complete.
                joined = set(map(blobs.object_of, uploads.unfinished(tx)))
            for one in some:
                needed = known.get(one.object)
                if needed is None:
                    is_old = time.time() - one.modified >= grace_seconds
                    if is_old and one.object not in joined and one.object not in gone:
                        orphans.append((one.object, one.size))
                elif packs.is_sparse(one.size, needed):
                    sparse.append(packs.Sparse(one.object, one.size, needed))
        return orphans, sparse


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
