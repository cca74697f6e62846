"""Naming conventions of a workspace, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

MICE = """
description = "mice of the Smith lab"
tokens = [{field = "date", form = "YYYYMMDD"}, {field = "subject_id", lead = "m", form = "digits"}]
"""


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "mice.toml"
    path.write_text(MICE, encoding="utf-8")
    return path


def test_a_convention_is_declared_listed_asked_shown_and_removed(run: Run, file: Path) -> None:
    added = run("convention", "add", "mice", "mice.toml")
    listed = run("convention", "list")
    explained = run("convention", "explain", "EXP-1/20240501_m12/data.bin")
    file.with_name("again.json").write_text(run("convention", "show", "mice").out, encoding="utf-8")

    assert added.lines == ["lab reads names by mice (version 1)"]
    assert listed.lines[1].split(maxsplit=3)[:3] == ["mice", "this", "workspace"]
    assert [line.split()[0] for line in listed.lines[2:4]] == ["aibs-lims", "aind-platform"]
    assert "version 1, " in listed.err
    assert (explained.code, explained.lines[1].split(maxsplit=1)) == (0, ["mice", "20240501_m12 (raw)"])
    assert run("convention", "add", "mice", "again.json", "--json").json["conventions"][0]["name"] == "mice"
    assert run("convention", "remove", "mice").lines == ["lab no longer reads names by mice (version 3)"]
    assert run("convention", "show", "mice", "--version", "2").code == 0
    assert run("convention", "show", "mice").code == 3
    assert run("convention", "explain", "20240501_m12").code == 1


@pytest.mark.parametrize("text", ["tokens = [", json.dumps({"tokens": [{"field": "subject_id", "pattern": ".*"}]}), "{", ""])
def test_a_file_without_a_declaration_is_refused(run: Run, file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")

    assert run("convention", "add", "mice", "mice.toml").code == 1
    assert run("convention", "list", "--json").json["version"] == 0
