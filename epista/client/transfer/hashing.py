"""sha256 beside the stream it is computed from."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

PIECE_BYTES = 1024 * 1024
"""How much is read, hashed and written at a time."""

_THREAD_FROM_BYTES = 4 * PIECE_BYTES
_WAITING_PIECES = 3


class Digest:
    """
    The sha256 of a stream (FIPS 180-4), computed on a thread of its own when the stream is long.

    Hashing is the largest cost of a transfer; beside the stream it runs while the next piece is awaited.
    """

    def __init__(self, expected_bytes: int) -> None:
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._pieces: queue.Queue[bytes | None] = queue.Queue(maxsize=_WAITING_PIECES)
        self._thread: threading.Thread | None = None
        if expected_bytes >= _THREAD_FROM_BYTES:
            self._thread = threading.Thread(target=self._drain, name="epista-sha256", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, piece: bytes) -> None:
        """Take the next piece of the stream, which must not change afterwards."""
        self.size_bytes += len(piece)
        if self._thread is None:
            self._hash.update(piece)
        else:
            self._pieces.put(piece)

    def hexdigest(self) -> str:
        """Return the sha256 of all pieces so far; later ones are hashed without the thread."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._thread is not None:
            self._pieces.put(None)
            self._thread.join()
            self._thread = None

    def _drain(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._hash.update(piece)
