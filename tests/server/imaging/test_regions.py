"""What may be asked of an image: numpy slicing says what comes back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epista.contract.errors import ValidationError
from epista.server.imaging import image as images
from epista.server.imaging.cache import TileCache
from epista.server.imaging.image import Image, open_image
from tests.server.imaging.makers import HEIGHT, WIDTH, Memory, planes, pyramid


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pyramid(tmp_path_factory.mktemp("image") / "a.ome.tif", compression="zlib")


@pytest.fixture(scope="module")
def image(path: Path) -> Image:
    return open_image(Memory(path.read_bytes()))


@pytest.fixture(scope="module")
def levels(path: Path) -> list[NDArray[Any]]:
    return [planes(path, level=level)[0, 0] for level in range(3)]


@given(
    x=st.integers(0, WIDTH - 1),
    y=st.integers(0, HEIGHT - 1),
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    level=st.integers(0, 2),
    channels=st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_a_region_is_a_slice_that_begins_at_its_origin_in_level_0(
    image: Image,
    levels: list[NDArray[Any]],
    x: int,
    y: int,
    width: int,
    height: int,
    level: int,
    channels: list[int] | None,
) -> None:
    region = image.read_region(x, y, width, height, level=level, channels=channels)

    left, top = x // 2**level, y // 2**level
    expected = levels[level][top : top + height, left : left + width][..., channels or range(4)]
    assert region.shape == (expected.shape[:2] if len(channels or range(4)) == 1 else expected.shape)
    np.testing.assert_array_equal(region.reshape(expected.shape), expected)


def test_channels_go_by_number_or_name_and_by_case_only_where_two_differ_in_it(image: Image) -> None:
    def read(*channels: int | str) -> NDArray[Any]:
        return image.read_region(0, 0, 9, 9, channels=channels)

    np.testing.assert_array_equal(read("DAPI"), read(0))
    np.testing.assert_array_equal(read("dapi"), read(2))
    np.testing.assert_array_equal(read("gfp"), read(1))
    np.testing.assert_array_equal(read("Cy5", 0), read(3, 0))
    with pytest.raises(ValidationError, match=r"'Dapi' \(several\)"):
        read("Dapi")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"x": WIDTH}, r"\(300, 0\) is not in the image, which has 300 x 200 pixels"),
        ({"y": -1}, r"\(0, -1\) is not in the image"),
        ({"width": 0}, "a region of 0 x 10 pixels has none"),
        ({"height": -3}, "a region of 10 x -3 pixels has none"),
        ({"level": 3}, "there is no level 3; 0 to 2 exist"),
        ({"z": 1}, "there is no z 1; only 0 exists"),
        ({"t": -1}, "there is no t -1"),
        ({"scene": 1}, "there is no scene 1"),
        ({"channels": [4]}, "no channel 4; there are 4: 0 'DAPI', 1 'GFP', 2 'dapi', 3 'Cy5'"),
        ({"channels": ["Cy7", "GFP", "Cy9"]}, "no channel 'Cy7', 'Cy9'; there are 4"),
        ({"channels": []}, "no channel was asked for"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(image: Image, asked: dict[str, Any], message: str) -> None:
    region = {"x": 0, "y": 0, "width": 10, "height": 10} | asked

    with pytest.raises(ValidationError, match=message) as caught:
        image.read_region(**region)

    assert [violation["path"] for violation in caught.value.violations] == [*asked]


def test_a_region_that_is_too_large_names_the_limit_and_a_level_that_fits(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 6000)

    with pytest.raises(ValidationError, match="6,000 pixels and 256 MiB are the most") as caught:
        image.read_region(0, 0, WIDTH, HEIGHT)

    assert caught.value.hint == "level 2 has this part of the image in 76 x 51 pixels"
    assert image.read_region(0, 0, WIDTH, HEIGHT, level=2).shape == (50, 75, 4)


def test_many_threads_read_at_once(path: Path, levels: list[NDArray[Any]]) -> None:
    image = open_image(Memory(path.read_bytes()), cache=TileCache(100_000))
    wrong = []

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(30):
            x, y = int(chance.integers(0, WIDTH)), int(chance.integers(0, HEIGHT))
            if not np.array_equal(image.read_region(x, y, 80, 80), levels[0][y : y + 80, x : x + 80]):
                wrong.append((x, y))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_tiles_are_decoded_once_and_the_oldest_go(path: Path) -> None:
    source, cache = Memory(path.read_bytes()), TileCache(5 * 64 * 64 * 2)
    image = open_image(source, cache=cache, name="sha256")
    image.read_region(0, 0, 10, 10, channels=[0])
    source.ranges.clear()

    open_image(source, index=image.index, cache=cache, name="sha256").read_region(20, 20, 30, 30, channels=[0])
    assert source.ranges == []

    image.read_region(0, 0, 300, 100, channels=[1])
    source.ranges.clear()
    image.read_region(0, 0, 10, 10, channels=[0])
    assert len(source.ranges) == 1
