"""
How channels become a picture: each is stretched between two limits, given a colour, and added to the others.

Limits and colours stand in the address of a picture, so that all tiles of one agree. Pure: arrays in, arrays out.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from epista.contract.errors import InvalidRequestError
from epista.server.imaging.index import Scene

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_CHANNELS = 16
"""How many channels one picture adds up."""

SAFE_COLORS = ("0072b2", "e69f00", "009e73", "cc79a7", "56b4e9", "f0e442", "d55e00")
"""For channels of which nobody says more; told apart by colour-blind readers (Okabe and Ito, 2008)."""

LOW_PERCENT, HIGH_PERCENT = 0.1, 99.9
"""The percentiles between which a channel is stretched if its file names no limits."""


class Look(NamedTuple):
    """How one channel is shown."""

    channel: int
    color: str
    """Red, green and blue, as six hexadecimal digits."""
    low: float
    """Black."""
    high: float
    """The full colour."""


class Rendering(NamedTuple):
    """How an image is shown."""

    looks: tuple[Look, ...]
    z: int = 0
    t: int = 0
    scene: int = 0


class Suggestion(NamedTuple):
    """How one channel may be shown."""

    look: Look
    is_shown: bool
    """Whether it is among those that are shown if nobody says which."""
    lowest: float
    """Of the pixels that were looked at."""
    highest: float


class Suggestions(NamedTuple):
    """How a scene may be shown."""

    channels: tuple[Suggestion, ...]
    """All of them, in their order."""
    z: int
    """The middle plane: the first and the last of a stack are often out of focus."""


def parse(text: str) -> Rendering:
    """
    Read ``0:0000ff:200:4000,2:ff0000:100:3000;z3;t1;s2``: channels with their colours and limits, the plane, and the scene.

    Raises:
        InvalidRequestError: it is no such text.
    """
    channels, *plane = text.split(";")
    if not all(_PLANE.fullmatch(part) for part in plane) or len({part[0] for part in plane}) != len(plane):
        raise InvalidRequestError(f"{text[:60]!r} is no rendering: after the channels come z3, t1 and s2, or some of them")
    at = {part[0]: int(part[1:]) for part in plane}
    looks = []
    for part in channels.split(","):
        found = _LOOK.fullmatch(part)
        if found is None or not float(found[3]) < float(found[4]) or not math.isfinite(float(found[4]) - float(found[3])):
            raise InvalidRequestError(
                f"{part[:60]!r} is no rendering of a channel: number:rrggbb:low:high, and low is below high"
            )
        looks.append(Look(int(found[1]), found[2].lower(), float(found[3]), float(found[4])))
    if len({look.channel for look in looks}) != len(looks) or len(looks) > MAX_CHANNELS:
        raise InvalidRequestError(f"a picture has each channel once, and at most {MAX_CHANNELS}")
    return Rendering(tuple(looks), at.get("z", 0), at.get("t", 0), at.get("s", 0))


def spell(rendering: Rendering) -> str:
    """Return the text that `parse` reads."""
    looks = ",".join(f"{look.channel}:{look.color}:{_spelt(look.low)}:{_spelt(look.high)}" for look in rendering.looks)
    places = (("z", rendering.z), ("t", rendering.t), ("s", rendering.scene))
    return looks + "".join(f";{axis}{number}" for axis, number in places if number)


def color_of(name: str, number: int) -> str:
    """Return a colour for a channel without one, by its name and its number among the channels."""
    known = name.casefold()
    return "0000ff" if "dapi" in known or "hoechst" in known else SAFE_COLORS[number % len(SAFE_COLORS)]


def suggest(scene: Scene, planes: Sequence[NDArray[np.generic]]) -> Suggestions:
    """
    Return how each channel may be shown; *planes* are the pixels of the channels, all or a sample.

    Limits are those of the file, else the whole range of 1 or 8 bits, else between percentiles of the pixels. Of many channels
    the first ones are shown, and of a picture its colours.
    """
    names = [channel.name for channel in scene.channels]
    is_color, is_gray = names[:3] == ["R", "G", "B"], len(names) == 1 or names[1:] == ["A"]
    shown = 3 if is_color else 1 if is_gray else len(SAFE_COLORS)
    found = []
    for number, (channel, plane) in enumerate(zip(scene.channels, planes, strict=True)):
        plain = _RGB[number][0] if is_color and number < 3 else "ffffff" if is_gray else color_of(channel.name, number)
        bits = 1 if plane.dtype == bool else 8 * plane.dtype.itemsize
        whole = (0.0, 2.0**bits - 1) if bits == 1 or (plane.dtype.kind == "u" and (is_color or bits == 8)) else None
        values = _finite(plane)
        low, high = _usable(channel.limits) or whole or _short(*_limits(values))
        lowest, highest = (float(values.min()), float(values.max())) if values.size else (low, high)
        found.append(Suggestion(Look(number, channel.color or plain, low, high), number < shown, lowest, highest))
    return Suggestions(tuple(found), middle(scene))


def middle(scene: Scene) -> int:
    """Return the plane that is shown if nobody says which."""
    return scene.size_z // 2


def usual(suggestions: Suggestions, scene: int = 0) -> Rendering:
    """Return how a scene is shown if nobody says how."""
    return Rendering(tuple(one.look for one in suggestions.channels if one.is_shown), suggestions.z, 0, scene)


def composite(planes: Sequence[NDArray[np.generic]], looks: Sequence[Look]) -> NDArray[np.uint8]:
    """
    Return a picture ``(height, width, 3)`` of *planes*, each ``(height, width)``, in their looks; values beyond white are white.

    Values that are no numbers are black.
    """
    import numpy as np

    is_plain = [(look.color, look.low, look.high) for look in looks] == list(_RGB)
    if is_plain and all(plane.dtype == np.uint8 for plane in planes):
        return np.stack(planes, axis=-1).astype(np.uint8, copy=False)
    height, width = planes[0].shape
    picture = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        total = _colors(planes[0][band], looks[0])
        for plane, look in zip(planes[1:], looks[1:], strict=True):
            total += _colors(plane[band], look)
        parts = total.view(np.uint16).reshape(*total.shape, 4)
        for index in range(3):
            np.minimum(parts[..., index], 255, out=picture[band, :, index], casting="unsafe")
    return picture


def _colors(plane: NDArray[np.generic], look: Look) -> NDArray[np.uint64]:
    """Return red, green and blue of each pixel, in 16 bits each of one number: so those of channels are added at once."""
    import numpy as np

    if plane.dtype.kind in "iu" and plane.dtype.itemsize <= 2:
        # There are fewer values than pixels: the colours of each are worked out once, and kept for the next tile.
        return _table(look, plane.dtype).take(plane.view(f"u{plane.dtype.itemsize}"), mode="clip")
    shade = _stretched(plane, look.low, look.high)
    return _table(look._replace(low=0.0, high=255.0), np.dtype(np.uint8)).take(shade, mode="clip")


@lru_cache(maxsize=16)
def _table(look: Look, dtype: np.dtype[Any]) -> NDArray[np.uint64]:
    """Return the colours of every value that *dtype* has, by its bits; of `MAX_CHANNELS` channels none overflows 16 bits."""
    import numpy as np

    every = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)
    shade = _stretched(every, look.low, look.high)
    parts = np.zeros((len(every), 4), np.uint16)
    for index in range(3):
        parts[:, index] = shade * np.uint16(int(look.color[2 * index : 2 * index + 2], 16)) // np.uint16(255)
    return parts.view(np.uint64)[:, 0]


def _finite(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    import numpy as np

    return plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane.reshape(-1)


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return between which values a channel is stretched, by those of its pixels that are numbers."""
    import numpy as np

    if not values.size:
        return 0.0, 1.0
    low, high = (float(found) for found in np.percentile(values, (LOW_PERCENT, HIGH_PERCENT)))
    if not low < high:
        # One value nearly everywhere; the few others still show.
        low, high = float(values.min()), float(values.max())
    # The range between them is a float too.
    low, high = (min(max(value, -_FARTHEST), _FARTHEST) for value in (low, high))
    # Beside a large number one more is the same number.
    return low, high if low < high else max(low + 1.0, math.nextafter(low, math.inf))


def _usable(limits: tuple[float, float] | None) -> tuple[float, float] | None:
    return limits if limits is not None and math.isfinite(limits[1] - limits[0]) and limits[0] < limits[1] else None


def _short(low: float, high: float) -> tuple[float, float]:
    """Return limits that are soon read and written, if they still differ."""
    short = float(f"{low:.5g}"), float(f"{high:.5g}")
    return short if short[0] < short[1] else (low, high)


def _spelt(value: float) -> str:
    return repr(value).removesuffix(".0")


def _stretched(plane: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint16]:
    """Return 0 to 255 for *low* to *high*."""
    import numpy as np

    values = np.nan_to_num(plane.astype(np.float64), nan=low, posinf=high, neginf=low)
    return ((np.clip(values, low, high) - low) / (high - low) * 255 + 0.5).astype(np.uint16)


_FARTHEST = sys.float_info.max / 4

_BAND_PIXELS = 64 * 1024
"""How many pixels are coloured at once: what is worked out for them stays in the cache of a processor."""

_NUMBER = r"-?\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?"
_LOOK = re.compile(rf"(\d{{1,4}}):([0-9a-f]{{6}}):({_NUMBER}):({_NUMBER})", re.ASCII | re.IGNORECASE)
_PLANE = re.compile(r"[zts]\d{1,9}", re.ASCII)
_RGB = (("ff0000", 0.0, 255.0), ("00ff00", 0.0, 255.0), ("0000ff", 0.0, 255.0))
