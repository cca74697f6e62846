"""The commands that show and export lineage."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def figure(run: Run, tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("well,count\nA1,17\n", encoding="utf-8")
    (tmp_path / "figure.svg").write_text("<svg/>", encoding="utf-8")
    assert run("put", "counts.csv", "EXP-12/").code == 0
    assert run("put", "figure.svg", "EXP-12/", "--input", "EXP-12/counts.csv").code == 0


def test_lineage_is_told_as_text(run: Run) -> None:
    done = run("lineage", "EXP-12/figure.svg")

    assert done.code == 0
    assert done.lines[:2] == ["EXP-12/figure.svg  version 1", "made from:"]
    assert any(line.endswith("─ EXP-12/counts.csv  version 1") for line in done.lines)
    assert "went into:" in run("lineage", "counts.csv", "--direction", "down").lines
    assert "made from:" not in run("lineage", "EXP-12/figure.svg", "--direction", "down").out


def test_it_is_written_in_the_format_that_was_asked_for(run: Run, tmp_path: Path) -> None:
    drawn = run("lineage", "EXP-12/figure.svg", "--out", "lineage.svg")
    prov = run("lineage", "EXP-12/figure.svg", "--format", "prov", "--out", "prov.json", "--depth", "1")
    events = run("lineage", "EXP-12/figure.svg", "--format", "openlineage").json
    message = run("lineage", "EXP-12/figure.svg", "--json").json

    assert (drawn.code, drawn.out) == (0, "lineage.svg\n")
    assert ET.parse(tmp_path / "lineage.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert prov.code == 0
    assert len(json.loads((tmp_path / "prov.json").read_text(encoding="utf-8"))["entity"]) == 2
    assert [data["name"] for data in events[-1]["inputs"]] == ["EXP-12/counts.csv"]
    assert message == run("lineage", "EXP-12/figure.svg", "--format", "json").json
    assert [one["key"] for one in message["versions"]] == ["EXP-12/counts.csv", "EXP-12/figure.svg"]


def test_an_older_version_and_what_is_not_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "figure.svg").write_text("<svg></svg>", encoding="utf-8")
    assert run("put", "figure.svg", "EXP-12/").code == 0

    assert run("lineage", "EXP-12/figure.svg").lines[0].endswith("version 2")
    assert run("lineage", "EXP-12/figure.svg", "--version", "1").lines[0].endswith("version 1")
    assert run("lineage", "EXP-12/none.svg").code == 3
    assert run("lineage", "EXP-12/figure.svg", "--depth", "0").code == 2
    assert run("lineage", "EXP-12/figure.svg", "--out", "no/folder.svg").code == 1


def test_an_experiment_is_exported_as_an_ro_crate(run: Run, tmp_path: Path) -> None:
    done = run("export", "EXP-12", "--ro-crate", "out.zip", "--license", "https://creativecommons.org/licenses/by/4.0/")

    assert (done.code, done.out) == (0, "out.zip\n")
    with zipfile.ZipFile(tmp_path / "out.zip") as crate:
        assert sorted(crate.namelist()) == ["data/counts.csv", "data/figure.svg", "ro-crate-metadata.json"]
    assert run("export", "EXP-13", "--ro-crate", "none.zip").code == 3
    assert run("export", "EXP-12").code == 2
