"""
Paired rounds: everybody takes a turn in each round, in rotating order, and is compared within that round only.

The first round warms caches, connections and servers, and is thrown away. A contestant times itself, because only it knows
what belongs inside the clock.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Figures = dict[str, float]
"""What one turn measured, by name: ``seconds`` and, where asked, memory, CPU or rates."""

Contestant = Callable[[], Figures]
"""One turn."""


class Absent(NamedTuple):
    """A contestant that cannot take part."""

    reason: str
    """Why not, for the reader of the results."""


@dataclass
class Record:
    """Every turn of every contestant of one group, and who was missing."""

    turns: dict[str, list[Figures]] = field(default_factory=dict)
    """One for each round, in their order."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why, by name."""
    failed: set[str] = field(default_factory=set)
    """Those of the missing that were there, and broke down."""
    load: tuple[float, float] = (0.0, 0.0)
    """The machine's load before and after."""


def run(contestants: Mapping[str, Contestant | Absent], rounds: int, say: Callable[[str], None] = lambda line: None) -> Record:
    """Run *rounds* rounds after one that does not count. A peer that fails is out, with the reason; ours must not fail."""
    record = Record()
    playing: dict[str, Contestant] = {}
    for name, contestant in contestants.items():
        if isinstance(contestant, Absent):
            record.missing[name] = contestant.reason
        else:
            playing[name] = contestant
    before = os.getloadavg()[0]
    for number in range(rounds + 1):
        names = list(playing)
        for name in _rotated(names, number):
            try:
                figures = playing[name]()
            except Exception as error:
                if name.startswith("epista"):
                    raise
                record.missing[name] = f"{type(error).__name__}: {error}"[:300]
                record.failed.add(name)
                record.turns.pop(name, None)
                del playing[name]
                continue
            if number:
                record.turns.setdefault(name, []).append(figures)
            told = ", ".join(f"{figure} {value:.6g}" for figure, value in figures.items())
            say(f"  {'round ' + str(number) if number else 'warm-up'}: {name}: {told}")
    record.load = (before, os.getloadavg()[0])
    return record


@contextmanager
def clock() -> Iterator[Figures]:
    """Time the block into ``seconds`` of what it gives."""
    figures: Figures = {}
    began = time.perf_counter()
    yield figures
    figures["seconds"] = time.perf_counter() - began


def middle(act: Callable[[], Any], times: int) -> Figures:
    """Time *act* that many times by itself and return the median in milliseconds as ``p50_ms``."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return {"p50_ms": statistics.median(taken) * 1000}


def _rotated(names: Sequence[str], by: int) -> list[str]:
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]
