"""`ws.query(engine="spark")` on a real cluster: the answers that DuckDB gives, through the whole of a served lab."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

import epista
from epista.cli import cli
from epista.client import queries as verbs
from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from tests import spark
from tests.conftest import Thread
from tests.makers import Server
from tests.processes import wait_until
from tests.server.engines.test_conformance import EXTRAS, TABLES, assert_same, oracle
from tests.server.engines.test_spark import killing
from tests.spark import Spark as Cluster

__all__ = ["oracle"]

pytestmark = pytest.mark.timeout(600)

# Minutes and a gigabyte of Spark: not for every run.
soak = pytest.mark.soak

COUNTS = pd.DataFrame({"well": ["A1", "A2", "B1"], "count": [17, 4, 9]})

HUGE = "SELECT sum(sqrt(range)) AS s FROM range(1000000000000)"
"""Nothing but an order ends it."""


@pytest.fixture(scope="module")
def on_spark(spark_cluster: Cluster, server_thread: Thread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A lab on a server whose settings name the cluster."""
    with serving(spark_cluster, server_thread, tmp_path_factory.mktemp("spark") / "lab") as found:
        yield found


@contextmanager
def serving(cluster: Cluster, thread: Thread, lab: Path) -> Iterator[Server]:
    founding.prepare(lab, user="manager")
    config = Config(
        lab=str(lab),
        spark_url=cluster.url,
        spark_scratch=str(cluster.scratch),
        spark_files={f"{lab}/": f"file://{lab}/"},
        query_seconds=400.0,
    )
    stop = thread.start(create_app(config))
    link = founding.new_link(lab, address=thread.url, seconds=3600, only_if_locked_out=False)
    assert link
    yield Server(thread.url, lab, link.partition("#")[2])
    stop()


@pytest.fixture(scope="module")
def wide(on_spark: Server, oracle: Any) -> Iterator[epista.Workspace]:
    """A session of the manager's, with the tables of TPC-H, one of which has two files."""
    _, files = oracle
    with epista.Workspace(on_spark.url, token=on_spark.manager, workspace="lab") as found:
        for name in TABLES:
            found.put_file(f"TPCH/{name}.parquet", Path(files[name].files[0]))
        found.put("EXP-1/counts.parquet", COUNTS)
        found.append("EXP-1/counts.parquet", pd.DataFrame({"well": ["C1"], "count": [1], "note": ["late"]}))
        yield found


def test_spark_answers_as_duckdb_does(server_thread: Thread, tmp_path: Path) -> None:
    with (
        spark.running(tmp_path / "spark", is_local=True) as cluster,
        serving(cluster, server_thread, tmp_path / "lab") as server,
        epista.Workspace(server.url, token=server.manager, workspace="lab") as ws,
    ):
        ws.put("EXP-1/counts.parquet", COUNTS)
        asked = "SELECT left(well, 1) AS row, sum(count) AS n, avg(count) AS mean FROM counts GROUP BY ALL ORDER BY 1"

        found = ws.query(asked, engine="spark")

        assert list(found) == [{"row": "A", "n": 21, "mean": 10.5}, {"row": "B", "n": 9, "mean": 9.0}]
        assert found.to_arrow().equals(ws.query(asked, engine="duckdb").to_arrow())
        assert (found.query.engine, [one.key for one in found.inputs]) == ("spark", ["EXP-1/counts.parquet"])


@soak
@pytest.mark.parametrize("number", range(1, 23))
def test_tpch_is_answered_as_by_duckdb(number: int, wide: epista.Workspace, oracle: Any) -> None:
    connection, _ = oracle
    ((sql,),) = connection.execute("SELECT query FROM tpch_queries() WHERE query_nr = ?", [number]).fetchall()

    assert_same(wide.query(sql, engine="spark").to_arrow(), connection.sql(sql).fetchall())


@soak
@pytest.mark.parametrize("sql", EXTRAS.values(), ids=EXTRAS)
def test_forms_that_labs_use_are_answered_as_by_duckdb(sql: str, wide: epista.Workspace, oracle: Any) -> None:
    connection, _ = oracle

    assert_same(wide.query(sql, engine="spark").to_arrow(), connection.sql(sql).fetchall())


@soak
def test_what_holds_for_queries_holds_on_spark(wide: epista.Workspace) -> None:
    asked = 'SELECT well, note FROM "EXP-1".counts WHERE count < $most ORDER BY 1'
    result = wide.query(asked, params={"most": 9}, engine="spark")

    assert list(result) == [{"well": "A2", "note": None}, {"well": "C1", "note": "late"}]
    assert (result.query.engine, result.query.rows, result.query.status) == ("spark", 2, "done")
    assert [(one.key, one.number) for one in result.inputs] == [("EXP-1/counts.parquet", 2)]
    assert len(wide.query("SELECT * FROM counts", as_of={"counts": 1}, engine="spark")) == 3
    with wide.query_batches("SELECT * FROM lineitem", engine="spark") as batches:
        assert sum(batch.num_rows for batch in batches) == len(wide.query("SELECT l_tax FROM lineitem"))


@soak
def test_a_member_reaches_no_more_on_spark_than_on_duckdb(wide: epista.Workspace, on_spark: Server) -> None:
    narrow = on_spark.member("guest", "viewer", experiments=["EXP-1"], scopes=["read"])
    with epista.Workspace(on_spark.url, token=narrow.token, workspace="lab") as guest:
        assert len(guest.query("SELECT * FROM counts", engine="spark")) == 4
        for hidden in ("lineitem", '"TPCH".lineitem', 'parquet."/etc/passwd"', '"TPCH/lineitem.parquet"'):
            with pytest.raises(epista.NotFoundError):
                guest.query(f"SELECT * FROM counts WHERE EXISTS (SELECT 1 FROM {hidden})", engine="spark")
        with pytest.raises(epista.QueryRefusedError):
            guest.query("SELECT java_method('java.lang.System', 'getenv') FROM counts", engine="spark")
        with pytest.raises(epista.QueryError, match="Spark engine has no function hash") as unknown:
            guest.query("SELECT hash(well) FROM counts", engine="spark")
        assert "duckdb" in (unknown.value.hint or "")
        with pytest.raises(epista.QueryError, match="shows no plans"):
            verbs.explain(guest, "SELECT * FROM counts", engine="spark")


TEXTS = [
    *(
        "\\",
        "\\'",
        "'",
        "''",
        "\\\\'",
        "a\\' OR '1' = '1",
        "'; DROP VIEW counts; --",
        "${spark.app.name}",
        "--",
        "/* x",
        "\n\t",
        "`",
        '"',
    ),
    *("\\u0041", "\\x41", "\\101", "\\%", "%s", "{}", "$1", ":p_1", "r'x'", "é\N{GRINNING FACE}"),
]
"""What a dialect may read in a way of its own."""


@soak
def test_texts_and_names_come_back_from_spark_as_they_were_typed(wide: epista.Workspace) -> None:
    columns = [f"'{text.replace(chr(39), chr(39) * 2)}' AS " + '"c{}{}"'.format(at, "`x\\") for at, text in enumerate(TEXTS)]
    asked = f"SELECT {', '.join(columns)} FROM counts LIMIT 1"

    found = wide.query(asked, engine="spark").to_arrow()

    assert [column[0].as_py() for column in found.columns] == TEXTS
    assert found.column_names == wide.query(asked, engine="duckdb").columns


@soak
def test_the_command_line_asks_spark_too(wide: epista.Workspace, on_spark: Server) -> None:
    settings = {"EPISTA_API_URL": on_spark.url, "EPISTA_TOKEN": on_spark.manager, "EPISTA_WORKSPACE": "lab"}
    asked = ["query", "SELECT count(*) AS n FROM counts", "--engine", "spark", "--json"]

    told = CliRunner().invoke(cli, asked, env=settings, catch_exceptions=False)

    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["rows"] == [{"n": 4}]


@soak
def test_a_query_is_cancelled_through_the_log(wide: epista.Workspace) -> None:
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            wide.query(HUGE, engine="spark")
        except epista.QueryCancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: wide.queries()[0].status == "running", "it runs")
    verbs.cancel(wide, wide.queries()[0].id)
    thread.join(60)

    assert caught
    assert wide.queries()[0].status == "cancelled"
    # The cluster is free again, or this would wait for ever.
    assert list(wide.query("SELECT 1 AS a", engine="spark")) == [{"a": 1}]


@soak
@pytest.mark.parametrize("victim", ["executor", "worker"])
def test_an_answer_is_right_though_a_part_of_the_cluster_dies(
    wide: epista.Workspace, spark_cluster: Cluster, oracle: Any, victim: str
) -> None:
    connection, _ = oracle
    ((sql,),) = connection.execute("SELECT query FROM tpch_queries() WHERE query_nr = 21").fetchall()
    harm = spark_cluster.kill_executor if victim == "executor" else partial(spark_cluster.kill, "worker-1")
    killer = killing(spark_cluster, harm)

    found = wide.query(sql, engine="spark").to_arrow()

    killer.join()
    spark_cluster.repair()
    assert_same(found, connection.sql(sql).fetchall())


@soak
def test_a_cluster_that_is_gone_is_a_clear_error(wide: epista.Workspace, spark_cluster: Cluster) -> None:
    spark_cluster.kill("connect")

    with pytest.raises(epista.UnavailableError, match="Spark cluster does not answer"):
        wide.query("SELECT * FROM counts", engine="spark")
    assert len(wide.query("SELECT * FROM counts")) == 4

    spark_cluster.repair()
    assert len(wide.query("SELECT * FROM counts", engine="spark")) == 4
