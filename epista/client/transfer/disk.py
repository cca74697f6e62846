"""The few calls to the local disk that both directions share."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from typing import IO, TYPE_CHECKING

from epista.contract.errors import EpistaError, StorageFullError, TransferError

try:
    import fcntl

    _can_lock = True
except ImportError:  # Windows
    _can_lock = False

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_seeking = threading.Lock()
_FICLONE = 0x40049409  # linux/fs.h


def clone(source: io.FileIO, sink: io.FileIO) -> bool:
    """Make *sink* share the blocks of *source* until either changes; False where the file system cannot do that."""
    if not _can_lock:
        return False
    try:
        fcntl.ioctl(sink.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def lock(file: io.FileIO) -> bool:
    """Take *file* for this writer alone until it is closed; False if another one has it."""
    if not _can_lock:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def wait_for(file: io.FileIO) -> None:
    """Take *file* for this process alone until it is closed, after whoever has it."""
    if _can_lock:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)


def read_at(file: io.FileIO, start: int, size: int) -> bytes:
    """Return *size* bytes from *start* on, fewer at the end of the file; for any number of threads."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, start)
    with _seeking:  # Windows
        file.seek(start)
        return file.read(size)


def write(sink: io.FileIO | io.BytesIO, piece: bytes | memoryview) -> None:
    """Write the whole *piece*; one write to an unbuffered file may take less."""
    written = sink.write(piece)
    if written < len(piece):
        rest = memoryview(piece)
        while rest := rest[written:]:
            written = sink.write(rest)


def write_all(fd: int, data: bytes) -> None:
    """Write the whole of *data* to an open file."""
    written = os.write(fd, data) if data else 0
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def size_of(path: Path) -> int:
    """Return the size of a file for a progress bar: 0 for one that cannot be asked, which is found out soon enough."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[IO[bytes]]:
    """Give a file beside *target*, which takes its place when all went well, and is gone otherwise."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.epista-part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise explain(error, target) from error
    finally:
        part.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> EpistaError:
    """Return what a failure of the local disk is to a user of Epista."""
    if error.errno in _FULL:
        return StorageFullError(f"no room left for '{path}'", hint="make room, and run it again")
    return TransferError(f"'{path}': {error.strerror or error}")
