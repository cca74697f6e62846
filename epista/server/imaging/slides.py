"""
Slides of Hamamatsu (NDPI) and Leica (SCN), by OpenSlide: their pixels, and none of the pictures that show whose they are.

Formats: https://openslide.org/formats/hamamatsu/ and /leica/. OpenSlide reads files only, which it is given by their path.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from epista.contract.errors import MissingExtraError, UnreadableImageError
from epista.server.imaging.cache import TileCache
from epista.server.imaging.index import MAX_PROPERTY_CHARACTERS, MAX_TILES, Channel, Index, Level, Scene, Where
from epista.server.imaging.sources import File, FileWantedError, Part, Source

if TYPE_CHECKING:
    from openslide import OpenSlide

TILE = 512
"""Width and height of what is read and kept at once, in pixels."""

_OPEN = 4
_NDPI_FORMAT = 65420
_DESCRIPTION = 270
_LEICA = b"http://www.leica-microsystems.com/scn/"
_FORMATS = {"hamamatsu": "NDPI", "leica": "SCN"}


def is_slide(source: Source) -> bool:
    """Whether a TIFF is a slide that OpenSlide is to read: by what its first directory says."""
    head = source.read([(0, min(16, source.size))])[0]
    if len(head) < 16 or head[:4] not in (b"II*\0", b"II+\0"):
        return False
    is_big = head[2] == 43
    # In NDPI all offsets have 64 bits, though it says that it is a classic TIFF; in one of less than 4 GB the rest is 0.
    for start in {struct.unpack_from("<Q", head, 8 if is_big else 4)[0], struct.unpack_from("<I", head, 4)[0]}:
        count, entry = ("<Q", "<HHQQ") if is_big else ("<H", "<HHII")
        first = start + struct.calcsize(count)
        if first > source.size or start < 8:
            continue
        [number] = struct.unpack(count, source.read([(start, struct.calcsize(count))])[0])
        size = struct.calcsize(entry)
        if number > 4096 or first + number * size > source.size:
            continue
        for tag, _, length, value in struct.iter_unpack(entry, source.read([(first, number * size)])[0]):
            if tag == _NDPI_FORMAT and not is_big:
                return True
            if tag == _DESCRIPTION and is_big and length > 8 and value + length <= source.size:
                return _LEICA in source.read([(value, min(length, 1024))])[0]
    return False


def read_index(source: Source) -> Index:
    """
    Read what a slide says of itself.

    Raises:
        UnreadableImageError: it is damaged.
        MissingExtraError: OpenSlide is not installed.
        FileWantedError: it is no file on this machine.
    """
    with _Kept(_file(source), None) as slide:
        return _index(slide)


def _index(slide: OpenSlide) -> Index:
    told = slide.properties
    levels = []
    for width, height in slide.level_dimensions:
        problem = f"it has more than {MAX_TILES:,} tiles" if -(-width // TILE) * -(-height // TILE) > MAX_TILES else ""
        levels.append(Level(width=width, height=height, tile_width=TILE, tile_height=TILE, problem=problem))
    if not levels or any(level.width <= 0 or level.height <= 0 for level in levels):
        raise UnreadableImageError("the slide has no pixels")
    return Index(
        reader="slide",
        format=_FORMATS.get(told.get("openslide.vendor", ""), "slide"),
        scenes=(
            Scene(
                dtype=np.dtype(np.uint8).str,
                channels=tuple(Channel(name=name) for name in "RGB"),
                samples=3,
                levels=tuple(levels),
                pixel_size_um=_pixel_size(told.get("openslide.mpp-x"), told.get("openslide.mpp-y")),
            ),
        ),
        hidden=tuple(sorted(slide.associated_images)),
        # What stands on a label may show whose slide it is.
        properties={
            name: value[:MAX_PROPERTY_CHARACTERS] for name, value in sorted(told.items()) if "barcode" not in name.lower()
        },
    )


def _pixel_size(across: str | None, down: str | None) -> tuple[float, float] | None:
    try:
        found = float(across or "nan"), float(down or "nan")
    except ValueError:
        return None
    return found if all(0 < side < 1e6 for side in found) else None


class Slide:
    """Reads pixels by OpenSlide; for any number of threads."""

    def __init__(self, source: Source, index: Index, cache: TileCache, name: Hashable) -> None:
        self._source = source
        self._index = index
        self._cache = cache
        self._name = name

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """Return the pixels of a region within its level, as (height, width, channels)."""
        level = self._index.scenes[0].levels[at.level]
        if level.problem:
            raise UnreadableImageError(f"level {at.level} cannot be read: {level.problem}", details={"level": at.level})
        result = np.empty((at.height, at.width, 3), np.uint8)
        for row in range(at.y // TILE, (at.y + at.height - 1) // TILE + 1):
            for column in range(at.x // TILE, (at.x + at.width - 1) // TILE + 1):
                tile = self._tile(at, level, row, column)
                top, left = row * TILE, column * TILE
                y, x = max(top, at.y), max(left, at.x)
                lower, right = min(top + tile.shape[0], at.y + at.height), min(left + tile.shape[1], at.x + at.width)
                result[y - at.y : lower - at.y, x - at.x : right - at.x] = tile[y - top : lower - top, x - left : right - left]
        return result[..., list(channels)]

    def _tile(self, at: Where, level: Level, row: int, column: int) -> NDArray[Any]:
        key = self._name, at.level, row, column
        known: NDArray[Any] | None = self._cache.get(key)
        if known is not None:
            return known
        first = self._index.scenes[0].levels[0]
        place = round(column * TILE * first.width / level.width), round(row * TILE * first.height / level.height)
        size = min(TILE, level.width - column * TILE), min(TILE, level.height - row * TILE)
        try:
            with _Kept(_file(self._source), self._name) as slide:
                pixels = np.asarray(slide.read_region(place, at.level, size))
                background = slide.properties.get("openslide.background-color", "FFFFFF")
        except Exception as error:
            if isinstance(error, FileWantedError | MissingExtraError | MemoryError | UnreadableImageError):
                raise
            raise UnreadableImageError(
                f"the tile in row {row}, column {column} of level {at.level} cannot be decoded",
                hint="other parts of the image may be readable",
                details={"scene": 0, "level": at.level, "plane": 0, "tile": [row, column]},
            ) from error
        tile = pixels[..., :3]
        if (pixels[..., 3] < 255).any():
            # Where the scanner did not look there is the slide's own background; OpenSlide gives colours times their opacity.
            opacity = pixels[..., 3:].astype(np.uint16)
            color = np.frombuffer(bytes.fromhex(background), np.uint8).astype(np.uint16)
            tile = (pixels[..., :3] + color * (255 - opacity) // 255).clip(0, 255).astype(np.uint8)
        self._cache.put(key, tile)
        return tile


def _file(source: Source) -> File:
    """Return a source that is a whole file of this machine."""
    whole = source.whole if isinstance(source, Part) and not source.offset else source
    if not isinstance(whole, File) or whole.size != source.size:
        raise FileWantedError
    return whole


class _Open:
    """A slide, and the file that it is read from."""

    def __init__(self, file: File) -> None:
        try:
            import openslide
        except ImportError as error:
            message = "slides of this vendor are read by OpenSlide, which is missing here"
            raise MissingExtraError(message, hint='pip install "epista[slides]"') from error
        # OpenSlide opens the path again for each tile, when another file may have its name; so it is led to this one.
        self._handle = file.duplicate() if Path("/proc/self/fd").is_dir() else None
        try:
            self.slide = openslide.OpenSlide(file.path if self._handle is None else f"/proc/self/fd/{self._handle}")
        except openslide.OpenSlideError as error:
            self._end()
            raise UnreadableImageError("the slide is damaged, or of a kind that OpenSlide does not read") from error

    def close(self) -> None:
        self.slide.close()
        self._end()

    def _end(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


class _Kept:
    """
    A slide that stays open for the next question, if it has a name: opening one takes long.

    One that failed once never works again, and is closed.
    """

    _slides: ClassVar[OrderedDict[Hashable, _Open]] = OrderedDict()
    _guard = threading.Lock()

    def __init__(self, file: File, name: Hashable) -> None:
        self._file = file
        self._name = name

    def __enter__(self) -> OpenSlide:
        with self._guard:
            found = self._slides.pop(self._name, None)
        self._open = found or _Open(self._file)
        return self._open.slide

    def __exit__(self, failed: object, *_: object) -> None:
        with self._guard:
            if failed is not None or self._name is None or self._name in self._slides:
                self._open.close()
                return
            self._slides[self._name] = self._open
            while len(self._slides) > _OPEN:
                self._slides.popitem(last=False)[1].close()
