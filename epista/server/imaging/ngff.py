"""
Any image as an OME-Zarr of version 0.4 or 0.5 that is nowhere stored: its documents, and the names of its chunks.

Every level is an array with the axes t, c, z, y, x; a chunk has the pixels of one channel, of one plane. Sources:
https://ngff.openmicroscopy.org/0.4/ and /0.5/, the specifications of Zarr 2 and 3. Pure: what is known of an image goes in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from epista.server.imaging.index import Level, Scene
from epista.server.imaging.rendering import Suggestions

MIN_CHUNK, USUAL_CHUNK, MAX_CHUNK = 64, 512, 1024
"""How wide and high a chunk is; an image stored in smaller or larger pieces, as in one, has chunks of the usual size."""

ZSTD_LEVEL = 1
"""How well chunks are packed: soon."""


class Chunk(NamedTuple):
    """A chunk: its level, and its place in the grid."""

    level: int
    t: int
    c: int
    z: int
    y: int
    x: int


def chunk_of(level: Level) -> tuple[int, int]:
    """Return how wide and high the chunks of a level are: as its tiles, if these are usable, so that each costs one."""
    tile = level.tile_width, level.tile_height
    if max(tile) <= MAX_CHUNK and min(tile) >= MIN_CHUNK:
        return tile
    return min(USUAL_CHUNK, level.width), min(USUAL_CHUNK, level.height)


def readable(scene: Scene) -> list[int]:
    """Return the numbers of the levels that can be read; in the view they follow each other."""
    return [number for number, level in enumerate(scene.levels) if not level.problem]


def chunk(format: str, key: str, scene: Scene) -> Chunk | None:
    """Return which chunk is called *key*, with the image's own number of its level; None if there is none of that name."""
    found = _CHUNKS[format].fullmatch(key)
    levels = readable(scene)
    if found is None or int(found[1]) >= len(levels):
        return None
    made = Chunk(levels[int(found[1])], *(int(part) for part in found.groups()[1:]))
    level = scene.levels[made.level]
    grid = _grid(scene, level)
    return made if all(at < count for at, count in zip(made[1:], grid, strict=True)) else None


def document(format: str, key: str, scene: Scene, suggest: Callable[[], Suggestions | None]) -> dict[str, Any] | None:
    """Return the document that is called *key*; None if there is none of that name."""
    levels = readable(scene)
    if key in ("zarr.json", ".zattrs", ".zgroup"):
        return _GROUPS[format](key, scene, suggest)
    path, _, name = key.rpartition("/")
    if not _LEVEL.fullmatch(path) or int(path) >= len(levels):
        return None
    return _ARRAYS[format](name, scene, scene.levels[levels[int(path)]])


def _group_05(key: str, scene: Scene, suggest: Callable[[], Suggestions | None]) -> dict[str, Any] | None:
    if key != "zarr.json":
        return None
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": "0.5", **_image(scene, {}, suggest())}}}


def _group_04(key: str, scene: Scene, suggest: Callable[[], Suggestions | None]) -> dict[str, Any] | None:
    if key == ".zgroup":
        return {"zarr_format": 2}
    return _image(scene, {"version": "0.4"}, suggest()) if key == ".zattrs" else None


def _array_05(name: str, scene: Scene, level: Level) -> dict[str, Any] | None:
    if name != "zarr.json":
        return None
    kind = scene.dtype[1]
    width, height = chunk_of(level)
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": _shape(scene, level),
        "data_type": "bool" if kind == "b" else f"{_KINDS[kind]}{8 * scene.itemsize}",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1, height, width]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if kind == "b" else 0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}} if scene.itemsize > 1 else {"name": "bytes"},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
        ],
        "dimension_names": list(_AXES),
        "attributes": {},
    }


def _array_04(name: str, scene: Scene, level: Level) -> dict[str, Any] | None:
    if name == ".zattrs":
        return {}
    if name != ".zarray":
        return None
    kind = scene.dtype[1]
    width, height = chunk_of(level)
    return {
        "zarr_format": 2,
        "shape": _shape(scene, level),
        "chunks": [1, 1, 1, height, width],
        "dtype": ("<" if scene.itemsize > 1 else "|") + scene.dtype[1:],
        "compressor": {"id": "zstd", "level": ZSTD_LEVEL},
        "fill_value": False if kind == "b" else 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }


def _image(scene: Scene, version: dict[str, str], suggestions: Suggestions | None) -> dict[str, Any]:
    """Return what is said of an image: its axes and levels, and how its channels may be shown."""
    axes: list[dict[str, str]] = [{"name": name, "type": kind} for name, kind in _AXES.items()]
    # Nobody guesses: without a size of its pixels an image has lengths in pixels.
    if scene.plane_distance_um is not None:
        axes[2]["unit"] = "micrometer"
    if scene.pixel_size_um is not None:
        axes[3]["unit"] = axes[4]["unit"] = "micrometer"
    across, down = scene.pixel_size_um or (1.0, 1.0)
    datasets = []
    for place, number in enumerate(readable(scene)):
        by_x, by_y = scene.downsample(number)
        scale = [1.0, 1.0, scene.plane_distance_um or 1.0, down * by_y, across * by_x]
        datasets.append({"path": str(place), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    told: dict[str, Any] = {"multiscales": [{**version, "name": scene.name, "axes": axes, "datasets": datasets}]}
    if suggestions is not None:
        told["omero"] = {
            **version,
            "channels": [
                {
                    "label": channel.name,
                    "color": found.look.color.upper(),
                    "active": found.is_shown,
                    "window": {
                        "start": found.look.low,
                        "end": found.look.high,
                        "min": min(found.lowest, found.look.low),
                        "max": max(found.highest, found.look.high),
                    },
                }
                for channel, found in zip(scene.channels, suggestions.channels, strict=True)
            ],
            "rdefs": {"defaultT": 0, "defaultZ": suggestions.z, "model": "color"},
        }
    return told


def _shape(scene: Scene, level: Level) -> list[int]:
    return [scene.size_t, len(scene.channels), scene.size_z, level.height, level.width]


def _grid(scene: Scene, level: Level) -> list[int]:
    """Return how many chunks there are along each axis."""
    width, height = chunk_of(level)
    return [*_shape(scene, level)[:3], -(-level.height // height), -(-level.width // width)]


_AXES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_KINDS = {"u": "uint", "i": "int", "f": "float"}
"""What Zarr 3 calls types, by the letter of numpy."""
_NUMBER = r"(0|[1-9]\d{0,8})"
_LEVEL = re.compile(_NUMBER, re.ASCII)
_CHUNKS = {
    "0.4": re.compile("/".join([_NUMBER] * 6), re.ASCII),
    "0.5": re.compile("/".join([_NUMBER, "c", *[_NUMBER] * 5]), re.ASCII),
}
_GROUPS = {"0.4": _group_04, "0.5": _group_05}
_ARRAYS = {"0.4": _array_04, "0.5": _array_05}
VERSIONS = tuple(_ARRAYS)
"""Of OME-Zarr."""
