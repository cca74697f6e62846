"""A lab whose bytes are in S3: the same verbs, and what its keeper is told."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

import epista
from epista.client import audit
from epista.contract.errors import IntegrityError, SettingsError, UnavailableError
from epista.server import founding
from epista.server.app import blob_store
from epista.server.config import Config
from epista.server.engines.duckdb import DuckDB, Result
from epista.server.engines.plans import Plan
from epista.server.stores.blobs import BlobStore
from epista.server.stores.s3 import Bucket
from tests import processes, seaweed
from tests.faults.proxy import Fault, Proxy, proxied
from tests.makers import Server, sha256
from tests.seaweed import Seaweed

LARGE = random.Random(8).randbytes(20 * 1024 * 1024 + 3)


@pytest.fixture
def config(config: Config, bucket: Bucket, tmp_path: Path) -> Config:
    return msgspec.structs.replace(config, backup_root=str(tmp_path), **seaweed.settings(bucket))


@pytest.fixture
def store(config: Config) -> BlobStore:
    return blob_store(config)


def object_of(server: Server, data: bytes) -> str:
    with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
        [name] = catalog.execute("SELECT object FROM blobs WHERE sha256 = ?", [sha256(data)]).fetchone()
        return str(name)


def test_what_is_put_is_fetched(http_ws: epista.Workspace, server: Server, store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    http_ws.put_file("EXP-1/large.bin", tmp_path / "large.bin")
    http_ws.put("EXP-1/empty.bin", b"")
    http_ws.put("EXP-1/small.txt", "some cells")

    assert http_ws.fetch("EXP-1/large.bin", tmp_path / "again.bin").read_bytes() == LARGE
    assert http_ws("EXP-1/empty.bin") == b""
    assert http_ws("EXP-1/small.txt") == "some cells"
    assert len(LARGE) in [one.size for one in store.objects()]
    assert not (server.folder / "blobs").exists() or list((server.folder / "blobs").iterdir()) == []


def test_a_query_reads_large_tables_through_links_that_nobody_sees(
    http_ws: epista.Workspace, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(8).normal(size=400_000)
    pd.DataFrame({"n": range(400_000), "value": values}).to_parquet(tmp_path / "large.parquet")
    http_ws.put_file("EXP-1/large.parquet", tmp_path / "large.parquet")
    bound: list[str] = []
    run = DuckDB.run

    def watched(self: DuckDB, plan: Plan, *, query_id: str) -> Result:
        bound.extend(str(file) for table in plan.tables for file in table.files)
        return run(self, plan, query_id=query_id)

    monkeypatch.setattr(DuckDB, "run", watched)

    [row] = http_ws.query("SELECT count(*) AS rows, sum(value) AS total FROM large WHERE n >= 100000")
    with pytest.raises(epista.QueryError) as error:
        http_ws.query("SELECT CAST('x' || value AS INTEGER) FROM large")

    assert row == {"rows": 300_000, "total": pytest.approx(values[100_000:].sum())}
    assert [one.partition("://")[0] for one in bound] == ["http", "http"]
    assert "://" not in str(error.value) and "X-Amz" not in str(error.value)
    assert all("X-Amz" not in repr(query) + str(query.message) for query in http_ws.queries())


def test_a_copy_that_comes_again_takes_the_place_of_a_lost_object(
    http_ws: epista.Workspace, server: Server, store: BlobStore
) -> None:
    http_ws.put("a.bin", b"lost")
    store.delete(object_of(server, b"lost"))

    http_ws.put("b.bin", b"lost")

    assert (http_ws("a.bin"), http_ws("b.bin")) == (b"lost", b"lost")


def test_a_part_of_a_version_is_read(server: Server) -> None:
    api = server.api()
    version = api.put("a.bin", LARGE)["version"]

    part = api.call("GET", f"~/versions/{version}/content", headers={"Range": "bytes=5000000-16000000"})
    last = api.call("GET", f"~/versions/{version}/content", headers={"Range": "bytes=-5"})
    head = api.call("HEAD", f"~/versions/{version}/content")

    assert (part.status_code, part.content) == (206, LARGE[5_000_000:16_000_001])
    assert (last.status_code, last.content) == (206, LARGE[-5:])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(LARGE)))


def test_words_inside_files_are_found(http_ws: epista.Workspace, tmp_path: Path) -> None:
    import pandas as pd

    http_ws.put("EXP-1/notes.txt", "the quick brown fox" + " jumps" * 100)
    table = pd.DataFrame({"fluorescence": range(4_000_000), "well": 1.5})
    table.to_parquet(tmp_path / "large.parquet", compression=None)
    assert (tmp_path / "large.parquet").stat().st_size > 24 * 1024 * 1024, "more than is copied out of the store"
    http_ws.put_file("EXP-1/large.parquet", tmp_path / "large.parquet")

    assert [hit.key for hit in http_ws.search("brown")] == ["EXP-1/notes.txt"]
    assert [hit.key for hit in http_ws.search("fluorescence")] == ["EXP-1/large.parquet"]


def test_bytes_that_are_gone_are_an_error_and_verify_says_which(server: Server, store: BlobStore) -> None:
    api = server.api()
    version = api.put("EXP-1/lost.bin", b"lost cells")["version"]
    store.delete(object_of(server, b"lost cells"))

    answer = api.call("GET", f"~/versions/{version}/content")
    [problem] = api.ok(api.get("/lab/verify"))["problems"]

    assert (answer.status_code, answer.json()["code"]) == (422, IntegrityError.code)
    assert problem["problem"] == "is missing or too short"
    assert problem["keys"] == ["lab:EXP-1/lost.bin@1"]


def test_garbage_is_collected(http_ws: epista.Workspace, server: Server, store: BlobStore) -> None:
    http_ws.put("kept.bin", b"kept")
    server.api().upload(b"never committed")

    assert audit.gc(http_ws, grace_seconds=0).blobs == 1
    assert [one.object for one in store.objects()] == [object_of(server, b"kept")]


def test_a_backup_says_what_it_leaves_out(http_ws: epista.Workspace, config: Config, tmp_path: Path) -> None:
    http_ws.put("a.bin", b"cells")

    made = audit.backup(http_ws, str(tmp_path / "copy"))

    assert (made.blobs, made.size_bytes, made.left_out) == (0, 0, config.blobs)
    founding.prepare(tmp_path / "copy", user="manager", blobs=blob_store(config))
    with pytest.raises(SettingsError, match="not where the settings say") as caught:
        epista.Workspace(tmp_path / "copy").keys()
    assert "`blobs`" in str(caught.value.hint)


def test_a_lab_is_not_served_with_another_place_for_its_bytes(http_ws: epista.Workspace, config: Config) -> None:
    http_ws.put("a.bin", b"cells")
    elsewhere = msgspec.structs.replace(config, blobs=f"{config.blobs}-2")

    with pytest.raises(SettingsError, match="not where the settings say"):
        founding.prepare(Path(config.lab), user="manager", blobs=blob_store(elsewhere))

    founding.prepare(Path(config.lab), user="manager", blobs=blob_store(config))


class TestFailingStore:
    @pytest.fixture
    def proxy(self, seaweed: Seaweed) -> Iterator[Proxy]:
        with proxied(seaweed.url) as proxy:
            yield proxy

    @pytest.fixture
    def config(self, config: Config, proxy: Proxy) -> Config:
        return msgspec.structs.replace(config, s3_endpoint=proxy.url)

    def test_is_a_503_and_puts_nothing(self, server: Server, proxy: Proxy) -> None:
        api = server.api()
        version = api.put("a.bin", b"cells")["version"]
        proxy.fail(*[Fault("reset")] * 200)
        read = api.call("GET", f"~/versions/{version}/content")
        put = api.call("POST", "~/blobs", data=b"more cells")
        proxy.heal()

        for answer in (read, put):
            assert (answer.status_code, answer.json()["code"]) == (503, UnavailableError.code)
            assert "tests-secret" not in answer.text
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(b"more cells")]))["sha256"] == [sha256(b"more cells")]
        assert api.call("GET", f"~/versions/{version}/content").content == b"cells"

    def test_is_not_noticed_when_it_comes_back(self, http_ws: epista.Workspace, proxy: Proxy, tmp_path: Path) -> None:
        (tmp_path / "large.bin").write_bytes(LARGE)
        proxy.fail(Fault("slow down", method="PUT"), Fault("reset", method="PUT"), Fault("500", method="POST"))
        http_ws.put_file("large.bin", tmp_path / "large.bin")
        proxy.fail(Fault("cut", method="GET", after=9_000_000), Fault("slow down", method="GET"))

        assert http_ws.fetch("large.bin", tmp_path / "again.bin").read_bytes() == LARGE
        assert proxy.waiting == []


class TestServe:
    def test_a_lab_begins_and_works(self, tmp_path: Path, bucket: Bucket) -> None:
        settings = seaweed.settings(bucket)
        secret = tmp_path / "secret"
        secret.write_text(settings.pop("s3_secret_key"))
        settings["s3_secret_key_file"] = str(secret)
        with processes.served(tmp_path / "lab", workers=2, **settings) as server:
            assert server.lines[0] == f"Epista serves {tmp_path / 'lab'} with its bytes in {settings['blobs']} at {server.url}"
            version = server.api().put("a.bin", LARGE)["version"]

            assert server.api().call("GET", f"~/versions/{version}/content").content == LARGE
            assert "tests-secret" not in server.said()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"s3_secret_key": "wrong-secret"}, "refuses"),
            ({"s3_access_key": "unknown"}, "refuses"),
            ({"s3_endpoint": "http://127.0.0.1:9"}, "does not answer"),
        ],
        ids=["secret", "key", "endpoint"],
    )
    def test_a_wrong_setting_shows_at_the_start(self, tmp_path: Path, bucket: Bucket, wrong: dict[str, str], said: str) -> None:
        server = processes.spawn_served(tmp_path / "lab", **(seaweed.settings(bucket) | wrong))  # type: ignore[arg-type]
        try:
            assert server.wait() == 3
        finally:
            server.end()

        assert "UnavailableError" in server.said()
        assert said in server.said()
        assert "Traceback" not in server.said()
        assert "-secret" not in server.said()
