"""The care of the lab: damaged bytes are found and healed, what nobody needs goes, and a backup is a lab."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from epista.server.app import create_app
from epista.server.config import Config
from tests.conftest import Thread
from tests.makers import Api, Clock, Server, sha256
from tests.server.test_compaction import collect, sparse
from tests.server.test_moved import before
from tests.server.test_purge import put_pack

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    return msgspec.structs.replace(config, backup_root=str(tmp_path))


def file_of(server: Server, digest: str) -> Path:
    """Return the file that holds a content."""
    with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
        [name] = catalog.execute("SELECT object FROM blobs WHERE sha256 = ?", [digest]).fetchone()
    return server.folder / "blobs" / str(name)[:2] / str(name)


def damage(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
        return
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    elif how == "short":
        del data[-1]
    elif how == "long":
        data += b"x"
    file.write_bytes(data)


def verified(api: Api) -> list[dict[str, Any]]:
    problems: list[dict[str, Any]] = api.ok(api.get("/lab/verify"))["problems"]
    return problems


class TestVerify:
    @pytest.mark.parametrize(
        ("how", "said"), [("flipped", "instead"), ("short", "is missing or too short"), ("missing", "is missing or too short")]
    )
    def test_a_damaged_blob_is_found_and_its_keys_are_named(self, server: Server, how: str, said: str) -> None:
        api = server.api()
        api.put("EXP-1/whole.bin", b"whole" * 100)
        api.put("EXP-1/damaged.bin", b"first version")
        api.put("EXP-1/damaged.bin", b"damaged" * 100)
        api.put("EXP-1/copy.bin", b"damaged" * 100)
        assert verified(api) == []

        damage(file_of(server, sha256(b"damaged" * 100)), how)
        [problem] = verified(api)

        assert problem["sha256"] == sha256(b"damaged" * 100)
        assert said in problem["problem"]
        assert sorted(problem["keys"]) == ["lab:EXP-1/copy.bin@1", "lab:EXP-1/damaged.bin@2"]

    @pytest.mark.parametrize("how", ["flipped", "short", "missing"])
    def test_content_that_is_sent_again_heals_every_version_that_needs_it(self, server: Server, how: str) -> None:
        api = server.api()
        version = api.put("a.bin", b"damaged" * 100)["version"]
        damage(file_of(server, sha256(b"damaged" * 100)), how)
        verified(api)
        missing = api.ok(api.post("~/blobs/missing", sha256=[sha256(b"damaged" * 100)]))["sha256"]

        made = api.put("b.bin", b"damaged" * 100)

        assert missing == [sha256(b"damaged" * 100)]
        assert verified(api) == []
        assert api.call("GET", f"~/versions/{version}/content").content == b"damaged" * 100
        assert api.call("GET", f"~/versions/{made['version']}/content").content == b"damaged" * 100

    @pytest.mark.parametrize("how", ["short", "missing"])
    @pytest.mark.parametrize("way", ["whole", "in a frame", "in parts"])
    def test_a_copy_that_comes_again_takes_the_place_of_lost_bytes_unasked(self, server: Server, way: str, how: str) -> None:
        api, data = server.api(), b"lost" * 100
        version = api.put("a.bin", data)["version"]
        damage(file_of(server, sha256(data)), how)
        asked = api.ok(api.post("~/blobs/missing", sha256=[sha256(data)]))["sha256"]

        if way == "whole":
            api.upload(data)
        elif way == "in a frame":
            put_pack(api, same=data, other=b"other")
        else:
            upload = api.ok(api.post("~/uploads", size_bytes=len(data)))["id"]
            api.ok(api.call("PUT", f"~/uploads/{upload}/parts/1", data=data))
            api.ok(api.post(f"~/uploads/{upload}/complete"))

        assert asked == [sha256(data)]
        assert api.call("GET", f"~/versions/{version}/content").content == data
        assert verified(api) == []

    def test_bytes_that_were_put_back_by_hand_are_whole_again(self, server: Server) -> None:
        api = server.api()
        api.put("a.bin", b"data")
        file = file_of(server, sha256(b"data"))
        damage(file, "flipped")
        assert len(verified(api)) == 1

        file.write_bytes(b"data")

        assert verified(api) == []
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(b"data")]))["sha256"] == []

    def test_damaged_content_makes_no_new_version(self, server: Server) -> None:
        api = server.api()
        api.put("a.bin", b"data")
        damage(file_of(server, sha256(b"data")), "missing")
        verified(api)

        answer = api.post("~/objects", objects=[{"key": "b.bin", "sha256": sha256(b"data")}])

        assert (answer.status_code, answer.json()["details"]["missing"]) == (404, [sha256(b"data")])

    def test_bytes_that_are_missing_are_an_integrity_error_that_names_the_remedy(self, server: Server) -> None:
        api = server.api()
        version = api.put("a.bin", b"data")["version"]
        damage(file_of(server, sha256(b"data")), "missing")

        answer = api.call("GET", f"~/versions/{version}/content")

        assert (answer.status_code, answer.json()["code"]) == (422, "integrity")
        assert "epista verify" in answer.json()["hint"]


class TestGarbage:
    def collect(self, server: Server, **wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = server.api().ok(server.api().post("/lab/gc", **wanted))
        return found

    def test_what_no_version_needs_goes_after_the_grace_period_and_not_before(self, server: Server, clock: Clock) -> None:
        api = server.api()
        version = api.put("a.bin", b"needed")["version"]
        api.put("gone.bin", b"of a deleted asset")
        api.ok(api.post("~/delete", key="gone.bin"))
        digest = api.upload(b"never committed")
        file = file_of(server, digest)

        early = self.collect(server)
        clock.ahead_seconds = DAY - HOUR
        nearly = self.collect(server)
        clock.ahead_seconds = DAY + 1
        rehearsed = self.collect(server, dry_run=True)
        was_there = file.exists()
        late = self.collect(server)

        assert [(one["blobs"], one["size_bytes"]) for one in (early, nearly)] == [(0, 0)] * 2
        assert rehearsed["blobs"] == late["blobs"] == 1
        assert rehearsed["size_bytes"] == late["size_bytes"] == len(b"never committed")
        assert was_there
        assert not file.exists()
        assert api.ok(api.post("~/blobs/missing", sha256=[digest]))["sha256"] == [digest]
        assert api.call("GET", f"~/versions/{version}/content").content == b"needed"
        assert api.ok(api.post("~/restore", key="gone.bin"))["size_bytes"] == len(b"of a deleted asset")
        assert verified(api) == []

    def test_content_that_was_sent_again_has_its_grace_again(self, server: Server, clock: Clock) -> None:
        api = server.api()
        digest = api.upload(b"data")
        clock.ahead_seconds = DAY - HOUR
        api.upload(b"data")
        clock.ahead_seconds = DAY + HOUR

        assert self.collect(server)["blobs"] == 0
        assert api.ok(api.post("~/objects", objects=[{"key": "a.bin", "sha256": digest}]))["assets"][0]["sha256"] == digest

    def test_old_temporary_files_and_orphans_go_and_fresh_ones_stay(self, server: Server) -> None:
        server.api().put("a.bin", b"needed")
        folder = server.folder / "blobs" / "ab"
        folder.mkdir(exist_ok=True)
        names = {
            server.folder / "staging" / ("0" * 32): 2 * DAY,
            server.folder / "staging" / ("1" * 32): 60,
            folder / ("ab" + "0" * 30): 2 * DAY,
            folder / ("ab" + "1" * 30): 60,
        }
        for path, age_seconds in names.items():
            path.write_bytes(b"left over")
            os.utime(path, (time.time() - age_seconds,) * 2)

        rehearsed = self.collect(server, dry_run=True)
        there = [path.exists() for path in names]
        done = self.collect(server)

        assert there == [True] * 4
        assert rehearsed["files"] == done["files"] == 2
        assert [path.exists() for path in names] == [False, True, False, True]
        assert verified(server.api()) == []

    def test_no_grace_at_all_still_spares_files_on_their_way(self, server: Server) -> None:
        path = server.folder / "staging" / ("2" * 32)
        path.write_bytes(b"just now")

        self.collect(server, grace_seconds=0)

        assert path.exists()


class TestBackup:
    def test_a_backup_opens_as_a_lab_with_everything_in_it(self, server: Server, server_thread: Thread, tmp_path: Path) -> None:
        api = server.api()
        api.put("EXP-1/a.csv", b"well,count\n", meta={"temp": 37}, tags=["qc"])
        api.put("EXP-1/a.csv", b"well,count\nA1,17\n")
        api.put("hidden.txt", b"hidden")
        api.ok(api.post("~/delete", key="hidden.txt"))
        ada = server.member("ada", "viewer")
        made = api.ok(api.post("/lab/backup", destination=str(tmp_path / "copy")))
        api.put("later.txt", b"not in the copy")

        stop = server_thread.start(create_app(Config(lab=str(tmp_path / "copy"))))
        try:
            copy = Api(server.url, api.token)
            assert made["blobs"] == 3
            assert copy.keys() == ["EXP-1/a.csv"]
            versions = copy.ok(copy.get("~/versions", key="EXP-1/a.csv"))["versions"]
            contents = [copy.call("GET", f"~/versions/{one['id']}/content").content for one in versions]
            assert contents == [b"well,count\nA1,17\n", b"well,count\n"]
            assert [one["meta"] for one in versions] == [{"temp": 37}] * 2
            assert copy.ok(copy.get("~/search", query="A1"))["total"] == 1
            assert copy.ok(copy.post("~/restore", key="hidden.txt"))["sha256"] == sha256(b"hidden")
            assert Api(server.url, ada.token).get("~/keys").status_code == 200
            assert verified(copy) == []
            assert copy.ok(copy.get("~/audit/verify"))["problems"] == []
            assert copy.put("new.txt", b"new")["number"] == 1
        finally:
            stop()
        assert (tmp_path / "lab-of-the-server" / "lab.db").exists()

    def test_what_a_collection_moves_meanwhile_is_in_the_backup(
        self, server: Server, server_thread: Thread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = server.api()
        kept = sparse(api)
        came = before(monkeypatch, shutil, "copyfile", lambda: collect(api))

        api.ok(api.post("/lab/backup", destination=str(tmp_path / "copy")))

        assert came
        stop = server_thread.start(create_app(Config(lab=str(tmp_path / "copy"))))
        try:
            copy = Api(server.url, api.token)
            assert copy.get(f"~/versions/{kept['version']}/content").content == b"needed" * 20
            assert verified(copy) == []
        finally:
            stop()
        assert len([path for path in (tmp_path / "copy" / "blobs").rglob("*") if path.is_file()]) == 1

    def test_a_backup_is_synced_with_the_folders_that_it_made(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = server.api()
        api.put("a.bin", b"data")
        synced, fsync = set[str](), os.fsync

        def noted(fd: int) -> None:
            synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
            fsync(fd)

        monkeypatch.setattr(os, "fsync", noted)
        api.ok(api.post("/lab/backup", destination=str(tmp_path / "copy")))

        made = list((tmp_path / "copy" / "blobs").rglob("*"))
        assert {str(path) for path in (tmp_path / "copy", tmp_path / "copy" / "blobs", *made)} <= synced

    def test_a_backup_never_overwrites(self, server: Server, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "file").write_text("mine")
        (tmp_path / "file").write_text("mine")
        api = server.api()

        statuses = [api.post("/lab/backup", destination=str(tmp_path / name)).status_code for name in ("there", "file")]
        empty = tmp_path / "empty"
        empty.mkdir()

        assert statuses == [409, 409]
        assert (tmp_path / "there" / "file").read_text() == "mine"
        assert api.post("/lab/backup", destination=str(empty)).status_code == 200
        assert api.post("/lab/backup", destination=str(empty)).status_code == 409

    def test_a_backup_does_not_lie_inside_the_lab(self, server: Server) -> None:
        answer = server.api().post("/lab/backup", destination=str(server.folder / "copy"))

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert not (server.folder / "copy").exists()
