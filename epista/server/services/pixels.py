"""Pixels: what is in an image is found out once and kept by content, and read by limited children, wherever its bytes lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from epista.contract.errors import MissingExtraError, UnreadableImageError
from epista.server.engines import image_files
from epista.server.engines.image_files import Levels, Place
from epista.server.engines.images import ImageReader
from epista.server.imaging import pyramids, rendering
from epista.server.imaging.index import VERSION, Index
from epista.server.imaging.rendering import Suggestions
from epista.server.services import spans
from epista.server.services.contents import Content
from epista.server.services.resources import Resources
from epista.server.stores import linked
from epista.server.stores.table_cache import TableCache, Use
from epista.server.stores.table_facts import linked_source

LINK_SECONDS = 300
"""How long a link to an object works that a child is given; longer than it may take."""

MADE_SECONDS = 10.0
"""How long one waits for what is made for somebody else: threads that wait help nobody."""


class OpenImage:
    """One image, whose bytes lie where a child can read them."""

    def __init__(self, reader: ImageReader, kept: TableCache, source: str, place: Place, copied: Callable[[Use], Place]) -> None:
        self.source = source
        """By which its content is known again."""
        self._reader = reader
        self._kept = kept
        self._place = place
        self._copied = copied
        # By hand: a cached_property has one lock for all objects, so that images would wait for each other.
        self._known: Index | None = None

    @property
    def index(self) -> Index:
        """What is in it."""
        if self._known is None:
            self._known = msgspec.msgpack.decode(self._index(), type=Index)
        return self._known

    def suggestions(self, scene: int) -> Suggestions:
        """Return how the channels of a scene may be shown; worked out once, so that all tiles agree."""
        with self._kept.use() as use:
            name = f"{self.source}-rendering-{VERSION}-{scene}"

            def make(into: Path) -> None:
                write(into, [self.read(image_files.Suggest(scene=scene))])

            path = use.file(name, make, wait_seconds=MADE_SECONDS)
            return msgspec.msgpack.decode(path.read_bytes(), type=Suggestions)

    def usual(self) -> str:
        """Return how it is drawn if nobody says how."""
        return rendering.spell(rendering.usual(self.suggestions(0)))

    def thumbnail(self, max_px: int) -> image_files.Thumbnail:
        """Return the question for a small picture of it, as it is usually drawn."""
        return image_files.Thumbnail(max_px=max_px, rendering=self.usual())

    def read(self, ask: image_files.Ask) -> bytes:
        """Read or draw; see `epista.server.engines.images.ImageReader.read`."""
        with ExitStack() as stack:

            def levels(plane: tuple[int, int, int]) -> Levels:
                return self._levels(stack.enter_context(self._kept.use()), plane)

            def whole() -> Place:
                return self._copied(stack.enter_context(self._kept.use()))

            return self._reader.read(self._place, self.source, ask, self._index, levels, whole)

    def features(self, origin: dict[str, Any], scene: int) -> bytes:
        """Read it as GeoJSON; see `epista.server.engines.images.ImageReader.features`."""
        return self._reader.features(self._place, image_files.Features(origin=origin, scene=scene))

    def _index(self) -> bytes:
        """Return what is in it; found out at first, and kept by content."""
        with self._kept.use() as use:
            name = f"{self.source}-image-{VERSION}"

            def read(into: Path) -> None:
                write(into, [self._reader.index(self._place, name, lambda: self._copied(use))])

            return use.file(name, read, wait_seconds=MADE_SECONDS).read_bytes()

    def _levels(self, use: Use, plane: tuple[int, int, int]) -> Levels:
        """Return the levels of a plane that the image has not itself; made at first, and kept by content."""
        name = "-".join([self.source, "levels", str(VERSION), *map(str, plane)])

        def make(into: Path) -> None:
            use.require_room(pyramids.most_bytes(self.index.scenes[plane[0]]))
            self._reader.make_levels(self._place, self.source, self._index(), plane, into)

        path = use.file(name, make, wait_seconds=MADE_SECONDS)
        with path.open("rb") as file:
            return Levels(
                place=Place(path=os.fsencode(path), size=path.stat().st_size), levels=pyramids.levels_in(file), plane=plane
            )


class Pixels:
    """Opens images, for whoever was found to be allowed to read them."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    @contextmanager
    def open(self, content: Content) -> Iterator[OpenImage]:
        """
        Open an image, or what was drawn on one, until the context ends.

        Raises:
            MissingExtraError: this server reads no images.
            UnreadableImageError: it cannot be one.
        """
        if self._all.images is None:
            raise MissingExtraError("this server reads no images: a package is missing", hint='pip install "epista[image]"')
        source = content.sha256 or linked_source(content.object)

        def copied(use: Use) -> Place:
            """Bring the bytes here, as a file of their own."""
            use.require_room(content.size)
            [span] = spans.looked_up(self._all, [content.span(0, content.size)])

            def make(into: Path) -> None:
                write(into, spans.read(self._all, [span]))

            path = use.file(f"{source}-bytes.image", make, wait_seconds=MADE_SECONDS)
            return Place(path=os.fsencode(path), size=content.size)

        with ExitStack() as stack:
            place = self._place(content)
            if place is None:
                # What shares an object with others, or lies below a root elsewhere, is brought here.
                place = copied(stack.enter_context(self._all.table_cache.use()))
            yield OpenImage(self._all.images, self._all.table_cache, source, place, copied)

    def _place(self, content: Content) -> Place | None:
        """Return where a child can read the bytes, if it can where they lie."""
        if content.is_in_parts:
            raise UnreadableImageError("this is a table, and no image")
        if content.name.lower().endswith(".mrxs"):
            # Of itself it is a JPEG, which may show the label of the slide.
            raise UnreadableImageError(
                "the pixels of a MRXS slide lie in a folder of files beside it", hint="convert it, to OME-TIFF or OME-Zarr"
            )
        if content.is_linked and (path := self._all.roots.path(content.object)) is not None:
            return Place(path=os.fsencode(path), size=content.size, stamp=linked.stamp_of(content.object))
        span = content.span(0, content.size)
        if not content.is_linked and self._all.blobs.size(span.object) is None:
            # A collection may have moved it since the session was checked.
            [span] = spans.looked_up(self._all, [span])
        if (path := self._all.file_of(span.object)) is not None:
            return Place(path=os.fsencode(path), offset=span.offset, size=content.size)
        if content.is_linked or span.offset:
            return None
        url = self._all.blobs.link(span.object, name="image", media_type="image/*", seconds=LINK_SECONDS)
        return None if url is None else Place(url=url, size=content.size)


def write(into: Path, pieces: Iterable[bytes]) -> None:
    """Write a file that is not there yet."""
    with into.open("xb") as file:
        file.writelines(pieces)
