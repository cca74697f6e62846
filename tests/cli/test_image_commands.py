"""Images in a shell: what is in one, and parts of it as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.cli.conftest import Run
from tests.makers import Server
from tests.server.test_images import KEY, PIXELS, ome


@pytest.fixture
def cells(server: Server) -> dict[str, Any]:
    made: dict[str, Any] = server.api().put(KEY, ome())
    return made


def test_get_shows_geometry_and_channels(run: Run, cells: dict[str, Any]) -> None:
    shown = run("get", KEY)

    assert shown.code == 0
    at = next(number for number, line in enumerate(shown.lines) if line.startswith("image"))
    assert [line.split("  ", 1)[1].strip() for line in shown.lines[at:]] == [
        "OME-TIFF",
        "400 x 300 pixels, uint16, 0.5 x 0.5 µm each",
        "level 0    400 x 300  1/1",
        "level 1    200 x 150  1/2",
        "channel 0  DAPI",
        "channel 1  GFP",
    ]


def test_get_tells_programs_too(run: Run, cells: dict[str, Any]) -> None:
    told = run("get", KEY, "--json").json

    assert (told["key"], told["version"]) == (KEY, cells["version"])
    assert [channel["name"] for channel in told["image"]["scenes"][0]["channels"]] == ["DAPI", "GFP"]
    assert [level["width"] for level in told["image"]["scenes"][0]["levels"]] == [400, 200]


def test_an_image_that_cannot_be_read_is_shown_all_the_same(run: Run, server: Server) -> None:
    server.api().put("EXP-1/a.tif", b"II*\0noise")

    assert "not known: " in run("get", "EXP-1/a.tif").out
    assert "image" not in run("get", "EXP-1/a.tif", "--json").json


@pytest.mark.parametrize("name", ["out.tif", "out.npy"])
def test_a_region_is_pulled_with_its_values(run: Run, cells: dict[str, Any], tmp_path: Path, name: str) -> None:
    done = run("pull", KEY, "--region", "100,50,20,10", "--level", "1", "--channel", "GFP", name)

    assert done.out == f"{name}\n"
    pulled = np.load(tmp_path / name) if name.endswith("npy") else tifffile.imread(tmp_path / name)
    assert np.array_equal(pulled, PIXELS[1, 50:70:2, 100:140:2])


def test_a_region_of_ome_tiff_knows_its_channels_and_how_large_pixels_are(
    run: Run, cells: dict[str, Any], tmp_path: Path
) -> None:
    assert run("pull", KEY, "--level", "1", "out.ome.tif").code == 0

    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        xml, pixels = file.ome_metadata or "", file.asarray()
    assert np.array_equal(pixels, PIXELS[:, ::2, ::2])
    assert all(part in xml for part in ('Name="DAPI"', 'Name="GFP"', 'PhysicalSizeX="1.0"'))


def test_a_png_is_what_one_sees(run: Run, cells: dict[str, Any], tmp_path: Path) -> None:
    run("pull", KEY, "--region", "0,0,64,32", "--channel", "DAPI", "blue.png")
    run("pull", KEY, "--region", "390,290,64,32", "--level", "0", "edge.png")
    run("pull", KEY, "--region", "0,0,9999,9999", "--level", "1", "level.png")

    with Image.open(tmp_path / "blue.png") as picture:
        blue = np.asarray(picture)
    assert blue.shape == (32, 64, 3)
    assert (blue[..., :2].max(), blue[..., 2].max() > 200) == (0, True)
    # Brighter where there is more.
    assert np.corrcoef(blue[..., 2].ravel(), PIXELS[0, :32, :64].ravel())[0, 1] > 0.99
    for name, size in (("edge.png", (10, 10)), ("level.png", (200, 150))):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == size


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--region", "1,2,3", "out.png"], 2, "four whole numbers"),
        (["--region", "0,0,9,9", "out.jpg"], 1, "does not say what it is to be"),
        (["--region", "0,0,9,9"], 1, "does not say what it is to be"),
        (["--level", "7", "out.png"], 1, "no level 7"),
        (["--level", "0", "--scene", "2", "out.png"], 1, "no scene 2"),
        (["--region", "400,0,9,9", "out.png"], 1, "not in the image"),
        (["--region", "0,0,9,9", "--channel", "Cy5", "out.png"], 1, "no channel 'Cy5'"),
        (["--region", "0,0,9,9", "--scene", "2", "out.png"], 1, "no scene 2"),
        (["--region", "0,0,9,9", "--channel", "Cy5", "out.npy"], 1, "no channel 'Cy5'"),
    ],
    ids=["numbers", "extension", "folder", "level", "scene", "outside", "channel", "scene-of-png", "channel-of-npy"],
)
def test_what_is_not_there_is_said_to_be_so(
    run: Run, cells: dict[str, Any], tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    done = run("pull", KEY, *words)

    assert (done.code, message in done.err) == (code, True), done.err
    assert list(tmp_path.glob("out*")) == []
