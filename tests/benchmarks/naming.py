"""How long names of sessions take to be read: different ones, raw and derived, of AIND's conventions old and new."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from epista import naming
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale

NAMES = 10_000
PLATFORMS = ("ecephys", "behavior", "SmartSPIM", "multiplane-ophys")


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return the reading of all names, one by one."""
    names = [_name(number) for number in range(NAMES)]

    def turn() -> Figures:
        with clock() as found:
            began = time.process_time()
            read = [naming.parse(name) for name in names]
            found["cpu_seconds"] = time.process_time() - began
        assert [parsed.canonical for parsed in read] == names, "every name is read"
        return found

    return {"epista parse": turn}


def _name(number: int) -> str:
    started = datetime(2016, 1, 1) + timedelta(seconds=number * 30_011)
    name = f"{100_000 + number * 7 % 900_000}_{started:%Y-%m-%d_%H-%M-%S}"
    if number % 5 < 3:
        name = f"{PLATFORMS[number % len(PLATFORMS)]}_{name}"
    if number % 2:
        name += f"_sorted_{started + timedelta(days=3):%Y-%m-%d_%H-%M-%S}"
    return name
