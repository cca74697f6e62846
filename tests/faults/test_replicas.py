"""Several servers on one lab, behind nginx as the guide sets it up: one of them may die at any moment."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import epista
from tests import nginx, processes
from tests.faults import mixed
from tests.faults.mixed import Client, Memory
from tests.faults.test_kill import seed_of_the_run


def test_one_of_two_replicas_is_killed_again_and_again_and_people_notice_nothing(tmp_path: Path) -> None:
    survive_kills_of_replicas(tmp_path, kills=2, clients=4)


def survive_kills_of_replicas(folder: Path, *, kills: int, clients: int) -> None:
    seed = seed_of_the_run()
    chance = random.Random(seed)
    lab = folder / "lab"
    first = processes.start_served(lab, workers=2, requests_per_minute=0)
    replicas = [first, processes.start_served(lab, token=first.token, workers=2, requests_per_minute=0)]
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
                    replicas[number] = processes.start_served(lab, token=first.token, workers=2, requests_per_minute=0, port=port)
                over.set()

            killer = threading.Thread(target=kill_and_start, name="killer")
            killer.start()
            acts = mixed.run(people, 600, Memory(first.family), enough=over)
            killer.join()
            for person in people:
                person.check()
                person.ws.close()
            print(f"{kills} kills, {acts.total()} acts of {clients} clients: {dict(acts)}")
    finally:
        for replica in replicas:
            replica.end()
