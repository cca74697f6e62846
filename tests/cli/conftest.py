"""The command line in process, against the server of the test; in a process of its own only where that is the subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from epista.cli import main
from tests.makers import Server


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Ran]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command that knows no server, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EPISTA_CREDENTIALS", str(tmp_path / "credentials.json"))

    def run(*words: str) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capfd.readouterr()
        # The server of the test runs in this process, and what it says is no part of the command.
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def run(alone: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as the manager of the test's server, in its workspace."""
    monkeypatch.setenv("EPISTA_API_URL", server.url)
    monkeypatch.setenv("EPISTA_TOKEN", server.manager)
    monkeypatch.setenv("EPISTA_WORKSPACE_ID", "lab")
    return alone


def process(*words: str, folder: Path, stdin: str = "", **variables: str) -> Ran:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "epista", *words],
        cwd=folder,
        env=os.environ | variables,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
