"""Many clients doing everything at once get no wrong byte and no fault of the server."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import epista
from epista.server.stores.s3 import Bucket
from tests import processes
from tests import seaweed as seaweedfs
from tests.faults import mixed
from tests.faults.mixed import Client, Memory
from tests.faults.test_kill import seed_of_the_run
from tests.postgres import Postgres

WARM_MIB = 64
"""What the server may hold more at the end than after a quarter of the time: pools fill up until every thread was busy once."""


def at_work(folder: Path, *, clients: int, seconds: float, **settings: Any) -> Memory:
    """Let *clients* use a server, hold it to what it acknowledged, and return what it held in memory meanwhile."""
    with processes.served(folder / "lab", workers=2, requests_per_minute=0, **settings) as server:
        assert server.token
        seed = seed_of_the_run()
        people = []
        for number in range(clients):
            desk = folder / f"C{number:02}"
            desk.mkdir()
            ws = epista.Workspace(server.url, token=server.token, workspace="lab")
            people.append(Client(desk.name, ws, random.Random(f"{seed}-{number}"), desk))
        memory = Memory(server.family)
        acts = mixed.run(people, seconds, memory)
        for person in people:
            person.check()
            person.ws.close()
        print(f"{acts.total()} acts of {clients} clients: {dict(acts)}")
        print(f"memory of the server by quarters: {[round(mib) for mib in memory.quarters()]} MiB")
        assert mixed.faults_of(server.url, server.token) == {}
    return memory


def test_clients_that_do_everything_at_once_get_no_wrong_byte(tmp_path: Path) -> None:
    at_work(tmp_path, clients=6, seconds=8)


def test_clients_of_a_lab_on_postgresql_and_s3_get_no_wrong_byte(tmp_path: Path, postgres: Postgres, bucket: Bucket) -> None:
    database = postgres.create()
    at_work(tmp_path, clients=6, seconds=8, database=postgres.url(database), **seaweedfs.settings(bucket))
    postgres.drop(database)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thirty_two_clients_for_ten_minutes(tmp_path: Path, postgres: Postgres, bucket: Bucket) -> None:
    database = postgres.create()
    memory = at_work(tmp_path, clients=32, seconds=600, database=postgres.url(database), **seaweedfs.settings(bucket))
    postgres.drop(database)

    quarters = memory.quarters()
    assert quarters[3] < quarters[1] + WARM_MIB, quarters
