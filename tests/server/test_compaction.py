"""Compaction: of packs of which little is needed, the rest is given back, and what is needed stays whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epista.server.services import lab, packs
from epista.server.services.resources import Resources
from epista.server.stores import care
from epista.server.stores.local import LocalBlobs
from tests.makers import Api, Clock, Server
from tests.server.test_purge import content, lying, purge, put_pack

DAY = 24 * 3600

RUNS = count(1)
"""Each example works in a folder of its own."""


def collect(api: Api, **wanted: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.ok(api.post("/lab/gc", **wanted))
    return found


@contextmanager
def leaving_packs() -> Iterator[None]:
    """Let a purge remove rows and leave packs as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epista.server.services.purges._move", lambda *_: [])
        yield


def sparse(api: Api, needed: bytes = b"needed" * 20) -> dict[str, Any]:
    """Leave a pack of which little is needed; return the asset that needs it."""
    kept, gone = put_pack(api, needed=needed, gone=b"gone!" * 2000)
    api.ok(api.post("~/delete", key=gone["key"]))
    with leaving_packs():
        purge(api, gone["key"])
    return kept


def test_a_sparse_pack_is_rewritten_as_the_rehearsal_says(server: Server) -> None:
    api = server.api()
    kept = sparse(api)
    full = put_pack(api, one=b"one" * 30, two=b"two" * 30)

    rehearsed = collect(api, dry_run=True)
    was_there = b"gone!" in lying(server.folder)
    done = collect(api)

    assert rehearsed == done
    assert was_there
    assert done["packs"] == 1
    assert done["packs_bytes"] > 9000
    assert b"gone!" not in lying(server.folder)
    assert collect(api)["packs"] == 0
    assert content(api, kept["version"]).content == b"needed" * 20
    assert [content(api, one["version"]).content for one in full] == [b"one" * 30, b"two" * 30]
    assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_several_packs_become_one(server: Server) -> None:
    api = server.api()
    kept = [sparse(api, b"needed %d " % number * 10) for number in range(3)]

    assert collect(api)["packs"] == 3

    assert len([path for path in (server.folder / "blobs").rglob("*") if path.is_file()]) == 1
    assert [content(api, one["version"]).status_code for one in kept] == [200] * 3


def test_a_pack_with_damaged_bytes_stays_as_it_is(server: Server) -> None:
    api = server.api()
    sparse(api)
    [file] = [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]
    file.chmod(0o600)
    file.write_bytes(file.read_bytes().replace(b"needed", b"NEEDED"))

    assert [collect(api)["packs"] for _ in range(2)] == [0, 0]

    assert file.exists()
    assert len([path for path in (server.folder / "blobs").rglob("*") if path.is_file()]) == 1
    assert len(api.ok(api.get("/lab/verify"))["problems"]) == 1


def test_what_is_purged_while_it_is_copied_does_not_live_on_in_the_copy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    kept = sparse(api)
    api.ok(api.post("~/delete", key=kept["key"]))
    whole = packs._whole

    def meanwhile(resources: Resources, pieces: Any) -> list[bytes]:
        found = whole(resources, pieces)
        purge(server.api(), kept["key"])
        return found

    monkeypatch.setattr(packs, "_whole", meanwhile)

    assert collect(api)["packs"] == 0
    assert b"needed" not in lying(server.folder)


def test_a_collection_that_dies_before_it_removes_the_old_pack_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server.api()
    kept = sparse(api)
    with monkeypatch.context() as patch:
        patch.setattr(LocalBlobs, "delete", lambda self, object: None)
        collect(api)
        assert b"gone!" in lying(server.folder)
    assert content(api, kept["version"]).content == b"needed" * 20
    monkeypatch.setattr(lab, "FILE_GRACE_SECONDS", 0)

    assert collect(api, grace_seconds=0)["files"] == 1

    assert b"gone!" not in lying(server.folder)
    assert content(api, kept["version"]).content == b"needed" * 20


def test_content_that_a_commit_comes_to_need_meanwhile_stays(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server.api()
    digest = api.upload(b"late")
    clock.ahead_seconds = DAY + 1
    unneeded = care.unneeded

    def meanwhile(*given: Any, **named: Any) -> list[int]:
        found = unneeded(*given, **named)
        if found:
            commit = threading.Thread(target=lambda: api.ok(api.post("~/objects", objects=[{"key": "a.bin", "sha256": digest}])))
            commit.start()
            commit.join()
        return found

    monkeypatch.setattr(care, "unneeded", meanwhile)

    assert collect(api)["blobs"] == 0
    assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_many_contents_go_some_at_a_time(server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    for number in range(7):
        api.upload(b"never committed %d" % number)
    api.put("a.bin", b"needed")
    clock.ahead_seconds = DAY + 1
    monkeypatch.setattr(lab, "FORGOTTEN_AT_ONCE", 3)
    monkeypatch.setattr(lab, "WALKED_AT_ONCE", 2)

    assert collect(api, dry_run=True)["blobs"] == collect(api)["blobs"] == 7

    assert b"never committed" not in lying(server.folder)
    assert api.ok(api.get("/lab/verify"))["blobs"] == 1


ACTS = st.lists(
    st.tuples(st.sampled_from(["put", "frame", "delete", "restore", "purge", "gc"]), st.integers(0, 3), st.integers(0, 5)),
    min_size=5,
    max_size=25,
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS)
def test_every_needed_byte_stays_and_no_purged_one_does(server: Server, acts: list[tuple[str, int, int]]) -> None:
    api, folder = server.api(), f"EXP-{next(RUNS)}"
    versions: dict[str, bytes] = {}
    purged: set[bytes] = set()
    of_key: dict[str, list[tuple[str, bytes]]] = {}
    hidden: set[str] = set()

    def made(asset: dict[str, Any], data: bytes) -> None:
        if asset["version"] not in versions:
            of_key.setdefault(asset["key"], []).append((asset["version"], data))
        versions[asset["version"]] = data
        hidden.discard(asset["key"])

    for act, which, number in acts:
        key = f"{folder}/{which}.csv"
        data = f"<{folder} content {number}>".encode()
        if act == "put":
            made(api.put(key, data), data)
        elif act == "frame":
            other = data * 2
            one, two = put_pack(api, **{f"{which}": data, f"{(which + 1) % 4}": other}, folder=folder)
            made(one, data)
            made(two, other)
        elif act == "delete" and key in of_key and key not in hidden:
            api.ok(api.post("~/delete", key=key))
            hidden.add(key)
        elif act == "restore" and key in hidden:
            api.ok(api.post("~/restore", key=key))
            hidden.discard(key)
        elif act == "purge" and key in hidden:
            purge(api, key)
            for version, _ in of_key.pop(key):
                del versions[version]
            hidden.discard(key)
        elif act == "gc":
            collect(api)

    collect(api, grace_seconds=0)
    for version, data in versions.items():
        assert content(api, version).content == data
    left = set(versions.values())
    for number in range(6):
        data = f"<{folder} content {number}>".encode()
        if data not in left and data * 2 not in left:
            purged.add(data)
    there = lying(server.folder)
    assert [data for data in purged if data in there] == []
    assert api.ok(api.get("/lab/verify"))["problems"] == []
