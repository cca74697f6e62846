"""Reindexing: words of contents are read again where a newer extractor finds others; for managers of the lab."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from epista.client.audit import PATIENCE_SECONDS
from epista.contract import reindexing as wire

if TYPE_CHECKING:
    from epista.client.session import Session

BUSY_SECONDS = 1.0
"""How long to wait while somebody else is at it."""


def get(here: Session, *, formats: Iterable[str] = ()) -> wire.Reindexing:
    """Tell how far the words of each format are, or of some *formats*."""
    found = here.wire.call("reindexing.get", wire.ShowReindexing(), reply=wire.Reindexing, read_seconds=PATIENCE_SECONDS)
    wanted = set(formats) or {one.format for one in found.formats}
    return msgspec.structs.replace(found, formats=tuple(one for one in found.formats if one.format in wanted))


def run(here: Session, *, formats: Iterable[str] = (), again: bool = False) -> Iterator[wire.Reindexed]:
    """Have words read again, until all are current, some at a time; *again* those that are current, too."""
    wanted = wire.RunReindexing(formats=tuple(formats), again=again)
    while True:
        step = here.wire.call("reindexing.run", wanted, reply=wire.Reindexed, read_seconds=PATIENCE_SECONDS)
        yield step
        if step.is_done:
            return
        wanted = msgspec.structs.replace(wanted, again=False)
        if step.format is None:
            time.sleep(BUSY_SECONDS)
