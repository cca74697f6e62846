"""Purging: what is erased is nowhere in the lab any more, and its neighbours in packs stay whole."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from epista.contract import frames
from epista.server.app import blob_store
from epista.server.config import Config
from epista.server.stores.local import LocalBlobs
from tests.makers import Api, Server, sha256

SECRET = b"Jane Doe, born 1970-01-01"
OTHER = b"temperature,37"


def lying(folder: Path) -> bytes:
    """Return all bytes that lie in the lab's store."""
    return b"\n".join(path.read_bytes() for path in sorted((folder / "blobs").rglob("*")) if path.is_file())


def all_bytes(config: Config) -> bytes:
    """Return all bytes in the lab's store, wherever it is."""
    store = blob_store(config)
    return b"\n".join(b"".join(store.read(one.object, 0, one.size)) for one in store.objects())


def put_pack(api: Api, *, folder: str = "EXP-1", **contents: bytes) -> list[dict[str, Any]]:
    """Put contents in one frame, so that they lie in one pack."""
    objects = [{"key": f"{folder}/{name}.csv", "sha256": sha256(data), "meta": {"of": name}} for name, data in contents.items()]
    sent = frames.joined(
        json.dumps({"objects": objects}).encode(), frames.frame([(sha256(one), one) for one in contents.values()])
    )
    made: list[dict[str, Any]] = api.ok(api.call("POST", "~/frames", data=sent))["assets"]
    return made


def purge(api: Api, path: str, **wanted: Any) -> list[dict[str, Any]]:
    gone: list[dict[str, Any]] = api.ok(api.call("POST", "~/purge", json={"path": path, **wanted}))["versions"]
    return gone


def content(api: Api, version: str) -> Any:
    return api.call("GET", f"~/versions/{version}/content")


def test_a_deleted_asset_is_erased_out_of_its_pack_and_the_neighbour_stays(server: Server) -> None:
    api = server.api()
    secret, other = put_pack(api, secret=SECRET, other=OTHER)
    api.ok(api.post("~/delete", key=secret["key"]))

    rehearsed = purge(api, secret["key"], dry_run=True)
    was_there = SECRET in lying(server.folder)
    gone = purge(api, secret["key"])

    assert rehearsed == gone == [{"key": secret["key"], "number": 1}]
    assert was_there
    assert SECRET not in lying(server.folder)
    assert content(api, other["version"]).content == OTHER
    assert content(api, secret["version"]).status_code == 404
    assert api.get("~/versions", key=secret["key"]).status_code == 404
    assert api.ok(api.get("/lab/verify"))["problems"] == []
    assert api.put(secret["key"], b"anew")["number"] == 1


def test_an_old_version_goes_and_its_number_is_not_given_again(server: Server) -> None:
    api = server.api()
    api.put("a.bin", SECRET)
    second = api.put("a.bin", b"second")

    purge(api, "a.bin", version="1")

    assert [one["number"] for one in api.ok(api.get("~/versions", key="a.bin"))["versions"]] == [2]
    with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
        counted = catalog.execute("SELECT stored_bytes, versions FROM workspaces WHERE name = ?", [api.workspace]).fetchone()
    assert counted == (len(b"second"), 1)
    assert api.put("a.bin", b"third")["number"] == 3
    assert content(api, second["version"]).content == b"second"
    assert SECRET not in lying(server.folder)


@pytest.mark.parametrize("version", [None, "2"])
def test_what_is_current_is_never_purged(server: Server, version: str | None) -> None:
    api = server.api()
    api.put("a.bin", b"first")
    second = api.put("a.bin", b"second")

    answer = api.call("POST", "~/purge", json={"path": "a.bin", "version": version})

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert content(api, second["version"]).content == b"second"


def test_bytes_that_another_version_needs_stay(server: Server) -> None:
    api = server.api()
    api.put("EXP-1/a.bin", SECRET)
    kept = api.put("EXP-2/same.bin", SECRET)
    api.ok(api.post("~/delete", key="EXP-1/a.bin"))

    purge(api, "EXP-1/a.bin")

    assert content(api, kept["version"]).content == SECRET


@pytest.mark.parametrize("place", ["folder", "elsewhere"])
def test_copies_that_came_along_with_other_contents_are_erased_too(server: Server, placed: Config, place: str) -> None:
    api = server.api()
    secret, _ = put_pack(api, secret=SECRET, other=OTHER)
    again, new = put_pack(api, again=SECRET, new=b"new,1")
    for one in (secret, again):
        api.ok(api.post("~/delete", key=one["key"]))
        purge(api, one["key"])

    assert SECRET not in all_bytes(placed)
    assert content(api, new["version"]).content == b"new,1"


@pytest.mark.parametrize("place", ["folder", "elsewhere"])
def test_a_copy_that_a_collection_forgot_is_erased_too(server: Server, placed: Config, place: str) -> None:
    api = server.api()
    bodies = [SECRET, b"rest" * 100]
    api.ok(api.call("POST", "~/frames", data=frames.joined(b"{}", frames.frame((sha256(one), one) for one in bodies))))
    kept = api.ok(api.post("~/objects", objects=[{"key": "rest.bin", "sha256": sha256(bodies[1])}]))["assets"][0]
    assert api.ok(api.post("/lab/gc", grace_seconds=0))["blobs"] == 1
    assert SECRET in all_bytes(placed), "most of the pack is needed"
    api.put("a.bin", SECRET)
    api.ok(api.post("~/delete", key="a.bin"))

    purge(api, "a.bin")

    assert SECRET not in all_bytes(placed)
    assert content(api, kept["version"]).content == bodies[1]


def test_a_folder_stands_for_its_deleted_assets(server: Server) -> None:
    api = server.api()
    secret, other = put_pack(api, secret=SECRET, other=OTHER)
    api.ok(api.post("~/delete", key=secret["key"]))

    assert [one["key"] for one in purge(api, "EXP-1/")] == [secret["key"]]
    assert content(api, other["version"]).content == OTHER
    assert api.call("POST", "~/purge", json={"path": "/"}).status_code == 400


def test_a_kept_reply_does_not_tell_what_was_purged(server: Server) -> None:
    api = server.api()
    digest = api.upload(SECRET)
    wanted = {"objects": [{"key": "a.bin", "sha256": digest, "meta": {"name": "Jane"}}]}
    again = {"Idempotency-Key": "once"}
    api.ok(api.call("POST", "~/objects", json=wanted, headers=again))
    api.ok(api.post("~/delete", key="a.bin"))

    purge(api, "a.bin")
    other = api.put("other.bin", b"which may have got the id of the version that is gone")
    repeated = api.call("POST", "~/objects", json=wanted, headers=again)

    assert (repeated.status_code, repeated.json()["code"]) == (404, "not_found"), "it is not repeated, and the content is gone"
    assert api.get_asset("other.bin").json()["version"] == other["version"]
    assert b"Jane" not in api.call("GET", "~/audit").content


def test_a_purge_whose_reply_was_lost_is_answered_alike(server: Server) -> None:
    api = server.api()
    api.put("a.bin", SECRET)
    api.ok(api.post("~/delete", key="a.bin"))
    again = {"Idempotency-Key": "once"}

    first, second = (api.ok(api.call("POST", "~/purge", json={"path": "a.bin"}, headers=again)) for _ in range(2))

    assert first == second


def test_a_purge_that_dies_before_it_removes_the_bytes_leaves_them_to_the_next_collection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server.api()
    secret, other = put_pack(api, secret=SECRET, other=OTHER)
    api.ok(api.post("~/delete", key=secret["key"]))
    with monkeypatch.context() as patch:
        patch.setattr(LocalBlobs, "delete", lambda self, object: None)
        purge(api, secret["key"])
    for path in (server.folder / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))

    api.ok(api.post("/lab/gc"))

    assert SECRET not in lying(server.folder)
    assert content(api, other["version"]).content == OTHER
