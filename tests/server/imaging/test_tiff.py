"""TIFF in all its kinds: what tifffile reads of a file as a whole is what regions of it have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from epista.server.imaging.image import Image, open_image
from epista.server.imaging.index import Index
from tests.server.imaging.makers import HEIGHT, WIDTH, Memory, noise, planes, pyramid

REAL = Path(__file__).parents[4] / "shared" / "data"
FILES = sorted([*REAL.glob("images/**/*.tif"), *REAL.glob("gels/*"), *REAL.glob("images/*.svs")])
SLIDE = REAL / "images" / "CMU-1-Small-Region.svs"

CODED = [
    pytest.param({"compression": compression, "predictor": predictor, "dtype": dtype}, id=f"{compression}-{predictor}-{dtype}")
    for compression in ("none", "zlib", "lzw", "zstd", "packbits", "lzma")
    for predictor in (False, True)
    for dtype in ("uint8", "uint16", "float32")
    if not (predictor and compression in ("none", "packbits"))
]
JPEG = pytest.param({"compression": "jpeg", "dtype": "uint8"}, id="jpeg-uint8")


def opened(path: Path) -> Image:
    return open_image(Memory(path.read_bytes()))


def assert_same(image: Image, path: Path, *, scene: int = 0) -> None:
    """Compare all planes of all levels, and a piece of each."""
    for level, size in enumerate(image.index.scenes[scene].levels):
        if size.is_made:
            continue
        whole = planes(path, series=scene, level=level)
        one = image.index.scenes[scene]
        assert whole.shape == (one.size_t, one.size_z, size.height, size.width, len(one.channels))
        assert whole.dtype == np.dtype(one.dtype)
        across, down = one.downsample(level)
        for t in range(one.size_t):
            for z in range(one.size_z):
                read = image.read_region(0, 0, size.width, size.height, level=level, z=z, t=t, scene=scene)
                assert_equal(read, whole[t, z])
                x, y = size.width // 3, size.height // 3
                piece = image.read_region(
                    int(np.ceil(x * across)), int(np.ceil(y * down)), 70, 70, level=level, z=z, t=t, scene=scene
                )
                assert_equal(piece, whole[t, z, y : y + 70, x : x + 70])


def assert_equal(read: NDArray[Any], expected: NDArray[Any]) -> None:
    assert read.dtype == expected.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read if read.ndim == 3 else read[..., np.newaxis], expected)


@pytest.mark.parametrize("options", [*CODED, JPEG])
def test_every_level_of_a_pyramid_equals_what_tifffile_reads(tmp_path: Path, options: dict[str, Any]) -> None:
    path = pyramid(tmp_path / "a.ome.tif", **options)

    image = opened(path)

    assert [(level.width, level.height) for level in image.index.scenes[0].levels] == [(300, 200), (150, 100), (75, 50)]
    assert_same(image, path)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("rows", [None, 7, 200])
def test_strips_in_both_byte_orders_and_both_sizes_of_offsets(
    tmp_path: Path, byteorder: Any, bigtiff: bool, rows: int | None
) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"compression": "zlib", "predictor": True} if rows == 7 else {}
    tifffile.imwrite(
        path,
        noise(3, HEIGHT, WIDTH),
        photometric="minisblack",
        byteorder=byteorder,
        bigtiff=bigtiff,
        rowsperstrip=rows,
        **options,
    )

    assert_same(opened(path), path)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"photometric": "rgb", "planarconfig": "contig"}, id="samples-together"),
        pytest.param({"photometric": "rgb", "planarconfig": "separate"}, id="samples-apart"),
        pytest.param({"photometric": "rgb", "planarconfig": "separate", "tile": (64, 64)}, id="samples-apart-in-tiles"),
        pytest.param({"photometric": "rgb", "compression": "jpeg", "tile": (64, 64)}, id="jpeg"),
        pytest.param({"photometric": "rgb", "compression": "jpeg", "rowsperstrip": 16}, id="jpeg-in-strips"),
        pytest.param({"photometric": "rgb", "compression": "webp", "tile": (64, 64)}, id="webp"),
        pytest.param({"photometric": "rgb", "compression": "png", "tile": (64, 64)}, id="png"),
        pytest.param({"photometric": "rgb", "compression": "jpeg2000", "tile": (64, 64)}, id="jpeg2000"),
        pytest.param({"photometric": "rgb", "compression": "jpegxl", "tile": (64, 64)}, id="jpegxl"),
        pytest.param({"photometric": "rgb", "compression": "jpegxr", "tile": (64, 64)}, id="jpegxr"),
        pytest.param({"photometric": "rgb", "compression": "lzw", "predictor": True, "tile": (64, 64)}, id="lzw"),
    ],
)
def test_colours_are_channels(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    shape = (3, HEIGHT, WIDTH) if options.get("planarconfig") == "separate" else (HEIGHT, WIDTH, 3)
    tifffile.imwrite(path, noise(*shape, dtype="uint8"), **options)

    image = opened(path)

    assert [channel.name for channel in image.index.scenes[0].channels] == ["R", "G", "B"]
    assert_same(image, path)


def test_an_alpha_channel_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(HEIGHT, WIDTH, 4, dtype="uint8"), photometric="rgb", extrasamples=["unassalpha"])

    image = opened(path)

    assert [channel.name for channel in image.index.scenes[0].channels] == ["R", "G", "B", "A"]
    assert_same(image, path)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "uint64", "float16", "float64", "bool"])
def test_every_type_of_pixels_stays_what_it_is(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(HEIGHT, WIDTH, dtype=dtype), byteorder=">")

    assert_same(opened(path), path)


@pytest.mark.parametrize("bits", [4, 10, 12])
def test_packed_bits_are_unpacked(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.tif"
    data = noise(HEIGHT, WIDTH, dtype="uint8" if bits < 8 else "uint16") % 2**bits
    tifffile.imwrite(path, data, bitspersample=bits)

    assert_same(opened(path), path)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"truncate": True}], ids=["pages", "zlib", "one-page"])
def test_an_imagej_stack_has_its_planes_limits_and_pixel_size(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": 2.5, "Ranges": (1.0, 200.0, 5.0, 90.0)}
    tifffile.imwrite(path, noise(2, 3, 2, 50, 60), imagej=True, metadata=metadata, resolution=(4, 2), **options)

    image = opened(path)

    scene = image.index.scenes[0]
    assert (image.index.format, scene.size_t, scene.size_z, len(scene.channels)) == ("ImageJ TIFF", 2, 3, 2)
    assert [channel.limits for channel in scene.channels] == [(1.0, 200.0), (5.0, 90.0)]
    assert (scene.pixel_size_um, scene.plane_distance_um) == ((0.25, 0.5), 2.5)
    assert_same(image, path)


def test_ome_says_names_colours_and_pixel_size(tmp_path: Path) -> None:
    scene = opened(pyramid(tmp_path / "a.ome.tif")).index.scenes[0]

    assert [channel.name for channel in scene.channels] == ["DAPI", "GFP", "dapi", "Cy5"]
    assert [channel.color for channel in scene.channels] == ["0000ff", "00ff00", "ffffff", "ff0000"]
    assert scene.pixel_size_um == (0.5, 0.5)


def test_a_file_of_several_images_has_several_scenes(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(noise(2, 3, 64, 80), metadata={"axes": "ZCYX", "Name": "one"})
        tiff.write(noise(40, 50, dtype="uint8"), metadata={"axes": "YX", "Name": "two"})

    image = opened(path)

    assert [scene.name for scene in image.index.scenes] == ["one", "two"]
    assert_same(image, path, scene=0)
    assert_same(image, path, scene=1)


def test_a_pyramid_of_pages_has_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = noise(512, 512, 3, dtype="uint8")
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2, 4):
            tiff.write(data[::step, ::step], photometric="rgb", tile=(64, 64), compression="zlib", metadata=None)

    image = opened(path)

    assert [level.width for level in image.index.scenes[0].levels] == [512, 256, 128]
    assert_same(image, path)


def test_dots_per_inch_are_no_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(20, 30), resolution=(300, 300), resolutionunit="INCH")

    assert opened(path).index.scenes[0].pixel_size_um is None


def test_numbers_of_colours_come_with_their_palette(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256)
    tifffile.imwrite(path, noise(20, 30, dtype="uint8"), photometric="palette", colormap=colours)

    image = opened(path)

    assert np.array_equal(np.frombuffer(image.index.scenes[0].palette, "<u2").reshape(3, 256), colours)
    assert_same(image, path)


def test_an_empty_tile_is_empty_by_declaration(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tiles = iter([np.full((64, 64), 7, np.uint8), None, None, np.full((64, 64), 9, np.uint8)])
    tifffile.imwrite(path, tiles, shape=(128, 128), dtype="uint8", tile=(64, 64), compression="zlib", metadata=None)

    assert_same(opened(path), path)


def test_an_index_is_plain_data_and_opens_the_image_again(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.tif", compression="jpeg", dtype="uint8")
    made = opened(path).index

    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Index)

    assert kept == made
    assert_same(open_image(Memory(path.read_bytes()), index=kept), path)


def test_what_a_region_costs_is_its_tiles_and_not_its_file(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.tif", compression="zlib")
    index = opened(path).index
    counted = Memory(path.read_bytes())

    open_image(counted, index=index).read_region(70, 70, 50, 50, channels=["GFP"])

    assert len(counted.ranges) == 1


def test_rows_that_nothing_compresses_are_read_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(3000, 1000), rowsperstrip=3000)
    index = opened(path).index
    counted = Memory(path.read_bytes())

    region = open_image(counted, index=index).read_region(10, 2000, 20, 30)

    assert_equal(region, planes(path)[0, 0, 2000:2030, 10:30])
    assert sum(size for _, size in counted.ranges) < 600_000


@pytest.mark.real_data
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_equal_what_tifffile_reads(path: Path) -> None:
    assert_same(opened(path), path)


@pytest.mark.real_data
def test_a_slide_equals_what_openslide_reads_bit_for_bit() -> None:
    if not SLIDE.exists():
        return
    image = opened(SLIDE)

    with openslide.OpenSlide(SLIDE) as slide:
        expected = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
        mpp = float(slide.properties["openslide.mpp-x"])

    assert_equal(image.read_region(0, 0, 2220, 2967), expected)
    assert image.index.scenes[0].pixel_size_um == (mpp, mpp)
    assert image.index.hidden == ("Label", "Macro")
    assert image.index.properties["Aperio.AppMag"] == "20"


@pytest.mark.real_data
def test_an_unlabelled_axis_counts_as_z_and_says_so() -> None:
    if not REAL.exists():
        return
    index = opened(REAL / "images" / "nuclei3d.tif").index

    assert index.scenes[0].size_z == 31
    assert index.warnings == ("the unlabelled axis of length 31 is counted as z",)
