"""
How long things take to start, in fresh processes, beside a bare interpreter that is timed in the same round.

``import epista`` (goal: under 120 ms) and ``Workspace("./lab")`` to the first answered verb (goal: under 1 s).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any

_CASES = {
    "bare interpreter": "pass",
    "import epista": "import epista",
    "open a lab, first answer": "import epista; epista.Workspace({lab!r}).keys()",
}


def measure(rounds: int) -> dict[str, Any]:
    """Return the seconds of each case in each round, and their medians beyond the bare interpreter of the same round."""
    with tempfile.TemporaryDirectory() as folder:
        cases = {name: source.format(lab=f"{folder}/lab") for name, source in _CASES.items()}
        _run(cases.values())  # the first round compiles, makes the lab and fills caches; it is not counted
        times = [dict(zip(cases, _run(cases.values()), strict=True)) for _ in range(rounds)]
    bare = [one["bare interpreter"] for one in times]
    beyond = {
        name: statistics.median(one[name] - base for one, base in zip(times, bare, strict=True))
        for name in cases
        if name != "bare interpreter"
    }
    medians = {name: statistics.median(one[name] for one in times) for name in cases}
    return {"seconds": times, "median_seconds": medians, "median_beyond_bare_seconds": beyond}


def _run(sources: Iterable[str]) -> list[float]:
    seconds = []
    for source in sources:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", source], check=True)
        seconds.append(time.perf_counter() - began)
    return seconds
