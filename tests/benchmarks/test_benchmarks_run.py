"""Every benchmark runs, at toy size, and measures what it says. Times are never asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import rounds, rows
from tests.benchmarks.__main__ import GROUPS, measure
from tests.benchmarks.rounds import Absent, Record
from tests.benchmarks.rows import ROWS


@pytest.mark.parametrize("group", GROUPS)
def test_every_benchmark_runs(group: str, tmp_path: Path) -> None:
    found = measure(group, 1, "toy", tmp_path)

    assert found["failed"] == [], found["missing"]
    assert found["limits"].keys() == {"sha256", "memcpy", "cp + fsync", "4 KiB append + fdatasync", "loopback"}
    for row in found["rows"]:
        missing = [name for name in (row["ours"], row["theirs"]) if name in found["missing"]]
        # A peer that is not installed leaves its rows empty, with the reason; ours is always there.
        assert row["ours"] not in found["missing"]
        assert row["median"] is not None or (missing and row["reason"] == found["missing"][missing[0]])


def test_every_goal_has_a_row_and_every_row_a_benchmark() -> None:
    assert list(dict.fromkeys(int(row.number) for row in ROWS)) == list(range(1, 26))
    assert {row.group for row in ROWS} == set(GROUPS)
    assert all(any(row.goal is not None for row in ROWS if row.number == str(number)) for number in range(1, 26))


def test_a_round_compares_only_turns_of_its_own_and_the_first_does_not_count() -> None:
    ours, theirs = iter([9.0, 1.0, 2.0]), iter([9.0, 2.0, 8.0])
    order: list[str] = []

    def epista() -> rounds.Figures:
        order.append("ours")
        return {"seconds": next(ours)}

    def peer() -> rounds.Figures:
        order.append("theirs")
        return {"seconds": next(theirs)}

    record = rounds.run({"epista fetch": epista, "nginx + curl": peer}, 2)
    (row,) = [row for row in ROWS if (row.what, row.against) == ("fetch 1 GiB, verified", "nginx + curl")]

    judged = rows.judge(row, record)

    assert (judged["values"], judged["median"], judged["lowest"], judged["highest"]) == ([2.0, 4.0], 3.0, 2.0, 4.0)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_peer_that_is_missing_or_breaks_leaves_its_rows_empty_with_the_reason() -> None:
    def breaks() -> rounds.Figures:
        raise OSError("no space")

    record = rounds.run({"epista fetch": lambda: {"seconds": 1.0}, "s5cmd get": breaks, "boto3 get": Absent("not here")}, 1)
    judged = {row.theirs: rows.judge(row, record) for row in ROWS if row.ours == "epista fetch" and row.group == "transfer"}

    assert record.failed == {"s5cmd get"}
    assert (judged["s5cmd get"]["median"], judged["s5cmd get"]["reason"]) == (None, "OSError: no space")
    assert (judged["boto3 get"]["median"], judged["boto3 get"]["reason"]) == (None, "not here")


def test_ours_may_not_fail() -> None:
    def breaks() -> rounds.Figures:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        rounds.run({"epista fetch": breaks}, 1)


def test_a_goal_is_met_or_missed_by_the_median() -> None:
    record = Record(turns={"epista fetch": [{"seconds": 1.0}], "nginx + curl + sha256sum": [{"seconds": 0.5}]})
    (row,) = [row for row in ROWS if row.theirs == "nginx + curl + sha256sum"]

    assert rows.judge(row, record)["is_met"] is False
