from __future__ import annotations

from typing import Any

import pytest

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import text_tables


def read(text: str | bytes, **options: Any) -> dict[str, list[Any]]:
    data = text if isinstance(text, bytes) else text.encode()
    columns: dict[str, list[Any]] = text_tables.read(data, **options).table.to_pydict()
    return columns


def types(text: str, **options: Any) -> list[str]:
    return [str(kind) for kind in text_tables.read(text.encode(), **options).table.schema.types]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["true", "FALSE"], "bool"),
        (["0", "1"], "int64"),
        (["-5", "+7", " 8 "], "int64"),
        (["001", "002"], "string"),
        (["0", "01"], "string"),
        (["9223372036854775807"], "int64"),
        (["9223372036854775808"], "string"),
        (["1.5", "2"], "double"),
        (["1e5", "-.5", "2."], "double"),
        (["1.5", "12345678901234567"], "string"),
        (["00.5"], "string"),
        (["1.5", "inf"], "double"),
        (["1", "x"], "string"),
        (["0x10"], "string"),
        (["true", "1"], "string"),
        (["1,5"], "string"),
        (["2026-01-31"], "date32[day]"),
        (["2026-02-30"], "string"),
        (["2026-01-31 10:00", "2026-01-31T10:00:01.5"], "timestamp[us]"),
        (["2026-01-31 10:00:00.123456789"], "timestamp[ns]"),
        (["2026-01-31T10:00:00Z", "2026-01-31T10:00:00+02:00"], "timestamp[us, tz=UTC]"),
        (["2026-01-31T10:00:00Z", "2026-01-31T10:00:00"], "string"),
        (["01/02/2026", "03/04/2026"], "string"),
        (["01/02/2026", "31/12/2025"], "date32[day]"),
        (["31/12/2025", "12/31/2025"], "string"),
        (["1/13/2026 9:05"], "timestamp[us]"),
        (["12-Feb-2026"], "date32[day]"),
        (["12:30"], "string"),
        (["", ""], "string"),
    ],
)
def test_a_column_has_a_type_only_if_every_value_fits(values: list[str], kind: str) -> None:
    rows = "\n".join(f'row;"{value}"' if value else "row;" for value in values).replace(";", "|")

    assert types(f"name|value\n{rows}\n", header=True, sep="|") == ["string", kind]


def test_one_misfit_far_below_makes_a_column_text() -> None:
    rows = "\n".join(str(n) for n in range(5000))

    assert types(f"n\n{rows}\nx\n") == ["string"]


def test_day_and_month_are_never_guessed() -> None:
    assert read("d\n01/02/2026\n13/02/2026\n", dtype=None)["d"][0].isoformat() == "2026-02-01"
    assert read("d\n01/02/2026\n02/13/2026\n")["d"][0].isoformat() == "2026-01-02"
    assert read("d\n01/02/2026\n02/01/2026\n")["d"][0] == "01/02/2026"


def test_missing_differs_from_empty() -> None:
    assert read('a,b\nx,\n"",1\n,2\n') == {"a": ["x", "", None], "b": [None, 1, 2]}


def test_words_for_missing_count_only_beside_numbers_bools_and_dates() -> None:
    text = "n,b,d,s\nNA,N/A,null,NA\n1,true,2026-01-01,x\nNaN,false,NA,null\n"
    columns = read(text)

    assert columns["n"] == [None, 1, None]
    assert columns["b"] == [None, True, False]
    assert [str(day) for day in columns["d"]] == ["None", "2026-01-01", "None"]
    assert columns["s"] == ["NA", "x", "null"]


def test_further_words_for_missing_are_taken_where_unquoted() -> None:
    assert read('s,n\n-,-\n"-",1\n', na=["-"], header=True) == {"s": [None, "-"], "n": [None, 1]}


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
def test_the_separator_is_found(sep: str) -> None:
    text = f'name{sep}note{sep}n\nx{sep}"a,b;c|d"{sep}1\ny{sep}z{sep}2\n'

    assert read(text) == {"name": ["x", "y"], "note": ["a,b;c|d", "z"], "n": [1, 2]}


def test_decimal_commas_are_numbers_where_semicolons_separate() -> None:
    assert read("a;b\n1,5;2\n3,25;4\n") == {"a": [1.5, 3.25], "b": [2, 4]}
    assert read("1,5;2,5\n3,5;4,5\n") == {"column0": [1.5, 3.5], "column1": [2.5, 4.5]}


def test_a_thousand_under_a_tab_is_no_decimal() -> None:
    assert read("a\tb\n1,234\tx\n") == {"a": ["1,234"], "b": ["x"]}
    assert read("a\tb\n1,234\tx\n0,5\ty\n") == {"a": [1.234, 0.5], "b": ["x", "y"]}


def test_points_are_no_decimals_in_a_file_with_decimal_commas() -> None:
    assert read("a;b\n1,5;1.234\n") == {"a": [1.5], "b": ["1.234"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b\n1,2\n", ["a", "b"]),
        ("1,2\n3,4\n", ["column0", "column1"]),
        ("name,id\nx,001\n", ["name", "id"]),
        ("x,1\ny,2\n", ["column0", "column1"]),
        ("a,b\n", ["a", "b"]),
        ("1,2\n", ["column0", "column1"]),
        ("a,a,n\nx,y,1\n", ["a", "a_1", "n"]),
        ('"",a\n1,x\n', ["column0", "a"]),
        (" a, b\n1,2\n", ["a", "b"]),
        ("\n# by the machine\n\na,b\n1,2\n", ["a", "b"]),
    ],
)
def test_the_header_is_the_row_whose_types_differ(text: str, names: list[str]) -> None:
    assert list(read(text)) == names


def test_a_header_may_be_told() -> None:
    assert read("1,2\n3,4\n", header=True) == {"1": [3], "2": [4]}
    assert read("a,b\n", header=False) == {"column0": ["a"], "column1": ["b"]}
    assert read("1,2\n", header=["x", "y"]) == {"x": [1], "y": [2]}
    with pytest.raises(FormatError, match="header= has 1 names, the file 2 columns"):
        read("1,2\n", header=["x"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_encoding_is_found(encoding: str) -> None:
    result = text_tables.read("größe,n\nä,1\n".encode(encoding))

    assert result.table.to_pydict() == {"größe": ["ä"], "n": [1]}
    assert result.notes == []


def test_what_is_not_utf_8_is_read_as_cp1252_with_a_note() -> None:
    result = text_tables.read("größe,n\n€,1\n".encode("cp1252"))

    assert result.table.to_pydict() == {"größe": ["€"], "n": [1]}
    assert result.notes == ["not UTF-8; read as cp1252 (Windows, Western Europe)"]


@pytest.mark.parametrize("data", [b"a,b\n\x81\n", b"a\0b,c\n1,2\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_text_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        read(data)


def test_blank_lines_are_records_in_one_column_only() -> None:
    assert read("a\n1\n\n3\n") == {"a": [1, None, 3]}
    assert read("a,b\n1,2\n\n3,4\n") == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(end: str) -> None:
    assert read(f"a,b{end}1,x{end}2,y{end}") == {"a": [1, 2], "b": ["x", "y"]}


def test_a_cell_larger_than_a_block_is_read() -> None:
    large = "x" * (9 * 1024**2)

    assert read(f'a,b\n1,"{large}"\n')["b"] == [large]


def test_declared_types_win_over_what_the_values_look_like() -> None:
    text = "a,b,c,d\n001,1,31/12/2025,0\n002,NA,01/02/2026,1\n"
    columns = read(text, dtype={"a": "int64", "b": "string", "c": "date", "d": "bool"})

    assert columns["a"] == [1, 2]
    assert columns["b"] == ["1", "NA"]
    assert columns["c"][1].isoformat() == "2026-02-01"
    assert columns["d"] == [False, True]


def test_an_empty_file_is_an_empty_table() -> None:
    assert read("") == {}
    assert read("# nothing but a comment\n") == {}
    assert read("", header=["a"]) == {"a": []}
