"""Blobs in memory, gone with the process: for tests, and the plainest form of what a store does."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from epista.contract.errors import UnavailableError
from epista.server.stores.blobs import CHUNK, Address, Found, Stored, checked, cut_short, missing, new_name


class MemoryBlobs:
    """Objects as bytes in a dict."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._unfinished: dict[str, _Unfinished] = {}

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

    def near(self, object: str, start: int, stop: int) -> bytes:
        """Return the next bytes, all of which are near."""
        data, _ = self._objects.get(checked(object), (b"", 0.0))
        return (data or b"")[start : min(start + CHUNK, stop)]

    def size(self, object: str) -> int | None:
        """Return how many bytes an object has; None if it is missing."""
        data, _ = self._objects.get(checked(object), (None, 0.0))
        return None if data is None else len(data)

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""
        self._objects.pop(checked(object), None)

    def objects(self) -> Iterator[Found]:
        """Walk over all objects."""
        return iter([Found(name, len(data), modified) for name, (data, modified) in self._objects.copy().items()])

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Nothing is left behind: what comes in belongs to whoever sends it."""
        return 0, 0

    def begin(self, size: int) -> str:
        """Begin an object that comes in parts."""
        name = new_name()
        self._unfinished[name] = _Unfinished(size)
        return name

    def part(self, unfinished: str, number: int, start: int) -> _Part:
        """Let a part come in."""
        try:
            return _Part(self._unfinished[checked(unfinished)], start)
        except KeyError as error:
            raise missing() from error

    def entrance(self, unfinished: str, number: int, *, size: int, crc32: int, seconds: int) -> Address | None:
        """There are no addresses."""
        return None

    def entered(self, unfinished: str, parts: Mapping[int, tuple[int, int]]) -> dict[int, str]:
        """Nothing comes past this server."""
        return {}

    def peek(self, unfinished: str, start: int, stop: int) -> Generator[bytes, None, None] | None:
        """Yield bytes of finished parts."""
        found = self._unfinished.get(checked(unfinished))
        if found is None:
            raise missing()
        return (bytes(found.data[at : min(at + CHUNK, stop)]) for at in range(start, stop, CHUNK))

    def join(self, unfinished: str, tags: Sequence[str]) -> str:
        """Make one object of finished parts."""
        found = self._unfinished.get(checked(unfinished))
        if found is not None:
            self._objects[unfinished] = bytes(found.data), time.time()
            self._unfinished.pop(unfinished, None)
        elif unfinished not in self._objects:
            raise missing()
        return unfinished

    def abandon(self, unfinished: str) -> None:
        """Remove an unfinished object."""
        self._unfinished.pop(checked(unfinished), None)

    def unfinished(self) -> Iterator[Found]:
        """Walk over all unfinished objects."""
        return iter([Found(name, len(one.data), one.began) for name, one in self._unfinished.copy().items()])

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


class _Unfinished:
    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.began = time.time()
        self.coming: set[int] = set()
        """Where the parts begin that are on their way."""
        self.guard = threading.Lock()


class _Part:
    def __init__(self, whole: _Unfinished, start: int) -> None:
        with whole.guard:
            if start in whole.coming:
                raise UnavailableError("another request sends this part just now", hint="try again in a moment")
            whole.coming.add(start)
        self._whole: _Unfinished | None = whole
        self._start = self._at = start

    def write(self, data: bytes | memoryview) -> None:
        if whole := self._whole:
            whole.data[self._at : self._at + len(data)] = data
            self._at += len(data)

    def finish(self) -> str:
        return str(self._start)

    def discard(self) -> None:
        whole, self._whole = self._whole, None
        if whole:
            with whole.guard:
                whole.coming.discard(self._start)
