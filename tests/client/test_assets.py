"""The verbs of the catalog, over HTTP and in an embedded lab."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import epista
from epista import Workspace
from epista.contract.errors import (
    AmbiguousNameError,
    ConflictError,
    InvalidKeyError,
    KeyNotFoundError,
    SearchSyntaxError,
    ValidationError,
)
from tests.makers import Server

Open = Callable[..., Workspace]


def test_keys_come_back_as_typed_in_code_point_order(ws: Workspace) -> None:
    typed = ["a #?%41 é\\x.csv", "Z/b.txt", "z\u2028.txt", "z/a b+c&d=e.txt", "\U0001f9ec/ufo.txt", "\uffee.txt"]
    for key in typed:
        ws.put(key, b"1")

    assert ws.keys() == sorted(typed)
    assert ws.keys("Z") == ["Z/b.txt"]
    assert ws.keys("z/a b+") == ["z/a b+c&d=e.txt"]
    assert ws.keys("none") == []
    for key in typed:
        assert ws.get(key).key == key


def test_two_spellings_of_one_name_reach_one_asset(ws: Workspace) -> None:
    ws.put("e\u0301.txt", "x")

    assert ws.keys() == ["\u00e9.txt"]
    assert ws.get("e\u0301.txt").id == ws.get("\u00e9.txt").id


def test_a_level_has_folders_and_assets_and_shows_itself(ws: Workspace) -> None:
    for key in ("EXP-1/raw/a.txt", "EXP-1/b.txt", "EXP-12/c.txt", "top.txt"):
        ws.put(key, "x")

    root, level = ws.ls(), ws.ls("EXP-1")

    assert list(root.folders) == ["EXP-1/", "EXP-12/"]
    assert [asset.key for asset in root.assets] == ["top.txt"]
    assert list(level.folders) == ["EXP-1/raw/"]
    assert [asset.key for asset in level.assets] == ["EXP-1/b.txt"]
    assert [asset.key for asset in ws.ls("EXP-1/").assets] == ["EXP-1/b.txt"]
    assert [asset.key for asset in ws.ls("top.txt").assets] == ["top.txt"]
    assert [asset.key for asset in ws.ls(ws.get("top.txt")).assets] == ["top.txt"]
    assert (len(root), bool(ws.ls("none")), repr(ws.ls("none"))) == (3, False, "(nothing)")
    assert "EXP-12/" in repr(root)
    assert "top.txt" in root._repr_html_()


def test_assets_are_found_by_every_filter(ws: Workspace) -> None:
    ws.put("EXP-1/a.csv", b"x\n1\n", tags=["qc", "old"])
    ws.put("EXP-1/b.txt", "x", tags=["qc"])
    ws.put("c.csv", b"x\n1\n")
    soon = datetime.now(UTC) + timedelta(hours=1)

    def found(**filters: Any) -> list[str]:
        return [asset.key for asset in ws.assets(**filters)]

    assert found() == ["EXP-1/a.csv", "EXP-1/b.txt", "c.csv"]
    assert found(limit=1) == ["EXP-1/a.csv", "EXP-1/b.txt", "c.csv"]
    assert found(experiment="EXP-1") == ["EXP-1/a.csv", "EXP-1/b.txt"]
    assert found(kind="table") == ["EXP-1/a.csv", "c.csv"]
    assert found(format="text") == ["EXP-1/b.txt"]
    assert found(tags="qc") == ["EXP-1/a.csv", "EXP-1/b.txt"]
    assert found(tags=["qc", "old"]) == ["EXP-1/a.csv"]
    assert found(prefix="EXP-1/b") == ["EXP-1/b.txt"]
    assert found(created_after=soon) == []
    assert found(created_before=soon, created_after=date(2020, 1, 1)) == found()
    assert found(created_before="2020-01-01") == []
    with pytest.raises(ValidationError, match="yesterday"):
        found(created_after="yesterday")


def test_a_listing_of_assets_is_a_table(ws: Workspace) -> None:
    ws.put("<b>.txt", "x")

    assert "key" in repr(ws.assets()).splitlines()[0]
    assert "&lt;b&gt;.txt" in ws.assets()._repr_html_()
    assert "&lt;b&gt;.txt" in ws.get("<b>.txt")._repr_html_()
    assert repr(ws.get("<b>.txt")) == "<Asset '<b>.txt' DOCUMENT text 1 B version 1>"


def test_an_asset_is_found_by_key_id_and_name(ws: Workspace) -> None:
    made = ws.put("EXP-1/a.txt", "x")
    ws.put("EXP-1/b.txt", "x")
    ws.put("EXP-2/b.txt", "x")

    assert isinstance(made, epista.Asset)
    assert isinstance(made, epista.AssetRef)
    assert ws.get("EXP-1/a.txt").id == ws.get(made.id).id == ws.get("a.txt").id == ws.get(made).id == made.id
    with pytest.raises(AmbiguousNameError) as caught:
        ws.get("b.txt")
    assert caught.value.details["candidates"] == ["EXP-1/b.txt", "EXP-2/b.txt"]
    with pytest.raises(KeyNotFoundError):
        ws.get("c.txt")


def test_a_key_without_a_folder_is_read_in_the_active_experiment_first(open_workspace: Open) -> None:
    ws, inside = open_workspace(), open_workspace(experiment="EXP-12")
    ws.put("x.txt", "root")
    ws.put("y.txt", "root", meta={"at": "root"})
    inside.put("x.txt", "inside", meta={"at": "inside"})

    assert inside.experiment_name == "EXP-12"
    assert inside.keys() == ["EXP-12/x.txt", "x.txt", "y.txt"]
    assert inside.get_meta("x.txt") == {"at": "inside"}
    assert inside.get_meta("y.txt") == {"at": "root"}
    assert ws.get_meta("x.txt") == {}
    assert inside.versions("x.txt")[0].key == "EXP-12/x.txt"


def test_an_asset_is_exact_and_never_looked_up_in_the_experiment(open_workspace: Open) -> None:
    root = open_workspace().put("x.txt", "root")
    inside = open_workspace(experiment="EXP-12")
    inside.put("x.txt", "inside", meta={"at": "inside"})

    assert inside.get_meta(root) == {}
    assert inside.set_meta(root, {"at": "root"}).key == "x.txt"
    assert inside.versions(root)[0].key == "x.txt"
    assert inside.delete(root).key == "x.txt"
    assert inside.restore(root).key == "x.txt"


def test_metadata_is_replaced_on_the_same_bytes(ws: Workspace) -> None:
    made = ws.put("a.txt", "x", meta={"n": {"deep": [1, None, "é"]}, "big": 10**30}, tags=["t"])
    assert ws.get_meta("a.txt") == {"n": {"deep": [1, None, "é"]}, "big": 10**30}

    changed = ws.set_meta("a.txt", {"pair": (1, 2), "on": date(2026, 3, 31)}, expect=made.version)

    assert ws.get_meta("a.txt") == changed.meta == {"pair": [1, 2], "on": "2026-03-31"}
    assert (changed.sha256, changed.tags, changed.number) == (made.sha256, ("t",), 2)
    with pytest.raises(ConflictError):
        ws.set_meta("a.txt", {}, expect=made.version)


@pytest.mark.parametrize("meta", [None, [], {"a": float("nan")}, {"a": {1: 2}}], ids=["None", "list", "NaN", "key"])
def test_what_is_no_metadata_is_refused(ws: Workspace, meta: Any) -> None:
    ws.put("a.txt", "x")

    with pytest.raises(ValidationError):
        ws.set_meta("a.txt", meta)

    assert ws.get("a.txt").number == 1


def test_a_folder_is_refused_with_the_right_verb(ws: Workspace) -> None:
    ws.put("d/a.txt", "x")

    for refused in (ws.delete, ws.get_meta, ws.versions, ws.restore):
        with pytest.raises(InvalidKeyError, match="means a folder") as caught:
            refused("d/")
        assert caught.value.hint
    with pytest.raises((InvalidKeyError, KeyNotFoundError), match="delete_dir"):
        ws.delete("d")
    assert ws.keys() == ["d/a.txt"]


def test_what_is_deleted_comes_back_whole(ws: Workspace) -> None:
    made = ws.put("a.txt", "x", meta={"n": 1}, tags=["t"])

    assert ws.delete("a.txt").id == made.id
    with pytest.raises(KeyNotFoundError, match="restore"):
        ws.get("a.txt")
    assert ws.keys() == []
    assert [version.number for version in ws.versions("a.txt")] == [1]

    assert (ws.restore("a.txt").meta, ws.restore("a.txt").tags) == ({"n": 1}, ("t",))
    assert ws.keys() == ["a.txt"]


def test_an_old_version_becomes_the_current_one_by_id_or_number(ws: Workspace) -> None:
    first = ws.put("a.txt", "one")
    second = ws.put("a.txt", "two")

    assert ws.restore("a.txt", version=1).sha256 == first.sha256
    assert ws.restore("a.txt", version=second.version).sha256 == second.sha256
    found = ws.versions("a.txt")
    assert [version.number for version in found] == [4, 3, 2, 1]
    assert isinstance(found[0], epista.Version)
    assert "version" in repr(found).splitlines()[0]


def test_a_folder_is_deleted_at_its_boundary(ws: Workspace) -> None:
    for key in ("EXP-1/a.txt", "EXP-1/raw/b.txt", "EXP-12/c.txt"):
        ws.put(key, "x")

    planned = ws.delete_dir("EXP-1", dry_run=True)

    assert planned == ws.delete_dir("EXP-1/") == ["EXP-1/a.txt", "EXP-1/raw/b.txt"]
    assert ws.keys() == ["EXP-12/c.txt"]
    assert ws.delete_dir("EXP-1") == []
    for prefix in ("", "/"):
        with pytest.raises(InvalidKeyError, match="whole workspace"):
            ws.delete_dir(prefix)


def test_a_search_goes_on_past_its_first_page(ws: Workspace) -> None:
    for number in range(5):
        ws.put(f"EXP-1/{number}.txt", f"words about cells {number}", tags=["qc"])
    ws.put("other.txt", "nothing")

    hits = ws.search("cells", limit=2)

    assert (hits.total, len(hits), len(list(hits))) == (5, 5, 5)
    assert len({hit.id for hit in hits}) == 5
    assert hits.facets.tags == {"qc": 5}
    assert isinstance(hits[0], epista.Hit)
    assert hits[0].snippet
    assert "**cells**" in hits[0].snippet
    assert "match" in repr(hits).splitlines()[0]
    assert "<table>" in hits._repr_html_()
    assert ws.get_meta(hits[4]) == {}


def test_a_search_says_what_to_know_about_it(ws: Workspace) -> None:
    ws.put("a.txt", "x")

    hits = ws.search("user_meta.nosuch:1")

    assert not hits
    assert hits.notes
    assert "note: " in repr(hits)


def test_a_bad_query_fails_at_once_and_says_where(ws: Workspace) -> None:
    with pytest.raises(SearchSyntaxError) as caught:
        ws.search("kind:(flow")

    assert caught.value.column == 6


@pytest.mark.parametrize("key", ["", "/a", "a//b", "./a", "a/../b", "a\0", "k" * 1025])
def test_a_bad_key_is_refused_before_anything_is_asked(ws: Workspace, key: str) -> None:
    for refused in (ws.delete, ws.get_meta, ws.versions, ws.restore):
        with pytest.raises(InvalidKeyError) as caught:
            refused(key)
        assert caught.value.request_id is None


def test_every_asset_that_is_handed_out_knows_its_workspace(ws: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    rows = [{"n": 1}]

    handed_out: list[epista.AssetRef] = [
        ws.put("x/a.txt", "findable"),
        ws.put_file("x/b.txt", folder / "b.txt"),
        *ws.put_dir("x/dir", folder),
        ws.append("x/t.parquet", rows),
        ws.publish_table(rows, "x/rows").asset,
        ws.copy("x/a.txt", "y/a.txt"),
        ws.move("y/a.txt", "y/b.txt"),
        ws.set_meta("x/a.txt", {"n": 1}),
        ws.delete("x/a.txt"),
        ws.restore("x/a.txt"),
        ws.get("x/a.txt"),
        ws.get(ws.get("x/a.txt")),
        *ws.assets(),
        *ws.ls("x").assets,
        *ws.search("findable"),
    ]

    assert len(handed_out) > 15
    assert {id(one.workspace) for one in handed_out} == {id(ws)}


def test_the_workspace_of_an_asset_is_no_part_of_it(http_ws: Workspace, server: Server) -> None:
    asset = http_ws.put("a.txt", "x")
    bare = msgspec.structs.replace(asset)

    assert asset == bare
    assert repr(asset) == repr(bare)
    assert asset._repr_html_() == bare._repr_html_() + "<pre>x</pre>"  # without a workspace there is nobody to ask for a preview
    assert msgspec.json.encode(asset) == msgspec.json.encode(bare)
    assert msgspec.to_builtins(asset) == msgspec.to_builtins(bare)
    assert server.manager.encode() not in pickle.dumps(asset)
    assert pickle.loads(pickle.dumps(asset)) == copy.deepcopy(asset) == copy.copy(asset) == asset
    assert server.manager not in repr(vars(asset))
    with pytest.raises(AttributeError):
        asset.key = "other"  # type: ignore[misc]
    for unbound in (bare, copy.copy(asset), pickle.loads(pickle.dumps(asset))):
        with pytest.raises(ValidationError, match="knows no workspace") as caught:
            _ = unbound.workspace
        assert caught.value.hint == "ws.get(asset) gives one that does"
        assert http_ws.get(unbound).workspace is http_ws


def test_assets_of_two_workspaces_know_each_their_own(server: Server) -> None:
    server.api().create_workspace("other")
    with (
        Workspace(server.url, token=server.manager, workspace="lab") as one,
        Workspace(server.url, token=server.manager, workspace="other") as other,
    ):
        here, there = one.put("a.txt", "x"), other.put("a.txt", "x")

        assert here.workspace is one
        assert there.workspace is other
        assert [asset.workspace for asset in (*one.assets(), *other.assets())] == [one, other]
