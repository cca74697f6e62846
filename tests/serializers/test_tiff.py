"""Arrays as TIFF and OME-TIFF, and back; and files that are cut, or made to harm."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import epista
from epista.contract.errors import FormatError, TooLargeError, UnreadableError
from epista.serializers import tiff

PLAIN = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4")
OME = tuple(set(PLAIN) - {"u8", "i8", "f2"})
SHAPES = arrays.array_shapes(min_dims=2, max_dims=5, max_side=6)
PIXELS = np.random.default_rng(1).integers(0, 4000, (2, 30, 40), dtype=np.uint16)


@given(st.data(), st.sampled_from(PLAIN))
def test_an_array_comes_back_as_it_was(data: st.DataObject, dtype: str) -> None:
    array = data.draw(arrays.arrays(dtype, SHAPES.filter(lambda shape: math.prod(shape) > 1 or len(shape) < 5)))

    found = tiff.read(tiff.write(array))

    assert (found.shape, found.dtype) == (array.shape, array.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, array)


@given(st.data(), st.sampled_from(sorted(OME)), st.sampled_from(["YX", "CYX", "ZYX", "TZCYX", "ZCYX", "TCYX"]))
def test_an_array_comes_back_with_its_axes(data: st.DataObject, dtype: str, axes: str) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=len(axes), max_dims=len(axes), max_side=6))
    array = data.draw(arrays.arrays(dtype, shape))

    written = tiff.write_ome(array, axes=axes)

    np.testing.assert_array_equal(tiff.read(written, axes=axes), array, strict=dtype[0] != ">")
    assert tiff.write_ome(array, axes=axes) == written


class TestWhatOthersRead:
    def test_a_picture_in_colours_is_one_to_pillow(self) -> None:
        picture = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)

        with Image.open(io.BytesIO(tiff.write(picture))) as found:
            assert (found.mode, found.size) == ("RGB", (30, 20))
            assert np.array_equal(np.asarray(found), picture)

    def test_what_is_large_is_in_tiles_and_packed(self) -> None:
        data = tiff.write(np.zeros((1500, 2000), np.uint16))

        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert file.pages.first.is_tiled
        assert len(data) < 100_000

    def test_channels_and_the_size_of_pixels_are_in_the_metadata(self) -> None:
        data = tiff.write_ome(PIXELS, axes="CYX", channels=["DAPI", "GFP"], pixel_size_um=[0.5, 0.25])

        with tifffile.TiffFile(io.BytesIO(data)) as file:
            xml = file.ome_metadata or ""
        for part in ('Name="DAPI"', 'Name="GFP"', 'PhysicalSizeX="0.5"', 'PhysicalSizeY="0.25"', 'PhysicalSizeXUnit="µm"'):
            assert part in xml


class TestRefused:
    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros(3), "a height and a width"),
            (np.float64(3), "a height and a width"),
            (np.zeros((0, 3)), "a height and a width"),
            (np.zeros((1, 1, 1, 1, 1)), "a single pixel with 5 dimensions"),
            (np.zeros((2, 2), complex), "complex128"),
            (np.zeros((2, 2), "M8[s]"), "datetime64"),
            (np.ma.masked_less(np.ones((2, 2)), 0), "mask would be lost"),
        ],
        ids=["row", "number", "nothing", "pixel", "complex", "dates", "masked"],
    )
    def test_what_is_no_image_is_refused(self, array: Any, message: str) -> None:
        with pytest.raises(FormatError, match=message):
            tiff.write(array)

    @pytest.mark.parametrize(
        ("array", "options", "message"),
        [
            (PIXELS, {}, "what are the 3 dimensions"),
            (PIXELS, {"axes": "YX"}, "does not fit 3 dimensions"),
            (PIXELS, {"axes": "YXC"}, "does not fit 3 dimensions"),
            (PIXELS, {"axes": "YXS"}, "3 or 4 samples"),
            (PIXELS, {"axes": "CYX", "channels": ["DAPI"]}, "1 names for 2 channels"),
            (PIXELS.astype("u8"), {"axes": "CYX"}, "no pixels of uint64"),
        ],
        ids=["guess", "few", "order", "samples", "names", "dtype"],
    )
    def test_what_axes_are_is_never_guessed(self, array: Any, options: dict[str, Any], message: str) -> None:
        with pytest.raises(FormatError, match=message):
            tiff.write_ome(array, **options)


class TestDamaged:
    @pytest.mark.parametrize("write", [tiff.write, lambda array: tiff.write_ome(array, axes="CYX")], ids=["tiff", "ome"])
    def test_a_file_that_is_cut_is_never_zeros(self, write: Any) -> None:
        data = write(PIXELS)

        for end in range(0, len(data), 61):
            try:
                assert np.array_equal(tiff.read(data[:end]), PIXELS)
            except UnreadableError:
                pass

    def test_pages_in_a_circle_are_refused(self) -> None:
        page = struct.pack("<HHHII", 1, 256, 4, 1, 10) + struct.pack("<I", 8)

        with pytest.raises(UnreadableError, match="circle"):
            tiff.read(b"II*\0" + struct.pack("<I", 8) + page)

    def test_other_files_are_not_read(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        tifffile.imwrite(tmp_path / "secret.ome.tif", PIXELS[0], metadata={"axes": "YX"})
        other = '<TiffData IFD="0" PlaneCount="1" FirstC="1"><UUID FileName="secret.ome.tif">urn:uuid:1</UUID></TiffData>'
        with tifffile.TiffFile(io.BytesIO(tiff.write_ome(PIXELS, axes="CYX"))) as file:
            xml = file.ome_metadata or ""
        own = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:2</UUID></TiffData>'
        out = io.BytesIO()
        tifffile.imwrite(
            out, PIXELS[0], description=xml.replace('<TiffData IFD="0" PlaneCount="2"/>', own + other), metadata=None
        )

        with pytest.raises(UnreadableError, match="several files"):
            tiff.read(out.getvalue())

    def test_more_pixels_than_fit_are_refused_before_memory_is_taken(self) -> None:
        data = bytearray(tiff.write(np.zeros((9, 9), np.uint8)))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            for name in ("ImageWidth", "ImageLength"):
                tag = file.pages.first.tags[name]
                data[tag.offset + 2 : tag.offset + 12] = struct.pack("<HII", 4, 1, 10**6)

        with pytest.raises((TooLargeError, UnreadableError)):
            tiff.read(bytes(data))


def test_arrays_are_put_and_read_as_tiff(http_ws: epista.Workspace) -> None:
    plain = http_ws.put("EXP-1/plain.tif", PIXELS)
    made = http_ws.put("EXP-1/cells.ome.tif", PIXELS, axes="cyx", channels=["DAPI", "GFP"], pixel_size_um=0.5)

    assert (plain.kind, plain.format, made.format) == ("IMAGE", "tiff", "ome-tiff")
    assert np.array_equal(http_ws("EXP-1/plain.tif"), PIXELS)
    assert np.array_equal(http_ws("EXP-1/cells.ome.tif"), PIXELS)
    info = http_ws.image.info(made)
    assert ([channel.name for channel in info.channels], info.pixel_size_um) == (["DAPI", "GFP"], (0.5, 0.5))
    assert np.array_equal(http_ws.image.read_region(plain, 5, 6, 7, 8), PIXELS[0, 6:14, 5:12])
    assert http_ws.put("EXP-1/plain.tif", PIXELS).number == 1
