"""Pictures: a part of an image, at any size, in the colours and between the limits of a rendering."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.contract.errors import InvalidRequestError, ValidationError
from epista.server.imaging import rendering
from epista.server.imaging.iiif import Asked
from epista.server.imaging.image import MAX_PIXELS, MAX_REGION_BYTES, Image
from epista.server.imaging.index import Scene
from epista.server.imaging.rendering import Rendering, Suggestions

THUMBNAIL_PX = 4096
"""How wide and how high a thumbnail may be."""

SAMPLE_PX = 2048
"""Of a level that is larger than a region may be, limits come of so many pixels squared from its middle."""

JPEG_QUALITY = 85
"""With a colour for each pixel (4:4:4): one for four would blur red and blue, which are channels here."""


class Part(NamedTuple):
    """A rectangle of an image, in pixels of level 0."""

    x: float
    y: float
    width: float
    height: float


def scene_of(image: Image, shown: Rendering) -> Scene:
    """
    Return the scene that is shown.

    Raises:
        InvalidRequestError: the image has no such scene, channel or plane.
    """
    scenes = image.index.scenes
    one = scenes[max(0, min(shown.scene, len(scenes) - 1))]
    channels = max((look.channel for look in shown.looks), default=0)
    for what, number, count in (
        ("scene", shown.scene, len(scenes)),
        ("z", shown.z, one.size_z),
        ("t", shown.t, one.size_t),
        ("channel", channels, len(one.channels)),
    ):
        if not 0 <= number < count:
            raise InvalidRequestError(f"there is no {what} {number}; there are {count}, from 0")
    return one


def thumbnail(image: Image, shown: Rendering, max_px: int) -> bytes:
    """
    Return a PNG of a whole scene, of at most *max_px* by *max_px* pixels, and not larger than the scene.

    Raises:
        ValidationError: it would be larger than a thumbnail may be, or have no pixels.
        UnreadableImageError: the pixels cannot be read.
    """
    if not 0 < max_px <= THUMBNAIL_PX:
        raise ValidationError(f"a thumbnail has 1 to {THUMBNAIL_PX:,} pixels a side, not {max_px:,}")
    whole = scene_of(image, shown).levels[0]
    scale = min(1.0, max_px / max(whole.width, whole.height))
    size = max(1, round(whole.width * scale)), max(1, round(whole.height * scale))
    return encode(draw(image, shown, Part(0, 0, whole.width, whole.height), size), "png")


def picture(image: Image, shown: Rendering, asked: Asked) -> bytes:
    """
    Return the picture that an IIIF address asks for, as a file.

    Raises:
        InvalidRequestError: the image has no such channel or plane.
        UnreadableImageError: the pixels cannot be read.
    """
    part = Part(asked.x, asked.y, asked.width, asked.height)
    made: NDArray[Any] = draw(image, shown, part, (asked.out_width, asked.out_height))
    if asked.is_mirrored:
        made = made[:, ::-1]
    # Clockwise in IIIF, the other way in numpy.
    made = np.rot90(made, -(asked.rotation // 90))
    if asked.quality in ("gray", "bitonal"):
        made = np.asarray(Pillow.fromarray(np.ascontiguousarray(made)).convert("L"))
    return encode(made > 127 if asked.quality == "bitonal" else made, asked.format)


def encode(made: NDArray[Any], format: str) -> bytes:
    """Return a picture, of bytes or of bits, as a file: ``jpg``, ``png`` or ``webp``."""
    pixels = np.ascontiguousarray(made)
    if format == "jpg":
        pixels = pixels * np.uint8(255) if pixels.dtype == bool else pixels
        # The same library as Pillow's, and the same bytes, in three quarters of the time.
        return bytes(imagecodecs.jpeg8_encode(pixels, level=JPEG_QUALITY, subsampling="444"))
    whole = Pillow.fromarray(pixels)
    into = io.BytesIO()
    if format == "webp":
        whole.save(into, "WEBP", quality=JPEG_QUALITY, method=2)
    else:
        whole.save(into, "PNG", compress_level=1)
    return into.getvalue()


def draw(image: Image, shown: Rendering, part: Part, size: tuple[int, int]) -> NDArray[np.uint8]:
    """
    Return a part of an image as a picture of *size* (width, height), of the shape ``(height, width, 3)``.

    The smallest level is read that has no fewer pixels than the picture.

    Raises:
        InvalidRequestError: the image has no such channel or plane.
        UnreadableImageError: the pixels cannot be read.
    """
    one = scene_of(image, shown)
    width, height = size
    level = _level_for(one, min(part.width / width, part.height / height))
    across, down = _factors(one, level)
    whole = one.levels[level]
    left, right = (min(edge / across, whole.width) for edge in (part.x, part.x + part.width))
    top, bottom = (min(edge / down, whole.height) for edge in (part.y, part.y + part.height))
    # Of the last pixel of a level there may be less than of the others.
    left, top = min(left, whole.width - 1), min(top, whole.height - 1)
    first, upper = math.floor(left), math.floor(top)
    last, lower = max(math.ceil(right), first + 1), max(math.ceil(bottom), upper + 1)
    wanted = [look.channel for look in shown.looks]
    if (last - first) * (lower - upper) > _most(one, len(wanted)):
        return _halves(image, shown, part, size)
    pixels = _read(image, shown, level, first, upper, last - first, lower - upper, wanted)
    box = (left - first, top - upper, right - first, bottom - upper)
    return _resized(_colored(one, pixels, shown), box, size, is_numbered=bool(one.palette))


def _halves(image: Image, shown: Rendering, part: Part, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw the halves of what is larger than may be read at once."""
    width, height = size
    if size == (1, 1):
        return _resized(draw(image, shown, part, (2, 2)), (0, 0, 2, 2), size, is_numbered=False)
    if width >= height:
        share = part.width * (width // 2) / width
        one = draw(image, shown, part._replace(width=share), (width // 2, height))
        other = draw(image, shown, part._replace(x=part.x + share, width=part.width - share), (width - width // 2, height))
        return np.concatenate([one, other], axis=1)
    share = part.height * (height // 2) / height
    one = draw(image, shown, part._replace(height=share), (width, height // 2))
    other = draw(image, shown, part._replace(y=part.y + share, height=part.height - share), (width, height - height // 2))
    return np.concatenate([one, other])


def suggest(image: Image, scene: int = 0) -> Suggestions:
    """Return how each channel of a scene may be shown, by the pixels of the middle plane of its smallest level."""
    one = scene_of(image, Rendering((), scene=scene))
    plane = Rendering((), rendering.middle(one), 0, scene)
    level = _level_for(one, math.inf)
    across, down = one.levels[level].width, one.levels[level].height
    names = range(len(one.channels))
    side = min(SAMPLE_PX, math.isqrt(_most(one, len(names))))
    if across * down > _most(one, len(names)):
        x, y = max(0, (across - side) // 2), max(0, (down - side) // 2)
        pixels = _read(image, plane, level, x, y, side, side, names)
    else:
        pixels = _read(image, plane, level, 0, 0, across, down, names)
    return rendering.suggest(one, [pixels[..., number] for number in names])


def _level_for(scene: Scene, factor: float) -> int:
    """Return the coarsest level that has a pixel for each *factor* pixels of level 0, or more."""
    fit = [
        number
        for number, level in enumerate(scene.levels)
        if not level.problem and max(_factors(scene, number)) <= factor * (1 + 1e-6)
    ]
    return fit[-1] if fit else 0


def _factors(scene: Scene, level: int) -> tuple[float, float]:
    """Return how many pixels of level 0 one of *level* is wide and high: as it was meant, not as it was rounded."""
    first, one = scene.levels[0], scene.levels[level]
    found = []
    for whole, size in ((first.width, one.width), (first.height, one.height)):
        meant = round(whole / size)
        # 2,220 pixels halved three times are 277, of 8 each, and not of 8.014.
        found.append(float(meant) if abs(whole - meant * size) < meant else whole / size)
    return found[0], found[1]


def _colored(scene: Scene, pixels: NDArray[Any], shown: Rendering) -> NDArray[np.uint8]:
    """Return pixels ``(height, width, channels)``, of the channels that are shown, as a picture ``(height, width, 3)``."""
    if scene.palette:
        colors = (np.frombuffer(scene.palette, "<u2").reshape(3, -1) >> 8).astype(np.uint8)
        return np.moveaxis(colors[:, np.minimum(pixels[..., 0], colors.shape[1] - 1)], 0, -1)
    made = rendering.composite([pixels[..., number] for number in range(pixels.shape[-1])], shown.looks)
    return 255 - made if scene.is_white_zero else made


def _resized(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], size: tuple[int, int], *, is_numbered: bool
) -> NDArray[np.uint8]:
    if box == (0.0, 0.0, float(size[0]), float(size[1])) and pixels.shape[:2] == size[::-1]:
        return pixels
    grows = size[0] > box[2] - box[0] or size[1] > box[3] - box[1]
    how = Pillow.Resampling.NEAREST if is_numbered else Pillow.Resampling.BICUBIC if grows else Pillow.Resampling.BOX
    return np.asarray(Pillow.fromarray(pixels).resize(size, how, box=box))


def _most(scene: Scene, channels: int) -> int:
    """Return how many pixels may be read at once."""
    return min(MAX_PIXELS, MAX_REGION_BYTES // (channels * np.dtype(scene.dtype).itemsize))


def _read(
    image: Image, shown: Rendering, level: int, x: int, y: int, width: int, height: int, channels: Sequence[int]
) -> NDArray[Any]:
    """Read pixels of a level at a place that is told in its own pixels, as ``(height, width, channels)``."""
    at = image.index.scenes[shown.scene].start_of(level, x, y)
    found = image.read_region(*at, width, height, level=level, channels=channels, z=shown.z, t=shown.t, scene=shown.scene)
    return found if found.ndim == 3 else found[..., np.newaxis]
