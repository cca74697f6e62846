"""How many requests one token may make: a bucket that fills evenly over the minute, in this process only."""

from __future__ import annotations

import math
import threading
import time

from epista.contract.errors import RateLimitError

_MOST_BUCKETS = 10_000


class RateLimit:
    """Token buckets by whoever asks."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}
        self._guard = threading.Lock()

    def take(self, who: str) -> None:
        """
        Count one request of *who*.

        Raises:
            RateLimitError: too many; says how long to wait.
        """
        if not self._per_minute:
            return
        now = time.monotonic()
        with self._guard:
            if len(self._buckets) > _MOST_BUCKETS:
                # Full buckets say nothing; drop them so that unknown callers cannot fill the memory.
                self._buckets = {name: (level, at) for name, (level, at) in self._buckets.items() if now - at < 60}
            level, at = self._buckets.get(who, (float(self._per_minute), now))
            level = min(self._per_minute, level + (now - at) * self._per_minute / 60)
            if level < 1:
                wait = math.ceil((1 - level) * 60 / self._per_minute)
                raise RateLimitError(
                    f"more than {self._per_minute} requests in a minute",
                    hint=f"wait {wait} s",
                    details={"retry_after_seconds": wait},
                )
            self._buckets[who] = (level - 1, now)
