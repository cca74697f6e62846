"""What was decoded or drawn, the latest used of it. Pure: whatever a cache keeps, it only asks how large it is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

MAX_BYTES = 32 * 1024**2

_T = TypeVar("_T")


class Cache(Generic[_T]):
    """
    Up to *max_bytes* of what *size_of* measures, for any number of threads; the least recently used go first.

    Its lock is held while a dictionary is looked into, never while anything is read, decoded or drawn: two threads that want
    the same at once both make it.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_T], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._size_bytes = 0
        self._kept: OrderedDict[Hashable, _T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _T | None:
        """Return what is kept, not to be written to, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, one: _T) -> None:
        """Keep something, unless it alone is more than may be kept."""
        size = self._size_of(one)
        if size > self._max_bytes:
            return
        with self._lock:
            former = self._kept.pop(key, None)
            self._size_bytes += size - (self._size_of(former) if former is not None else 0)
            self._kept[key] = one
            while self._size_bytes > self._max_bytes:
                self._size_bytes -= self._size_of(self._kept.popitem(last=False)[1])


class TileCache(Cache[Any]):
    """Decoded tiles, which are arrays, of any number of images."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(max_bytes, lambda tile: tile.nbytes)
