"""The commands that move, show and find data."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import msgspec
import pytest
import requests

from epista.contract import assets, objects
from tests.cli.conftest import Run
from tests.makers import Server


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "plate1.csv"
    path.write_text("well,count\nA1,17\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    (root / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("one", encoding="utf-8")
    (root / "deep" / "b.txt").write_text("two", encoding="utf-8")
    return root


def test_a_file_is_put_under_its_key(run: Run, plate: Path) -> None:
    done = run("put", "plate1.csv", "EXP-12/p.csv")

    assert done.code == 0
    assert done.lines == [
        "version  kind   size  sha256        key",
        f"      1  TABLE  17 B  {hashlib.sha256(plate.read_bytes()).hexdigest()[:12]}  EXP-12/p.csv",
    ]


def test_a_key_that_ends_in_a_slash_takes_the_name_of_the_file(run: Run, plate: Path) -> None:
    run("put", str(plate), "EXP-12/")

    assert run("get", "EXP-12/plate1.csv").code == 0


def test_a_slash_alone_is_the_root(run: Run, plate: Path, folder: Path) -> None:
    done = run("put", str(plate), str(folder), "/", "--json")

    assert [one["key"] for one in done.json["assets"]] == ["plate1.csv", "raw/a.txt", "raw/deep/b.txt"]


def test_what_is_in_a_folder_goes_right_below_the_key(run: Run, folder: Path) -> None:
    done = run("put", "raw", "EXP-12/raw", "--json")

    assert [one["key"] for one in done.json["assets"]] == ["EXP-12/raw/a.txt", "EXP-12/raw/deep/b.txt"]


def test_several_paths_keep_their_names(run: Run, plate: Path, folder: Path) -> None:
    done = run("put", "plate1.csv", "raw", "EXP-12/", "--json")

    assert [one["key"] for one in done.json["assets"]] == ["EXP-12/plate1.csv", "EXP-12/raw/a.txt", "EXP-12/raw/deep/b.txt"]


def test_several_paths_need_a_folder(run: Run, plate: Path, folder: Path) -> None:
    done = run("put", "plate1.csv", "raw", "EXP-12")

    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "error: several paths go into a folder: end the key with '/', as in 'EXP-12/'",
    )


def test_what_was_put_before_a_path_failed_is_told(run: Run, plate: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").symlink_to("/dev/null")

    done = run("put", "plate1.csv", "bad.csv", "EXP-12/")

    assert done.code == 1
    assert done.lines[1].endswith("EXP-12/plate1.csv")


def test_many_files_are_counted_instead_of_listed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(21):
        (tmp_path / "many" / f"{number}.txt").write_text(str(number), encoding="utf-8")

    assert run("put", "many", "EXP-12").out == "21 files, 32 B, below EXP-12\n"


def test_metadata_tags_kind_and_inputs_are_recorded(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")
    run("put", "plate1.csv", "EXP-12/b.csv", "--meta", "temp=37", "--tag", "qc", "--tag", "raw", "--kind", "flow",
        "--input", "EXP-12/plate1.csv")  # fmt: skip

    found = run("get", "EXP-12/b.csv", "--json").json

    assert (found["meta"], found["tags"], found["kind"]) == ({"temp": 37}, ["qc", "raw"], "FLOW")
    assert [source["key"] for source in found["lineage"]["inputs"]] == ["EXP-12/plate1.csv"]


def test_patterns_are_left_out_of_folders(run: Run, folder: Path) -> None:
    done = run("put", "raw", "EXP-12/", "--ignore", "deep/", "--json")

    assert [one["key"] for one in done.json["assets"]] == ["EXP-12/a.txt"]


def test_a_kind_for_a_folder_is_refused(run: Run, folder: Path) -> None:
    assert run("put", "raw", "EXP-12/", "--kind", "FLOW").code == 2


def test_a_file_without_a_key_is_told_what_is_missing(run: Run, plate: Path) -> None:
    done = run("put", "plate1.csv")

    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "error: say also where 'plate1.csv' goes: a key, or '/' for the root of the workspace",
            "hint: epista put --help",
        ],
    )


def test_a_path_that_is_not_there_is_a_usage_error(run: Run) -> None:
    done = run("put", "nothing.csv", "EXP-12/")

    assert done.code == 2
    assert "'nothing.csv' does not exist" in done.err


def test_one_level_is_listed_with_folders_first(run: Run, plate: Path, folder: Path) -> None:
    run("put", "plate1.csv", "raw", "EXP-12/")

    done = run("ls", "EXP-12")

    assert done.lines[0].split() == ["kind", "size", "modified", "(UTC)", "key"]
    assert done.lines[1].split() == ["EXP-12/raw/"]
    assert done.lines[2].split()[0] == "TABLE"
    assert done.lines[2].endswith("EXP-12/plate1.csv")
    assert {line.index("EXP-12/") for line in done.lines[1:]} == {done.lines[0].index("key")}


def test_nothing_there_is_said_beside_the_result(run: Run) -> None:
    done = run("ls", "EXP-99")

    assert (done.code, done.out) == (0, "")
    assert "nothing there" in done.err


def test_filters_list_everything_below(run: Run, plate: Path, folder: Path) -> None:
    run("put", "plate1.csv", "raw", "EXP-12/", "--tag", "qc")
    run("put", "raw", "EXP-123")

    assert [one["key"] for one in run("ls", "--kind", "table", "--json").json["assets"]] == ["EXP-12/plate1.csv"]
    assert len(run("ls", "--tag", "qc", "--json").json["assets"]) == 3
    assert len(run("ls", "--experiment", "EXP-123", "--json").json["assets"]) == 2
    assert len(run("ls", "EXP-12", "--kind", "DOCUMENT", "--json").json["assets"]) == 2


def test_an_asset_is_shown_by_its_bare_name(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/", "--meta", "cell.line=HeLa", "--tag", "qc")

    done = run("get", "plate1.csv")

    assert "key       EXP-12/plate1.csv" in done.lines
    assert "kind      TABLE, csv" in done.lines
    assert "size      17 B (17 bytes)" in done.lines
    assert "tags      qc" in done.lines
    assert '"line": "HeLa"' in done.out


def test_a_file_is_pulled_to_a_path_into_a_folder_or_here(run: Run, plate: Path, tmp_path: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")
    plate.unlink()

    assert run("pull", "EXP-12/plate1.csv", "copy.csv").out == "copy.csv\n"
    assert run("pull", "EXP-12/plate1.csv", "downloads/").lines == [str(Path("downloads", "plate1.csv"))]
    assert run("pull", "plate1.csv").lines == ["plate1.csv"]
    assert (tmp_path / "copy.csv").read_text() == plate.read_text() == (tmp_path / "downloads" / "plate1.csv").read_text()


def test_a_folder_is_pulled(run: Run, folder: Path, tmp_path: Path) -> None:
    run("put", "raw", "EXP-12/raw")

    assert run("pull", "EXP-12/", "copy").code == 0
    assert (tmp_path / "copy" / "raw" / "deep" / "b.txt").read_text() == "two"


def test_an_old_version_is_pulled_and_made_current(run: Run, plate: Path, tmp_path: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")
    plate.write_text("well\nB2\n", encoding="utf-8")
    run("put", "plate1.csv", "EXP-12/")

    run("pull", "EXP-12/plate1.csv", "old.csv", "--version", "1")
    restored = run("restore", "EXP-12/plate1.csv", "--version", "1")

    assert (tmp_path / "old.csv").read_text() == "well,count\nA1,17\n"
    assert restored.out == "EXP-12/plate1.csv is there, at version 3\n"
    assert [line.split()[0] for line in run("history", "plate1.csv").lines] == ["version", "3", "2", "1"]


def test_what_is_removed_says_how_it_comes_back(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")

    hidden = run("rm", "EXP-12/plate1.csv")
    history = run("history", "EXP-12/plate1.csv")

    assert hidden.out == "hidden: EXP-12/plate1.csv, 1 version\n"
    assert "epista restore 'EXP-12/plate1.csv' brings it back" in hidden.err
    assert "epista restore 'EXP-12/plate1.csv' brings it back" in history.err
    assert run("history", "EXP-12/plate1.csv", "--json").json["deleted"] is True
    assert run("restore", "EXP-12/plate1.csv").out == "EXP-12/plate1.csv is there, at version 1\n"


def test_a_purge_is_confirmed_and_says_what_went(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/")

    live = run("purge", "EXP-12/plate1.csv", "--yes")
    run("rm", "EXP-12/plate1.csv")
    refused = run("purge", "EXP-12/plate1.csv")
    tried = run("purge", "EXP-12/plate1.csv", "--dry-run")
    done = run("purge", "EXP-12/plate1.csv", "--yes")

    assert (live.code, refused.code) == (6, 2)
    assert "add --yes" in refused.err
    assert tried.out == done.out == "EXP-12/plate1.csv@1\n"
    assert run("restore", "EXP-12/plate1.csv").code == 3


def test_a_purge_asks_on_a_terminal(run: Run, plate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    run("put", "plate1.csv", "EXP-12/")
    run("rm", "EXP-12/plate1.csv")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = run("purge", "EXP-12/plate1.csv")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    done = run("purge", "EXP-12/plate1.csv", "--json")

    assert refused.code != 0
    assert "Erase 1 version for good?" in refused.err
    assert done.json == {"versions": [{"key": "EXP-12/plate1.csv", "number": 1}]}


def test_a_folder_is_removed_only_when_asked_for(run: Run, folder: Path) -> None:
    run("put", "raw", "EXP-12/raw")

    refused = run("rm", "EXP-12/raw/")
    tried = run("rm", "EXP-12/raw", "--dir", "--dry-run")
    still_there = run("ls", "EXP-12/raw", "--json").json["assets"]
    removed = run("rm", "EXP-12/raw", "--dir")

    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: 'EXP-12/raw/' is a folder: add --dir")
    assert tried.lines == removed.lines == ["EXP-12/raw/a.txt", "EXP-12/raw/deep/b.txt"]
    assert len(still_there) == 1
    assert run("ls", "EXP-12/raw").out == ""


def test_files_and_folders_are_copied_and_moved(run: Run, folder: Path) -> None:
    run("put", "raw", "EXP-12/raw")

    refused = run("mv", "EXP-12/raw/", "EXP-13/raw")
    copied = run("cp", "EXP-12/raw/a.txt", "b.txt")
    again = run("cp", "EXP-12/raw/a.txt", "b.txt", "--expect", "absent")
    moved = run("mv", "EXP-12/raw", "EXP-13", "--dir")

    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: 'EXP-12/raw/' is a folder: add --dir")
    assert (copied.out, again.code) == ("b.txt version 1\n", 6)
    assert moved.lines == ["EXP-13/a.txt version 1", "EXP-13/deep/b.txt version 1"]
    assert "2 assets moved" in moved.err
    assert run("mv", "nosuch", "b").code == 3


def test_a_search_shows_what_matched_and_how_many(run: Run, plate: Path) -> None:
    run("put", "plate1.csv", "EXP-12/", "--meta", "temp=37")

    done = run("search", "kind:TABLE", "user_meta.temp:>30")

    assert done.lines[1].split()[-1] == "EXP-12/plate1.csv"
    assert "1 found" in done.err


def test_a_search_shows_no_more_than_its_limit_and_says_so(run: Run, folder: Path) -> None:
    run("put", "raw", "EXP-12/")

    done = run("search", "--limit", "1")

    assert len(done.lines) == 2
    assert "2 found, 1 shown" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("put", "plate1.csv", "EXP-12/"), objects.Assets),
        (("get", "EXP-12/a.csv"), assets.Asset),
        (("ls", "EXP-12/"), assets.Level),
        (("ls", "--kind", "TABLE"), assets.AssetPage),
        (("history", "EXP-12/a.csv"), assets.Versions),
        (("search", "kind:TABLE"), assets.Hits),
        (("restore", "EXP-12/a.csv"), assets.Asset),
        (("cp", "EXP-12/a.csv", "EXP-13/"), assets.Asset),
        (("cp", "EXP-12", "EXP-13", "--dir"), objects.Assets),
        (("mv", "EXP-12/a.csv", "b.csv"), assets.Asset),
        (("mv", "EXP-12", "EXP-13", "--dir"), objects.Assets),
        (("rm", "EXP-12/a.csv"), assets.Asset),
        (("rm", "EXP-12", "--dir"), objects.Keys),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else part.__name__,
)
def test_json_is_the_message_of_the_contract(
    run: Run, plate: Path, words: tuple[str, ...], message: type[msgspec.Struct]
) -> None:
    run("put", "plate1.csv", "EXP-12/a.csv")

    done = run(*words, "--json")

    assert done.code == 0
    assert msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(done.out, type=message))) == done.json


def test_url_prints_a_link_that_needs_no_token(run: Run, server: Server) -> None:
    server.api().put("EXP-1/a.csv", b"a,b\n")

    done = run("url", "EXP-1/a.csv", "--seconds", "60")

    assert requests.get(done.lines[0], timeout=60).content == b"a,b\n"
    assert "for whoever has it" in done.err
    assert run("url", "EXP-1/a.csv", "--json").json["url"].startswith(server.url)


def test_uploads_that_broke_off_are_listed_and_given_up(run: Run, server: Server) -> None:
    assert "no uploads under way" in run("uploads").err
    api = server.api()
    made = [api.ok(api.post("~/uploads", size_bytes=size))["id"] for size in (2048, 100)]
    api.ok(api.call("PUT", f"~/uploads/{made[1]}/parts/1", data=bytes(100)))

    listed = run("uploads")
    assert [line.split()[0] for line in listed.lines[1:]] == [made[1], made[0]]
    assert [one["received_bytes"] for one in run("uploads", "--everyone", "--json").json["uploads"]] == [100, 0]

    assert run("uploads", "--abort", made[0], "--abort", made[1]).lines == [f"given up: {one}" for one in made]
    assert "no uploads under way" in run("uploads").err
    assert run("uploads", "--abort", made[0]).code == 3
