"""
Files made for queries and pictures out of what the lab keeps, in a folder of this machine that several processes share.

A file is written whole or not at all, and never changed. Who uses files has a folder with second names for them, so that one may
be removed meanwhile; the folder is locked while it is in use, which ends with the process. The oldest go first when there are
more bytes than the limit. Names begin with what the file was made of, so that it can go with that.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from epista.contract.errors import StorageFullError, TooLargeError, UnavailableError
from epista.server.stores.local import NO_ROOM

if sys.platform != "win32":
    import fcntl

Fill = Callable[[Path], None]
"""Writes the file that is given; an error means that there is none."""


class TableCache:
    """At most *limit_bytes* of files in a folder, besides those that are in use; for any number of threads and processes."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._files = folder / "files"
        self._uses = folder / "uses"
        self._making: weakref.WeakValueDictionary[str, _Turn] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    @contextmanager
    def use(self) -> Iterator[Use]:
        """Let files be used until the context ends."""
        for folder in (self._files, self._uses):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder, lock = self._locked()
        try:
            yield Use(self, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def drop(self, sources: Callable[[list[str]], set[str]] | set[str]) -> None:
        """Remove what was made of *sources*, by the beginning of the names up to a hyphen; or of those that it picks."""
        files = list(self._listed())
        found = {path.name.partition("-")[0] for path, _ in files}
        gone = sources(sorted(found)) if callable(sources) else sources & found
        for path, _ in files:
            if path.name.partition("-")[0] in gone:
                path.unlink(missing_ok=True)

    def _locked(self) -> tuple[Path, int]:
        """Make a folder that is locked, also against a sweep that came between the two."""
        while True:
            folder = self._uses / secrets.token_hex(16)
            folder.mkdir(mode=0o700)
            if sys.platform == "win32":  # no such locks there; a folder with an open file cannot be removed
                return folder, os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
            with suppress(FileNotFoundError):
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if folder.exists():
                    return folder, lock
                os.close(lock)

    def taken(self, name: str, into: Path) -> bool:
        """Give the file *name* a second name; return whether it is there."""
        path = self._files / name
        try:
            _linked(path, into)
            os.utime(path)
        except FileNotFoundError:
            return into.exists()
        return True

    def turn(self, name: str) -> _Turn:
        """Return what those hold who make *name*, one after the other."""
        with self._guard:
            return self._making.setdefault(name, _Turn())

    def keep(self, name: str, path: Path) -> None:
        """Keep a file that was made, and make room for it."""
        new = self._files / f".{secrets.token_hex(8)}"
        _linked(path, new)
        new.replace(self._files / name)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what nobody uses any more, and of the files the oldest, until they are within the limit."""
        for folder in self._uses.iterdir():
            _remove_if_left(folder)
        files = sorted(self._listed(), key=lambda found: found[1].st_mtime)
        size = sum(found.st_size for _, found in files)
        for path, found in files:
            if size <= self.limit_bytes:
                break
            if found.st_nlink == 1:  # in use, it would give back nothing
                path.unlink(missing_ok=True)
                size -= found.st_size

    def _listed(self) -> Iterator[tuple[Path, os.stat_result]]:
        if self._files.is_dir():
            for path in self._files.iterdir():
                with suppress(FileNotFoundError):  # another process removed it meanwhile
                    yield path, path.stat()


class Use:
    """The files that somebody uses."""

    def __init__(self, cache: TableCache, folder: Path) -> None:
        self._cache = cache
        self._folder = folder
        self._count = 0

    def scratch(self) -> Path:
        """Return the path of a file that is not there yet, and goes in the end."""
        self._count += 1
        return self._folder / f"{self._count}.parquet"

    def file(self, name: str, fill: Fill, *, wait_seconds: float = -1) -> Path:
        """
        Return the file *name*, for reading only, from the cache if it is there, else made by *fill*.

        While somebody else makes it, it is waited for, for *wait_seconds* at most, or as long as it takes.

        Raises:
            StorageFullError: there is no room for it.
            UnavailableError: somebody else still makes it.
        """
        path = self.scratch()
        turn = self._cache.turn(name)
        with turn.held(wait_seconds):
            if self._cache.taken(name, path):
                return path
            try:
                fill(path)
                _harden(path)
                self._cache.keep(name, path)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise StorageFullError(f"there is no room for it on the server's disk: {error.strerror}") from error
                raise
        return path

    def require_room(self, size: int) -> None:
        """Refuse a file that is larger than all the cache may be."""
        if size > self._cache.limit_bytes:
            raise TooLargeError(
                f"this takes {size:,} bytes, and the server keeps at most {self._cache.limit_bytes:,} for queries and images",
                hint="whoever runs the server can give it more: table_cache_bytes",
                details={"limit_bytes": self._cache.limit_bytes},
            )


class _Turn:
    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def held(self, wait_seconds: float = -1) -> Iterator[None]:
        """Hold it; wait so long at most, or as long as it takes."""
        if not self._lock.acquire(timeout=wait_seconds):
            raise UnavailableError("it is still being made", hint="try again in a moment")
        try:
            yield
        finally:
            self._lock.release()


def _harden(path: Path) -> None:
    """Make a file durable and read-only."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    path.chmod(0o444)


def _linked(path: Path, other: Path) -> None:
    """Give a file a second name; a copy where the file system has no such thing."""
    try:
        os.link(path, other)
    except FileNotFoundError:
        raise
    except OSError:
        part = other.with_name(f".{other.name}")
        shutil.copyfile(path, part)
        part.chmod(0o444)
        part.replace(other)


def _remove_if_left(folder: Path) -> None:
    """Remove the folder of a use whose process has ended."""
    if sys.platform == "win32":
        with suppress(OSError):  # in use
            (folder / ".lock").unlink(missing_ok=True)
            shutil.rmtree(folder)
        return
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
