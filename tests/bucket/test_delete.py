"""Deleting and versions: items 50 to 57 of the acceptance list."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import epista
from epista.server.app import catalog_of
from epista.server.config import Config
from tests.makers import Server


@pytest.mark.parametrize("spelling", ["EXP-1", "EXP-1/"])
def test_50_delete_dir_spares_siblings_whose_names_begin_alike(ws: epista.Workspace, spelling: str) -> None:
    for key in ("EXP-1/a.txt", "EXP-1/sub/b.txt", "EXP-12/a.txt", "EXP-1.txt", "EXP-1-old/a.txt", "EXP-10", "exp-1/a.txt"):
        ws.put(key, b"x")

    assert ws.delete_dir(spelling) == ["EXP-1/a.txt", "EXP-1/sub/b.txt"]

    assert ws.keys() == ["EXP-1-old/a.txt", "EXP-1.txt", "EXP-10", "EXP-12/a.txt", "exp-1/a.txt"]
    assert ws.delete_dir(spelling) == []


@pytest.mark.parametrize("prefix", ["", "/", "//"])
def test_51_delete_dir_of_everything_is_refused(ws: epista.Workspace, prefix: str) -> None:
    ws.put("a/x.txt", "x")

    with pytest.raises(epista.InvalidKeyError):
        ws.delete_dir(prefix)

    assert ws.keys() == ["a/x.txt"]


@pytest.mark.parametrize("prefix", ["", "/"])
def test_51_delete_dir_of_everything_is_refused_by_raw_http_too(server: Server, prefix: str) -> None:
    server.api().put("a/x.txt")

    response = server.api().call("POST", "~/delete-folder", json={"path": prefix})

    assert (response.status_code, response.json()["code"]) == (400, "invalid_key")
    assert server.api().keys() == ["a/x.txt"]


def test_52_a_dry_run_returns_exactly_what_the_real_call_hides(ws: epista.Workspace) -> None:
    for key in ("d/b", "d/a/1", "d/a/2", "d/é", "d2"):
        ws.put(key, b"x")
    ws.put("d/gone", b"x")
    ws.delete("d/gone")
    before = ws.keys()

    promised = ws.delete_dir("d", dry_run=True)
    assert ws.keys() == before
    assert [hit.key for hit in ws.search("key:d/")] != []

    hidden = ws.delete_dir("d")
    assert promised == hidden == ["d/a/1", "d/a/2", "d/b", "d/é"]
    assert sorted(set(before) - set(ws.keys())) == hidden


FAULTS = {
    "sqlite": [
        "CREATE TRIGGER broken BEFORE UPDATE OF deleted_at ON assets WHEN old.key = 'd/3.txt' "
        "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$",
        "CREATE TRIGGER broken BEFORE UPDATE OF deleted_at ON assets FOR EACH ROW WHEN (old.key = 'd/3.txt') "
        "EXECUTE FUNCTION fail()",
    ],
}


def test_53_a_failure_midway_hides_nothing(placed: Config, http_ws: epista.Workspace) -> None:
    for number in range(5):
        http_ws.put(f"d/{number}.txt", f"word{number}")
    # The disk of the catalog fails at the fourth of them.
    catalog = catalog_of(placed)
    catalog.open()
    in_database = FAULTS["postgresql" if placed.database else "sqlite"]
    catalog.write(lambda tx: [tx.exec_driver_sql(statement) for statement in in_database])

    with pytest.raises(epista.StorageFullError):
        http_ws.delete_dir("d")

    assert http_ws.keys() == [f"d/{number}.txt" for number in range(5)]
    assert http_ws.search("word1").total == 1
    assert http_ws("d/0.txt") == "word0"
    catalog.write(lambda tx: tx.exec_driver_sql("DROP TRIGGER broken" + (" ON assets" if placed.database else "")))
    catalog.close()
    assert len(http_ws.delete_dir("d")) == 5
    assert http_ws.search("word1").total == 0


def test_53_who_may_only_read_hides_nothing(server: Server) -> None:
    server.api().put("d/a.txt")
    server.api().put("d/b.txt")
    viewer = server.member("eve", "viewer")

    with epista.Workspace(server.url, token=viewer.token, workspace="lab") as ws, pytest.raises(epista.ForbiddenError):
        ws.delete_dir("d")

    assert server.api().keys() == ["d/a.txt", "d/b.txt"]


def test_54_restore_brings_back_metadata_tags_and_history(ws: epista.Workspace) -> None:
    ws.put("x.csv", [{"n": 1}], meta={"temp": 36}, tags=["old"])
    last = ws.put("x.csv", [{"n": 2}], meta={"temp": 37}, tags=["qc"], kind="document")
    history = [version.id for version in ws.versions("x.csv")]

    hidden = ws.delete("x.csv")
    assert (hidden.key, hidden.version, hidden.meta) == ("x.csv", last.version, {"temp": 37})
    assert [version.id for version in ws.versions("x.csv")] == history
    with pytest.raises(epista.KeyNotFoundError, match="restore"):
        ws("x.csv")
    back = ws.restore("x.csv")

    assert (back.id, back.version, back.number) == (last.id, last.version, 2)
    assert (back.meta, back.tags, back.kind) == ({"temp": 37}, ("qc",), "DOCUMENT")
    assert [version.id for version in ws.versions("x.csv")] == history
    assert ws("x.csv")["n"].tolist() == [2]
    assert [hit.key for hit in ws.search("tags:qc user_meta.temp:37")] == ["x.csv"]


def test_54_restore_of_an_old_version_makes_it_current_without_moving_bytes(
    ws: epista.Workspace, stored: Callable[[], set[str]]
) -> None:
    first = ws.put("x.txt", "alpha", meta={"a": 1}, tags=["one"])
    ws.put("x.txt", "beta", meta={"a": 2}, tags=["two"])
    before = stored()

    back = ws.restore("x.txt", version=1)

    assert stored() == before
    assert (back.number, back.sha256, back.meta, back.tags) == (3, first.sha256, {"a": 1}, ("one",))
    assert ws("x.txt") == "alpha"
    assert "version 1" in ws.versions("x.txt")[0].note
    assert (ws.search("alpha").total, ws.search("beta").total) == (1, 0)
    assert ws.restore("x.txt", version=first.version).number == 3


def test_54_restore_fails_where_the_name_has_become_a_folder(ws: epista.Workspace) -> None:
    ws.put("a", b"x")
    ws.delete("a")
    ws.put("a/b", b"x")

    with pytest.raises(epista.ConflictError, match="a/b"):
        ws.restore("a")

    assert ws.keys() == ["a/b"]


def test_54_a_put_on_a_deleted_key_goes_on_counting_with_empty_metadata(ws: epista.Workspace) -> None:
    first = ws.put("x.txt", "1", meta={"a": 1}, tags=["qc"])
    ws.delete("x.txt")

    again = ws.put("x.txt", "1")

    assert (again.id, again.number, again.meta, again.tags) == (first.id, 2, {}, ())


def test_55_an_old_version_is_read_with_its_old_bytes_and_dtypes(ws: epista.Workspace) -> None:
    old = pd.DataFrame({"n": np.array([1, 2], "int16"), "s": ["001", None]})
    first = ws.put("x.csv", old, sep="|")
    ws.put("x.csv", pd.DataFrame({"n": [0.5], "s": [7]}))
    ws.put("x.csv", [{"z": "z"}])

    for version in (1, "1", first.version):
        pd.testing.assert_frame_equal(ws("x.csv", version=version), old)
    assert ws("x.csv", version=2)["s"].tolist() == [7]
    assert list(ws("x.csv").columns) == ["z"]
    assert ws("x.csv", format="bytes", version=1).startswith(b"n|s\n")
    with pytest.raises(epista.NotFoundError):
        ws("x.csv", version=4)


def test_56_deleted_keys_leave_search_at_once(ws: epista.Workspace) -> None:
    ws.put("d/a.txt", "needle", tags=["qc"], meta={"temp": 37})
    ws.put("d/b.txt", "needle")
    for query in ("needle", "tags:qc", "user_meta.temp:37", "key:d/", "name:a", ""):
        assert ws.search(query).total > 0

    ws.delete("d/a.txt")
    assert [hit.key for hit in ws.search("needle")] == ["d/b.txt"]
    assert [ws.search(query).total for query in ("tags:qc", "user_meta.temp:37", "")] == [0, 0, 1]
    ws.delete_dir("d")

    assert [ws.search(query).total for query in ("needle", "key:d/", "name:a", "")] == [0, 0, 0, 0]
    assert ws.search("").facets.kind == {}


@pytest.mark.parametrize("spelling", ["folder", "folder/"])
def test_57_delete_of_a_folder_is_refused_and_names_delete_dir(ws: epista.Workspace, spelling: str) -> None:
    ws.put("folder/x.txt", "x")

    with pytest.raises(epista.EpistaError, match=r"(?s)folder.*delete_dir") as failure:
        ws.delete(spelling)

    assert isinstance(failure.value, epista.InvalidKeyError | epista.KeyNotFoundError)
    assert ws.keys() == ["folder/x.txt"]


def test_57_restore_on_a_live_key_changes_nothing(ws: epista.Workspace) -> None:
    ws.put("x.txt", "1")
    second = ws.put("x.txt", "2", meta={"a": 1})

    for _ in range(2):
        assert ws.restore("x.txt") == second
    assert ws.restore("x.txt", version=2) == second

    assert len(ws.versions("x.txt")) == 2
    with pytest.raises(epista.KeyNotFoundError):
        ws.restore("never.txt")
