"""
Known questions have known answers: TPC-H at scale 0.01, and forms of SQL that labs use, bound and run as those of a user.

Data, questions and answers come from DuckDB's own extension for TPC-H; the others are compared with DuckDB on the same files.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_tpch
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epista.server.engines.duckdb import DuckDB
from epista.server.engines.plans import BoundTable, Column, Limits, Plan
from epista.server.services.binding import bind

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")

EXTRAS = {
    "running window": "SELECT o_orderkey, sum(o_totalprice) OVER (PARTITION BY o_custkey ORDER BY o_orderkey) AS s FROM orders",
    "lag and rank": """
        SELECT o_custkey, o_orderkey, lag(o_orderkey) OVER w AS before, rank() OVER w AS place
        FROM orders WINDOW w AS (PARTITION BY o_custkey ORDER BY o_orderdate, o_orderkey)
    """,
    "recursive": "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 100) SELECT sum(n) AS s FROM x",
    "quantile, filter, distinct": """
        SELECT l_returnflag, quantile_cont(l_quantity, 0.5) AS q, count(*) FILTER (WHERE l_tax > 0.05) AS f,
               count(DISTINCT l_suppkey) AS d
        FROM lineitem GROUP BY l_returnflag
    """,
    "grouping sets": """
        SELECT n_regionkey, n_name, count(*) AS n FROM nation GROUP BY GROUPING SETS ((n_regionkey), (n_regionkey, n_name), ())
    """,
    "qualify": """
        SELECT * FROM orders QUALIFY row_number() OVER (PARTITION BY o_custkey ORDER BY o_totalprice DESC, o_orderkey) = 1
    """,
    "group by all, string_agg": "SELECT n_regionkey, string_agg(n_name, ',' ORDER BY n_name) AS names FROM nation GROUP BY ALL",
    "exclude": "SELECT * EXCLUDE (n_comment) FROM nation",
}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, BoundTable]]]:
    """DuckDB over the tables, and the same as files."""
    folder = tmp_path_factory.mktemp("tpch")
    (extension,) = Path(duckdb_extension_tpch.__file__).parent.rglob("tpch.duckdb_extension")
    tables = {}
    with duckdb.connect(config={"extension_directory": str(folder)}) as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute("CALL dbgen(sf = 0.01)")
        for number, name in enumerate(TABLES):
            found = connection.table(name).to_arrow_table()
            pq.write_table(found, folder / f"{name}.parquet")
            schema = tuple(Column(name=field.name, type=str(field.type)) for field in found.schema)
            file = str(folder / f"{name}.parquet")
            tables[name] = BoundTable(internal=f"t_{number:016x}", version=name, files=(file,), schema=schema)
        yield connection, tables


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDB]:
    engine = DuckDB(tmp_path_factory.mktemp("engine") / "scratch")
    yield engine
    engine.close()


def answer(engine: DuckDB, tables: dict[str, BoundTable], sql: str) -> pa.Table:
    bound = bind(sql, lambda name: str(name).lower())
    pinned = tuple(
        BoundTable(internal=internal, version=name, files=tables[name].files, schema=tables[name].schema)
        for internal, name in bound.tables.items()
    )
    stream = engine.run(Plan(ast=bound.ast, tables=pinned, limits=Limits()), query_id="qu_1")
    return pa.ipc.open_stream(io.BytesIO(b"".join(stream))).read_all()


def rows(table: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sorted, with decimals by their value."""
    plain = [tuple(float(value) if isinstance(value, Decimal | int) else value for value in row) for row in table]
    return sorted(plain, key=lambda row: [str(round(value, 2)) if isinstance(value, float) else str(value) for value in row])


def assert_same(found: pa.Table, expected: list[tuple[Any, ...]]) -> None:
    ours = rows([tuple(row) for row in zip(*(column.to_pylist() for column in found.columns), strict=True)])
    theirs = rows(expected)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for value, wanted in zip(one, other, strict=True):
            is_near = isinstance(value, float) and isinstance(wanted, float) and math.isclose(value, wanted, rel_tol=1e-4)
            assert is_near or value == wanted


@pytest.mark.parametrize("number", range(1, 23))
def test_tpch_is_answered(number: int, oracle: Any, engine: DuckDB) -> None:
    connection, tables = oracle
    ((sql,),) = connection.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchall()
    ((told,),) = connection.execute(
        "SELECT answer FROM tpch_answers() WHERE query_nr = ? AND scale_factor = 0.01", [number]
    ).fetchall()
    expected = connection.sql(sql).fetchall()

    found = answer(engine, tables, sql.rstrip().rstrip(";"))

    assert_same(found, expected)
    # A header, a row a line: DuckDB itself is judged by the answers that come with the questions.
    assert told.count("\n") == len(expected) + 1


@pytest.mark.parametrize("sql", EXTRAS.values(), ids=EXTRAS)
def test_forms_that_labs_use_are_answered(sql: str, oracle: Any, engine: DuckDB) -> None:
    connection, tables = oracle

    assert_same(answer(engine, tables, sql), connection.sql(sql).fetchall())
