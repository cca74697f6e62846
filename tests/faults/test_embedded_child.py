"""The child of an embedded lab: how it begins, how it says that it cannot, and when it goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from epista.server.stores.local import LocalBlobs
from tests import processes
from tests.faults import load

_PARENT = """
import json, os, subprocess, sys
read, write = os.pipe()
child = subprocess.Popen([sys.executable, "-P", "-m", "epista.server.embedded", sys.argv[1]], stdin=read, stdout=subprocess.PIPE)
holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=[write])
if sys.argv[2] == "listening":
    os.write(write, b"secret\\n")
    child.stdout.readline()
print(json.dumps({"child": child.pid, "holder": holder.pid}), flush=True)
child.wait()
"""
"""A parent whose other child holds the pipe open, as a program does that was started with all files inherited."""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The folder of a lab with one object in it."""
    with processes.embedded(tmp_path / "lab") as server:
        server.api().put("cells.txt", b"some cells")
    return tmp_path / "lab"


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Processes to end after the test, whatever happened."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if processes.is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def refusal(folder: Path) -> dict[str, str]:
    """Return what a child says that cannot serve *folder*."""
    server = processes.spawn_embedded(folder)
    try:
        answer = processes.greeting(server)
        assert server.wait() != 0
    finally:
        server.end()
    assert "Traceback" not in server.said()
    return answer


def test_it_writes_one_line_and_serves_whoever_knows_the_token(tmp_path: Path) -> None:
    with processes.embedded(tmp_path / "lab") as server:
        api = server.api()
        api.put("a.txt", b"text")
        server.token = "another token"
        assert server.api().get("/me").status_code == 401
        assert api.ok(api.get("/me"))["is_lab_admin"]
        assert server.process.stdin and server.process.stdout
        server.process.stdin.close()
        rest = server.process.stdout.read()

    assert rest == b""


def test_it_goes_when_its_parent_closes_the_pipe(tmp_path: Path) -> None:
    with processes.embedded(tmp_path / "lab") as server:
        assert server.process.stdin

        server.process.stdin.close()
        server.wait()

        assert not processes.is_alive(server.pid)


def test_it_goes_when_the_pipe_is_closed_before_a_token_came(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "epista.server.embedded", str(tmp_path / "lab")], input=b"", capture_output=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (1, b"")
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize("moment", ["listening", "waiting for its token"])
def test_it_goes_when_its_parent_is_killed_and_another_process_holds_the_pipe(
    tmp_path: Path, moment: str, ended: list[int]
) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path / "lab"), moment], stdout=subprocess.PIPE)
    assert parent.stdout
    pids = json.loads(processes.read_line(parent.stdout))
    ended.extend(pids.values())
    processes.wait_until(lambda: psutil.Process(pids["child"]).num_threads() > 1, "the child watches its parent")

    parent.kill()
    parent.wait(60)
    parent.stdout.close()

    processes.wait_until(lambda: not processes.is_alive(pids["child"]), "the child is gone")
    assert processes.is_alive(pids["holder"])


def test_a_folder_with_other_files_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"sand")

    answer = refusal(tmp_path / "holiday")

    assert answer["code"] == "settings"
    assert "is no lab" in answer["message"] and "beach.jpg" in answer["message"]
    assert [file.name for file in (tmp_path / "holiday").iterdir()] == ["beach.jpg"]


def test_a_file_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")

    assert refusal(tmp_path / "notes.txt")["code"] == "settings"


def test_a_folder_whose_catalog_is_garbage_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.db").write_bytes(b"not a database at all" * 500)

    answer = refusal(tmp_path / "lab")

    assert answer["code"] == "settings"
    assert (tmp_path / "lab" / "lab.db").read_bytes() == b"not a database at all" * 500


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    with closing(sqlite3.connect(tmp_path / "lab" / "lab.db")) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.commit()

    answer = refusal(tmp_path / "lab")

    assert answer["code"] == "settings"
    with closing(sqlite3.connect(tmp_path / "lab" / "lab.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


def test_a_lab_of_a_newer_schema_is_refused_and_left_as_it_is(lab: Path) -> None:
    with closing(sqlite3.connect(lab / "lab.db")) as catalog:
        catalog.execute("UPDATE alembic_version SET version_num = '9999'")
        catalog.execute("UPDATE compatibility SET oldest = '9999'")
        catalog.commit()

    answer = refusal(lab)

    assert answer["code"] == "settings"
    assert "newer Epista" in answer["message"] and "upgrade" in answer["hint"]
    with closing(sqlite3.connect(lab / "lab.db")) as catalog:
        assert catalog.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("attempt", range(3))
def test_children_that_found_one_lab_at_the_same_moment_all_work(tmp_path: Path, attempt: int) -> None:
    folder = tmp_path / "new" / "lab"
    (tmp_path / "new").mkdir()
    with ExitStack() as opened:
        servers = [processes.spawn_embedded(folder) for _ in range(3)]
        for server in servers:
            opened.callback(server.end)
        for number, server in enumerate(servers):
            answer = processes.greeting(server)
            assert "port" in answer, (answer, server.said())
            server.url = f"http://127.0.0.1:{answer['port']}"
            server.api().put(f"{number}.txt", str(number).encode())

        for server in servers:
            assert load.read_all(server.api()) == {"0.txt": b"0", "1.txt": b"1", "2.txt": b"2"}
            assert server.api().ok(server.api().get("/me"))["workspaces"] == ["lab"]


def test_what_another_process_has_just_made_is_no_stranger_in_the_folder(tmp_path: Path) -> None:
    LocalBlobs(tmp_path)

    with processes.embedded(tmp_path) as server:
        assert load.read_all(server.api()) == {}


def test_a_lab_may_be_moved(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.move(lab, tmp_path / "elsewhere" / "renamed lab")

    with processes.embedded(tmp_path / "elsewhere" / "renamed lab") as server:
        api = server.api()
        assert load.read_all(api) == {"cells.txt": b"some cells"}
        asset = api.ok(api.get_asset("cells.txt"))
        located = api.ok(api.get(f"~/versions/{asset['version']}/location"))
        assert Path(located["path"]).is_relative_to(tmp_path / "elsewhere")
        load.verify(api, tmp_path / "elsewhere" / "renamed lab")


def test_an_embedded_lab_can_be_served_later(lab: Path) -> None:
    with processes.served(lab) as server:
        assert server.link and server.link.startswith(f"{server.url}/sign-in#")
        assert load.read_all(server.api()) == {"cells.txt": b"some cells"}
        server.api().put("more.txt", b"more")
        # And its user may go on in the folder meanwhile.
        with processes.embedded(lab) as beside:
            assert load.read_all(beside.api()) == {"cells.txt": b"some cells", "more.txt": b"more"}
            beside.api().put("beside.txt", b"beside")
        assert server.api().keys() == ["beside.txt", "cells.txt", "more.txt"]
