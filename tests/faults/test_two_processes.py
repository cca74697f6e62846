"""Two processes on one folder, both writing: nothing is lost, nobody waits for ever, and neither starves."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import processes
from tests.faults import load
from tests.makers import Api, sha256

THREADS = 4
"""How many threads write through each process."""

LONGEST_SECONDS = 60.0
"""How long one write may take; the catalog itself would give up before."""


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[processes.Server, processes.Server]]:
    with processes.embedded(tmp_path / "lab") as one, processes.embedded(tmp_path / "lab") as other:
        yield one, other


class Crowd:
    """Threads that write through each of two servers until there is enough, and what came of it."""

    def __init__(self, servers: tuple[processes.Server, ...], enough: int) -> None:
        self.enough = enough
        self.acknowledged: list[dict[str, bytes]] = [{} for _ in servers]
        self.slowest_seconds = 0.0
        self.faults: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(side, number, server.api()), name=f"{side}-{number}")
            for side, server in enumerate(servers)
            for number in range(THREADS)
        ]

    @property
    def puts(self) -> list[int]:
        return [len(done) for done in self.acknowledged]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(150)
            assert not thread.is_alive(), f"{thread.name} still waits for an answer"

    def _run(self, side: int, number: int, api: Api) -> None:
        count = 0
        while sum(self.puts) < self.enough and not self.faults:
            key, data = f"P{side}/t{number}/{count}.bin", f"{side} {number} {count}".encode() * 50
            began = time.monotonic()
            response = api.try_put(key, data)
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            if response.status_code != 200:
                self.faults.append(f"{key}: {response.status_code} {response.text}")
                return
            self.acknowledged[side][key] = data
            count += 1


def test_two_processes_lose_nothing_and_neither_starves(two: tuple[processes.Server, processes.Server], tmp_path: Path) -> None:
    crowd = Crowd(two, enough=240)

    crowd.run()

    print(f"puts by process {crowd.puts}, slowest {crowd.slowest_seconds:.2f} s")
    assert crowd.faults == []
    assert min(crowd.puts) > 0.25 * sum(crowd.puts)
    assert crowd.slowest_seconds < LONGEST_SECONDS
    expected = {key: sha256(data) for done in crowd.acknowledged for key, data in done.items()}
    for server in two:
        page = server.api().ok(server.api().get("~/assets"))
        assert {asset["key"]: asset["sha256"] for asset in page["assets"]} == expected
        load.verify(server.api(), tmp_path / "lab")


def test_of_conditional_puts_on_one_key_through_two_processes_none_is_lost(
    two: tuple[processes.Server, processes.Server], tmp_path: Path
) -> None:
    two[0].api().put("counter.txt", b"0")
    done: list[int] = []
    faults: list[str] = []

    def count_up(api: Api) -> None:
        won = 0
        while won < 5 and not faults:
            asset = api.ok(api.get_asset("counter.txt"))
            value = int(api.get(f"~/versions/{asset['version']}/content").content)
            response = api.try_put("counter.txt", str(value + 1).encode(), expect=asset["version"])
            if response.status_code == 200:
                won += 1
            elif response.status_code != 409:
                faults.append(response.text)
        done.append(won)

    threads = [threading.Thread(target=count_up, args=(server.api(),)) for server in two for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    load.join(threads)

    assert faults == []
    assert sum(done) == 5 * len(threads)
    for server in two:
        api = server.api()
        asset = api.ok(api.get_asset("counter.txt"))
        assert asset["number"] == 1 + 5 * len(threads)
        assert api.get(f"~/versions/{asset['version']}/content").content == str(5 * len(threads)).encode()
        load.verify(api, tmp_path / "lab")


def test_a_process_that_is_killed_while_it_writes_does_not_hold_up_the_other(
    two: tuple[processes.Server, processes.Server], tmp_path: Path
) -> None:
    one, other = two
    counts = load.Counts()
    doomed, survivor = (load.Writer(name, random.Random(name), counts) for name in ("doomed", "survivor"))
    _, first = load.run([doomed], one.api())
    stop, second = load.run([survivor], other.api())
    load.wait_for_acts(counts, 20, [*first, *second])

    one.kill()
    load.join(first)
    load.wait_for_acts(counts, 20, second)
    stop.set()
    load.join(second)

    load.check([doomed, survivor], other.api())
    load.verify(other.api(), tmp_path / "lab")
