"""Folders of many files: neither end holds more than names and hashes, and a kill leaves all or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import processes
from tests.faults import load

FILES = 100_000

CLIENT = """
import resource, sys
import epista
url, token, verb, *arguments = sys.argv[1:]
with epista.Workspace(url, token=token, workspace="lab") as ws:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(ws, verb)(*arguments)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def many_files(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        (below / f"{number:06}.bin").write_bytes(b"%d" % number * 100)


def client(server: processes.Server, verb: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, server.url, str(server.token), verb, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def peak_of(server: processes.Server) -> Iterator[list[int]]:
    """Give the most memory that any process of the server had meanwhile, in MiB."""
    peaks, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for process in server.family():
                try:
                    peaks[0] = max(peaks[0], process.memory_info().rss // 1024**2)
                except psutil.NoSuchProcess:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_files_go_there_and_back_in_bounded_memory(tmp_path: Path) -> None:
    many_files(tmp_path / "source", FILES)
    with processes.served(tmp_path / "lab") as server:
        for verb, arguments in {"put_dir": ("d", tmp_path / "source"), "fetch": ("d/", tmp_path / "back")}.items():
            with peak_of(server) as peaks:
                running = client(server, verb, *arguments)
                said, _ = running.communicate(timeout=1200)
            assert running.returncode == 0
            print(f"{verb}: client {said.strip()} MiB, server {peaks[0]} MiB")
            assert int(said) < 600
            assert peaks[0] < 300
        assert len(server.api().keys()) == FILES
    for path in (tmp_path / "source").rglob("*.bin"):
        assert (tmp_path / "back" / path.relative_to(tmp_path / "source")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("rounds", [2, pytest.param(25, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_server_that_is_killed_in_mid_folder_has_all_of_it_or_nothing(tmp_path: Path, rounds: int) -> None:
    count = 3000
    many_files(tmp_path / "source", count)
    token: str | None = None
    for number in range(rounds):
        server = processes.start_served(tmp_path / "lab", token=token)
        try:
            token = server.token
            running = client(server, "put_dir", f"d{number}", tmp_path / "source")
            time.sleep(0.5 + 3 * int.from_bytes(os.urandom(2)) / 65536)
            server.kill()
            running.send_signal(signal.SIGKILL)
            running.communicate()
        finally:
            server.end()
    with processes.served(tmp_path / "lab", token=token) as server:
        for number in range(rounds):
            assert len(server.api().keys(f"d{number}/")) in (0, count)
        running = client(server, "put_dir", "d", tmp_path / "source")
        running.communicate(timeout=120)
        assert running.returncode == 0
        assert len(server.api().keys("d/")) == count
        load.verify(server.api(), tmp_path / "lab")
