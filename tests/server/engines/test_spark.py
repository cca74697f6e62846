"""The Spark engine on a real cluster: the answers that DuckDB gives, also while parts of the cluster die."""

from __future__ import annotations

import datetime
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pytest
import sqlglot
from pyarrow import parquet
from sqlglot import exp

from epista.contract.errors import (
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    ResultTooLargeError,
    UnavailableError,
)
from epista.server.engines.plans import BoundTable, Column, Limits, Plan
from epista.server.engines.spark import FolderScratch, Spark
from tests.processes import wait_until
from tests.server.engines.spark_calls import AGGREGATES, SCALARS, WINDOWS
from tests.spark import Spark as Cluster

# Minutes and a gigabyte of Spark: not for every run; one query is, in `tests/server/test_spark_queries.py`.
pytestmark = [pytest.mark.timeout(600), pytest.mark.soak]

Ask = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def engine(spark_cluster: Cluster) -> Iterator[Spark]:
    # The cluster reaches the files where the tests have them; what lies elsewhere would be copied first.
    engine = Spark(spark_cluster.url, scratch=FolderScratch(spark_cluster.scratch), files={"/": "file:///"})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, BoundTable]:
    """The tables of TPC-H, at scale 0.01."""
    folder = tmp_path_factory.mktemp("tpch")
    tables = {}
    with generator() as connection:
        connection.execute("CALL dbgen(sf = 0.01)")
        for (name,) in connection.execute("SHOW TABLES").fetchall():
            tables[name] = bound(name, folder, connection.table(name).to_arrow_table())
    return tables


def generator() -> duckdb.DuckDBPyConnection:
    import duckdb_extension_tpch

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    (extension,) = Path(duckdb_extension_tpch.__file__).parent.rglob("tpch.duckdb_extension")
    connection.load_extension(str(extension))
    return connection


def bound(name: str, folder: Path, *parts: pa.Table) -> BoundTable:
    """Write a table as one file for each part; the last one has all columns."""
    files = []
    for number, part in enumerate(parts):
        files.append(str(folder / f"{name}-{number}"))
        parquet.write_table(part, files[-1])
    schema = tuple(Column(name=field.name, type=str(field.type)) for field in parts[-1].schema)
    return BoundTable(internal=f"t_{name}0000", version="v1", files=tuple(files), schema=schema)


def plan(sql: str, tables: Mapping[str, BoundTable], params: Any = (), **limits: Any) -> Plan:
    """Bind names to tables, as the server does."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    assert isinstance(tree, exp.Query)
    for table in list(tree.find_all(exp.Table)):
        if table.name in tables and not table.find_ancestor(exp.Placeholder):
            table.replace(exp.alias_(exp.to_table(tables[table.name].internal), table.alias or table.name, table=True))
    return Plan(ast=tree, tables=tuple(tables.values()), limits=Limits(**limits), params=params)


def ask(engine: Spark, sql: str, tables: Mapping[str, BoundTable], params: Any = (), **limits: Any) -> pa.Table:
    stream = engine.run(plan(sql, tables, params, **limits), query_id="q-test")
    return pa.ipc.open_stream(io.BytesIO(b"".join(stream))).read_all()


def on_duckdb(sql: str, tables: Mapping[str, BoundTable]) -> pa.Table:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.read_parquet(list(table.files), union_by_name=True).create_view(name)
        return connection.execute(sql).to_arrow_table()


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return rows in an order of their own, numbers by value to four places."""

    def plain(value: Any) -> Any:
        if isinstance(value, (float, Decimal)):
            return round(float(value), 3) + 0.0
        if isinstance(value, datetime.datetime):
            return datetime.datetime(*value.timetuple()[:6], value.microsecond).isoformat()
        return value

    columns = [column.to_pylist() for column in table.columns]
    return sorted((tuple(plain(value) for value in row) for row in zip(*columns, strict=True)), key=repr)


def alike(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> bool:
    """Whether rows are equal, but for the last digits of numbers."""
    if len(found) != len(wanted):
        return False
    pairs = [pair for rows in zip(found, wanted, strict=True) for pair in zip(*rows, strict=True)]
    return all(a == pytest.approx(b, rel=1e-4, abs=2e-3) if isinstance(b, float) else a == b for a, b in pairs)


def tpch_query(number: int) -> str:
    with generator() as connection:
        found = connection.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchone()
    assert found
    return str(found[0])


@pytest.mark.parametrize("number", range(1, 23))
def test_tpch_has_the_answers_that_duckdb_gives(engine: Spark, tpch: Mapping[str, BoundTable], number: int) -> None:
    sql = tpch_query(number)

    assert alike(rows(ask(engine, sql, tpch)), rows(on_duckdb(sql, tpch)))


EXTRAS = {
    "running window": "SELECT o_orderkey, sum(o_totalprice) OVER (ORDER BY o_orderkey) s FROM orders ORDER BY 1 LIMIT 100",
    "lag and rank": """
        SELECT o_orderkey, lag(o_totalprice) OVER (ORDER BY o_orderkey) l, rank() OVER (ORDER BY o_orderdate) r
        FROM orders ORDER BY 1 LIMIT 100""",
    "recursive": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 20) SELECT sum(n) s FROM r",
    "quantiles": """
        SELECT l_returnflag f, quantile_cont(l_quantity, 0.9) q, median(l_tax) m, count(*) FILTER (l_tax > 0.05) c,
            count(DISTINCT l_suppkey) d FROM lineitem GROUP BY ALL""",
    "grouping sets": """
        SELECT l_returnflag f, l_linestatus s, sum(l_quantity) q FROM lineitem
        GROUP BY GROUPING SETS ((l_returnflag, l_linestatus), (l_returnflag), ())""",
    "qualify": """
        SELECT o_custkey c, o_orderkey o FROM orders
        QUALIFY row_number() OVER (PARTITION BY o_custkey ORDER BY o_orderkey) = 1""",
    "qualify of all columns, ordered and cut": """
        SELECT * FROM orders QUALIFY row_number() OVER (PARTITION BY o_custkey ORDER BY o_orderkey) = 1
        ORDER BY o_totalprice + o_orderkey DESC, 1 LIMIT 7""",
    "qualify by an alias, in a common table": """
        WITH a AS (SELECT o_custkey c, rank() OVER (ORDER BY o_orderkey) r FROM orders QUALIFY r <= 3 AND c > 0)
        SELECT *, count(*) OVER () n FROM a QUALIFY sum(c) OVER (ORDER BY r) > 0""",
    "qualify of groups": """
        SELECT o_custkey, sum(o_totalprice) s FROM orders GROUP BY 1
        QUALIFY rank() OVER (ORDER BY sum(o_totalprice) DESC) <= 3""",
    "group by all": "SELECT n_regionkey r, string_agg(n_name, ',' ORDER BY n_name) n FROM nation GROUP BY ALL",
    "exclude": "SELECT * EXCLUDE (n_comment) FROM nation",
}


@pytest.mark.parametrize("sql", EXTRAS.values(), ids=EXTRAS)
def test_what_analysts_write_has_the_answers_that_duckdb_gives(engine: Spark, tpch: Mapping[str, BoundTable], sql: str) -> None:
    assert alike(rows(ask(engine, sql, tpch)), rows(on_duckdb(sql, tpch)))


VALUES = """
    SELECT i::INT c1, i / 2 d1, i / 0 d2, -i / 0 d3, i // 2 d4, i % 0 d5, i // 0 d6, f::INT c2, (i > 1)::INT c3, p::INT c4,
        avg(p) OVER () a1, log(i) l1, length(s) l2, strpos(s, 'b') l3, s LIKE 'a\\%' l4, s LIKE '%b' l5,
        year(d) y1, extract(month FROM d) y2, date_part('quarter', d) y3, dayofweek(d) y4, d - DATE '2026-01-01' y5,
        d + INTERVAL 1 MONTH y6, d + 1 y7, date_trunc('month', d) y8, date_diff('month', DATE '2026-01-31', d) y9,
        epoch(t) e1, t::TIMESTAMPTZ t2, n t3, s || 'x' x1, concat(s, NULL) x2, coalesce(s, '') x3, upper(s) x4,
        substring(s, 2) x5, replace(s, 'b', 'c') x6, regexp_replace(s, 'b', 'c', 'g') x7, round(f, 1) r1, abs(f) r2,
        sqrt(4.0) r3, NULL z1, row_number() OVER (ORDER BY i) w1, count(*) OVER () w2, (sum(i) OVER ())::BIGINT w3
    FROM v ORDER BY i"""


def test_values_and_types_are_those_of_duckdb(engine: Spark, tmp_path: Path) -> None:
    moments = [datetime.datetime(2026, 2, 3, 4, 5, 6, 500_000), None, datetime.datetime(1969, 12, 31, 23, 59, 59, 250_000)]
    table = pa.table(
        {
            "i": pa.array([1, 2, 3], pa.int32()),
            "f": [2.5, -3.5, 0.4],
            "p": pa.array([Decimal("2.50"), Decimal("-3.50"), None], pa.decimal128(9, 2)),
            "s": ["ab", "a\\b", None],
            "d": [datetime.date(2026, 2, 28), datetime.date(2025, 12, 31), None],
            "t": pa.array(moments, pa.timestamp("us")),
            "n": pa.array(moments, pa.timestamp("ns")),
        }
    )
    tables = {"v": bound("v", tmp_path, table)}

    found, wanted = ask(engine, VALUES, tables), on_duckdb(VALUES, tables)

    assert repr(rows(found)) == repr(rows(wanted))
    # DuckDB's decimals are wider; a sum of integers leaves its child as int64; moments on Spark have microseconds.
    loose = {"t3": pa.timestamp("us"), "w3": pa.int64(), "t2": pa.timestamp("us", "UTC")}
    differing = {
        field.name: (field.type, wanted.schema.field(field.name).type)
        for field in found.schema
        if field.type != loose.get(field.name, wanted.schema.field(field.name).type)
    }
    assert set(differing) <= {"r1", "d4", "d6"}, differing


MOMENTS = [
    datetime.datetime(2026, 2, 3, 4, 5, 6, 500_000),
    None,
    datetime.datetime(1969, 12, 31, 23, 59, 59, 250_000),
    datetime.datetime(2024, 2, 29),
    datetime.datetime(2025, 12, 29, 13, 30, 0, 1),
]

DAYS = [datetime.date(2026, 2, 28), datetime.date(2025, 12, 31), None, datetime.date(1969, 12, 31), datetime.date(2024, 2, 29)]

MIXED = pa.table(
    {
        "k": [1, 2, 3, 4, 5],
        "i": pa.array([1, 2, -3, None, 12], pa.int32()),
        "j": [3, 2, 1, 2, None],
        "f": [2.5, -3.5, 0.4, None, 1234.5678],
        "g": [0.5, 0.25, -0.75, 0.1, None],
        "p": pa.array([Decimal("2.50"), Decimal("-3.55"), None, Decimal("0.05"), Decimal("100.00")], pa.decimal128(9, 2)),
        "s": ["abc", "a\\b%_", None, "", "Äpfel und Birnen, 12 Stück"],
        "u": ["b", "a", ",", "x", " "],
        "d": [
            datetime.date(2026, 2, 28),
            datetime.date(2025, 12, 31),
            None,
            datetime.date(1969, 12, 31),
            datetime.date(2024, 2, 29),
        ],
        "e": [datetime.date(2026, 1, 31), datetime.date(2024, 2, 29), datetime.date(2020, 1, 1), None, datetime.date(2024, 3, 1)],
        "t": pa.array(MOMENTS, pa.timestamp("us")),
        "z": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "b": [True, False, None, True, False],
        "bl": pa.array([b"abc", b"", None, b"\x00\xff", b"x"], pa.binary()),
    }
)


@pytest.mark.parametrize(
    ("calls", "end"),
    [(SCALARS, " ORDER BY k"), (AGGREGATES, ""), (WINDOWS, " ORDER BY k")],
    ids=["scalars", "aggregates", "windows"],
)
def test_functions_that_spark_has_give_what_duckdb_gives(engine: Spark, tmp_path: Path, calls: tuple[str, ...], end: str) -> None:
    tables = {"v": bound("v", tmp_path, MIXED)}
    differing = {}
    # Tables that expressions unfold are asked for one by one.
    groups = [calls[at : at + 40] for at in range(0, len(calls), 40)]
    for group in groups:
        plain = [call for call in group if not call.startswith("unnest")]
        sql = f"SELECT {', '.join(f'{call} AS x{at}' for at, call in enumerate(plain))} FROM v{end}"
        found, wanted = ask(engine, sql, tables), on_duckdb(sql, tables)
        for at, call in enumerate(plain):
            one, other = (column_of(table, at) for table in (found, wanted))
            if not alike([(value,) for value in one], [(value,) for value in other]):
                differing[call] = (one, other)

    assert not differing


def column_of(table: pa.Table, at: int) -> list[Any]:
    """Return a column with numbers by value, and moments by what a clock in UTC shows."""

    def plain(value: Any) -> Any:
        if isinstance(value, bool | None):
            return value
        if isinstance(value, int | float | Decimal):
            return "no number" if value != value else float(value)
        if isinstance(value, datetime.datetime):
            return value.replace(tzinfo=None)
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return [plain(one) for one in value.values()] if isinstance(value, dict) else value

    return [plain(value) for value in table.column(at).to_pylist()]


def test_columns_that_older_files_lack_are_missing_values(engine: Spark, tmp_path: Path) -> None:
    tables = {"v": bound("v", tmp_path, pa.table({"a": [1]}), pa.table({"a": [2], "b": ["new"]}))}

    assert ask(engine, "SELECT a, b FROM v ORDER BY a", tables).to_pydict() == {"a": [1, 2], "b": [None, "new"]}


def test_parameters_are_values_and_never_text(engine: Spark, tmp_path: Path) -> None:
    tables = {"v": bound("v", tmp_path, pa.table({"a": [1, 2, 3]}))}
    moment = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    given = [2, "'; DROP TABLE v; -- ${spark.app.name}", Decimal("1.50"), moment, b"\0x"]

    found = ask(engine, "SELECT a, $2 s, $3 d, $4 t, $5 b FROM v WHERE a = $1 LIMIT 5", tables, given)

    assert [tuple(row.values()) for row in found.to_pylist()] == [tuple(given)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nope FROM v", "no column 'nope'; nearest: a"),
        ("SELECT _metadata FROM v", "no column '_metadata'"),
        ("SELECT java_method('java.lang.System', 'getenv') FROM v", "nothing like java_method"),
        ('SELECT * FROM text."/etc/passwd"', "found|cannot|unsupported|nothing"),
        ("SELECT 'x' || a FROM v ASOF JOIN v w ON v.a >= w.a", "nothing like"),
        ("SELECT list_aggregate([1], 'sum') FROM v", "no function list_aggregate"),
        ("SELECT s::INT FROM v", "cannot be cast"),
    ],
    ids=["column", "metadata", "java", "file", "asof", "function", "cast"],
)
def test_errors_say_what_is_wrong_and_nothing_of_the_machine(engine: Spark, tmp_path: Path, sql: str, message: str) -> None:
    tables = {"v": bound("v", tmp_path, pa.table({"a": [1], "s": ["x"]}))}

    with pytest.raises(QueryError, match=message) as caught:
        ask(engine, sql, tables)

    said = str(caught.value)
    assert not any(
        word in said for word in ("t_v", "org.apache", "java.", "SQLSTATE", "spark.sql", str(tmp_path), "\tat ", "root:")
    )


def test_only_queries_are_run(engine: Spark) -> None:
    tree: Any = sqlglot.parse_one("INSERT INTO x SELECT 1", dialect="duckdb")

    with pytest.raises(QueryError, match="no query"):
        engine.run(Plan(ast=tree, tables=(), limits=Limits()), query_id="q-test")


HUGE = "SELECT sum(sqrt(range)) s FROM range(1000000000000)"


def test_a_query_that_is_cancelled_ends(engine: Spark) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            engine.run(plan(HUGE, {}), query_id="q-cancelled")
        except QueryCancelledError as problem:
            caught.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(3)
    engine.cancel("q-cancelled")
    thread.join(60)

    assert caught
    # The cluster is free again, or this would wait for ever.
    assert ask(engine, "SELECT 1 a LIMIT 1", {}).to_pydict() == {"a": [1]}


def test_limits_are_errors_of_their_own(engine: Spark) -> None:
    with pytest.raises(QueryTimeoutError):
        ask(engine, HUGE, {}, seconds=6)
    with pytest.raises(ResultTooLargeError, match="more than 10 rows"):
        ask(engine, "SELECT * FROM range(11)", {}, rows=10)
    with pytest.raises(ResultTooLargeError, match="more than 1,000 bytes"):
        ask(engine, "SELECT * FROM range(10000) LIMIT 10000", {}, bytes=1000)


def test_a_large_result_needs_no_memory_of_the_server_and_leaves_nothing(engine: Spark, spark_cluster: Cluster) -> None:
    ask(engine, "SELECT 1 a", {})
    process = psutil.Process()
    before = process.memory_info().rss
    read = most = 0
    stream = engine.run(
        plan("SELECT range a, range * 2 b, 'row ' || range c FROM range(6000000) ORDER BY a", {}), query_id="q-large"
    )
    for chunk in stream:
        read += len(chunk)
        most = max(most, process.memory_info().rss - before)

    assert stream.rows == 6_000_000
    assert read > 150_000_000
    assert most < 100_000_000
    wait_until(lambda: not list(spark_cluster.scratch.iterdir()), "scratch is empty")


def killing(cluster: Cluster, what: Callable[[], None]) -> threading.Thread:
    """Do harm when there is somebody to harm, a moment into what runs."""

    def harm() -> None:
        wait_until(lambda: bool(cluster.executors()), "there are executors")
        time.sleep(1)
        what()

    thread = threading.Thread(target=harm)
    thread.start()
    return thread


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("victim", ["executor", "worker"])
def test_an_answer_is_right_though_a_part_of_the_cluster_is_killed(
    engine: Spark, spark_cluster: Cluster, tpch: Mapping[str, BoundTable], victim: str, times: int
) -> None:
    sql = tpch_query(21)
    wanted = rows(on_duckdb(sql, tpch))
    for number in range(times):
        worker = f"worker-{number % 2 + 1}"
        harm = spark_cluster.kill_executor if victim == "executor" else partial(spark_cluster.kill, worker)
        killer = killing(spark_cluster, harm)

        found = rows(ask(engine, sql, tpch, seconds=400))

        killer.join()
        assert alike(found, wanted)
        spark_cluster.repair()


def test_a_cluster_that_is_gone_is_a_clear_error_and_its_return_is_noticed(
    engine: Spark, spark_cluster: Cluster, tpch: Mapping[str, BoundTable]
) -> None:
    spark_cluster.kill("connect")

    assert not engine.health().is_ready
    with pytest.raises(UnavailableError, match="does not answer"):
        ask(engine, "SELECT 1", {})

    spark_cluster.repair()
    assert engine.health().is_ready
    assert ask(engine, "SELECT 1 a", {}).to_pydict() == {"a": [1]}


@pytest.mark.soak
def test_a_query_is_tried_once_more_when_the_cluster_comes_back(
    engine: Spark, spark_cluster: Cluster, tpch: Mapping[str, BoundTable]
) -> None:
    def crash() -> None:
        spark_cluster.kill("connect")
        spark_cluster.repair()

    killer = killing(spark_cluster, crash)

    found = ask(engine, tpch_query(1), tpch, seconds=400)

    killer.join()
    assert alike(rows(found), rows(on_duckdb(tpch_query(1), tpch)))


def test_files_that_the_cluster_does_not_reach_are_brought_to_it(spark_cluster: Cluster, tmp_path: Path) -> None:
    tables = {"v": bound("v", tmp_path, pa.table({"a": [7]}))}
    apart = Spark(spark_cluster.url, scratch=FolderScratch(spark_cluster.scratch), is_warm=False)

    try:
        assert ask(apart, "SELECT a FROM v", tables).to_pydict() == {"a": [7]}
    finally:
        apart.close()
    wait_until(lambda: not list(spark_cluster.scratch.iterdir()), "scratch is empty")
