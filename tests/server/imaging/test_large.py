"""
Pyramids of four channels, of every usual packing and type: windows of every level equal what tifffile reads.

The full size, 20,000 x 20,000 pixels, has a tox environment of its own: ``tox -e images``.
"""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from epista.server.imaging.image import open_image
from epista.server.imaging.sources import File

TILE = 512
CHANNELS = ("DAPI", "GFP", "RFP", "Cy5")
COMPRESSIONS = ("none", "zlib", "lzw", "zstd", "jpeg")
DTYPES = ("uint8", "uint16", "float32")
CASES = [case for case in itertools.product(COMPRESSIONS, DTYPES) if case[0] != "jpeg" or case[1] == "uint8"]


def encoded(tile: NDArray[Any], compression: str) -> bytes:
    if compression == "jpeg":
        return bytes(imagecodecs.jpeg_encode(tile, level=90))
    packers: dict[str, Any] = {
        "none": bytes,
        "zlib": imagecodecs.zlib_encode,
        "lzw": imagecodecs.lzw_encode,
        "zstd": imagecodecs.zstd_encode,
    }
    return bytes(packers[compression](tile.tobytes()))


def tiles(size: int, compression: str, dtype: str, level: int) -> Iterator[bytes]:
    """Yield the tiles of a level: of each channel a few different ones, in a pattern that does not repeat soon."""
    random = np.random.default_rng(level)
    few = [
        [
            encoded(np.add.outer(random.integers(0, 60, TILE), random.integers(0, 60, TILE)).astype(dtype) + number, compression)
            for number in range(5)
        ]
        for _ in CHANNELS
    ]
    across = -(-size // TILE)
    for channel in few:
        for row in range(across):
            for column in range(across):
                yield channel[(row * row + 3 * column) % 5]


def pyramid(path: Path, size: int, compression: str, dtype: str) -> int:
    """Write an OME-TIFF and return how many levels it has."""
    sizes = [size]
    while sizes[-1] > TILE:
        sizes.append(sizes[-1] // 2)
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as writer:
        for level, side in enumerate(sizes):
            metadata = {"axes": "CYX", "Channel": {"Name": CHANNELS}} if not level else None
            writer.write(
                tiles(side, compression, dtype, level),
                shape=(len(CHANNELS), side, side),
                dtype=dtype,
                tile=(TILE, TILE),
                compression=None if compression == "none" else compression,
                photometric="minisblack",
                subifds=len(sizes) - 1 if not level else None,
                subfiletype=int(level > 0),
                metadata=metadata,
            )
    return len(sizes)


def check(path: Path, size: int, compression: str, dtype: str) -> None:
    levels = pyramid(path, size, compression, dtype)
    random = np.random.default_rng(9)
    file = File(path)
    try:
        image = open_image(file)
        scene = image.index.scenes[0]
        assert tuple(channel.name for channel in scene.channels) == CHANNELS
        assert len(scene.levels) == levels
        with tifffile.TiffFile(path) as tiff:
            for number, level in enumerate(scene.levels):
                oracle: Any = zarr.open(tiff.series[0].aszarr(level=number), mode="r")
                corner = (level.width - 70, level.height - 70)
                for x, y in [(0, 0), corner, *random.integers(0, max(1, level.width - 600), (4, 2)).tolist()]:
                    across, down = scene.downsample(number)
                    place = int(np.ceil(x * across)), int(np.ceil(y * down))
                    found = image.read_region(*place, 600, 550, level=number)
                    assert found.dtype == dtype
                    expected = oracle[:, y : y + 550, x : x + 600]
                    np.testing.assert_array_equal(found, np.moveaxis(expected, 0, -1))
                    assert np.array_equal(image.read_region(*place, 9, 9, level=number, channels=["Cy5"]), expected[3, :9, :9])
    finally:
        file.close()
        path.unlink()


@pytest.mark.parametrize(("compression", "dtype"), CASES)
def test_windows_equal_those_of_tifffile(tmp_path: Path, compression: str, dtype: str) -> None:
    check(tmp_path / "a.ome.tif", 1300, compression, dtype)


@pytest.mark.images
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("compression", "dtype"), CASES)
def test_windows_of_20_000_pixels_equal_those_of_tifffile(tmp_path: Path, compression: str, dtype: str) -> None:
    check(tmp_path / "a.ome.tif", 20_000, compression, dtype)

    # Both readers together, and the test: megabytes of gigabytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1024**2
