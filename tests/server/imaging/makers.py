"""Image files as small as they can be, and what tifffile reads in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

WIDTH, HEIGHT = 300, 200


class Memory:
    """Bytes as a source, which knows what was read of it."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.ranges: list[tuple[int, int]] = []
        self._data = data

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.ranges += ranges
        assert all(0 <= offset <= offset + size <= self.size for offset, size in ranges)
        return [self._data[offset : offset + size] for offset, size in ranges]


def noise(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    """Return an array of values that differ from place to place, and compress."""
    values = np.random.default_rng(seed).integers(0, 120, shape)
    return (values + np.arange(shape[-1])).astype(dtype)


def pyramid(path: Path, *, dtype: str = "uint16", channels: int = 4, levels: int = 3, **options: Any) -> Path:
    """Write an OME-TIFF with named channels and reduced levels in SubIFDs."""
    data = noise(channels, HEIGHT, WIDTH, dtype=dtype)
    names = ["DAPI", "GFP", "dapi", "Cy5", *map(str, range(channels))][:channels]
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": names, "Color": [65535, 16711935, -1, -16776961][:channels]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 500.0,
        "PhysicalSizeYUnit": "nm",
    }
    options = {"tile": (64, 64), "photometric": "minisblack"} | options
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(data, subifds=levels - 1, metadata=metadata, **options)
        for level in range(1, levels):
            step = 2**level
            tiff.write(data[:, ::step, ::step], subfiletype=1, **options)
    return path


def planes(path: Path, *, series: int = 0, level: int = 0) -> NDArray[Any]:
    """Return what tifffile reads, as (t, z, y, x, channels); axes that nobody knows count as z."""
    with tifffile.TiffFile(path) as tiff:
        one = tiff.series[series].levels[level]
        array, axes = one.asarray(squeeze=False), one.get_axes(squeeze=False)
    order = sorted(range(len(axes)), key=lambda at: {"T": 0, "Y": 2, "X": 3, "C": 4, "S": 5}.get(axes[at], 1))
    array = array.transpose(order)
    sizes = dict(zip(axes, one.get_shape(squeeze=False), strict=True))
    shape = (sizes.get("T", 1), -1, sizes["Y"], sizes["X"], sizes.get("C", 1) * sizes.get("S", 1))
    return array.reshape(shape)
