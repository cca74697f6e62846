"""Large versions come straight from the store: their bytes pass the server by, and its token stays with it."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import obstore
import pytest
import requests

import epista
from epista.client.transfer import parts
from epista.client.wire import Wire
from epista.contract.errors import EpistaError, IntegrityError
from epista.server.config import Config
from epista.server.stores.s3 import Bucket, S3Blobs
from tests import seaweed
from tests.faults.proxy import Fault, Proxy, proxied
from tests.makers import Server, sha256
from tests.seaweed import Seaweed

LARGE = random.Random(9).randbytes(6 * 1024 * 1024 + 1)

DIRECT = {"Prefer": "redirect"}


@pytest.fixture
def store(seaweed: Seaweed) -> Iterator[Proxy]:
    """The store as clients see it."""
    with proxied(seaweed.url) as proxy:
        yield proxy


@pytest.fixture
def config(config: Config, bucket: Bucket, store: Proxy) -> Config:
    given = seaweed.settings(bucket) | {"s3_public_endpoint": store.url}
    return msgspec.structs.replace(config, s3_direct_bytes=1024 * 1024, **given)


@pytest.fixture
def front(server: Server) -> Iterator[Proxy]:
    """The server as clients see it."""
    with proxied(server.url) as proxy:
        yield proxy


@pytest.fixture
def ws(front: Proxy, server: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(front.url, token=server.manager, workspace="lab") as workspace:
        workspace.put("large.bin", LARGE)
        workspace.put("small.bin", b"small")
        front.forget()
        yield workspace


def test_the_bytes_pass_the_server_by(ws: epista.Workspace, front: Proxy, store: Proxy, tmp_path: Path) -> None:
    assert ws.fetch("large.bin", tmp_path / "large.bin").read_bytes() == LARGE
    assert ws("large.bin") == LARGE

    assert store.received > 2 * len(LARGE)
    assert front.received < 50_000


def test_the_store_never_sees_a_token_nor_what_netrc_has(
    ws: epista.Workspace, server: Server, store: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password in-netrc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    assert ws("large.bin") == LARGE

    [head] = store.heads
    assert "authorization" not in head.lower()
    assert "cookie" not in head.lower()
    assert server.manager not in head


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_cut_is_followed_by_a_new_address_for_the_rest(ws: epista.Workspace, front: Proxy, store: Proxy, quarter: int) -> None:
    store.fail(Fault("cut", method="GET", after=quarter * len(LARGE) // 4))

    assert ws("large.bin") == LARGE

    first, second = store.heads
    assert "range: bytes=" in second.lower()
    assert "range: bytes=" not in first.lower()
    assert sum("/content" in request for request in front.requests) == 2
    assert store.received < 1.1 * len(LARGE)


@pytest.mark.parametrize("kind", ["forbidden", "slow down", "500", "reset"])
def test_what_the_store_refuses_comes_through_the_server(ws: epista.Workspace, front: Proxy, store: Proxy, kind: str) -> None:
    store.fail(Fault(kind))  # type: ignore[arg-type]

    assert ws("large.bin") == LARGE
    assert front.received > len(LARGE)


def test_a_store_that_cannot_be_reached_is_tried_once(ws: epista.Workspace, front: Proxy, store: Proxy) -> None:
    store.fail(*[Fault("reset")] * 10)

    assert ws("large.bin") == LARGE
    assert ws("large.bin") == LARGE

    assert len(store.requests) == 1
    assert front.received > 2 * len(LARGE)


def test_other_bytes_than_were_recorded_do_not_count(ws: epista.Workspace, bucket: Bucket, tmp_path: Path) -> None:
    blobs = S3Blobs(bucket)
    [name] = [one.object for one in blobs.objects() if one.size == len(LARGE)]
    obstore.put(blobs._store, name, LARGE[:-1] + b"!")

    with pytest.raises(IntegrityError):
        ws.fetch("large.bin", tmp_path / "large.bin")

    assert list(tmp_path.glob("*.bin")) == []


class TestDoor:
    def ask(self, server: Server, key: str, method: str = "GET", **headers: str) -> requests.Response:
        api = server.api()
        [asset] = [one for one in api.ok(api.get("~/assets"))["assets"] if one["key"] == key]
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return api.call(method, f"~/versions/{asset['version']}/content", headers=given, allow_redirects=False)

    def test_an_address_is_for_a_short_time_and_kept_by_no_cache(self, ws: epista.Workspace, server: Server) -> None:
        answer = self.ask(server, "large.bin", **DIRECT)

        assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "no-store")
        assert "X-Amz-Expires=300&" in answer.headers["Location"]
        got = requests.get(answer.headers["Location"], timeout=30)
        assert got.content == LARGE
        assert "large.bin" in got.headers["Content-Disposition"]

    @pytest.mark.parametrize(
        ("key", "method", "headers"),
        [
            ("large.bin", "GET", {}),
            ("large.bin", "GET", {"Prefer": "return=minimal"}),
            ("large.bin", "HEAD", DIRECT),
            ("large.bin", "GET", {**DIRECT, "If_Range": '"other"', "Range": "bytes=0-1"}),
            ("small.bin", "GET", DIRECT),
        ],
        ids=["not asked for", "another wish", "head", "if-range", "small"],
    )
    def test_else_the_server_answers_itself(
        self, ws: epista.Workspace, server: Server, key: str, method: str, headers: dict[str, str]
    ) -> None:
        assert self.ask(server, key, method, **headers).status_code == 200

    def test_a_condition_is_decided_before(self, ws: epista.Workspace, server: Server) -> None:
        tag = self.ask(server, "large.bin", "HEAD").headers["ETag"]

        assert self.ask(server, "large.bin", If_None_Match=tag, **DIRECT).status_code == 304

    def test_a_signed_link_stays_at_the_server_which_can_end_it(self, ws: epista.Workspace) -> None:
        answer = requests.get(ws.link("large.bin"), headers=DIRECT, allow_redirects=False, timeout=30)

        assert (answer.status_code, answer.content) == (200, LARGE)


class TestShort:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, s3_direct_seconds=1)

    def test_an_address_ends(self, ws: epista.Workspace, server: Server) -> None:
        location = TestDoor().ask(server, "large.bin", **DIRECT).headers["Location"]
        time.sleep(2.1)

        assert requests.get(location, timeout=30).status_code == 403


class TestNever:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, s3_direct_bytes=0)

    def test_a_server_may_keep_its_store_to_itself(self, ws: epista.Workspace, store: Proxy) -> None:
        assert ws("large.bin") == LARGE
        assert store.requests == []


PARTS = random.Random(10).randbytes(15 * 1024 * 1024)
"""Three parts of one size: which of them a fault meets is left to chance."""


class TestParts:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, part_bytes=5 * 1024 * 1024)

    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(parts, "PARTS_FROM_BYTES", 8 * 1024 * 1024)
        (tmp_path / "parts.bin").write_bytes(PARTS)
        return tmp_path / "parts.bin"

    def test_the_bytes_pass_the_server_by(
        self, ws: epista.Workspace, server: Server, front: Proxy, store: Proxy, file: Path
    ) -> None:
        made = ws.put_file("parts.bin", file)

        assert made.sha256 == sha256(PARTS)
        assert store.sent > len(PARTS)
        assert front.sent < 50_000
        assert not [head for head in store.heads if "authorization" in head.lower() or server.manager in head]
        assert ws("parts.bin") == PARTS

    @pytest.mark.parametrize("kind", ["forbidden", "slow down", "500", "reset"])
    def test_what_the_store_refuses_goes_through_the_server(
        self, ws: epista.Workspace, front: Proxy, store: Proxy, file: Path, kind: str
    ) -> None:
        store.fail(Fault(kind, method="PUT"))  # type: ignore[arg-type]

        ws.put_file("parts.bin", file)

        assert 5_000_000 < front.sent < 6_000_000
        assert ws("parts.bin") == PARTS

    def test_an_upload_is_taken_up_again_where_it_was(
        self, ws: epista.Workspace, front: Proxy, store: Proxy, server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        front.fail(*[Fault("forbidden", holding="/complete")] * 10)
        with pytest.raises(EpistaError):
            ws.put_file("parts.bin", file)
        front.heal()
        store.forget()

        ws.put_file("parts.bin", file)

        assert store.sent < 10_000
        assert ws("parts.bin") == PARTS

    def begun(self, server: Server) -> str:
        api = server.api()
        return str(api.ok(api.post("~/uploads", size_bytes=len(PARTS)))["id"])

    def test_the_store_takes_no_other_bytes(self, ws: epista.Workspace, server: Server) -> None:
        api, upload = server.api(), self.begun(server)
        part = PARTS[: 5 * 1024 * 1024]
        crc32 = zlib.crc32(part)
        address = api.ok(api.post(f"~/uploads/{upload}/address", number=1, crc32=crc32))

        other = requests.put(address["url"], data=b"!" + part[1:], headers=address["headers"], timeout=30)
        longer = requests.put(address["url"], data=part + b"!", timeout=30)
        untaken = api.post(f"~/uploads/{upload}/taken", number=1, crc32=crc32)
        right = requests.put(address["url"], data=part, headers=address["headers"], timeout=30)
        taken = api.ok(api.post(f"~/uploads/{upload}/taken", number=1, crc32=crc32))

        assert (other.status_code, longer.status_code) == (400, 403)
        assert (untaken.status_code, untaken.json()["code"]) == (422, IntegrityError.code)
        assert right.status_code == 200
        assert (taken["number"], taken["size_bytes"], taken["crc32"]) == (1, len(part), crc32)
        assert [one["number"] for one in api.ok(api.get(f"~/uploads/{upload}"))["parts"]] == [1]

    def test_a_part_that_is_there_is_replaced_by_nobody(self, ws: epista.Workspace, server: Server) -> None:
        api, upload = server.api(), self.begun(server)
        part = PARTS[: 5 * 1024 * 1024]
        api.ok(api.call("PUT", f"~/uploads/{upload}/parts/1", data=part))

        assert api.ok(api.post(f"~/uploads/{upload}/address", number=1, crc32=zlib.crc32(part)))["url"] is None

    def test_another_sha256_than_was_announced_is_found_out_by_the_server(self, ws: epista.Workspace, server: Server) -> None:
        api, upload = server.api(), self.begun(server)
        for number, start in enumerate(range(0, len(PARTS), 5 * 1024 * 1024), 1):
            part = PARTS[start : start + 5 * 1024 * 1024]
            address = api.ok(api.post(f"~/uploads/{upload}/address", number=number, crc32=zlib.crc32(part)))
            assert requests.put(address["url"], data=part, headers=address["headers"], timeout=30).status_code == 200
            api.ok(api.post(f"~/uploads/{upload}/taken", number=number, crc32=zlib.crc32(part)))

        answer = api.post(f"~/uploads/{upload}/complete", sha256="0" * 64)

        assert (answer.status_code, answer.json()["code"]) == (422, IntegrityError.code)
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(PARTS)]))["sha256"] == [sha256(PARTS)]

    def test_an_address_is_for_the_sender_alone(self, ws: epista.Workspace, server: Server) -> None:
        upload = self.begun(server)
        other = server.member("bob")

        assert other.post(f"~/uploads/{upload}/address", number=1, crc32=0).status_code == 404
        assert other.post(f"~/uploads/{upload}/taken", number=1, crc32=0).status_code == 404


def test_a_server_with_tls_sends_nobody_to_a_store_without(store: Proxy) -> None:
    wire = Wire("https://lab.example", None)

    assert wire._detour(f"{store.url}/a", {}, 1) is None
    assert not wire.send_elsewhere(f"{store.url}/a", body=b"cells", headers={})
    assert store.requests == []
