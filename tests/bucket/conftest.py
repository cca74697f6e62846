"""What the bucket's acceptance tests share: what the lab stores, faults on the way to it, and clients to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import epista
from epista.client import wire
from epista.client.transfer import download
from epista.server.app import blob_store
from epista.server.stores.blobs import BlobStore
from epista.server.stores.local import LocalBlobs
from tests.bucket.faults import Faults
from tests.conftest import Thread
from tests.makers import Server


@pytest.fixture
def objects(ws: epista.Workspace, request: pytest.FixtureRequest) -> BlobStore:
    """The store of the lab that *ws* is in."""
    if ws.is_embedded:
        return LocalBlobs(request.getfixturevalue("embedded_lab"))
    return blob_store(request.getfixturevalue("placed"))


@pytest.fixture
def stored(objects: BlobStore) -> Callable[[], set[str]]:
    """List the objects that the lab stores."""
    return lambda: {found.object for found in objects.objects()}


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
