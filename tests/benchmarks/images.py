"""
Regions and tiles of a large image in four channels, beside other readers, each alone in a process with the same script.

Everybody's pixels are compared with those of the image before anybody is timed. All caches are emptied before each turn, in which
no place is asked for twice.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.server.engines.images import ENVIRONMENT
from tests.benchmarks import image_readers
from tests.benchmarks.image_readers import COLORS, LIMITS, QUALITY, TILE
from tests.benchmarks.rounds import Absent, Contestant, Figures
from tests.benchmarks.scales import Scale

NAMES = ("DAPI", "GFP", "RFP", "Cy5")

SIDE = 512
"""Of the tiles that the image is stored in."""

_SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "images" / "nuclei-dsb2018.tif"
_PATTERN = 1024
_VIEW = (4, 3)
"""How many tiles fill a small screen."""
_SCRIPT = Path(image_readers.__file__)


class Made:
    """An image whose every pixel is known: a micrograph and its mirror images, tiled, turned for each channel."""

    def __init__(self, px: int) -> None:
        one = tifffile.imread(_SAMPLE) if _SAMPLE.exists() else _blobs()
        wide = np.concatenate([one, one[:, ::-1]], axis=1)
        pattern = np.concatenate([wide, wide[::-1]])
        self.px = px
        self.levels = 1 + max(0, (px // 128).bit_length() - 1)
        """128 pixels wide the smallest one is: of 8,192, the seventh."""
        self._patterns = [np.rot90(pattern, turn).astype(np.uint16) for turn in range(len(NAMES))]

    def pixels(self, level: int, channel: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint16]:
        """Return pixels of a level, at a place in its own pixels."""
        side, step = _PATTERN >> level, 2**level
        small = self._patterns[channel].reshape(side, step, side, step).mean(axis=(1, 3)).astype(np.uint16)
        found: NDArray[np.uint16] = small[np.arange(y, y + height)[:, None] % side, np.arange(x, x + width) % side]
        return found

    def write(self, path: Path, compression: str) -> Path:
        """Write an OME-TIFF with reduced levels in SubIFDs."""
        options: dict[str, Any] = {
            "tile": (SIDE, SIDE),
            "dtype": np.uint16,
            "photometric": "minisblack",
            "compression": compression,
        }
        metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        with tifffile.TiffWriter(path, ome=True) as tiff:
            for level in range(self.levels):
                more = {"subfiletype": 1} if level else {"subifds": self.levels - 1, "metadata": metadata}
                side = self.px >> level
                tiff.write(self._tiles(level), shape=(len(NAMES), side, side), **options, **more)
        return path

    def _tiles(self, level: int) -> Iterator[NDArray[np.uint16]]:
        count = -(-(self.px >> level) // SIDE)
        for channel in range(len(NAMES)):
            period = max(1, (_PATTERN >> level) // SIDE)
            known = {
                (x, y): self.pixels(level, channel, x * SIDE, y * SIDE, SIDE, SIDE) for x in range(period) for y in range(period)
            }
            yield from (known[column % period, row % period] for row in range(count) for column in range(count))


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return each reader, for each kind of region and of tile that it knows."""
    made = Made(scale.image_px)
    paths = {how: made.write(folder / f"{how}.ome.tif", how) for how in ("zlib", "lzw")}
    found: dict[str, Contestant | Absent] = {}
    for kind in image_readers.READERS:
        if reason := missing(kind):
            found |= dict.fromkeys([f"{kind} {name}" for name in (*_REGIONS, *_TILES)], Absent(reason))
            continue
        readers = {how: stack.enter_context(driven(kind, path)) for how, path in paths.items()}
        for name, (how, side) in _REGIONS.items():
            check_regions(readers[how], made, folder)
            found[f"{kind} {name}"] = _regions(readers[how], made, min(side, scale.image_px // 2), scale.repeats)
        for name, is_whole in _TILES.items():
            if kind not in _DRAWS[name]:
                continue
            check_tiles(readers["zlib"], kind, made, folder)
            found[f"{kind} {name}"] = _tiles(readers["zlib"], views(made, is_whole=is_whole), scale.repeats)
    return found


_REGIONS = {
    "512 px regions": ("zlib", 512),
    "2,048 px regions": ("zlib", 2048),
    "512 px regions, LZW": ("lzw", 512),
}
"""The compression of the image, and how wide and high the regions are."""

_TILES = {"tiles": True, "tiles of level 0": False}
"""Whether they are of all levels."""

_DRAWS = {"tiles": ("epista", "large_image"), "tiles of level 0": ("epista", "large_image", "rio-tiler")}

Ask = Callable[..., Any]
"""Has a reader do something, and returns what it tells."""


def missing(kind: str) -> str:
    """Return why a reader cannot take part; nothing if it can."""
    module = image_readers.READERS[kind].package.replace("-", "_")
    check = subprocess.run([python_of(kind), "-c", f"import {module}"], capture_output=True, check=False)
    return f"{kind} is not installed, or not in the interpreter that IMAGE_PEERS_PYTHON names" if check.returncode else ""


def python_of(kind: str) -> str:
    """Return the interpreter that has a reader."""
    return (kind in ("large_image", "rio-tiler") and os.environ.get("IMAGE_PEERS_PYTHON")) or sys.executable


@contextmanager
def driven(kind: str, path: Path) -> Iterator[Ask]:
    """Run a reader in a process of its own."""
    given = [python_of(kind), "-P", str(_SCRIPT), "drive", kind, str(path)]
    # Ours as a server runs it.
    environment = {**os.environ, **(ENVIRONMENT if kind == "epista" else {})}
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin and process.stdout
        talk_to, answers = process.stdin, process.stdout

        def answer() -> Any:
            line = answers.readline()
            if not line:
                raise RuntimeError(f"{kind} ended")
            return json.loads(line)

        def ask(*said: Any) -> Any:
            talk_to.write(json.dumps(said) + "\n")
            talk_to.flush()
            return answer()

        answer()
        yield ask
        talk_to.close()


def check_regions(ask: Ask, made: Made, folder: Path) -> None:
    """Compare pixels of each channel with those of the image."""
    x, y, side = made.px // 3, made.px // 5, 300
    for channel in range(len(NAMES)):
        ask("pixels", [x, y, channel], side, str(folder / "seen.npy"))
        assert np.array_equal(np.load(folder / "seen.npy"), made.pixels(0, channel, x, y, side, side)), "the pixels of the image"


def check_tiles(ask: Ask, kind: str, made: Made, folder: Path) -> None:
    """Compare a tile with what is drawn of the pixels of the image, as far as a JPEG lets them be seen."""
    ask("picture", [0, 1, 2], str(folder / "seen.jpg"))
    check_picture((folder / "seen.jpg").read_bytes(), kind, made, (0, 1, 2))


def check_picture(data: bytes, kind: str, made: Made, tile: tuple[int, int, int]) -> None:
    """Compare one with what is drawn of the pixels of the image: of the right size, 4:4:4, and hardly another colour anywhere."""
    level, column, row = tile
    low, high = LIMITS
    drawn = np.zeros((TILE, TILE, 3))
    for channel, color in enumerate(COLORS):
        shade = np.clip((made.pixels(level, channel, column * TILE, row * TILE, TILE, TILE) - low) / (high - low), 0, 1) * 255
        part = shade[..., None] * [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        # Channels that meet are added by us, and by those for whom the script does it; large_image shows the brightest.
        drawn = np.maximum(drawn, part) if kind == "large_image" else drawn + part
    expected = io.BytesIO()
    Pillow.fromarray(np.minimum(drawn + 0.5, 255).astype(np.uint8)).save(expected, "JPEG", quality=QUALITY, subsampling=0)
    with Pillow.open(io.BytesIO(data)) as seen, Pillow.open(expected) as wanted:
        coded: Any = (seen, wanted)
        assert coded[0].quantization == coded[1].quantization and coded[0].layer == coded[1].layer, "quality 85, 4:4:4"
        assert np.abs(np.asarray(seen).astype(float) - np.asarray(wanted)).mean() < 2, "the colours of the image"


def views(made: Made, *, is_whole: bool) -> list[list[tuple[int, int, int]]]:
    """Return what fills a small screen, at places that do not overlap, in an order that is always the same."""
    found = []
    for level in range(made.levels if is_whole else 1):
        count = (made.px >> level) // TILE
        for x, y in itertools.product(range(0, count - _VIEW[0] + 1, 4), repeat=2):
            found.append([(level, x + right, y + down) for down in range(_VIEW[1]) for right in range(_VIEW[0])])
    random.Random(1).shuffle(found)
    return found


def turns(places: Sequence[Any], count: int) -> Iterator[list[Any]]:
    """Yield *count* of them for each turn; all are taken before one is taken again."""
    count = min(count, len(places))
    endless = itertools.cycle(places)
    while True:
        yield list(itertools.islice(endless, count))


def _regions(ask: Ask, made: Made, side: int, count: int) -> Contestant:
    chance = random.Random(1)
    corners = range(0, made.px - 2 * side + 1, 2 * side)
    places = [
        (x + chance.randrange(side), y + chance.randrange(side), channel)
        for x, y, channel in itertools.product(corners, corners, range(len(NAMES)))
    ]
    chance.shuffle(places)
    # The larger, the fewer.
    asked = turns(places, max(1, count * SIDE**2 // side**2))

    def turn() -> Figures:
        found: Figures = ask("regions", next(asked), side)
        return found

    return turn


def _tiles(ask: Ask, shown: Sequence[Sequence[tuple[int, int, int]]], count: int) -> Contestant:
    asked = turns(shown, -(-count // len(shown[0])))

    def turn() -> Figures:
        found: Figures = ask("tiles", list(itertools.chain.from_iterable(next(asked))))
        return found

    return turn


def _blobs() -> NDArray[np.uint16]:
    """Return something like a micrograph, where there is none."""
    chance = np.random.default_rng(1)
    y, x = np.mgrid[:512, :512]
    light = chance.normal(20, 4, (512, 512))
    for row, column, size in zip(*chance.integers(0, 512, (2, 60)), chance.integers(6, 20, 60), strict=True):
        light += 120 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * size**2))
    return np.clip(light, 0, 235).astype(np.uint16)
