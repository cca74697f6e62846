"""Smaller levels of images that have none: halved exactly, in any pieces, of any type."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from epista.server.imaging import pyramids
from epista.server.imaging.image import Image, Levels, open_image
from epista.server.imaging.index import Scene
from epista.server.imaging.pyramids import LevelsWantedError
from tests.server.imaging.makers import Memory

HEIGHT, WIDTH = 1301, 3403


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Halve the slow and plain way."""
    pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
    four = pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2, -1).astype(object).sum(axis=(1, 3))
    return np.asarray(four / 4 if pixels.dtype.kind == "f" else (four + 2) // 4, pixels.dtype)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    out = io.BytesIO()
    given: dict[str, Any] = {"compression": "zlib", "rowsperstrip": 100} | options
    tifffile.imwrite(out, pixels, **given)
    return out.getvalue()


def made(data: bytes, into: Path, *, z: int = 0, t: int = 0) -> Image:
    """Open an image with the smaller levels of a plane, made as the server makes them."""
    image = open_image(Memory(data))
    scene = image.index.scenes[0]
    with into.open("xb") as file:
        writer = pyramids.Writer(scene, file)
        for blocks in pyramids.blocks(scene):
            for block in blocks:
                so_far = open_image(
                    Memory(data), index=image.index, made=Levels(Memory(into.read_bytes()), writer.levels(), (0, z, t))
                )
                writer.add(block, pyramids.make(scene, block, pixels_of(so_far, scene, block, z, t)))
        writer.end()
    with into.open("rb") as file:
        levels = pyramids.levels_in(file)
    return open_image(Memory(data), index=image.index, made=Levels(Memory(into.read_bytes()), levels, (0, z, t)))


def pixels_of(image: Image, scene: Scene, block: pyramids.Block, z: int, t: int) -> NDArray[Any]:
    x, y, width, height = pyramids.region_of(scene, block)
    across, down = scene.downsample(block.level)
    channels = range(block.group * scene.samples, (block.group + 1) * scene.samples)
    place = int(np.ceil(x * across)), int(np.ceil(y * down))
    found = image.read_region(*place, width, height, level=block.level, channels=channels, z=z, t=t)
    return found.reshape(height, width, scene.samples)


def level(image: Image, number: int, z: int = 0) -> NDArray[Any]:
    size = image.index.scenes[0].levels[number]
    found = image.read_region(0, 0, size.width, size.height, level=number, z=z)
    return found if found.ndim == 3 else found[..., np.newaxis]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have smaller images count as large."""
    monkeypatch.setattr(pyramids, "MIN_PIXELS", 1024**2)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "int64", "float32", "float64"])
def test_each_level_is_half_of_the_one_before(tmp_path: Path, dtype: str) -> None:
    # Sums of four overflow, but of 32-bit floats, where they would be rounded.
    high = {"uint8": 256, "int16": 2**15, "uint16": 2**16, "uint32": 2**32, "float32": 1000}.get(dtype, 2**40)
    pixels = np.random.default_rng(1).integers(0, high, (HEIGHT, WIDTH)).astype(dtype)[..., np.newaxis]
    image = made(tiff(pixels[..., 0]), tmp_path / "levels")

    sizes = [(one.width, one.height) for one in image.index.scenes[0].levels]
    assert sizes == [(3403, 1301), (1702, 651), (851, 326), (426, 163)]
    for number in range(1, 4):
        pixels = halved(pixels)
        assert level(image, number).dtype == pixels.dtype
        np.testing.assert_array_equal(level(image, number), pixels)


@pytest.mark.parametrize("block_bytes", [1, 2 * 1024**2, 8 * 1024**2, 512 * 1024**2])
def test_pieces_make_the_same_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(pyramids, "BLOCK_BYTES", max(block_bytes, 1024**2 * 2))
    pixels = np.random.default_rng(1).integers(0, 256, (2 * HEIGHT, WIDTH), dtype=np.uint8)[..., np.newaxis]
    image = made(tiff(pixels[..., 0]), tmp_path / "levels")

    for number in range(1, len(image.index.scenes[0].levels)):
        pixels = halved(pixels)
        np.testing.assert_array_equal(level(image, number), pixels)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_and_channels_are_kept_apart(tmp_path: Path, planar: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    given = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    image = made(tiff(given, photometric="rgb", planarconfig=planar), tmp_path / "levels")

    np.testing.assert_array_equal(level(image, 2), halved(halved(pixels)))
    np.testing.assert_array_equal(image.read_region(0, 0, 9, 9, level=1, channels=["G"]), halved(pixels)[:9, :9, 1])


def test_each_plane_has_levels_of_its_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 2, HEIGHT, WIDTH), dtype=np.uint8)
    data = tiff(pixels, ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack")
    image = made(data, tmp_path / "levels", z=1)

    np.testing.assert_array_equal(level(image, 1, z=1), halved(np.moveaxis(pixels[1], 0, -1)))
    with pytest.raises(LevelsWantedError) as wanted:
        level(image, 1, z=2)
    assert wanted.value.plane == (0, 2, 0)


def test_flags_and_colour_numbers_are_never_mixed(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    colors = np.zeros((3, 256), np.uint16)
    image = made(tiff(numbers, photometric="palette", colormap=colors), tmp_path / "levels")
    flags = made(tiff(numbers > 9, bitspersample=1, compression=None), tmp_path / "flags")

    np.testing.assert_array_equal(level(image, 2)[..., 0], numbers[::4, ::4])
    np.testing.assert_array_equal(level(flags, 2)[..., 0], (numbers > 9)[::4, ::4])


def test_a_picture_in_one_piece_has_levels_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image = made(bytes(imagecodecs.png_encode(pixels)), tmp_path / "levels")

    np.testing.assert_array_equal(level(image, 1), halved(pixels))


def test_what_has_levels_or_is_small_or_far_too_large_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(data: bytes) -> int:
        return len(open_image(Memory(data)).index.scenes[0].levels)

    out = io.BytesIO()
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    with tifffile.TiffWriter(out) as writer:
        writer.write(pixels, subifds=1, tile=(256, 256))
        writer.write(pixels[::4, ::4], subfiletype=1, tile=(256, 256))

    assert count(out.getvalue()) == 2
    assert count(tiff(pixels[:300, :300])) == 1
    assert count(tiff(pixels)) == 4
    monkeypatch.setattr(pyramids, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    assert count(tiff(pixels)) == 1
