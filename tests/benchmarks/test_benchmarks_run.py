"""The benchmarks run, and measure what they say. Times are never asserted."""

from __future__ import annotations

from tests.benchmarks import starting


def test_the_measurement_of_starting_runs() -> None:
    found = starting.measure(rounds=1)

    assert set(found["seconds"][0]) == {"bare interpreter", "import epista", "open a lab, first answer"}
    assert set(found["median_beyond_bare_seconds"]) == {"import epista", "open a lab, first answer"}
