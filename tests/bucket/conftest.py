"""What the bucket's acceptance tests share: where the lab lies, faults on the way to it, and clients to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import epista
from epista.client import wire
from epista.client.transfer import download
from tests.bucket.faults import Faults
from tests.conftest import Thread
from tests.makers import Server


@pytest.fixture
def lab_folder(ws: epista.Workspace, request: pytest.FixtureRequest) -> Path:
    """The folder of the lab that *ws* is in."""
    folder: Path = request.getfixturevalue("embedded_lab") if ws.is_embedded else request.getfixturevalue("server").folder
    return folder


@pytest.fixture
def stored(lab_folder: Path) -> Callable[[], int]:
    """Count the objects that the lab stores."""
    return lambda: sum(1 for path in (lab_folder / "blobs").rglob("*") if path.is_file())


@pytest.fixture
def faults(server: Server, server_thread: Thread, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults on the way to the test's server, and a client that does not wait long."""
    monkeypatch.setattr(wire, "MAX_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.01, 0.01, 0.01))
    faults = Faults(server_thread.delegate.app)
    server_thread.delegate.app = faults
    return faults


_CLIENT = """
import sys
import epista
url, token, verb, *arguments = sys.argv[1:]
with epista.Workspace(url, token=token, workspace="lab") as ws:
    print("begun", flush=True)
    getattr(ws, verb)(*arguments)
    print("done", flush=True)
"""

StartClient = Callable[..., subprocess.Popen[str]]
"""``start_client(verb, *arguments)``: the verb, in a process of its own."""


@pytest.fixture
def start_client(server: Server) -> Iterator[StartClient]:
    """Start clients that do one thing in workspace ``lab`` over HTTP; those left over are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(verb: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _CLIENT, server.url, server.manager, verb, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of the user's own."""
    path = tmp_path / "folder"
    path.mkdir()
    return path
