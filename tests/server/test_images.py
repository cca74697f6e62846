"""Images: regions and small pictures, in sessions that can do no more than their makers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import requests
import tifffile
from PIL import Image

import epista
from epista.contract.errors import LinkedFileChangedError
from epista.server.access import tiles
from epista.server.config import Config
from epista.server.engines import image_files
from epista.server.engines.image_files import Place, Region
from epista.server.engines.images import ImageReader
from epista.server.services import images
from tests.makers import Api, Clock, Server
from tests.server.imaging.test_omezarr import PIXELS as STACK
from tests.server.imaging.test_omezarr import written
from tests.server.imaging.test_slides import expected, ndpi, scn

KEY = "EXP-1/cells.ome.tif"

PIXELS = np.random.default_rng(1).integers(0, 4000, (2, 300, 400), dtype=np.uint16)


def ome(pixels: Any = PIXELS, **given: Any) -> bytes:
    """Return a pyramid of two levels, with two channels that have names."""
    out = io.BytesIO()
    options: dict[str, Any] = {"tile": (64, 64), "compression": "zlib"} | given
    with tifffile.TiffWriter(out, ome=True) as writer:
        metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        writer.write(pixels, subifds=1, metadata=metadata, photometric="minisblack", **options)
        writer.write(pixels[:, ::2, ::2], subfiletype=1, **options)
    return out.getvalue()


@pytest.fixture
def asset(server: Server) -> dict[str, Any]:
    made: dict[str, Any] = server.api().put(KEY, ome())
    return made


@pytest.fixture
def maker(server: Server) -> Api:
    """Somebody who may read one experiment."""
    return server.member("ada", "viewer", experiments=["EXP-1"])


def opened(api: Api, ref: str = KEY, **given: Any) -> str:
    """Open a session and return where its addresses begin."""
    token = api.ok(api.post("~/tiles", ref=ref, **given))["token"]
    return f"{api.url}/tiles/{token}"


def ask(address: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask as somebody who has nothing but the address."""
    return requests.request(method, address, headers=headers, timeout=60)


def refused(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestVerbs:
    def test_an_image_is_described(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        found = http_ws.image.info(KEY)

        assert (found.format, found.width, found.height, found.dtype) == ("OME-TIFF", 400, 300, "uint16")
        assert [channel.name for channel in found.channels] == ["DAPI", "GFP"]
        assert [(level.width, level.height, level.downsample) for level in found.levels] == [
            (400, 300, (1.0, 1.0)),
            (200, 150, (2.0, 2.0)),
        ]
        assert found.pixel_size_um == (0.5, 0.5)
        assert found.version == asset["version"]
        assert repr(found).splitlines()[:2] == ["OME-TIFF", "400 x 300 pixels, uint16, 0.5 x 0.5 µm each"]

    def test_a_region_has_the_pixels_of_the_file(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        both = http_ws.image.read_region(KEY, 100, 50, 130, 70)
        one = http_ws.image.read_region(KEY, 100, 50, 20, 10, level=1, channels=["gfp"])
        turned = http_ws.image.read_region(http_ws.get(KEY), 390, 290, 50, 50, channels=[1, "DAPI"])

        assert both.dtype == np.uint16
        assert np.array_equal(both, np.moveaxis(PIXELS[:, 50:120, 100:230], 0, -1))
        assert np.array_equal(one, PIXELS[1, 50:70:2, 100:140:2])
        assert np.array_equal(turned, np.moveaxis(PIXELS[::-1, 290:, 390:], 0, -1))

    def test_a_number_is_a_number_and_a_text_a_name_where_channels_are_called_by_numbers(
        self, server: Server, http_ws: epista.Workspace
    ) -> None:
        out = io.BytesIO()
        metadata = {"axes": "CYX", "Channel": {"Name": ["1", "0"]}}
        tifffile.imwrite(out, PIXELS, ome=True, photometric="minisblack", metadata=metadata)
        server.api().put(KEY, out.getvalue())

        for asked, number in ((0, 0), (1, 1), ("1", 0), ("0", 1)):
            assert np.array_equal(http_ws.image.read_region(KEY, 0, 0, 9, 9, channels=[asked]), PIXELS[number, :9, :9])

    def test_an_older_version_is_read_as_it_was(self, server: Server, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        server.api().put(KEY, ome(PIXELS[:, ::-1]))

        assert http_ws.image.read_region(KEY, 0, 0, 1, 1, channels=[0], version=1)[0, 0] == PIXELS[0, 0, 0]
        assert http_ws.image.read_region(KEY, 0, 0, 1, 1, channels=[0])[0, 0] == PIXELS[0, -1, 0]

    def test_a_thumbnail_is_as_large_as_it_may_be(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        small = http_ws.image.thumbnail(KEY, max_px=100)

        assert small.media_type == "image/png"
        assert small.to_pil().size == (100, 75)
        assert http_ws.image.thumbnail(KEY).to_pil().size == (400, 300)

    def test_a_picture_is_drawn_as_the_viewer_draws_it(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        both = np.asarray(http_ws.image.picture(KEY, 100, 50, 130, 70).to_pil())
        green = np.asarray(http_ws.image.picture(KEY, 390, 290, 99, 99, channels=["gfp"]).to_pil())
        level = http_ws.image.picture(KEY, 0, 0, 4096, 4096, level=1, channels=[0]).to_pil()

        assert both.shape == (70, 130, 3)
        assert all(both[..., at].max() for at in range(3))
        shown = np.corrcoef(both[..., 2].ravel(), PIXELS[0, 50:120, 100:230].ravel())[0, 1]
        assert shown > 0.99
        assert green.shape == (10, 10, 3)
        assert level.size == (200, 150)

    def test_an_image_of_an_embedded_lab_is_read_too(self, embedded_ws: epista.Workspace, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_bytes(ome())
        made = embedded_ws.put_file("images/a.ome.tif", tmp_path / "a.tif")

        assert np.array_equal(embedded_ws.image.read_region(made, 0, 0, 9, 9, channels=[0]), PIXELS[0, :9, :9])

    def test_the_images_of_the_current_workspace_are_those_of_the_module(
        self, http_ws: epista.Workspace, asset: dict[str, Any], tmp_path: Path
    ) -> None:
        epista.use(http_ws)
        try:
            [img] = epista.assets(experiment="EXP-1", kind="IMAGE")

            assert epista.image.info(img).width == 400
            assert epista.image.read_region(img, 0, 0, 2048, 2048, level=1, channels=["DAPI"]).shape == (150, 200)
            assert epista.image.thumbnail(img, max_px=40).to_pil().size == (40, 30)
            assert "thumbnail" in dir(epista.image)
        finally:
            epista.use(None)

    def test_what_was_read_is_lineage(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.image.read_region(KEY, 0, 0, 9, 9)

        assert [one.key for one in http_ws.put("EXP-1/n.json", {}).lineage.inputs] == [KEY]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"x": 400}, "not in the image"),
            ({"width": 0}, "has none"),
            ({"level": 2}, "no level 2"),
            ({"channels": ["Cy5"]}, "no channel 'Cy5'"),
            ({"z": 1}, "no z 1"),
            ({"scene": 7}, "no scene 7"),
            ({"scene": -1}, "no scene -1"),
            ({"width": 2**20, "height": 2**20, "channels": [99999]}, "no channel 99999"),
        ],
        ids=lambda one: one if isinstance(one, str) else None,
    )
    def test_what_is_not_there_is_said_to_be_so(
        self, http_ws: epista.Workspace, asset: dict[str, Any], changed: dict[str, Any], message: str
    ) -> None:
        wanted = {"x": 0, "y": 0, "width": 9, "height": 9} | changed

        with pytest.raises(epista.ValidationError, match=message):
            http_ws.image.read_region(KEY, **wanted)


ALL_OF_IT = """
import sys
for package in ("tifffile", "imagecodecs", "zarr", "openslide", "pandas", "pyarrow"):
    sys.modules[package] = None  # as if it were not installed
import epista
with epista.Workspace(sys.argv[1], token=sys.stdin.read(), workspace="lab") as ws:
    img = ws.get(sys.argv[2])
    assert ws.image.info(img).width == 400
    assert ws.image.read_region(img, 0, 0, 9, 9, channels=["GFP"]).shape == (9, 9)
    assert ws.image.thumbnail(img, max_px=40).to_pil().size == (40, 30)
    assert ws.image.picture(img, 0, 0, 9, 9).to_pil().size == (9, 9)
    assert ws.image.annotations(img)["features"] == []
    assert ws.image.url(img)
print(*sorted({name.partition(".")[0] for name, module in sys.modules.items() if module and getattr(module, "__file__", None)}))
print(*(name for name in sys.modules if name.startswith("epista.server")))
"""


def test_a_client_needs_numpy_and_pillow_and_none_of_what_reads_files(server: Server, asset: dict[str, Any]) -> None:
    words = [sys.executable, "-c", ALL_OF_IT, server.url, KEY]

    done = subprocess.run(words, input=server.manager, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    packages, of_the_server = done.stdout.split("\n")[:2]
    assert {"numpy", "PIL"} <= set(packages.split())
    assert not {"tifffile", "imagecodecs", "zarr", "openslide", "pandas", "pyarrow", "scipy"} & set(packages.split())
    assert of_the_server == ""


class TestAnnotations:
    POINT: ClassVar[dict[str, Any]] = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}}

    def test_rois_of_the_file_and_geojson_assets_come_together(self, server: Server, http_ws: epista.Workspace) -> None:
        server.api().put(KEY, _with_roi())
        img = http_ws.get(KEY)
        drawn = http_ws.put("EXP-1/rois.geojson", [self.POINT], inputs=[img])

        found = http_ws.image.annotations(img)

        assert (found["type"], found["warnings"]) == ("FeatureCollection", [])
        assert [one["properties"]["epista"] for one in found["features"]] == [
            {"source": "file", "roi": "ROI:0", "shape": "Rectangle"},
            {
                "source": "asset",
                "key": "EXP-1/rois.geojson",
                "number": 1,
                "version": drawn.version,
                "drawn_on": {"version": img.version, "number": 1},
            },
        ]
        assert found["features"][0]["geometry"]["coordinates"] == [[[1, 2], [5, 2], [5, 5], [1, 5], [1, 2]]]

    def test_what_was_drawn_on_other_pixels_is_told_and_not_shown(self, http_ws: epista.Workspace, server: Server) -> None:
        server.api().put(KEY, ome())
        http_ws.put("EXP-1/rois.geojson", self.POINT, inputs=[KEY])
        server.api().put(KEY, ome(PIXELS[:, ::-1]))

        found = http_ws.image.annotations(KEY)

        assert found["features"] == []
        assert found["warnings"] == ["'EXP-1/rois.geojson' is left out: it was drawn on version 1, which has other bytes"]
        assert len(http_ws.image.annotations(KEY, version=1)["features"]) == 1

    def test_new_metadata_and_a_move_change_nothing(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.put("EXP-1/rois.geojson", self.POINT, inputs=[KEY])
        http_ws.set_meta(KEY, {"stain": "DAPI"})
        http_ws.set_meta("EXP-1/rois.geojson", {"by": "ada"})
        http_ws.move("EXP-1/rois.geojson", "EXP-1/drawn/rois.geojson")
        http_ws.move(KEY, "EXP-1/slides/cells.ome.tif")

        [found] = http_ws.image.annotations("EXP-1/slides/cells.ome.tif")["features"]

        assert found["properties"]["epista"]["key"] == "EXP-1/drawn/rois.geojson"

    def test_only_the_current_version_of_what_is_there_counts(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.put("EXP-1/old.geojson", self.POINT, inputs=[KEY])
        http_ws.put("EXP-1/old.geojson", [self.POINT, self.POINT], inputs=[])
        http_ws.put("EXP-1/gone.geojson", [self.POINT], inputs=[KEY])
        http_ws.delete("EXP-1/gone.geojson")
        http_ws.put("EXP-1/measured.json", [self.POINT], inputs=[KEY])

        assert http_ws.image.annotations(KEY)["features"] == []

    def test_what_the_maker_may_not_read_is_not_there(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        drawn = json.dumps([self.POINT]).encode()
        for key in ("EXP-1/mine.geojson", "EXP-2/others.geojson"):
            digest = server.api().upload(drawn + b" " * len(key))
            server.api().ok(server.api().post("~/objects", objects=[{"key": key, "sha256": digest}], inputs=[asset["version"]]))

        answer = ask(f"{opened(maker)}/annotations")

        assert answer.headers["content-type"] == "application/geo+json"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert [one["properties"]["epista"]["key"] for one in answer.json()["features"]] == ["EXP-1/mine.geojson"]
        assert ask(f"{opened(maker)}/annotations", **{"If-None-Match": answer.headers["etag"]}).status_code == 304

    def test_one_file_that_is_no_geojson_costs_no_other(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.put("EXP-1/good.geojson", self.POINT, inputs=[KEY])
        http_ws.put("EXP-1/bad.geojson", {"a": 1}, inputs=[KEY])

        found = http_ws.image.annotations(KEY)

        assert len(found["features"]) == 1
        assert found["warnings"] == [
            "'EXP-1/bad.geojson' is left out: it is no GeoJSON: neither a FeatureCollection, nor features, nor a geometry"
        ]

    def test_what_is_more_than_one_may_have_is_told(
        self, http_ws: epista.Workspace, asset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            http_ws.put(f"EXP-1/{number}.geojson", [self.POINT] * (number + 1), inputs=[KEY])

        monkeypatch.setattr(images, "MOST_ANNOTATIONS", 2)
        newest = http_ws.image.annotations(KEY)
        monkeypatch.setattr(image_files, "MAX_FEATURES_BYTES", 200)
        small = http_ws.image.annotations(KEY)
        monkeypatch.setattr(image_files, "MAX_FEATURES_BYTES", 10_000)
        monkeypatch.setattr(images, "MAX_ANNOTATION_BYTES", 800)
        part = http_ws.image.annotations(KEY)

        assert (len(newest["features"]), newest["warnings"]) == (
            5,
            ["more than 2 assets were drawn on the image; the newest are here"],
        )
        assert (len(small["features"]), len(small["warnings"])) == (2, 2)
        assert "'EXP-1/2.geojson' is left out: it has" in small["warnings"][1]
        assert "more than 0 MiB were drawn on the image; a part of it is left out" in part["warnings"]
        assert len(part["features"]) < 5

    def test_reading_them_is_in_the_log(self, server: Server, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        drawn = http_ws.put("EXP-1/rois.geojson", self.POINT, inputs=[KEY])
        http_ws.image.annotations(KEY)

        entries = server.api().ok(server.api().get("~/audit", action="images.annotations"))["rows"]

        assert [entry["details"]["annotations"] for entry in entries] == [[drawn.version]]

    def test_annotations_that_were_read_are_lineage(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.put("EXP-1/rois.geojson", self.POINT, inputs=[KEY])
        http_ws.image.annotations(KEY)

        made = http_ws.put("EXP-1/count.json", {"cells": 1})

        assert [one.key for one in made.lineage.inputs] == [KEY, "EXP-1/rois.geojson"]

    def test_a_scene_that_is_not_there_is_said_to_be_so(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        with pytest.raises(epista.InvalidRequestError, match="no scene 3"):
            http_ws.image.annotations(KEY, scene=3)


def _with_roi() -> bytes:
    """Return an OME-TIFF with a ROI, which tifffile does not write."""
    data = ome()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        xml = file.ome_metadata
    assert xml
    roi = '<ROI ID="ROI:0"><Union><Rectangle ID="Shape:0" X="1" Y="2" Width="4" Height="3"/></Union></ROI></OME>'
    out = io.BytesIO(data)
    with tifffile.TiffFile(out, mode="r+") as file:
        file.pages.first.tags["ImageDescription"].overwrite(xml.replace("</OME>", roi).encode())
    return out.getvalue()


def plain(height: int = 2100, width: int = 2300) -> tuple[Any, bytes]:
    """Return a large image, and as a file without smaller levels."""
    pixels = np.random.default_rng(5).integers(0, 60_000, (height, width), dtype=np.uint16)
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, rowsperstrip=64)
    return pixels, out.getvalue()


def halved(pixels: Any) -> Any:
    four = pixels.reshape(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, 2).astype(np.uint32).sum(axis=(1, 3))
    return ((four + 2) // 4).astype(pixels.dtype)


def test_an_ome_zarr_in_one_file_is_an_image(http_ws: epista.Workspace, server: Server, tmp_path: Path) -> None:
    server.api().put("EXP-1/img.ozx", written(tmp_path / "img"))

    assert http_ws.get("EXP-1/img.ozx").kind == "IMAGE"
    assert http_ws.image.info("EXP-1/img.ozx").format == "OME-Zarr 0.5"
    found = http_ws.image.read_region("EXP-1/img.ozx", 10, 20, 30, 40, level=0, channels=[1], z=2, t=1)
    assert np.array_equal(found, STACK[1, 1, 2, 20:60, 10:40])
    assert http_ws.image.thumbnail("EXP-1/img.ozx", max_px=60).to_pil().size == (60, 46)


def test_a_slide_that_lies_among_others_is_read_as_a_file_of_its_own(
    http_ws: epista.Workspace, server: Server, tmp_path: Path
) -> None:
    for name, write in (("a.ndpi", ndpi), ("b.scn", scn)):
        path = write(tmp_path / name)
        server.api().put(f"EXP-1/{name}", path.read_bytes())

        assert http_ws.image.info(f"EXP-1/{name}").levels[0].width >= 1400
        found = http_ws.image.read_region(f"EXP-1/{name}", 20, 30, 60, 50, level=1)
        assert np.array_equal(found, expected(path, 1)[15:65, 10:70])
        assert http_ws.image.thumbnail(f"EXP-1/{name}", max_px=60).to_pil().size[0] == 60


def test_the_small_picture_of_a_mrxs_slide_is_not_taken_for_it(http_ws: epista.Workspace) -> None:
    out = io.BytesIO()
    Image.new("RGB", (50, 50)).save(out, "JPEG")
    http_ws.put("EXP-1/a.mrxs", out.getvalue())

    with pytest.raises(epista.UnreadableImageError, match="folder of files"):
        http_ws.image.info("EXP-1/a.mrxs")


class TestSmallerLevels:
    def test_a_large_plain_image_has_them(self, server: Server, http_ws: epista.Workspace) -> None:
        pixels, data = plain()
        server.api().put("a.tif", data)

        sizes = [(level.width, level.height) for level in http_ws.image.info("a.tif").levels]
        assert sizes == [(2300, 2100), (1150, 1050), (575, 525), (288, 263)]
        assert np.array_equal(http_ws.image.read_region("a.tif", 0, 0, 1150, 1050, level=1), halved(pixels))
        assert np.array_equal(http_ws.image.read_region("a.tif", 40, 80, 99, 99, level=2), halved(halved(pixels))[20:119, 10:109])
        assert http_ws.image.thumbnail("a.tif", max_px=300).to_pil().size == (300, 274)

    def test_they_are_made_once_and_kept_by_content(self, server: Server, http_ws: epista.Workspace) -> None:
        _, data = plain()
        made = [server.api().put(key, data) for key in ("a.tif", "b.tif")]

        def look(number: int) -> Any:
            return http_ws.image.read_region("ab"[number % 2] + ".tif", 0, 0, 50, 50, level=3)

        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(look, range(6)))

        kept = [path for path in server.folder.rglob("*-levels-*") if made[0]["sha256"] in path.name]
        assert len(kept) == 1
        before = kept[0].stat().st_mtime_ns, kept[0].stat().st_ino
        look(0)
        assert kept[0].stat().st_ino == before[1]
        assert all(np.array_equal(one, found[0]) for one in found)

    def test_a_damaged_image_has_none_that_are_wrong(self, server: Server, http_ws: epista.Workspace) -> None:
        pixels, data = plain()
        server.api().put("a.tif", data[: len(data) // 2])

        with pytest.raises(epista.UnreadableImageError, match="cut"):
            http_ws.image.read_region("a.tif", 0, 0, 50, 50, level=2)
        assert np.array_equal(http_ws.image.read_region("a.tif", 0, 0, 50, 50), pixels[:50, :50])


class TestWithoutRoom:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        return Config(lab=str(tmp_path / "lab-of-the-server"), table_cache_bytes=1_000_000)

    def test_smaller_levels_that_cannot_be_kept_are_not_made(self, server: Server, http_ws: epista.Workspace) -> None:
        pixels, data = plain()
        server.api().put("a.tif", data)

        with pytest.raises(epista.TooLargeError, match="keeps at most 1,000,000"):
            http_ws.image.read_region("a.tif", 0, 0, 50, 50, level=2)
        assert np.array_equal(http_ws.image.read_region("a.tif", 0, 0, 50, 50), pixels[:50, :50])


class TestBroken:
    def test_what_is_no_image_is_unreadable(self, http_ws: epista.Workspace) -> None:
        http_ws.put("EXP-1/a.txt", "a\n1\n")

        with pytest.raises(epista.UnreadableImageError, match="no image"):
            http_ws.image.info("EXP-1/a.txt")

    def test_a_damaged_tile_is_told_and_costs_no_other(self, server: Server, http_ws: epista.Workspace) -> None:
        data = bytearray(ome())
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            at, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        data[at : at + size] = bytes(size)
        server.api().put(KEY, bytes(data))

        with pytest.raises(epista.UnreadableImageError, match="tile"):
            http_ws.image.read_region(KEY, 0, 0, 9, 9, channels=[0])
        assert np.array_equal(http_ws.image.read_region(KEY, 64, 64, 64, 64, channels=[0]), PIXELS[0, 64:128, 64:128])

    def test_a_linked_file_that_changed_is_not_read(
        self, http_ws: epista.Workspace, asset: dict[str, Any], tmp_path: Path
    ) -> None:

        path = tmp_path / "a.tif"
        path.write_bytes(ome())
        found = path.stat()
        place = Place(path=os.fsencode(path), size=found.st_size, stamp=(found.st_ino, found.st_size, found.st_mtime_ns))
        reader = ImageReader(children=1)
        try:
            index = reader.index(place, "a")
            assert reader.read(place, "a", Region(x=0, y=0, width=1, height=1), lambda: index)
            os.utime(path, ns=(0, 0))

            with pytest.raises(LinkedFileChangedError):
                reader.read(place, "a", Region(x=0, y=0, width=1, height=1), lambda: index)
        finally:
            reader.close()


class TestSessions:
    def test_the_address_is_all_that_is_needed(self, maker: Api, asset: dict[str, Any]) -> None:
        address = opened(maker)

        answer = ask(f"{address}/region?x=0&y=0&width=2&height=2&channels=GFP")

        assert answer.status_code == 200
        assert np.array_equal(np.load(io.BytesIO(answer.content)), PIXELS[1, :2, :2])
        with Image.open(io.BytesIO(ask(f"{address}/thumbnail?max_px=50").content)) as picture:
            assert picture.size == (50, 38)

    def test_answers_are_kept_by_the_browser_alone_and_told_to_no_other_site(self, maker: Api, asset: dict[str, Any]) -> None:
        address = f"{opened(maker)}/thumbnail?max_px=50"

        headers = ask(address, Origin="https://viewer.example").headers
        again = ask(f"{opened(maker)}/thumbnail?max_px=50", **{"If-None-Match": headers["etag"]})

        assert headers["cache-control"] == "private, max-age=31536000, immutable"
        assert headers["access-control-allow-origin"] == "*"
        assert headers["referrer-policy"] == "no-referrer"
        assert (again.status_code, again.content) == (304, b"")
        assert ask(address + "1", **{"If-None-Match": headers["etag"]}).status_code == 200
        head = ask(address, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(ask(address).content))

    def test_pages_of_other_sites_may_ask_whether_they_may_ask(self, maker: Api, asset: dict[str, Any]) -> None:
        wanted = {"Origin": "https://viewer.example", "Access-Control-Request-Headers": "accept"}

        for address in ("info", "rendering", f"iiif/{asset['version']}/info.json"):
            asked = ask(f"{opened(maker)}/{address}", "OPTIONS", **wanted)

            assert asked.status_code == 204
            assert "accept" in asked.headers["access-control-allow-headers"]
            assert asked.headers["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize("what", ["info", "rendering"])
    def test_what_is_said_of_an_image_has_a_tag(self, maker: Api, asset: dict[str, Any], what: str) -> None:
        first = ask(f"{opened(maker)}/{what}", Authorization="Bearer nonsense")

        again = ask(f"{opened(maker)}/{what}", **{"If-None-Match": first.headers["etag"]})

        assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
        assert (again.status_code, again.content) == (304, b"")

    def test_a_session_ends_and_a_live_one_buys_the_next(self, maker: Api, asset: dict[str, Any], clock: Clock) -> None:
        address = opened(maker)
        clock.ahead_seconds = tiles.SECONDS - 5
        renewed = ask(f"{address}/renew", "POST").json()
        clock.ahead_seconds = tiles.SECONDS + 5

        assert refused(ask(f"{address}/info")) == (403, "forbidden")
        assert refused(ask(f"{address}/renew", "POST")) == (403, "forbidden")
        assert ask(f"{maker.url}/tiles/{renewed['token']}/info").status_code == 200

    def test_no_session_is_renewed_for_ever(self, maker: Api, asset: dict[str, Any], clock: Clock) -> None:
        token = maker.ok(maker.post("~/tiles", ref=KEY))
        first = token["renew_until"]
        while clock.ahead_seconds < tiles.RENEWED_SECONDS - tiles.SECONDS:
            clock.ahead_seconds += tiles.SECONDS - 10
            token = maker.ok(maker.post(f"/tiles/{token['token']}/renew"))
            assert token["renew_until"] == first
        clock.ahead_seconds = tiles.RENEWED_SECONDS + 5

        assert refused(maker.post(f"/tiles/{token['token']}/renew")) == (403, "forbidden")

    @pytest.mark.parametrize("change", ["removed", "restricted", "revoked", "deleted"])
    def test_a_right_that_ended_ends_the_session_within_half_a_minute(
        self, server: Server, maker: Api, asset: dict[str, Any], clock: Clock, change: str
    ) -> None:
        address, admin = opened(maker), server.api()
        assert ask(f"{address}/info").status_code == 200
        match change:
            case "removed":
                admin.ok(admin.call("DELETE", "~/members/ada"))
            case "restricted":
                admin.ok(admin.post("~/members", user="ada", role="viewer", experiments=["EXP-2"]))
            case "revoked":
                maker.ok(maker.call("DELETE", f"/tokens/{maker.ok(maker.get('/me'))['token']}"))
            case _:
                admin.ok(admin.post("~/delete", key=KEY))

        clock.ahead_seconds = 31

        for path in ("info", "thumbnail", "region?x=0&y=0&width=1&height=1"):
            assert ask(f"{address}/{path}").status_code == (403 if change == "revoked" else 404)
        assert ask(f"{address}/renew", "POST").status_code in (403, 404)

    def test_only_what_one_may_read_is_opened(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        server.api().put("EXP-2/secret.tif", ome())

        assert refused(maker.post("~/tiles", ref="EXP-2/secret.tif")) == refused(maker.post("~/tiles", ref="EXP-2/none.tif"))

    def test_a_forged_session_shows_nothing(self, maker: Api, asset: dict[str, Any]) -> None:
        address = opened(maker)
        token = address.rpartition("/")[2]
        link = maker.ok(maker.post("~/links", version=asset["version"]))["url"].split("/")[-2]
        said = token.split(".")
        longer = ".".join([*said[:4], str(int(said[4]) + 9999), *said[5:]])

        for forged in (token[:-2] + "xx", longer, link, "x", "a.b.c.d.1.2.e"):
            assert refused(ask(f"{maker.url}/tiles/{forged}/info")) == (403, "forbidden")
        assert Api(maker.url, token).get("/me").status_code == 401

    def test_a_rotated_key_lets_live_sessions_end_by_themselves_or_ends_them_all(
        self, server: Server, maker: Api, asset: dict[str, Any], clock: Clock
    ) -> None:
        address, admin = opened(maker), server.api()
        admin.ok(admin.post("/lab/signing-keys", retire_all=False))
        clock.ahead_seconds = 60
        assert ask(f"{address}/info").status_code == 200

        admin.ok(admin.post("/lab/signing-keys", retire_all=True))
        clock.ahead_seconds = 120

        assert ask(f"{address}/info").status_code == 403

    def test_opening_is_audited_and_tokens_are_in_no_log(
        self, server: Server, maker: Api, asset: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        token = opened(maker).rpartition("/")[2]
        ask(f"{maker.url}/tiles/{token}/info")
        ask(f"{maker.url}/tiles/{token}/region?x=-1&y=0&width=1&height=1")

        rows = server.api().get("~/audit").text

        assert "images.open" in rows
        assert token not in rows
        assert token not in caplog.text

    def test_the_client_renews_in_time_and_opens_anew_where_it_must(
        self, http_ws: epista.Workspace, asset: dict[str, Any], server: Server
    ) -> None:
        http_ws.image.info(KEY)
        admin = server.api()
        admin.ok(admin.post("/lab/signing-keys", retire_all=True))

        # The key is gone, and with it the session, of which the client does not know.
        assert http_ws.image.info(KEY).width == 400
