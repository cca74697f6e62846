"""
The engine by itself: what its process keeps shut although the SQL was never bound, and what is left of it afterwards.

`forged` gives it any text, as nothing but a fault in the binding could.
"""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epista.contract.errors import (
    EpistaError,
    QueryCancelledError,
    QueryError,
    QueryMemoryError,
    QueryTimeoutError,
    ResultTooLargeError,
)
from epista.server.engines.duckdb import DuckDB
from epista.server.engines.plans import BoundTable, Column, Limits, Plan

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"


class Forged:
    """A tree that prints whatever it was given."""

    def __init__(self, sql: str) -> None:
        self._sql = sql

    def copy(self) -> Forged:
        return self

    def find_all(self, kind: Any) -> list[Any]:
        return []

    def sql(self, dialect: str) -> str:
        return self._sql


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDB]:
    engine = DuckDB(tmp_path / "scratch")
    yield engine
    engine.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def table(tmp_path: Path) -> BoundTable:
    first, second = tmp_path / "it's 1.parquet", tmp_path / "2.parquet"
    pq.write_table(pa.table({"a": [1, 2], "filename": ["x", "y"]}), first)
    pq.write_table(pa.table({"a": [3], "filename": ["z"], "b": ["new"]}), second)
    schema = tuple(Column(name=name, type=type) for name, type in (("a", "int64"), ("filename", "string"), ("b", "string")))
    return BoundTable(internal="t_0123456789abcdef", version="ve_1", files=(str(first), str(second)), schema=schema)


def plan(sql: str, *tables: BoundTable, **limits: Any) -> Plan:
    forged: Any = Forged(sql)
    return Plan(ast=forged, tables=tables, limits=Limits(**limits))


def ask(engine: DuckDB, sql: str, *tables: BoundTable, **limits: Any) -> pa.Table:
    data = b"".join(engine.run(plan(sql, *tables, **limits), query_id="qu_1"))
    return pa.ipc.open_stream(io.BytesIO(data)).read_all()


def test_a_table_is_its_files_in_order_with_null_for_what_older_ones_have_not(engine: DuckDB, table: BoundTable) -> None:
    found = ask(engine, "SELECT * FROM t_0123456789abcdef ORDER BY a", table)

    assert found.to_pydict() == {"a": [1, 2, 3], "filename": ["x", "y", "z"], "b": [None, None, "new"]}


def test_types_are_such_as_every_library_takes(engine: DuckDB) -> None:
    found = ask(engine, "SELECT sum(range) AS s, 'x'::ENUM('x') AS e, now() AS t, 1.5 AS d, uuid() AS u FROM range(10)")

    assert [str(field.type) for field in found.schema] == [
        "int64",
        "string",
        "timestamp[us, tz=UTC]",
        "decimal128(2, 1)",
        "string",
    ]
    assert ask(engine, "SELECT 1 AS a WHERE false").num_rows == 0
    with pytest.raises(QueryError, match="64 bits"):
        ask(engine, "SELECT 9223372036854775807::HUGEINT * 2 AS x")


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "duckdb_child" in " ".join(one.cmdline())]


SHUT = [
    "SELECT * FROM read_text('{other}')",
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM '{link}'",
    "SELECT * FROM read_text('{folder}/scratch/../other.csv')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_text('file://{other}')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{table}'",
    "ATTACH '{folder}/out.db'",
    "EXPORT DATABASE '{folder}/out'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_paths = ['{other}']",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "SET temp_directory = '{folder}'",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
]


@pytest.mark.parametrize("sql", SHUT)
def test_the_sandbox_itself_keeps_everything_else_shut(engine: DuckDB, table: BoundTable, tmp_path: Path, sql: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text("secret\n")
    (tmp_path / "link").symlink_to(other)
    before = {path: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()}
    places = {"other": other, "link": tmp_path / "link", "folder": tmp_path, "table": table.files[0].replace("'", "''")}

    with pytest.raises(EpistaError) as refused:
        ask(engine, sql.format(**places), table)

    assert "secret" not in str(refused.value)
    assert {path: path.stat().st_size for path in tmp_path.iterdir() if path.is_file()} == before


def test_no_variable_of_the_server_is_in_the_child(engine: DuckDB, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_SERVER", "told")
    result = engine.run(plan(ENDLESS, seconds=30.0), query_id="qu_1")

    running = children()
    told = [name for child in running for name in child.environ()]
    result.close()

    assert running and "PATH" not in told and "A_SECRET_OF_THE_SERVER" not in told


def test_bombs_hit_their_limits(engine: DuckDB) -> None:
    with pytest.raises(QueryMemoryError):
        ask(engine, "SELECT length(repeat('x', 2000000000)) + length(repeat('y', 2000000000))", memory_bytes=64 * 1024**2)
    with pytest.raises(QueryMemoryError, match="disk"):
        ask(
            engine,
            "SELECT * FROM (SELECT random() AS r, repeat('x', 500) AS s FROM range(2000000)) ORDER BY r",
            memory_bytes=128 * 1024**2,
            spill_bytes=8 * 1024**2,
        )
    for sql in (ENDLESS, "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT max(n) FROM x"):
        with pytest.raises((QueryTimeoutError, QueryMemoryError)):
            ask(engine, sql, seconds=1.0)
    with pytest.raises(ResultTooLargeError, match="10 rows"):
        ask(engine, "SELECT * FROM range(11)", rows=10)
    with pytest.raises(ResultTooLargeError, match="bytes"):
        ask(engine, "SELECT * FROM range(1000000)", bytes=1024)


def test_a_slow_reader_costs_a_query_no_time(engine: DuckDB) -> None:
    result = engine.run(plan("SELECT * FROM range(3000000)", seconds=5.0), query_id="qu_1")
    pieces = [next(result)]
    time.sleep(6)
    pieces += result

    assert pa.ipc.open_stream(io.BytesIO(b"".join(pieces))).read_all().num_rows == 3_000_000


def test_nothing_is_told_of_what_lies_below(engine: DuckDB, table: BoundTable, tmp_path: Path) -> None:
    Path(table.files[1]).write_bytes(b"PAR1 broken")
    with pytest.raises(EpistaError) as broken:
        ask(engine, "SELECT * FROM t_0123456789abcdef", table)
    with pytest.raises(QueryError) as missing:
        ask(engine, "SELECT nothing FROM t_fedcba9876543210")

    for error in (broken.value, missing.value):
        assert str(tmp_path) not in str(error) and "t_0123" not in str(error) and "t_fedc" not in str(error)


def test_whatever_happens_nothing_is_left(engine: DuckDB) -> None:
    rng = random.Random(7)
    before = psutil.Process().num_fds()
    for number in range(12):
        result = engine.run(
            plan(rng.choice(("SELECT 1", "SELECT * FROM range(10000000)", "SELECT x")), seconds=30), query_id=f"qu_{number}"
        )
        how = rng.choice(("read", "leave", "cancel", "kill"))
        if how == "cancel":
            threading.Timer(0.05, engine.cancel, (f"qu_{number}",)).start()
        try:
            next(result)
            if how == "kill":
                result._child.kill()
            if how != "leave":
                for _ in result:
                    pass
        except (StopIteration, QueryError, QueryCancelledError):
            pass
        finally:
            result.close()
    engine.close()

    assert not children()
    assert psutil.Process().num_fds() <= before + 2
