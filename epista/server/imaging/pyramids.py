"""
Smaller levels of images that have none: made plane by plane when they are first read, and kept beside the image.

The pixels are halved again and again, until one tile holds them: by the mean of four, but for colour numbers and flags, of which
the first is taken. What is made is a file of packed tiles with an index at its end, which the reader of TIFF reads.
The server writes it, of pieces that its children make, and knows nothing of pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from epista.server.imaging.index import Coding, Index, Level, Plane, Scene, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from epista.server.imaging.cache import TileCache
    from epista.server.imaging.sources import Source

MIN_PIXELS = 4 * 1024**2
"""How many pixels an image has at least that is given smaller levels."""

MAX_PIXELS = 4 * 1024**3
"""How many pixels it has at most, times its channels: making them would take minutes."""

TILE = 512
"""Width and height of the tiles of what is made."""

BLOCK_BYTES = 128 * 1024**2
"""How many bytes of pixels are read at once."""

_ZSTD = 50000
_NUMBER = struct.Struct("<Q")


class LevelsWantedError(Exception):
    """A level is read that has first to be made, of the plane that is named."""

    def __init__(self, scene: int, z: int, t: int) -> None:
        super().__init__(f"the smaller levels of scene {scene}, z {z}, t {t}")
        self.plane = scene, z, t


class Block(NamedTuple):
    """A square of a level, of one group of channels, out of which some smaller levels are made."""

    level: int
    group: int
    column: int
    """In tiles of the first smaller level, from 0."""
    row: int
    halvings: int
    """How many smaller levels are made."""


class Piece(NamedTuple):
    """A tile that was made, packed."""

    level: int
    row: int
    column: int
    data: bytes


def extended(index: Index) -> Index:
    """Return an index whose scenes have the smaller levels that can be made."""
    return msgspec.structs.replace(index, scenes=tuple(map(_extended, index.scenes)))


def _extended(scene: Scene) -> Scene:
    first = scene.levels[0]
    pixels = first.width * first.height
    has_others = any(not level.problem for level in scene.levels[1:])
    if has_others or first.problem or not MIN_PIXELS < pixels <= MAX_PIXELS // len(scene.channels):
        return scene
    if _halvings(scene) == 0:
        return scene
    dtype = ("<" if scene.itemsize > 1 else "|") + scene.dtype[1:]
    coding = Coding(compression=_ZSTD, predictor=1, bits=8 * scene.itemsize, dtype=dtype, fill_order=1)
    made = []
    width, height = first.width, first.height
    while max(width, height) > TILE:
        width, height = -(-width // 2), -(-height // 2)
        made.append(Level(width=width, height=height, tile_width=TILE, tile_height=TILE, coding=coding, is_made=True))
    return msgspec.structs.replace(scene, levels=(*scene.levels, *made))


def most_bytes(scene: Scene) -> int:
    """Return how many bytes the smaller levels of a plane have at most."""
    pixels = sum(-(-level.width // TILE) * -(-level.height // TILE) * TILE**2 for level in scene.levels if level.is_made)
    return pixels * len(scene.channels) * scene.itemsize


def blocks(scene: Scene) -> Iterator[list[Block]]:
    """Yield what makes the smaller levels of a plane: lists, each of which needs what the lists before it made."""
    made = [number for number, level in enumerate(scene.levels) if level.is_made]
    groups = len(scene.channels) // scene.samples
    while made:
        halvings = min(_halvings(scene), len(made))
        source = 0 if not scene.levels[made[0] - 1].is_made else made[0] - 1
        level, side = scene.levels[source], TILE << halvings
        yield [
            Block(source, group, column << halvings - 1, row << halvings - 1, halvings)
            for group in range(groups)
            for row in range(-(-level.height // side))
            for column in range(-(-level.width // side))
        ]
        made = made[halvings:]


def make(scene: Scene, block: Block, pixels: NDArray[Any]) -> list[Piece]:
    """Return the tiles of the smaller levels of a block, whose *pixels* are ``(height, width, samples)``."""
    import imagecodecs
    import numpy as np

    first = next(number for number, level in enumerate(scene.levels) if level.is_made)
    level = max(first, block.level + 1)
    is_numbered = bool(scene.palette) or pixels.dtype.kind == "b"
    pieces = []
    row, column = block.row, block.column
    for number in range(level, level + block.halvings):
        pixels = _halved(pixels, is_numbered=is_numbered)
        for y in range(0, pixels.shape[0], TILE):
            for x in range(0, pixels.shape[1], TILE):
                tile = np.zeros((TILE, TILE, pixels.shape[2]), pixels.dtype)
                part = pixels[y : y + TILE, x : x + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                little = tile.astype(tile.dtype.newbyteorder("<"), copy=False)
                data = bytes(imagecodecs.zstd_encode(little.tobytes(), level=1))
                pieces.append(Piece(number, row + y // TILE, column + x // TILE, data))
        row, column = row // 2, column // 2
    return pieces


def region_of(scene: Scene, block: Block) -> tuple[int, int, int, int]:
    """Return the place of a block in its level, in pixels of that: left, top, width, height."""
    level, side = scene.levels[block.level], TILE << block.halvings
    x, y = 2 * TILE * block.column, 2 * TILE * block.row
    return x, y, min(side, level.width - x), min(side, level.height - y)


class Writer:
    """Writes what is made of one plane into a file."""

    def __init__(self, scene: Scene, file: BinaryIO) -> None:
        self._scene = scene
        self._file = file
        self._spans: dict[tuple[int, int], tuple[bytearray, bytearray]] = {}
        for number, level in enumerate(scene.levels):
            for group in range(len(scene.channels) // scene.samples) if level.is_made else ():
                size = _NUMBER.size * -(-level.height // TILE) * -(-level.width // TILE)
                self._spans[number, group] = bytearray(size), bytearray(size)
        self.size = 0
        """How many bytes of tiles there are."""

    def add(self, block: Block, pieces: Sequence[Piece]) -> None:
        """Write the tiles that were made of a block."""
        for piece in pieces:
            at = _NUMBER.size * (piece.row * -(-self._scene.levels[piece.level].width // TILE) + piece.column)
            for known, value in zip(self._spans[piece.level, block.group], (self.size, len(piece.data)), strict=True):
                _NUMBER.pack_into(known, at, value)
            self._file.write(piece.data)
            self.size += len(piece.data)
        self._file.flush()

    def levels(self) -> bytes:
        """Return the levels as `Made` reads them, those that are not yet made among them."""
        planes: dict[int, list[Plane]] = {}
        for (number, _), (offsets, sizes) in self._spans.items():
            planes.setdefault(number, []).append(Plane(offsets=bytes(offsets), sizes=bytes(sizes)))
        levels = self._scene.levels
        return msgspec.msgpack.encode(
            [msgspec.structs.replace(levels[number], planes=tuple(found)) for number, found in planes.items()]
        )

    def end(self) -> None:
        """Write the index."""
        levels = self.levels()
        self._file.write(levels + _NUMBER.pack(len(levels)))


def levels_in(file: BinaryIO) -> bytes:
    """Return the levels that `Writer.end` wrote."""
    size = file.seek(-_NUMBER.size, 2)
    [length] = _NUMBER.unpack(file.read(_NUMBER.size))
    file.seek(size - length)
    return file.read(length)


class Made:
    """Reads the levels that were made of one plane; for any number of threads."""

    def __init__(
        self, source: Source, levels: bytes, index: Index, plane: tuple[int, int, int], cache: TileCache, name: Hashable
    ):
        from epista.server.imaging.tiff import Tiff

        self._plane = plane
        self._scene = index.scenes[plane[0]]
        self._first = next(number for number, level in enumerate(self._scene.levels) if level.is_made)
        found = tuple(msgspec.msgpack.decode(levels, type=list[Level]))
        scene = msgspec.structs.replace(self._scene, size_z=1, size_t=1, levels=found)
        own = msgspec.structs.replace(index, reader="tiff", scenes=(scene,))
        self._tiff = Tiff(source, own, cache, (name, plane))

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """Return the pixels of a region, as (height, width, channels)."""
        if (at.scene, at.z, at.t) != self._plane:
            raise LevelsWantedError(at.scene, at.z, at.t)
        return self._tiff.region(at._replace(scene=0, level=at.level - self._first, z=0, t=0), channels)


def _halved(pixels: NDArray[Any], *, is_numbered: bool) -> NDArray[Any]:
    import numpy as np

    if is_numbered:
        return pixels[::2, ::2]
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        # The last row or column counts twice.
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    if pixels.dtype.kind == "f":
        wide: Any = np.float32 if pixels.dtype.itemsize <= 4 else np.float64
        total = pixels[::2, ::2].astype(wide) + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]
        return np.asarray(total / 4, pixels.dtype)
    if pixels.dtype.itemsize < 4:
        total = pixels[::2, ::2].astype(np.int32) + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]
        return np.asarray(total + 2 >> 2, pixels.dtype)
    # The sum of four could be too large for the type.
    parts = (pixels[::2, ::2], pixels[1::2, ::2], pixels[::2, 1::2], pixels[1::2, 1::2])
    whole = np.add.reduce([part >> 2 for part in parts])
    return np.asarray(whole + (np.add.reduce([part & 3 for part in parts]) + 2 >> 2), pixels.dtype)


def _halvings(scene: Scene) -> int:
    """Return how many smaller levels are made at once; 0 if even one would be too much."""
    each = scene.samples * scene.itemsize
    return max((count for count in (1, 2, 3) if (TILE << count) ** 2 * each <= BLOCK_BYTES), default=0)
