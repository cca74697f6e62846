"""The bytes of a version as a file that can be read and sought in, without bringing all of it here."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from typing import TYPE_CHECKING

from epista.client.transfer.download import expected, stream
from epista.client.transfer.hashing import PIECE_BYTES
from epista.client.transfer.progress import Progress
from epista.contract.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

    from epista.client.session import Session
    from epista.client.transfer.download import Pinned


def opened(here: Session, wanted: Pinned, start: int, stop: int) -> io.BufferedReader:
    """Return bytes *start* up to *stop* of a version as a stream, which reads ahead by one piece."""
    return io.BufferedReader(_Remote(here, wanted, start, stop), buffer_size=PIECE_BYTES)


class _Remote(io.RawIOBase):
    """
    Reads by range. What is read from the first to the last byte in order is verified at its end; other reads cannot be.
    """

    def __init__(self, here: Session, wanted: Pinned, start: int, stop: int) -> None:
        super().__init__()
        self.name = wanted.key
        self._here = here
        self._wanted = wanted
        self._start = start
        self._stop = stop
        self._at = start
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._stop}
        if whence not in origins:
            raise ValueError(f"whence is 0, 1 or 2, not {whence!r}")
        at = origins[whence] + offset
        if at < self._start:
            raise ValueError(f"position {at - self._start} is before the beginning")
        self._at = at
        return self.tell()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        stop = min(self._at + len(view), self._stop)
        filled = 0
        for piece in self._arriving(stop):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def readall(self) -> bytes:
        # One request for all of it; what io does on its own is one for every few kilobytes.
        rest = io.BytesIO()
        for piece in self._arriving(self._stop):
            rest.write(piece)
        return rest.getvalue()

    def _arriving(self, stop: int) -> Iterator[bytes]:
        with contextlib.closing(stream(self._here, self._wanted, self._at, stop, Progress())) as pieces:
            for piece in pieces:
                if self._at == self._hashed_bytes:
                    self._verify(piece)
                self._at += len(piece)
                yield piece

    def _verify(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._hashed_bytes += len(piece)
        is_whole = self._hashed_bytes == self._wanted.size_bytes
        if is_whole and self._hash.hexdigest() != expected(self._here, self._wanted, self._hash.hexdigest()):
            raise IntegrityError(f"the bytes that were read of {self.name!r} do not have the sha256 that was recorded")
