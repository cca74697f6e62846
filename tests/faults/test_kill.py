"""What was acknowledged survives `kill -9` at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.faults import load
from tests.faults.load import Counts, Writer

WRITERS = 4


def kill_everything(server: processes.Server, chance: random.Random) -> None:
    server.kill()


def kill_some(server: processes.Server, chance: random.Random) -> None:
    """Kill the main process, a worker, or all of them, as may happen to `epista serve`."""
    workers = server.workers()
    victim = chance.choice([server.pid, None, *(worker.pid for worker in workers)])
    if victim is not None:
        os.kill(victim, signal.SIGKILL)
    server.kill()


def seed_of_the_run() -> int:
    seed = int(os.environ.get("TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"seed {seed}: repeat with TEST_SEED={seed}")  # pytest shows it when the test fails
    return seed


def survive(
    folder: Path,
    rounds: int,
    start: Callable[[str | None], processes.Server],
    kill: Callable[[processes.Server, random.Random], None],
) -> Counts:
    seed = seed_of_the_run()
    chance = random.Random(seed)
    counts = Counts()
    writers = [Writer(f"W{number}", random.Random(f"{seed}-{number}"), counts) for number in range(WRITERS)]
    token: str | None = None
    for number in range(rounds + 1):
        server = start(token)
        try:
            token = server.token
            load.check(writers, server.api())
            load.verify(server.api(), folder)
            if number == rounds:
                break
            _, threads = load.run(writers, server.api())
            # A moment after so many acts: some among the first requests, most while all writers are busy.
            load.wait_for_acts(counts, chance.choice([0, 15, 15, 40]), threads)
            time.sleep(chance.random() * 0.05)
            kill(server, chance)
            load.join(threads)
        finally:
            server.end()
    print(f"{rounds} kills: {counts}")
    return counts


def survive_as_embedded_lab(folder: Path, rounds: int) -> Counts:
    log = folder.with_name("embedded.log")
    return survive(folder, rounds, lambda token: processes.start_embedded(folder, log), kill_everything)


def survive_as_served_lab(folder: Path, rounds: int, workers: int) -> Counts:
    return survive(folder, rounds, lambda token: processes.start_served(folder, token=token, workers=workers), kill_some)


def test_what_an_embedded_lab_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    counts = survive_as_embedded_lab(tmp_path / "lab", rounds=4)

    assert counts.cut_off > 0


def test_what_a_served_lab_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    counts = survive_as_served_lab(tmp_path / "lab", rounds=3, workers=2)

    assert counts.cut_off > 0


def found_and_kill(folder: Path, rounds: int) -> None:
    """Kill the child at random moments while it makes a folder a lab, then let it finish."""
    seed = seed_of_the_run()
    chance = random.Random(seed)
    for number in range(rounds):
        one = folder / str(number)
        for _ in range(2):
            server = processes.spawn_embedded(one, folder / "embedded.log")
            # From the first import to the first answer; what it does to the folder comes late.
            time.sleep(chance.uniform(0.2, 1.2))
            server.end()
        with processes.embedded(one) as server:
            server.api().put("a.bin", b"a")
            assert load.read_all(server.api()) == {"a.bin": b"a"}
            load.verify(server.api(), one)


def test_a_child_that_is_killed_while_it_founds_a_lab_leaves_one_that_can_be_opened(tmp_path: Path) -> None:
    found_and_kill(tmp_path, rounds=2)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_founding_a_lab_survives_many_kills(tmp_path: Path) -> None:
    found_and_kill(tmp_path, rounds=30)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_embedded_lab_survives_many_kills(tmp_path: Path) -> None:
    counts = survive_as_embedded_lab(tmp_path / "lab", rounds=50)

    assert min(counts.puts, counts.batches, counts.deletes, counts.cut_off) > 20


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_served_lab_survives_many_kills(tmp_path: Path, workers: int) -> None:
    counts = survive_as_served_lab(tmp_path / "lab", rounds=50, workers=workers)

    assert min(counts.puts, counts.batches, counts.deletes, counts.cut_off) > 20
