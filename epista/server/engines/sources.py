"""One blob of a file of this machine, as those take it who read it in a child."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

HEAD_BYTES = 4 * 1024**2
"""How much of a file is read, and how much of a gzipped one is unpacked."""

CHUNK_BYTES = 64 * 1024


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One blob to read."""

    path: bytes
    """The local file that holds it."""
    offset: int
    """Where in the file it begins."""
    size: int
    """How many bytes it has."""
    format: str
    """One of `EXTRACTORS`."""
    gzipped: bool
    """Whether the bytes are gzip around the format."""
    options: dict[str, str]
    """``sep`` and ``encoding``, where recorded."""


class Range(io.RawIOBase):
    """The bytes of one job's blob as a file."""

    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._size - self._at)
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(memoryview(buffer)[:left]) or 0
        self._at += count
        return count


class Source:
    """One blob, in the shapes that extractors ask for."""

    def __init__(self, job: Job, file: io.FileIO) -> None:
        self.options: Mapping[str, str] = job.options
        self.is_gzipped = job.gzipped
        self._size = job.size
        self._range = Range(file, job.offset, job.size)

    def head(self, limit: int = HEAD_BYTES) -> bytes:
        """Return the first *limit* bytes, unpacked."""
        head = b"".join(chunks(self._range.read, min(limit, self._size)))
        if not self.is_gzipped:
            return head
        # The packed bytes are bounded too: a file of nothing but empty gzip members unpacks to nothing, for ever.
        with gzip.GzipFile(fileobj=io.BytesIO(head)) as unpacked:
            return b"".join(chunks(unpacked.read1, limit))

    def text(self) -> str:
        """Return the head as text, in the recorded encoding or the likeliest one."""
        return decode(self.head(), self.options.get("encoding"))

    def file(self) -> io.RawIOBase | io.BytesIO:
        """Return the whole as a file; of a gzipped one, its head."""
        return io.BytesIO(self.head()) if self.is_gzipped else self._range


def chunks(read: Callable[[int], bytes | None], limit: int) -> Iterator[bytes]:
    try:
        while limit > 0 and (chunk := read(min(limit, CHUNK_BYTES))):
            limit -= len(chunk)
            yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return  # a gzip that is cut or damaged: what came before counts


_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(head: bytes, recorded: str | None) -> str:
    if recorded:
        try:
            return head.decode(recorded, "replace")
        except (LookupError, UnicodeError):
            pass  # no such encoding, or one without "replace"
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return head.decode(encoding, "replace")
    # Text in a Latin alphabet as UTF-16 has NUL for every other byte.
    sample = head[:1024]
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        if sample[first::2].count(0) * 4 > len(sample):
            return head.decode(encoding, "replace")
    try:
        # Not final: the head may end within a character.
        return codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return head.decode("cp1252", "replace")
