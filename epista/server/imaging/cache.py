"""Decoded tiles, the latest used of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from numpy.typing import NDArray

MAX_BYTES = 32 * 1024**2


class TileCache:
    """
    Up to *max_bytes* of decoded tiles, for any number of images and threads; the least recently used go first.

    Its lock is held while a dictionary is looked into, never while anything is read or decoded: two threads that want a tile
    at once both decode it.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._tiles: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Return a tile, not to be written to, or None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: Hashable, tile: NDArray[Any]) -> None:
        """Keep a tile, unless it alone is more than may be kept."""
        if tile.nbytes > self._max_bytes:
            return
        with self._lock:
            former = self._tiles.pop(key, None)
            self._size_bytes += tile.nbytes - (former.nbytes if former is not None else 0)
            self._tiles[key] = tile
            while self._size_bytes > self._max_bytes:
                self._size_bytes -= self._tiles.popitem(last=False)[1].nbytes
