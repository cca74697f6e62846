"""
Queries over a table of the lab, governed and logged, beside bare DuckDB on the same file in this process.

One is a small aggregation. The other gives every row of a large table, and is timed to its first batch, and to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks import lab
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import MIB, Scale

_SQL = "SELECT well, count(*) AS n, avg(value) AS mean, max(value) AS top FROM {} GROUP BY well ORDER BY well"

_LARGE = "SELECT * FROM {} WHERE value >= 0"

_LARGE_TABLES = 6
"""How many times the rows of the other table the large one has."""

_START_SECONDS = 1.5
"""What a child that stands by is given to start, outside of the clock: people do not ask again at once."""


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return bare DuckDB, a lab whose next child stands by, and one that starts it with the query."""
    table = _plate(scale.table_rows)
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


def streams(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return bare DuckDB and a lab, both of which give every row of a large table."""
    rows = scale.table_rows
    table = _plate(rows)
    many = folder / "plates.parquet"
    pq.write_table(pa.concat_tables([table] * _LARGE_TABLES), many)
    connection = stack.enter_context(duckdb.connect())
    server, ws = stack.enter_context(lab.serving(folder / "lab-large"))
    ws.put_file("plates.parquet", many)

    def streamed() -> Figures:
        time.sleep(_START_SECONDS)
        own = [member for member in server.family() if not any("epista.server.engines" in word for word in member.cmdline())]
        before = sum(member.memory_info().rss for member in own) / MIB
        lab.forget_peaks(server)
        began = time.perf_counter()
        with ws.query_batches(_LARGE.format("plates")) as batches:
            found = _read(batches, began, _LARGE_TABLES * rows)
        return found | {"server_mib": sum(lab.peak_mib(member.pid) for member in own) - before}

    def bare() -> Figures:
        began = time.perf_counter()
        return _read(connection.sql(_LARGE.format(f"'{many}'")).to_arrow_reader(65_536), began, _LARGE_TABLES * rows)

    return {"duckdb, all rows": bare, "epista query_batches": streamed}


def _plate(rows: int) -> pa.Table:
    wells = [f"{row}{column:02}" for row in "ABCDEFGH" for column in range(1, 13)]
    return pa.table({"well": [wells[n % 96] for n in range(rows)], "value": [n * 0.37 % 101 for n in range(rows)]})


def _read(batches: Iterable[pa.RecordBatch], began: float, expected: int) -> Figures:
    rows = 0
    first = None
    for batch in batches:
        first = first or time.perf_counter() - began
        rows += batch.num_rows
    assert rows == expected, "all rows"
    assert first is not None
    return {"first_seconds": first, "seconds": time.perf_counter() - began}


def _turn(ask: Callable[[], pa.Table], expected: pa.Table, pause_seconds: float) -> Contestant:
    def turn() -> Figures:
        time.sleep(pause_seconds)
        with clock() as found:
            answer = ask()
        assert answer.column("well").equals(expected.column("well")), "the same wells"
        assert answer.column("n").equals(expected.column("n")), "as often"
        return found

    return turn
