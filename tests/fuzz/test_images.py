"""
Images that anybody may upload, damaged: the children that read them answer, in seconds and within their memory.

What is damaged is mostly what tells how to read the rest: heads, directories, the end. No damage may end a child.
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from epista.contract.errors import EpistaError, UnreadableImageError
from epista.server.engines.image_files import Annotations, Ask, Levels, Place, Region, Suggest
from epista.server.engines.images import ImageReader
from epista.server.engines.sandbox import NoReplyError
from epista.server.imaging.index import Index
from tests.fuzz.test_parsers import REAL, TIMEOUT_SECONDS, mutated
from tests.server.imaging.makers import noise, pyramid
from tests.server.imaging.test_hostile import made, tags
from tests.server.imaging.test_omezarr import written
from tests.server.imaging.test_slides import ndpi, scn

SHORT, LONG = 12, 2000
"""How many mutations of each image."""

_WINDOW = 400

STACK = noise(2, 90, 120)

_APERIO = "Aperio Image Library v1\n300x200 [0,0 300x200] (64x64) JPEG/RGB Q=30|AppMag = 20|MPP = 0.5"


def picture(format: str, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(60, 80, 3, dtype="uint8")).convert(mode).save(out, format)
    return out.getvalue()


def deep(folder: Path) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise(60, 80)).save(out, "PNG")
    return out.getvalue()


def svs(folder: Path) -> bytes:
    options: dict[str, Any] = {"tile": (64, 64), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(folder / "a.svs") as writer:
        pixels = noise(200, 300, 3, dtype="uint8")
        writer.write(pixels, description=_APERIO, **options)
        writer.write(pixels[::2, ::2], description=_APERIO, **{**options, "tile": None})
        writer.write(pixels[::4, ::4], description=_APERIO, **options)
    return (folder / "a.svs").read_bytes()


def plain(folder: Path, pixels: NDArray[Any] = STACK, **options: Any) -> bytes:
    tifffile.imwrite(folder / "a.tif", pixels, **options)
    return (folder / "a.tif").read_bytes()


def ome(folder: Path, **options: Any) -> bytes:
    return pyramid(folder / "a.ome.tif", channels=2, levels=2, **options).read_bytes()


MAKERS: dict[str, Callable[[Path], bytes]] = {
    "tiff": plain,
    "tiff-big": lambda folder: plain(folder, bigtiff=True, byteorder=">", compression="packbits"),
    "tiff-lzw": lambda folder: plain(folder, compression="lzw", predictor=True, rowsperstrip=16),
    "tiff-lzma": lambda folder: plain(folder, noise(90, 120, dtype="float32"), compression="lzma"),
    "tiff-jpeg2000": lambda folder: plain(folder, compression="jpeg2000", tile=(64, 64)),
    "tiff-webp": lambda folder: plain(
        folder, noise(90, 120, 3, dtype="uint8"), compression="webp", tile=(64, 64), photometric="rgb"
    ),
    "ome-zlib": lambda folder: ome(folder, compression="zlib"),
    "ome-zstd": lambda folder: ome(folder, compression="zstd"),
    "ome-jpeg": lambda folder: ome(folder, compression="jpeg", dtype="uint8"),
    "svs": svs,
    "ndpi": lambda folder: ndpi(folder / "a").read_bytes(),
    "scn": lambda folder: scn(folder / "a").read_bytes(),
    "png": lambda folder: picture("PNG"),
    "png-palette": lambda folder: picture("PNG", "P"),
    "png-deep": deep,
    "jpeg": lambda folder: picture("JPEG"),
    "jpeg-cmyk": lambda folder: picture("JPEG", "CMYK"),
    "webp": lambda folder: picture("WEBP"),
    "gif": lambda folder: picture("GIF", "P"),
    "zarr": lambda folder: written(folder / "a", pixels=noise(1, 2, 1, 90, 120)),
    "zarr-old": lambda folder: written(folder / "a", "0.4", pixels=noise(1, 2, 1, 90, 120)),
}
"""Small images of every reader and most codecs."""

MAY_END = ("ndpi", "scn", "zarr", "zarr-old")
"""Where others take the memory: GLib for OpenSlide, zarr for chunks. A child ends that has not as much as an image declares."""


def places(data: bytes) -> list[int]:
    """Return where the parts of an image begin that tell how to read it: its head, its end, directories of a TIFF."""
    found = [0, max(0, len(data) - _WINDOW)]
    if data[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            found += [page.offset for page in file.pages]
    return found


def damaged(data: bytes, begins: list[int], chance: random.Random) -> bytes:
    """Return *data* with a few damages: in one of the parts that begin there, or, less often, anywhere."""
    if chance.random() < 0.2:
        return mutated(data, chance)
    at = chance.choice(begins)
    part = data[at : at + _WINDOW]
    if chance.random() < 0.5:
        # Of one length still, so that what follows is where it should be.
        return data[:at] + mutated(part, chance)[: len(part)].ljust(len(part), b"\0") + data[at + len(part) :]
    return data[:at] + mutated(part, chance) + data[at + len(part) :]


@pytest.fixture(scope="module")
def reader() -> Iterator[ImageReader]:
    reader = ImageReader(children=1, timeout_seconds=TIMEOUT_SECONDS)
    yield reader
    reader.close()


def not_made(plane: tuple[int, int, int]) -> Levels:
    raise UnreadableImageError("no levels are made here")


def is_read(ask: Callable[[], bytes], *, may_end: bool = False) -> bool:
    """Ask the child, which may refuse, but has to live."""
    try:
        ask()
    except EpistaError as error:
        ended = error.__cause__.reason if isinstance(error.__cause__, NoReplyError) else None
        assert ended is None or (may_end and ended == "crash"), f"the child ended: {ended}"
        return False
    return True


def look(reader: ImageReader, path: Path, name: str, *, may_end: bool = False) -> bool:
    """Read what can be read of an image; return whether any pixels could."""
    place = Place(path=os.fsencode(path), size=path.stat().st_size)
    known: list[bytes] = []

    def index() -> bytes:
        known.append(reader.index(place, name, lambda: place))
        return known[0]

    if not is_read(index, may_end=may_end):
        return False
    scenes = msgspec.msgpack.decode(known[0], type=Index).scenes
    asks: list[Ask] = [Annotations()]
    for number, scene in enumerate(scenes[:2]):
        own = [level for level, one in enumerate(scene.levels) if not one.is_made]
        asks += [Region(x=0, y=0, width=256, height=256, level=level, scene=number) for level in sorted({own[0], own[-1]})]
        asks.append(Suggest(scene=number))
    reads = [partial(reader.read, place, name, ask, lambda: known[0], not_made, lambda: place) for ask in asks]
    answers = [is_read(one, may_end=may_end) for one in reads]
    return any(answers[1:])


def attack(reader: ImageReader, folder: Path, data: bytes, count: int, seed: str, *, may_end: bool = False) -> str:
    """Have damaged copies of an image read, and tell of it."""
    chance, begins, read, slowest = random.Random(seed), places(data), 0, 0.0
    for number in range(count):
        # Another name for other bytes.
        path = folder / f"{number}"
        path.write_bytes(damaged(data, begins, chance))
        started = time.monotonic()
        try:
            read += look(reader, path, f"{folder} {seed} {number}", may_end=may_end)
        except AssertionError as error:
            raise AssertionError(f"mutation {number} of seed {seed!r}: {path}") from error
        slowest = max(slowest, time.monotonic() - started)
        path.unlink()
    return f"{read} of {count} could be read in part or whole; the slowest took {slowest:.2f} s"


@pytest.mark.parametrize("kind", MAKERS)
def test_damaged_images_are_answered(reader: ImageReader, tmp_path: Path, kind: str) -> None:
    data = MAKERS[kind](tmp_path)
    (tmp_path / "whole").write_bytes(data)

    assert look(reader, tmp_path / "whole", f"{tmp_path} whole")
    attack(reader, tmp_path, data, SHORT, f"{kind} 1", may_end=kind in MAY_END)


def test_a_tag_of_another_type_than_it_should_have_is_refused(reader: ImageReader, tmp_path: Path) -> None:
    page = [*tags(64, 64, offsets=[8], sizes=[16], tile=64, compression=7), (347, 3, [1, 2, 3])]
    (tmp_path / "a.tif").write_bytes(made(page, data=bytes(16)))

    with pytest.raises(UnreadableImageError):
        reader.index(Place(path=os.fsencode(tmp_path / "a.tif"), size=(tmp_path / "a.tif").stat().st_size), str(tmp_path))


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", MAKERS)
def test_many_damaged_images_are_answered(reader: ImageReader, tmp_path: Path, kind: str) -> None:
    seed = f"{kind} {random.randrange(2**32)}"

    told = attack(reader, tmp_path, MAKERS[kind](tmp_path), LONG, seed, may_end=kind in MAY_END)

    print(f"{kind}: {told}")


@pytest.mark.fuzz
@pytest.mark.real_data
@pytest.mark.timeout(7200)
def test_many_damaged_real_images_are_answered(reader: ImageReader, tmp_path: Path) -> None:
    for path in sorted(path for folder in ("images", "gels") for path in (REAL / folder).rglob("*.*")):
        told = attack(reader, tmp_path, path.read_bytes(), LONG, f"{path.name} {random.randrange(2**32)}")
        print(f"{path.name}: {told}")
