"""A lab in PostgreSQL while the database restarts, and while two servers want the same key."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import epista
from epista.server import founding
from epista.server.app import catalog_of
from epista.server.config import Config
from epista.server.services.contents import Contents
from epista.server.stores import postgres as postgres_store
from tests import processes
from tests.faults import mixed
from tests.faults.mixed import Client, Memory
from tests.faults.test_kill import seed_of_the_run
from tests.makers import Server
from tests.postgres import Postgres


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_people_at_work_notice_nothing_of_a_database_that_restarts(own_postgres: Postgres, tmp_path: Path, how: str) -> None:
    """``immediate`` is a crash: what was acknowledged comes back from the write-ahead log."""
    seed = seed_of_the_run()
    database = own_postgres.url(own_postgres.create())
    with processes.served(tmp_path / "lab", database=database, workers=2, requests_per_minute=0) as server:
        people = []
        for number in range(4):
            desk = tmp_path / f"C{number:02}"
            desk.mkdir()
            ws = epista.Workspace(server.url, token=server.token, workspace="lab")
            people.append(Client(desk.name, ws, random.Random(f"{seed}-{number}"), desk))
        over = threading.Event()

        def restart() -> None:
            for _ in range(3):
                over.wait(2)
                own_postgres.stop(how)
                own_postgres.start()
            over.wait(2)
            over.set()

        restarting = threading.Thread(target=restart, name="restart")
        restarting.start()
        acts = mixed.run(people, 300, Memory(server.family), enough=over)
        restarting.join()

        print(f"{acts.total()} acts: {dict(acts)}")
        for person in people:
            person.check()
            person.ws.close()
        api = server.api()
        assert api.ok(api.get("~/audit/verify"))["problems"] == []
        assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_of_puts_that_expect_nothing_through_two_servers_one_wins(postgres: Postgres, tmp_path: Path) -> None:
    name = postgres.create()
    with (
        processes.served(tmp_path / "lab", database=postgres.url(name)) as one,
        processes.served(tmp_path / "lab", token=one.token, database=postgres.url(name)) as other,
        ThreadPoolExecutor(8) as pool,
    ):
        for number in range(10):
            tries = [
                pool.submit(server.api().try_put, f"race-{number}.txt", f"{number} {turn} {server.pid}".encode(), expect="absent")
                for turn in range(4)
                for server in (one, other)
            ]
            assert sorted(done.result(60).status_code for done in tries) == [200] + [409] * 7
        # A file and a folder of one name: what the other server wrote counts as well.
        both = [
            pool.submit(server.api().try_put, f"n{number}{rest}", b"x")
            for number in range(10)
            for server, rest in ((one, ""), (other, "/below"))
        ]
        codes = [done.result(60).status_code for done in both]
        assert [sorted(codes[at : at + 2]) for at in range(0, 20, 2)] == [[200, 409]] * 10
        for server in (one, other):
            assert server.api().ok(server.api().get("~/audit/verify"))["problems"] == []
            assert len(server.api().keys()) == 20
    postgres.drop(name)


class TestGone:
    @pytest.fixture
    def placed(self, config: Config, own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Config:
        """Settings of a lab whose database is waited for only for a moment."""
        monkeypatch.setattr(postgres_store, "RETURN_SECONDS", 0.2)
        placed = replace(config, database=own_postgres.url(own_postgres.create()))
        founding.prepare(Path(placed.lab), user="manager", database=catalog_of(placed))
        return placed

    def test_who_asks_when_it_goes_is_told_to_try_again(
        self, server: Server, own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = server.api()
        api.put("cells.txt")
        receive = Contents.receive

        def late(contents: Contents, *given: Any) -> Any:
            own_postgres.stop()  # the token was looked at, and the refusal cannot be written
            return receive(contents, *given)

        monkeypatch.setattr(Contents, "receive", late)
        answer = api.call("POST", "~/blobs", data=b"more")

        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        own_postgres.start()
        assert api.keys() == ["cells.txt"]
