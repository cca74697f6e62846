"""Renderings: their text, what is suggested, and the colours of a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract.errors import InvalidRequestError
from epista.server.imaging import rendering
from epista.server.imaging.index import Channel, Level, Scene
from epista.server.imaging.rendering import Look, Rendering

_FINITE = st.floats(-1e15, 1e15)
_LOOKS = st.builds(
    lambda channel, color, limits: Look(channel, f"{color:06x}", *sorted(limits)),
    st.integers(0, 9999),
    st.integers(0, 0xFFFFFF),
    st.tuples(_FINITE, _FINITE).filter(lambda both: both[0] != both[1]),
)
_PLACES = st.integers(0, 10**6)


def scene(names: list[str], dtype: str = "<u2", **given: Any) -> Scene:
    level = Level(width=10, height=10, tile_width=10, tile_height=10)
    return Scene(dtype=dtype, channels=tuple(Channel(name=name) for name in names), levels=(level,), **given)


@given(st.lists(_LOOKS, min_size=1, max_size=16, unique_by=lambda look: look.channel), _PLACES, _PLACES, _PLACES)
def test_a_rendering_is_read_as_it_was_spelt(looks: list[Look], z: int, t: int, number: int) -> None:
    wanted = Rendering(tuple(looks), z, t, number)

    assert rendering.parse(rendering.spell(wanted)) == wanted


def test_the_text_is_that_of_the_page() -> None:
    text = "0:0000ff:200:4000,2:ff0000:100:3000.5;z3;t1;s2"

    assert rendering.parse(text) == Rendering((Look(0, "0000ff", 200, 4000), Look(2, "ff0000", 100, 3000.5)), 3, 1, 2)
    assert rendering.spell(rendering.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0:ff0000",
        "0:ff0000:5:5",
        "0:ff0000:9:5",
        "0:ff0000:nan:5",
        "0:ff0000:0:inf",
        "0:ff0000:0:1e999",
        "0:ff0000:-1.7e308:1.7e308",
        "0:red:0:5",
        "-1:ff0000:0:5",
        "0:ff0000:0:5,0:00ff00:0:5",
        "0:ff0000:0:5;z",
        "0:ff0000:0:5;z1;z2",
        "0:ff0000:0:5;q1",
        ",".join(f"{number}:ff0000:0:5" for number in range(17)),
    ],
)
def test_no_rendering_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        rendering.parse(text)


def test_limits_are_those_of_the_file_or_of_the_pixels() -> None:
    planes: list[Any] = [np.arange(10_000, dtype=np.uint16).reshape(100, 100)] * 3
    named = (Channel(name="DAPI", limits=(5, 6)), Channel(name="GFP", color="00ff00", limits=(6, 5)), Channel(name="x"))
    dapi, gfp, other = rendering.suggest(
        scene([]).__class__(dtype="<u2", channels=named, levels=scene([]).levels), planes
    ).channels

    assert dapi.look == Look(0, "0000ff", 5, 6)
    assert gfp.look.color == "00ff00"
    # 0.1 and 99.9 percent; limits of the file that are none do not count.
    assert gfp.look[2:] == other.look[2:] == (9.999, 9989.0)
    assert (gfp.lowest, gfp.highest) == (0, 9999)


def test_a_channel_of_one_value_or_of_none_can_be_shown() -> None:
    one = scene(["a", "b"], "<f4")
    same, none = rendering.suggest(one, [np.full((5, 5), 7, np.float32), np.full((5, 5), np.nan, np.float32)]).channels

    assert same.look.low < same.look.high
    assert none.look[2:] == (0, 1)


def test_limits_that_differ_by_little_still_differ() -> None:
    plane = np.tile(np.array([1e9, 1e9 + 1], np.float64), 50)
    [found] = rendering.suggest(scene(["a"], "<f8"), [plane]).channels

    assert found.look.low < found.look.high


def test_of_many_channels_the_first_are_shown() -> None:
    many = scene([f"c{number}" for number in range(30)])
    found = rendering.suggest(many, [np.arange(100, dtype=np.uint16)] * 30)
    shown = rendering.usual(found)

    assert [look.channel for look in shown.looks] == [*range(7)]
    assert len({look.color for look in shown.looks}) == 7
    assert len(found.channels) == 30


@pytest.mark.parametrize(("names", "shown"), [("RGBA", ["ff0000", "00ff00", "0000ff"]), ("LA", ["ffffff"])])
def test_how_opaque_a_picture_is_is_no_colour(names: str, shown: list[str]) -> None:
    found = rendering.usual(rendering.suggest(scene(list(names)), [np.arange(100, dtype=np.uint8)] * len(names)))

    assert [look.color for look in found.looks] == shown


def test_of_a_stack_the_middle_is_shown() -> None:
    stack = scene(["a"], size_z=31)

    assert rendering.usual(rendering.suggest(stack, [np.arange(9, dtype=np.uint16)]), 2)[1:] == (15, 0, 2)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "float32", "float64"])
def test_values_are_stretched_between_limits(dtype: str) -> None:
    plane = np.array([[10, 20, 60, 110, 120]], dtype)

    [row] = rendering.composite([plane], [Look(0, "ff8000", 10, 110)])

    assert row.tolist() == [[0, 0, 0], [26, 13, 0], [128, 64, 0], [255, 128, 0], [255, 128, 0]]


def test_colours_are_added_and_clipped() -> None:
    plane = np.full((1, 1), 100, np.uint16)
    looks = [Look(0, "ff0000", 0, 100), Look(1, "ffff00", 0, 200), Look(2, "0000ff", 0, 100)]

    assert rendering.composite([plane] * 3, looks).tolist() == [[[255, 128, 255]]]


def test_what_is_no_number_is_black() -> None:
    plane = np.array([[np.nan, -np.inf, np.inf]], np.float32)

    assert rendering.composite([plane], [Look(0, "ffffff", 0, 1)])[0, :, 0].tolist() == [0, 0, 255]


def test_a_colour_image_is_as_it_is() -> None:
    planes = list(np.random.default_rng(0).integers(0, 256, (3, 9, 9), dtype=np.uint8))
    shown = rendering.usual(rendering.suggest(scene(["R", "G", "B"], "|u1"), planes))

    assert np.array_equal(rendering.composite(planes, shown.looks), np.stack(planes, axis=-1))
