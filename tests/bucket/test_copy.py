"""Copying and moving: what stands at a key goes to another one, and no bytes move."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

import epista
from tests.makers import Server

FRAME = pd.DataFrame({"well": ["001", "NA"], "count": [17, 23]})


def test_a_copy_says_all_that_its_source_says_and_stores_nothing(ws: epista.Workspace, stored: Callable[[], set[str]]) -> None:
    source = ws.put("EXP-1/a.csv", FRAME, meta={"temp": 37}, tags=["qc"], kind="DOCUMENT", sep="|")
    before = stored()

    copy = ws.copy("EXP-1/a.csv", "EXP-2/b.csv")

    assert stored() == before
    assert (copy.key, copy.number, copy.sha256, copy.meta) == ("EXP-2/b.csv", 1, source.sha256, {"temp": 37})
    assert (copy.tags, copy.kind, copy.format, copy.options) == (("qc",), "DOCUMENT", "csv", source.options)
    assert [(one.key, one.number) for one in copy.lineage.inputs] == [("EXP-1/a.csv", 1)]
    assert [version.note for version in ws.versions("EXP-2/b.csv")] == ["copied"]
    pd.testing.assert_frame_equal(ws("EXP-2/b.csv"), FRAME)
    assert {hit.key for hit in ws.search("well tags:qc user_meta.temp:37")} == {"EXP-1/a.csv", "EXP-2/b.csv"}
    assert copy.id != source.id


def test_a_move_hides_its_source_in_the_same_step_and_can_be_undone(ws: epista.Workspace) -> None:
    ws.put("a.txt", "one")
    ws.put("a.txt", "two words")

    moved = ws.move("a.txt", "EXP-1/")

    assert (moved.key, ws.keys(), ws("EXP-1/a.txt")) == ("EXP-1/a.txt", ["EXP-1/a.txt"], "two words")
    assert [hit.key for hit in ws.search("words")] == ["EXP-1/a.txt"]
    assert ws.versions("EXP-1/a.txt")[0].note == "moved"
    assert ws("EXP-1/a.txt", version=1) == "two words"
    ws.restore("a.txt")
    assert ws("a.txt", version=1) == "one"


def test_what_is_replaced_by_a_copy_keeps_its_versions(ws: epista.Workspace) -> None:
    ws.put("a.txt", "new", meta={"a": 1})
    ws.put("b.txt", "old", meta={"b": 2}, tags=["x"])

    copy = ws.copy("a.txt", "b.txt")

    assert (copy.number, copy.meta, copy.tags, ws("b.txt"), ws("b.txt", version=1)) == (2, {"a": 1}, (), "new", "old")
    assert ws.copy("a.txt", "b.txt").number == 2


def test_an_old_version_can_be_copied(ws: epista.Workspace) -> None:
    ws.put("a.txt", "elephants")
    ws.put("a.txt", "giraffes")

    ws.copy("a.txt", "old.txt", version=1)

    assert ws("old.txt") == "elephants"
    assert [hit.key for hit in ws.search("elephants")] == ["old.txt"]
    with pytest.raises(epista.NotFoundError, match="version '9'"):
        ws.copy("a.txt", "c.txt", version=9)


def test_the_format_follows_the_name_where_the_name_says_one(ws: epista.Workspace) -> None:
    ws.put("upload-1", b"gene,count\nBRCA1,7\n")
    ws.put("b.dat", FRAME, format="csv")

    named = ws.move("upload-1", "counts.csv")
    kept = ws.copy("b.dat", "c.dat")
    shelved = ws.copy("counts.csv", "counts.csv.bak")

    assert (named.format, named.kind, list(ws("counts.csv").columns)) == ("csv", "TABLE", ["gene", "count"])
    assert [hit.key for hit in ws.search("BRCA1 format:csv key:counts.csv")] == ["counts.csv"]
    assert (kept.format, shelved.format) == ("csv", "csv")


def test_folders_go_whole_at_their_boundary(ws: epista.Workspace) -> None:
    for key in ("EXP-1/a.txt", "EXP-1/sub/b.txt", "EXP-12/a.txt"):
        ws.put(key, key)

    copied = ws.copy_dir("EXP-1", "EXP-3/from 1")
    moved = ws.move_dir("EXP-1/", "/")

    assert [asset.key for asset in copied] == ["EXP-3/from 1/a.txt", "EXP-3/from 1/sub/b.txt"]
    assert [asset.key for asset in moved] == ["a.txt", "sub/b.txt"]
    assert ws.keys() == ["EXP-12/a.txt", "EXP-3/from 1/a.txt", "EXP-3/from 1/sub/b.txt", "a.txt", "sub/b.txt"]
    assert ws("sub/b.txt") == "EXP-1/sub/b.txt"


def test_a_folder_goes_whole_or_not_at_all(ws: epista.Workspace) -> None:
    for key in ("d/a", "d/b", "d/c", "e/b/inside"):
        ws.put(key, b"x")
    before = ws.keys()

    with pytest.raises(epista.ConflictError, match="e/b"):
        ws.move_dir("d", "e")
    with pytest.raises(epista.ConflictError):
        ws.put("f/c", b"y")
        ws.copy_dir("d", "f", expect="absent")

    assert ws.keys() == [*before, "f/c"]


def test_a_file_may_become_the_folder_it_goes_into(ws: epista.Workspace) -> None:
    ws.put("a", b"x")

    with pytest.raises(epista.ConflictError):
        ws.copy("a", "a/b")
    ws.move("a", "a/b")
    ws.move("a/b", "a")

    assert ws.keys() == ["a"]


@pytest.mark.parametrize(("source", "to"), [("d", "d"), ("d/", "d/sub"), ("d", "d/sub/"), ("d/sub", "d/sub")])
def test_a_folder_cannot_go_into_itself(ws: epista.Workspace, source: str, to: str) -> None:
    ws.put("d/sub/x", b"x")

    with pytest.raises(epista.ValidationError, match="in itself"):
        ws.copy_dir(source, to)
    with pytest.raises(epista.ValidationError, match="in itself"):
        ws.move_dir(source, to)

    assert ws.keys() == ["d/sub/x"]


def test_what_cannot_be_meant_is_refused_with_the_way_to_say_it(ws: epista.Workspace) -> None:
    ws.put("d/x", b"x")

    with pytest.raises(epista.ValidationError, match="at once"):
        ws.move("d/x", "d/x")
    with pytest.raises(epista.InvalidKeyError, match="move_dir"):
        ws.move("d/", "e/")
    with pytest.raises(epista.InvalidKeyError, match="is a folder"):
        ws.move("d", "e")
    with pytest.raises(epista.InvalidKeyError):
        ws.move_dir("", "e")
    with pytest.raises(epista.KeyNotFoundError, match="no folder"):
        ws.move_dir("nosuch", "e")
    with pytest.raises(epista.KeyNotFoundError, match="nearest: 'd/x'"):
        ws.copy("d/y", "e")
    assert ws.keys() == ["d/x"]


def test_a_key_without_a_folder_is_of_the_active_experiment(open_workspace: Callable[..., epista.Workspace]) -> None:
    ws = open_workspace(experiment="EXP-7")
    ws.put("a.txt", "x")

    assert ws.copy("a.txt", "b.txt").key == "EXP-7/b.txt"
    assert ws.move("b.txt", "/").key == "b.txt"


def test_a_condition_is_held_to(ws: epista.Workspace) -> None:
    ws.put("a", b"a")
    there = ws.put("b", b"b")

    with pytest.raises(epista.ConflictError):
        ws.copy("a", "b", expect="absent")
    with pytest.raises(epista.ConflictError):
        ws.move("a", "b", expect="ve_" + "0" * 28)
    assert ws.move("a", "b", expect=there.version).number == 2


def test_of_ten_who_move_one_file_one_succeeds(ws: epista.Workspace) -> None:
    ws.put("a", b"a")

    def move(number: int) -> bool:
        try:
            ws.move("a", f"to/{number}")
        except epista.KeyNotFoundError:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        moved = list(pool.map(move, range(10)))

    assert moved.count(True) == 1
    assert len(ws.keys()) == 1


def test_a_rule_on_the_target_is_held_to(http_ws: epista.Workspace, server: Server) -> None:
    http_ws.put("EXP-1/a.txt", "x")
    api = server.api()
    rules = [{"name": "owned", "schema": {"required": ["owner"]}, "experiment": "EXP-2"}]
    api.ok(api.call("PUT", "~/rules", json={"rules": rules}))

    with pytest.raises(epista.ValidationError, match="owner"):
        http_ws.move("EXP-1/a.txt", "EXP-2/a.txt")

    assert http_ws.keys() == ["EXP-1/a.txt"]


def test_what_one_may_not_read_cannot_be_copied_and_where_one_may_not_write_nothing_arrives(server: Server) -> None:
    server.api().put("EXP-1/secret.txt")
    server.api().put("EXP-2/mine.txt")
    ada = server.member("ada", experiments=["EXP-2"])

    def post(verb: str, source: str, target: str) -> tuple[int, str]:
        response = ada.post(f"~/{verb}", objects=[{"source": source, "target": target}])
        return response.status_code, response.json()["code"]

    for verb in ("copy", "move"):
        assert (
            post(verb, "EXP-1/secret.txt", "EXP-2/a.txt") == post(verb, "EXP-1/no.txt", "EXP-2/a.txt") == (404, "key_not_found")
        )
        assert post(verb, "EXP-1/", "EXP-2/a/") == post(verb, "EXP-0/", "EXP-2/a/") == (404, "key_not_found")
        assert post(verb, "EXP-2/mine.txt", "EXP-1/a.txt") == (403, "forbidden")
        assert post(verb, "EXP-2/mine.txt", "a.txt") == (403, "forbidden")
    assert server.api().keys() == ["EXP-1/secret.txt", "EXP-2/mine.txt"]


def test_the_lineage_of_a_copy_hides_a_source_that_one_may_not_read(server: Server) -> None:
    server.api().put("EXP-1/secret.txt")
    server.api().ok(server.api().post("~/copy", objects=[{"source": "EXP-1/secret.txt", "target": "EXP-2/a.txt"}]))
    ada = server.member("ada", experiments=["EXP-2"])

    seen = ada.get("~/versions", key="EXP-2/a.txt").text + ada.get_asset("EXP-2/a.txt").text

    assert "secret" not in seen


def test_two_things_cannot_go_to_one_key(server: Server) -> None:
    api = server.api()
    api.put("a")
    api.put("b")

    twice = api.post("~/move", objects=[{"source": "a", "target": "c"}, {"source": "b", "target": "c"}])
    inside = api.post("~/move", objects=[{"source": "a", "target": "c"}, {"source": "b", "target": "c/d"}])
    swapped = api.post("~/move", objects=[{"source": "a", "target": "b"}, {"source": "b", "target": "a"}])

    assert (twice.status_code, inside.status_code, swapped.status_code) == (422, 409, 200)
    assert api.keys() == ["a", "b"]


def test_a_move_is_on_record_with_its_sources(server: Server) -> None:
    api = server.api()
    api.put("a.txt")
    api.ok(api.post("~/move", objects=[{"source": "a.txt", "target": "b.txt"}]))

    row = api.ok(api.get("~/audit", action="objects.move"))["rows"][0]

    assert row["target"] == "b.txt"
    assert row["details"]["sources"][0]["key"] == "a.txt"
