"""Many clients doing everything at once get no wrong byte and no fault of the server."""

from __future__ import annotations

import random
from pathlib import Path

import epista
from tests import processes
from tests.faults import mixed
from tests.faults.mixed import Client, Memory
from tests.faults.test_kill import seed_of_the_run


def at_work(server: processes.Server, folder: Path, *, clients: int, seconds: float) -> Memory:
    """Let *clients* use the server, hold it to what it acknowledged, and return what it held in memory meanwhile."""
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
    with processes.served(tmp_path / "lab", workers=2, requests_per_minute=0) as server:
        at_work(server, tmp_path, clients=6, seconds=10)
