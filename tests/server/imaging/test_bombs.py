"""
Files of a few megabytes that unpack to a gigabyte, read by the real children under half of that.

An answer that names the file's fault, and not the memory, is one that never tried to unpack it.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import msgspec
import numpy as np
import pytest
from PIL import Image

from epista.contract.errors import TooLargeError, UnreadableImageError
from epista.server.engines.image_files import Place, Region
from epista.server.engines.images import ImageReader
from epista.server.engines.sandbox import Limits
from tests.server.imaging.makers import noise
from tests.server.imaging.test_hostile import made, tags
from tests.server.imaging.test_omezarr import zipped
from tests.server.imaging.test_pictures import png

MEMORY_BYTES = 512 * 1024**2
BOMB_BYTES = 1024**3
_MIB = bytes(1024**2)
_BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}


@pytest.fixture(scope="module")
def reader() -> Iterator[ImageReader]:
    reader = ImageReader(children=1, limits=Limits(memory_bytes=MEMORY_BYTES))
    yield reader
    reader.close()


def read(reader: ImageReader, folder: Path, data: bytes) -> bytes:
    """Have the first pixels of an image read, under a name of its own."""
    path = folder / "image"
    path.write_bytes(data)
    place = Place(path=os.fsencode(path), size=len(data))
    index = reader.index(place, str(path))
    return reader.read(place, str(path), Region(x=0, y=0, width=8, height=8), lambda: index)


def deflated(*, wbits: int = 15) -> bytes:
    """Return zeros as Deflate packs them: of one MiB, again and again, since to pack all of them would take seconds."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    head = packer.compress(_MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(_MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + again * (BOMB_BYTES // len(_MIB)) + packer.flush()


def tiled(compression: int, packed: bytes, **more: int) -> bytes:
    """Return a TIFF of one tile of 64 x 64 pixels."""
    return made(tags(64, 64, offsets=[8], sizes=[len(packed)], tile=64, compression=compression, **more), data=packed)


def jpeg(width: int, height: int) -> bytes:
    """Return a small JPEG that says that it is larger."""
    data = bytearray(imagecodecs.jpeg_encode(noise(64, 64, dtype="uint8")))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def gif(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("P", (10, 10)).save(out, "GIF")
    data = bytearray(out.getvalue())
    struct.pack_into("<HH", data, 6, width, height)
    struct.pack_into("<HH", data, data.index(b",", 13) + 5, width, height)
    return bytes(data)


def webp() -> bytes:
    """Return a small lossless WebP that says that it has 16,383 x 16,383 pixels (RFC 9649, 3.4)."""
    data = bytearray(imagecodecs.webp_encode(noise(64, 64, 3, dtype="uint8"), lossless=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") & ~(2**28 - 1) | 16_382 << 14 | 16_382
    data[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(data)


def with_text(kind: bytes, head: bytes) -> bytes:
    """Return a PNG with a packed text, or a profile, of a gigabyte."""
    body = head + deflated()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    whole = png(8, 8, data=bytes(72))
    return whole[:33] + chunk + whole[33:]


def chunked(folder: Path, packed: bytes, codec: dict[str, Any]) -> bytes:
    """Return an OME-Zarr whose only chunk is this."""
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}]
    group = {"zarr_format": 3, "node_type": "group"}
    group |= {"attributes": {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [64, 64],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, codec],
        "attributes": {},
    }
    for name, body in (
        ("zarr.json", msgspec.json.encode(group)),
        ("0/zarr.json", msgspec.json.encode(array)),
        ("0/c/0/0", packed),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return zipped(folder)


def zstd() -> bytes:
    return bytes(imagecodecs.zstd_encode(bytes(BOMB_BYTES // 4))) * 4


def blosc() -> bytes:
    data = bytearray(imagecodecs.blosc_encode(bytes(4096)))
    struct.pack_into("<I", data, 4, BOMB_BYTES)
    return bytes(data)


BOMBS: dict[str, Callable[[Path], bytes]] = {
    "tiff-zlib": lambda _: tiled(8, deflated()),
    "tiff-zstd": lambda _: tiled(50000, zstd()),
    "tiff-packbits": lambda _: tiled(32773, b"\x81\0" * (BOMB_BYTES // 128)),
    "tiff-jpeg": lambda _: tiled(7, jpeg(60_000, 60_000)),
    "tiff-png": lambda _: tiled(34933, png(40_000, 40_000, data=b"")),
    "tiff-webp": lambda _: tiled(50001, webp()),
    "tiff-tile": lambda _: made(tags(2**16, 2**16, offsets=[8], sizes=[16], tile=2**16, compression=8), data=bytes(16)),
    "tiff-offsets": lambda _: made([*tags(2**20, 2**20, offsets=[8], sizes=[16], tile=16)], data=bytes(16)),
    "png": lambda _: png(30_000, 30_000, data=b""),
    "png-deep": lambda _: png(30_000, 30_000, depth=16),
    "png-text": lambda _: with_text(b"zTXt", b"Comment\0\0"),
    "png-profile": lambda _: with_text(b"iCCP", b"icc\0\0"),
    "jpeg": lambda _: jpeg(60_000, 60_000),
    "gif": lambda _: gif(60_000, 60_000),
}

CHUNKS: dict[str, Callable[[], tuple[bytes, dict[str, Any]]]] = {
    "gzip": lambda: (deflated(wbits=31), {"name": "gzip", "configuration": {"level": 1}}),
    "zstd": lambda: (zstd(), {"name": "zstd", "configuration": {"level": 0, "checksum": False}}),
    "blosc": lambda: (blosc(), {"name": "blosc", "configuration": _BLOSC}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory(reader: ImageReader, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnreadableImageError):
        read(reader, tmp_path, BOMBS[kind](tmp_path))


@pytest.mark.parametrize("kind", CHUNKS)
def test_a_chunk_that_is_a_bomb_ends_its_child_and_costs_no_other_image(reader: ImageReader, tmp_path: Path, kind: str) -> None:
    """Chunks are unpacked by zarr, which unpacks them as a whole."""
    with pytest.raises(TooLargeError, match="takes more time or memory than one may"):
        read(reader, tmp_path, chunked(tmp_path / "a", *CHUNKS[kind]()))

    # A picture that needs much of the memory itself.
    assert len(read(reader, tmp_path, png(9000, 9000, data=bytes(9001 * 9000)))) > 64


@pytest.mark.parametrize("compression", [5, 34925], ids=["lzw", "lzma"])
def test_what_follows_the_pixels_of_a_tile_is_never_unpacked(reader: ImageReader, tmp_path: Path, compression: int) -> None:
    encode = imagecodecs.lzw_encode if compression == 5 else imagecodecs.lzma_encode
    packed = bytes(encode(bytes(BOMB_BYTES // 16))) * 16

    found = read(reader, tmp_path, tiled(compression, packed))

    assert not np.load(io.BytesIO(found)).any()
