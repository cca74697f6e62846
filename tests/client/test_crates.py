"""An experiment as an RO-Crate: whole, and as its specification says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate

import epista
from epista.client import crates, experiments
from tests.makers import Server

CONTENTS = {
    "EXP-12/raw data #1 100%?.csv": b"well,count\nA1,17\n",
    "EXP-12/a\\..\\b.txt": b"backslash",
    "EXP-12/ordner/\u00fcbersicht \u65e5\u672c.txt": b"x",
    "EXP-12/ro-crate-metadata.json": b"{}",
    "EXP-12/empty.txt": b"",
    "EXP-12/large.bin": bytes(range(256)) * 8000,
}

JUDGE = """
import io, sys
from pathlib import Path

import requests, rocrate, urllib3
from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from rocrate_validator.models import Severity

class Copy(BaseAdapter):
    # Answers with the context of RO-Crate 1.1, of which the package rocrate has a copy.
    def send(self, request, **given):
        found = requests.Response()
        found.status_code, found.url, found.request = 200, request.url, request
        found.headers["Content-Type"] = "application/ld+json"
        body = io.BytesIO((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes())
        found.raw = urllib3.HTTPResponse(body=body, headers=found.headers, status=200, preload_content=False)
        return found

    def close(self):
        pass

crate, cache = sys.argv[1:]
with CachedSession(cache_name=cache, backend="sqlite", expire_after=-1, allowable_methods=("GET",)) as session:
    session.mount("https://w3id.org/", Copy())
    session.get("https://w3id.org/ro/crate/1.1/context", headers={"Accept": "application/ld+json, application/json"})
settings = services.ValidationSettings(
    rocrate_uri=crate, profile_identifier="ro-crate-1.1", requirement_severity=Severity.REQUIRED, offline=True, cache_path=cache
)
for issue in services.validate(settings).get_issues():
    print(issue.check.identifier, issue.message)
"""
"""Says what is wrong with a crate, without a network."""


def judged(crate: Path) -> list[str]:
    """Return what rocrate-validator finds wrong."""
    command = [sys.executable, "-c", JUDGE, str(crate), str(crate.with_suffix(".cache"))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def described(crate: Path) -> dict[str, Any]:
    """Return the entities of a crate by their ids."""
    with zipfile.ZipFile(crate) as opened:
        return {one["@id"]: one for one in json.loads(opened.read(crates.DESCRIPTION))["@graph"]}


@pytest.fixture
def experiment(http_ws: epista.Workspace) -> epista.Workspace:
    """A workspace with an experiment in it, in which a figure was made from a table of another one."""
    experiments.create(http_ws, "EXP-12", title="Dose <b>response</b>")
    other = http_ws.put("EXP-9/other.csv", b"a,b\n1,2\n")
    for key, data in CONTENTS.items():
        http_ws.put(key, data, tags=["qc", "plate"])
    # In a run, for whoever runs the tests may be no program that has a name.
    with http_ws.run("Figure"):
        http_ws.put("EXP-12/figure.svg", b"<svg/>", inputs=[other, http_ws.get("EXP-12/raw data #1 100%?.csv")])
    return http_ws


def test_a_crate_is_as_its_specification_says(experiment: epista.Workspace, tmp_path: Path) -> None:
    crate = experiment.export_crate("EXP-12", tmp_path / "out.zip", license="https://creativecommons.org/licenses/by/4.0/")

    assert judged(crate) == []


def test_a_crate_that_is_not_is_found_out(experiment: epista.Workspace, tmp_path: Path) -> None:
    crate = experiment.export_crate("EXP-12", tmp_path / "out.zip")
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(crate) as source, zipfile.ZipFile(broken, "w") as target:
        for entry in source.infolist():
            if entry.filename != "data/figure.svg":
                target.writestr(entry.filename, source.read(entry))

    assert any("figure.svg" in line for line in judged(broken))


def test_another_reader_finds_every_file_with_its_bytes_and_author(experiment: epista.Workspace, tmp_path: Path) -> None:
    crate = experiment.export_crate("EXP-12", tmp_path / "out.zip")

    with zipfile.ZipFile(crate) as opened:
        opened.extractall(tmp_path / "out")
    read = ROCrate(tmp_path / "out")

    assert read.name == "Dose <b>response</b>"
    files = {one.get("name"): one for one in read.get_entities() if one.type == "File"}
    wanted = {key.rpartition("/")[2]: data for key, data in CONTENTS.items()} | {"figure.svg": b"<svg/>"}
    assert set(files) == set(wanted)
    with zipfile.ZipFile(crate) as opened:
        assert opened.testzip() is None
        bytes_of = {hashlib.sha256(data).hexdigest(): data for data in map(opened.read, opened.namelist())}
    for name, data in wanted.items():
        assert bytes_of[files[name]["sha256"]] == data
        assert files[name]["author"]["name"] == "manager"
    assert not [path for path in (tmp_path / "out").rglob("*") if ".." in path.name.replace("%5C..%5C", "")]


def test_it_tells_how_files_were_made(experiment: epista.Workspace, tmp_path: Path) -> None:
    found = described(experiment.export_crate("EXP-12", tmp_path / "out.zip"))

    [action] = [
        one for one in found.values() if one["@type"] == "CreateAction" and one.get("result") == {"@id": "data/figure.svg"}
    ]
    used = sorted(found[one["@id"]]["name"] for one in action["object"])
    assert used == ["EXP-9/other.csv@1", "raw data #1 100%?.csv"]
    assert found[action["agent"]["@id"]]["name"] == "manager"
    assert found["data/figure.svg"]["encodingFormat"] == "image/svg+xml"


def test_what_one_may_not_read_is_not_in_it(server: Server, experiment: epista.Workspace, tmp_path: Path) -> None:
    token = server.member("ada", experiments=["EXP-12"]).token
    with epista.Workspace(server.url, token=token, workspace="lab") as narrow:
        crate = narrow.export_crate("EXP-12", tmp_path / "out.zip")

        with pytest.raises(epista.NotFoundError):
            narrow.export_crate("EXP-9", tmp_path / "none.zip")

    with zipfile.ZipFile(crate) as opened:
        text = opened.read(crates.DESCRIPTION).decode()
    assert "EXP-9" not in text
    assert "restricted" in [one.get("name") for one in described(crate).values()]
    assert judged(crate) == []
    assert not (tmp_path / "none.zip").exists()


def test_a_crate_that_was_not_finished_is_not_there(
    experiment: epista.Workspace, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.zip"
    target.write_bytes(b"what was there before")
    for path in (server.folder / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size == len(CONTENTS["EXP-12/large.bin"]):
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(epista.EpistaError):
        experiment.export_crate("EXP-12", target)

    assert target.read_bytes() == b"what was there before"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".epista-part")]


def test_more_files_than_one_answer_tells_of_are_all_described(http_ws: epista.Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(250):
        (folder / f"{number:03}.txt").write_text(str(number), encoding="utf-8")
    source = http_ws.put("EXP-9/source.txt", "source")
    with http_ws.run("Many"):
        http_ws.put_dir("EXP-12", folder, inputs=[source])

    found = described(http_ws.export_crate("EXP-12", tmp_path / "out.zip"))

    [action] = [one for one in found.values() if one["@type"] == "CreateAction"]
    assert len(action["result"]) == len(found["./"]["hasPart"]) == 250
    assert action["object"] == {"@id": f"urn:epista:{source.version}"}
