"""fsspec's own suite, on a server and in an embedded lab."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

import epista
from epista.client.filesystem import EpistaFileSystem


class Fixtures(AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    """Where the suite works, and what a bucket has not."""

    @pytest.fixture
    def fs(self, ws: epista.Workspace) -> Iterator[EpistaFileSystem]:
        yield EpistaFileSystem(session=ws)
        EpistaFileSystem.clear_instance_cache()

    @pytest.fixture
    def fs_path(self) -> str:
        return "EXP-1/of the suite"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(Fixtures, AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGet(Fixtures, AbstractGetTests):  # type: ignore[misc]
    pass


class TestPut(Fixtures, AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpen(Fixtures, AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipe(Fixtures, AbstractPipeTests):  # type: ignore[misc]
    pass


def test_every_part_of_the_suite_is_run() -> None:
    import fsspec.tests.abstract as suite

    parts = {name for name in vars(suite) if name.startswith("Abstract") and name.endswith("Tests")}

    assert parts == {base.__name__ for one in (TestCopy, TestGet, TestPut, TestOpen, TestPipe) for base in _bases(one)}


def _bases(one: Any) -> list[type]:
    return [base for base in one.__bases__ if base is not Fixtures]
