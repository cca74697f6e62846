"""The demo: the main job, start to end, and again."""

from __future__ import annotations

from pathlib import Path

import pytest

import epista
from epista.cli.demo import DATA, SUMMARY
from tests.cli.conftest import Run
from tests.makers import Server


def test_the_demo_does_the_main_job_and_may_be_run_again(alone: Run, tmp_path: Path) -> None:
    first = alone("demo")
    second = alone("demo")

    files = len(list(DATA.iterdir()))
    assert (first.code, first.lines[-1]) == (0, f"{files} files, {files} equal")
    assert (second.code, second.lines[-1]) == (0, f"{files} files, {files} equal")
    with epista.Workspace(tmp_path / "epista-demo") as ws:
        assert len(ws.versions("DEMO/data/penguins.csv")) == 1
        assert list(ws(SUMMARY)["species"]) == ["Adelie", "Chinstrap", "Gentoo"]
        assert ws.search("user_meta.organism:pygoscelis").total == 1


def test_the_demo_takes_any_folder_whole(alone: Run, tmp_path: Path) -> None:
    source = tmp_path / "my data"
    (source / ".git").mkdir(parents=True)
    (source / ".git" / "config").write_text("x", encoding="utf-8")
    (source / "empty file.csv").touch()
    (source / "a #?%41 é.bin").write_bytes(bytes(range(256)))

    done = alone("demo", "--from", "my data", "--lab", "kept")

    assert (done.code, done.lines[-1]) == (0, "3 files, 3 equal")
    with epista.Workspace(tmp_path / "kept") as ws:
        assert ws.keys() == [
            "DEMO/my data/.git/config",
            "DEMO/my data/a #?%41 é.bin",
            "DEMO/my data/empty file.csv",
        ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "my data"]


def test_another_spelling_of_a_name_is_the_same_file(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "cafe\u0301.txt").write_text("x", encoding="utf-8")

    assert alone("demo", "--from", "files").lines[-1] == "1 file, 1 equal"


def test_the_demo_runs_on_a_server_too(run: Run, server: Server) -> None:
    assert run("demo", "--lab", server.url).lines[-1].endswith(" equal")


def test_a_lab_is_not_put_into_itself(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")

    done = alone("demo", "--from", ".")

    assert done.code == 2
    assert "with --lab, name a folder outside of '.'" in done.err
    assert not (tmp_path / "epista-demo").exists()


def test_what_differs_is_named(alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "files"
    source.mkdir()
    (source / "same.txt").write_text("same", encoding="utf-8")
    (source / "other.txt").write_text("other", encoding="utf-8")

    def tampering(ws: epista.Workspace, key: str, dest: str) -> Path:
        (source / "other.txt").write_text("changed meanwhile", encoding="utf-8")
        return fetch(ws, key, dest)

    fetch = epista.Workspace.fetch
    monkeypatch.setattr(epista.Workspace, "fetch", tampering)
    done = alone("demo", "--from", "files")

    assert done.code == 1
    assert done.lines[-2:] == ["differs: DEMO/files/other.txt", "2 files, 1 equal"]


def test_a_folder_with_other_things_in_it_is_left_alone(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "epista-demo").mkdir()
    (tmp_path / "epista-demo" / "thesis.txt").write_text("mine", encoding="utf-8")

    done = alone("demo")

    assert done.code == 1
    assert "error: 'epista-demo' is there already, and was not made by epista demo" in done.err
    assert [path.name for path in (tmp_path / "epista-demo").iterdir()] == ["thesis.txt"]


def test_a_folder_without_files_has_nothing_to_show(alone: Run, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()

    done = alone("demo", "--from", "nothing")

    assert done.code == 1
    assert "there are no files below 'nothing'" in done.err


def test_settings_of_another_lab_do_not_reach_the_demo(alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPISTA_API_URL", "https://lab.example")
    monkeypatch.setenv("EPISTA_TOKEN", "secret")
    monkeypatch.setenv("EPISTA_WORKSPACE_ID", "elsewhere")
    monkeypatch.setenv("EPISTA_EXPERIMENT_ID", "EXP-12")

    assert alone("demo").code == 0


def test_every_file_of_the_demo_has_a_source() -> None:
    sources = (DATA / "SOURCES.md").read_text(encoding="utf-8")

    assert [path.name for path in DATA.iterdir() if path.name != "SOURCES.md" and f"`{path.name}`" not in sources] == []
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 100_000
