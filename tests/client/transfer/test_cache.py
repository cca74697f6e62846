"""The cache: what was read is there the next time and offline, whole, bounded, and for nobody else."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import epista
from epista.client import settings
from epista.client.transfer.cache import Cache
from tests import processes
from tests.makers import Api, Server, sha256

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EPISTA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ws(folder: Path, server: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(server.url, token=server.manager, workspace="lab") as opened:
        yield opened


@pytest.fixture
def running(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[processes.Server]:
    """A server that can be killed."""
    monkeypatch.setattr("epista.client.wire.ATTEMPTS", 2)
    with processes.served(tmp_path / "lab") as server:
        yield server


def workspace(server: processes.Server, **given: str) -> epista.Workspace:
    opened: dict[str, Any] = {"token": server.token, "workspace": "lab"} | given
    return epista.Workspace(server.url, **opened)


def pour(data: bytes) -> Callable[[io.FileIO], None]:
    def fill(sink: io.FileIO) -> None:
        sink.write(data)

    return fill


def rows(server: Server, action: str) -> int:
    """Count what the server has audited."""
    return len(server.api().ok(server.api().get("~/audit", action=action))["rows"])


def contents(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in (folder / "contents").rglob("*") if path.is_file()}


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


class TestBytes:
    def test_what_was_read_is_not_brought_again(self, ws: epista.Workspace, server: Server, tmp_path: Path) -> None:
        data = os.urandom(5 * MIB)
        server.api().put("d/a.bin", data)

        read = [
            ws.fetch("d/a.bin", tmp_path / "one").read_bytes(),
            ws.fetch("d/a.bin", tmp_path / "two").read_bytes(),
            ws("d/a.bin", format="bytes"),
            ws("d/", format="bytes")["a.bin"],
        ]
        with ws.open("d/a.bin", download=True) as path:
            read.append(path.read_bytes())

        assert read == [data] * 5
        assert rows(server, "objects.content") == 1

    def test_a_folder_of_small_files_is_not_brought_again(
        self, ws: epista.Workspace, server: Server, folder: Path, tmp_path: Path
    ) -> None:
        written = {f"d/{n}.txt": f"file {n}".encode() for n in range(20)}
        for key, data in written.items():
            server.api().put(key, data)
        ws.fetch("d/", tmp_path / "one")
        damaged = next(iter(contents(folder).values()))
        damaged.chmod(0o600)
        damaged.write_bytes(b"damaged")

        ws.fetch("d/", tmp_path / "two")
        texts = ws("d/", format="bytes")

        assert {f"d/{path.name}": path.read_bytes() for path in (tmp_path / "two").iterdir()} == written
        assert {f"d/{name}": data for name, data in texts.items()} == written
        assert rows(server, "assets.find") == 3
        # All together once, and the one that was damaged.
        assert (rows(server, "frames.read"), rows(server, "objects.content")) == (1, 1)

    def test_what_was_damaged_is_brought_again(self, ws: epista.Workspace, server: Server, folder: Path) -> None:
        server.api().put("a.txt", b"some cells")
        assert ws("a.txt") == "some cells"
        (kept,) = contents(folder).values()
        for damage in (b"some c3lls", b"", b"some cells and more"):
            kept.chmod(0o600)
            kept.write_bytes(damage)

            assert ws("a.txt") == "some cells"
            assert contents(folder)[kept.name].read_bytes() == b"some cells"
        kept.unlink()
        kept.symlink_to("/etc/hostname")

        assert ws("a.txt") == "some cells"

    def test_an_edit_of_a_fetched_file_does_not_reach_the_cache(
        self, ws: epista.Workspace, server: Server, folder: Path, tmp_path: Path
    ) -> None:
        server.api().put("a.txt", b"some cells")
        path = ws.fetch("a.txt", tmp_path)
        ws.fetch("a.txt", tmp_path / "again.txt").write_text("edited")
        path.write_text("edited")

        (kept,) = contents(folder).values()
        assert kept.read_bytes() == b"some cells"
        assert kept.stat().st_nlink == 1

    def test_nobody_else_on_the_machine_may_look(self, ws: epista.Workspace, server: Server, folder: Path) -> None:
        server.api().put("a.txt", b"some cells")
        ws("a.txt")

        assert not [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]
        folder.chmod(0o755)
        with pytest.raises(epista.SettingsError, match="open to everybody"):
            epista.Workspace(server.url, token=server.manager)

    def test_a_group_may_share_the_contents_and_not_the_answers(self, folder: Path, server: Server) -> None:
        server.api().put("a.txt", b"some cells")
        folder.mkdir()
        folder.chmod(0o770)
        before = os.umask(0o027)
        try:
            with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
                ws("a.txt")
        finally:
            os.umask(before)

        modes = {path.relative_to(folder).parts[0].split("-")[0]: path.stat().st_mode & 0o777 for path in folder.rglob("*")}
        assert [oct(path.stat().st_mode & 0o777) for path in contents(folder).values()] == ["0o660"]
        assert {path.stat().st_mode & 0o777 for path in (folder / "contents").rglob("*") if path.is_dir()} == {0o770}
        assert modes[".lock"] == 0o660
        assert not [path for path in folder.glob("answers-*/**/*") if path.stat().st_mode & 0o077]

    def test_an_embedded_lab_needs_none(self, folder: Path, tmp_path: Path) -> None:
        with epista.Workspace(tmp_path / "lab") as ws:
            ws.put("a.txt", "some cells")
            assert ws("a.txt") == "some cells"
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("text", "size"), [("1000", 1000), ("2kB", 2000), ("2 KiB", 2048), ("20GiB", 20 * 1024**3), (None, 10 * 1024**3)]
    )
    def test_a_size_can_be_said_in_words(self, text: str | None, size: int) -> None:
        given = {"EPISTA_API_URL": "https://lab.example", "EPISTA_TOKEN": "t"}
        assert settings.read(given | ({"EPISTA_CACHE_BYTES": text} if text else {})).cache_bytes == size

    @pytest.mark.parametrize("text", ["much", "0", "-1", "1.5GB", "1 parsec"])
    def test_a_size_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(epista.SettingsError, match="CACHE_BYTES"):
            settings.read({"EPISTA_API_URL": "https://lab.example", "EPISTA_TOKEN": "t", "EPISTA_CACHE_BYTES": text})


class TestRoom:
    def test_what_was_used_longest_ago_makes_room(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "cache", 10_000, "who")
        kept = [os.urandom(3000) for _ in range(3)]
        for n, data in enumerate(kept):
            cache.keep(sha256(data), len(data), pour(data))
            os.utime(contents(tmp_path / "cache")[sha256(data)], (n, n))
        with cache.content(sha256(kept[0])) as file:
            assert file
        more = os.urandom(3000)

        cache.keep(sha256(more), len(more), pour(more))

        assert set(contents(tmp_path / "cache")) == {sha256(kept[0]), sha256(kept[2]), sha256(more)}

    def test_what_is_larger_than_the_cache_is_left_out(self, ws: epista.Workspace, server: Server, folder: Path) -> None:
        server.api().put("big.txt", b"x" * 2000)
        small = Cache(folder, 1000, "who")

        small.keep("0" * 64, 2000, lambda sink: None)

        assert not contents(folder)

    def test_a_cache_that_cannot_be_written_is_none(self, ws: epista.Workspace, server: Server, folder: Path) -> None:
        server.api().put("a.txt", b"some cells")
        (folder / "contents").rmdir()
        (folder / "contents").write_text("in the way")

        assert ws("a.txt") == "some cells"
        assert not list(folder.glob(".new-*"))

    def test_many_processes_and_kills_leave_it_whole_and_within_its_limit(self, tmp_path: Path) -> None:
        folder, limit = tmp_path / "cache", 2_000_000
        code = f"""
import os, hashlib, random, pathlib
from epista.client.transfer.cache import Cache
cache = Cache(pathlib.Path({str(folder)!r}), {limit}, "who")
while True:
    data = random.randbytes(random.randrange(1, 300_000))
    name = hashlib.sha256(data).hexdigest()
    cache.keep(name, len(data), lambda sink: sink.write(data) and None)
    with cache.content(name) as file:
        found = file.read() if file else data
    assert found == data, "what is there is whole"
"""
        for _ in range(3):
            running = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
            time.sleep(1.5)
            for process in running:
                assert process.poll() is None, process.communicate()[1]
                process.send_signal(signal.SIGKILL)
            for process in running:
                process.communicate()

        kept = contents(folder)
        assert kept
        assert all(hashlib.sha256(path.read_bytes()).hexdigest() == name for name, path in kept.items())
        assert sum(path.stat().st_size for path in kept.values()) <= limit
        for path in folder.glob(".new-*"):
            os.utime(path, (0, 0))
        cache = Cache(folder, limit, "who")
        data = os.urandom(limit)
        cache.keep(sha256(data), limit, pour(data))
        assert not list(folder.glob(".new-*"))
        assert used(folder) == limit


class TestOffline:
    def test_what_was_read_is_read_again_with_a_warning(self, running: processes.Server, tmp_path: Path) -> None:
        api = running.api()
        asset = api.put("EXP-1/a.txt", b"some cells")
        api.put("EXP-1/never.txt", b"never read")
        with workspace(running, experiment="EXP-1") as ws:
            assert ws("a.txt") == "some cells"
            assert ws.fetch("EXP-1/", tmp_path / "before").is_dir()
            with ws.open("a.txt", download=True):
                pass
        running.kill()

        with workspace(running, experiment="EXP-1") as ws:
            with pytest.warns(UserWarning, match=r"cannot be reached; this is what it said at .* UTC"):
                assert ws("a.txt") == "some cells"
            with pytest.warns(UserWarning):
                assert ws("a.txt", version=asset["version"]) == "some cells"
            with pytest.warns(UserWarning):
                assert ws("EXP-1/a.txt", version=asset["version"]) == "some cells"
            with pytest.warns(UserWarning):
                assert (ws.fetch("EXP-1/", tmp_path / "after") / "a.txt").read_text() == "some cells"
            with pytest.warns(UserWarning), ws.open("a.txt", download=True) as path:
                assert path.read_text() == "some cells"
            with pytest.raises(epista.UnreachableError):
                ws("EXP-1/other.txt")
        with warnings.catch_warnings(), pytest.raises(epista.UnreachableError, match="is closed"):
            ws("a.txt")

    def test_a_workspace_that_was_not_named_is_known(self, running: processes.Server) -> None:
        running.api().put("a.txt", b"some cells")
        with epista.Workspace(running.url, token=running.token) as ws:
            assert ws("a.txt") == "some cells"
        running.kill()

        with epista.Workspace(running.url, token=running.token) as ws, pytest.warns(UserWarning):
            assert ws("a.txt") == "some cells"

    def test_another_token_is_told_nothing(self, running: processes.Server) -> None:
        api = running.api()
        api.put("a.txt", b"some cells")
        other = api.ok(api.post("/tokens", name="other"))["secret"]
        with workspace(running) as ws:
            ws("a.txt")
        running.kill()

        with workspace(running, token=other) as ws, pytest.raises(epista.UnreachableError):
            ws("a.txt")

    def test_what_was_refused_since_is_not_told_any_more(self, running: processes.Server) -> None:
        api = running.api()
        asset = api.put("a.txt", b"some cells")
        api.put("b.txt", b"others")
        with workspace(running) as ws:
            ws("a.txt")
            ws("b.txt")
            ws.delete("a.txt")
            with pytest.raises(KeyError):
                ws("a.txt")
        running.kill()

        with workspace(running) as ws:
            for version in (None, asset["version"]):
                with pytest.raises(epista.UnreachableError):
                    ws("a.txt", version=version)
            with pytest.warns(UserWarning):
                assert ws("b.txt") == "others"

    def test_a_token_that_was_revoked_is_told_nothing_afterwards(self, running: processes.Server) -> None:
        api = running.api()
        api.put("a.txt", b"some cells")
        made = api.ok(api.post("/tokens", name="other"))
        with workspace(running, token=made["secret"]) as ws:
            ws("a.txt")
            api.ok(api.call("DELETE", f"/tokens/{made['token']['id']}"))
            with pytest.raises(epista.AuthenticationError):
                ws("a.txt")
        running.kill()

        with workspace(running, token=made["secret"]) as ws, pytest.raises(epista.UnreachableError):
            ws("a.txt")

    def test_while_the_lab_answers_the_cache_grants_nothing(self, folder: Path, server: Server) -> None:
        server.api().put("EXP-2/secret.txt", b"secret")
        with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
            ws("EXP-2/secret.txt")
        guest: Api = server.member("eve", "viewer", experiments=["EXP-1"])

        with epista.Workspace(server.url, token=guest.token, workspace="lab") as ws, pytest.raises(KeyError):
            ws("EXP-2/secret.txt")

    def test_nothing_in_the_folder_is_a_token(self, ws: epista.Workspace, server: Server, folder: Path) -> None:
        server.api().put("a.txt", b"some cells")
        ws("a.txt")

        for path in folder.rglob("*"):
            assert server.manager not in path.name
            assert path.is_dir() or server.manager.encode() not in path.read_bytes()
        assert server.manager not in repr(ws.cache)
