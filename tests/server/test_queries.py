"""Queries within limits, and what a caller may learn of those of others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest

import epista
from epista.client import queries as verbs
from epista.server.config import Config
from tests.makers import Server

COUNTS = pd.DataFrame({"well": ["A1", "A2", "B1"], "count": [17, 4, 9]})

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"
"""Nothing but time ends it."""


def one(result: epista.QueryResult) -> object:
    (row,) = result
    (value,) = row.values()
    return value


@pytest.fixture
def config(config: Config) -> Config:
    return msgspec.structs.replace(
        config, query_seconds=2.0, query_rows=1000, query_wait_seconds=0.3, query_memory_bytes=128 * 1024**2
    )


@pytest.fixture
def limited(server: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
        yield ws


def test_each_limit_has_an_error_of_its_own(limited: epista.Workspace) -> None:
    with pytest.raises(epista.ResultTooLargeError, match="1,000 rows") as large:
        limited.query("SELECT * FROM range(1001)")
    assert "LIMIT" in (large.value.hint or "")
    with pytest.raises(epista.QueryTimeoutError, match="2 s"):
        limited.query(ENDLESS)
    with pytest.raises(epista.QueryMemoryError):
        limited.query("SELECT length(repeat('x', 2000000000)) + length(repeat('y', 2000000000))")
    assert [query.error for query in limited.queries()[:3]] == ["query_memory", "query_timeout", "result_too_large"]


def test_more_queries_than_may_run_are_sent_away(limited: epista.Workspace) -> None:
    endless = "SELECT * FROM range(1000000000)"
    with limited.query_batches(endless), limited.query_batches(endless), pytest.raises(epista.RateLimitError):
        limited.query("SELECT 1")
    time.sleep(0.2)
    assert one(limited.query("SELECT 1")) == 1


def test_what_one_may_not_read_does_not_exist(limited: epista.Workspace, server: Server) -> None:
    limited.put("EXP-1/counts.parquet", COUNTS)
    limited.put("EXP-2/secret.parquet", COUNTS)
    narrow = server.member("guest", "viewer", experiments=["EXP-1"], scopes=["read"])
    with epista.Workspace(server.url, token=narrow.token, workspace="lab") as guest:
        assert one(guest.query("SELECT count(*) FROM counts")) == 3
        with pytest.raises(epista.KeyNotFoundError) as hidden:
            guest.query("SELECT * FROM secret")
        with pytest.raises(epista.KeyNotFoundError) as absent:
            guest.query("SELECT * FROM sacred")
        assert hidden.value.message.replace("secret", "sacred") == absent.value.message
        assert hidden.value.hint == absent.value.hint
        limited.query("SELECT * FROM secret")
        assert all("EXP-2" not in str(query) for query in guest.queries())
        with pytest.raises(epista.ForbiddenError):
            list(guest.queries(everyone=True))
    assert {query.user for query in limited.queries(everyone=True)} == {"guest", limited.queries()[0].user}


def test_a_narrow_token_does_not_see_what_its_user_asked_with_a_wide_one(limited: epista.Workspace, server: Server) -> None:
    limited.put("EXP-1/counts.parquet", COUNTS)
    limited.query("SELECT 'told to nobody', * FROM counts")
    api = server.api()
    secret = api.ok(api.post("/tokens", name="narrow", scopes=["read"], experiments=["EXP-1"]))["secret"]
    with epista.Workspace(server.url, token=secret, workspace="lab") as narrow:
        narrow.query("SELECT 'mine'")
        assert [query.sql for query in narrow.queries()] == ["SELECT 'mine'"]
        with pytest.raises(epista.NotFoundError):
            verbs.get(narrow, limited.queries()[1].id)


def test_a_refused_query_is_in_the_audit_log(limited: epista.Workspace, server: Server) -> None:
    with pytest.raises(epista.QueryRefusedError):
        limited.query("SELECT getenv('HOME')")
    limited.query("SELECT 1")

    rows = [row for row in server.api().ok(server.api().get("~/audit"))["rows"] if row["action"] == "queries.run"]

    assert {(row["target"], row["outcome"]) for row in rows} == {
        ("SELECT getenv('HOME')", "query_refused"),
        ("SELECT 1", "done"),
    }


def test_spark_without_a_cluster_is_a_clear_error(limited: epista.Workspace) -> None:
    with pytest.raises(epista.InvalidRequestError, match="no Spark cluster") as missing:
        limited.query("SELECT 1", engine="spark")

    assert "spark_url" in (missing.value.hint or "")


class TestSparkThatIsGone:
    @pytest.fixture
    def config(self, config: Config, tmp_path: Path) -> Config:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        url = f"sc://127.0.0.1:{port}"
        return msgspec.structs.replace(config, spark_url=url, spark_scratch=str(tmp_path), query_engine="spark")

    def test_it_is_unavailable_and_the_log_says_so(self, limited: epista.Workspace) -> None:
        limited.put("EXP-1/counts.parquet", COUNTS)

        with pytest.raises(epista.UnavailableError, match="Spark cluster does not answer"):
            limited.query("SELECT * FROM counts")
        assert one(limited.query("SELECT count(*) FROM counts", engine="duckdb")) == 3

        on_duckdb, on_spark = limited.queries()[:2]
        assert (on_duckdb.engine, on_duckdb.status) == ("duckdb", "done")
        assert (on_spark.engine, on_spark.status, on_spark.error) == ("spark", "failed", "unavailable")

    def test_what_spark_has_not_is_refused_before_it_is_asked(self, limited: epista.Workspace) -> None:
        limited.put("EXP-1/counts.parquet", COUNTS)

        with pytest.raises(epista.QueryError, match="the Spark engine has no function hash"):
            limited.query("SELECT hash(well) FROM counts")

        assert limited.queries()[0].status == "refused"
