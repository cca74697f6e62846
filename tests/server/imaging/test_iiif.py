"""Addresses of the IIIF Image API 3.0: what they ask for, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract.errors import InvalidRequestError
from epista.server.imaging import iiif
from epista.server.imaging.iiif import MAX_AREA, MAX_SIDE, Asked

WIDTH, HEIGHT = 300, 200


def asked(
    region: str = "full",
    size: str = "max",
    rotation: str = "0",
    name: str = "default.jpg",
    whole: tuple[int, int] = (WIDTH, HEIGHT),
) -> Asked:
    quality, _, format = name.rpartition(".")
    return iiif.parse(*whole, region=region, size=size, rotation=rotation, quality=quality, format=format)


@pytest.mark.parametrize(
    ("region", "found"),
    [
        ("full", (0, 0, 300, 200)),
        ("square", (50, 0, 200, 200)),
        ("10,20,30,40", (10, 20, 30, 40)),
        ("290,190,30,40", (290, 190, 10, 10)),
        ("pct:10,50,50,25", (30, 100, 150, 50)),
        ("pct:41.6,7.5,40,70", (124, 15, 120, 140)),
        ("pct:50,50,100,100", (150, 100, 150, 100)),
    ],
)
def test_a_region_is_cut_to_the_image(region: str, found: tuple[int, ...]) -> None:
    assert asked(region)[:4] == found


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ("max", (300, 200)),
        ("150,", (150, 100)),
        (",100", (150, 100)),
        ("30,90", (30, 90)),
        ("pct:10", (30, 20)),
        ("!90,90", (90, 60)),
        ("!300,900", (300, 200)),
        ("^600,", (600, 400)),
        ("^!900,400", (600, 400)),
        ("^pct:150", (450, 300)),
        ("^20,20", (20, 20)),
        ("1,", (1, 1)),
    ],
)
def test_a_size_is_worked_out(size: str, found: tuple[int, int]) -> None:
    assert asked(size=size)[4:6] == found


def test_a_strip_keeps_a_row() -> None:
    assert asked(size="10,", whole=(1000, 1))[4:6] == (10, 1)


def test_the_largest_picture_is_as_large_as_one_may_be() -> None:
    wide, high = asked(size="max", whole=(100_000, 50_000))[4:6]
    long = asked(size="max", whole=(1_000_000, 10))

    assert 0.99 * MAX_AREA < wide * high <= MAX_AREA
    assert abs(wide - 2 * high) <= 2
    assert (long.out_width, long.out_height) == (MAX_SIDE, 1)
    assert asked(size="^max", whole=(10, 10))[4:6] == (8192, 8192)


@pytest.mark.parametrize(
    "region", ["", "Full", "1,2,3", "1,2,3,4,5", "-1,0,5,5", "0,0,0,5", "300,0,5,5", "pct:0,0,0,5", "pct:-1,0,5,5", "１,2,3,4"]
)
def test_no_region_is_refused(region: str) -> None:
    with pytest.raises(InvalidRequestError):
        asked(region)


@pytest.mark.parametrize(
    "size",
    [
        "",
        "full",
        ",",
        "0,",
        ",0",
        "0,5",
        "301,",
        ",201",
        "pct:101",
        "pct:0",
        "pct:",
        "!5,",
        "!,5",
        "!301,201",
        "^",
        "^99999999,",
        "-5,",
        "5;5",
        "5,5,5",
    ],
)
def test_no_size_is_refused(size: str) -> None:
    with pytest.raises(InvalidRequestError):
        asked(size=size)


@pytest.mark.parametrize("rotation", ["", "45", "360", "-90", "90.0", "!", "!!90", "090"])
def test_no_rotation_is_refused(rotation: str) -> None:
    with pytest.raises(InvalidRequestError):
        asked(rotation=rotation)


@pytest.mark.parametrize("name", ["", "default", "default.", ".jpg", "default.tif", "native.jpg", "default.jpg.exe"])
def test_no_quality_or_format_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        asked(name=name)


def test_a_picture_is_mirrored_before_it_is_turned() -> None:
    assert (asked(rotation="!90").is_mirrored, asked(rotation="!90").rotation, asked(rotation="270").rotation) == (True, 90, 270)


_PARTS = st.text("0123456789,:.^!pctmaxfulsqre", max_size=24)


@given(_PARTS, _PARTS, st.integers(1, 2**31), st.integers(1, 2**31))
def test_any_text_is_a_picture_that_fits_or_refused(region: str, size: str, width: int, height: int) -> None:
    try:
        found = asked(region, size, whole=(width, height))
    except InvalidRequestError:
        return
    assert 0 <= found.x < found.x + found.width <= width
    assert 0 <= found.y < found.y + found.height <= height
    assert 0 < found.out_width <= MAX_SIDE
    assert 0 < found.out_height <= MAX_SIDE
    assert found.out_width * found.out_height <= MAX_AREA


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.integers(1, 5000), st.integers(1, 5000))
def test_every_tile_and_size_that_is_announced_is_drawn(width: int, height: int, across: int, down: int) -> None:
    info = iiif.info("", width, height, (across, down))
    [tiles] = info["tiles"]
    for factor in tiles["scaleFactors"]:
        # As OpenSeadragon asks for the last tile of each scale.
        wide, high = tiles["width"] * factor, tiles["height"] * factor
        x, y = (width - 1) // wide * wide, (height - 1) // high * high
        w, h = min(wide, width - x), min(high, height - y)
        found = asked(f"{x},{y},{w},{h}", f"{-(-w // factor)},{-(-h // factor)}", whole=(width, height))
        assert found.out_width <= tiles["width"] <= 1024
        assert found.out_height <= tiles["height"] <= 1024
    assert tiles["scaleFactors"][-1] * tiles["width"] >= width
    for size in info["sizes"]:
        assert asked(size=f"{size['width']},{size['height']}", whole=(width, height))
