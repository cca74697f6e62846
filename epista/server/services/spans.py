"""Spans: parts of contents that are read, wherever they lie by then."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import NamedTuple

from epista.contract.errors import IntegrityError
from epista.server.services.resources import Resources
from epista.server.stores import assets as rows
from epista.server.stores.blobs import is_name

GAP_BYTES = 64 * 1024
"""Bytes between two spans that are read along with them: a gap costs less than another read."""


class Span(NamedTuple):
    """A part of a content."""

    sha256: str | None
    """Of the whole content, which tells it from others wherever it lies; of a linked file it may be unknown."""
    object: str
    offset: int
    """Where in the object the content begins."""
    start: int
    stop: int
    """From where to where in the content."""

    @property
    def first(self) -> int:
        """Where in the object the span begins."""
        return self.offset + self.start

    @property
    def end(self) -> int:
        """Where in the object it ends."""
        return self.offset + self.stop


def read(resources: Resources, spans: Sequence[Span]) -> Generator[bytes, None, None]:
    """
    Yield the bytes of spans one after the other; neighbours are read at once, and what lies between them is left out.

    What is missing is looked up again: a purge or a collection may have moved it into another pack meanwhile.

    Raises:
        IntegrityError: it is missing all the same; LinkedFileChangedError, if it is linked and not what it was.
        UnavailableError: the store does not answer.
    """
    left = list(spans)
    while left:
        run = _neighbours(left)
        del left[: len(run)]
        at = run[0].first
        try:
            # What is no object of the store is a linked file.
            store = resources.blobs if is_name(run[0].object) else resources.roots
            with closing(store.read(run[0].object, at, run[-1].end)) as pieces:
                for piece in pieces:
                    before, at = at, at + len(piece)
                    if wanted := b"".join(piece[max(0, one.first - before) : one.end - before] for one in run if one.first < at):
                        yield wanted
                    run = [one for one in run if one.end > at]
        except IntegrityError:
            if not is_name(run[0].object):
                raise  # nothing moves a linked file
            unread = [one._replace(start=max(one.start, at - one.offset)) for one in run]
            moved = looked_up(resources, unread)
            if moved == unread:
                raise
            left[:0] = moved


def looked_up(resources: Resources, spans: Sequence[Span]) -> list[Span]:
    """Return spans of the same contents where they lie now."""
    with resources.catalog.read() as tx:
        places = rows.places(tx, [one.sha256 for one in spans if one.sha256])
    return [one._replace(**places.get(one.sha256 or "", {})) for one in spans]


def _neighbours(spans: Sequence[Span]) -> list[Span]:
    """Return the first spans that lie side by side in one object."""
    run = [spans[0]]
    for one in spans[1:]:
        if one.object != run[0].object or not run[-1].end <= one.first <= run[-1].end + GAP_BYTES:
            break
        run.append(one)
    return run
