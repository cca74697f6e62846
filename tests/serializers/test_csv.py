from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epista.contract.errors import EpistaError, FormatError, UnreadableError
from epista.serializers import check_options, deserialize, serialize


def round_trip(obj: object, key: str = "x.csv", *, as_type: str | None = None, **options: Any) -> Any:
    made = serialize(key, obj, options=options)
    return deserialize(key, made.data, recorded_format=made.format, recorded_options=made.options, as_type=as_type)


TRICKY = ["001", "NA", "", None, 'a,"\tb', "x\ry", "x\r\ny", " x ", "#no comment", "\ufeff", "null", "1e5", "\0", "é"]


@pytest.mark.parametrize("key", ["x.csv", "x.tsv", "x.csv.gz", "x.csv.bgz"])
def test_tricky_strings_survive_in_one_column(key: str) -> None:
    frame = pd.DataFrame({"only": TRICKY})

    pd.testing.assert_frame_equal(round_trip(frame, key), frame)


@pytest.mark.parametrize("key", ["x.csv", "x.tsv"])
def test_tricky_strings_survive_beside_other_columns(key: str) -> None:
    frame = pd.DataFrame({'a,"b': TRICKY, "#n\n": range(len(TRICKY))})

    pd.testing.assert_frame_equal(round_trip(frame, key), frame)


def test_the_bytes_are_alike_on_every_system() -> None:
    frame = pd.DataFrame({"id": ["001", "", None], "n": [1.5, None, 2.0]})

    assert serialize("x.csv", frame).data == b'id,n\n001,1.5\n"",\n,2\n'


def test_every_type_of_column_survives() -> None:
    table = pa.table(
        {
            **{str(kind): pa.array([1, None, 3], kind) for kind in (pa.int8(), pa.uint64(), pa.int64(), pa.duration("ns"))},
            "uint64 max": pa.array([2**64 - 1, None, 0], pa.uint64()),
            "float16": pa.array([1.5, None, 2], pa.float16()),
            "float32": pa.array([0.1, None, math.inf], pa.float32()),
            "double": pa.array([5e-324, -0.0, 1.7976931348623157e308]),
            "bool": [True, None, False],
            "date32": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)],
            "date64": pa.array([dt.date(2020, 2, 29), None, None], pa.date64()),
            "time32": pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time32("s")),
            "time64": pa.array([dt.time(1, 2, 3, 4), None, dt.time(0)], pa.time64("us")),
            "timestamp": pa.array([1, None, -1], pa.timestamp("ns")),
            "seconds": pa.array([1, None, -1], pa.timestamp("s")),
            "zoned": pa.array([1_603_591_200, 1_603_594_800, None], pa.timestamp("s", "Europe/Berlin")),
            "decimal": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal128(10, 2)),
            "nothing": pa.nulls(3),
        }
    )

    assert round_trip(table, as_type="arrow").equals(table)


def test_nullable_integers_of_pandas_come_back_exactly() -> None:
    frame = pd.DataFrame({"n": pd.array([2**62 + 1, None], "Int64"), "b": pd.array([True, None], "boolean")})

    pd.testing.assert_frame_equal(round_trip(frame), frame)


def test_large_integers_with_a_missing_value_lose_no_digit() -> None:
    read: Any = deserialize("x.csv", b"n,m\n9007199254740993,1\n,2\n")

    assert read["n"].tolist() == [9007199254740993, pd.NA]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.tuples(*[st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)] * width), max_size=8
        ).map(lambda rows: (width, rows))
    ),
    st.sampled_from([",", ";", "\t", "|", "~"]),
    st.booleans(),
    st.sampled_from(["", "NA", "-"]),
)
@example((1, [(None,), (None,)]), ",", False, "")
def test_any_text_survives(made: tuple[int, list[tuple[str | None, ...]]], sep: str, header: bool, na: str) -> None:
    width, rows = made
    table = pa.table({f"c{n}": pa.array([row[n] for row in rows], pa.string()) for n in range(width)})

    assert round_trip(table, as_type="arrow", sep=sep, header=header, na=na).equals(table)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.none() | st.floats(allow_nan=False), st.none() | st.integers(-(2**63), 2**63 - 1))))
def test_any_number_survives(rows: list[tuple[float | None, int | None]]) -> None:
    table = pa.table({"f": pa.array([row[0] for row in rows], pa.float64()), "i": pa.array([row[1] for row in rows], pa.int64())})

    assert round_trip(table, as_type="arrow", sep=";", decimal=",").equals(table)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_our_errors(data: bytes) -> None:
    try:
        deserialize("x.csv", data)
    except EpistaError:
        pass


@pytest.mark.parametrize(
    "obj",
    [
        pd.DataFrame({"a": [1, 2]}),
        pd.Series([1, 2], name="a"),
        pl.DataFrame({"a": [1, 2]}),
        pl.Series("a", [1, 2]),
        pa.table({"a": [1, 2]}),
        pa.record_batch({"a": [1, 2]}),
        [{"a": 1}, {"a": np.int64(2)}],
    ],
    ids=lambda obj: f"{type(obj).__module__.partition('.')[0]} {type(obj).__name__}",
)
def test_tables_of_every_library_are_taken(obj: object) -> None:
    assert round_trip(obj, as_type="arrow").to_pydict() == {"a": [1, 2]}


def test_anything_with_the_arrow_c_stream_is_taken() -> None:
    class Result:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.table({"a": [1]}).__arrow_c_stream__(requested_schema)

    assert serialize("x.csv", Result()).data == b"a\n1\n"


def test_the_caller_chooses_the_class_of_the_table() -> None:
    data = b"a\n1\n"

    assert isinstance(deserialize("x.csv", data), pd.DataFrame)
    assert isinstance(deserialize("x.csv", data, as_type="polars"), pl.DataFrame)
    assert isinstance(deserialize("x.csv", data, as_type="arrow"), pa.Table)
    with pytest.raises(FormatError, match="pandas, arrow, polars"):
        deserialize("x.csv", data, as_type="dask")


def test_rows_with_different_keys_make_one_table() -> None:
    assert round_trip([{"a": 1}, {"b": "x"}], as_type="arrow").to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ([1, 2], r"a list does not fit 'x\.csv': .*; a list fits .*\.json"),
        ([{"a": 1}, 2], "a table is a list of dicts; item 1 is a int"),
        ([], "an empty list says nothing about its columns"),
        ([{1: 2}], "column names are strings, not 1"),
        ([{"a": "x"}, {"a": 1}], "column 'a' does not fit"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "Duplicate column names"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])), "several levels"),
        (pd.DataFrame({"a": [[1], [2]]}), "column 'a' is of type list"),
        (pd.DataFrame({"a": [b"x"]}), "column 'a' is of type binary"),
        (pd.DataFrame({"a": [1, "x"]}), "does not fit"),
        (pa.table([[1], [2]], names=["a", "a"]), "several columns are called 'a'"),
        (pd.DataFrame(index=[1, 2]), "rows without columns"),
        ("a,b\n1,2\n", "a str does not fit 'x.csv'"),
    ],
)
def test_what_a_text_table_cannot_hold_is_refused(obj: object, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        serialize("x.csv", obj)


def test_nan_becomes_missing_and_labels_become_strings() -> None:
    made = serialize("x.csv", pl.DataFrame({"a": [1.5, math.nan]}))

    assert made.data == b"a\n1.5\n\n"
    assert list(round_trip(pd.DataFrame(np.zeros((1, 2)))).columns) == ["0", "1"]


def test_the_index_is_kept_when_asked_for() -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=pd.Index(["x", "y"], name="well"))

    assert serialize("x.csv", frame).data == b"n\n1\n2\n"
    pd.testing.assert_frame_equal(round_trip(frame, index=True), frame)
    pd.testing.assert_frame_equal(round_trip(frame.reset_index(), index="well"), frame)


def test_options_at_put_need_no_option_at_read() -> None:
    frame = pd.DataFrame({"a": [1.5, None], "b": ["ä", "NA"]})
    options = {"sep": "|", "decimal": ",", "na": "NA", "encoding": "cp1252"}
    made = serialize("x.csv", frame, options=options)

    assert made.data == 'a|b\n1,5|ä\nNA|"NA"\n'.encode("cp1252")
    pd.testing.assert_frame_equal(round_trip(frame, **options), frame)


def test_a_declared_type_wins_over_the_recorded_one_column_by_column() -> None:
    made = serialize("x.csv", pd.DataFrame({"a": [1], "b": ["001"]}))
    read = deserialize(
        "x.csv", made.data, recorded_format="csv", recorded_options=made.options, options={"dtype": {"a": str}}, as_type="arrow"
    )

    assert isinstance(read, pa.Table)
    assert read.to_pydict() == {"a": ["1"], "b": ["001"]}


def test_a_type_declared_at_put_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FormatError, match="column 'a' is no int64"):
        serialize("x.csv", pd.DataFrame({"a": ["x"]}), options={"dtype": {"a": "int64"}})


def test_a_value_that_does_not_fit_its_declared_type_is_named_with_line_and_column() -> None:
    data = b'# note\nn,s\n1,"two\nlines"\n\nx,y\n3,z\n'

    with pytest.raises(UnreadableError, match=r"'x.csv' .* line 6, column 'n': 'x' is no int64") as caught:
        deserialize("x.csv", data, options={"dtype": {"n": int}})
    assert caught.value.details == {"line": 6, "column": "n"}


def test_a_ragged_line_is_named() -> None:
    with pytest.raises(UnreadableError, match="line 3 has 3 cells, the first has 2"):
        deserialize("x.csv", b"a,b\n1,2\n1,2,3\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator": ";"}, "unknown option for csv: separator; known: decimal, dtype, encoding, header, index, na, sep"),
        ({"sep": "ab"}, "one character is needed"),
        ({"decimal": ",", "sep": ","}, "another one than ','"),
        ({"decimal": "'"}, "'.' or ',' is needed"),
        ({"encoding": "klingon"}, "no such text encoding"),
        ({"dtype": {"a": "complex128"}}, "'complex128' is no type of a column"),
        ({"header": "a"}, "True, False, or a list of column names is needed"),
        ({"na": [1]}, "strings are needed"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_recorded(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        check_options("csv", options)


def test_checked_options_are_json() -> None:
    checked = check_options("csv", {"dtype": {"a": int, "b": np.float64, "c": np.dtype("float32")}, "na": ("x",), "sep": None})

    assert checked == {"dtype": {"a": "int", "b": "float64", "c": "float32"}, "na": ["x"]}
