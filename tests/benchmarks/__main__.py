"""``python -m tests.benchmarks --rounds 10 --out results.json``."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

from tests.benchmarks import starting


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    found = starting.measure(given.rounds)
    machine = {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"medians of {given.rounds} fresh processes")
    for name, seconds in found["median_seconds"].items():
        beyond = found["median_beyond_bare_seconds"].get(name, 0.0)
        print(f"{name:<28}{seconds * 1000:8.0f} ms, {beyond * 1000:6.0f} ms beyond the bare interpreter of the same round")
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n", encoding="utf-8")


main()
