"""
What is known of an image once its headers were read: plain data, to be kept by the content's sha256.

A blob never changes, so an index never goes stale; it does when `VERSION` rises.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

VERSION = 2
"""Rises when the same bytes give another index."""

MAX_PAGES = 65_536
"""How many planes, pages and reduced pages an image may have."""

MAX_TILES = 8 * 1024**2
"""How many tiles or strips the planes of a level may have together."""

MAX_HEADER_BYTES = 64 * 1024**2
"""How much of a file may be read to find out what is in it."""

MAX_XML_BYTES = 16 * 1024**2
"""How long OME-XML may be."""

MAX_TILE_BYTES = 64 * 1024**2
"""How large a tile or strip may be, unpacked, by its declared shape."""

MAX_PROPERTY_CHARACTERS = 4096
"""How much of each vendor property is kept."""


class Where(NamedTuple):
    """A region that lies within its level: the first pixel and how many, in pixels of the level."""

    scene: int
    level: int
    z: int
    t: int
    x: int
    y: int
    width: int
    height: int


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a scene."""

    name: str
    """As in the file, else ``Channel 0``, ...; a colour image has ``R``, ``G``, ``B`` and perhaps ``A``."""
    color: str | None = None
    """What the file says it is drawn in, as ``rrggbb`` in hexadecimal."""
    limits: tuple[float, float] | None = None
    """The values that the file says to draw darkest and brightest."""


class Coding(msgspec.Struct, frozen=True, kw_only=True):
    """How the tiles of a TIFF level are coded; numbers as in TIFF 6.0 and its supplements."""

    compression: int
    predictor: int
    bits: int
    """For each sample."""
    dtype: str
    """As numpy writes it, with the byte order of the file."""
    fill_order: int
    colorspace: int | None = None
    """Of JPEG, before decoding."""
    out_colorspace: int | str | None = None
    """Of JPEG, after decoding."""
    t4_options: int = 0
    empty: float = 0
    """What a tile without bytes has in every pixel."""


class Plane(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tiles of one plane lie, row by row."""

    offsets: bytes = b""
    """Unsigned 64-bit numbers, little-endian."""
    sizes: bytes = b""
    """Unsigned 64-bit numbers, little-endian; 0 is an empty tile."""
    tables: bytes = b""
    """What JPEG tiles share."""


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One resolution of a scene; level 0 is the finest."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    coding: Coding | None = None
    """Of a TIFF."""
    planes: tuple[Plane, ...] = ()
    """Of a TIFF: by t, then z, then group of channels that share tiles."""
    path: str = ""
    """Of OME-Zarr: the array within the archive."""
    size_z: int = 1
    """Of OME-Zarr: how many planes lie above each other; there may be fewer than in the first level."""
    is_made: bool = False
    """Whether it is made of the first level, when it is first read (`epista.server.imaging.pyramids`)."""
    problem: str = ""
    """Why it cannot be read."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a file."""

    name: str = ""
    ome_image: int | None = None
    """Of an OME-TIFF: the number of the image in the XML."""
    dtype: str
    """As numpy writes it, in native byte order."""
    size_z: int = 1
    size_t: int = 1
    channels: tuple[Channel, ...]
    samples: int = 1
    """How many channels share a tile."""
    levels: tuple[Level, ...]
    pixel_size_um: tuple[float, float] | None = None
    """Width and height of a pixel of level 0; None if the file does not say."""
    plane_distance_um: float | None = None
    """From one z to the next; None if the file does not say."""
    axes: str = ""
    """Of OME-Zarr: those of its arrays, in their order."""
    is_white_zero: bool = False
    """Whether small values are bright (TIFF: WhiteIsZero)."""
    palette: bytes = b""
    """What values stand for, if they are numbers of colours: all reds, greens, blues, unsigned 16-bit, little-endian."""

    @property
    def itemsize(self) -> int:
        """How many bytes a value has."""
        return int(self.dtype[2:])

    @property
    def type_name(self) -> str:
        """What the type of the pixels is called: ``uint16`` for ``<u2``."""
        kind = _KINDS[self.dtype[1]]
        return kind if kind == "bool" else f"{kind}{8 * self.itemsize}"

    def downsample(self, level: int) -> tuple[float, float]:
        """Return how many pixels of level 0 one of *level* is wide and high."""
        first, one = self.levels[0], self.levels[level]
        return first.width / one.width, first.height / one.height

    def place_of(self, level: int, x: int, y: int) -> tuple[int, int]:
        """Return the pixel of *level* in which a pixel of level 0 lies: ``floor(x / downsample)``, in whole numbers."""
        first, one = self.levels[0], self.levels[level]
        return x * one.width // first.width, y * one.height // first.height

    def start_of(self, level: int, x: int, y: int) -> tuple[int, int]:
        """Return the first pixel of level 0 whose `place_of` is this pixel of *level*."""
        first, one = self.levels[0], self.levels[level]
        return -(-x * first.width // one.width), -(-y * first.height // one.height)


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file."""

    version: int = VERSION
    reader: str
    """Which of our readers it is for: ``tiff``, ``picture``, ``zarr`` or ``slide``."""
    format: str
    """What people call it, such as ``OME-TIFF``."""
    scenes: tuple[Scene, ...]
    hidden: tuple[str, ...] = ()
    """Images that may show who a slide is of (label, macro): named, and never read."""
    properties: dict[str, str] = {}
    """What the vendor wrote."""
    warnings: tuple[str, ...] = ()
    """What is odd about the file."""
    members: bytes = b""
    """Of OME-Zarr: where what lies in the archive, in MessagePack."""


_KINDS = {"u": "uint", "i": "int", "f": "float", "b": "bool"}
