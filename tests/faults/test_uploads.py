"""Uploads in parts go on after whatever breaks, and send only what is missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import epista
from epista.client import uploads
from epista.client.transfer import parts
from epista.contract.errors import StorageFullError
from tests import processes
from tests.faults import load
from tests.faults.proxy import proxied
from tests.faults.test_kill import seed_of_the_run
from tests.makers import sha256

MIB = 1024 * 1024

PART = 256 * 1024

AT_ONCE_BYTES = parts.AT_ONCE * PART
"""What is under way, and may be sent twice, when something breaks."""

_PUT = f"""
import sys, epista
from epista.client.transfer import parts
parts.PARTS_FROM_BYTES = {PART}
epista.Workspace(progress=False).put_file("large.bin", sys.argv[1])
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PARTS_FROM_BYTES", PART)
    monkeypatch.setattr(parts, "PAUSE_SECONDS", 0.2)


def start(folder: Path, token: str | None = None, **settings: Any) -> processes.Server:
    return processes.start_served(folder, token=token, **{"part_bytes": PART, "requests_per_minute": 0} | settings)


def workspace(server: processes.Server, url: str | None = None) -> epista.Workspace:
    return epista.Workspace(url or server.url, token=server.token, workspace="lab", progress=False)


def made(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content


def received(ws: epista.Workspace) -> int:
    return sum(one.received_bytes for one in uploads.find(ws))


def check(server: processes.Server, content: bytes) -> None:
    """Hold the server to what it acknowledged, and look for what it should not have."""
    with workspace(server) as ws:
        assert ws("large.bin", format="bytes") == content
        assert uploads.find(ws) == ()
    assert list((server.folder / "parts").iterdir()) == []
    load.verify(server.api(), server.folder)


def upload_while_killed(folder: Path, kills: int, size: int, **settings: Any) -> None:
    """Kill the server so many times while one file is on its way, and start it again each time."""
    chance = random.Random(seed_of_the_run())
    content = made(folder / "large.bin", size)
    server = start(folder / "lab", **settings)
    try:
        port = urlsplit(server.url).port
        with workspace(server) as ws, ThreadPoolExecutor(1) as pool:
            putting = pool.submit(ws.put_file, "large.bin", folder / "large.bin")
            for number in range(kills):
                # The way is cut into as many pieces as there are kills, so that each finds something to break.
                wanted = size * (number + chance.random()) / (kills + 1)
                with workspace(server) as other:
                    while (before := received(other)) < wanted and not putting.done():
                        time.sleep(0.02)
                server.kill()
                server = start(folder / "lab", server.token, port=port, **settings)
                with workspace(server) as other:
                    assert putting.done() or received(other) >= before, "what was acknowledged is there"
            assert putting.result(300).sha256 == sha256(content)
        check(server, content)
    finally:
        server.end()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_upload_outlives_a_server_that_is_killed(tmp_path: Path, workers: int) -> None:
    upload_while_killed(tmp_path, kills=2, size=40 * MIB, workers=workers)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_upload_outlives_a_server_that_is_killed_many_times(tmp_path: Path) -> None:
    upload_while_killed(tmp_path, kills=50, size=800 * MIB, workers=2)


def upload_while_cut(folder: Path, size: int, **settings: Any) -> None:
    """Cut every connection at each quarter of an upload."""
    content = made(folder / "large.bin", size)
    with processes.served(folder / "lab", requests_per_minute=0, **settings) as server, proxied(server.url) as proxy:
        with workspace(server, proxy.url) as ws:
            proxy.cut_when_sent(size // 4, size // 2, size * 3 // 4, size)
            assert ws.put_file("large.bin", folder / "large.bin").sha256 == sha256(content)
        under_way = parts.AT_ONCE * settings["part_bytes"]
        assert size <= proxy.sent <= size + 4 * under_way + MIB
        check(server, content)


def test_an_upload_that_is_cut_at_each_quarter_loses_only_what_was_under_way(tmp_path: Path) -> None:
    upload_while_cut(tmp_path, 30 * MIB, part_bytes=PART)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_upload_of_200_mib_that_is_cut_at_each_quarter_loses_only_what_was_under_way(tmp_path: Path) -> None:
    upload_while_cut(tmp_path, 200 * MIB, part_bytes=16 * MIB)


def test_a_client_that_is_killed_sends_only_what_is_missing_when_it_runs_again(tmp_path: Path) -> None:
    size = 40 * MIB
    content = made(tmp_path / "large.bin", size)
    server = start(tmp_path / "lab")
    try:
        with proxied(server.url) as proxy, workspace(server) as ws:
            environ = {"EPISTA_API_URL": proxy.url, "EPISTA_TOKEN": str(server.token), "EPISTA_WORKSPACE_ID": "lab"}

            def put() -> subprocess.Popen[bytes]:
                return subprocess.Popen([sys.executable, "-c", _PUT, str(tmp_path / "large.bin")], env=os.environ | environ)

            with put() as killed:
                processes.wait_until(lambda: received(ws) >= size // 3, "a third of the file")
                killed.send_signal(signal.SIGKILL)
            time.sleep(0.5)  # what was on its way arrives, or is given up
            there = received(ws)
            assert size // 3 <= there < size
            proxy.forget()

            with put() as again:
                assert again.wait(120) == 0

            assert size - there <= proxy.sent <= size - there + AT_ONCE_BYTES + MIB
        check(server, content)
    finally:
        server.end()


def test_a_full_disk_is_said_and_the_upload_goes_on_when_there_is_room(tmp_path: Path) -> None:
    size = 20 * MIB
    content = made(tmp_path / "large.bin", size)
    server = start(tmp_path / "lab")
    try:
        with workspace(server) as ws, ThreadPoolExecutor(1) as pool:
            send, half = ws.wire.send, threading.Event()

            def fill_at_half(name: str, request: Any, **given: Any) -> Any:
                if name == "uploads.put_part" and request.number > size // PART // 2 and not half.is_set():
                    half.set()
                    server.limit_file_size(size // 2)
                return send(name, request, **given)

            ws.wire.send = fill_at_half  # type: ignore[method-assign]
            with pytest.raises(StorageFullError, match="no room left"):
                pool.submit(ws.put_file, "large.bin", tmp_path / "large.bin").result(120)
            assert list(ws.keys()) == []
            there = received(ws)
            assert 0 < there <= size // 2 + AT_ONCE_BYTES

            with pytest.raises(StorageFullError):
                ws.put_file("large.bin", tmp_path / "large.bin")
            server.limit_file_size(-1)
            assert received(ws) >= there
            assert ws.put_file("large.bin", tmp_path / "large.bin").sha256 == sha256(content)
        check(server, content)
    finally:
        server.end()


def test_two_who_go_on_with_one_upload_end_with_one_object(tmp_path: Path) -> None:
    size = 20 * MIB
    content = made(tmp_path / "large.bin", size)
    server = start(tmp_path / "lab", workers=2)
    try:
        with proxied(server.url) as proxy:
            environ = {"EPISTA_API_URL": proxy.url, "EPISTA_TOKEN": str(server.token), "EPISTA_WORKSPACE_ID": "lab"}
            command = [sys.executable, "-c", _PUT, str(tmp_path / "large.bin")]
            with workspace(server) as ws, subprocess.Popen(command, env=os.environ | environ) as killed:
                processes.wait_until(lambda: received(ws) >= size // 4, "a quarter of the file")
                killed.send_signal(signal.SIGKILL)

            running = [subprocess.Popen(command, env=os.environ | environ) for _ in range(2)]
            assert [one.wait(120) for one in running] == [0, 0]
        check(server, content)
        assert len([path for path in (server.folder / "blobs").rglob("*") if path.is_file()]) == 1
    finally:
        server.end()
