"""No number of the acceptance list is forgotten."""

from __future__ import annotations

import re
from pathlib import Path

ELSEWHERE = {
    64,  # compares SQLite with PostgreSQL: tests/server/stores/search/test_search.py
}


def test_every_item_of_the_acceptance_list_has_a_test_named_for_it() -> None:
    here = Path(__file__).parent
    tests = [name for file in here.glob("test_*.py") for name in re.findall(r"^def test_(\d\d)_\w+", file.read_text(), re.M)]

    assert {int(name) for name in tests} == set(range(1, 80)) - ELSEWHERE
