"""Blobs in memory, gone with the process: for tests, and the plainest form of what a store does."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from epista.server.stores.blobs import CHUNK, Found, Stored, checked, cut_short, missing, new_name


class MemoryBlobs:
    """Objects as bytes in a dict."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}

    def create(self, *, size: int | None = None) -> _Incoming:
        """Begin a new object."""
        return _Incoming(self._objects)

    def read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield a part of an object, as `BlobStore.read` says."""
        data, _ = self._objects.get(checked(object), (None, 0.0))
        if data is None:
            raise missing()
        for at in range(start, stop, CHUNK):
            if at >= len(data):
                raise cut_short()
            yield data[at : min(at + CHUNK, stop)]
        if len(data) < stop:
            raise cut_short()

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""
        self._objects.pop(checked(object), None)

    def objects(self) -> Iterator[Found]:
        """Walk over all objects."""
        return iter([Found(name, len(data), modified) for name, (data, modified) in self._objects.copy().items()])

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Nothing is left behind: what comes in belongs to whoever sends it."""
        return 0, 0

    def path(self, object: str) -> Path | None:
        """There are no files."""
        return None

    def link(self, object: str, *, name: str, media_type: str, seconds: int) -> str | None:
        """There are no addresses."""
        return None


class _Incoming:
    def __init__(self, objects: dict[str, tuple[bytes, float]]) -> None:
        self._objects = objects
        self._pieces: list[bytes] | None = []
        self._guard = threading.Lock()
        self.name = new_name()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        with self._guard:
            self.size += len(data)
            if self._pieces is not None:
                self._pieces.append(bytes(data))

    def finish(self) -> Stored:
        with self._guard:
            data = b"".join(self._pieces or ())
            self._objects[self.name] = data, time.time()
            self._pieces = None
        return Stored(self.name, hashlib.sha256(data).hexdigest(), len(data))

    def discard(self) -> None:
        with self._guard:
            self._pieces = None
