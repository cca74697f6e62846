"""Queries, as a user meets them: names, results, limits, the log, and who may read what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import epista

COUNTS = pd.DataFrame({"well": ["A1", "A2", "B1"], "count": [17, 4, 9], "od": [0.5, None, 0.25]})

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"
"""Nothing but time ends it."""


@pytest.fixture
def counts(ws: epista.Workspace) -> epista.Asset:
    return ws.put("EXP-1/counts.parquet", COUNTS)


def one(result: epista.QueryResult) -> object:
    (row,) = result
    (value,) = row.values()
    return value


def test_a_table_is_asked_by_its_name_its_key_and_its_id(ws: epista.Workspace, counts: epista.Asset) -> None:
    for name in ("counts", '"counts.parquet"', '"EXP-1".counts', '"EXP-1/counts.parquet"', f'"{counts.id}"', "COUNTS"):
        assert one(ws.query(f"SELECT sum(count) FROM {name}")) == 30, name


def test_a_result_is_a_table_of_every_library(ws: epista.Workspace, counts: epista.Asset) -> None:
    result = ws.query("SELECT * FROM counts ORDER BY well")

    pd.testing.assert_frame_equal(result.to_pandas(), COUNTS)
    assert result.to_arrow().column("count").type == pa.int64()
    assert result.to_polars().equals(pl.from_pandas(COUNTS))
    assert pa.table(result).num_rows == pl.DataFrame(result).height == len(result) == 3
    assert result.columns == ["well", "count", "od"]
    assert list(result)[1] == {"well": "A2", "count": 4, "od": None}
    assert "3 rows" in repr(result)
    assert "<table" in result._repr_html_()


def test_markup_in_a_result_stays_text(ws: epista.Workspace) -> None:
    result = ws.query("SELECT '<script>alert(1)</script>' AS \"<b>\", chr(27) || '[2J' AS escape")

    assert "<script>" not in result._repr_html_() and "<b>" not in result._repr_html_()
    assert "\x1b" not in repr(result)


def test_text_tables_are_read_as_notebooks_read_them(ws: epista.Workspace, tmp_path: Path) -> None:
    (tmp_path / "plate.csv").write_text("well;od;at\nA1;0,5;2026-01-02\n007;1,25;2026-01-03\n")
    ws.put_file("plate.csv", tmp_path / "plate.csv")

    found = ws.query("SELECT * FROM plate ORDER BY at").to_pandas()

    assert found["od"].tolist() == [0.5, 1.25]
    assert found["well"].tolist() == ["A1", "007"]
    assert one(ws.query("SELECT max(at) FROM plate")) == date(2026, 1, 3)


def test_the_active_experiment_comes_first(open_workspace: Callable[..., epista.Workspace]) -> None:
    here = open_workspace(experiment="EXP-2")
    here.put("counts.parquet", pd.DataFrame({"count": [1]}))
    here.put("EXP-3/counts.parquet", pd.DataFrame({"count": [2]}))

    assert one(here.query("SELECT count FROM counts")) == 1
    assert one(here.query('SELECT count FROM "EXP-3".counts')) == 2
    with pytest.raises(epista.AmbiguousNameError, match=r"EXP-2/counts\.parquet"):
        open_workspace(experiment="EXP-4").query("SELECT count FROM counts")


def test_values_are_bound_and_never_spliced(ws: epista.Workspace, counts: epista.Asset) -> None:
    nasty = "x' OR 1=1 --"

    assert len(ws.query("SELECT * FROM counts WHERE well = ?", params=[nasty])) == 0
    assert len(ws.query("SELECT * FROM counts WHERE well = $well", params={"well": "A1"})) == 1
    given = [1, 2.5, "x", None, True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), Decimal("1.50"), b"\0\xff"]
    (row,) = ws.query(f"SELECT {', '.join(f'? AS c{n}' for n in range(len(given)))}", params=given)
    assert list(row.values()) == given
    with pytest.raises(epista.QueryError):
        ws.query("SELECT ?", params=[])


def test_an_older_version_is_asked_by_number_and_by_time(ws: epista.Workspace, counts: epista.Asset) -> None:
    before = datetime.now(UTC)
    time.sleep(0.01)
    ws.put("EXP-1/counts.parquet", COUNTS.head(1))

    assert one(ws.query("SELECT count(*) FROM counts")) == 1
    assert one(ws.query('SELECT count(*) FROM "counts@1"')) == 3
    assert one(ws.query("SELECT count(*) FROM counts", as_of={"counts": 1})) == 3
    assert one(ws.query("SELECT count(*) FROM counts", as_of=before)) == 3
    with pytest.raises(epista.KeyNotFoundError):
        ws.query("SELECT count(*) FROM counts", as_of=before - timedelta(days=1))


def test_what_cannot_be_asked_is_said_clearly(ws: epista.Workspace, counts: epista.Asset) -> None:
    with pytest.raises(epista.QuerySyntaxError) as wrong:
        ws.query("SELECT *\nFROM counts WHERE (")
    assert wrong.value.line == 2
    with pytest.raises(epista.QueryRefusedError):
        ws.query("COPY counts TO '/tmp/x'")
    with pytest.raises(epista.QueryRefusedError, match="read_text"):
        ws.query("SELECT * FROM read_text('/etc/passwd')")
    with pytest.raises(epista.KeyNotFoundError):
        ws.query("SELECT * FROM nothing")
    with pytest.raises(epista.QueryError, match="colour") as missing:
        ws.query("SELECT colour FROM counts")
    assert "t_" not in missing.value.message and "/" not in missing.value.message
    with pytest.raises(epista.QueryError):
        ws.query("SELECT CAST('stop' AS INTEGER)")


def test_the_log_says_who_asked_what_of_which_versions(ws: epista.Workspace, counts: epista.Asset) -> None:
    result = ws.query("SELECT * FROM counts WHERE count > $n", params={"n": 5})
    with pytest.raises(epista.QueryRefusedError):
        ws.query("DROP TABLE counts")

    refused, done = ws.queries()[:2]

    assert (done.id, done.status, done.rows, done.params) == (result.query_id, "done", 2, {"n": 5})
    assert [(source.key, source.version) for source in done.inputs] == [("EXP-1/counts.parquet", counts.version)]
    assert result.inputs == done.inputs
    assert done.ended_at is not None and done.ended_at >= done.created_at
    assert (refused.status, refused.error, refused.inputs) == ("refused", "query_refused", ())


def test_a_query_is_cancelled_from_elsewhere(ws: epista.Workspace) -> None:
    errors: list[epista.EpistaError] = []

    def ask() -> None:
        try:
            ws.query(ENDLESS)
        except epista.EpistaError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    while not (running := [query for query in ws.queries()[:5] if query.status == "running"]):
        assert asking.is_alive(), errors
        time.sleep(0.05)
    ws.cancel_query(running[0].id)
    asking.join(30)

    assert isinstance(errors[0], epista.QueryCancelledError)
    assert ws.queries()[0].status == "cancelled"


def test_whoever_leaves_ends_the_query(ws: epista.Workspace) -> None:
    with ws.query_batches("SELECT * FROM range(1000000000)") as coming:
        assert next(coming).num_rows
    for _ in range(100):
        if (last := ws.queries()[0]).status != "running":
            break
        time.sleep(0.05)
    assert last.status == "cancelled" and last.id == coming.query_id


def test_a_result_larger_than_memory_streams(ws: epista.Workspace) -> None:
    with ws.query_batches("SELECT range AS n FROM range(3_000_000)") as coming:
        rows = [batch.num_rows for batch in coming]

    assert sum(rows) == coming.rows == 3_000_000
    assert len(rows) > 10


def test_the_plan_is_told_without_what_lies_below(ws: epista.Workspace, counts: epista.Asset) -> None:
    plan = ws.explain("SELECT sum(count) FROM counts WHERE od > 0.3")

    assert "od" in plan
    assert ".parquet" not in plan and "/tmp" not in plan and "t_" not in plan
