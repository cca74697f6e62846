from __future__ import annotations

import datetime as dt
import zoneinfo
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import deserialize, serialize


def round_trip(key: str, obj: object, **options: Any) -> Any:
    made = serialize(key, obj, options=options)
    assert serialize(key, obj, options=options).data == made.data
    return deserialize(key, made.data, recorded_format=made.format, recorded_options=made.options)


# The stubs of pandas know fewer dtypes than pandas.
any_pd: Any = pd
_days = any_pd.to_datetime(["2020-01-01 00:00", "2020-10-25 02:30", None])

COLUMNS: dict[str, Any] = {
    **{kind: np.array([1, 2, 3], kind) for kind in ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]},
    **{kind: np.array([1, 2, np.nan], kind) for kind in ["float16", "float32", "float64"]},
    **{kind: any_pd.array([1, None, 0], dtype=kind) for kind in ["Int8", "Int64", "UInt32", "Float32", "Float64", "boolean"]},
    **{kind: any_pd.array(["a", None, ""], dtype=kind) for kind in ("str", "string", "string[python]", "string[pyarrow]")},
    **{f"datetime64[{unit}]": any_pd.Series(_days).astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")},
    **{f"{unit} zoned": any_pd.Series(_days).dt.as_unit(unit).dt.tz_localize("UTC") for unit in ("s", "ns")},
    **{f"timedelta64[{unit}]": any_pd.Series(any_pd.to_timedelta([1, 2, None], "D")).dt.as_unit(unit) for unit in ("s", "ns")},
    "bool": [True, False, True],
    "object strings": any_pd.Series(["a", None, "c"], dtype=object),
    "bytes": [b"a", b"", None],
    "berlin": any_pd.Series(_days).dt.tz_localize(zoneinfo.ZoneInfo("Europe/Berlin"), ambiguous=np.array([True, False, True])),
    "offset": any_pd.Series(_days).dt.tz_localize(dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "ordered": any_pd.Categorical(["a", None, "b"], categories=["c", "b", "a"], ordered=True),
    "unordered": any_pd.Categorical(["a", "b", "a"]),
    "integer categories": any_pd.Categorical([3, 1, None], categories=[9, 3, 1], ordered=True),
    "date categories": any_pd.Categorical(_days),
    "period": any_pd.period_range("2020-01", "2020-03", freq="M"),
    "interval": any_pd.interval_range(0, 3),
    "dates": [dt.date(2020, 1, 1), None, dt.date(1, 1, 1)],
    "times": [dt.time(1, 2, 3), None, dt.time(0)],
    "decimals": [Decimal("1.50"), Decimal("2.25"), None],
    "arrow integers": any_pd.array([1, None, 3], dtype="int64[pyarrow]"),
    "arrow strings": any_pd.array(["a", None, "b"], dtype=any_pd.ArrowDtype(pa.string())),
    "nothing": [None, None, None],
}


@pytest.mark.parametrize("key", ["x.parquet", "x.feather"])
@pytest.mark.parametrize("name", COLUMNS)
def test_every_dtype_of_pandas_survives(key: str, name: str) -> None:
    frame = pd.DataFrame({name: COLUMNS[name], "beside": [1, 2, 3]})

    pd.testing.assert_frame_equal(round_trip(key, frame), frame)


INDEXES: dict[str, Any] = {
    "range": pd.RangeIndex(2, 8, 2, name="i"),
    "integers": pd.Index([3, 1, 2]),
    "strings": pd.Index(["a", "b", "c"], name="n"),
    "times": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
    "levels": pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["p", None]),
    "categories": pd.CategoricalIndex(["a", "b", "a"], ordered=True),
    "intervals": pd.interval_range(0, 3),
    "periods": pd.period_range("2020", periods=3, freq="D"),
    "durations": pd.to_timedelta([1, 2, 3], "s"),
}


@pytest.mark.parametrize("key", ["x.parquet", "x.arrow"])
@pytest.mark.parametrize("name", INDEXES)
def test_every_index_of_pandas_survives(key: str, name: str) -> None:
    frame = pd.DataFrame({"x": pd.Categorical([3, 1, 3]), "s": pd.Series(["a", None, "b"], dtype=object)})
    frame.index = INDEXES[name]

    pd.testing.assert_frame_equal(round_trip(key, frame), frame, check_freq=False)


@pytest.mark.parametrize(
    "columns",
    [[0, 1], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), pd.Index(["a", "b"], name="c"), pd.to_datetime(["2020", "2021"])],
    ids=["integers", "levels", "named", "times"],
)
def test_labels_that_are_no_strings_survive(columns: Any) -> None:
    frame = pd.DataFrame([[1, 2]], columns=columns)

    pd.testing.assert_frame_equal(round_trip("x.parquet", frame), frame)


def test_attributes_survive_or_are_refused() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"unit": "nM"}

    assert round_trip("x.parquet", frame).attrs == {"unit": "nM"}
    frame.attrs = {"unit": object()}
    with pytest.raises(FormatError, match="would not come back"):
        serialize("x.parquet", frame)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1 + 2j]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=["a", 1]),
    ],
    ids=["mixed", "complex", "duplicate labels", "mixed labels"],
)
def test_what_would_not_come_back_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(FormatError):
        serialize("x.parquet", frame)


def test_polars_tables_are_written_with_plain_strings() -> None:
    frame = pl.DataFrame({"s": ["a"], "nested": [["b"]]})
    made = serialize("x.parquet", frame)
    read = deserialize("x.parquet", made.data, as_type="polars")

    assert isinstance(read, pl.DataFrame)
    assert read.equals(frame)
    view = pa.table({"s": pa.array(["a"], pa.string_view()), "n": pa.array([["b"]], pa.list_(pa.string_view()))})
    plain = deserialize("x.parquet", serialize("x.parquet", view).data, as_type="arrow")
    assert isinstance(plain, pa.Table)
    assert plain.schema.types == [pa.string(), pa.list_(pa.string())]


@pytest.mark.parametrize("key", ["x.parquet", "x.arrow"])
def test_columns_are_chosen_at_read(key: str) -> None:
    frame = pd.DataFrame({"a": [1], "b": [2]}, index=pd.Index([7], name="i"))
    data = serialize(key, frame).data

    read = deserialize(key, data, options={"columns": ["b"]}, as_type="arrow")
    assert isinstance(read, pa.Table)
    assert read.to_pydict() == {"b": [2]}
    with pytest.raises(FormatError, match="no column 'z'; columns: a, b, i"):
        deserialize(key, data, options={"columns": ["z"]})


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "brotli", "lz4", "none"])
def test_every_compression_is_read_back(compression: str) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]})

    pd.testing.assert_frame_equal(round_trip("x.parquet", frame, compression=compression), frame)
    with pytest.raises(FormatError, match="one of"):
        serialize("x.arrow", frame, options={"compression": "rar"})


def test_an_arrow_stream_is_read_like_a_file() -> None:
    table = pa.table({"a": [1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    read = deserialize("x.arrow", sink.getvalue().to_pybytes(), as_type="arrow")

    assert isinstance(read, pa.Table)
    assert read.equals(table)


@pytest.mark.parametrize("key", ["x.parquet", "x.arrow"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "text"])
def test_a_malformed_file_is_unreadable(key: str, damage: str) -> None:
    whole = serialize(key, pd.DataFrame({"a": range(1000)})).data
    data = {"cut": whole[: len(whole) // 2], "zeros": bytes(100), "empty": b"", "text": b"a,b\n1,2\n"}[damage]

    with pytest.raises(UnreadableError, match=key):
        deserialize(key, data)
