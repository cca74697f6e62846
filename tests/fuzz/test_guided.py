"""The targets of the guided fuzzing, without the guide: what they are given to begin with, and a few damages of it."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from tests.fuzz import guided
from tests.fuzz.test_parsers import mutated

DAMAGES = 40


@pytest.fixture(scope="module")
def targets() -> Mapping[str, guided.Target]:
    return guided.targets()


@pytest.mark.parametrize("name", guided.NAMES)
def test_only_errors_of_our_own_come_out(targets: Mapping[str, guided.Target], name: str) -> None:
    chance = random.Random(name)
    seeds = list(guided.seeds(name))

    for data in (*seeds, b"", *(mutated(chance.choice(seeds), chance) for _ in range(DAMAGES))):
        guided.tried(targets[name], data)


def test_every_name_is_that_of_a_target(targets: Mapping[str, guided.Target]) -> None:
    assert sorted(targets) == sorted(guided.NAMES)
