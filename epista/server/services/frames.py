"""Frames: many small objects in one request, in either direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, RowMapping

from epista.contract import frames, lineage
from epista.contract import objects as wire
from epista.contract.assets import Asset
from epista.contract.errors import InvalidRequestError, TooLargeError
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import contents, spans, usage
from epista.server.services.batches import Batches
from epista.server.services.objects import Objects
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.stores import assets as rows
from epista.server.stores.blobs import Stored

_LOOKS = 2
"""How often it is looked up where contents lie: what is missing at the first look may just have moved."""

_LISTED_IN_AUDIT = 50


class Frames:
    """
    What came in one frame becomes durable, and visible, in one transaction; what goes out is what the caller may read.

    A frame is kept as it came, as a pack: one object of the store in which many blobs lie. None of them begins at 0, where the
    header stands; so an offset of 0 means an object that is one blob.
    """

    def __init__(self, resources: Resources, objects: Objects, batches: Batches) -> None:
        self._all = resources
        self._batches = batches
        self._objects = objects

    def refuse_early(self, actor: Actor, wanted: wire.SendFrame) -> int | None:
        """Refuse a caller who may write nothing here, before the body is read; return how much there is room for (None: all)."""
        with self._all.read(actor, "write", wanted.workspace) as (tx, access):
            return usage.room(tx, access)

    def send(
        self, actor: Actor, wanted: wire.SendFrame, head: wire.FrameHead, frame: memoryview, room: int | None
    ) -> wire.Framed:
        """Keep the objects of a frame as a pack, and make versions of them, all or none; *room* is what `refuse_early` said."""
        placed = frames.parse(frame)
        if placed and (largest := max(one.size for one in placed)) > self._all.config.max_upload_bytes:
            limit = self._all.config.max_upload_bytes
            raise TooLargeError(f"an object of {largest:,} bytes is over the limit of {limit:,} bytes")
        if head.batch is not None and (lineage.said(head) != lineage.said(lineage.Origin()) or not head.objects):
            raise InvalidRequestError("what is set aside for a batch has keys; where they come from is said by its commit")
        if not placed:
            if not head.objects:
                raise InvalidRequestError("neither an object nor a key was sent")
            return self._act(actor, wanted, head, None)
        sizes = {one.sha256: one.size for one in placed}
        if room is not None and sum(sizes.values()) > room:
            with self._all.read(actor, "write", wanted.workspace) as (tx, access):
                usage.refuse_contents_early(tx, access, sizes)
        fresh = _Fresh(self._all, actor, placed, self._store(frame))
        is_kept = False
        try:
            sent = self._act(actor, wanted, head, fresh) if head.objects else self._keep(actor, wanted, fresh)
            is_kept = fresh.is_needed()
            return sent
        finally:
            # All of it was there already, or nothing could be recorded. If the commit failed in doubt, rows may point into the
            # pack, so only one that no row can know is removed.
            if not is_kept and not self._is_known(fresh.pack.object):
                self._all.blobs.delete(fresh.pack.object)

    def _act(self, actor: Actor, wanted: wire.SendFrame, head: wire.FrameHead, fresh: _Fresh | None) -> wire.Framed:
        blobs = len(fresh.placed) if fresh else 0
        if head.batch is None:
            return wire.Framed(blobs=blobs, assets=tuple(self._put(actor, wanted, head, fresh)))
        self._batches.set_aside(actor, wanted.workspace, head, fresh)
        return wire.Framed(blobs=blobs)

    def _store(self, frame: memoryview) -> Stored:
        incoming = self._all.blobs.create()
        try:
            incoming.write(frame)
            return incoming.finish()
        finally:
            incoming.discard()

    def _keep(self, actor: Actor, wanted: wire.SendFrame, fresh: _Fresh) -> wire.Framed:
        def work(tx: Connection, access: Access) -> wire.Framed:
            fresh.record(tx, access)
            size = sum(one.size for one in fresh.placed)
            listed = [one.sha256 for one in fresh.placed[:_LISTED_IN_AUDIT]]
            details = {"sha256": listed, "count": len(fresh.placed), "size_bytes": size}
            self._all.record(tx, actor, access.workspace_id, f"{len(fresh.placed)} contents", details)
            return wire.Framed(blobs=len(fresh.placed))

        return self._all.write(actor, "write", wanted.workspace, wire.Framed, work)

    def read(self, actor: Actor, wanted: wire.ReadFrames) -> Iterator[bytes]:
        """Return a frame of what the caller may read of these versions; what it has not, has to be asked for by itself."""
        uids = list(dict.fromkeys(wanted.versions))
        for _ in range(_LOOKS):
            with self._all.read(actor, "read", wanted.workspace) as (tx, access):
                found = rows.small_blobs(tx, access.workspace_id, access.experiments, uids, frames.SMALL_BYTES)
            there = contents.there(self._all, found)
            if len(there) == len(found):
                break
        details = {"versions": uids[:_LISTED_IN_AUDIT], "count": len(uids)}
        self._all.note(actor, access.workspace_id, f"{len(there)} contents", details)
        return self._stream(there)

    def _stream(self, found: Sequence[RowMapping]) -> Iterator[bytes]:
        yield frames.header([frames.Entry(row["sha256"], row["size"]) for row in found])
        yield from spans.read(self._all, [Span(row["sha256"], row["object"], row["offset"], 0, row["size"]) for row in found])

    def _is_known(self, object: str) -> bool:
        # Asked by a write, which waits for every commit that is under way, also for one whose answer was lost.
        return self._all.catalog.write(lambda tx: rows.is_object_known(tx, object))

    def _put(self, actor: Actor, wanted: wire.SendFrame, head: wire.FrameHead, fresh: _Fresh | None) -> list[Asset]:
        commit = wire.CommitObjects(workspace=wanted.workspace, objects=head.objects, **lineage.said(head))
        # What is audited is the act, whatever it came in.
        committing = replace(actor, request=replace(actor.request, endpoint="objects.commit"))
        return self._objects.put(committing, commit, fresh)


class _Fresh:
    """The objects of one frame, which lie in a pack and are still to be recorded."""

    def __init__(self, resources: Resources, actor: Actor, placed: Sequence[frames.Placed], pack: Stored) -> None:
        self._all = resources
        self._actor = actor
        self.placed = placed
        self.pack = pack
        self._new = [rows.New(one.sha256, one.size, one.offset) for one in placed]
        self._kept: rows.Kept | None = None

    def is_needed(self) -> bool:
        """Whether rows point into the pack, once the transaction is committed."""
        return self._kept is not None and contents.is_needed(self._all, self._kept, self._new, self.pack.object)

    def places(self) -> dict[str, dict[str, Any]]:
        return {
            one.sha256: {"sha256": one.sha256, "object": self.pack.object, "offset": one.offset, "size": one.size}
            for one in self.placed
        }

    def record(self, tx: Connection, access: Access) -> dict[str, int]:
        self._kept = rows.keep_blobs(
            tx,
            self._new,
            object=self.pack.object,
            workspace_id=access.workspace_id,
            user_id=self._actor.user_id,
            at=self._all.clock(),
        )
        return self._kept.ids
