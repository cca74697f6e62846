"""Uploads: contents that come in parts; what is acknowledged stays, whichever process got it."""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Generator

from sqlalchemy import Connection, RowMapping

from epista.contract import uploads as wire
from epista.contract.errors import (
    ConflictError,
    EpistaError,
    ForbiddenError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
)
from epista.contract.messages import Done
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import usage
from epista.server.services.contents import Contents, is_needed
from epista.server.services.resources import Resources
from epista.server.stores import assets, moments
from epista.server.stores import uploads as rows
from epista.server.stores.blobs import BlobStore, IncomingPart, Stored

READ_SECONDS = 5.0
"""How long one step of `Uploads.complete` reads; the caller asks again for the next."""

_MIB = 1024 * 1024

_LISTED = 1000

_FRONTIERS = 256


class Arriving:
    """One part on its way: counted and checked as it comes, and written, unless it is there already."""

    def __init__(self, upload: RowMapping, number: int, digest: str | None) -> None:
        self.upload = upload
        self.number = number
        self.incoming: IncomingPart | None = None
        self.digest = digest
        self.hash = None if digest is None else hashlib.sha256()
        self.expected = _size_of(upload, number)
        self.size = 0
        self.crc32 = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes of the part."""
        self.size += len(data)
        if self.size > self.expected:
            raise _wrong_size(self, self.size)
        self.crc32 = zlib.crc32(data, self.crc32)
        if self.hash:
            self.hash.update(data)
        if self.incoming:
            self.incoming.write(data)

    def discard(self) -> None:
        """Let go of the part; what was recorded stays."""
        if self.incoming:
            self.incoming.discard()


class Uploads:
    """An upload belongs to the user who began it, and others do not see it, save for admins who clean up."""

    def __init__(self, resources: Resources, contents: Contents) -> None:
        self._all = resources
        self._contents = contents
        self._frontiers = _Frontiers()

    def create(self, actor: Actor, wanted: wire.CreateUpload) -> wire.Upload:
        """Begin an upload; the server chooses the size of its parts."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            self._refuse_more(tx, actor, access)
            usage.refuse_early(tx, access, wanted.size_bytes)
        self._contents.refuse_size(wanted.size_bytes)
        unfinished = self._all.blobs.begin(wanted.size_bytes)
        is_added = False

        def work(tx: Connection, access: Access) -> wire.Upload:
            nonlocal is_added
            self._refuse_more(tx, actor, access)
            now = self._all.clock()
            uid = secrets.identifier("up")
            rows.add(
                tx,
                uid=uid,
                workspace_id=access.workspace_id,
                user_id=actor.user_id,
                unfinished=unfinished,
                size=wanted.size_bytes,
                part_size=self._part_size(wanted.size_bytes),
                announced=wanted.sha256,
                created_at=now,
                expires_at=now + self._all.config.upload_seconds * 1_000_000,
            )
            self._all.record(tx, actor, access.workspace_id, uid, {"size_bytes": wanted.size_bytes})
            is_added = True
            return _message(_own(tx, actor, access, uid))

        is_known = False
        try:
            begun = self._all.write(actor, "write", wanted.workspace, wire.Upload, work)
            is_known = is_added
            return begun
        finally:
            # It failed, or repeats what was done before. Asked by a write, which waits for a commit whose answer was lost.
            if not is_known and not self._all.catalog.write(lambda tx: unfinished in rows.unfinished(tx)):
                self._all.blobs.abandon(unfinished)

    def find(self, actor: Actor, wanted: wire.FindUploads) -> wire.Uploads:
        """List incomplete uploads."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            if wanted.everyone and not _manages(actor, access):
                raise ForbiddenError("the uploads of others are for admins of the workspace", hint="ask one of them")
            user_id = None if wanted.everyone else actor.user_id
            now = self._all.clock()
            here = access.workspace_id
            found = rows.incomplete(tx, here, user_id=user_id, size=wanted.size_bytes, at=now, limit=_LISTED)
        self._all.note(actor, access.workspace_id, "", {"everyone": wanted.everyone})
        return wire.Uploads(uploads=tuple(map(_message, found)))

    def get(self, actor: Actor, wanted: wire.GetUpload) -> wire.UploadParts:
        """Say which parts are there."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            found = _own(tx, actor, access, wanted.upload)
            parts = rows.parts(tx, found["id"])
        self._all.note(actor, access.workspace_id, wanted.upload)
        return wire.UploadParts(upload=_message(found), parts=tuple(map(_part, parts)))

    def receive(self, actor: Actor, wanted: wire.PutPart, size: int | None, digest: str | None) -> Arriving:
        """Let a part come in; *size* and *digest* are what the sender said of it, and `received` ends it."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            found = _own(tx, actor, access, wanted.upload)
            is_known = rows.part(tx, found["id"], wanted.number) is not None
        _refuse_complete(found, self._all.clock())
        arriving = Arriving(found, wanted.number, digest)
        if size is not None and size != arriving.expected:
            raise _wrong_size(arriving, size)
        if not is_known:
            start = (wanted.number - 1) * int(found["part_size"])
            arriving.incoming = self._all.blobs.part(found["unfinished"], wanted.number, start)
            # From here on nobody else can record this part. If somebody just did, its bytes are not to be touched.
            with self._all.catalog.read() as tx:
                is_known = rows.part(tx, found["id"], wanted.number) is not None
            if is_known:
                arriving.discard()
                arriving.incoming = None
        return arriving

    def received(self, actor: Actor, wanted: wire.PutPart, arriving: Arriving) -> wire.Part:
        """Keep a part that has come in whole."""
        if arriving.size != arriving.expected:
            raise _wrong_size(arriving, arriving.size)
        if wanted.crc32 not in (None, arriving.crc32) or (arriving.hash and arriving.hash.hexdigest() != arriving.digest):
            raise IntegrityError(
                f"the bytes that arrived as part {wanted.number} have another checksum than was announced",
                hint="send them again",
                details={"crc32": arriving.crc32},
            )
        tag = arriving.incoming.finish() if arriving.incoming else ""

        done = self._keep_part(actor, wanted, arriving.size, arriving.crc32, tag)
        arriving.discard()
        self._read_along(arriving.upload)
        return done

    def sign_part(self, actor: Actor, wanted: wire.SignPart) -> wire.PartAddress:
        """Give an address in the store, where there are any, to which a part of a large upload can be sent past this server."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            found = _own(tx, actor, access, wanted.upload)
            is_known = rows.part(tx, found["id"], wanted.number) is not None
        _refuse_complete(found, self._all.clock())
        size = _size_of(found, wanted.number)
        config, address = self._all.config, None
        # One that is there already is not to be replaced by anybody.
        if config.s3_direct_bytes and found["size"] >= config.s3_direct_bytes and not is_known:
            address = self._all.blobs.entrance(
                found["unfinished"], wanted.number, size=size, crc32=wanted.crc32, seconds=config.s3_direct_seconds
            )
        self._all.note(actor, access.workspace_id, wanted.upload, {"part": wanted.number, "signed": address is not None})
        return (
            wire.PartAddress(url=address.url, headers=dict(address.headers))
            if address
            else wire.PartAddress(url=None, headers={})
        )

    def take_part(self, actor: Actor, wanted: wire.TakePart) -> wire.Part:
        """Keep a part that came to the store past this server: the store is asked, not the sender."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            found = _own(tx, actor, access, wanted.upload)
        _refuse_complete(found, self._all.clock())
        size = _size_of(found, wanted.number)
        tags = self._all.blobs.entered(found["unfinished"], {wanted.number: (size, wanted.crc32)})
        if wanted.number not in tags:
            raise IntegrityError(f"part {wanted.number} has not come to the store", hint="send it again")
        return self._keep_part(actor, wanted, size, wanted.crc32, tags[wanted.number])

    def complete(self, actor: Actor, wanted: wire.CompleteUpload) -> wire.CompletedUpload:
        """Make one blob of all parts, a step at a time: the server's own sha256 is what counts."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            found = _own(tx, actor, access, wanted.upload)
            tags = {row["number"]: row["tag"] for row in rows.parts(tx, found["id"])}
        if found["sha256"] is not None:
            self._all.note(actor, access.workspace_id, wanted.upload)
            return _completed(found, found["sha256"])
        if lacking := [number for number in range(1, _count(found) + 1) if number not in tags]:
            some = ", ".join(map(str, lacking[:10])) + (f" and {len(lacking) - 10} more" if len(lacking) > 10 else "")
            raise ConflictError(
                f"of {_count(found)} parts, these are not there: {some}",
                hint="send them, then complete the upload",
                details={"parts": lacking[:1000]},
            )
        frontier = self._frontiers.of(found["uid"])
        try:
            object = self._all.blobs.join(found["unfinished"], [tags[number] for number in sorted(tags)])
            with frontier.guard:
                frontier.read(self._all.blobs.read(object, frontier.at, found["size"]), seconds=READ_SECONDS)
                if frontier.at < found["size"]:
                    return _completed(found, None, frontier.at)
                stored = Stored(object, frontier.hash.hexdigest(), found["size"])
            return self._finish(actor, wanted, found, stored)
        except EpistaError:
            with self._all.catalog.read() as tx:
                now = rows.by_uid(tx, access.workspace_id, wanted.upload)
            if now is None or now["sha256"] is None:
                raise
            return _completed(now, now["sha256"])  # another request was faster

    def abort(self, actor: Actor, wanted: wire.AbortUpload) -> Done:
        """Give up an upload."""
        unfinished = ""

        def work(tx: Connection, access: Access) -> Done:
            nonlocal unfinished
            found = _own(tx, actor, access, wanted.upload, or_managed=True)
            rows.forget(tx, [found["id"]])
            unfinished = found["unfinished"]
            self._all.record(tx, actor, access.workspace_id, wanted.upload, {"user": found["user"]})
            return Done()

        done = self._all.write(actor, "write", wanted.workspace, Done, work)
        if unfinished:
            self._all.blobs.abandon(unfinished)
        self._frontiers.drop(wanted.upload)
        return done

    def _keep_part(self, actor: Actor, wanted: wire.PutPart | wire.TakePart, size: int, crc32: int, tag: str) -> wire.Part:
        def work(tx: Connection, access: Access) -> wire.Part:
            found = _own(tx, actor, access, wanted.upload)
            known = rows.part(tx, found["id"], wanted.number)
            if known is None:
                _refuse_complete(found, self._all.clock())
                rows.add_part(tx, upload_id=found["id"], tag=tag, number=wanted.number, size=size, crc32=crc32)
            elif known["crc32"] != crc32:
                raise ConflictError(
                    f"part {wanted.number} is there already, with other bytes", hint="begin another upload for other content"
                )
            self._all.record(tx, actor, access.workspace_id, wanted.upload, {"part": wanted.number, "known": known is not None})
            return wire.Part(number=wanted.number, size_bytes=size, crc32=crc32)

        return self._all.write(actor, "write", wanted.workspace, wire.Part, work)

    def _finish(self, actor: Actor, wanted: wire.CompleteUpload, found: RowMapping, stored: Stored) -> wire.CompletedUpload:
        for announced in (wanted.sha256, found["announced"]):
            if announced not in (None, stored.sha256):
                self._give_up(found, stored)
                raise IntegrityError(
                    f"the parts together have the sha256 {stored.sha256}, but {announced} was announced; the upload is given up",
                    hint="send the content again",
                    details={"sha256": stored.sha256},
                )

        new = [assets.New(stored.sha256, stored.size, 0)]
        kept: assets.Kept | None = None

        def work(tx: Connection, access: Access) -> wire.CompletedUpload:
            nonlocal kept
            now = _own(tx, actor, access, wanted.upload)
            if now["sha256"] is None:
                kept = assets.keep_blobs(
                    tx,
                    new,
                    object=stored.object,
                    workspace_id=access.workspace_id,
                    user_id=actor.user_id,
                    at=self._all.clock(),
                )
                rows.complete(tx, found["id"], stored.sha256)
            # Else another request was faster, which also knows whether these bytes are needed.
            details = {"sha256": stored.sha256, "size_bytes": stored.size}
            self._all.record(tx, actor, access.workspace_id, wanted.upload, details)
            return _completed(found, stored.sha256)

        done = self._all.write(actor, "write", wanted.workspace, wire.CompletedUpload, work)
        if kept is not None and not is_needed(self._all, kept, new, stored.object):
            # The content was there already. After a commit that failed nothing is removed: the next try needs the bytes.
            self._all.blobs.delete(stored.object)
        self._frontiers.drop(found["uid"])
        return done

    def _give_up(self, upload: RowMapping, stored: Stored) -> None:
        """Forget an upload that is not what it should be, unless another request completed it, whose blob these bytes are."""

        def work(tx: Connection) -> bool:
            now = rows.by_uid(tx, upload["workspace_id"], upload["uid"])
            if now is None or now["sha256"] is not None:
                return False
            rows.forget(tx, [upload["id"]])
            return True

        if self._all.catalog.write(work):
            self._all.blobs.delete(stored.object)
        self._frontiers.drop(upload["uid"])

    def _read_along(self, upload: RowMapping) -> None:
        """Hash what has come in order, while it is still in memory: two parts at most, for this one's sender waits."""
        frontier = self._frontiers.of(upload["uid"])
        if not frontier.guard.acquire(blocking=False):
            return  # whoever reads comes to this part
        try:
            for _ in range(2):
                number = frontier.at // upload["part_size"] + 1
                with self._all.catalog.read() as tx:
                    part = rows.part(tx, upload["id"], number)
                if part is None:
                    return
                pieces = self._all.blobs.peek(upload["unfinished"], frontier.at, frontier.at + part["size"])
                if pieces is None:
                    return
                frontier.read(pieces)
        except EpistaError:
            return  # completed or given up by another request; this part was recorded all the same
        finally:
            frontier.guard.release()

    def _refuse_more(self, tx: Connection, actor: Actor, access: Access) -> None:
        limit = self._all.config.max_incomplete_uploads
        now = self._all.clock()
        here = access.workspace_id
        if len(rows.incomplete(tx, here, user_id=actor.user_id, size=None, at=now, limit=limit)) >= limit:
            raise ConflictError(
                f"you have {limit} incomplete uploads in workspace {access.workspace!r}, and may have no more",
                hint="epista uploads lists them; epista uploads --abort ID gives one up",
            )

    def _part_size(self, size: int) -> int:
        usual, least = self._all.config.part_bytes, -(-size // wire.MAX_PARTS)
        return usual if least <= usual else -(-least // _MIB) * _MIB


class _Frontier:
    """How much of an upload this process has hashed in order; a process that knows nothing begins anew."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.hash = hashlib.sha256()
        self.at = 0

    def read(self, pieces: Generator[bytes, None, None], seconds: float | None = None) -> None:
        """Hash the next *pieces*, for some *seconds* at most."""
        until = None if seconds is None else time.monotonic() + seconds
        try:
            for piece in pieces:
                self.hash.update(piece)
                self.at += len(piece)
                if until is not None and time.monotonic() > until:
                    return
        finally:
            pieces.close()


class _Frontiers:
    """The frontiers of the uploads that this process met last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Frontier] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, uid: str) -> _Frontier:
        with self._guard:
            found = self._known.setdefault(uid, _Frontier())
            self._known.move_to_end(uid)
            if len(self._known) > _FRONTIERS:
                self._known.popitem(last=False)
            return found

    def drop(self, uid: str) -> None:
        with self._guard:
            self._known.pop(uid, None)


def expire(resources: Resources, *, grace_seconds: float, dry_run: bool) -> tuple[int, int]:
    """
    Remove uploads whose time is over, and parts that no upload knows and that are older than the grace period.

    Return how many there were, and their bytes. The rows go first: a crash in between leaves parts that no row knows.
    """
    store: BlobStore = resources.blobs

    def work(tx: Connection) -> list[tuple[str, int]]:
        found = rows.expired(tx, resources.clock())
        if not dry_run:
            rows.forget(tx, [row["id"] for row in found])
        return [(row["unfinished"], row["received"]) for row in found if row["sha256"] is None]

    gone = resources.catalog.write(work)
    old = [one for one in store.unfinished() if time.time() - one.modified >= grace_seconds]
    with resources.catalog.read() as tx:
        # Only what lay there before the rows were read can be unknown; the grace period covers what is just beginning.
        known = {*rows.unfinished(tx), *(name for name, _ in gone)}
    gone += [(one.object, one.size) for one in old if one.object not in known]
    if not dry_run:
        for unfinished, _ in gone:
            store.abandon(unfinished)
    return len(gone), sum(size for _, size in gone)


def _own(tx: Connection, actor: Actor, access: Access, uid: str, *, or_managed: bool = False) -> RowMapping:
    found = rows.by_uid(tx, access.workspace_id, uid)
    if found is None or not (found["user_id"] == actor.user_id or (or_managed and _manages(actor, access))):
        raise NotFoundError(f"no upload {uid!r}", hint="epista uploads")
    return found


def _manages(actor: Actor, access: Access) -> bool:
    return access.role == "admin" and "admin" in actor.scopes and access.experiments is None


def _refuse_complete(upload: RowMapping, now: int) -> None:
    if upload["sha256"] is not None:
        raise ConflictError(f"upload {upload['uid']!r} is complete", hint="begin another upload for other content")
    if upload["expires_at"] <= now:
        raise ConflictError(f"upload {upload['uid']!r} has expired", hint="begin another upload")


def _count(upload: RowMapping) -> int:
    return int(-(-upload["size"] // upload["part_size"]))


def _size_of(upload: RowMapping, number: int) -> int:
    count = _count(upload)
    if number > count:
        raise InvalidRequestError(f"there is no part {number}; upload {upload['uid']!r} has {count}")
    size = int(upload["part_size"])
    return size if number < count else int(upload["size"]) - size * (count - 1)


def _wrong_size(arriving: Arriving, size: int) -> InvalidRequestError:
    return InvalidRequestError(
        f"part {arriving.number} has {arriving.expected:,} bytes, not {size:,}",
        hint="uploads.get says how large the parts are",
        details={"size_bytes": arriving.expected},
    )


def _message(row: RowMapping) -> wire.Upload:
    return wire.Upload(
        id=row["uid"],
        size_bytes=row["size"],
        part_bytes=row["part_size"],
        received_bytes=row["size"] if row["sha256"] else int(row["received"]),
        sha256=row["announced"],
        user=row["user"],
        created_at=moments.to_datetime(row["created_at"]),
        expires_at=moments.to_datetime(row["expires_at"]),
    )


def _part(row: RowMapping) -> wire.Part:
    return wire.Part(number=row["number"], size_bytes=row["size"], crc32=row["crc32"])


def _completed(row: RowMapping, sha256: str | None, read: int | None = None) -> wire.CompletedUpload:
    return wire.CompletedUpload(sha256=sha256, size_bytes=row["size"], read_bytes=row["size"] if read is None else read)
