"""Flow cytometry: real files against FlowIO and fcsparser, and files made as the standard says, or as it forbids."""

from __future__ import annotations

import io
import json
import struct
import warnings
from pathlib import Path
from typing import Any

import flowio
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import epista
from epista.serializers import fcs

REAL = Path(__file__).parents[3] / "shared" / "data" / "fcs"

# What fcsparser 0.2.8 reads of the one file that FlowIO cannot unpack: events, and the sums of the stored values of each channel.
CYTEK_EVENTS = 23126
CYTEK_SUMS = [210494488.0, 10661373.0, 5706801.0, 2853743.0, 4425607.0, 2848196.0, 4227662.0, 2245788.0]


def made(
    events: np.ndarray[Any, Any],
    *,
    version: str = "3.1",
    names: tuple[str, ...] = ("FSC-A", "Time"),
    kind: str = "F",
    order: str = "1,2,3,4",
    delimiter: str = "/",
    bits: tuple[int, ...] | None = None,
    data: bytes | None = None,
    **more: str,
) -> bytes:
    """Return a file with *events* of little-endian floats, or with *data* as given; *more* are keywords without their ``$``."""
    body = events.astype("<f4").tobytes() if data is None else data
    widths = bits or (32,) * len(names)
    keywords = {"$PAR": str(len(names)), "$TOT": str(len(events)), "$MODE": "L", "$DATATYPE": kind, "$BYTEORD": order}
    for number, (name, width) in enumerate(zip(names, widths, strict=True), start=1):
        keywords |= {f"$P{number}N": name, f"$P{number}B": str(width), f"$P{number}R": "1024", f"$P{number}E": "0,0"}
    keywords |= {f"${name}": value for name, value in more.items()}
    keywords |= {"$NEXTDATA": more.get("NEXTDATA", "0"), "$BEGINANALYSIS": "0", "$ENDANALYSIS": "0"}
    start = 4096
    keywords |= {"$BEGINDATA": str(start), "$ENDDATA": str(start + max(len(body), 1) - 1)}
    escaped = (part.replace(delimiter, delimiter * 2) for pair in keywords.items() for part in pair)
    text = (delimiter + delimiter.join(escaped) + delimiter).encode()
    fields = (58, 58 + len(text) - 1, start, start + max(len(body), 1) - 1, 0, 0)
    header = f"FCS{version}    ".encode() + b"".join(f"{field:>8}".encode() for field in fields)
    return (header + text).ljust(start) + body


EVENTS = np.array([[1.5, 0.0], [2.5, 10.0], [1000.0, 20.0]])


@pytest.mark.real_data
@pytest.mark.parametrize("path", sorted(REAL.rglob("*.fcs")), ids=lambda path: path.name)
def test_a_real_file_has_the_values_that_flowio_reads_or_is_refused(path: Path) -> None:
    data = path.read_bytes()
    if path.name == "corrupted.fcs":
        with pytest.raises(epista.UnreadableError, match="not an FCS file: no header"):
            fcs.read(data)
        return
    stored = fcs.read(data, preprocess=False, dtype="float64")
    if path.name == "Cytek_xP5.fcs":
        assert (len(stored), stored.shape[1]) == (CYTEK_EVENTS, 8)
        assert stored.sum().tolist() == CYTEK_SUMS
        return

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow = flowio.FlowData(path, ignore_offset_error=True, ignore_offset_discrepancy=True)
        assert (len(stored), list(stored.columns)) == (flow.event_count, flow.pnn_labels)
        assert np.array_equal(stored.to_numpy(), flow.as_array(preprocess=False))
        if path.name != "variable_int_example.fcs":  # its $TIMESTEP is no number, which FlowIO refuses
            assert np.allclose(fcs.read(data, dtype="float64").to_numpy(), flow.as_array(preprocess=True))


@pytest.mark.real_data
@pytest.mark.parametrize("path", sorted(REAL.rglob("*.fcs")), ids=lambda path: path.name)
def test_events_are_small_floats_that_parquet_keeps_with_all_that_is_known_of_them(path: Path, tmp_path: Path) -> None:
    if path.name == "corrupted.fcs":
        with pytest.raises(epista.UnreadableError):
            fcs.read(path.read_bytes())
        return
    events = fcs.read(path.read_bytes())

    events.to_parquet(tmp_path / "events.parquet")
    back = pd.read_parquet(tmp_path / "events.parquet")

    assert set(events.dtypes) == {np.dtype("float32")}
    assert back.attrs == events.attrs == json.loads(json.dumps(events.attrs))
    assert back.equals(events)


def test_values_are_linear_and_times_are_seconds() -> None:
    data = made(EVENTS, TIMESTEP="0.1", P1G="2", P1E="0,0")

    assert fcs.read(data).to_numpy().tolist() == pytest.approx(np.array([[0.75, 0.0], [1.25, 1.0], [500.0, 2.0]]))
    assert np.array_equal(fcs.read(data, preprocess=False).to_numpy(), EVENTS)


def test_a_logarithmic_channel_is_made_linear() -> None:
    data = made(np.array([[0], [512], [1024]]), names=("FL1",), P1E="4,0", P1R="1024")

    assert fcs.read(data)["FL1"].tolist() == pytest.approx([1, 100, 10_000])


@pytest.mark.parametrize("order", ["1,2,3,4", "4,3,2,1"])
def test_integers_of_any_whole_number_of_bytes_are_masked_to_their_range(order: str) -> None:
    numbers = (5, 1023, 2**24 - 1, 70_000)
    end = "little" if order.startswith("1") else "big"
    body = b"".join(value.to_bytes(width // 8, end) for value, width in zip(numbers, (8, 16, 24, 32), strict=True))  # type: ignore[arg-type]

    more = {"P1R": "256", "P2R": "512", "P3R": "16777216", "P4R": "65536"}
    data = made(np.zeros((1, 4)), names=("a", "b", "c", "d"), kind="I", order=order, bits=(8, 16, 24, 32), data=body, **more)

    assert fcs.read(data, preprocess=False, dtype="float64").to_numpy().tolist() == [[5, 511, 2**24 - 1, 70_000 - 65_536]]


def test_large_integers_need_float64() -> None:
    data = made(np.zeros((1, 1)), names=("a",), kind="I", data=struct.pack("<I", 2**24 + 1), P1R=str(2**32))

    assert fcs.read(data, dtype="float64").to_numpy().tolist() == [[2**24 + 1]]


def test_names_are_told_apart_and_labels_are_kept() -> None:
    events = fcs.read(made(np.zeros((2, 3)), names=("FL1", "FL1", "FL2"), P2S="CD4"))

    assert list(events.columns) == ["FL1", "FL1_2", "FL2"]
    assert events.attrs["labels"] == {"FL1_2": "CD4"}


@pytest.mark.parametrize("delimiter", ["/", "|", "\\", "\x0c", "!", "*"])
def test_a_delimiter_within_a_value_is_doubled(delimiter: str) -> None:
    events = fcs.read(made(EVENTS, delimiter=delimiter, SRC=f"blood{delimiter}day 3"))

    assert events.attrs["keywords"]["$SRC"] == f"blood{delimiter}day 3"


def test_nothing_is_compensated_unless_that_is_asked_for() -> None:
    true = np.array([[100.0, 10.0], [0.0, 50.0]])
    spill = np.array([[1.0, 0.2], [0.1, 1.0]])
    data = made(true @ spill, names=("FL1", "FL2"), SPILLOVER="2,FL1,FL2,1.0,0.2,0.1,1.0")

    assert np.allclose(fcs.read(data).to_numpy(), true @ spill)
    assert np.allclose(fcs.read(data, compensate=True).to_numpy(), true, atol=1e-4)
    assert fcs.read(data).attrs["spill"] == {"channels": ["FL1", "FL2"], "matrix": spill.tolist()}
    other = {"channels": ["FL2"], "matrix": [[2.0]]}
    assert np.allclose(fcs.read(data, compensate=other)["FL2"], (true @ spill)[:, 1] / 2)


@pytest.mark.parametrize(
    ("compensate", "fault"),
    [
        (True, "no spillover matrix"),
        ({"channels": ["FL9"], "matrix": [[1.0]]}, "names 'FL9'"),
        ({"channels": ["FSC-A", "Time"], "matrix": [[1.0]]}, "2 x 2"),
        ({"channels": ["FSC-A", "Time"], "matrix": [[1.0, 1.0], [1.0, 1.0]]}, "inverted"),
        ({"matrix": [[1.0]]}, "of numbers"),
    ],
)
def test_what_cannot_be_compensated_is_refused(compensate: Any, fault: str) -> None:
    with pytest.raises(epista.FormatError, match=fault):
        fcs.read(made(EVENTS), compensate=compensate)


def test_of_several_data_sets_the_first_is_read_and_the_others_can_be() -> None:
    first = made(EVENTS, NEXTDATA="6000")
    data = first.ljust(6000) + made(EVENTS * 2)

    assert "dataset=1" in " ".join(fcs.read(data).attrs["warnings"])
    assert np.allclose(fcs.read(data, dataset=1, preprocess=False).to_numpy(), EVENTS * 2)
    with pytest.raises(epista.UnreadableError, match="2 data sets"):
        fcs.read(data, dataset=2)


def test_no_events_are_a_table_of_no_rows() -> None:
    assert fcs.read(made(np.zeros((0, 2)), kind="I", data=b"", bits=(16, 16))).shape == (0, 2)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (b"", "no header"),
        (b"FCS3.1" + b" " * 10, "TEXT is from byte"),
        (made(EVENTS)[:200], "ends within TEXT"),
        (made(EVENTS)[:-8], "are said to be in bytes 4096 to 4119"),
        (made(EVENTS, MODE="C"), "histogram"),
        (made(EVENTS, DATATYPE="A"), r"\$DATATYPE A"),
        (made(EVENTS, BYTEORD="2,1,4,3"), "endian"),
        (made(EVENTS, PAR="0"), "0 channels"),
        (made(EVENTS, PAR="9999999"), "channels"),
        (made(EVENTS, PAR="two"), "no whole number"),
        (made(EVENTS, kind="I", bits=(12, 12)), "12 bits"),
        (made(EVENTS).replace(b"$PAR", b"$PAX"), r"no parameters"),
    ],
)
def test_a_broken_file_says_what_is_wrong_with_it(broken: bytes, fault: str) -> None:
    with pytest.raises(epista.UnreadableError, match=fault):
        fcs.read(broken)


def test_odd_keywords_are_warnings() -> None:
    told = fcs.read(made(EVENTS, TIMESTEP="soon", P1G="much", P2E="log", SPILLOVER="2,FL1")).attrs["warnings"]

    assert len(told) == 4
    assert all(any(name in one for one in told) for name in ("$TIMESTEP", "$P1G", "$P2E", "$SPILLOVER"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_leads_to_anything_but_events_or_an_error_of_ours(drawn: st.DataObject) -> None:
    damaged = bytearray(made(EVENTS, SPILLOVER="2,FSC-A,Time,1,0,0,1", TIMESTEP="0.1"))
    for _ in range(drawn.draw(st.integers(1, 6))):
        damaged[drawn.draw(st.integers(0, len(damaged) - 1))] = drawn.draw(st.integers(0, 255))
    cut = drawn.draw(st.integers(0, len(damaged)))
    try:
        events = fcs.read(bytes(damaged if drawn.draw(st.booleans()) else damaged[:cut]))
    except epista.EpistaError:
        return
    assert events.shape[1] >= 1


def test_the_head_of_a_large_file_is_read_in_a_few_bytes() -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    file = Counted(made(EVENTS) + bytes(10_000_000))
    fcs.read_head(file)

    assert file.taken < 5000
