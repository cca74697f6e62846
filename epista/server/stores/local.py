"""
Blobs in a local folder.

Written to a temporary name, fsynced, renamed, the folder fsynced; only then may the catalog commit.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from epista.contract.errors import EpistaError, IntegrityError, NotFoundError, StorageFullError, UnavailableError
from epista.server.stores.blobs import CHUNK, Address, Found, Stored, checked, cut_short, missing, new_name

if sys.platform != "win32":
    import fcntl

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What an operating system says when nothing more can be written."""


class LocalIncoming:
    """Bytes on their way into the folder."""

    def __init__(self, store: LocalBlobs, name: str) -> None:
        self._store = store
        self.name = name
        self._fd = os.open(store.staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.sha256()
        self._is_settled = False
        # A request that is cut off discards while its last write may still go on in another thread. Closed under that write, the
        # number of the file could be another file's by then, such as the catalog's.
        self._guard = threading.Lock()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""
        self._hash.update(data)
        self.size += len(data)
        with self._guard, _disk_errors():
            left = memoryview(data)
            while left and self._fd >= 0:
                left = left[os.write(self._fd, left) :]

    def finish(self) -> Stored:
        """Make the bytes durable under their final name."""
        with self._guard, _disk_errors():
            try:
                os.fchmod(self._fd, 0o444)
                os.fsync(self._fd)
            finally:
                self._close()
        self._store._settle(self._store.staging / self.name)
        self._is_settled = True
        return Stored(self.name, self._hash.hexdigest(), self.size)

    def discard(self) -> None:
        """Forget the bytes; does nothing after a `finish` that succeeded."""
        with self._guard:
            self._close()
        if not self._is_settled:
            (self._store.staging / self.name).unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalPart:
    """A part on its way into the file that all parts of an object share."""

    def __init__(self, path: Path, start: int) -> None:
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise missing() from error
        try:
            _lock_part(self._fd, start)
        except OSError as error:
            self._close()
            raise UnavailableError("another request sends this part just now", hint="try again in a moment") from error
        self._at = start
        self._guard = threading.Lock()

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""
        with self._guard, _disk_errors():
            left = memoryview(data)
            while left and self._fd >= 0:
                written = os.pwrite(self._fd, left, self._at)
                left, self._at = left[written:], self._at + written

    def finish(self) -> str:
        """Make the bytes durable."""
        with self._guard, _disk_errors():
            os.fdatasync(self._fd)
        return ""

    def discard(self) -> None:
        """Let go of the part."""
        with self._guard:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalBlobs:
    """Objects as read-only files in two levels of folders."""

    def __init__(self, root: Path) -> None:
        self.root = root / "blobs"
        self.staging = root / "staging"
        self.parts = root / "parts"
        for folder in (self.root, self.staging, self.parts):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._durable: set[Path] = set()

    def create(self, *, size: int | None = None) -> LocalIncoming:
        """Begin a new object."""
        with _disk_errors():
            return LocalIncoming(self, new_name())

    def stage(self) -> tuple[str, Path]:
        """Make an empty file that a process on this machine may copy bytes into; return its name and path."""
        name = new_name()
        path = self.staging / name
        with _disk_errors():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return name, path

    def take(self, stage: str, limit: int) -> Stored:
        """Take in a staged file, of at most *limit* bytes, by hashing the copy that the store now owns."""
        path = self.staging / checked(stage)
        try:
            # O_NOFOLLOW: whoever may write here could have put a link to another file in its place.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(f"nothing is staged as {stage!r}") from error
        try:
            with _disk_errors():
                # No more writes through another opening of the path, and not of a file that has a second name.
                os.fchmod(fd, 0o444)
                if os.fstat(fd).st_nlink != 1:
                    raise IntegrityError("the staged file has a second name; copy into it, never link")
                # The disk writes what the processor reads: beside each other they take the time of the slower one.
                with ThreadPoolExecutor(1, thread_name_prefix="epista-fsync") as beside:
                    synced = beside.submit(os.fsync, fd)
                    digest, size = hashlib.sha256(), 0
                    buffer = memoryview(bytearray(CHUNK))
                    while taken := os.readv(fd, [buffer]):
                        digest.update(buffer[:taken])
                        size += taken
                        if size > limit:
                            break
                    synced.result()
        finally:
            os.close(fd)
        self._settle(path)
        return Stored(stage, digest.hexdigest(), size)

    def path(self, object: str) -> Path:
        """Return the file of an object, for reading only."""
        return self.root / checked(object)[:2] / object

    def read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield a part of an object, as `BlobStore.read` says."""
        return _read(self.path(object), start, stop)

    def near(self, object: str, start: int, stop: int) -> bytearray:
        """Return the next bytes as far as they are in memory, where the operating system tells."""
        piece = bytearray(min(CHUNK, stop - start))
        taken = 0
        if sys.platform == "linux":
            with suppress(OSError):  # EAGAIN: on the disk alone
                fd = os.open(self.path(object), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    taken = os.preadv(fd, [piece], start, os.RWF_NOWAIT)
                finally:
                    os.close(fd)
        del piece[taken:]
        return piece

    def size(self, object: str) -> int | None:
        """Return how many bytes an object has; None if it is missing."""
        try:
            return self.path(object).stat().st_size
        except FileNotFoundError:
            return None

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""
        self.path(object).unlink(missing_ok=True)

    def objects(self) -> Iterator[Found]:
        """Walk over all objects."""
        for folder in self.root.iterdir():
            for file in folder.iterdir():
                try:
                    stat = file.stat()
                except FileNotFoundError:  # removed meanwhile
                    continue
                yield Found(file.name, stat.st_size, stat.st_mtime)

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Remove temporary files older than the grace period; return how many, and their bytes."""
        count = size = 0
        for file in self.staging.iterdir():
            try:
                stat = file.stat()
            except FileNotFoundError:  # taken in meanwhile
                continue
            if time.time() - stat.st_mtime >= grace_seconds:
                count, size = count + 1, size + stat.st_size
                if not dry_run:
                    file.unlink(missing_ok=True)
        return count, size

    def begin(self, size: int) -> str:
        """
        Begin an object that comes in parts: a file with a hole of its size, for each part to be written into.

        No blocks are reserved, or whoever may write could take all room by asking.
        """
        name = new_name()
        with _disk_errors():
            found = os.statvfs(self.parts)
            if size > found.f_bavail * found.f_frsize:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fd = os.open(self.parts / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, size)
                os.fsync(fd)
            except OSError:
                (self.parts / name).unlink()
                raise
            finally:
                os.close(fd)
            _sync_folder(self.parts)
        return name

    def part(self, unfinished: str, number: int, start: int) -> LocalPart:
        """Let a part come in, as `BlobStore.part` says."""
        with _disk_errors():
            return LocalPart(self.parts / checked(unfinished), start)

    def entrance(self, unfinished: str, number: int, *, size: int, crc32: int, seconds: int) -> Address | None:
        """There are no addresses."""
        return None

    def entered(self, unfinished: str, parts: Mapping[int, tuple[int, int]]) -> dict[int, str]:
        """Nothing comes past this server."""
        return {}

    def peek(self, unfinished: str, start: int, stop: int) -> Generator[bytes, None, None] | None:
        """Yield bytes of finished parts."""
        return _read(self.parts / checked(unfinished), start, stop)

    def join(self, unfinished: str, tags: Sequence[str]) -> str:
        """Give the file of the parts its final name."""
        path = self.parts / checked(unfinished)
        try:
            with _disk_errors():
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fchmod(fd, 0o444)
                    os.fsync(fd)
                finally:
                    os.close(fd)
            self._settle(path)
        except IntegrityError:
            if not self.path(unfinished).exists():  # else another request was faster
                raise
        return unfinished

    def abandon(self, unfinished: str) -> None:
        """Remove an unfinished object."""
        (self.parts / checked(unfinished)).unlink(missing_ok=True)

    def unfinished(self) -> Iterator[Found]:
        """Walk over all unfinished objects, with the room that they take."""
        for file in self.parts.iterdir():
            try:
                stat = file.stat()
            except FileNotFoundError:  # removed or joined meanwhile
                continue
            yield Found(file.name, stat.st_blocks * 512, stat.st_mtime)

    def link(self, object: str, *, name: str, media_type: str, seconds: int) -> str | None:
        """A folder has no addresses."""
        return None

    def _settle(self, path: Path) -> None:
        target = self.path(path.name)
        with _disk_errors():
            if target.parent not in self._durable:
                # Also if it is there: whoever made it, a thread or another process, may not have come to sync it yet.
                target.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(self.root)
                self._durable.add(target.parent)
            path.rename(target)
            _sync_folder(target.parent)


def _read(path: Path, start: int, stop: int) -> Generator[bytes, None, None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise missing() from error
    try:
        while start < stop:
            piece = os.pread(fd, min(CHUNK, stop - start), start)
            if not piece:
                raise cut_short()
            yield piece
            start += len(piece)
    finally:
        os.close(fd)


def _lock_part(fd: int, start: int) -> None:
    """Take the part at *start* for this opening of the file alone, until it is closed, or its process killed."""
    if sys.platform == "linux":
        # Of one byte that stands for the part, by the opening and not by the process (fcntl(2): F_OFD_SETLK).
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
    elif sys.platform != "win32":
        # Other systems know such locks for whole files only: parts come in one after the other there.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except EpistaError:
        raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError("no room left where the lab keeps its bytes", hint="make room on the server's disk") from error
        raise IntegrityError(f"the lab's folder cannot be used: {error.strerror}") from error
