"""What a command says when it fails: a message, a hint, an exit code, and never a traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epista.cli import EXIT_CODES
from epista.contract.errors import ERRORS
from tests.cli.conftest import Run, process
from tests.makers import Server


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "plate1.csv"
    path.write_text("well,count\nA1,17\n", encoding="utf-8")
    return path


def test_0_is_done(run: Run) -> None:
    assert run("ls").code == 0


def test_1_is_refused(run: Run) -> None:
    done = run("search", "kind:(flow")

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-3:] == [
        "error: this '(' is never closed (column 6)",
        "hint: kind:(flow",
        "           ^ add ')', or quote it to search for it",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lss",), ["error: No such command 'lss'. Did you mean 'ls'?", "hint: epista --help"]),
        (("ls", "--kin", "FLOW"), ["error: No such option '--kin'. Did you mean '--kind'?", "hint: epista ls --help"]),
        (("rm",), ["error: Missing argument 'KEY'.", "hint: epista rm --help"]),
    ],
    ids=["command", "option", "argument"],
)
def test_2_is_a_command_line_that_makes_no_sense(alone: Run, words: tuple[str, ...], said: list[str]) -> None:
    done = alone(*words)

    assert (done.code, done.err.splitlines()) == (2, said)


def test_3_is_not_found(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/plate1.csv")

    done = run("get", "EXP-12/plate.csv")

    assert done.code == 3
    assert done.err.splitlines()[-2:] == [
        "error: no asset at 'EXP-12/plate.csv'; nearest: 'EXP-12/plate1.csv'",
        "hint: epista ls EXP-12/",
    ]
    assert run("pull", "EXP-12/plate.csv").code == 3


def test_3_is_ambiguous_too(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")
    run("put", "plate1.csv", "EXP-13/")

    done = run("pull", "plate1.csv", "copy.csv")

    assert done.code == 3
    assert "EXP-12/plate1.csv, EXP-13/plate1.csv" in done.err


def test_4_is_not_allowed(run: Run, server: Server, plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = server.member("eve", "viewer").token
    assert viewer
    monkeypatch.setenv("EPISTA_TOKEN", viewer)
    forbidden = run("put", "plate1.csv", "EXP-12/")
    monkeypatch.setenv("EPISTA_TOKEN", "unknown")
    unknown = run("ls")

    assert (forbidden.code, unknown.code) == (4, 4)
    assert "error: this token is not known here" in unknown.err


def test_5_is_out_of_reach(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EPISTA_TOKEN", "any")

        done = alone("ls", "--lab", f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert done.code == 5
    assert "error: no answer from http://127.0.0.1:" in done.err


def test_6_is_a_conflict(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")

    done = run("put", "plate1.csv", "EXP-12/", "--expect", "absent")

    assert (done.code, done.out) == (6, "")
    assert "'EXP-12/plate1.csv' is at version 1" in done.err


def test_every_violation_is_printed(run: Run, plate: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(
        '[{"name": "all plates", "schema": {"required": ["operator"], "properties": {"temp": {"type": "number"}}}}]'
    )
    run("rules", "set", "rules.json")

    done = run("put", "plate1.csv", "EXP-12/", "--meta", "temp=warm")

    assert done.code == 1
    assert "temp: 'warm' is not of type 'number'" in done.err
    assert "'operator' is a required property" in done.err


def test_a_file_of_ones_own_that_cannot_be_written_is_an_error_without_traceback(run: Run, plate: Path, tmp_path: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")
    (tmp_path / "taken").write_text("a file where a folder must be", encoding="utf-8")

    done = run("pull", "EXP-12/plate1.csv", "taken/copy.csv")

    assert done.code == 1
    assert "error: " in done.err
    assert "Traceback" not in done.err


def test_every_class_with_an_exit_code_of_its_own_is_known() -> None:
    assert set(EXIT_CODES) <= set(ERRORS.values())
    assert set(EXIT_CODES.values()) == {3, 4, 5, 6}


def test_without_a_server_every_place_looked_in_is_named(alone: Run, tmp_path: Path) -> None:
    done = alone("ls")

    assert done.code == 1
    assert "no EPISTA_API_URL" in done.err
    assert repr(str(tmp_path / "credentials.json")) in done.err
    assert "hint: " in done.err


def test_a_warning_is_said_to_people_not_to_programmers(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"servers": {}}', encoding="utf-8")
    file.chmod(0o644)

    done = process("auth", "logout", folder=tmp_path, EPISTA_CREDENTIALS=str(file))

    assert done.err.splitlines()[0] == f"warning: other users may read {str(file)!r}, which may hold a token; chmod 600 it"


def test_130_is_an_interrupt_without_a_word(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())

    done = alone("auth", "login", "--token", "-", "--api-url", "http://127.0.0.1:1")

    assert (done.code, done.out, done.err.strip()) == (130, "", "")


def test_a_reader_that_has_read_enough_ends_the_command_quietly(server: Server, tmp_path: Path) -> None:
    for number in range(3):
        server.api().put(f"EXP-12/{number}.txt")
    command = subprocess.Popen(
        [sys.executable, "-m", "epista", "--lab", server.url, "--workspace", "lab", "ls", "EXP-12"],
        env={"EPISTA_TOKEN": server.manager, "EPISTA_CREDENTIALS": str(tmp_path / "none.json")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout and command.stderr
    command.stdout.close()
    said = command.stderr.read()
    command.stderr.close()

    assert (command.wait(60), said) == (1, b"")
