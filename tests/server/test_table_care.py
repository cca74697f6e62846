"""Tables of several files: what they need stays, what only they needed goes, and all of it is counted and verified."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import epista
from epista.client import audit, usage
from epista.contract.errors import ConflictError, QuotaError, StorageFullError
from epista.server.access.actors import Actor, Request
from epista.server.app import blob_store, resources_of
from epista.server.config import Config
from epista.server.engines.tables import TableFiles
from epista.server.services import appends, joins, lab
from epista.server.stores import moments, table_parts
from tests.makers import Api, Clock, Server

KEY = "EXP-1/counts.parquet"
DAYS = 3 * 24 * 3600


def rows(start: int, stop: int) -> pa.Table:
    return pa.table({"n": list(range(start, stop)), "name": [f"Jane Doe {n:06}" for n in range(start, stop)]})


def size_of(table: pa.Table) -> int:
    from epista import serializers

    return len(serializers.serialize("x.parquet", table).data)


@pytest.fixture(params=["here", "elsewhere"])
def anywhere(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("server")
    return server


@pytest.fixture
def api(anywhere: Server) -> Api:
    return anywhere.api()


@pytest.fixture
def ws(anywhere: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(anywhere.url, token=anywhere.manager, workspace="lab") as workspace:
        yield workspace


def contents(config: Config) -> dict[str, bytes]:
    store = blob_store(config)
    return {one.object: b"".join(store.read(one.object, 0, one.size)) for one in store.objects()}


def gc(api: Api, clock: Clock) -> dict[str, Any]:
    clock.ahead_seconds += DAYS
    found: dict[str, Any] = api.ok(api.post("/lab/gc", grace_seconds=0))
    return found


def numbers(ws: epista.Workspace, version: int | None = None) -> list[int]:
    found: list[int] = ws.deserialize(KEY, version=version)["n"].tolist()
    return found


def test_a_collection_spares_files_that_a_table_needs(api: Api, ws: epista.Workspace, clock: Clock) -> None:
    for start in range(3):
        ws.append(KEY, rows(start, start + 1))

    gc(api, clock)

    assert api.ok(api.get("/lab/verify"))["problems"] == []
    assert numbers(ws, 2) == [0, 1]
    assert numbers(ws) == [0, 1, 2]


def test_a_purge_erases_what_only_the_table_had(api: Api, ws: epista.Workspace, placed: Config, clock: Clock) -> None:
    for start in range(0, 3000, 1000):
        ws.append(KEY, rows(start, start + 1000))
    ws.put("EXP-1/other.parquet", rows(0, 1000))
    before = contents(placed)

    ws.purge(KEY, version=2)
    assert numbers(ws) == list(range(3000))
    ws.purge(KEY, version=1)
    assert numbers(ws) == list(range(3000))
    ws.delete(KEY)
    ws.purge(KEY)

    left = contents(placed)
    assert len(before) == 5
    assert [pq.read_table(io.BytesIO(data)).num_rows for data in left.values()] == [1000]
    assert ws("EXP-1/other.parquet")["n"].tolist() == list(range(1000))
    assert api.ok(api.get("/lab/verify"))["problems"] == []
    assert gc(api, clock)["blobs"] == 0
    assert usage.get(ws).stored_bytes == size_of(rows(0, 1000))


def test_a_purge_erases_the_files_of_a_table_that_nobody_read(ws: epista.Workspace, placed: Config) -> None:
    ws.append(KEY, rows(0, 10))
    ws.append(KEY, rows(10, 20))
    ws.put(KEY, rows(100, 110))
    ws.append(KEY, rows(110, 120))

    ws.purge(KEY, version=1)
    ws.purge(KEY, version=2)

    assert [one.number for one in ws.versions(KEY)] == [4, 3]
    assert usage.get(ws).stored_bytes == size_of(rows(100, 110)) + size_of(rows(110, 120))
    assert not any(b"Jane Doe 000012" in data for data in _unpacked(placed))
    assert numbers(ws) == list(range(100, 120))


def _unpacked(config: Config) -> list[bytes]:
    found = []
    for data in contents(config).values():
        if data.startswith(b"PAR1"):
            found.append(repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode())
    return found


def test_files_count_once_and_lists_of_them_do_not(anywhere: Server, ws: epista.Workspace) -> None:
    first, second = size_of(rows(0, 1000)), size_of(rows(1000, 1500))
    ws.append(KEY, rows(0, 1000))
    ws.append(KEY, rows(1000, 1500))
    assert usage.get(ws).stored_bytes == first + second
    ws.copy(KEY, "EXP-2/counts.parquet")
    assert usage.get(ws).stored_bytes == first + second

    whole = ws.get(KEY)
    assert whole.size_bytes is None
    ws(KEY)

    size = ws.get(KEY).size_bytes
    assert size
    # The first rows are a version still; the second file nobody needs any more.
    assert usage.get(ws).stored_bytes == first + size
    reader = anywhere.member("reader", experiments=["EXP-1"])
    assert reader.ok(reader.get("~/usage"))["stored_bytes"] == first + size


def test_more_than_the_quota_is_not_appended(anywhere: Server, ws: epista.Workspace) -> None:
    api = anywhere.api()
    ws.append(KEY, rows(0, 1000))
    more = size_of(rows(1000, 2000))
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": usage.get(ws).stored_bytes + more - 1}))
    with pytest.raises(QuotaError):
        ws.append(KEY, rows(1000, 2000))
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": usage.get(ws).stored_bytes + more}))
    ws.append(KEY, rows(1000, 2000))

    # That it is read takes more room than there is: it is the lab's own affair, and no reason not to read.
    assert numbers(ws) == list(range(2000))


def test_a_list_of_files_that_was_damaged_is_found(api: Api, ws: epista.Workspace, placed: Config) -> None:
    for start in range(2):
        ws.append(KEY, rows(start, start + 1))
    store = blob_store(placed)
    (object,) = [name for name, data in contents(placed).items() if data.startswith(b"{")]
    store.delete(object)

    (problem,) = api.ok(api.get("/lab/verify"))["problems"]

    assert "several files" in problem["problem"]
    assert problem["keys"] == [f"lab:{KEY}@2"]
    # The rows know the files, too.
    assert numbers(ws) == [0, 1]
    assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_a_damaged_file_of_a_table_is_told_with_the_table(api: Api, ws: epista.Workspace, placed: Config) -> None:
    ws.append(KEY, rows(0, 1))
    ws.append(KEY, rows(1, 2))
    ws.put(KEY, rows(5, 6))
    ws.purge(KEY, version=1)
    store = blob_store(placed)
    (object,) = [
        name
        for name, data in contents(placed).items()
        if data.startswith(b"PAR1") and pq.read_table(io.BytesIO(data))["n"].to_pylist() == [1]
    ]
    store.delete(object)

    (problem,) = api.ok(api.get("/lab/verify"))["problems"]

    assert problem["keys"] == [f"lab:{KEY}@2"]


def test_tables_of_very_many_files_are_made_one(
    api: Api, ws: epista.Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appends, "MOST_FILES", 4)
    monkeypatch.setattr(lab, "MANY_FILES", 2)
    files = []
    for start in range(9):
        files.append(ws.append(KEY, rows(start, start + 1)).version and _files(ws))

    assert files == [None, 2, 3, 4, 2, 3, 4, 2, 3]
    assert [len(numbers(ws, version)) for version in range(1, 9)] == list(range(1, 9))
    assert ws.get(KEY).size_bytes is None
    found = gc(api, clock)
    assert found["tables"] == 1
    assert ws.get(KEY).size_bytes is not None
    assert [len(numbers(ws, version)) for version in range(1, 10)] == list(range(1, 10))
    assert len(ws.versions(KEY)) == 9
    assert api.ok(api.get("/lab/verify"))["problems"] == []
    gc(api, clock)
    assert usage.get(ws).stored_bytes == sum(one.size_bytes or 0 for one in ws.versions(KEY))


def _files(ws: epista.Workspace) -> int | None:
    table = ws.get(KEY).table
    return None if table is None or table.files == 1 else table.files


def test_a_table_that_becomes_what_is_there_already_is_that(ws: epista.Workspace, placed: Config, tmp_path: Path) -> None:
    for start in range(2):
        ws.append(KEY, rows(start, start + 1))
    ws.copy(KEY, "EXP-2/copy.parquet")
    path = ws.fetch(KEY, tmp_path)
    same = ws.put_file("EXP-3/same.parquet", path)
    ws.purge(KEY, version=1)
    ws.put(KEY, rows(0, 1))
    again = ws.append(KEY, rows(1, 2))
    assert again.sha256 is None

    assert numbers(ws) == [0, 1]

    found = ws.get(KEY)
    assert (found.sha256, found.version) == (same.sha256, again.version)
    assert ws.get("EXP-2/copy.parquet").sha256 == same.sha256


def test_a_backup_has_the_files_of_tables(tmp_path: Path) -> None:
    with epista.Workspace(tmp_path / "lab") as ws:
        for start in range(2):
            ws.append(KEY, rows(start, start + 1))
        audit.backup(ws, str(tmp_path / "copy"))
    with epista.Workspace(tmp_path / "copy") as copy:
        assert numbers(copy) == [0, 1]
        assert copy.append(KEY, rows(2, 3)).number == 3


def test_who_may_not_read_a_table_cannot_have_it_joined_or_appended_to(server: Server) -> None:
    with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
        for start in range(2):
            made = ws.append("SECRET/counts.parquet", rows(start, start + 1))
        sha256 = server.api().upload(pa_bytes(rows(5, 6)))
    stranger = server.member("stranger", experiments=["EXP-1"])

    assert stranger.post("~/tables/join", version=made.version).status_code == 404
    refused = stranger.post("~/tables/append", key="SECRET/counts.parquet", sha256=sha256)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    # The content of others is as if it had not been sent.
    other = stranger.post("~/tables/append", key="EXP-1/counts.parquet", sha256=sha256)
    assert (other.status_code, other.json()["code"]) == (404, "not_found")


def pa_bytes(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_a_lost_reply_is_given_again(server: Server) -> None:
    api = server.api()
    api.put(KEY, pa_bytes(rows(0, 1)))
    sha256 = api.upload(pa_bytes(rows(1, 2)))
    asked: dict[str, Any] = {"json": {"key": KEY, "sha256": sha256}, "headers": {"Idempotency-Key": "one"}}

    first = api.ok(api.call("POST", "~/tables/append", **asked))
    again = api.ok(api.call("POST", "~/tables/append", **asked))
    more = api.ok(api.call("POST", "~/tables/append", json={"key": KEY, "sha256": sha256}))

    assert first["version"] == again["version"] != more["version"]
    assert more["number"] == 3


def test_a_linked_table_is_copied_before_rows_are_added(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "counts.parquet").write_bytes(pa_bytes(rows(0, 3)))
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.toml").write_text(f'[link_roots.data]\nurl = "{folder}"\nworkspaces = ["*"]\n')
    with epista.Workspace(tmp_path / "lab") as ws:
        ws.link_dir("data", "EXP-1/")
        ws.append(KEY, rows(3, 5))
        (folder / "counts.parquet").unlink()

        assert numbers(ws) == list(range(5))
        assert pd.api.types.is_integer_dtype(ws(KEY)["n"])


def test_a_table_that_cannot_be_joined_stays_what_it_was(
    ws: epista.Workspace, api: Api, placed: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(2):
        ws.append(KEY, rows(start, start + 1))
    before = contents(placed)

    def full(*_: Any, **__: Any) -> Any:
        raise StorageFullError("there is no room")

    monkeypatch.setattr(TableFiles, "join", full)
    with pytest.raises(StorageFullError):
        ws(KEY)
    answer = api.call("GET", f"~/versions/{ws.get(KEY).version}/content")
    monkeypatch.undo()

    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert contents(placed) == before
    assert numbers(ws) == [0, 1]


def test_an_append_that_fails_leaves_nothing(ws: epista.Workspace, placed: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    ws.append(KEY, pa.table({"n": pa.array([1], pa.int32())}))
    ws.append(KEY, pa.table({"n": pa.array([2], pa.int32())}))
    wider = pa.table({"n": pa.array([2**40])})
    before, versions = contents(placed), ws.versions(KEY)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConflictError("not now")

    # The new files are in the store by then: the rows of the table in the wider type, and the list.
    monkeypatch.setattr(table_parts, "add", refuse)
    with pytest.raises(ConflictError, match="not now"):
        ws.append(KEY, wider)
    monkeypatch.undo()

    left = contents(placed)
    assert {object: left[object] for object in before} == before
    assert [pq.read_table(io.BytesIO(left[object])).to_pylist() for object in left.keys() - before.keys()] == [[{"n": 2**40}]]
    assert [one.id for one in ws.versions(KEY)] == [one.id for one in versions]
    assert ws.append(KEY, wider).number == 3
    assert numbers(ws) == [1, 2, 2**40]


def test_two_servers_that_join_one_table_make_one_file(ws: epista.Workspace, placed: Config) -> None:
    for start in range(3):
        ws.append(KEY, rows(start, start + 1))
    servers = [resources_of(placed, moments.now) for _ in range(2)]
    for one in servers:
        one.catalog.open()
    with servers[0].catalog.read() as tx:
        (version,) = table_parts.in_parts(tx, more_than=1, limit=10)
    request = Request(id="r", endpoint="tables.join")
    actor = Actor(user_id=1, user="manager", is_lab_admin=False, scopes=frozenset({"read"}), request=request)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: joins.join(one, actor, version), servers))

    for one in servers:
        one.table_files.close()
        one.catalog.close()
    found = ws.get(KEY)
    assert found.sha256
    assert numbers(ws) == [0, 1, 2]
    # Three files that were sent, the list of the second version, and the one file of the third.
    assert len(contents(placed)) == 5
