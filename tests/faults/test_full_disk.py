"""
A server whose disk is full says so, records nothing of what it refuses, and goes on when there is room again.

The disk is full when no file may grow any more (RLIMIT_FSIZE, set on the running processes): it needs no privileges and no
file system of its own, and hits blobs and catalog alike.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from sqlalchemy import Connection, text

from epista.contract.errors import EpistaError, StorageFullError
from epista.server import founding
from epista.server.stores.sqlite import SqliteCatalog
from tests import processes
from tests.faults import load

ROOM_FOR_NOTHING = 4096
"""Less than the catalog's log has already, so that no transaction can be written."""


@pytest.fixture(params=["embedded", "served"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[processes.Server]:
    lab = tmp_path / "lab"
    with processes.embedded(lab) if request.param == "embedded" else processes.served(lab) as server:
        server.api().put("before.bin", b"before" * 10_000)
        yield server


def assert_is_storage_full(response: requests.Response) -> None:
    assert response.status_code == 507, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "storage_full"
    assert "room" in response.json()["hint"]


def test_an_upload_to_a_full_disk_is_refused_and_leaves_nothing(server: processes.Server) -> None:
    api = server.api()
    server.limit_file_size(1024 * 1024)

    assert_is_storage_full(api.call("POST", "~/blobs", data=bytes(3 * 1024 * 1024)))
    assert list((server.folder / "staging").iterdir()) == []
    assert api.keys() == ["before.bin"]

    server.limit_file_size(-1)
    api.put("after.bin", bytes(3 * 1024 * 1024))
    assert api.keys() == ["after.bin", "before.bin"]
    load.verify(api, server.folder)


def test_a_commit_to_a_full_disk_is_refused_and_leaves_nothing(server: processes.Server) -> None:
    api = server.api()
    digests = [api.upload(f"content {number}".encode()) for number in range(20)]
    objects = [{"key": f"EXP/{number}.bin", "sha256": digest} for number, digest in enumerate(digests)]
    server.limit_file_size(ROOM_FOR_NOTHING)

    assert_is_storage_full(api.post("~/objects", objects=objects))
    assert_is_storage_full(api.call("POST", "~/blobs", data=b"small, but its row has no room"))
    assert_is_storage_full(api.post("~/delete", key="before.bin"))
    assert api.keys() == ["before.bin"]
    assert load.read_all(api) == {"before.bin": b"before" * 10_000}

    server.limit_file_size(-1)
    api.ok(api.post("~/objects", objects=objects))
    assert len(api.keys()) == 21
    load.verify(api, server.folder)


def test_nothing_that_was_acknowledged_while_the_disk_filled_up_is_lost(server: processes.Server) -> None:
    counts = load.Counts()
    writers = [load.Writer(f"W{number}", random.Random(number), counts) for number in range(4)]
    log = server.folder / "lab.db-wal"
    server.limit_file_size(log.stat().st_size + 300_000)

    _, threads = load.run(writers, server.api())
    load.join(threads)  # each ends with the first answer that is not 200

    assert all("storage_full" in fault for writer in writers for fault in writer.faults)
    for writer in writers:
        writer.faults.clear()
    server.limit_file_size(-1)
    load.check(writers, server.api())
    load.verify(server.api(), server.folder)
    # And as a server finds it that was not there when it happened.
    server.kill()
    with processes.embedded(server.folder) as again:
        load.check(writers, again.api())


def test_a_transaction_that_sqlite_gives_up_fails_every_write_of_its_group(tmp_path: Path) -> None:
    """When there is no room, SQLite may roll back the whole transaction, and with it the writes that came before."""
    founding.prepare(tmp_path / "lab", user="somebody")
    catalog = SqliteCatalog(tmp_path / "lab" / "lab.db")
    catalog.open()
    catalog.write(lambda tx: tx.execute(text("CREATE TABLE notes (note BLOB)")))
    started, go_on = threading.Event(), threading.Event()

    def wait(tx: Connection) -> None:
        # The writes below gather in the queue meanwhile, and share one transaction.
        started.set()
        go_on.wait(30)

    def note(size: int) -> None:
        def work(tx: Connection) -> None:
            if size > 1000:
                tx.execute(text("PRAGMA max_page_count = 1"))  # as small as the file is
            tx.execute(text("INSERT INTO notes VALUES (zeroblob(:size))"), {"size": size})

        catalog.write(work)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(catalog.write, wait)
        assert started.wait(30)
        small = pool.submit(note, 10)
        processes.wait_until(lambda: catalog._writer.jobs.qsize() == 1, "the small write waits")
        large = pool.submit(note, 10_000_000)
        processes.wait_until(lambda: catalog._writer.jobs.qsize() == 2, "the large write waits")
        go_on.set()
        outcomes = [done.exception() for done in (first, small, large)]
    with catalog.read() as tx:
        count = tx.execute(text("SELECT count(*) FROM notes")).scalar()
    catalog.close()

    assert isinstance(outcomes[2], StorageFullError)
    acknowledged = outcomes[1] is None
    assert acknowledged or isinstance(outcomes[1], EpistaError)
    assert count == (1 if acknowledged else 0)
