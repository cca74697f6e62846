"""Images as OME-Zarr over a real socket: what zarr-python, napari's reader and the models of the standard make of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import ome_zarr_models.v04
import ome_zarr_models.v05
import pytest
import tifffile
import zarr
from PIL import Image

import epista
from tests.makers import Api, Clock, Server
from tests.server.test_images import KEY, PIXELS, ask, ome, refused

REAL = Path(__file__).parents[3] / "shared" / "data"
FORMATS = ["0.4", "0.5"]


def view(api: Api, format: str = "0.5", ref: str = KEY, scene: str = "") -> str:
    """Open a session and return the address of the image as a Zarr."""
    made = api.ok(api.post("~/tiles", ref=ref))
    return f"{api.url}/tiles/{made['token']}/zarr/{format}/{made['version']}{scene}"


def group(address: str) -> Any:
    return zarr.open_group(address, mode="r")


@pytest.fixture
def api(server: Server) -> Api:
    server.api().put(KEY, ome())
    return server.api()


@pytest.mark.parametrize("format", FORMATS)
class TestReaders:
    def test_zarr_reads_every_level(self, api: Api, format: str) -> None:
        found = group(view(api, format))

        assert (found["0"].shape, found["0"].chunks, found["0"].dtype) == ((1, 2, 1, 300, 400), (1, 1, 1, 64, 64), np.uint16)
        assert np.array_equal(found["0"][0, :, 0], PIXELS)
        assert np.array_equal(found["1"][0, :, 0], PIXELS[:, ::2, ::2])

    def test_naparis_reader_reads_pixels_names_and_colours(self, api: Api, format: str) -> None:
        place = ome_zarr.io.parse_url(view(api, format), fmt=ome_zarr.format.format_from_version(format))
        [node] = ome_zarr.reader.Reader(place)()

        assert np.array_equal(np.asarray(node.data[1])[0, :, 0], PIXELS[:, ::2, ::2])
        assert node.metadata["channel_names"] == ["DAPI", "GFP"]
        assert node.metadata["colormap"][0] == [[0, 0, 0], [0, 0, 1]]
        assert node.metadata["contrast_limits"][0][1] > 3900
        assert node.metadata["coordinateTransformations"][1][0]["scale"] == [1, 1, 1, 1, 1]

    def test_the_documents_are_those_of_the_standard(self, api: Api, format: str) -> None:
        models: dict[str, Any] = {"0.4": ome_zarr_models.v04.Image, "0.5": ome_zarr_models.v05.Image}
        found = models[format].from_zarr(group(view(api, format)))

        [image] = found.ome_attributes.multiscales if format == "0.5" else found.attributes.multiscales
        assert [axis.name for axis in image.axes] == ["t", "c", "z", "y", "x"]
        assert [axis.unit for axis in image.axes] == [None, None, None, "micrometer", "micrometer"]

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint32", "float32", "float64"])
    def test_every_type_of_pixel_is_read(self, server: Server, format: str, dtype: str) -> None:
        pixels = (np.arange(70 * 90).reshape(70, 90) - 50).astype(dtype)
        out = io.BytesIO()
        tifffile.imwrite(out, pixels, tile=(64, 64), byteorder=">")
        server.api().put("a.tif", out.getvalue())

        found = group(view(server.api(), format, "a.tif"))["0"]

        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found[0, 0, 0], pixels)

    def test_planes_and_times_have_axes(self, server: Server, format: str) -> None:
        pixels = np.random.default_rng(2).integers(0, 9, (2, 3, 4, 80, 70), dtype=np.uint8)
        out = io.BytesIO()
        metadata = {"axes": "TZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2}
        tifffile.imwrite(out, pixels, ome=True, photometric="minisblack", metadata=metadata)
        server.api().put("stack.ome.tif", out.getvalue())
        found = group(view(server.api(), format, "stack.ome.tif"))

        assert np.array_equal(found["0"][:], pixels.transpose(0, 2, 1, 3, 4))
        [image] = found.attrs["ome"]["multiscales"] if format == "0.5" else found.attrs["multiscales"]
        assert image["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1, 1, 2, 0.25, 0.5]}]

    def test_an_image_in_one_piece_is_cut_into_chunks(self, server: Server, format: str) -> None:
        pixels = np.random.default_rng(3).integers(0, 256, (1100, 600, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        server.api().put("a.png", out.getvalue())
        found = group(view(server.api(), format, "a.png"))["0"]

        assert found.chunks == (1, 1, 1, 512, 512)
        assert np.array_equal(found[0, :, 0], pixels.transpose(2, 0, 1))

    def test_each_scene_is_an_image(self, server: Server, format: str) -> None:
        first, second = np.zeros((70, 80), np.uint8), np.ones((90, 100), np.uint8)
        out = io.BytesIO()
        with tifffile.TiffWriter(out, ome=True) as writer:
            writer.write(first)
            writer.write(second)
        server.api().put("two.ome.tif", out.getvalue())

        assert np.array_equal(group(view(server.api(), format, "two.ome.tif"))["0"][0, 0, 0], first)
        assert np.array_equal(group(view(server.api(), format, "two.ome.tif", "~s1"))["0"][0, 0, 0], second)
        for scene in ("~s2", "~s01", "~s", "~", "~0:ff0000:0:1"):
            assert ask(view(server.api(), format, "two.ome.tif", scene) + "/zarr.json").status_code == 404


def test_a_chunk_at_the_edge_is_whole(api: Api) -> None:
    response = ask(view(api) + "/0/c/0/0/0/4/6")
    pixels = np.frombuffer(imagecodecs.zstd_decode(response.content), "<u2").reshape(64, 64)

    assert np.array_equal(pixels[:44, :16], PIXELS[0, 256:, 384:])
    assert not pixels[44:].any()
    assert not pixels[:, 16:].any()
    assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("format", "key"),
    [
        ("0.5", ".zattrs"),
        ("0.5", "2/zarr.json"),
        ("0.5", "0/c/0/0/0/5/0"),
        ("0.5", "0/c/0/2/0/0/0"),
        ("0.5", "0/c/0/0/0/00/0"),
        ("0.5", "0/0/0/0/0/0"),
        ("0.5", "0/c/0/0/0/0"),
        ("0.5", "0/c/0/0/0/-1/0"),
        ("0.5", "labels/zarr.json"),
        ("0.5", "../0.4"),
        ("0.4", "zarr.json"),
        ("0.4", "0/c/0/0/0/0/0"),
        ("0.4", "0/zarr.json"),
        ("0.4", ".zmetadata"),
        ("0.6", "zarr.json"),
    ],
)
def test_what_no_zarr_has_is_not_there(api: Api, format: str, key: str) -> None:
    response = ask(f"{view(api, format)}/{key}")

    assert response.status_code == 404
    assert response.headers.get("Access-Control-Allow-Origin", "*") == "*"


def test_a_session_shows_no_other_version(server: Server, api: Api) -> None:
    other = server.api().put("EXP-2/other.ome.tif", ome())["version"]

    assert ask(f"{view(api).rpartition('/')[0]}/{other}/zarr.json").status_code == 404


def test_nothing_is_read_after_the_end(api: Api, clock: Clock) -> None:
    address = view(api)
    clock.ahead_seconds = 16 * 60

    for key in ("zarr.json", "0/zarr.json", "0/c/0/0/0/0/0"):
        assert refused(ask(f"{address}/{key}")) == (403, "forbidden")


def test_a_damaged_tile_is_an_error_and_never_an_empty_chunk(server: Server) -> None:
    data = bytearray(ome())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data[at : at + size] = bytes(size)
    server.api().put(KEY, bytes(data))
    found = group(view(server.api()))["0"]

    with pytest.raises(Exception, match="422"):
        found[0, 0, 0, :64, :64]
    assert np.array_equal(found[0, 0, 0, 64:, 64:], PIXELS[0, 64:, 64:])


def test_what_is_damaged_where_limits_are_looked_for_is_read_where_it_is_whole(server: Server) -> None:
    data = bytearray(ome())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.series[0].levels[1].pages[0]
        assert page is not None
        at, size = page.dataoffsets[0], page.databytecounts[0]
    data[at : at + size] = bytes(size)
    server.api().put(KEY, bytes(data))
    found = group(view(server.api()))

    assert "omero" not in found.attrs["ome"]
    assert np.array_equal(found["0"][0, :, 0], PIXELS)


@pytest.mark.real_data
def test_real_images_are_read_as_regions_are(http_ws: epista.Workspace, server: Server) -> None:
    for path in sorted((REAL / "images").glob("*.*")):
        img = http_ws.put_file(path.name, path)
        info = http_ws.image.info(img)
        found = group(view(server.api(), ref=path.name))
        for number, level in enumerate(info.levels):
            pixels = http_ws.image.read_region(img, 0, 0, level.width, level.height, level=number)
            assert np.array_equal(found[str(number)][0, :, 0], np.moveaxis(np.atleast_3d(pixels), -1, 0)), path.name
