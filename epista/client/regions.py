"""Regions of images, as files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from epista.client import assets, image
from epista.client.transfer import destinations, disk
from epista.contract import formats
from epista.contract.errors import FormatError, ValidationError

if TYPE_CHECKING:
    import os

    from epista.client.session import Session

_FORMATS = ("png", "npy", "tiff", "ome-tiff")


class Region(NamedTuple):
    """A part of an image, as for `epista.client.image.Images.read_region`."""

    x: int
    y: int
    width: int
    height: int


def fetch(
    here: Session,
    ref: str,
    dest: str | os.PathLike[str],
    *,
    region: Region | None = None,
    level: int = 0,
    channels: list[str] | None = None,
    z: int | None = None,
    t: int = 0,
    scene: int = 0,
    version: str | None = None,
) -> Path:
    """
    Write a region of an image, or a level as a whole, to the file *dest*, as its extension says.

    A ``.png`` is what one sees: channels in their colours, between their limits. ``.tif``, ``.ome.tif`` and ``.npy`` have the
    values as they are stored. The file is replaced whole or not at all.

    Raises:
        FormatError: *dest* ends in none of these.
        ValidationError: there is no such part, or it is larger than one may be.
    """
    found = formats.of_key(str(dest))
    if found is None or found.name not in _FORMATS or Path(dest).is_dir():
        raise FormatError(
            f"a part of an image is no file yet: {str(dest)!r} does not say what it is to be",
            hint="name a file: .png as one sees it; .tif, .ome.tif or .npy for the values",
        )
    asset = assets.get(here, ref)
    images = image.of(here)
    if region is None:
        region = _whole(images.info(asset, version=version), scene, level)
    at: dict[str, Any] = {"level": level, "channels": channels, "t": t, "scene": scene, "version": version}
    if found.name == "png":
        data: bytes = images.picture(asset, *region, z=z, **at)
    else:
        pixels = images.read_region(asset, *region, z=z or 0, **at)
        data = _written(Path(dest).name, pixels, images.info(asset, version=version), channels, scene, level)
    path = destinations.for_file(dest, asset.key)
    part = destinations.part_of(path, hashlib.sha256(data).hexdigest())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise disk.explain(error, path) from error
    return path


def _whole(info: image.ImageInfo, scene: int, level: int) -> Region:
    if not 0 <= scene < len(info.scenes):
        raise ValidationError(f"there is no scene {scene}; there are {len(info.scenes)}, from 0")
    levels = info.scenes[scene].levels
    if not 0 <= level < len(levels):
        raise ValidationError(f"there is no level {level}; 0 to {len(levels) - 1} exist")
    return Region(0, 0, levels[level].width, levels[level].height)


def _written(file: str, pixels: Any, info: image.ImageInfo, channels: list[str] | None, scene: int, level: int) -> bytes:
    import numpy as np

    from epista import serializers

    one = info.scenes[scene]
    known = [channel.name for channel in one.channels]
    names = [known[int(name)] if name.isdecimal() and name not in known else name for name in channels or known]
    format = formats.of_key(file)
    assert format is not None, "it was looked up before"
    if format.name == "npy":
        return serializers.serialize(file, pixels).data
    is_colored = names[:3] == ["R", "G", "B"] and pixels.ndim == 3 and pixels.shape[-1] in (3, 4) and pixels.dtype.itemsize <= 2
    if pixels.ndim == 3 and not is_colored:
        pixels = np.moveaxis(pixels, -1, 0)
    if format.name == "tiff":
        return serializers.serialize(file, pixels).data
    options: dict[str, Any] = {"axes": "YXS" if is_colored else "CYX"[-pixels.ndim :]}
    if not is_colored:
        options["channels"] = names
    if one.pixel_size_um:
        options["pixel_size_um"] = [
            size * down for size, down in zip(one.pixel_size_um, one.levels[level].downsample, strict=True)
        ]
    return serializers.serialize(file, pixels, options=options).data
