"""
Images: what is in one, and the pixels of a region, whatever the format.

A reader by format (`tiff`, `pictures`, ...) reads headers into an `Index` and regions by it; what may be asked is decided here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from epista.contract.errors import UnreadableImageError, ValidationError
from epista.server.imaging import omezarr, pictures, pyramids, slides, tiff
from epista.server.imaging.cache import TileCache
from epista.server.imaging.index import Index, Scene, Where
from epista.server.imaging.pyramids import LevelsWantedError, Made
from epista.server.imaging.sources import Source

MAX_PIXELS = 16 * 1024**2
"""How many pixels of one channel a region may have."""

MAX_REGION_BYTES = 256 * 1024**2
"""How many bytes a region may have."""

_HEAD_BYTES = 64
_MOST_NAMES = 50


class Reader(Protocol):
    """Reads the pixels of one format; for any number of threads."""

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """
        Return the pixels of a region, as (height, width, channels).

        Raises:
            UnreadableImageError: a tile of it is damaged or not there.
        """


class Image:
    """One image file that is open for reading; for any number of threads."""

    def __init__(self, index: Index, reader: Reader, made: Reader | None) -> None:
        self.index = index
        self._reader = reader
        self._made = made

    def read_region(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        level: int = 0,
        channels: Sequence[int | str] | None = None,
        z: int = 0,
        t: int = 0,
        scene: int = 0,
    ) -> NDArray[Any]:
        """
        Read a region of one plane.

        *x* and *y* are pixels of level 0, *width* and *height* pixels of *level*, as in OpenSlide; the origin is top left, and
        the region begins at ``floor(x / downsample)``. What lies beyond the right or the lower edge is cut off. Channels go by
        number or name (exact, else in any case if only one fits); None is all of them.

        Shape ``(height, width)`` for one channel, else ``(height, width, channels)`` in the order asked; the file's own dtype
        in native byte order, not rescaled.

        Raises:
            ValidationError: there is no such place, level, plane or channel, or the region is larger than one may be.
            UnreadableImageError: a tile of the region is damaged or not there; never zeros instead.
            LevelsWantedError: the level has first to be made.
        """
        one = self.index.scenes[_numbered("scene", scene, len(self.index.scenes))]
        level = _numbered("level", level, len(one.levels))
        z, t = _numbered("z", z, one.size_z), _numbered("t", t, one.size_t)
        numbers = _channels(one, channels)
        x, y, width, height = map(operator.index, (x, y, width, height))
        first, chosen = one.levels[0], one.levels[level]
        for path, start, size, extent in (("x", x, width, first.width), ("y", y, height, first.height)):
            if not 0 <= start < extent:
                raise _invalid(path, f"({x}, {y}) is not in the image, which has {first.width} x {first.height} pixels")
            if size <= 0:
                raise _invalid("width" if path == "x" else "height", f"a region of {width} x {height} pixels has none")
        left, top = one.place_of(level, x, y)
        at = Where(scene, level, z, t, left, top, min(width, chosen.width - left), min(height, chosen.height - top))
        _check_size(one, at, len(numbers))
        if not chosen.is_made:
            pixels = self._reader.region(at, numbers)
        elif self._made is not None:
            pixels = self._made.region(at, numbers)
        else:
            raise LevelsWantedError(scene, z, t)
        return pixels[..., 0] if len(numbers) == 1 else pixels


class Levels(NamedTuple):
    """Levels that were made of one plane."""

    source: Source
    levels: bytes
    """As `epista.server.imaging.pyramids.Writer` tells them."""
    plane: tuple[int, int, int]
    """Scene, z and t."""


def open_image(
    source: Source,
    *,
    index: Index | None = None,
    cache: TileCache | None = None,
    name: Hashable = None,
    made: Levels | None = None,
) -> Image:
    """
    Open an image for reading, by its content, whatever it is called.

    With the *index* of an earlier opening of the same bytes no header is read. Images that share a *cache* need a *name* each,
    such as the sha256 of the content, if tiles are to be found again after another opening.

    Raises:
        UnreadableImageError: no reader knows it, or it is damaged.
    """
    if index is None:
        index = read_index(source)
    cache, name = cache or TileCache(), object() if name is None else name
    own = Made(made.source, made.levels, index, made.plane, cache, name) if made else None
    return Image(index, _READERS[index.reader](source, index, cache, name), own)


def read_index(source: Source) -> Index:
    """
    Find out what is in an image.

    Raises:
        UnreadableImageError: no reader knows it, or it is damaged.
        MissingExtraError: its reader is not installed.
        FileWantedError: its reader needs a file of its own.
    """
    head = source.read([(0, min(_HEAD_BYTES, source.size))])[0]
    if tiff.is_tiff(head) and slides.is_slide(source):
        return slides.read_index(source)
    if tiff.is_tiff(head):
        return pyramids.extended(tiff.read_index(source))
    if pictures.is_picture(head):
        return pyramids.extended(pictures.read_index(source))
    if omezarr.is_zip(head):
        return pyramids.extended(omezarr.read_index(source))
    raise UnreadableImageError("this is no image of a kind that can be read" if head else "the image has no bytes")


_READERS: dict[str, Callable[[Source, Index, TileCache, Hashable], Reader]] = {
    "tiff": tiff.Tiff,
    "picture": pictures.Picture,
    "zarr": omezarr.Zarr,
    "slide": slides.Slide,
}


def _numbered(what: str, number: int, count: int) -> int:
    number = operator.index(number)
    if not 0 <= number < count:
        raise _invalid(what, f"there is no {what} {number}; " + (f"0 to {count - 1} exist" if count > 1 else "only 0 exists"))
    return number


def _channels(scene: Scene, wanted: Sequence[int | str] | None) -> list[int]:
    """Return the numbers of the channels asked for."""
    if wanted is None:
        return [*range(len(scene.channels))]
    if isinstance(wanted, str):
        wanted = [wanted]
    names = [channel.name for channel in scene.channels]
    numbers, unknown = [], []
    for one in wanted:
        if isinstance(one, str):
            fit = [at for at, name in enumerate(names) if name == one]
            fit = fit or [at for at, name in enumerate(names) if name.casefold() == one.casefold()]
        else:
            fit = [one] if 0 <= one < len(names) else []
        if len(fit) == 1:
            numbers.append(operator.index(fit[0]))
        else:
            unknown.append(repr(one)[:100] + (" (several)" if fit else ""))
    if unknown or not numbers:
        exist = ", ".join(f"{at} {name!r}" for at, name in enumerate(names[:_MOST_NAMES]))
        raise _invalid("channels", f"no channel {', '.join(unknown) or 'was asked for'}; there are {len(names)}: {exist}")
    return numbers


def _check_size(scene: Scene, at: Where, channels: int) -> None:
    each = channels * np.dtype(scene.dtype).itemsize
    if at.width * at.height <= MAX_PIXELS and at.width * at.height * each <= MAX_REGION_BYTES:
        return
    own = scene.downsample(at.level)
    for number in range(at.level + 1, len(scene.levels)):
        across, down = scene.downsample(number)
        width, height = int(at.width * own[0] / across) + 1, int(at.height * own[1] / down) + 1
        if width * height <= MAX_PIXELS and width * height * each <= MAX_REGION_BYTES:
            hint = f"level {number} has this part of the image in {width} x {height} pixels"
            break
    else:
        hint = "ask for smaller regions, one after the other"
    raise _invalid(
        "width",
        f"a region of {at.width} x {at.height} pixels in {channels} channel{'s' if channels > 1 else ''} is too large: "
        f"{MAX_PIXELS:,} pixels and {MAX_REGION_BYTES // 1024**2} MiB are the most",
        hint,
    )


def _invalid(path: str, message: str, hint: str | None = None) -> ValidationError:
    return ValidationError(message, hint=hint, details={"violations": [{"path": path, "message": message, "rule": "region"}]})
