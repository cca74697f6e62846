"""One aggregation over a table of the lab, governed and logged, beside bare DuckDB on the same file in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import lab
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale

_SQL = "SELECT well, count(*) AS n, avg(value) AS mean, max(value) AS top FROM {} GROUP BY well ORDER BY well"

_START_SECONDS = 1.5
"""What a child that stands by is given to start, outside of the clock: people do not ask again at once."""


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return bare DuckDB, a lab whose next child stands by, and one that starts it with the query."""
    rows = scale.table_rows
    wells = [f"{row}{column:02}" for row in "ABCDEFGH" for column in range(1, 13)]
    table = pa.table({"well": [wells[n % 96] for n in range(rows)], "value": [n * 0.37 % 101 for n in range(rows)]})
    file = folder / "plate.parquet"
    pq.write_table(table, file)
    connection = stack.enter_context(duckdb.connect())
    expected = connection.sql(_SQL.format(f"'{file}'")).to_arrow_table()

    def governed(is_warm: bool) -> Contestant:
        _, ws = stack.enter_context(lab.serving(folder / f"lab-{is_warm}", query_warm_child=is_warm))
        ws.put_file("plate.parquet", file)
        return _turn(lambda: ws.query(_SQL.format("plate")).to_arrow(), expected, _START_SECONDS if is_warm else 0.0)

    return {
        "duckdb": _turn(lambda: connection.sql(_SQL.format(f"'{file}'")).to_arrow_table(), expected, 0.0),
        "epista query, warm": governed(True),
        "epista query, cold": governed(False),
    }


def _turn(ask: Callable[[], pa.Table], expected: pa.Table, pause_seconds: float) -> Contestant:
    def turn() -> Figures:
        time.sleep(pause_seconds)
        with clock() as found:
            answer = ask()
        assert answer.column("well").equals(expected.column("well")), "the same wells"
        assert answer.column("n").equals(expected.column("n")), "as often"
        return found

    return turn
