"""
The addresses of the IIIF Image API 3.0, level 2: what part of an image is asked for, how large, turned how, as what.

Source: https://iiif.io/api/image/3.0/ (sections 4 and 5). Pure: sizes in, numbers out.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

from epista.contract.errors import InvalidRequestError

MAX_AREA = 64 * 1024 * 1024
"""How many pixels a picture may have."""

MAX_SIDE = 16_383
"""How wide and how high a picture may be: as WebP."""

TILE = 512
"""Width and height of a tile, in pixels, of an image that has none of a usual size itself."""

MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""By the end of the address."""

QUALITIES = ("default", "color", "gray", "bitonal")


class Asked(NamedTuple):
    """A picture that is asked for."""

    x: int
    """The left edge of the region, in pixels of the whole image, from 0."""
    y: int
    """Its upper edge."""
    width: int
    """The region's width, in pixels of the whole image."""
    height: int
    out_width: int
    """The picture's width, before it is turned."""
    out_height: int
    is_mirrored: bool
    rotation: int
    """Clockwise, after mirroring: 0, 90, 180 or 270."""
    quality: str
    format: str


def parse(width: int, height: int, *, region: str, size: str, rotation: str, quality: str, format: str) -> Asked:
    """
    Read the parts of an address, for an image of *width* and *height* pixels.

    Raises:
        InvalidRequestError: a part is none, the region lies outside, or the picture would be larger than it may be.
    """
    x, y, w, h = _region(region, width, height)
    out_width, out_height = _size(size, w, h)
    if out_width * out_height > MAX_AREA or max(out_width, out_height) > MAX_SIDE:
        most = f"a picture has at most {MAX_AREA:,} pixels, and {MAX_SIDE:,} a side"
        raise InvalidRequestError(f"{out_width:,} x {out_height:,} pixels are too many: {most}")
    turn = rotation.removeprefix("!")
    if turn not in ("0", "90", "180", "270"):
        _refuse("rotation", rotation, "0, 90, 180 or 270, after ! mirrored")
    if quality not in QUALITIES:
        _refuse("quality", quality, ", ".join(QUALITIES))
    if format not in MEDIA_TYPES:
        _refuse("format", format, ", ".join(MEDIA_TYPES))
    return Asked(x, y, w, h, out_width, out_height, rotation.startswith("!"), int(turn), quality, format)


def info(address: str, width: int, height: int, tile: tuple[int, int]) -> dict[str, Any]:
    """
    Return the document ``info.json`` of an image of *width* and *height* pixels that is served at *address*.

    *tile* is the width and height of the tiles that it is stored in; pictures of whole ones are read soonest.
    """
    tile = tile if max(tile) <= 1024 else (TILE, TILE)
    # Few requests, but whole tiles.
    tile = tile[0] * -(-256 // tile[0]), tile[1] * -(-256 // tile[1])
    factors = [1]
    while tile[0] * factors[-1] < width or tile[1] * factors[-1] < height:
        factors.append(2 * factors[-1])
    sizes = [(-(-width // factor), -(-height // factor)) for factor in reversed(factors)]
    return {
        "@context": "http://iiif.io/api/image/3/context.json",
        "id": address,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": width,
        "height": height,
        "maxArea": MAX_AREA,
        "maxWidth": MAX_SIDE,
        "maxHeight": MAX_SIDE,
        "tiles": [{"width": tile[0], "height": tile[1], "scaleFactors": factors}],
        "sizes": [{"width": w, "height": h} for w, h in sizes if w * h <= MAX_AREA and max(w, h) <= MAX_SIDE],
        "preferredFormats": ["jpg"],
        "extraFormats": ["webp"],
        "extraQualities": ["color", "gray", "bitonal"],
        "extraFeatures": ["mirroring", "sizeUpscaling"],
    }


_NUMBER = r"\d{1,9}"
_PERCENT = r"\d{1,9}(?:\.\d{1,20})?"
_PIXELS = re.compile(rf"({_NUMBER}),({_NUMBER}),({_NUMBER}),({_NUMBER})", re.ASCII)
_PERCENTS = re.compile(rf"pct:({_PERCENT}),({_PERCENT}),({_PERCENT}),({_PERCENT})", re.ASCII)
_SIZE = re.compile(rf"(\^?)(?:(max)|pct:({_PERCENT})|({_NUMBER}),|,({_NUMBER})|(!?)({_NUMBER}),({_NUMBER}))", re.ASCII)


def _region(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    if text == "full":
        return 0, 0, width, height
    if text == "square":
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side
    if found := _PIXELS.fullmatch(text):
        x, y, w, h = map(int, found.groups())
    elif found := _PERCENTS.fullmatch(text):
        left, top, wide, high = (Fraction(part) / 100 for part in found.groups())
        x, y = math.floor(left * width), math.floor(top * height)
        w, h = round(wide * width), round(high * height)
    else:
        _refuse("region", text, "full, square, x,y,w,h or pct:x,y,w,h")
    if not w or not h:
        raise InvalidRequestError(f"the region {text!r} has no pixels")
    if x >= width or y >= height:
        raise InvalidRequestError(f"the region {text!r} lies outside: the image has {width:,} x {height:,} pixels")
    return x, y, min(w, width - x), min(h, height - y)


def _size(text: str, width: int, height: int) -> tuple[int, int]:
    found = _SIZE.fullmatch(text)
    if found is None:
        _refuse("size", text, "max, w, or ,h or w,h or !w,h or pct:n; and any of them after ^, larger than the region")
    may_grow = bool(found[1])
    if found[2]:
        side = min(MAX_SIDE / max(width, height), math.sqrt(MAX_AREA / (width * height)))
        # As large as there are pixels, or as may be.
        scale = Fraction(side if may_grow else min(1.0, side))
        return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    if found[3]:
        scale = Fraction(found[3]) / 100
        w, h = round(width * scale), round(height * scale)
    elif found[4]:
        w, h = int(found[4]), round(Fraction(int(found[4]) * height, width))
    elif found[5]:
        w, h = round(Fraction(int(found[5]) * width, height)), int(found[5])
    else:
        w, h = int(found[7]), int(found[8])
        if found[6] and w and h:
            fit = min(Fraction(w, width), Fraction(h, height))
            w, h = max(1, round(width * fit)), max(1, round(height * fit))
    if (found[4] and w) or (found[5] and h):
        # Of a strip a thousand to one there is a row at least.
        w, h = max(1, w), max(1, h)
    if not w or not h:
        raise InvalidRequestError(f"the size {text!r} is no picture: it has no pixels")
    if not may_grow and (w > width or h > height):
        most = f"the region, of {width:,} x {height:,} pixels"
        raise InvalidRequestError(f"the size {text!r} is larger than {most}", hint=f"^{text} makes it larger")
    return w, h


def _refuse(part: str, text: str, known: str) -> NoReturn:
    raise InvalidRequestError(f"{text[:60]!r} is no {part}; it is {known}")
