"""Frames that come back as they went, and frames that lie."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract import frames
from epista.contract.errors import EpistaError, IntegrityError, InvalidRequestError

BODIES = st.lists(st.binary(max_size=300), max_size=20, unique=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def made(*bodies: bytes) -> bytes:
    return frames.frame((sha256(body), body) for body in bodies)


@given(bodies=BODIES)
def test_a_frame_gives_its_objects_back(bodies: list[bytes]) -> None:
    data = made(*bodies)
    placed = frames.parse(data)
    assert [(one.sha256, data[one.offset : one.offset + one.size]) for one in placed] == [(sha256(body), body) for body in bodies]
    assert all(one.offset > 0 for one in placed)


@given(bodies=BODIES, message=st.binary(max_size=100))
def test_a_message_and_its_frame_come_apart_again(bodies: list[bytes], message: bytes) -> None:
    data = made(*bodies)
    told, frame = frames.split(frames.joined(message, data))
    assert (bytes(told), bytes(frame)) == (message, data)


@given(bodies=BODIES.filter(bool), cut=st.integers(min_value=1, max_value=10_000))
def test_a_frame_that_is_cut_short_is_refused(bodies: list[bytes], cut: int) -> None:
    data = made(*bodies)
    with pytest.raises(InvalidRequestError):
        frames.parse(data[: max(0, len(data) - cut)])


@given(bodies=BODIES, more=st.binary(min_size=1, max_size=50))
def test_a_frame_that_goes_on_is_refused(bodies: list[bytes], more: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        frames.parse(made(*bodies) + more)


@given(bodies=BODIES.filter(any), place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_passes(bodies: list[bytes], place: int, bit: int) -> None:
    data = bytearray(made(*bodies))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises((InvalidRequestError, IntegrityError)):
        frames.parse(bytes(data))


@given(data=st.binary(max_size=500))
def test_anything_else_is_refused_as_what_it_is(data: bytes) -> None:
    for read in (frames.parse, frames.split, frames.entries, frames.header_bytes):
        try:
            read(data)
        except EpistaError:
            pass


def test_lies_about_numbers_are_refused() -> None:
    huge = struct.pack(">4sI", b"EPF1", 2**32 - 1)
    with pytest.raises(InvalidRequestError, match="4,294,967,295 objects"):
        frames.header_bytes(huge)
    large = frames.header([frames.Entry("0" * 64, frames.SMALL_BYTES)])
    with pytest.raises(InvalidRequestError, match="travel alone"):
        frames.entries(large)
    many = [frames.Entry(f"{number:064x}", frames.SMALL_BYTES - 1) for number in range(40)]
    with pytest.raises(InvalidRequestError, match="at most 8,388,608"):
        frames.parse(frames.header(many))
    with pytest.raises(InvalidRequestError, match="twice"):
        frames.parse(made(b"same", b"same"))
    with pytest.raises(InvalidRequestError, match="within its message"):
        frames.split(struct.pack(">I", 10) + b"short")
    with pytest.raises(IntegrityError, match="another sha256"):
        frames.parse(frames.frame([(sha256(b"this"), b"that")]))
