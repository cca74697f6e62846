from __future__ import annotations

import gzip
import io
import json
import pickle
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from epista.contract.errors import (
    ConflictError,
    EpistaError,
    FormatError,
    MissingExtraError,
    TooLargeError,
    UnreadableError,
    ValidationError,
)
from epista.contract.formats import FORMATS
from epista.serializers import (
    check_options,
    deserialize,
    formats,
    reader_for,
    register_serializer,
    registry,
    serialize,
    to_json,
    wrapping,
)
from epista.serializers.serializer import require


@pytest.fixture
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(registry, "_by_extension", dict(registry._by_extension))


class TouchedError(Exception):
    pass


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return exec, ("raise RuntimeError('executed')",)


# --- Formats


@pytest.mark.parametrize(
    ("key", "obj"),
    [("l.csv", [1, 2]), ("t.png", pd.DataFrame({"a": [1]})), ("d.txt", {"a": 1}), ("s.npy", "text"), ("j.json", {1})],
)
def test_an_object_that_does_not_fit_its_extension_is_refused(key: str, obj: object) -> None:
    with pytest.raises(FormatError):
        serialize(key, obj)


@pytest.mark.parametrize("key", ["EXP-1/table", "EXP-1/table.unknown"])
def test_without_a_known_extension_the_formats_that_fit_are_listed(key: str) -> None:
    with pytest.raises(FormatError, match=r"says no format; a DataFrame fits .arrow, .csv, .parquet, .tsv, .xlsx"):
        serialize(key, pd.DataFrame({"a": [1]}))


def test_a_path_is_no_content() -> None:
    with pytest.raises(FormatError, match="put_file stores a file"):
        serialize("x.csv", Path("x.csv"))


def test_a_format_may_be_named_for_an_unknown_extension_only() -> None:
    assert serialize("x.dat", "text", format="txt") == (b"text", "text", {}, None)
    assert serialize("x.json", [1], format="json").format == "json"
    with pytest.raises(FormatError, match=r"format='csv' contradicts the extension of 'x\.json', which says json"):
        serialize("x.json", [1], format="csv")
    with pytest.raises(FormatError, match="no format is called 'nonsense'"):
        serialize("x.dat", [1], format="nonsense")


@pytest.mark.parametrize("key", ["x.csv", "x.png", "x.csv.gz", "x.pkl", "x", "x.czi", "x.json"])
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, np.array], ids=["bytes", "bytearray", "memoryview", "strided"])
def test_bytes_are_stored_as_they_are_under_any_name(key: str, make: Any) -> None:
    obj = memoryview(b"a\0b\0")[::2] if make is np.array else make(b"ab")
    made = serialize(key, obj)

    assert made.data == b"ab"
    assert type(made.data) is bytes
    assert deserialize(key, made.data, format="bytes") == b"ab"


def test_reading_goes_by_format_then_record_then_extension() -> None:
    data = b'["a"]'

    assert deserialize("x.JSON", data) == ["a"]
    assert deserialize("x.json", data, recorded_format="text") == '["a"]'
    assert deserialize("x.json", data, format="bytes", recorded_format="text") == data
    assert deserialize("x", data, recorded_format="json") == ["a"]


def test_recorded_options_apply_to_the_recorded_format_only() -> None:
    assert deserialize("x.csv", b"a|b\n1|2\n", recorded_format="csv", recorded_options={"sep": "|", "future": 1}) is not None
    assert deserialize("x.csv", b"a", format="text", recorded_format="csv", recorded_options={"sep": "|"}) == "a"


@pytest.mark.parametrize("key", ["x.czi", "x.ndpi", "x", "x.pkl", "x.joblib"])
def test_without_a_reader_bytes_are_suggested(key: str) -> None:
    assert reader_for(key) is None
    assert reader_for(key, format="bytes") is not None
    with pytest.raises(FormatError, match="format='bytes'"):
        deserialize(key, b"")


def test_every_format_is_in_the_contract() -> None:
    assert {row.name for row in formats()} <= {row.name for row in FORMATS}


def test_options_that_nobody_knows_are_refused_at_put_and_at_read() -> None:
    with pytest.raises(FormatError, match="unknown options for json: a, b; known: indent"):
        serialize("x.json", [], options={"a": 1, "b": 2})
    with pytest.raises(FormatError, match="unknown option for text: a; known: encoding"):
        deserialize("x.txt", b"", options={"a": 1})
    with pytest.raises(FormatError, match="unknown option for czi: a; known: none"):
        check_options("czi", {"a": 1})


def test_as_type_is_for_tables() -> None:
    with pytest.raises(FormatError, match="chooses the class of a table"):
        deserialize("x.json", b"[]", as_type="pandas")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, epista.serializers as s; s.formats(); s.serialize('x.json', {'a': 1});"
        "print([m for m in ('pandas', 'numpy', 'pyarrow', 'polars', 'matplotlib', 'PIL') if m in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- Text and JSON


@pytest.mark.parametrize("text", ["", "line\r\nline\rline\n", "\ufeffmark", "ä€😀\0", "a" * 100_000])
@pytest.mark.parametrize("key", ["x.txt", "x.md", "x.html", "x.py", "x.log.gz"])
def test_text_survives_as_it_is(key: str, text: str) -> None:
    made = serialize(key, text)

    assert deserialize(key, made.data, recorded_format=made.format, recorded_options=made.options) == text


def test_text_that_is_not_utf_8_is_unreadable_until_its_encoding_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"'x\.txt' is no readable text: byte 0 is not utf-8"):
        deserialize("x.txt", b"\xe4")
    assert deserialize("x.txt", b"\xe4", options={"encoding": "cp1252"}) == "ä"
    assert deserialize("x.txt", "ä".encode("utf-16")) == "ä"
    with pytest.raises(FormatError):
        serialize("x.txt", "\ud800")


@pytest.mark.parametrize(
    "value",
    [{"a": {"b": [1, 2.5, None, True, "ä"]}}, 2**200, -0.0, 1e300, 0.1, "text", [], None, {"": {}}, [[[[1]]]]],
    ids=repr,
)
@pytest.mark.parametrize("options", [{}, {"indent": 2}], ids=["plain", "indented"])
def test_json_values_survive(value: object, options: dict[str, Any]) -> None:
    read = deserialize("x.json", serialize("x.json", value, options=options).data)

    assert (read, str(read), type(read)) == (value, str(value), type(value))


def test_other_values_become_json_where_nothing_is_lost() -> None:
    value = {
        "tuple": (1, 2),
        "integer": np.int64(3),
        "float": np.float32(0.5),
        "bool": np.bool_(True),
        "string": np.str_("x"),
        "date": pd.Timestamp("2026-01-02").date(),
        "time": pd.Timestamp("2026-01-02T03:04:05Z"),
        "moment": np.datetime64("2026-01-02T03:04:05.000000006"),
    }

    assert json.dumps(to_json(value)) == (
        '{"tuple": [1, 2], "integer": 3, "float": 0.5, "bool": true, "string": "x", "date": "2026-01-02", '
        '"time": "2026-01-02T03:04:05+00:00", "moment": "2026-01-02T03:04:05.000000006"}'
    )
    assert serialize("x.json", np.int64(3)).data == b"3\n"
    assert serialize("x.json", np.float64(0.1)).data == b"0.1\n"


def test_every_value_that_is_no_json_is_named_with_its_path() -> None:
    value = {"a": [1, float("nan")], "b": {"c": {1}}, "d": {2: 3}, "e": np.zeros(2), "f": pd.NaT, "g": "\ud800", "h": b"x"}

    with pytest.raises(ValidationError) as caught:
        serialize("x.json", value)
    assert [(item["path"], item["message"]) for item in caught.value.violations] == [
        ("a[1]", "is nan, which JSON cannot say; leave it out or use None"),
        ("b.c", "is a set, which is no JSON; use a sorted list"),
        ("d", "has the key 2, which is no string"),
        ("e", "is a ndarray, which is no JSON; use .tolist()"),
        ("f", "is a NaTType, which is no JSON"),
        ("g", "has half a surrogate pair"),
        ("h", "is a bytes, which is no JSON"),
    ]


def test_what_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(ValidationError, match="contains itself"):
        to_json(value)


@pytest.mark.parametrize(
    "data", [b"{", b"NaN", b"[1e999]", b"\xff", b"[" * 200_000, b"1" * 5000], ids=lambda data: repr(data[:8])
)
def test_malformed_json_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"'x\.json'"):
        deserialize("x.json", data)


def test_json_lines_are_one_value_a_line() -> None:
    made = serialize("x.jsonl.gz", [{"a": 1}, "x\ny", None])

    assert gzip.decompress(made.data) == b'{"a": 1}\n"x\\ny"\nnull\n'
    assert deserialize("x.jsonl.gz", made.data) == [{"a": 1}, "x\ny", None]
    with pytest.raises(UnreadableError, match="line 2 is no JSON"):
        deserialize("x.jsonl", b"1\n{\n")


# --- numpy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.ones((2, 3), "float16")),
        np.array(["a", "ä"]),
        np.array([1 + 2j]),
        np.array("2026-01-02T03:04", "datetime64[m]"),
        np.zeros(2, [("ä", "i2"), ("b", "f8", (2,))]),
        np.zeros((0, 3), bool),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_survive_exactly(array: Any) -> None:
    read: Any = deserialize("x.npy", serialize("x.npy", array).data)

    assert (read.dtype, read.shape, read.flags.f_contiguous) == (array.dtype, array.shape, array.flags.f_contiguous)
    assert np.array_equal(read, array)


def test_a_dict_of_arrays_survives_under_any_name() -> None:
    arrays = {"file": np.arange(3), "a/b.npy": np.ones((2, 2)), "": np.zeros(1)}
    made = serialize("x.npz", arrays)
    read: Any = deserialize("x.npz", made.data)

    assert list(read) == list(arrays)
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    assert serialize("x.npz", arrays).data == made.data
    with np.load(io.BytesIO(made.data)) as theirs:
        assert np.array_equal(theirs["file"], np.arange(3))


def test_object_and_masked_arrays_are_refused() -> None:
    with pytest.raises(FormatError, match="only pickle could write"):
        serialize("x.npy", np.array([{}]))
    with pytest.raises(FormatError, match="'a' holds Python objects"):
        serialize("x.npz", {"a": np.zeros(1, [("f", "O")])})
    with pytest.raises(FormatError, match="mask would be lost"):
        serialize("x.npy", np.ma.masked_array([1], [True]))


@pytest.mark.parametrize("key", ["x.npy", "x.npz"])
@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"text"], ids=repr)
def test_malformed_arrays_are_unreadable(key: str, data: bytes) -> None:
    with pytest.raises(UnreadableError):
        deserialize(key, data)


# --- Excel


def test_workbooks_survive() -> None:
    frame = pd.DataFrame(
        {"id": ["001", "NA", None, "=A1"], "n": [1, 2, 3, 4], "f": [0.5, None, 2.0, 3.0], "t": pd.to_datetime(["2026-01-02"] * 4)}
    )
    one = serialize("x.xlsx", frame)
    several = serialize("x.xlsx", {"first": frame, "second": frame[["n"]]})

    read: Any = deserialize("x.xlsx", one.data, recorded_format="xlsx", recorded_options=one.options)
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    both: Any = deserialize("x.xlsx", several.data, recorded_format="xlsx", recorded_options=several.options)
    assert list(both) == ["first", "second"]
    assert both["second"]["n"].tolist() == [1, 2, 3, 4]
    second: Any = deserialize("x.xlsx", several.data, options={"sheet": "second"}, as_type="arrow")
    assert second.to_pydict() == {"n": [1, 2, 3, 4]}


def test_what_excel_cannot_hold_is_refused() -> None:
    with pytest.raises(FormatError, match="a cell does not fit Excel"):
        serialize("x.xlsx", pd.DataFrame({"t": pd.to_datetime(["2026"]).tz_localize("UTC")}))
    with pytest.raises(FormatError, match="is no name of a sheet"):
        serialize("x.xlsx", pd.DataFrame({"a": [1]}), options={"sheet": "a/b"})
    with pytest.raises(FormatError, match="it is only read"):
        serialize("x.xls", pd.DataFrame({"a": [1]}))


def test_a_malformed_workbook_is_unreadable() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a", "b")

    for data in (b"", b"text", archive.getvalue()):
        with pytest.raises(UnreadableError):
            deserialize("x.xlsx", data)
    data = serialize("x.xlsx", pd.DataFrame({"a": [1]})).data
    with pytest.raises(FormatError, match="no sheet 'z'; sheets: 'Sheet1'"):
        deserialize("x.xlsx", data, options={"sheet": "z"})


def test_a_missing_extra_names_its_pip_install() -> None:
    with pytest.raises(MissingExtraError, match="'nosuch' is not installed") as caught:
        require("nosuch.part", "epista[excel]")
    assert caught.value.hint == 'pip install "epista[excel]"'


# --- gzip


def test_gzip_says_neither_time_nor_name() -> None:
    made = serialize("x.txt.gz", "text").data

    assert made[:10] == b"\x1f\x8b\x08\x00\0\0\0\0\x02\xff"
    assert gzip.decompress(made) == b"text"


def test_bgz_is_gzip_in_blocks() -> None:
    data = bytes(range(256)) * 1000
    made = wrapping.wrap(data, blocks=True)

    assert gzip.decompress(made) == data
    assert wrapping.unwrap(made) == data
    sizes, position = 0, 0
    while position < len(made):
        assert made[position : position + 4] == b"\x1f\x8b\x08\x04"
        position += int.from_bytes(made[position + 16 : position + 18], "little") + 1
        sizes += 1
    assert sizes == 5


def test_a_gzipped_table_reads_as_a_table() -> None:
    read: Any = deserialize("x.csv.gz", gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + bytes(512))

    assert read.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize(
    "data",
    [b"", b"a,b\n", gzip.compress(b"a" * 1000)[:-5], gzip.compress(b"a") + b"rest"],
    ids=["empty", "no gzip", "cut", "more"],  # not the bytes, which have the time in them: workers would disagree
)
def test_malformed_gzip_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        deserialize("x.csv.gz", data)


def test_a_decompression_bomb_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert len(wrapping.unwrap(bomb, limit_bytes=10_000_000)) == 10_000_000
    with pytest.raises(TooLargeError) as caught:
        wrapping.unwrap(bomb, limit_bytes=9_999_999)
    assert caught.value.details == {"limit_bytes": 9_999_999}

    monkeypatch.setattr(wrapping, "MIN_BYTES", 1000)
    with pytest.raises(TooLargeError, match=r"'x\.txt\.gz': unpacks to more than"):
        deserialize("x.txt.gz", bomb)
    assert deserialize("x.txt.gz", bomb, format="bytes") == bomb

    archive = io.BytesIO()
    np.savez_compressed(archive, a=np.zeros(100_000))
    monkeypatch.setattr(wrapping, "MAX_BYTES", 1000)
    with pytest.raises(TooLargeError):
        deserialize("x.npz", archive.getvalue())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"PK\5\6", (16, 0x7FFFFFFF)),
        (b"PK\1\2", (10, 77)),
        (b"PK\1\2", (8, 1)),
        (b"PK\1\2", (42, 0x7FFFFFFF)),
        (b"PK\3\4", (30, 0)),
    ],
    ids=["directory", "packing", "password", "place", "name"],
)
def test_a_damaged_zip_of_arrays_is_no_zip_of_arrays(field: bytes, value: tuple[int, int]) -> None:
    archive = io.BytesIO()
    np.savez_compressed(archive, a=np.zeros(100))
    damaged = bytearray(archive.getvalue())
    at = damaged.index(field) + value[0]
    damaged[at : at + 4] = value[1].to_bytes(4, "little")

    with pytest.raises(UnreadableError, match="no zip of arrays"):
        deserialize("x.npz", bytes(damaged))


# --- Never unpickled


@pytest.mark.parametrize(
    "key", [f"x.{row.extensions[0]}" for row in FORMATS] + ["x.pkl", "x.joblib", "x", "x.npy.gz", "x.csv.gz"]
)
def test_a_pickle_is_never_executed_whatever_its_name(key: str) -> None:
    plain = pickle.dumps(Payload())
    objects = np.empty(1, object)
    objects[0] = Payload()
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    np.savez(archive, objects)

    for data in (plain, array.getvalue(), archive.getvalue()):
        for given in (data, gzip.compress(data)):
            for name in (None, *(row.name for row in formats())):
                try:
                    deserialize(key, given, format=name)
                except EpistaError:
                    pass


# --- Plug-ins


@pytest.mark.usefixtures("clean_registry")
def test_a_plug_in_writes_and_reads_its_own_extension() -> None:
    register_serializer(
        "touch",
        extensions=["touch", ".ome.touch"],
        types=["test_conversion.Payload"],
        write=lambda obj, *, letter="a": letter.encode(),
        read=lambda data, *, letter="a": (data.decode(), letter),
        options=["letter"],
        source="touching",
    )
    made = serialize("a.TOUCH.gz", Payload(), options={"letter": "z"})

    assert (made.format, made.options) == ("touch", {"letter": "z"})
    assert deserialize("a.TOUCH.gz", made.data, recorded_format="touch", recorded_options=made.options) == ("z", "z")
    assert "touching" in repr(formats())
    assert "<td>touching</td>" in formats()._repr_html_()
    with pytest.raises(FormatError, match="a int does not fit"):
        serialize("a.touch", 1)
    with pytest.raises(FormatError, match="unknown option for touch: x; known: letter"):
        serialize("a.touch", Payload(), options={"x": 1})


@pytest.mark.usefixtures("clean_registry")
def test_a_taken_name_or_extension_is_refused_unless_overridden() -> None:
    with pytest.raises(ConflictError, match="the name 'csv'"):
        register_serializer("csv", read=lambda data: data)
    with pytest.raises(ConflictError, match=r"the extension \.csv \(of csv\)"):
        register_serializer("mine", extensions=["csv"], read=lambda data: data)
    register_serializer("mine", extensions=["csv"], read=lambda data: "mine", override=True)
    register_serializer("czi", extensions=["czi"], read=lambda data: "czi")

    assert deserialize("x.csv", b"") == "mine"
    assert deserialize("x.czi", b"") == "czi"


@pytest.mark.usefixtures("clean_registry")
def test_errors_of_a_plug_in_are_ours_outside() -> None:
    def fail(*args: object) -> bytes:
        raise TouchedError("broken inside")

    register_serializer("touch", extensions=["touch"], types=["test_conversion.Payload"], write=fail, read=fail)

    with pytest.raises(FormatError, match="broken inside"):
        serialize("x.touch", Payload())
    with pytest.raises(UnreadableError, match=r"'x\.touch' is no readable touch: broken inside"):
        deserialize("x.touch", b"")


def plug_in() -> None:
    register_serializer("plugged", extensions=["plugged"], read=lambda data: "plugged in")


PLUG_IN = {"name": "plugged2", "extensions": ["plugged2"], "read": lambda data: "as a dict"}


@pytest.mark.usefixtures("clean_registry")
def test_a_plug_in_registers_by_entry_point() -> None:
    registry.load([EntryPoint(name, f"{__name__}:{name}", registry.ENTRY_POINTS) for name in ("plug_in", "PLUG_IN")])

    assert deserialize("x.plugged", b"") == "plugged in"
    assert deserialize("x.plugged2", b"") == "as a dict"


@pytest.mark.usefixtures("clean_registry")
def test_a_broken_plug_in_warns_and_is_left_out() -> None:
    points = [EntryPoint("broken", "nosuch.module:it", registry.ENTRY_POINTS), EntryPoint("good", f"{__name__}:plug_in", "")]

    with pytest.warns(RuntimeWarning, match="the plug-in broken"):
        registry.load(points)
    assert deserialize("x.plugged", b"") == "plugged in"
