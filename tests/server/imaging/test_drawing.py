"""Pictures of parts of images: each pixel stands where it belongs, whichever level it was read from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.contract.errors import InvalidRequestError
from epista.server.imaging import drawing, iiif, rendering
from epista.server.imaging.drawing import Part
from epista.server.imaging.image import Image, open_image
from epista.server.imaging.rendering import Look, Rendering
from tests.server.imaging.makers import Memory

WIDTH, HEIGHT = 1100, 740
GRAY = Rendering((Look(0, "ffffff", 0, 255),))


def gradient(width: int = WIDTH, height: int = HEIGHT) -> NDArray[Any]:
    """Return an image whose values tell the place."""
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 55, height))
    return (x + y).astype(np.uint8)


def opened(*levels: NDArray[Any], **options: Any) -> Image:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        given = {"tile": (64, 64), "compression": "zlib", "photometric": "minisblack", "metadata": None} | options
        writer.write(levels[0], subifds=len(levels) - 1, **given)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **given)
    return open_image(Memory(out.getvalue()))


def pyramid(count: int = 4) -> Image:
    whole = gradient()
    levels = [whole]
    for _ in range(count - 1):
        last = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
        levels.append(last.reshape(last.shape[0] // 2, 2, last.shape[1] // 2, 2).mean(axis=(1, 3)).astype(np.uint8))
    return opened(*levels)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7, 8, 16])
def test_tiles_of_any_scale_make_the_whole(count: int, factor: int) -> None:
    image, side = pyramid(count), 128
    whole = np.asarray(Pillow.fromarray(gradient()).resize((-(-WIDTH // factor), -(-HEIGHT // factor)), Pillow.Resampling.BOX))
    made = np.zeros_like(whole)
    for y in range(0, HEIGHT, side * factor):
        for x in range(0, WIDTH, side * factor):
            w, h = min(side * factor, WIDTH - x), min(side * factor, HEIGHT - y)
            size = -(-w // factor), -(-h // factor)
            tile = drawing.draw(image, GRAY, Part(x, y, w, h), size)
            made[y // factor : y // factor + size[1], x // factor : x // factor + size[0]] = tile[..., 0]

    assert np.abs(made.astype(int) - whole).max() <= 3


def test_a_tile_of_whole_pixels_is_not_resampled() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 500), dtype=np.uint8)
    image = opened(noise, noise[::2, ::2])

    assert np.array_equal(drawing.draw(image, GRAY, Part(64, 128, 200, 150), (200, 150))[..., 0], noise[128:278, 64:264])
    assert np.array_equal(drawing.draw(image, GRAY, Part(64, 128, 200, 150), (100, 75))[..., 0], noise[128:278:2, 64:264:2])


def test_a_level_that_cannot_be_halved_evenly_is_taken_for_what_it_was_meant_to_be() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (201, 333), dtype=np.uint8)
    image = opened(noise, noise[:200:2, :332:2])

    assert np.array_equal(drawing.draw(image, GRAY, Part(128, 64, 100, 90), (50, 45))[..., 0], noise[64:154:2, 128:228:2])


def test_every_pixel_of_a_level_is_found_whose_scale_is_no_whole_number() -> None:
    whole = np.random.default_rng(1).integers(0, 256, (84, 42), dtype=np.uint8)
    level, out = whole[:36, :18], io.BytesIO()
    # Without OME-XML another scale makes another image of it.
    with tifffile.TiffWriter(out, ome=True) as writer:
        writer.write(whole, subifds=1, tile=(16, 16), metadata={"axes": "YX"})
        writer.write(level, subfiletype=1, tile=(16, 16))
    image = open_image(Memory(out.getvalue()))

    # In floats 35 / (42 / 18) is below 15.
    assert np.array_equal(image.read_region(35, 0, 3, 36, level=1), level[:, 15:])
    for column in range(18):
        drawn = drawing.draw(image, GRAY, Part(column * 42 / 18, 0, 42 / 18, 84), (1, 36))
        assert np.abs(drawn[:, 0, 0].astype(int) - level[:, column]).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("f8", (1e16, 1e16)),
        ("f8", (-1.7e308, -1.7e308)),
        ("f8", (1.7976931348623157e308, 1.7976931348623157e308)),
        ("f8", (-1.7e308, 1.7e308)),
        ("f4", (3.4e38, 3.4e38)),
        ("f4", (-3.4028235e38, 3.4028235e38)),
        ("i8", (-(2**63), -(2**63))),
        ("i8", (2**60, 2**60 + 20)),
        ("u8", (2**64 - 1, 2**64 - 1)),
    ],
)
def test_values_so_large_that_few_lie_between_them_are_drawn(dtype: str, values: tuple[float, float]) -> None:
    pixels = np.full((40, 40), values[0], dtype)
    pixels[:20] = values[1]
    image = opened(pixels)

    shown = rendering.parse(rendering.spell(rendering.usual(drawing.suggest(image))))
    found = drawing.draw(image, shown, Part(0, 0, 40, 40), (40, 40))

    assert found.shape == (40, 40, 3)
    if float(values[0]) < float(values[1]):
        assert found[:20].min() == 255 > found[20:].max() == 0


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_pixels_of_every_type_are_drawn(dtype: str) -> None:
    pixels = np.zeros((40, 40), dtype)
    pixels[:20] = 1 if dtype == "?" else 100
    image = opened(pixels)
    shown = rendering.usual(drawing.suggest(image))

    found = drawing.draw(image, shown, Part(0, 0, 40, 40), (40, 40))

    assert found[:20].min() == found.max() > found[20:].max() == 0


def test_a_part_may_be_drawn_larger() -> None:
    whole = gradient(40, 30)
    made = drawing.draw(opened(whole, tile=(16, 16)), GRAY, Part(10, 10, 4, 3), (400, 300))

    assert made.shape == (300, 400, 3)
    assert abs(int(made[150, 200, 0]) - int(whole[11, 12])) <= 2


@pytest.mark.parametrize("size", [(100, 70), (70, 100), (3, 1), (1, 3), (1, 1), (1100, 740)])
def test_what_is_larger_than_may_be_read_at_once_is_drawn_in_pieces(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    image = pyramid(1)
    expected = drawing.draw(image, GRAY, Part(0, 0, WIDTH, HEIGHT), size)
    monkeypatch.setattr(drawing, "MAX_PIXELS", 5000)
    monkeypatch.setattr("epista.server.imaging.image.MAX_PIXELS", 5000)
    made = drawing.draw(image, GRAY, Part(0, 0, WIDTH, HEIGHT), size)

    assert made.shape == (size[1], size[0], 3)
    assert np.abs(made.astype(int) - expected).max() <= 2


def test_numbers_of_colours_are_never_mixed() -> None:
    colors = np.zeros((3, 256), np.uint16)
    colors[:, 1] = 65535
    flags = np.indices((100, 100)).sum(axis=0).astype(np.uint8) % 2
    image = opened(flags, photometric="palette", colormap=colors, tile=(16, 16))

    assert set(np.unique(drawing.draw(image, GRAY, Part(0, 0, 100, 100), (33, 33)))) <= {0, 255}


@pytest.mark.parametrize(("rotation", "turned"), [("0", 0), ("90", -1), ("180", 2), ("270", 1)])
@pytest.mark.parametrize("mirror", ["", "!"])
def test_pictures_are_turned_clockwise(rotation: str, turned: int, mirror: str) -> None:
    whole = gradient(60, 40)
    asked = iiif.parse(60, 40, region="full", size="max", rotation=mirror + rotation, quality="default", format="png")
    made = np.asarray(Pillow.open(io.BytesIO(drawing.picture(opened(whole, tile=(16, 16)), GRAY, asked))))[..., 0]

    assert np.array_equal(made, np.rot90(whole[:, ::-1] if mirror else whole, turned))


@pytest.mark.parametrize(("quality", "mode"), [("default", "RGB"), ("color", "RGB"), ("gray", "L"), ("bitonal", "1")])
def test_a_quality_decides_the_colours(quality: str, mode: str) -> None:
    asked = iiif.parse(60, 40, region="full", size="max", rotation="0", quality=quality, format="png")

    assert Pillow.open(io.BytesIO(drawing.picture(opened(gradient(60, 40)), GRAY, asked))).mode == mode


def test_jpeg_keeps_the_colours_of_each_pixel() -> None:
    data = drawing.encode(np.zeros((16, 16, 3), np.uint8), "jpg")
    # The sampling factors of the three components, in the frame header (ITU-T T.81, B.2.2).
    frame = data.index(b"\xff\xc0")

    assert [data[frame + 11 + 3 * component] for component in range(3)] == [0x11, 0x11, 0x11]


@pytest.mark.parametrize(
    "shown", [GRAY._replace(z=1), GRAY._replace(t=1), GRAY._replace(scene=1), Rendering((Look(3, "ffffff", 0, 1),))]
)
def test_what_the_image_does_not_have_is_refused(shown: Rendering) -> None:
    with pytest.raises(InvalidRequestError, match=r"there is no (z|t|scene|channel) \d; there are 1, from 0"):
        drawing.draw(opened(gradient(20, 20)), shown, Part(0, 0, 5, 5), (5, 5))


def test_the_smallest_level_decides_how_channels_are_shown(tmp_path: Path) -> None:
    fine, coarse = np.full((64, 64), 1000, np.uint16), np.arange(1024, dtype=np.uint16).reshape(32, 32)

    [found] = drawing.suggest(opened(fine, coarse, tile=(16, 16))).channels

    assert (found.lowest, found.highest) == (0, 1023)
