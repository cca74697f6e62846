"""The server stops when it is asked to, whatever its clients do, and loses nothing when it is killed instead."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests import processes
from tests.faults import load
from tests.makers import Api, sha256
from tests.raw import Exchange

MIB = 1024 * 1024

SEVERAL = bytes(range(256)) * 4096 * 24
"""24 MiB: more than all buffers on the way hold."""


def begin_upload(api: Api, size: int) -> Exchange:
    return Exchange(api, "POST", f"/workspaces/{api.workspace}/blobs", {"Content-Length": str(size), "Connection": "close"})


def begin_download(api: Api, version: str) -> Exchange:
    path = f"/workspaces/{api.workspace}/versions/{version}/content"
    return Exchange(api, "GET", path, {"Connection": "close"}, buffer_bytes=65536)


Clients = Callable[..., list[Exchange]]


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Keep exchanges until the test is over, and close them then."""
    kept: list[Exchange] = []

    def keep(*some: Exchange) -> list[Exchange]:
        kept.extend(some)
        return list(some)

    yield keep
    for one in kept:
        one.close()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_of(server: processes.Server) -> int:
    return int(server.url.rpartition(":")[2])


def test_transfers_in_flight_may_end_when_the_server_is_asked_to_stop(tmp_path: Path, clients: Clients) -> None:
    with processes.served(tmp_path / "lab", stop_timeout_seconds=30) as server:
        version = server.api().put("large.bin", SEVERAL)["version"]
        upload, download = clients(begin_upload(server.api(), 2 * MIB), begin_download(server.api(), version))
        upload.send(bytes(MIB))
        status, _ = download.read_head()
        body = download.read(MIB)

        server.process.terminate()
        processes.wait_until(lambda: is_refused(server.url), "the server takes no new connections")
        upload.send(bytes(MIB))
        body += download.read_rest()
        answer, _ = upload.read_head()

        assert (status, answer) == (200, 200)
        assert sha256(body) == sha256(SEVERAL)
        assert server.wait() == 0
        token = server.token
    with processes.served(tmp_path / "lab", token=token) as again:
        # The acknowledged upload is there: the commit needs no bytes.
        again.api().ok(again.api().post("~/objects", objects=[{"key": "up.bin", "sha256": sha256(bytes(2 * MIB))}]))
        load.verify(again.api(), tmp_path / "lab")


def is_refused(url: str) -> bool:
    try:
        requests.get(url + "/health/live", timeout=5, headers={"Connection": "close"})
    except requests.ConnectionError:
        return True
    return False


def test_clients_that_stall_do_not_hold_up_the_stop(tmp_path: Path, clients: Clients) -> None:
    with processes.served(tmp_path / "lab", workers=2, stop_timeout_seconds=2) as server:
        version = server.api().put("large.bin", SEVERAL)["version"]
        upload, download = clients(begin_upload(server.api(), 2 * MIB), begin_download(server.api(), version))
        upload.send(bytes(MIB))
        download.read_head()
        silent = socket.create_connection(("127.0.0.1", port_of(server)))
        began = time.monotonic()

        server.terminate()

        assert time.monotonic() - began < 30
        assert len(download.read_rest()) < len(SEVERAL)
        assert upload.read_rest() == b""
        assert is_free(port_of(server))
        silent.close()
        token = server.token
    with processes.served(tmp_path / "lab", token=token) as again:
        assert again.api().keys() == ["large.bin"]
        load.verify(again.api(), tmp_path / "lab")


def test_the_child_of_an_embedded_lab_stops_although_a_client_stalls(tmp_path: Path, clients: Clients) -> None:
    with processes.embedded(tmp_path / "lab") as server:
        [upload] = clients(begin_upload(server.api(), 2 * MIB))
        upload.send(bytes(MIB))
        staging = tmp_path / "lab" / "staging"
        processes.wait_until(lambda: [file.stat().st_size for file in staging.iterdir()] == [MIB], "all bytes arrived")

        server.terminate()

        status, headers = upload.read_head()
        assert (status, headers["content-type"]) == (503, "application/problem+json")
    with processes.embedded(tmp_path / "lab") as again:
        assert again.api().keys() == []
        load.verify(again.api(), tmp_path / "lab")


def test_workers_end_by_themselves_when_the_main_process_is_killed(tmp_path: Path, clients: Clients) -> None:
    with processes.served(tmp_path / "lab", workers=2, stop_timeout_seconds=2) as server:
        version = server.api().put("large.bin", SEVERAL)["version"]
        [stalled] = clients(begin_download(server.api(), version))
        stalled.read_head()
        family = server.family()
        assert len(server.workers()) == 2

        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        processes.wait_until(lambda: not any(processes.is_alive(member.pid) for member in family), "the workers are gone")

        assert is_free(port_of(server))
        token = server.token
    with processes.served(tmp_path / "lab", token=token) as again:
        load.verify(again.api(), tmp_path / "lab")


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with processes.served(tmp_path / "lab", workers=1) as server:
        server.api().put("a.bin")
        [old] = server.workers()

        os.kill(old.pid, signal.SIGKILL)
        processes.wait_until(lambda: any(worker.pid != old.pid for worker in server.workers()), "there is a new worker")
        processes.wait_until(lambda: processes.answers(server.url), "it answers")

        server.api().put("b.bin")
        assert server.api().keys() == ["a.bin", "b.bin"]
        assert not processes.is_alive(old.pid)
        assert server.terminate() == 0
