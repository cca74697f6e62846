"""Contents that move between the moment in which their place is looked up and that in which they are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from epista.contract import frames
from epista.server.app import blob_store
from epista.server.config import Config
from epista.server.engines.extraction import Extractor
from epista.server.stores.local import LocalBlobs
from epista.server.stores.remote import RemoteBlobs
from tests.makers import Api, Server
from tests.server.test_compaction import collect, sparse
from tests.server.test_purge import content, purge, put_pack

NEEDED = b"word,number\n" + b"zebra,1\n" * 50

everywhere = pytest.mark.parametrize("place", ["folder", "elsewhere"])


def before(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> list[str]:
    """Do *act* before the first call of a method; the result says whether it came to that."""
    whole, done = getattr(owner, name), list[str]()

    def first(*given: Any, **named: Any) -> Any:
        if not done:
            done.append(name)
            act()
        return whole(*given, **named)

    patch.setattr(owner, name, first)
    return done


def store(place: str) -> type[LocalBlobs | RemoteBlobs]:
    return LocalBlobs if place == "folder" else RemoteBlobs


def compact(api: Api) -> None:
    assert collect(api)["packs"] == 1


def frame_of(api: Api, *versions: str) -> dict[str, bytes]:
    sent = api.post("~/frames/read", versions=versions)
    assert sent.status_code == 200, sent.text
    return {one.sha256: sent.content[one.offset : one.offset + one.size] for one in frames.parse(sent.content)}


@everywhere
def test_a_version_and_a_part_of_it_are_read_where_their_pack_went(
    server: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server.api()
    kept = sparse(api, NEEDED)
    came = before(monkeypatch, store(place), "read", lambda: compact(api))

    whole = content(api, kept["version"])
    with monkeypatch.context() as patch:
        again = sparse(api, NEEDED * 2)
        before(patch, store(place), "read", lambda: compact(api))
        part = api.call("GET", f"~/versions/{again['version']}/content", headers={"Range": "bytes=5-300"})

    assert came
    assert (whole.status_code, whole.content) == (200, NEEDED)
    assert (part.status_code, part.content) == (206, (NEEDED * 2)[5:301])


@everywhere
def test_a_neighbour_of_what_is_purged_is_read_where_it_went(server: Server, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    secret, other = put_pack(api, secret=b"secret", other=b"other")
    api.ok(api.post("~/delete", key=secret["key"]))
    came = before(monkeypatch, store(place), "read", lambda: purge(api, secret["key"]))

    assert content(api, other["version"]).content == b"other"
    assert came


@everywhere
@pytest.mark.parametrize("moment", ["size", "read"])
def test_a_frame_has_what_moved_meanwhile(server: Server, place: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    first, second = sparse(api, NEEDED), put_pack(api, one=b"one", two=b"two")[1]
    came = before(monkeypatch, store(place), moment, lambda: compact(api))

    found = frame_of(api, first["version"], second["version"])

    assert came or (place, moment) == ("elsewhere", "size")
    assert found == {first["sha256"]: NEEDED, second["sha256"]: b"two"}


@everywhere
@pytest.mark.parametrize("act", ["commit", "restore"])
def test_the_words_of_what_moved_meanwhile_are_found(
    server: Server, place: str, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = server.api()
    kept = sparse(api, NEEDED)
    api.put(kept["key"], b"word\nanother\n")
    owner, name = (Extractor, "texts") if place == "folder" else (RemoteBlobs, "read")
    came = before(monkeypatch, owner, name, lambda: compact(api))

    if act == "commit":
        api.ok(api.post("~/objects", objects=[{"key": "EXP-1/copy.csv", "sha256": kept["sha256"]}]))
    else:
        api.ok(api.post("~/restore", key=kept["key"], version="1"))

    assert came
    found = api.ok(api.get("~/search", query="zebra"))
    assert {"commit": "EXP-1/copy.csv", "restore": kept["key"]}[act] in json.dumps(found)


@everywhere
def test_what_is_lost_is_said_to_be_missing(server: Server, placed: Config, place: str) -> None:
    api, blobs = server.api(), blob_store(placed)
    asset = api.put("a.bin", b"lost")
    for one in blobs.objects():
        blobs.delete(one.object)

    answer = content(api, asset["version"])

    assert (answer.status_code, answer.json()["code"]) == (422, "integrity")
    if place == "folder":  # elsewhere only the reading tells, when the answer has begun
        assert frame_of(api, asset["version"]) == {}
