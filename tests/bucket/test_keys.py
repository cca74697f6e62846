"""Keys and listing: items 1 to 9 of the acceptance list."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Connection

import epista
from epista.client import experiments
from epista.contract import assets as wire
from epista.server import founding
from epista.server.stores.sqlite import SqliteCatalog
from tests.makers import Server

ODD = r"a #?%41 é\x.csv"


def test_01_an_odd_key_round_trips_through_put_keys_and_fetch(ws: epista.Workspace, tmp_path: Path) -> None:
    assert ws.put(ODD, [{"n": 1}]).key == ODD

    assert ws.keys() == [ODD]
    assert ws.get(ODD).name == ODD
    assert ws(ODD)["n"].tolist() == [1]
    assert ws.fetch(ODD, f"{tmp_path}/") == tmp_path / ODD
    assert (tmp_path / ODD).read_bytes() == b"n\n1\n"


def test_01_an_odd_key_is_found_by_search(ws: epista.Workspace) -> None:
    ws.put(ODD, [{"n": 1}])
    ws.put("a A é.csv", [{"n": 1}])

    assert [hit.key for hit in ws.search(r'key:"a #?%41 é\\x.csv"')] == [ODD]
    assert [hit.key for hit in ws.search("%41")] == [ODD]


def test_02_both_spellings_of_a_letter_reach_one_asset(ws: epista.Workspace) -> None:
    composed, decomposed = "Zürich/é.txt", unicodedata.normalize("NFD", "Zürich/é.txt")
    assert composed != decomposed

    first = ws.put(decomposed, "x", meta={"n": 1})
    second = ws.put(composed, "y")

    assert (first.key, second.key) == (composed, composed)
    assert (second.id, second.number, second.meta) == (first.id, 2, {"n": 1})
    assert ws(decomposed) == "y"
    assert ws.keys(unicodedata.normalize("NFD", "Zü")) == [composed]
    assert [asset.key for asset in ws.ls(unicodedata.normalize("NFD", "Zürich")).assets] == [composed]
    assert ws.delete(decomposed).key == composed
    assert ws.keys() == []


BAD_KEYS = ["", "/a", "a//b", "./a", "a/../b", "a\0b", "a" * 1025, "é" * 512 + "a"]


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key[:8]))
def test_03_a_bad_key_is_refused(ws: epista.Workspace, key: str) -> None:
    with pytest.raises(epista.InvalidKeyError):
        ws.put(key, b"x")

    assert ws.keys() == []


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key[:8]))
def test_03_a_bad_key_is_refused_by_raw_http_too(server: Server, key: str) -> None:
    response = server.api().try_put(key)

    assert (response.status_code, response.json()["code"]) == (400, "invalid_key")
    assert server.api().keys() == []


def test_03_what_is_no_text_is_no_key_and_no_folder(ws: epista.Workspace, folder: Path) -> None:
    asset = ws.put("a", b"x")
    attempts: list[Callable[[Any], object]] = [
        lambda odd: ws.put(odd, b"x"),
        lambda odd: ws.put_dir(odd, folder),
        ws.delete_dir,
        ws.keys,
        ws.ls,
        ws,
    ]

    for attempt in attempts:
        with pytest.raises(epista.InvalidKeyError, match="is a str, not"):
            attempt(12)
    with pytest.raises(epista.InvalidKeyError, match="is a str, not Asset"):
        ws.delete_dir(asset)  # type: ignore[arg-type]

    assert ws.keys() == ["a"]


def test_03_a_key_of_1024_bytes_is_taken(ws: epista.Workspace) -> None:
    assert ws.put("é" * 512, b"x").key == "é" * 512


def test_04_one_name_is_a_file_or_a_folder(ws: epista.Workspace) -> None:
    ws.put("a", b"x")
    ws.put("b/c", b"x")

    with pytest.raises(epista.ConflictError, match="'a'"):
        ws.put("a/b", b"x")
    with pytest.raises(epista.ConflictError, match="'b/c'"):
        ws.put("b", b"x")
    with pytest.raises(epista.ConflictError, match="'a'"):
        ws.put("a/b/c/d", b"x")

    assert ws.keys() == ["a", "b/c"]


def test_04_of_a_file_and_its_folder_that_race_one_is_left(open_workspace: Callable[..., epista.Workspace]) -> None:
    sessions = [open_workspace(), open_workspace()]
    for turn in range(6):
        together = threading.Barrier(2)

        def put(session: epista.Workspace, key: str, together: threading.Barrier = together) -> str | None:
            together.wait()
            try:
                return session.put(key, b"x").key
            except epista.ConflictError:
                return None

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(put, sessions, [f"{turn}", f"{turn}/b"]))

        assert sessions[0].keys(str(turn)) == [key for key in done if key]
        assert len(sessions[0].keys(str(turn))) == 1


def test_05_a_bare_key_is_written_to_the_active_experiment(open_workspace: Callable[..., epista.Workspace]) -> None:
    ws = open_workspace(experiment="EXP-12")

    assert ws.put("x.csv", [{"n": 1}]).key == "EXP-12/x.csv"

    assert ws("x.csv")["n"].tolist() == [1]
    assert ws.get("x.csv").experiment == "EXP-12"
    assert ws.keys() == ["EXP-12/x.csv"]


def test_05_a_bare_key_is_read_in_the_experiment_then_at_the_root_and_nowhere_else(
    open_workspace: Callable[..., epista.Workspace],
) -> None:
    root, ws = open_workspace(), open_workspace(experiment="EXP-12")
    root.put("x.txt", "root")
    root.put("EXP-13/y.txt", "elsewhere")

    assert ws("x.txt") == "root"
    ws.put("x.txt", "mine")
    assert ws("x.txt") == "mine"
    assert root("x.txt") == "root"
    with pytest.raises(epista.KeyNotFoundError):
        ws("y.txt")
    assert {key: ws(key) for key in ws.keys("")} == {"EXP-12/x.txt": "mine", "EXP-13/y.txt": "elsewhere", "x.txt": "mine"}


KEYS = 100_000


def _fill(tx: Connection) -> None:
    """Put 100,000 keys into the catalog at once, in no order."""
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {KEYS}) "
    digits = f"printf('%05d', n * 7919 % {KEYS}) || '-µ'"
    for sql in (
        "INSERT INTO blobs (id, sha256, size, object, offset, created_at) VALUES (1, 'none', 0, 'none', 0, 0)",
        "INSERT INTO assets (id, uid, workspace_id, key, experiment, name, kind, format, head_id) "
        f"{numbers} SELECT n, 'as_' || n, 1, (n % 10) || '/' || {digits}, n % 10, {digits}, 'OTHER', 'bytes', n FROM numbers",
        "INSERT INTO versions (id, uid, asset_id, number, blob_id, kind, format, options, meta, tags, created_at, author_id, "
        f"note) {numbers} SELECT n, 've_' || n, n, 1, 1, 'OTHER', 'bytes', '{{}}', '{{}}', '[]', n, 1, 'put' FROM numbers",
    ):
        tx.exec_driver_sql(sql)


def test_06_a_hundred_thousand_keys_list_complete_and_sorted_in_bounded_memory(tmp_path: Path) -> None:
    founding.prepare(tmp_path / "lab", user="ada")
    catalog = SqliteCatalog(tmp_path / "lab" / "lab.db")
    catalog.open()
    catalog.write(_fill)
    catalog.close()
    # A lab with assets and no place for their bytes would be refused.
    (tmp_path / "lab" / "blobs" / "00").mkdir()
    before = {child.pid for child in psutil.Process().children()}
    with epista.Workspace(tmp_path / "lab") as ws:
        (child,) = [child for child in psutil.Process().children() if child.pid not in before]
        assert len(ws.keys("0/")) == 10_000
        resident_bytes = child.memory_info().rss

        found = ws.keys()

        grown_bytes = child.memory_info().rss - resident_bytes
    assert len(found) == KEYS
    assert found == sorted(found)
    assert len(set(found)) == KEYS
    # The text of all keys alone is 1.5 MB, as Python strings some 8 MB; a page of 10,000 is a tenth of that.
    assert grown_bytes < 6_000_000


def level(ws: epista.Workspace, path: str, *, limit: int, after: str | None) -> wire.Level:
    """Ask for one page of `ls` that is smaller than those the client asks for."""
    return ws.wire.call("assets.level", wire.ListLevel(workspace=ws.name, path=path, limit=limit, after=after))


def test_07_pages_of_ls_show_no_key_twice_and_miss_none_while_others_put(ws: epista.Workspace, folder: Path) -> None:
    there = [asset.key for asset in ws.put_dir("d", _many_files(folder, 20, 60))]
    busy = threading.Event()

    def put_more() -> None:
        for number in range(30):
            ws.put(f"d/{2 * number:02d}-new", b"x")
            busy.set()

    shown: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(put_more)
        assert busy.wait(30)
        after = None
        while True:
            page = ws.wire.call(
                "assets.level", wire.ListLevel(workspace=ws.name, path="d", limit=3, after=after), reply=wire.Level
            )
            shown += [asset.key for asset in page.assets]
            after = page.next
            if after is None:
                break
        putting.result()

    assert shown == sorted(set(shown))
    assert set(there) <= set(shown)


def _many_files(folder: Path, start: int, stop: int) -> Path:
    for number in range(start, stop):
        (folder / f"{number:02d}").write_bytes(b"x")
    return folder


def test_07_ls_has_folders_and_assets_of_one_level_over_all_its_pages(ws: epista.Workspace) -> None:
    for key in ("d/a/1", "d/a/2", "d/b/1", "d/c", "d-e", "d0"):
        ws.put(key, b"x")
    shown: list[str] = []
    after = None
    while True:
        page = level(ws, "d", limit=1, after=after)
        shown += [*page.folders, *(asset.key for asset in page.assets)]
        after = page.next
        if after is None:
            break

    assert shown == ["d/a/", "d/b/", "d/c"]
    for spelling in ("d", "d/"):
        assert list(ws.ls(spelling).folders) == ["d/a/", "d/b/"]
        assert [asset.key for asset in ws.ls(spelling).assets] == ["d/c"]
    assert [asset.key for asset in ws.ls("d/c").assets] == ["d/c"]
    assert not ws.ls("nothing")


def test_08_a_listing_shows_itself_as_a_table(ws: epista.Workspace) -> None:
    ws.put("a/b.csv", [{"n": 1}], tags=["qc"])
    ws.put("c.txt", "x")

    level, found, versions_ = repr(ws.ls()), repr(ws.assets()), repr(ws.versions("c.txt"))

    assert level.splitlines()[:2] == ["folder", "a/"]
    assert level.splitlines()[3].split() == ["key", "kind", "format", "size", "version", "created", "by", "tags"]
    assert level.splitlines()[4].split()[:5] == ["c.txt", "DOCUMENT", "text", "1", "B"]
    assert [line.split()[0] for line in found.splitlines()] == ["key", "a/b.csv", "c.txt"]
    assert found.splitlines()[1].endswith("qc")
    assert versions_.splitlines()[0].startswith("version")
    assert "a/b.csv" in repr(ws.search("kind:table"))
    assert "<table>" in ws.ls()._repr_html_()


def test_09_keys_that_the_caller_may_not_read_are_nowhere(server: Server) -> None:
    hidden_asset = server.api().put("EXP-2/theirs.csv", b"n\n2\n", tags=["secret"], meta={"gene": "TP53"})
    wanted = {"key": "EXP-1/mine.csv", "sha256": server.api().upload(b"n\n1\n"), "tags": ["qc"], "meta": {"temp": 37}}
    assert server.api().post("~/objects", objects=[wanted], inputs=[hidden_asset["version"]]).status_code == 200
    server.api().put("root.csv", b"n\n3\n", tags=["qc"])
    member = server.member("bob", experiments=["EXP-1"])

    with epista.Workspace(server.url, token=member.token, workspace="lab") as ws:
        assert ws.keys() == ["EXP-1/mine.csv"]
        assert list(ws.ls().folders) == ["EXP-1/"]
        assert list(ws.ls().assets) == []
        assert [asset.key for asset in ws.assets()] == ["EXP-1/mine.csv"]
        assert ws.search("").total == 1
        facets = ws.search("").facets
        assert (facets.experiment, facets.tags, facets.kind, facets.format) == ({"EXP-1": 1}, {"qc": 1}, {"TABLE": 1}, {"csv": 1})
        assert ws.search("theirs").total == 0
        assert "gene" not in repr(ws.search("user_meta.gen:TP53"))
        for attempt in (ws.get, ws.get_meta, ws, ws.versions, ws.delete, ws.restore):
            with pytest.raises(epista.KeyNotFoundError) as found:
                attempt("EXP-2/theirs.cs")
            assert "theirs.csv" not in str(found.value)
            with pytest.raises(epista.KeyNotFoundError) as hidden:
                attempt("EXP-2/theirs.csv")
            with pytest.raises(epista.KeyNotFoundError) as absent:
                attempt("EXP-2/nobody.csv")
            assert str(hidden.value).replace("theirs", "nobody") == str(absent.value)
        with pytest.raises(epista.KeyNotFoundError):
            ws.get("theirs.csv")
        assert ws.delete_dir("EXP-2") == []
        assert [experiment.name for experiment in experiments.find(ws)] == ["EXP-1"]
        assert [version.lineage.inputs for version in ws.versions("EXP-1/mine.csv")] == [()]
        assert ws.search("sha256:" + hidden_asset["sha256"]).total == 0
        for spoil in ("EXP-2/theirs.csv/below", "EXP-2"):
            with pytest.raises(epista.EpistaError) as refused:
                ws.put(spoil, b"x")
            assert "theirs.csv'" not in str(refused.value)
    assert server.api().keys() == ["EXP-1/mine.csv", "EXP-2/theirs.csv", "root.csv"]
