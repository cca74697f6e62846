"""Files of tables become parquet that every engine reads, in limited children."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epista.contract.errors import FormatError, IntegrityError, TooLargeError, UnreadableError
from epista.server.engines.table_files import Column, Facts
from epista.server.engines.tables import TableFiles
from tests.makers import sha256

GIB = 1024**3


@pytest.fixture(scope="module")
def engine() -> Iterator[TableFiles]:
    files = TableFiles(memory_bytes=2 * GIB, file_bytes=GIB, seconds=60, children=1)
    yield files
    files.close()


class Convert:
    def __init__(self, engine: TableFiles, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self.into = folder / "out.parquet"

    def __call__(self, data: bytes, format: str, *, gzipped: bool = False, sheet: str | None = None, **options: Any) -> Facts:
        source = self._folder / "source"
        source.write_bytes(data)
        self.into.unlink(missing_ok=True)
        return self._engine.convert(
            source, sha256=sha256(data), format=format, gzipped=gzipped, options=options, sheet=sheet, into=self.into
        )

    def rows(self) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            table = connection.sql(f"SELECT * FROM read_parquet('{self.into}')").to_arrow_table()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@pytest.fixture
def convert(engine: TableFiles, tmp_path: Path) -> Convert:
    return Convert(engine, tmp_path)


def types(facts: Facts) -> dict[str, str]:
    return {column.name: column.type for column in facts.columns}


def arrow_file(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return bytes(out.getvalue())


def parquet_file(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_text_is_typed_by_every_value(convert: Convert) -> None:
    lines = "".join(f"{n};0{n};{n},5;2026-01-{1 + n % 28:02}\n" for n in range(3000))
    facts = convert(b"number;code;value;day\n" + lines.encode() + b"x;1;2,5;\n", "csv")

    assert types(facts) == {"number": "string", "code": "string", "value": "double", "day": "date32[day]"}
    assert facts.rows == 3001
    assert convert.rows()[0] == ("0", "00", 0.5, datetime.date(2026, 1, 1))
    assert facts.files[0].columns["day"].nulls == 1
    assert facts.files[0].columns["day"].max == "2026-01-28"
    assert facts.files[0].columns["value"].min == 0.5


def test_what_was_recorded_wins(convert: Convert) -> None:
    facts = convert(b"1|NA|x\n2|-|y\n", "csv", sep="|", header=["a", "b", "c"], dtype={"a": "string", "b": "Int64"}, na=["-", ""])

    assert types(facts) == {"a": "string", "b": "int64", "c": "string"}
    assert convert.rows() == [("1", None, "x"), ("2", None, "y")]


def test_a_value_that_does_not_fit_its_type_is_named(convert: Convert) -> None:
    with pytest.raises(UnreadableError, match=r"line 3, column 'b': 'x' is no int64") as caught:
        convert(b"a,b\n1,2\n3,x\n", "csv", dtype={"b": "int64"})

    assert caught.value.details == {"line": 3, "column": "b"}
    with pytest.raises(FormatError, match="dtype= names no column 'c'"):
        convert(b"a,b\n1,2\n", "csv", dtype={"c": "int64"})


@pytest.mark.parametrize(
    "options", [{"sep": "ab"}, {"dtype": 5}, {"header": "x"}, {"encoding": "zip"}, {"encoding": 7}, {"na": 1}, {"other": 1}]
)
def test_options_that_make_no_sense_are_refused(convert: Convert, options: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        convert(b"a,b\n1,2\n", "csv", **options)


def test_notes_say_what_was_assumed(convert: Convert) -> None:
    facts = convert("grösse,a\nmüller,1\n".encode("cp1252"), "csv")

    assert "cp1252" in facts.notes[0]
    assert convert.rows() == [("müller", 1)]


def test_gzip_and_tabs(convert: Convert) -> None:
    assert types(convert(gzip.compress(b"a\tb\n1\tx\n"), "tsv", gzipped=True)) == {"a": "int64", "b": "string"}
    assert convert.rows() == [(1, "x")]
    with pytest.raises(UnreadableError, match="gzip"):
        convert(b"a\tb\n", "tsv", gzipped=True)
    assert [path.name for path in convert.into.parent.iterdir() if "unpacked" in path.name] == []


def test_lines_of_json(convert: Convert) -> None:
    rows = [
        {"a": 1, "b": {"c": [1, 2]}},
        {"b": None, "d": "x"},
        {"a": 2.5, "mixed": 1},
        {"mixed": {"x": 1}},
        {"none": None, "e": {}},
    ]
    facts = convert("".join(json.dumps(row) + "\n" for row in rows).encode() + b"\n", "jsonl")

    assert types(facts)["a"] == "double"
    assert types(facts)["b"].startswith("struct<c: list<")
    assert types(facts)["none"] == types(facts)["mixed"] == types(facts)["e"] == "string"
    assert [row[3] for row in convert.rows()] == [None, None, "1", '{"x": 1}', None]
    assert len(facts.notes) == 2
    for bad, where in ((b'{"a": 1}\n[1]\n', "line 2 is no JSON object"), (b'{"a": 1}\n{\n', "line 2 is no JSON")):
        with pytest.raises(UnreadableError, match=where):
            convert(bad, "jsonl")


def test_workbooks(convert: Convert) -> None:
    book = io.BytesIO()
    with pd.ExcelWriter(book) as writer:
        pd.DataFrame({"well": ["A1", "A2"], "mixed": [1, "x"], 7: [1.5, None]}).to_excel(writer, sheet_name="First", index=False)
        pd.DataFrame({"b": [1]}).to_excel(writer, sheet_name="Second", index=False)

    facts = convert(book.getvalue(), "xlsx")
    assert types(facts) == {"well": "string", "mixed": "string", "7": "double"}
    assert convert.rows() == [("A1", "1", 1.5), ("A2", "x", None)]
    assert list(types(convert(book.getvalue(), "xlsx", sheet="Second"))) == ["b"]
    with pytest.raises(FormatError, match="no sheet 'Third'; sheets: 'First', 'Second'"):
        convert(book.getvalue(), "xlsx", sheet="Third")
    with pytest.raises(UnreadableError):
        convert(b"no workbook", "xlsx")


KINDS = pa.table(
    {
        "view": pa.array(["a", None], pa.string_view()),
        "large": pa.array(["a", None], pa.large_string()),
        "dictionary": pa.array(["a", None]).dictionary_encode(),
        "binary": pa.array([b"\x00", None], pa.large_binary()),
        "half": pa.array([1.5, None], pa.float16()),
        "seconds": pa.array([0, None], pa.timestamp("s", "Europe/Berlin")),
        "nanos": pa.array([1, None], pa.timestamp("ns")),
        "day": pa.array([0, None], pa.date64()),
        "decimal": pa.array([decimal.Decimal("1.50"), None]),
        "list": pa.array([["a"], None], pa.large_list(pa.string_view())),
        "struct": pa.array([{"x": "a"}, None], pa.struct([("x", pa.large_string())])),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
        "fixed": pa.array([[1, 2], None], pa.list_(pa.int16(), 2)),
        "time": pa.array([0, None], pa.time64("us")),
        "unsigned": pa.array([2**64 - 1, None], pa.uint64()),
        "none": pa.nulls(2),
    }
)


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_every_type_becomes_plain(convert: Convert, format: str) -> None:
    data = arrow_file(KINDS) if format == "arrow" else parquet_file(KINDS)
    facts = convert(data, format)

    found = types(facts)
    assert found["view"] == found["large"] == found["dictionary"] == found["none"] == "string"
    assert found["binary"] == "binary"
    assert found["half"] == "float"
    assert found["seconds"] == "timestamp[ms, tz=Europe/Berlin]"
    assert found["nanos"] == "timestamp[ns]"
    assert found["list"] == "list<item: string>"
    assert found["struct"] == "struct<x: string>"
    written = pq.read_schema(convert.into)
    assert not any("view" in str(kind) or "large" in str(kind) or "dictionary" in str(kind) for kind in written.types)
    assert len(convert.rows()) == 2
    assert convert.rows()[1] == (None,) * len(KINDS.schema)


def test_odd_and_double_names_of_columns_are_told_apart(convert: Convert, engine: TableFiles, tmp_path: Path) -> None:
    table = pa.table([pa.array([n]) for n in range(6)], names=["a", "A", "", "a", 'b "c".d', "a_1"])
    odd = tmp_path / "odd.parquet"
    odd.write_bytes(parquet_file(table))

    inspected = engine.inspect(odd)
    facts = convert(odd.read_bytes(), "parquet")

    assert not inspected.is_plain
    assert [column.name for column in facts.columns] == ["a", "A_1", "column2", "a_2", 'b "c".d', "a_1_1"]
    assert inspected.columns == facts.columns
    assert any("'A', is called 'A_1'" in note for note in facts.notes)
    assert convert.rows() == [tuple(range(6))]


def test_parquet_of_other_tools_is_read_as_it_is(engine: TableFiles, tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(KINDS.drop_columns(["half", "none"]), path, row_group_size=1)

    facts = engine.inspect(path)

    assert facts.is_plain
    assert {"string"} == {types(facts)[name] for name in ("view", "large", "dictionary")}
    assert facts.rows == facts.files[0].rows == 2
    assert facts.files[0].columns["view"].max == "a"
    assert facts.files[0].columns["unsigned"].max == 2**64 - 1
    assert facts.files[0].columns["nanos"].nulls == 1
    for bad in (b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1"):
        path.write_bytes(bad)
        with pytest.raises(UnreadableError):
            engine.inspect(path)


def test_files_are_joined_by_name(engine: TableFiles, tmp_path: Path) -> None:
    one, other, into = (tmp_path / name for name in ("one", "other", "into"))
    pq.write_table(pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", "y"]}), one)
    pq.write_table(pa.table({"c": [1.5], "a": pa.array([2**40])}), other)
    columns = [Column(name="a", type="int64"), Column(name="b", type="string"), Column(name="c", type="double")]
    schemas = [*engine.inspect(one).schemas, *engine.inspect(other).schemas]

    facts = engine.join([one, other], columns=columns, schemas=schemas, into=into)

    assert facts.rows == 3
    assert pq.read_table(into).to_pylist() == [
        {"a": 1, "b": "x", "c": None},
        {"a": 2, "b": "y", "c": None},
        {"a": 2**40, "b": None, "c": 1.5},
    ]
    narrow = [Column(name="a", type="int8")]
    with pytest.raises(FormatError, match="column 'a' does not fit int8"):
        engine.join([other], columns=narrow, schemas=schemas, into=tmp_path / "narrow")


def test_bytes_that_are_not_what_was_recorded_are_not_read(engine: TableFiles, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a\n1\n")

    with pytest.raises(IntegrityError):
        engine.convert(
            source, sha256=sha256(b"other"), format="csv", gzipped=False, options={}, sheet=None, into=tmp_path / "into"
        )


def test_a_table_that_is_too_large_says_so(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * 7919) for n in range(2_000_000)))
    given: dict[str, Any] = {"sha256": None, "format": "csv", "gzipped": False, "options": {}, "sheet": None}

    for limits in ({"memory_bytes": GIB // 3}, {"file_bytes": 1024 * 1024}, {"seconds": 0.05}):
        engine = TableFiles(**({"memory_bytes": 4 * GIB, "file_bytes": GIB, "seconds": 60.0} | limits))
        with pytest.raises(TooLargeError):
            engine.convert(source, into=tmp_path / f"into-{next(iter(limits))}", **given)
        engine.close()
