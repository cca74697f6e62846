"""A lab that fails on demand, without long waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from epista.client.session import Session
from epista.client.transfer import download
from tests.client.transfer import faulty
from tests.client.transfer.faulty import Lab


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lab, Session]]:
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(download, "STALL_SECONDS", 0.3)
    with faulty.running() as both:
        yield both


@pytest.fixture
def lab(both: tuple[Lab, Session]) -> Lab:
    return both[0]


@pytest.fixture
def here(both: tuple[Lab, Session]) -> Session:
    return both[1]
