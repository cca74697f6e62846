"""
PNG, JPEG, WebP and GIF: pictures that are decoded as a whole, by Pillow.

PNG of 16 bits is decoded by imagecodecs, as Pillow cuts its colours to 8.

Pixels are given as stored: not turned as Exif says, and not converted, but for palettes, which become their colours.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.contract.errors import EpistaError, UnreadableImageError
from epista.server.imaging.cache import TileCache
from epista.server.imaging.index import MAX_HEADER_BYTES, Channel, Index, Level, Scene, Where
from epista.server.imaging.sources import Blocks, Source

MAX_PIXELS = 89_478_485
"""How many pixels a picture may have; Pillow warns there, and fails at twice as many."""

MAX_FILE_BYTES = 512 * 1024**2
"""How large a file may be that is decoded as a whole."""

_FORMATS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"RIFF": "WEBP"}
_NAMES = {
    "1": ("Channel 0",),
    "L": ("Channel 0",),
    "LA": ("Channel 0", "A"),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "CMYK": ("C", "M", "Y", "K"),
}
_DEEP_PNG = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}
"""Modes of PNG with 16 bits by their type of colour (ISO/IEC 15948, 11.2.2)."""
_ORIENTATION = 0x0112


def is_picture(head: bytes) -> bool:
    """Whether a file begins as one of these formats does."""
    return any(head.startswith(magic) for magic in _FORMATS) and (head[:4] != b"RIFF" or head[8:12] == b"WEBP")


def read_index(source: Source) -> Index:
    """
    Read the headers of a picture.

    Raises:
        UnreadableImageError: they are damaged, or it is larger than it may be.
    """
    if source.size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"the picture has {source.size:,} bytes; {MAX_FILE_BYTES:,} are the most")
    told: list[str] = []
    try:
        with _opened(Blocks(source, budget=MAX_HEADER_BYTES)) as picture:
            name, (width, height), mode = str(picture.format), picture.size, _mode(picture)
            if getattr(picture, "is_animated", False):
                told.append("the picture moves; its first frame is read")
            if (turned := picture.getexif().get(_ORIENTATION, 1)) != 1:
                told.append(f"Exif says to turn the picture (orientation {turned}); its pixels are given as stored")
    except (EpistaError, MemoryError):
        raise
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise UnreadableImageError(f"the picture has more than {MAX_PIXELS:,} pixels", hint="make a tiled TIFF of it") from error
    except Exception as error:
        raise UnreadableImageError("the picture is damaged") from error
    dtype = "bool" if mode == "1" else "uint8"
    if deep := _deep(source):
        mode, dtype = deep, "uint16"
    if not width * height:
        raise UnreadableImageError("the picture has no pixels")
    return Index(
        reader="picture",
        format=name,
        scenes=(
            Scene(
                dtype=np.dtype(dtype).str,
                channels=tuple(Channel(name=channel) for channel in _NAMES[mode]),
                samples=len(_NAMES[mode]),
                levels=(Level(width=width, height=height, tile_width=width, tile_height=height),),
            ),
        ),
        warnings=tuple(told),
    )


class Picture:
    """Reads pixels of a picture; for any number of threads."""

    def __init__(self, source: Source, index: Index, cache: TileCache, name: Hashable) -> None:
        self._source = source
        self._scene = index.scenes[0]
        self._cache = cache
        self._name = name

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """Return the pixels of a region, as (height, width, channels)."""
        pixels = self._cache.get(self._name)
        if pixels is None:
            pixels = self._decoded()
            self._cache.put(self._name, pixels)
        return pixels[at.y : at.y + at.height, at.x : at.x + at.width][..., list(channels)]

    def _decoded(self) -> NDArray[Any]:
        size = self._scene.levels[0]
        shape = (size.height, size.width, len(self._scene.channels))
        try:
            if self._scene.dtype.endswith("u2"):
                pixels = np.asarray(imagecodecs.png_decode(self._source.read([(0, self._source.size)])[0]))
            else:
                with _opened(Blocks(self._source, budget=4 * self._source.size)) as picture:
                    mode = _mode(picture)
                    pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
            return pixels.reshape(shape).astype(self._scene.dtype, copy=False)
        except (EpistaError, MemoryError):
            raise
        except Exception as error:
            raise UnreadableImageError(
                "the picture is cut or damaged", details={"scene": 0, "level": 0, "plane": 0, "tile": [0, 0]}
            ) from error


def _opened(file: Blocks) -> Pillow.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        return Pillow.open(file, formats=[*_FORMATS.values()])  # type: ignore[arg-type]


def _mode(picture: Pillow.Image) -> str:
    if picture.mode in ("P", "PA"):
        return "RGBA" if picture.mode == "PA" or "transparency" in picture.info else "RGB"
    return picture.mode


def _deep(source: Source) -> str | None:
    """Return the mode of a PNG that has 16 bits for each sample."""
    head = source.read([(0, min(26, source.size))])[0]
    if head[:4] != b"\x89PNG":
        return None
    depth, kind = struct.unpack_from("BB", head, 24)
    return _DEEP_PNG.get(kind) if depth == 16 else None
