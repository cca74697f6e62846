"""PNG, JPEG, WebP and GIF: what other decoders make of a picture is what regions of it have."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from epista.contract.errors import UnreadableImageError
from epista.server.imaging import pictures
from epista.server.imaging.cache import TileCache
from epista.server.imaging.image import Image, open_image
from tests.server.imaging.makers import HEIGHT, WIDTH, Memory, noise
from tests.server.imaging.test_tiff import REAL


def opened(data: bytes) -> Image:
    return open_image(Memory(data))


def saved(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def assert_same(image: Image, expected: NDArray[Any]) -> None:
    scene = image.index.scenes[0]
    assert (scene.levels[0].width, scene.levels[0].height) == (expected.shape[1], expected.shape[0])
    whole = image.read_region(0, 0, expected.shape[1], expected.shape[0])
    assert whole.dtype == expected.dtype
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(image.read_region(20, 30, 50, 40), expected[30:70, 20:70])
    last = len(scene.channels) - 1
    one = expected if expected.ndim == 2 else expected[..., last]
    np.testing.assert_array_equal(image.read_region(7, 0, 9, 9, channels=[last]), one[:9, 7:16])


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_keeps_its_bits(samples: int, dtype: str) -> None:
    pixels = noise(HEIGHT, WIDTH, samples, dtype=dtype) * np.dtype(dtype).type(200)
    pixels = pixels[..., 0] if samples == 1 else pixels

    assert_same(opened(bytes(imagecodecs.png_encode(pixels))), pixels)


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"quality": 80}), ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True})]
)
def test_colours_are_what_another_decoder_makes_of_them(form: str, options: dict[str, Any]) -> None:
    data = saved(Pillow.fromarray(noise(HEIGHT, WIDTH, 3, dtype="uint8")), form, **options)
    expected = imagecodecs.jpeg_decode(data) if form == "JPEG" else imagecodecs.webp_decode(data)

    image = opened(data)

    assert image.index.format == form
    assert [channel.name for channel in image.index.scenes[0].channels] == ["R", "G", "B"]
    assert_same(image, expected)


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_palettes_become_their_colours(form: str) -> None:
    numbers = noise(HEIGHT, WIDTH, dtype="uint8")
    picture = Pillow.fromarray(numbers, "L").convert("P")
    colours = np.random.default_rng(1).integers(0, 256, (256, 3)).astype("uint8")
    picture.putpalette(colours.tobytes())

    assert_same(opened(saved(picture, form)), colours[numbers])


def test_one_bit_stays_one_bit() -> None:
    pixels = noise(HEIGHT, WIDTH) % 2 == 0

    assert_same(opened(saved(Pillow.fromarray(pixels), "PNG")), pixels)


def test_a_print_jpeg_has_four_inks() -> None:
    picture = Pillow.fromarray(noise(HEIGHT, WIDTH, 4, dtype="uint8"), "CMYK")

    image = opened(saved(picture, "JPEG"))

    assert [channel.name for channel in image.index.scenes[0].channels] == ["C", "M", "Y", "K"]
    assert image.read_region(0, 0, 10, 10).shape == (10, 10, 4)


def test_what_moves_or_should_be_turned_says_so() -> None:
    frames = [Pillow.fromarray(noise(40, 80, dtype="uint8", seed=seed)) for seed in range(3)]
    exif = Pillow.Exif()
    exif[0x0112] = 6

    moving = opened(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    turned = opened(saved(frames[0], "JPEG", exif=exif))

    assert moving.index.warnings == ("the picture moves; its first frame is read",)
    assert turned.index.warnings == ("Exif says to turn the picture (orientation 6); its pixels are given as stored",)
    assert turned.read_region(0, 0, 99, 99).shape == (40, 80)


def test_a_picture_is_decoded_once() -> None:
    source = Memory(saved(Pillow.fromarray(noise(HEIGHT, WIDTH, dtype="uint8")), "PNG"))
    image = open_image(source, cache=TileCache())
    image.read_region(0, 0, 10, 10)
    source.ranges.clear()

    image.read_region(50, 50, 10, 10)

    assert source.ranges == []


def png(width: int, height: int, *, depth: int = 8, data: bytes = b"") -> bytes:
    """Return a grey PNG that declares this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9500, 14_000, 60_000], ids=["warned-of", "refused", "absurd"])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_picture_of_more_pixels_than_it_may_have_is_refused_before_it_is_decoded(side: int, depth: int) -> None:
    with pytest.raises(UnreadableImageError, match="more than 89,478,485 pixels"):
        opened(png(side, side, depth=depth))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_cut_picture_is_an_error_and_never_zeros(form: str) -> None:
    data = saved(Pillow.fromarray(noise(HEIGHT, WIDTH, 3, dtype="uint8")), form)

    with pytest.raises(UnreadableImageError, match="damaged"):
        opened(data[: len(data) // 2]).read_region(0, 0, 10, 10)
    with pytest.raises(UnreadableImageError):
        opened(data[:20])


@pytest.mark.parametrize(
    "data",
    [png(0, 10), png(10, 10, depth=16, data=b"short"), b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a\0\0\0\0\0\0\0", b"\xff\xd8\xff\xd9"],
    ids=["no-width", "short", "webp", "gif", "jpeg"],
)
def test_what_only_begins_as_a_picture_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        opened(data).read_region(0, 0, 10, 10)


def test_a_file_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 10)

    with pytest.raises(UnreadableImageError, match="10 are the most"):
        opened(png(4, 4))


@pytest.mark.real_data
def test_real_pictures_equal_what_another_decoder_reads() -> None:
    for path, decode in ((Path("cell.png"), imagecodecs.png_decode), (Path("retina.jpg"), imagecodecs.jpeg_decode)):
        if (REAL / "images" / path).exists():
            data = (REAL / "images" / path).read_bytes()
            assert_same(opened(data), decode(data))
