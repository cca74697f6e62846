"""Packs: what is still needed of them moves into new ones, so that the rest of their bytes is given back."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from epista.contract.errors import IntegrityError
from epista.server.access.actors import Actor
from epista.server.services.resources import Resources
from epista.server.stores import audit, care, remains
from epista.server.stores.assets import is_object_known
from epista.server.stores.blobs import is_name

PACK_BYTES = 8 * 1024 * 1024
"""How many bytes a new pack has at most, and the most of them that are in memory at once."""

HEADER_BYTES = 64
"""What a frame says of each of its objects, roughly: that alone makes no pack of tiny ones sparse."""

PACK_BLOBS = 10_000
"""How many blobs a new pack has at most, as one transaction moves them all."""


class Sparse(NamedTuple):
    """A pack of which less than half is needed."""

    object: str
    size: int
    needed: care.Share


class _Changed(Exception):
    """What was copied is not what is there any more."""


def is_sparse(size: int, needed: care.Share) -> bool:
    """Whether a pack of *size* bytes shall be rewritten. One with damaged blobs stays as it is: it is all there is of them."""
    if not needed.is_pack or needed.is_damaged or needed.blobs == 0:
        return False
    return (needed.size + HEADER_BYTES * needed.blobs) * 2 < size


def compact(resources: Resources, actor: Actor, sparse: Sequence[Sparse]) -> tuple[int, int]:
    """Move what is needed of packs into new ones and remove them; return of how many, and how much room that gave back."""
    count = freed = 0
    for some in _together(sparse):
        moved = _compact(resources, actor, [one.object for one in some])
        count += len(moved)
        freed += sum(one.size - one.needed.size for one in some if one.object in moved)
    return count, freed


def drop(resources: Resources, names: Collection[str]) -> None:
    """
    Remove the objects that no row knows; asked by a write, which waits for a commit whose answer was lost.

    What was linked is no object of the store, and stays where it lies.
    """

    def work(tx: Connection) -> list[str]:
        unknown = [name for name in sorted(filter(is_name, names)) if not is_object_known(tx, name)]
        remains.forget(tx, unknown)
        return unknown

    for name in resources.catalog.write(work):
        resources.blobs.delete(name)


def _together(sparse: Sequence[Sparse]) -> Iterator[list[Sparse]]:
    """Group packs by what fits one new pack."""
    group: list[Sparse] = []
    for one in sparse:
        needed = [other.needed for other in (*group, one)]
        if group and (sum(share.size for share in needed) > PACK_BYTES or sum(share.blobs for share in needed) > PACK_BLOBS):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _compact(resources: Resources, actor: Actor, names: Sequence[str]) -> set[str]:
    """
    Move what rows know of packs into a new one; return which packs are gone.

    All rows move or none: what was purged meanwhile must not live on in the new pack.
    """
    moved: list[care.Moved] = []
    pieces: list[care.Piece] = []
    pack = resources.blobs.create()
    try:
        # None of a pack begins at 0, where only what has a file of its own does.
        pack.write(b"\0")
        for name in names:
            with resources.catalog.read() as tx:
                found = care.lying_in(tx, [name])
            contents = _whole(resources, found)
            for one, data in zip(found, contents, strict=False):  # none, where one of them is damaged
                moved.append(care.Moved(one.id, pack.name, pack.size, is_whole=True))
                pack.write(data)
                pieces.append(one)
        if not pieces:
            return set()
        stored = pack.finish()
    finally:
        pack.discard()
    gone = {one.object for one in pieces}

    def work(tx: Connection) -> None:
        if not care.is_unmoved(tx, pieces):
            raise _Changed
        care.repoint(tx, moved, at=resources.clock())
        resources.record(tx, actor, audit.LAB, "packs", {"rewritten": len(gone), "blobs": len(moved)})

    try:
        resources.catalog.write(work)
    except _Changed:
        return set()
    finally:
        drop(resources, {*gone, stored.object})
    return gone


def _whole(resources: Resources, pieces: Sequence[care.Piece]) -> list[bytes]:
    """Read blobs of one pack; if one is not what it should be, mark it and return none, so that the pack stays."""
    contents: list[bytes] = []
    for one in pieces:
        try:
            data = b"".join(resources.blobs.read(one.object, one.offset, one.offset + one.size))
        except IntegrityError:
            data = b""
        if hashlib.sha256(data).hexdigest() != one.sha256:
            _mark(resources, one)
            return []
        contents.append(data)
    return contents


def _mark(resources: Resources, piece: care.Piece) -> None:
    def work(tx: Connection) -> None:
        # Others may have moved it since: then it was read where it is no more.
        if care.is_unmoved(tx, [piece]):
            care.mark_damaged(tx, piece.id, resources.clock())

    resources.catalog.write(work)
