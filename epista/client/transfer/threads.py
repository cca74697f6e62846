"""A few files at a time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from epista.client.transfer.progress import Progress

_AT_A_TIME = 6

_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


def each(
    work: Callable[[_Item], _Outcome], items: Sequence[_Item], progress: Progress
) -> Generator[tuple[_Item, Future[_Outcome]]]:
    """
    Do *work* for each item, a few at a time, and give the outcomes as they come.

    Closing it early, by an error or Ctrl-C, stops the transfers under way at their next piece and waits for them, so that
    nothing happens behind the caller's back.
    """
    with ThreadPoolExecutor(max_workers=min(_AT_A_TIME, len(items) or 1), thread_name_prefix="epista-transfer") as pool:
        futures = {pool.submit(work, item): item for item in items}
        finished = False
        try:
            for future in as_completed(futures):
                yield futures[future], future
            finished = True
        finally:
            if not finished:
                progress.stop()
                pool.shutdown(wait=False, cancel_futures=True)
