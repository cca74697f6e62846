"""A few transfers at a time."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from epista.client.transfer.progress import Progress

AT_A_TIME = 6
"""How many objects that travel alone are under way."""

FRAMES_AT_A_TIME = 2
"""How many frames are under way in one direction: one is made or unpacked while the other travels; more brought nothing."""

_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class Lane(NamedTuple):
    """Work of one sort."""

    work: Callable[[Any], Any]
    items: Sequence[Any]
    at_a_time: int


def each(
    work: Callable[[_Item], _Outcome], items: Sequence[_Item], progress: Progress
) -> Generator[tuple[_Item, Future[_Outcome]]]:
    """Do *work* for each item, a few at a time, as `lanes` does."""
    return lanes([Lane(work, items, AT_A_TIME)], progress)


def lanes(wanted: Sequence[Lane], progress: Progress) -> Generator[tuple[Any, Future[Any]]]:
    """
    Do the work of every lane for each of its items, all lanes at once, and give the outcomes as they come.

    Closing it early, by an error or Ctrl-C, stops the transfers under way at their next piece and waits for them, so that
    nothing happens behind the caller's back.
    """
    with contextlib.ExitStack() as pools:
        futures: dict[Future[Any], Any] = {}
        made: list[ThreadPoolExecutor] = []
        for lane in wanted:
            threads = min(lane.at_a_time, len(lane.items))
            if threads:
                pool = pools.enter_context(ThreadPoolExecutor(max_workers=threads, thread_name_prefix="epista-transfer"))
                made.append(pool)
                futures.update((pool.submit(lane.work, item), item) for item in lane.items)
        finished = False
        try:
            for future in as_completed(futures):
                yield futures[future], future
            finished = True
        finally:
            if not finished:
                progress.stop()
                for pool in made:
                    pool.shutdown(wait=False, cancel_futures=True)
