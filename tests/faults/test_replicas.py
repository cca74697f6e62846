"""Several servers on one lab, behind nginx as the guide sets it up: one of them may die at any moment."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import epista
from epista.server.stores.s3 import Bucket
from tests import nginx, processes
from tests import seaweed as seaweedfs
from tests.faults import mixed
from tests.faults.mixed import Client, Memory
from tests.faults.test_kill import seed_of_the_run
from tests.postgres import Postgres


def test_one_of_two_servers_on_a_folder_is_killed_and_people_notice_nothing(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    survive_kills_of_replicas(tmp_path, [lab, lab], {}, kills=2, clients=4)


def test_one_of_two_replicas_is_killed_and_people_notice_nothing(tmp_path: Path, postgres: Postgres, bucket: Bucket) -> None:
    on_postgres_and_s3(tmp_path, postgres, bucket, kills=2, clients=4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_replicas_are_killed_many_times(tmp_path: Path, postgres: Postgres, bucket: Bucket) -> None:
    on_postgres_and_s3(tmp_path, postgres, bucket, kills=50, clients=8)


def on_postgres_and_s3(folder: Path, postgres: Postgres, bucket: Bucket, *, kills: int, clients: int) -> None:
    # A folder for each: they share the database and the bucket, and nothing else.
    database = postgres.create()
    shared = {"database": postgres.url(database), **seaweedfs.settings(bucket)}
    survive_kills_of_replicas(folder, [folder / "here", folder / "there"], shared, kills=kills, clients=clients)
    postgres.drop(database)


def survive_kills_of_replicas(folder: Path, labs: list[Path], shared: dict[str, Any], *, kills: int, clients: int) -> None:
    seed = seed_of_the_run()
    chance = random.Random(seed)
    settings = {"workers": 2, "requests_per_minute": 0} | shared
    first = processes.start_served(labs[0], **settings)
    replicas = [first, processes.start_served(labs[1], token=first.token, **settings)]
    try:
        with nginx.in_front_of([replica.url for replica in replicas], folder / "nginx") as url:
            people = []
            for number in range(clients):
                desk = folder / f"C{number:02}"
                desk.mkdir()
                ws = epista.Workspace(url, token=first.token, workspace="lab")
                people.append(Client(desk.name, ws, random.Random(f"{seed}-{number}"), desk))
            over = threading.Event()

            def kill_and_start() -> None:
                for _ in range(kills):
                    time.sleep(chance.uniform(1, 3))
                    number = chance.randrange(2)
                    port = int(replicas[number].url.rpartition(":")[2])
                    replicas[number].kill()
                    time.sleep(chance.uniform(0, 2))
                    replicas[number] = processes.start_served(labs[number], token=first.token, port=port, **settings)
                over.set()

            killer = threading.Thread(target=kill_and_start, name="killer")
            killer.start()
            acts = mixed.run(people, 1500, Memory(first.family), enough=over)
            killer.join()
            for person in people:
                person.check()
                person.ws.close()
            print(f"{kills} kills, {acts.total()} acts of {clients} clients: {dict(acts)}")
    finally:
        for replica in replicas:
            replica.end()
