"""Contents in parts, over raw HTTP: what is acknowledged stays, and nothing else does."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from epista.server.config import Config
from epista.server.services.uploads import Uploads
from tests.makers import Api, Clock, Server, sha256

PART = 64 * 1024
CONTENT = random.Random(5).randbytes(5 * PART + 1234)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(lab=str(tmp_path / "lab-of-the-server"), part_bytes=PART, max_incomplete_uploads=3)


@pytest.fixture
def api(server: Server) -> Api:
    return server.api()


def begin(api: Api, content: bytes = CONTENT, **said: Any) -> str:
    uid: str = api.ok(api.post("~/uploads", size_bytes=len(content), **said))["id"]
    return uid


def part(number: int, content: bytes = CONTENT) -> bytes:
    return content[(number - 1) * PART : number * PART]


def put(api: Api, upload: str, number: int, data: bytes | None = None, **said: Any) -> requests.Response:
    return api.call("PUT", f"~/uploads/{upload}/parts/{number}", data=part(number) if data is None else data, params=said)


def complete(api: Api, upload: str, **said: Any) -> requests.Response:
    return api.post(f"~/uploads/{upload}/complete", **said)


def parts(api: Api, upload: str) -> list[int]:
    return [one["number"] for one in api.ok(api.get(f"~/uploads/{upload}"))["parts"]]


def ids(api: Api, **wanted: Any) -> list[str]:
    return [one["id"] for one in api.ok(api.get("~/uploads", **wanted))["uploads"]]


def problem(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def left(server: Server) -> list[str]:
    return [path.name for path in (server.folder / "parts").iterdir()]


def test_parts_in_any_order_become_one_object(server: Server, api: Api) -> None:
    upload = begin(api)
    for number in (6, 1, 3, 2, 5, 4):
        said = api.ok(put(api, upload, number, crc32=zlib.crc32(part(number))))
        assert said == {"number": number, "size_bytes": len(part(number)), "crc32": zlib.crc32(part(number))}

    done = api.ok(complete(api, upload, sha256=sha256(CONTENT)))

    assert done == {"sha256": sha256(CONTENT), "size_bytes": len(CONTENT), "read_bytes": len(CONTENT)}
    asset = api.ok(api.post("~/objects", objects=[{"key": "large.bin", "sha256": done["sha256"]}]))["assets"][0]
    assert api.get(f"~/versions/{asset['version']}/content").content == CONTENT
    assert ids(api) == []
    assert left(server) == []


def test_what_is_complete_can_be_asked_again_and_is_changed_no_more(api: Api) -> None:
    upload = begin(api)
    for number in range(1, 7):
        api.ok(put(api, upload, number))

    first = api.ok(complete(api, upload))

    assert api.ok(complete(api, upload)) == first
    assert problem(put(api, upload, 1)) == (409, "conflict")
    assert parts(api, upload) == []


def test_an_upload_is_not_complete_before_all_parts_are_there(api: Api) -> None:
    upload = begin(api)
    for number in (1, 2, 6):
        api.ok(put(api, upload, number))

    refused = complete(api, upload)

    assert problem(refused) == (409, "conflict")
    assert refused.json()["details"] == {"parts": [3, 4, 5]}
    assert parts(api, upload) == [1, 2, 6]


@pytest.mark.parametrize(
    ("number", "data", "status"),
    [
        (0, b"x", 400),
        (7, b"x", 400),
        (10**9, b"x", 400),
        (-1, b"x", 400),
        ("one", b"x", 400),
        (1, part(1)[1:], 400),
        (1, part(1) + b"x", 400),
        (1, b"", 400),
        (6, part(1), 400),
    ],
    ids=["zero", "beyond", "huge", "negative", "word", "short", "long", "empty", "last as long as others"],
)
def test_a_part_that_cannot_be_is_refused(api: Api, number: Any, data: bytes, status: int) -> None:
    upload = begin(api)

    assert put(api, upload, number, data).status_code == status
    assert parts(api, upload) == []


def test_a_part_of_unannounced_length_is_counted(api: Api) -> None:
    upload = begin(api)
    path = f"~/uploads/{upload}/parts/1"

    assert problem(api.call("PUT", path, data=iter([part(1)[:1000]]))) == (400, "invalid_request")
    assert problem(api.call("PUT", path, data=iter([part(1), b"x"]))) == (400, "invalid_request")
    assert parts(api, upload) == []
    api.ok(api.call("PUT", path, data=iter([part(1)[:1000], part(1)[1000:]])))
    assert parts(api, upload) == [1]


def test_bytes_that_are_not_what_was_announced_are_no_part(api: Api) -> None:
    upload = begin(api)
    digest = {"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}

    assert put(api, upload, 1, crc32=zlib.crc32(part(1)) ^ 1).json()["code"] == "integrity"
    assert api.call("PUT", f"~/uploads/{upload}/parts/1", data=part(1), headers=digest).json()["code"] == "integrity"
    assert parts(api, upload) == []


def test_content_that_is_not_what_was_announced_is_recorded_nowhere(server: Server, api: Api) -> None:
    other = sha256(b"other content")
    said: list[tuple[dict[str, Any], dict[str, Any]]] = [({"sha256": other}, {}), ({}, {"sha256": other})]
    for at_create, at_complete in said:
        upload = begin(api, **at_create)
        for number in range(1, 7):
            api.ok(put(api, upload, number))

        assert complete(api, upload, **at_complete).json()["code"] == "integrity"
        assert problem(complete(api, upload)) == (404, "not_found")
    assert api.ok(api.post("~/blobs/missing", sha256=[sha256(CONTENT)]))["sha256"] == [sha256(CONTENT)]
    assert left(server) == []


def test_who_announced_something_else_takes_nothing_from_who_was_faster(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sha256(b"other content")
    upload = begin(api)
    for number in range(1, 7):
        api.ok(put(api, upload, number))
    arrived, faster = threading.Event(), threading.Event()
    give_up = Uploads._give_up

    def late(self: Uploads, *given: Any) -> None:
        arrived.set()
        assert faster.wait(60)
        give_up(self, *given)

    monkeypatch.setattr(Uploads, "_give_up", late)
    with ThreadPoolExecutor(1) as beside:
        mistaken = beside.submit(complete, api, upload, sha256=other)
        assert arrived.wait(60)
        first = complete(api, upload)
        asset = api.ok(api.post("~/objects", objects=[{"key": "large.bin", "sha256": sha256(CONTENT)}]))["assets"][0]
        faster.set()
        assert api.ok(mistaken.result()) == api.ok(first)

    assert api.get(f"~/versions/{asset['version']}/content").content == CONTENT


def test_a_part_that_is_there_stays_as_it_is(api: Api) -> None:
    upload = begin(api)
    api.ok(put(api, upload, 1))

    assert problem(put(api, upload, 1, bytes(PART))) == (409, "conflict")
    assert api.ok(put(api, upload, 1))["crc32"] == zlib.crc32(part(1))
    for number in range(2, 7):
        api.ok(put(api, upload, number))
    assert api.ok(complete(api, upload))["sha256"] == sha256(CONTENT)


def test_of_two_who_send_one_part_one_waits(api: Api) -> None:
    def race() -> set[int]:
        upload = begin(api)
        begun, go_on = threading.Event(), threading.Event()

        def slowly() -> Any:
            yield part(1)[:1000]
            begun.set()
            go_on.wait(30)
            yield part(1)[1000:]

        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(api.call, "PUT", f"~/uploads/{upload}/parts/1", data=slowly())
            assert begun.wait(30)
            quick = put(api, upload, 1)
            go_on.set()
            seen = {slow.result().status_code, quick.status_code}
        assert problem(put(api, upload, 1, bytes(PART))) == (409, "conflict")
        return seen

    # If one is through before the other comes in, they did not meet.
    assert next(seen for seen in (race() for _ in range(10)) if seen != {200}) == {200, 503}


def test_many_who_race_for_all_parts_and_the_end_make_one_object(server: Server, api: Api) -> None:
    upload = begin(api)

    def send(seed: int) -> None:
        numbers = random.Random(seed).sample(range(1, 7), 6)
        while numbers:
            response = put(api, upload, numbers[0])
            assert response.status_code in (200, 503), response.text
            numbers = numbers[1:] if response.status_code == 200 else [*numbers[1:], numbers[0]]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(send, range(6)))
        done = list(pool.map(lambda _: complete(api, upload), range(6)))

    assert {api.ok(one)["sha256"] for one in done} == {sha256(CONTENT)}
    api.ok(api.post("~/objects", objects=[{"key": "large.bin", "sha256": sha256(CONTENT)}]))
    assert api.ok(api.get("/lab/verify"))["problems"] == []
    assert len(list((server.folder / "blobs").rglob("?" * 32))) == 1


def test_content_that_is_there_already_is_kept_once(server: Server, api: Api) -> None:
    api.put("small/way.bin", CONTENT)
    upload = begin(api)
    for number in range(1, 7):
        api.ok(put(api, upload, number))

    assert api.ok(complete(api, upload))["sha256"] == sha256(CONTENT)
    assert len(list((server.folder / "blobs").rglob("?" * 32))) == 1
    assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_an_upload_of_another_user_does_not_exist(server: Server, api: Api) -> None:
    upload = begin(api)
    api.ok(put(api, upload, 1))
    other = server.member("ada")

    for response in (
        other.get(f"~/uploads/{upload}"),
        put(other, upload, 2),
        complete(other, upload),
        other.call("DELETE", f"~/uploads/{upload}"),
    ):
        assert problem(response) == (404, "not_found")
    assert ids(other) == []
    assert problem(other.get("~/uploads", everyone=True)) == (403, "forbidden")
    assert parts(api, upload) == [1]


def test_an_admin_sees_and_ends_the_uploads_of_others(server: Server, api: Api) -> None:
    upload = begin(server.member("ada"))

    assert ids(api) == []
    assert ids(api, everyone=True) == [upload]
    api.ok(api.call("DELETE", f"~/uploads/{upload}"))
    assert ids(api, everyone=True) == []
    assert left(server) == []


def test_a_given_up_upload_leaves_nothing(server: Server, api: Api) -> None:
    upload = begin(api)
    api.ok(put(api, upload, 1))

    api.ok(api.call("DELETE", f"~/uploads/{upload}"))

    assert left(server) == []
    assert problem(put(api, upload, 1)) == (404, "not_found")
    assert problem(complete(api, upload)) == (404, "not_found")
    assert problem(api.call("DELETE", f"~/uploads/{upload}")) == (404, "not_found")


def test_nobody_has_more_uploads_under_way_than_allowed(server: Server, api: Api) -> None:
    for _ in range(3):
        begin(api)

    refused = api.post("~/uploads", size_bytes=1)

    assert problem(refused) == (409, "conflict")
    assert "--abort" in refused.json()["hint"]
    assert len(left(server)) == 3
    begin(server.member("ada"))


@pytest.mark.parametrize(("size", "status"), [(0, 400), (-1, 400), (2**62, 400), (1024**4 + 1, 413)], ids=str)
def test_a_size_that_cannot_be_is_refused(server: Server, api: Api, size: int, status: int) -> None:
    assert api.post("~/uploads", size_bytes=size).status_code == status
    assert left(server) == []


def test_an_upload_that_the_disk_has_no_room_for_is_refused_before_it_begins(server: Server, api: Api) -> None:
    size = shutil.disk_usage(server.folder).total + 1

    assert problem(api.post("~/uploads", size_bytes=min(size, 1024**4))) == (507, "storage_full")
    assert left(server) == []


def test_a_lost_reply_to_the_beginning_is_given_again(server: Server, api: Api) -> None:
    body = {"size_bytes": 1000}
    again = [api.call("POST", "~/uploads", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]

    assert api.ok(again[0]) == api.ok(again[1])
    assert len(left(server)) == 1


def test_large_objects_have_larger_parts(api: Api) -> None:
    made = api.ok(api.post("~/uploads", size_bytes=20_000 * PART))

    assert -(-made["size_bytes"] // made["part_bytes"]) <= 10_000
    assert made["part_bytes"] % (1024 * 1024) == 0


def test_an_expired_upload_is_gone_with_the_garbage(server: Server, api: Api, clock: Clock) -> None:
    upload, younger = begin(api), ""
    api.ok(put(api, upload, 1))
    clock.ahead_seconds = 6 * 24 * 3600
    younger = begin(api)
    assert api.ok(api.post("/lab/gc", grace_seconds=0))["files"] == 0
    clock.ahead_seconds = 8 * 24 * 3600

    assert ids(api) == [younger]
    assert problem(put(api, upload, 2)) == (409, "conflict")
    told = api.ok(api.post("/lab/gc", grace_seconds=0, dry_run=True))
    assert (told["files"], told["size_bytes"]) == (1, PART)
    assert api.ok(api.post("/lab/gc", grace_seconds=0)) == told
    assert problem(api.get(f"~/uploads/{upload}")) == (404, "not_found")
    assert len(left(server)) == 1
    assert parts(api, younger) == []


def test_parts_that_no_upload_knows_are_collected_after_a_while(server: Server, api: Api) -> None:
    upload = begin(api)
    for name, age_seconds in (("0" * 32, 7200), ("1" * 32, 10)):
        file = server.folder / "parts" / name
        file.write_bytes(b"left by a server that was killed")
        then = time.time() - age_seconds
        os.utime(file, (then, then))

    assert api.ok(api.post("/lab/gc", grace_seconds=0))["files"] == 1
    assert len(left(server)) == 2
    api.ok(put(api, upload, 1))
