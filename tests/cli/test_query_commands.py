"""The commands that ask: query and queries."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

CSV = "well,count\nA1,17\nA2,4\nB1,\n"


@pytest.fixture(autouse=True)
def counts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text(CSV, encoding="utf-8")
    assert run("put", "counts.csv", "EXP-12/").code == 0


def test_rows_are_shown_as_a_table(run: Run) -> None:
    done = run("query", "SELECT * FROM counts ORDER BY well", "--limit", "2")

    assert done.code == 0
    assert [line.split() for line in done.lines] == [["well", "count"], ["A1", "17"], ["A2", "4"]]
    assert "3 rows, 2 shown" in done.err


def test_programs_get_json(run: Run) -> None:
    found = run("query", 'SELECT * FROM "EXP-12".counts ORDER BY well', "--json").json

    assert found["columns"] == ["well", "count"]
    assert found["rows"][2] == {"well": "B1", "count": None}
    assert run("queries", "--json").json["queries"][0]["id"] == found["query"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "xlsx", "arrow", "jsonl"])
def test_a_whole_result_goes_into_a_file(run: Run, suffix: str, tmp_path: Path) -> None:
    done = run("query", "FROM counts ORDER BY well", "--out", f"out.{suffix}")

    assert done.code == 0, done.err
    assert done.lines == [f"out.{suffix}"]
    data = (tmp_path / f"out.{suffix}").read_bytes()
    readers: dict[str, Callable[[], Any]] = {
        "parquet": lambda: pq.read_table(io.BytesIO(data)).to_pandas(),
        "csv": lambda: pd.read_csv(io.BytesIO(data)),
        "tsv": lambda: pd.read_csv(io.BytesIO(data), sep="\t"),
        "xlsx": lambda: pd.read_excel(io.BytesIO(data), engine="openpyxl"),
        "arrow": lambda: pa.ipc.open_file(io.BytesIO(data)).read_pandas(),
        "jsonl": lambda: pd.read_json(io.BytesIO(data), lines=True),
    }
    read = readers[suffix]()
    assert read["well"].tolist() == ["A1", "A2", "B1"]
    assert read["count"].tolist()[:2] == [17, 4] and pd.isna(read["count"][2])


def test_a_dash_writes_csv_to_stdout(run: Run) -> None:
    assert run("query", "SELECT * FROM counts ORDER BY well", "--out", "-").out == CSV


def test_a_failed_query_leaves_no_file_and_the_old_one_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("precious")

    done = run("query", "SELECT CASE WHEN range > 200000 THEN CAST('stop' AS INTEGER) END FROM range(300000)", "--out", "out.csv")

    assert done.code == 1 and "stop" in done.err
    assert (tmp_path / "out.csv").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_values_are_given_by_name_or_in_their_order(run: Run) -> None:
    assert run("query", "SELECT count FROM counts WHERE well = $w", "--param", "w=A2", "--json").json["rows"] == [{"count": 4}]
    assert run("query", "SELECT well FROM counts WHERE count > ?", "--param", "10", "--json").json["rows"] == [{"well": "A1"}]


def test_what_is_wrong_has_its_exit_code(run: Run) -> None:
    assert run("query", "SELECT * FROM nowhere").code == 3
    assert run("query", "DROP TABLE counts").code == 4
    assert run("query", "SELECT (").code == 1
    assert run("query", "SELECT 1", "--out", "x.docx").code == 1
    assert run("query", "SELECT 1", "--out", "nowhere/x.csv").code == 2


def test_queries_are_listed_newest_first(run: Run) -> None:
    run("query", "SELECT 1 AS one")
    run("query", "DROP TABLE counts")

    lines = run("queries").lines

    assert lines[0].split()[:2] == ["status", "rows"]
    assert lines[1].startswith("refused") and "DROP TABLE" in lines[1]
    assert lines[2].startswith("done") and "SELECT 1 AS one" in lines[2]
