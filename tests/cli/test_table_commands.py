"""Tables go out in the format that is asked for, and rows come in from files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import epista
from tests.cli.conftest import Run

ROWS = pd.DataFrame({"well": ["A1", "A2"], "value": [1.5, None], "code": ["001", "002"]})


@pytest.fixture
def counts(http_ws: epista.Workspace) -> epista.Workspace:
    http_ws.put("EXP-1/counts.parquet", ROWS)
    return http_ws


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "arrow", "jsonl", "xlsx"])
@pytest.mark.parametrize("source", ["csv", "parquet", "jsonl", "xlsx"])
def test_a_table_is_pulled_in_the_format_of_the_file(http_ws: epista.Workspace, run: Run, source: str, format: str) -> None:
    rows = [{"well": "A1", "code": "001"}, {"well": "A2", "code": "002"}]
    http_ws.put(f"EXP-1/counts.{source}", rows if source == "jsonl" else pd.DataFrame(rows))

    done = run("pull", f"EXP-1/counts.{source}", f"here/out.{format}")

    assert (done.code, done.err) == (0, "")
    assert done.lines == [f"here/out.{format}"]
    again = http_ws.put_file(f"EXP-2/out.{format}", done.lines[0])
    read = http_ws(again)
    read = read if isinstance(read, list) else read.to_dict("records")
    assert [row["well"] for row in read] == ["A1", "A2"]
    assert [row["code"] for row in read] == ["001", "002"]
    assert list(Path("here").iterdir()) == [Path(f"here/out.{format}")]


def test_the_same_format_is_the_same_bytes_and_versions_may_be_named(counts: epista.Workspace, run: Run) -> None:
    counts.put("EXP-1/counts.parquet", ROWS.assign(well=["B1", "B2"]))

    run("pull", "EXP-1/counts.parquet", "same.parquet")
    run("pull", "counts.parquet", "old.csv", "--version", "1")
    run("pull", "EXP-1/counts.parquet", "new.csv.gz")
    run("pull", "EXP-1", "folder.csv")

    with counts.open("EXP-1/counts.parquet") as stream:
        assert Path("same.parquet").read_bytes() == stream.read()
    assert Path("old.csv").read_text().splitlines()[:2] == ["well,value,code", "A1,1.5,001"]
    assert gzip.decompress(Path("new.csv.gz").read_bytes()).startswith(b"well,value,code\nB1")
    assert pq.read_table("folder.csv/counts.parquet").num_rows == 2


def test_a_table_that_the_format_has_no_place_for_is_refused_and_leaves_the_file(http_ws: epista.Workspace, run: Run) -> None:
    http_ws.put("EXP-1/nested.parquet", pa.table({"a": [[1, 2]]}))
    Path("out.csv").write_text("mine")

    done = run("pull", "EXP-1/nested.parquet", "out.csv")

    assert done.code == 1
    assert "use .parquet" in done.err
    assert Path("out.csv").read_text() == "mine"


def test_a_workbook_of_several_sheets_is_no_one_table(http_ws: epista.Workspace, run: Run) -> None:
    http_ws.put("EXP-1/plate.xlsx", {"First": ROWS, "Second": ROWS})

    for file in ("out.csv", "out.jsonl"):
        done = run("pull", "EXP-1/plate.xlsx", file)
        assert (done.code, "several sheets: First, Second" in done.err) == (1, True)


def test_rows_are_appended_from_a_file(counts: epista.Workspace, run: Run) -> None:
    Path("more.csv").write_text("well,value,code\nB1,2.5,x3\n")
    Path("more.jsonl").write_text(json.dumps({"well": "B2", "value": 3.5}) + "\n")

    first = run("append", "EXP-1/counts.parquet", "more.csv")
    second = run("append", "EXP-1/counts.parquet", "more.jsonl", "--json")
    stale = run("append", "EXP-1/counts.parquet", "more.csv", "--expect", "absent")
    wrong = run("append", "EXP-1/counts.csv", "more.csv")

    assert first.lines == ["EXP-1/counts.parquet version 2"]
    assert second.json["number"] == 3
    assert second.json["sha256"] is None
    assert (stale.code, wrong.code) == (6, 1)
    assert counts("EXP-1/counts.parquet")["well"].tolist() == ["A1", "A2", "B1", "B2"]


def test_what_is_known_of_a_table_is_shown(counts: epista.Workspace, run: Run) -> None:
    Path("more.csv").write_text("well,value,code\nB1,2.5,x3\n")
    run("append", "EXP-1/counts.parquet", "more.csv")

    shown = run("get", "EXP-1/counts.parquet").out

    assert "several files" in shown
    assert "3 rows, 3 columns, in 2 files" in shown
    assert "value  double  1.5 to 2.5  1 missing" in shown
