"""Contents come in, and their places are told: bytes without a name, which versions point at."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, RowMapping

from epista.contract import formats
from epista.contract import objects as wire
from epista.contract.errors import (
    ForbiddenError,
    IntegrityError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
)
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import joins, spans, usage
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.stores import assets as rows
from epista.server.stores.blobs import Incoming, Stored, is_name
from epista.server.stores.local import LocalBlobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Where the bytes of a version lie, and what to call them."""

    object: str
    offset: int
    size: int
    sha256: str | None
    """Of the bytes; None for a linked file that nobody has read whole yet."""
    version_id: int
    name: str
    media_type: str
    is_deleted: bool

    @property
    def is_linked(self) -> bool:
        """Whether the lab has no copy of the bytes."""
        return not is_name(self.object)

    @property
    def is_in_parts(self) -> bool:
        """Whether it is a table of several files, of which there is no one file yet: then it has no bytes to read."""
        return self.sha256 is None and not self.is_linked

    def span(self, start: int, stop: int) -> Span:
        """Return a part of it."""
        return Span(self.sha256, self.object, self.offset, start, stop)

    @property
    def tag(self) -> str:
        """Another one means other bytes; it never changes, also when the sha256 becomes known."""
        if self.is_linked:
            return "linked-" + hashlib.sha256(self.object.encode()).hexdigest()[:32]
        return str(self.sha256)


class Contents:
    """Bytes of a lab, to send, to read, and to copy within its folder."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

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
            found = known_to(tx, actor, access, wanted.sha256)
        known = {row["sha256"] for row in there(self._all, found.values())}
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
        if found.is_in_parts:
            join(self._all, actor, found)
            return self.locate(actor, wanted)
        path = self._all.roots.path(found.object) if found.is_linked else folder.path(found.object)
        if found.offset or path is None or found.sha256 is None:
            raise NotFoundError("these bytes have no file of their own", hint="read them through the server: objects.content")
        self._all.note(actor, access.workspace_id, wanted.version)
        return wire.Location(path=str(path.absolute()), offset=0, size_bytes=found.size, sha256=found.sha256)

    def content(self, actor: Actor, wanted: wire.ReadContent) -> Content:
        """Return where the bytes of a version lie, if it has some, for whoever may read its asset."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = content_of(tx, access, wanted.version)
        # What is in parts is to be joined first, which may take its time, and asked for again.
        if not found.is_in_parts:
            self._all.note(actor, access.workspace_id, found.name, {"version": wanted.version})
        return found

    def _folder(self, actor: Actor) -> LocalBlobs:
        """Return the folder with the bytes of an embedded lab, which only its user may touch."""
        store = self._all.blobs
        if not actor.is_local or not isinstance(store, LocalBlobs):
            raise ForbiddenError("only the user of an embedded lab may touch its folder", hint="send the bytes instead")
        return store

    def _keep(self, actor: Actor, workspace: str, stored: Stored) -> wire.Blob:
        new = [rows.New(stored.sha256, stored.size, 0)]
        kept: rows.Kept | None = None
        is_kept = False

        def work(tx: Connection, access: Access) -> wire.Blob:
            nonlocal kept
            kept = rows.keep_blobs(
                tx,
                new,
                object=stored.object,
                workspace_id=access.workspace_id,
                user_id=actor.user_id,
                at=self._all.clock(),
            )
            self._all.record(tx, actor, access.workspace_id, stored.sha256, {"size_bytes": stored.size})
            return wire.Blob(sha256=stored.sha256, size_bytes=stored.size)

        try:
            done = self._all.write(actor, "write", workspace, wire.Blob, work)
            is_kept = kept is not None and is_needed(self._all, kept, new, stored.object)
            return done
        finally:
            # The content was there already, or could not be recorded: the new copy is one too many. If the commit failed
            # in doubt, the row may point at it, so only a copy that no row can know is removed.
            if not is_kept and not self._is_recorded(stored):
                self._all.blobs.delete(stored.object)

    def _is_recorded(self, stored: Stored) -> bool:
        # Asked by a write, which waits for every commit that is under way, also for one whose answer was lost.
        return self._all.catalog.write(lambda tx: rows.is_object_known(tx, stored.object))


def is_needed(resources: Resources, kept: rows.Kept, new: Sequence[rows.New], object: str) -> bool:
    """
    Whether anything in *object* is needed, after the commit that recorded it.

    Before a copy of what was there already is thrown away, the store is asked whether it still has the other one; where it has
    not, the copy takes its place. Asked once for each object, and not in the commit, where others would wait for the answer.
    """
    sizes = {name: resources.blobs.size(name) for name in kept.elsewhere}
    lost = [name for name, size in sizes.items() if size is None or size < kept.elsewhere[name]]
    if not lost:
        return kept.is_needed
    return resources.catalog.write(lambda tx: rows.replace_blobs(tx, new, lost, object=object))


def there(resources: Resources, found: Iterable[RowMapping]) -> list[RowMapping]:
    """Return the blobs that lie where their rows say, as far as that costs nothing to know: in a folder."""
    sizes: dict[str, int | None] = {}

    def is_there(row: RowMapping) -> bool:
        name = row["object"]
        if name not in sizes:
            sizes[name] = None if resources.blobs.path(name) is None else resources.blobs.size(name) or 0
        size = sizes[name]
        return size is None or row["offset"] + row["size"] <= size

    return [row for row in found if is_there(row)]


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
        version_id=row["version_id"],
        name=row["name"],
        media_type="application/gzip" if formats.is_gzipped(row["key"]) else known.media_type,
        is_deleted=row["deleted_at"] is not None,
    )


def join(resources: Resources, actor: Actor, content: Content) -> None:
    """Make one file of a content that is in parts; asked for again, it has bytes."""
    joins.join(resources, actor, content.version_id)


def pieces(resources: Resources, content: Content, start: int, stop: int) -> Generator[bytes, None, None]:
    """
    Yield bytes *start* up to *stop*, which is excluded, of *content*.

    The first who reads a linked file from its beginning to its end takes its sha256 along.
    """
    found = spans.read(resources, [content.span(start, stop)])
    if content.sha256 is not None or start or stop < content.size:
        yield from found
        return
    digest, at = hashlib.sha256(), 0
    for piece in found:
        digest.update(piece)
        at += len(piece)
        if at == stop:
            # Before the last piece goes out: whoever has it may ask what the sha256 is.
            took = partial(rows.take_sha256, object=content.object, sha256=digest.hexdigest())
            with suppress(StorageFullError, UnavailableError):  # the next reader will do it
                resources.catalog.write(took)
        yield piece


def known_to(tx: Connection, actor: Actor, access: Access, sha256: Sequence[str]) -> dict[str, RowMapping]:
    """Return what the caller may point at among *sha256*."""
    return rows.known_blobs(
        tx,
        workspace_id=access.workspace_id,
        allowed=access.experiments,
        user_id=actor.user_id,
        sha256=list(dict.fromkeys(sha256)),
    )
