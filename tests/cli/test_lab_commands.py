"""Labs in folders: their care, the server in front of one, and the completion of keys."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import epista
from tests.cli.conftest import Ran, Run, process
from tests.makers import Server


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "plate1.csv"
    path.write_text("well,count\nA1,17\n", encoding="utf-8")
    return path


def test_a_lab_in_a_folder_is_made_used_verified_cleaned_and_backed_up(alone: Run, plate: Path, tmp_path: Path) -> None:
    made = alone("--lab", "lab", "put", "plate1.csv", "EXP-12/")
    verified = alone("verify", "--lab", "lab")
    cleaned = alone("gc", "--lab", "lab", "--dry-run", "--grace-hours", "0.5")
    backed_up = alone("backup", "copy", "--lab", "lab")

    assert "a new lab in 'lab'" in made.err
    assert verified.out == "1 blob, 17 B: all whole\n"
    assert cleaned.out == "would remove 0 blobs and 0 files, 0 B\n"
    # A pack: the header of the frame, and the file.
    assert backed_up.out == f"{tmp_path / 'copy'}: 1 blob file, 61 B\n"
    assert alone("ls", "--lab", "copy", "EXP-12").lines[1].endswith("EXP-12/plate1.csv")


def test_a_damaged_blob_is_named_with_what_needs_it(run: Run, server: Server) -> None:
    made = server.api().put("EXP-12/a.csv", b"a\n1\n")
    (blob,) = [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b"a\n2\n")

    done = run("verify")

    assert done.code == 1
    assert done.lines[0].startswith(f"{made['sha256']}: ")
    assert done.lines[1] == "  needed by lab:EXP-12/a.csv@1"
    assert done.lines[-1] == "1 blob, 4 B: 1 damaged"
    assert len(run("verify", "--json").json["problems"]) == 1


def test_serve_prints_a_link_that_signs_in_and_ends_when_told(tmp_path: Path) -> None:
    credentials = str(tmp_path / "credentials.json")
    with subprocess.Popen(
        [sys.executable, "-m", "epista", "serve", "lab", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as served:
        try:
            assert served.stdout
            address, link = served.stdout.readline(), served.stdout.readline()
            found = re.search(r"'(\S+#\S+)'", link)
            assert found
            login: Ran | None = None
            # The line comes before the socket listens.
            for _ in range(40):
                login = process("auth", "login", found[1], folder=tmp_path, EPISTA_CREDENTIALS=credentials)
                if login.code != 5:
                    break
            status = process("auth", "status", folder=tmp_path, EPISTA_CREDENTIALS=credentials)
        finally:
            served.send_signal(signal.SIGTERM)

    assert address.startswith("Epista serves lab at http://127.0.0.1:")
    assert login and login.code == 0, login
    assert "user        admin, who manages the lab" in status.lines


def test_serve_can_only_bring_the_catalog_up_to_date(alone: Run, tmp_path: Path) -> None:
    done = alone("serve", "lab", "--migrate")

    assert (done.code, done.out) == (0, "the lab in lab is up to date\n")


def test_serve_takes_the_folder_from_lab_too_and_settings_from_a_file(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "epista.toml").write_text('lab = "from-the-file"\n', encoding="utf-8")

    assert "from-the-file" in alone("serve", "--config", "epista.toml", "--migrate").out
    assert "from-the-option" in alone("--lab", "from-the-option", "serve", "--migrate").out


def test_serve_refuses_a_setting_it_does_not_know(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "epista.toml").write_text("prot = 1\n", encoding="utf-8")

    done = alone("serve", "--config", "epista.toml")

    assert done.code == 1
    assert "unknown setting 'prot'; nearest: 'port'" in done.err


def completed(run: Run, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return what a shell would offer for the last of these words."""
    monkeypatch.setenv("_EPISTA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(("epista", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    return [line.partition(",")[2] for line in run().lines if line]


def test_a_shell_completes_commands(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(alone, monkeypatch, "re") == ["reindex", "restore"]


def test_a_shell_completes_keys_of_the_lab_that_is_named(alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with epista.Workspace(tmp_path / "lab") as ws:
        ws.put("EXP-12/raw/plate1.csv", b"a\n1\n")
        ws.put("EXP-12/raw/plate2.csv", b"a\n1\n")
        ws.put("EXP-13/notes.md", "x")

    assert completed(alone, monkeypatch, "--lab", "lab", "get", "E") == ["EXP-12/", "EXP-13/"]
    assert completed(alone, monkeypatch, "get", "--lab", "lab", "EXP-12") == ["EXP-12/raw/plate1.csv", "EXP-12/raw/plate2.csv"]


def test_a_lab_that_cannot_be_asked_completes_nothing(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed(alone, monkeypatch, "get", "E") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(alone: Run, shell: str) -> None:
    assert f"_EPISTA_COMPLETE={shell}_complete" in alone("completion", shell).out


def test_the_command_line_alone_loads_no_table_library_and_no_server(tmp_path: Path) -> None:
    program = "import sys, epista.cli; print([n for n in ('pandas', 'pyarrow', 'numpy', 'epista.server') if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)

    assert done.stdout == "[]\n"


def test_only_a_command_that_writes_makes_a_lab(alone: Run, plate: Path, tmp_path: Path) -> None:
    read = alone("ls", "--lab", "lba")

    assert read.code == 3
    assert "there is no lab in 'lba'" in read.err
    assert not (tmp_path / "lba").exists()
    assert alone("put", "--lab", "lba", "plate1.csv", "/").code == 0
    assert alone("ls", "--lab", "lba").code == 0


def test_signing_keys_are_listed_and_rotated(run: Run, server: Server) -> None:
    server.api().put("a.csv", b"a,b\n")
    link = run("url", "a.csv").lines[0]

    assert len(run("signing-key", "list", "--json").json["keys"]) == 1
    assert len(run("signing-key", "rotate").lines) == 3
    assert requests.get(link, timeout=60).status_code == 200
    run("signing-key", "rotate", "--retire-all")
    assert requests.get(link, timeout=60).status_code == 403
