"""Queries against servers that are real processes: memory, a killed server, a client that vanishes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

import epista
from tests import processes
from tests.processes import Server, wait_until

MIB = 1024**2

ROWS = 6_000_000

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with processes.served(tmp_path / "lab") as server:
        yield server


@pytest.fixture
def ws(server: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(server.url, token=server.token, workspace="lab", progress=False) as ws:
        yield ws


def engines(server: Server) -> list[psutil.Process]:
    """The engine's children, which are no server's memory but the query's, with limits of their own."""
    return [member for member in server.family() if any("duckdb_child" in word for word in member.cmdline())]


def memory_mib(server: Server) -> float:
    children = {member.pid for member in engines(server)}
    return sum(member.memory_info().rss for member in server.family() if member.pid not in children) / MIB


def test_six_million_rows_pass_through_a_server_that_does_not_hold_them(ws: epista.Workspace, server: Server) -> None:
    ws.put("rows.parquet", pa.table({"n": range(1000), "text": [f"row {n}" for n in range(1000)]}))
    assert len(ws.query("SELECT * FROM rows")) == 1000
    idle, peak, total = memory_mib(server), 0.0, 0

    with ws.query_batches(f"SELECT a.n, a.text, b.range FROM rows a, range({ROWS // 1000}) b") as coming:
        for number, batch in enumerate(coming):
            total += batch.num_rows
            if number % 20 == 0:
                peak = max(peak, memory_mib(server))

    assert total == ROWS
    assert peak - idle < 200


def test_a_client_that_is_killed_leaves_no_query(ws: epista.Workspace, server: Server) -> None:
    code = "import epista, sys; epista.Workspace(*sys.argv[1:2], token=sys.argv[2], workspace='lab').query(sys.argv[3])"
    client = subprocess.Popen([sys.executable, "-c", code, server.url, str(server.token), ENDLESS])
    try:
        wait_until(lambda: any(query.status == "running" for query in ws.queries()), "the query runs")
    finally:
        client.kill()
        client.wait()

    wait_until(lambda: ws.queries()[0].status == "cancelled", "the query was ended")


def test_an_interrupted_client_ends_its_query(ws: epista.Workspace, server: Server) -> None:
    code = "import epista, sys; epista.Workspace(*sys.argv[1:2], token=sys.argv[2], workspace='lab').query(sys.argv[3])"
    client = subprocess.Popen([sys.executable, "-c", code, server.url, str(server.token), ENDLESS], stderr=subprocess.PIPE)
    wait_until(lambda: any(query.status == "running" for query in ws.queries()), "the query runs")

    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=60)

    assert b"KeyboardInterrupt" in said
    wait_until(lambda: ws.queries()[0].status == "cancelled", "the query was ended")


def test_a_server_that_is_killed_takes_its_engines_along_and_the_log_says_so(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with processes.served(lab) as server:
        code = "import epista, sys; epista.Workspace(*sys.argv[1:2], token=sys.argv[2], workspace='lab').query(sys.argv[3])"
        client = subprocess.Popen([sys.executable, "-c", code, server.url, str(server.token), ENDLESS], stderr=subprocess.DEVNULL)
        with epista.Workspace(server.url, token=server.token, workspace="lab") as ws:
            wait_until(lambda: any(query.status == "running" for query in ws.queries()), "the query runs")
            children = engines(server)
            for member in server.family():
                if member not in children:
                    os.kill(member.pid, signal.SIGKILL)
        client.wait(60)
        wait_until(lambda: not any(processes.is_alive(child.pid) for child in children), "the engines ended with their server")
    # A minute later.
    with closing(sqlite3.connect(lab / "lab.db")) as catalog, catalog:
        catalog.execute("UPDATE queries SET alive_until = alive_until - 60000000")
    with (
        processes.served(lab, token=server.token) as again,
        epista.Workspace(again.url, token=again.token, workspace="lab") as ws,
    ):
        assert (ws.queries()[0].sql, ws.queries()[0].status) == (ENDLESS, "failed")
        assert len(ws.query("SELECT 1")) == 1
