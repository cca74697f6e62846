"""Chunks of the view of an image as OME-Zarr (`ngff`): read, padded and packed."""

from __future__ import annotations

import imagecodecs
import numpy as np

from epista.server.imaging import ngff
from epista.server.imaging.image import Image
from epista.server.imaging.ngff import ZSTD_LEVEL, Chunk


def read(image: Image, scene: int, chunk: Chunk) -> bytes:
    """
    Return a chunk, as it is stored in a Zarr.

    Raises:
        UnreadableImageError: a tile of it is damaged or not there.
    """
    one = image.index.scenes[scene]
    width, height = ngff.chunk_of(one.levels[chunk.level])
    x, y = one.start_of(chunk.level, chunk.x * width, chunk.y * height)
    found = image.read_region(x, y, width, height, level=chunk.level, channels=[chunk.c], z=chunk.z, t=chunk.t, scene=scene)
    if found.shape != (height, width):
        # At the edges of an array chunks are as large as elsewhere.
        whole = np.zeros((height, width), found.dtype)
        whole[: found.shape[0], : found.shape[1]] = found
        found = whole
    little = found.astype(found.dtype.newbyteorder("<"), copy=False)
    return bytes(imagecodecs.zstd_encode(little.tobytes(), level=ZSTD_LEVEL))
