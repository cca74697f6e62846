"""What stands at a key, as bytes, as files and as Python objects: on a server over HTTP, and in an embedded lab."""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import epista
from epista.client.transfer import destinations
from epista.contract.errors import (
    ConflictError,
    FormatError,
    InvalidKeyError,
    KeyNotFoundError,
    NotFoundError,
    ValidationError,
)

Open = Callable[..., epista.Workspace]

LARGE = 3 * 1024 * 1024 + 11


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def grow(root: Path, **contents: bytes) -> Path:
    for name, content in contents.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Keys


def test_an_odd_key_round_trips(ws: epista.Workspace, tmp_path: Path) -> None:
    key = "d/a #?%41 é\\x.csv"
    ws.put(key, pd.DataFrame({"n": [1, 2]}))
    assert ws.keys() == [key]
    assert ws.fetch(key, tmp_path / "out") == tmp_path / "out"
    assert ws.fetch("d", tmp_path / "folder") == tmp_path / "folder"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a #?%41 é\\x.csv"]


def test_both_spellings_of_a_letter_reach_one_asset(ws: epista.Workspace) -> None:
    ws.put("d/e\u0301.txt", "x")
    assert ws("d/é.txt") == "x"
    assert ws.keys() == ["d/é.txt"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "./a", "a/../b", "a\x00", "a" * 1025])
def test_a_bad_key_is_refused_before_anything_is_sent(ws: epista.Workspace, key: str, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InvalidKeyError):
        ws.put(key, b"x")
    with pytest.raises(InvalidKeyError):
        ws.put_file(key, tmp_path / "x")
    assert ws.keys() == []


def test_a_key_without_a_folder_is_written_to_the_active_experiment_and_read_there_first(open_workspace: Open) -> None:
    root, ws = open_workspace(), open_workspace(experiment="EXP-12")
    root.put("x.txt", "at the root")
    root.put("y.txt", "at the root")
    assert ws.put("x.txt", "in the experiment").key == "EXP-12/x.txt"
    assert ws("x.txt") == "in the experiment"
    assert ws("y.txt") == "at the root"
    assert root("x.txt") == "at the root"
    assert ws(ws.get("EXP-12/x.txt")) == "in the experiment"
    assert ws(root.get("x.txt")) == "at the root"


# fetch


def test_a_folder_is_fetched_with_and_without_its_slash_to_any_destination(ws: epista.Workspace, tmp_path: Path) -> None:
    contents = {"a.bin": b"a", "sub/b.bin": os.urandom(LARGE), "sub/deeper/c": b""}
    for name, content in contents.items():
        ws.put(f"d/{name}", content)
    (tmp_path / "existing").mkdir()
    for key, dest in [("d", "new"), ("d/", "existing"), ("d", "deep/er/est"), ("d/", "new")]:
        assert ws.fetch(key, tmp_path / dest) == tmp_path / dest
        assert tree(tmp_path / dest) == contents
    assert tree(ws.fetch("d/sub", tmp_path / "part")) == {"b.bin": contents["sub/b.bin"], "deeper/c": b""}


def test_an_exact_asset_wins_over_nothing_and_the_root_is_refused(ws: epista.Workspace, tmp_path: Path) -> None:
    ws.put("d", b"asset")
    assert ws.fetch("d", tmp_path).read_bytes() == b"asset"
    for key in ("", "/"):
        with pytest.raises(InvalidKeyError):
            ws.fetch(key, tmp_path)
    with pytest.raises(KeyNotFoundError):
        ws.fetch("d/", tmp_path)


def test_a_second_fetch_keeps_times_and_an_overwritten_file_is_fetched_again(ws: epista.Workspace, tmp_path: Path) -> None:
    ws.put("d/x.bin", os.urandom(LARGE))
    path = ws.fetch("d/x.bin", tmp_path)
    os.utime(path, (1, 1))
    ws.fetch("d/x.bin", tmp_path)
    assert path.stat().st_mtime == 1
    new = os.urandom(LARGE)
    ws.put("d/x.bin", new)
    assert ws.fetch("d/x.bin", tmp_path).read_bytes() == new


def test_a_version_is_named_by_number_or_id_and_only_for_a_file(ws: epista.Workspace, tmp_path: Path) -> None:
    old = ws.put("d/x.txt", "old")
    ws.put("d/x.txt", "new")
    assert ws.fetch("d/x.txt", tmp_path, version=1).read_text() == "old"
    assert ws("d/x.txt", version=old.version) == "old"
    assert ws.deserialize("d/x.txt", version="2") == "new"
    with ws.open("d/x.txt", version=1) as stream:
        assert stream.read() == b"old"
    with pytest.raises(ValidationError, match="is a folder"):
        ws.fetch("d", tmp_path, version=1)
    with pytest.raises(NotFoundError):
        ws.fetch("d/x.txt", tmp_path, version=3)


def test_overwriting_during_a_fetch_gives_all_old_bytes(
    ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {f"{n}.bin": os.urandom(400_000) for n in range(3)}
    for name, content in old.items():
        ws.put(f"d/{name}", content)
    overwritten: list[bool] = []
    plan = destinations.for_folder

    def overwrite(*given: Any, **how: Any) -> Any:
        overwritten.extend(ws.put(f"d/{name}", b"new") is not None for name in old)
        return plan(*given, **how)

    monkeypatch.setattr(destinations, "for_folder", overwrite)
    assert tree(ws.fetch("d", tmp_path / "out")) == old
    assert len(overwritten) == 3


def test_a_missing_key_is_a_key_error_that_reads_well(ws: epista.Workspace, tmp_path: Path) -> None:
    ws.put("d/cells.fcs", b"x")
    with pytest.raises(KeyError) as caught:
        ws.fetch("d/cells.fc", tmp_path)
    assert isinstance(caught.value, KeyNotFoundError)
    assert "no asset at 'd/cells.fc'" in str(caught.value)
    assert "d/cells.fcs" in str(caught.value)


def test_a_killed_fetch_is_continued(open_workspace: Open, tmp_path: Path) -> None:
    ws = open_workspace()
    content = os.urandom(LARGE)
    ws.put("d/x.bin", content)
    target = tmp_path / "x.bin"
    part = destinations.part_of(target, sha256(content))
    part.write_bytes(content[: LARGE // 2])
    assert ws.fetch("d/x.bin", target).read_bytes() == content
    assert not part.exists()


# Reading


def test_a_folder_is_read_as_a_dict_with_the_options_of_each_file(ws: epista.Workspace) -> None:
    ws.put("d/a.csv", pd.DataFrame({"n": ["001"]}), sep="|")
    ws.put("d/sub/b.json", {"x": [1, None]})
    read = ws("d")
    assert list(read) == ["a.csv", "sub/b.json"]
    assert read["a.csv"]["n"].tolist() == ["001"]
    assert read["sub/b.json"] == {"x": [1, None]}


def test_what_has_no_reader_is_all_named_before_bytes_move(ws: epista.Workspace) -> None:
    for name in ("a.pkl", "b.weird", "c.docx"):
        ws.put(f"d/{name}", b"whatever", format=None)
    ws.put("d/d.txt", "text")
    with pytest.raises(FormatError, match=r"c\.docx"):
        ws("d")
    assert ws.deserialize("d", format="bytes")["c.docx"] == b"whatever"
    assert ws.deserialize("d/d.txt", format="bytes") == b"text"


def test_tables_come_in_the_class_that_is_asked_for(ws: epista.Workspace) -> None:
    ws.put("d/t.parquet", pd.DataFrame({"n": [1, 2]}))
    assert ws.deserialize("d/t.parquet", as_type="arrow").column_names == ["n"]
    with pytest.raises(FormatError, match="unknown option"):
        ws.deserialize("d/t.parquet", nosuch=1)


def test_a_stream_can_be_read_and_sought_in(ws: epista.Workspace) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("big", os.urandom(LARGE))
        archive.writestr("small", "small")
    content = buffer.getvalue()
    asset = ws.put("d/a.zip", content)
    with ws.open(asset) as stream, zipfile.ZipFile(stream) as archive:
        assert archive.read("small") == b"small"
        assert archive.testzip() is None
    with ws.open("a.zip", byte_range=(0, 99)) as stream:
        assert stream.read() == content[:100]
        assert stream.seek(-1, os.SEEK_END) == 99
        assert stream.read(10) == content[99:100]
        with pytest.raises(ValueError, match="before the beginning"):
            stream.seek(-200, os.SEEK_END)
    with ws.open("a.zip", byte_range=(len(content) - 1, len(content) + 10)) as stream:
        assert stream.read() == content[-1:]
    for wrong in [(-1, 5), (5, 4), (len(content), len(content))]:
        with pytest.raises(ValidationError, match="byte_range"):
            ws.open("a.zip", byte_range=wrong)


def test_a_local_copy_bears_the_name_and_goes_away(ws: epista.Workspace) -> None:
    ws.put("d/x.csv", b"a,b\n")
    with ws.open("x.csv", download=True) as path:
        assert path.name == "x.csv"
        assert path.read_bytes() == b"a,b\n"
    assert not path.exists()


# Writing


def test_the_receipt_tells_what_was_stored(ws: epista.Workspace, tmp_path: Path) -> None:
    content = os.urandom(LARGE)
    file = grow(tmp_path, x=content) / "x"
    for asset in (ws.put("d/a.bin", content), ws.put_file("d/b.bin", file)):
        assert (asset.sha256, asset.size_bytes, asset.number) == (sha256(content), LARGE, 1)
        assert asset.created_by
        assert asset.created_at.tzinfo is not None
        assert ws.deserialize(asset) == content


def test_the_same_again_makes_no_version(ws: epista.Workspace, tmp_path: Path) -> None:
    first = ws.put("d/x.csv", pd.DataFrame({"n": [1]}), meta={"a": 1}, tags=["t"])
    assert ws.put("d/x.csv", pd.DataFrame({"n": [1]})).version == first.version
    file = grow(tmp_path, x=b"bytes") / "x"
    assert ws.put_file("d/f.bin", file).version == ws.put_file("d/f.bin", file).version


def test_metadata_and_tags_are_kept_cleared_or_replaced(ws: epista.Workspace) -> None:
    ws.put("d/x.txt", "1", meta={"n": (1, 2), "day": datetime.date(2026, 3, 1)}, tags=["a", "b"])
    assert ws.get_meta("d/x.txt") == {"n": [1, 2], "day": "2026-03-01"}
    kept = ws.put("d/x.txt", "2")
    assert (kept.meta, kept.tags) == ({"n": [1, 2], "day": "2026-03-01"}, ("a", "b"))
    replaced = ws.put("d/x.txt", "3", meta={"z": None}, tags=["c"])
    assert (replaced.meta, replaced.tags) == ({"z": None}, ("c",))
    cleared = ws.put("d/x.txt", "4", meta={}, tags=[])
    assert (cleared.meta, cleared.tags) == ({}, ())


def test_a_mistake_leaves_no_asset(ws: epista.Workspace) -> None:
    mistakes: list[tuple[type[Exception], str, object, dict[str, Any]]] = [
        (FormatError, "d/x.csv", object(), {}),
        (FormatError, "d/x.csv", pd.DataFrame({"n": [1]}), {"nosuch": 1}),
        (FormatError, "d/x", {"n": 1}, {}),
        (ValidationError, "d/x.json", {"n": float("nan")}, {}),
        (ValidationError, "d/x.txt", "x", {"meta": {"n": float("inf")}}),
        (ValidationError, "d/x.txt", "x", {"meta": [1]}),
        (ValidationError, "d/x.txt", "x", {"tags": "one"}),
        (ValidationError, "d/x.txt", "x", {"tags": [1]}),
        (ValidationError, "d/x.txt", "x", {"tags": ["a\nb"]}),
        (ValidationError, "d/x.txt", "x", {"kind": "nosuch"}),
        (KeyNotFoundError, "d/x.txt", "x", {"inputs": ["nosuch.csv"]}),
    ]
    for error, key, obj, given in mistakes:
        with pytest.raises(error):
            ws.put(key, obj, **given)
    assert ws.keys() == []


def test_a_kind_may_be_given_in_any_case(ws: epista.Workspace) -> None:
    assert ws.put("d/x.csv", b"a,b", kind="flow").kind == "FLOW"


def test_a_folder_key_is_refused_by_put_and_takes_the_name_in_put_file(ws: epista.Workspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidKeyError, match="means a folder"):
        ws.put("d/", b"x")
    with pytest.raises(InvalidKeyError, match="means a folder"):
        ws.open("d/")
    file = grow(tmp_path, **{"x.txt": b"x"}) / "x.txt"
    assert ws.put_file("d/", file).key == "d/x.txt"
    with pytest.raises(InvalidKeyError):
        ws.put_file("/", file)


def test_what_it_was_made_from_is_recorded(ws: epista.Workspace) -> None:
    first = ws.put("d/a.txt", "a")
    second = ws.put("d/b.txt", "b")
    ws.put("d/b.txt", "b2")
    made = ws.put("d/c.txt", "c", inputs=["d/a.txt", second, first.version])
    assert {(source.key, source.number) for source in made.lineage.inputs} == {("d/a.txt", 1), ("d/b.txt", 1)}
    assert ws.put("d/d.txt", "d", inputs="d/b.txt").lineage.inputs[0].number == 2


def test_how_a_file_is_read_can_be_told(ws: epista.Workspace, tmp_path: Path) -> None:
    file = grow(tmp_path, x=b"a|b\n1|2\n") / "x"
    assert ws.put_file("d/x.csv", file, sep="|").format == "csv"
    assert ws("d/x.csv").columns.tolist() == ["a", "b"]
    assert ws.put_file("d/x.weird", file, format="csv", sep="|").format == "csv"
    assert ws("d/x.weird").columns.tolist() == ["a", "b"]
    with pytest.raises(FormatError, match="contradicts"):
        ws.put_file("d/x.csv", file, format="json")
    with pytest.raises(FormatError, match="unknown option"):
        ws.put_file("d/y.csv", file, nosuch=1)


def test_bytes_travel_over_http_where_the_disk_of_the_lab_is_out_of_reach(
    http_ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_ws, "_is_embedded", True)
    content = os.urandom(LARGE)
    http_ws.put("d/a.bin", content)
    http_ws.put_file("d/b.bin", grow(tmp_path, x=content) / "x")
    assert http_ws.fetch("d/b.bin", tmp_path / "out.bin").read_bytes() == content
    assert http_ws("d/a.bin") == content


def test_large_files_never_cross_http_in_an_embedded_lab(
    embedded_lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(LARGE)
    file = grow(tmp_path, x=content) / "x"
    with epista.Workspace(embedded_lab) as ws:

        def refused(*_: object, **__: object) -> None:
            raise AssertionError("bytes over HTTP")

        monkeypatch.setattr(ws.wire, "open", refused)
        monkeypatch.setattr(ws.wire, "send", refused)
        asset = ws.put_file("disk/x.bin", file)
        assert ws.fetch(asset, tmp_path / "out.bin").read_bytes() == content
        assert ws(asset) == content
        ws.put("disk/y.bin", content + b"more")


@pytest.mark.parametrize("size", [10, LARGE])
def test_editing_the_source_afterwards_leaves_the_stored_version_intact(ws: epista.Workspace, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    file = grow(tmp_path, x=content) / "x"
    ws.put_file("d/x.bin", file)
    with file.open("r+b") as opened:
        opened.write(b"edited")
    assert ws("d/x.bin") == content
    path = ws.fetch("d/x.bin", tmp_path / "out.bin")
    with path.open("r+b") as opened:
        opened.write(b"edited")
    assert ws("d/x.bin") == content
    assert file.stat().st_nlink == path.stat().st_nlink == 1


def test_a_condition_that_does_not_hold_is_a_conflict_that_says_what_was_found(ws: epista.Workspace, tmp_path: Path) -> None:
    first = ws.put("d/x.txt", "1", expect="absent")
    with pytest.raises(ConflictError) as caught:
        ws.put("d/x.txt", "2", expect="absent")
    assert caught.value.details["found"]
    assert caught.value.hint
    second = ws.put("d/x.txt", "2", expect=first.version)
    file = grow(tmp_path / "t", **{"x.txt": b"3"}) / "x.txt"
    with pytest.raises(ConflictError):
        ws.put_file("d/x.txt", file, expect=first.version)
    with pytest.raises(ConflictError):
        ws.put_dir("d", tmp_path / "t", expect="absent")
    with pytest.raises(ValidationError, match="absent"):
        ws.put_dir("d", tmp_path / "t", expect=second.version)  # type: ignore[arg-type]
    assert ws("d/x.txt") == "2"


def test_of_many_racing_puts_one_succeeds(ws: epista.Workspace) -> None:
    outcomes: list[str] = []

    def race(number: int) -> None:
        try:
            ws.put("d/x.txt", str(number), expect="absent")
            outcomes.append("made")
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 19 + ["made"]
    assert len(ws.versions("d/x.txt")) == 1


def test_same_bytes_under_many_keys_move_once(ws: epista.Workspace, tmp_path: Path) -> None:
    content = os.urandom(2000)
    grow(tmp_path / "t", **{f"{n:04}": content for n in range(300)})
    made = ws.put_dir("d", tmp_path / "t")
    assert {asset.sha256 for asset in made} == {sha256(content)}
    assert len(ws.keys("d/")) == 300


# put_dir


def test_a_folder_comes_back_as_it_went(ws: epista.Workspace, tmp_path: Path) -> None:
    contents = {"a": b"", "sub__b.csv": b"n\n1\n", "sub__deep__.zarray": b"{}", "big.bin": os.urandom(LARGE)}
    source = grow(tmp_path / "t", **contents)
    (source / "empty").mkdir()
    made = ws.put_dir("t", source)
    assert [asset.key for asset in made] == ["t/a", "t/big.bin", "t/sub/b.csv", "t/sub/deep/.zarray"]
    assert tree(ws.fetch("t", tmp_path / "out")) == tree(source)
    assert [asset.version for asset in ws.put_dir("t/", source)] == [asset.version for asset in made]
    assert {asset.key: asset.format for asset in made}["t/sub/b.csv"] == "csv"


def test_an_empty_folder_leaves_nothing(ws: epista.Workspace, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    assert ws.put_dir("t", tmp_path / "t") == []
    assert ws.keys() == []


def test_no_prefix_means_the_active_experiment_or_the_root(open_workspace: Open, tmp_path: Path) -> None:
    source = grow(tmp_path / "t", x=b"x")
    assert [asset.key for asset in open_workspace(experiment="EXP-1").put_dir("", source)] == ["EXP-1/x"]
    assert [asset.key for asset in open_workspace().put_dir("", source)] == ["x"]
    assert [asset.key for asset in open_workspace(experiment="EXP-1").put_dir("t", source)] == ["t/x"]
    with pytest.raises(InvalidKeyError):
        open_workspace().put_dir("/", source)


def test_metadata_reaches_every_file(ws: epista.Workspace, tmp_path: Path) -> None:
    source = grow(tmp_path / "t", a=b"a", sub__b=b"b")
    ws.put_dir("t", source, meta={"batch": 1}, tags=["raw"])
    assert [ws.get(f"t/{name}").meta for name in ("a", "sub/b")] == [{"batch": 1}] * 2
    made = ws.put_dir("t", source, meta=lambda path: {"path": path} if path == "sub/b" else None)
    assert {asset.key: (asset.meta, asset.tags) for asset in made} == {
        "t/a": ({"batch": 1}, ("raw",)),
        "t/sub/b": ({"path": "sub/b"}, ("raw",)),
    }
    with pytest.raises(ValidationError) as caught:
        ws.put_dir("t", source, meta=lambda path: {"n": float("nan")})
    assert [violation["path"] for violation in caught.value.violations] == ["a", "sub/b"]


def test_problems_of_a_folder_are_told_together_and_nothing_is_recorded(ws: epista.Workspace, tmp_path: Path) -> None:
    source = grow(tmp_path / "t", good=b"good")
    (source / "leaves").symlink_to("/etc/passwd")
    (source / "tab\tname").touch()
    with pytest.raises(ValidationError, match=r"leaves.*outside the folder") as caught:
        ws.put_dir("t", source)
    assert [violation["path"] for violation in caught.value.violations] == ["leaves", "tab\tname"]
    assert ws.keys() == []
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ws.put_dir("t", tmp_path / "none")


def test_a_killed_put_dir_leaves_nothing_visible_and_the_next_one_sends_the_rest(open_workspace: Open, tmp_path: Path) -> None:
    ws = open_workspace()
    source = grow(tmp_path / "t", **{f"{n:03}": os.urandom(200_000) for n in range(60)})
    secret = ws.wire._token.current()  # type: ignore[union-attr]
    code = f"""
        import os, signal, sys
        import epista
        from epista.client.transfer import frames
        send, sent = frames.send, []
        def dies(*given):
            sent.append(send(*given))
            os.kill(os.getpid(), signal.SIGKILL)
        frames.send = dies
        with epista.Workspace({ws.url!r}, token=sys.stdin.read(), workspace={ws.name!r}) as ws:
            ws.put_dir("t", {str(source)!r})
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], input=secret.encode(), timeout=60)
    assert killed.returncode == -9
    assert ws.keys() == []
    assert len(ws.put_dir("t", source)) == 60
    assert tree(ws.fetch("t", tmp_path / "out")) == tree(source)
