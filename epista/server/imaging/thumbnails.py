"""Thumbnails: an image as a small picture, by the smallest of its levels that is large enough."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.contract.errors import ValidationError
from epista.server.imaging import rendering
from epista.server.imaging.image import MAX_PIXELS, MAX_REGION_BYTES, Image
from epista.server.imaging.index import Scene
from epista.server.imaging.rendering import Rendering

MAX_PX = 4096
"""How wide and how high a thumbnail may be."""

SAMPLE_PX = 2048
"""Of a level that is larger than a region may be, limits come of so many pixels squared from its middle."""


def draw(image: Image, max_px: int, *, scene: int = 0) -> bytes:
    """
    Return a PNG of at most *max_px* by *max_px* pixels; none is wider or higher than the image.

    Raises:
        ValidationError: it would be larger than a thumbnail may be, or have no pixels.
        UnreadableImageError: the pixels cannot be read.
    """
    if not 0 < max_px <= MAX_PX:
        raise ValidationError(f"a thumbnail has 1 to {MAX_PX:,} pixels a side, not {max_px:,}")
    one = image.index.scenes[scene]
    level = smallest(one, max_px)
    shown = usual(image, scene)
    wanted = [look.channel for look in shown.looks]
    across, down = one.levels[level].width, one.levels[level].height
    scale = min(1.0, max_px / max(across, down))
    size = max(1, round(across * scale)), max(1, round(down * scale))
    out = Pillow.new("RGB", size)
    # In bands of whole rows of the thumbnail: a level may be larger than what is read at once.
    rows = max(1, int(_most(one, wanted) / across * size[1] / down) - 1)
    for top in range(0, size[1], rows):
        bottom = min(size[1], top + rows)
        first, last = math.floor(top * down / size[1]), min(down, math.ceil(bottom * down / size[1]))
        pixels = _level(image, scene, level, 0, first, across, last - first, wanted)
        picture = Pillow.fromarray(colored(one, pixels, shown))
        box = (0.0, top * down / size[1] - first, float(across), bottom * down / size[1] - first)
        nearest = Pillow.Resampling.NEAREST if one.palette else Pillow.Resampling.BOX
        out.paste(picture.resize((size[0], bottom - top), nearest, box=box), (0, top))
    into = io.BytesIO()
    out.save(into, "PNG")
    return into.getvalue()


def usual(image: Image, scene: int = 0) -> Rendering:
    """Return how a scene is shown if nobody says how, by the pixels of its smallest level."""
    one = image.index.scenes[scene]
    level = len(one.levels) - 1
    across, down = one.levels[level].width, one.levels[level].height
    every = range(len(one.channels))
    if across * down > _most(one, every):
        side = min(SAMPLE_PX, math.isqrt(_most(one, every)))
        pixels = _level(image, scene, level, max(0, (across - side) // 2), max(0, (down - side) // 2), side, side, every)
    else:
        pixels = _level(image, scene, level, 0, 0, across, down, every)
    return rendering.usual(one, [pixels[..., number] for number in every])


def smallest(scene: Scene, px: int) -> int:
    """Return the smallest level that is not below *px* pixels; the finest one, if all are."""
    fit = [number for number, level in enumerate(scene.levels) if max(level.width, level.height) >= px and not level.problem]
    return fit[-1] if fit else 0


def colored(scene: Scene, pixels: NDArray[Any], shown: Rendering) -> NDArray[np.uint8]:
    """Return pixels ``(height, width, channels)``, of the channels that are shown, as a picture ``(height, width, 3)``."""
    if scene.palette:
        colors = (np.frombuffer(scene.palette, "<u2").reshape(3, -1) >> 8).astype(np.uint8)
        return np.moveaxis(colors[:, np.minimum(pixels[..., 0], colors.shape[1] - 1)], 0, -1)
    made = rendering.composite([pixels[..., number] for number in range(pixels.shape[-1])], shown.looks)
    return 255 - made if scene.is_white_zero else made


def _most(scene: Scene, channels: Sequence[int]) -> int:
    """Return how many pixels may be read at once."""
    return min(MAX_PIXELS, MAX_REGION_BYTES // (len(channels) * np.dtype(scene.dtype).itemsize))


def _level(
    image: Image, scene: int, level: int, x: int, y: int, width: int, height: int, channels: Sequence[int]
) -> NDArray[Any]:
    """Read pixels of a level at a place that is told in its own pixels, as ``(height, width, channels)``."""
    across, down = image.index.scenes[scene].downsample(level)
    # A region begins at the whole part of what is asked for, over the downsample.
    at = (math.ceil(x * across), math.ceil(y * down))
    found = image.read_region(*at, width, height, level=level, channels=channels, scene=scene)
    return found if found.ndim == 3 else found[..., np.newaxis]
