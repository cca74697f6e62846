"""Slides that OpenSlide reads: its pixels, bit for bit, and none of what shows whose they are."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from epista.contract.errors import UnreadableImageError
from epista.server.imaging import slides
from epista.server.imaging.cache import TileCache
from epista.server.imaging.image import Image, open_image
from epista.server.imaging.sources import File, FileWantedError, Part
from tests.server.imaging.makers import Memory
from tests.server.imaging.test_tiff import SLIDE

WIDTH, HEIGHT = 1400, 900


def picture(width: int = WIDTH, height: int = HEIGHT) -> NDArray[Any]:
    """Return colours that tell the place, and survive JPEG."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def ndpi(path: Path) -> Path:
    """
    Write a slide of two levels and a macro picture, as Hamamatsu does.

    All that a directory points to lies before it, and the offsets of directories have 64 bits.
    Source: https://openslide.org/formats/hamamatsu/
    """
    out = bytearray(struct.pack("<2sHQ", b"II", 42, 0))
    link = 4
    for pixels, lens in ((picture(), 20.0), (picture()[::2, ::2], 10.0), (np.full((30, 90, 3), 99, np.uint8), -1.0)):
        data = bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(pixels), level=95))
        strip, more = len(out), len(out) + len(data)
        out += data + struct.pack("<II", 40_000, 1) + struct.pack("<3H", 8, 8, 8) + b"Hamamatsu\0"
        tags = [
            (256, 4, 1, pixels.shape[1]),
            (257, 4, 1, pixels.shape[0]),
            (258, 3, 3, more + 8),
            (259, 3, 1, 7),
            (262, 3, 1, 6),
            (271, 2, 10, more + 14),
            (273, 4, 1, strip),
            (277, 3, 1, 3),
            (278, 4, 1, pixels.shape[0]),
            (279, 4, 1, len(data)),
            (282, 5, 1, more),
            (283, 5, 1, more),
            (296, 3, 1, 3),
            (65420, 4, 1, 1),
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", lens))[0]),
            (65424, 9, 1, 0),
        ]
        struct.pack_into("<Q", out, link, len(out))
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(out)
        out += bytes(8) + bytes(4 * len(tags))
    path.write_bytes(out)
    return path


def scn(path: Path) -> Path:
    """Write a slide of two levels as Leica does. Source: https://openslide.org/formats/leica/"""
    sizes = [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2)]
    levels = "".join(f'<dimension sizeX="{w}" sizeY="{h}" r="{n}" ifd="{n}"/>' for n, (w, h) in enumerate(sizes))
    size = f'sizeX="{WIDTH * 500}" sizeY="{HEIGHT * 500}"'
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="a" '
        f'sizeX="{WIDTH * 900}" sizeY="{HEIGHT * 900}"><barcode>UGF0aWVudCA3</barcode>'
        '<image name="image_0"><device model="SCN400" version="1"/>'
        f'<pixels sizeX="{WIDTH}" sizeY="{HEIGHT}">{levels}</pixels><view {size} offsetX="0" offsetY="0" spacingZ="0"/>'
        "<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image></collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for number, step in enumerate((1, 2)):
            writer.write(
                picture()[::step, ::step],
                tile=(512, 512),
                compression="jpeg",
                photometric="ycbcr",
                subfiletype=int(number > 0),
                description=xml if number == 0 else None,
                metadata=None,
                software=False,
                resolution=(20_000 / step, 20_000 / step),
                resolutionunit="CENTIMETER",
            )
    return path


MAKERS = {"NDPI": ndpi, "SCN": scn}


@pytest.fixture(params=sorted(MAKERS))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / "slide")


@pytest.fixture
def source(path: Path) -> Iterator[File]:
    file = File(path)
    yield file
    file.close()
    for kept in slides._Kept._slides.values():
        kept.close()
    slides._Kept._slides.clear()


def expected(path: Path, level: int) -> NDArray[Any]:
    """Return a level as OpenSlide reads it; where there is nothing, it is white."""
    with openslide.OpenSlide(path) as slide:
        found = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
    assert set(np.unique(found[..., 3])) <= {0, 255}
    return np.where(found[..., 3:] > 0, found[..., :3], np.uint8(255))


def test_every_level_has_the_pixels_of_openslide(path: Path, source: File) -> None:
    image = open_image(source, name="a")
    levels = image.index.scenes[0].levels

    with openslide.OpenSlide(path) as slide:
        assert tuple((one.width, one.height) for one in levels) == slide.level_dimensions
    for number, level in enumerate(levels):
        whole = expected(path, number)
        assert np.array_equal(image.read_region(0, 0, level.width, level.height, level=number), whole)
        factor = 2**number
        assert np.array_equal(image.read_region(200 * factor, 100 * factor, 90, 40, level=number), whole[100:140, 200:290])
    assert np.array_equal(image.read_region(1390, 890, 50, 5, channels=["B"]), expected(path, 0)[890:895, 1390:1440, 2])


def test_what_the_slide_says_is_told_but_not_whose_it_is(path: Path, source: File) -> None:
    index = open_image(source).index

    assert index.reader == "slide"
    if index.format == "NDPI":
        assert index.hidden == ("macro",)
        assert index.scenes[0].pixel_size_um == (0.25, 0.25)
    else:
        assert index.scenes[0].pixel_size_um == (0.5, 0.5)
    assert "UGF0aWVudCA3" not in str(index)
    assert not [name for name in index.properties if "barcode" in name]


def test_a_slide_that_stays_open_is_read_after_its_name_is_gone(path: Path, source: File) -> None:
    whole = expected(path, 0)
    first = open_image(source, name="a")
    first.read_region(0, 0, 9, 9)
    path.unlink()

    assert np.array_equal(open_image(source, index=first.index, name="a").read_region(700, 800, 50, 50), whole[800:850, 700:750])


def test_another_slide_under_the_same_name_is_not_taken_for_it(path: Path, source: File) -> None:
    whole = expected(path, 0)
    image = open_image(source, name="a")
    path.rename(path.with_name("moved"))
    path.write_bytes(b"something else")

    assert np.array_equal(image.read_region(0, 0, 50, 50), whole[:50, :50])


def test_a_slide_that_is_no_file_of_its_own_asks_to_be_one(path: Path, source: File) -> None:
    data = path.read_bytes()
    behind = path.with_name("pack")
    behind.write_bytes(b"12345678" + data)
    pack = File(behind)
    try:
        for one in (Memory(data), Part(pack, 8, len(data)), Part(source, 0, len(data) - 1)):
            with pytest.raises(FileWantedError):
                open_image(one)
    finally:
        pack.close()


def test_a_slide_that_is_cut_is_unreadable(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    file = File(path)
    try:
        with pytest.raises(UnreadableImageError):
            open_image(file).read_region(0, 0, WIDTH, HEIGHT)
    finally:
        file.close()


@pytest.mark.real_data
def test_a_slide_of_aperio_is_read_by_ours_and_the_same_by_openslide() -> None:
    if not SLIDE.exists():
        return
    file = File(SLIDE)
    try:
        assert not slides.is_slide(file)
        index = slides.read_index(file)
        found = Image(index, slides.Slide(file, index, TileCache(), None), None).read_region(300, 400, 1000, 900)
        assert np.array_equal(found, open_image(file).read_region(300, 400, 1000, 900))
    finally:
        file.close()
