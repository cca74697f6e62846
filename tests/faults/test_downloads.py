"""Downloads go on when the server is killed and comes back, and when the client's disk was full and has room again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import epista
from epista.client.transfer import destinations, disk, download
from epista.contract.errors import UnreachableError
from tests import processes

MIB = 1024 * 1024

SIZE = 20 * MIB


def fill(server: processes.Server, folder: Path, size: int = SIZE) -> bytes:
    source = folder / "source.bin"
    source.write_bytes(os.urandom(size))
    with workspace(server) as ws:
        ws.put_file("big.bin", source)
    return source.read_bytes()


def workspace(server: processes.Server) -> epista.Workspace:
    return epista.Workspace(server.url, token=server.token, workspace="lab", progress=False)


@pytest.mark.parametrize("way", ["near", "far"])
def test_a_download_outlives_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(download, "FAR_SECONDS", 0.0 if way == "far" else 1e9)
    monkeypatch.setattr(download, "RANGE_BYTES", MIB)
    server = processes.start_served(tmp_path / "lab")
    try:
        content = fill(server, tmp_path)
        half, gone_on = threading.Event(), threading.Event()
        write = disk.write

        def slowly(sink: object, piece: bytes) -> None:
            if sink.tell() >= SIZE // 2 and not half.is_set():  # type: ignore[attr-defined]
                half.set()
                gone_on.wait(60)
            write(sink, piece)  # type: ignore[arg-type]

        monkeypatch.setattr(disk, "write", slowly)
        with workspace(server) as ws:
            fetching = threading.Thread(target=ws.fetch, args=("big.bin", tmp_path / "fetched.bin"))
            fetching.start()
            assert half.wait(60)
            server.kill()
            gone_on.set()
            server = processes.start_served(server.folder, token=server.token, port=urlsplit(server.url).port)
            fetching.join(60)

        assert (tmp_path / "fetched.bin").read_bytes() == content
        assert not list(tmp_path.glob(f".*{destinations.PART_SUFFIX}"))
    finally:
        server.end()


def test_a_download_to_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    code = """
import sys, epista
try:
    epista.Workspace(progress=False).fetch("big.bin", sys.argv[1])
except epista.StorageFullError as error:
    print(error)
    sys.exit(7)
"""
    with processes.served(tmp_path / "lab") as server:
        content = fill(server, tmp_path)
        target = tmp_path / "fetched.bin"
        environ = os.environ | {"EPISTA_API_URL": server.url, "EPISTA_TOKEN": str(server.token), "EPISTA_WORKSPACE_ID": "lab"}

        def fetch(most_bytes: int) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-c", code, str(target)],
                env=environ,
                capture_output=True,
                text=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY)),
                check=False,
            )

        full = fetch(SIZE // 2)
        assert (full.returncode, "no room left" in full.stdout, target.exists()) == (7, True, False), full.stderr
        (part,) = tmp_path.glob(f".*{destinations.PART_SUFFIX}")
        assert part.read_bytes() == content[: SIZE // 2]
        assert fetch(resource.RLIM_INFINITY).returncode == 0

        assert target.read_bytes() == content
        assert not part.exists()


def test_a_download_from_a_server_that_stays_away_says_so_and_leaves_a_good_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epista.client.wire.ATTEMPTS", 1)
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.01,))
    write = disk.write
    with processes.served(tmp_path / "lab") as server:
        content = fill(server, tmp_path)

        def die(sink: object, piece: bytes) -> None:
            if server.process.poll() is None:
                server.kill()
            write(sink, piece)  # type: ignore[arg-type]

        monkeypatch.setattr(disk, "write", die)
        with workspace(server) as ws, pytest.raises(UnreachableError, match="no answer"):
            ws.fetch("big.bin", tmp_path / "fetched.bin")

    (part,) = tmp_path.glob(f".*{destinations.PART_SUFFIX}")
    assert content.startswith(part.read_bytes())
    assert part.stat().st_size >= MIB
    assert not (tmp_path / "fetched.bin").exists()
