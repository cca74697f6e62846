"""
Where an image's bytes come from: a source gives several ranges at once, as `bytes`, and may be asked from many threads.

A range is (offset, size) and lies within the source. A packed blob is a `Part` of the object that holds it.
"""

from __future__ import annotations

import bisect
import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import urllib3

from epista.contract.errors import UnavailableError, UnreadableImageError

BLOCK_BYTES = 256 * 1024
"""What a `Blocks` fetches at once."""

_BLOCKS = 16
_GAP_BYTES = 32 * 1024
_JOINED_BYTES = 4 * 1024**2
_CONNECTIONS = 8
_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)
_PAUSES_SECONDS = (0.2, 0.8, 0.0)
_PASSING = (429, 500, 502, 503, 504)


class Source(Protocol):
    """The bytes of one blob."""

    size: int
    """How many there are."""

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """
        Return the bytes of each range, in the order asked.

        Raises:
            UnreadableImageError: there are fewer.
            UnavailableError: the store does not answer.
        """


class FileWantedError(Exception):
    """An image can only be read where it is a file of its own on this machine."""


class File:
    """A local file. Close it when done."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = io.FileIO(path, "rb")
        found = os.fstat(self._file.fileno())
        self.size = found.st_size
        self.stamp = found.st_ino, found.st_size, found.st_mtime_ns
        """Another one means another file, or other bytes."""
        self._handles = threading.local()

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range, in the order asked."""
        return [_whole(self._read(offset, size), size) for offset, size in ranges]

    def duplicate(self) -> int:
        """Return another descriptor of the file, to be closed by whoever has it."""
        return os.dup(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        # Windows has no pread: a handle for each thread, so that nobody moves another's position.
        handle: io.FileIO | None = getattr(self._handles, "file", None)
        if handle is None:
            handle = self._handles.file = io.FileIO(self.path, "rb")
        handle.seek(offset)
        return handle.read(size)


class Link:
    """
    An object of a store behind a link that grants reading, by ranged GETs. Close it when done.

    Neighbours are fetched together, and several requests run at once. The link is a secret: no error names it.
    """

    def __init__(self, url: str, size: int) -> None:
        self.size = size
        self._url = url
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, block=True, timeout=_TIMEOUT, retries=False)
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="image-link")

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range, in the order asked."""
        spans = list(_joined(ranges))
        fetched = list(self._threads.map(self._get, spans)) if len(spans) > 1 else [self._get(span) for span in spans]
        starts = [start for start, _ in spans]
        return [_cut(fetched, starts, offset, size) for offset, size in ranges]

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._pool.clear()

    def _get(self, span: tuple[int, int]) -> bytes:
        offset, size = span
        if not size:
            return b""
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity"}
        problem = ""
        for pause in _PAUSES_SECONDS:
            try:
                # Not followed: a link leads to the store, and a redirect could lead anywhere.
                with self._pool.request("GET", self._url, headers=headers, preload_content=False, redirect=False) as answer:
                    if answer.status == 206:
                        return _whole(answer.read(size), size)
                    problem = f"the store answered {answer.status} to a request for a part of the image"
                    if answer.status not in _PASSING:
                        break
            except urllib3.exceptions.HTTPError:
                problem = "the store did not send a part of the image"
            time.sleep(pause)
        # Without its cause, which has the link in it.
        raise UnavailableError(problem, hint="try again in a moment")


class Part:
    """A part of another source."""

    def __init__(self, whole: Source, offset: int, size: int) -> None:
        self.size = size
        self.whole = whole
        self.offset = offset

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range, in the order asked."""
        for offset, size in ranges:
            # Beyond its end lies somebody else's blob.
            if offset < 0 or size < 0 or offset + size > self.size:
                raise UnreadableImageError("the image ends before the bytes that were asked for")
        return self.whole.read([(self.offset + offset, size) for offset, size in ranges])


class Blocks:
    """
    A source as a file, for parsers; not for several threads.

    It has no `fileno`: who finds one may open other files beside it. At most *budget* bytes are handed out; then every
    read fails, and `is_spent` says so, for parsers that catch errors of their own.
    """

    def __init__(self, source: Source, *, budget: int) -> None:
        self.is_spent = False
        self._source = source
        self._budget = budget
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._source.size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size > self._budget:
            self.is_spent = True
            raise UnreadableImageError("the image has more headers than may be read")
        self._budget -= size
        if not size:
            return b""
        first, last = self._at // BLOCK_BYTES, (self._at + size - 1) // BLOCK_BYTES
        if last - first >= _BLOCKS:
            data = self._source.read([(self._at, size)])[0]
        else:
            data = b"".join(self._fetch(range(first, last + 1)))[self._at - first * BLOCK_BYTES :][:size]
        self._at += size
        return data

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        data = self.read(len(into))
        into[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Forget what was read."""
        self._blocks.clear()

    def _fetch(self, numbers: range) -> list[bytes]:
        missing = [number for number in numbers if number not in self._blocks]
        starts = [number * BLOCK_BYTES for number in missing]
        ranges = [(start, min(BLOCK_BYTES, self._source.size - start)) for start in starts]
        new = dict(zip(missing, self._source.read(ranges) if ranges else (), strict=True))
        found = [new[number] if number in new else self._blocks[number] for number in numbers]
        for number, block in zip(numbers, found, strict=True):
            self._blocks[number] = block
            self._blocks.move_to_end(number)
        while len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
        return found


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover all of *ranges*, in order, with small gaps read along."""
    start = end = -1
    for offset, size in sorted(ranges):
        if start >= 0 and offset <= end + _GAP_BYTES and (offset + size <= end or offset + size - start <= _JOINED_BYTES):
            end = max(end, offset + size)
            continue
        if start >= 0:
            yield start, end - start
        start, end = offset, offset + size
    if start >= 0:
        yield start, end - start


def _cut(fetched: Sequence[bytes], starts: Sequence[int], offset: int, size: int) -> bytes:
    """Return a range out of the spans that cover it."""
    # Of several spans that begin at one place, as ranges that overlap can make, the last is the longest.
    which = bisect.bisect_right(starts, offset) - 1
    return fetched[which][offset - starts[which] :][:size]


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise UnreadableImageError("the image ends before the bytes that were asked for")
    return data
