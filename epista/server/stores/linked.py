"""
Files that stay where they are, below roots that the server's settings name: read, and never written.

What a linked file was when it was linked is its *place*: the root, the tag that its store gave it, and its path. Every read
compares the tag, so that the bytes of another file are never taken for it. Implementations: `FolderOrigin`, and
`remote_origin` for object stores.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from epista.contract.errors import LinkedFileChangedError, UnavailableError
from epista.server.stores.blobs import CHUNK


class Seen(NamedTuple):
    """A file as it lies there now."""

    path: str
    size: int
    tag: str
    """Another one means that it changed."""


class LeftOut(NamedTuple):
    """What lies there, and cannot be linked."""

    path: str
    reason: str


class Changed(Exception):
    """A file is not what it was when it was linked, or is gone; says which."""


class Unreadable(Changed):
    """A file or folder is there, and the server may not read it."""


class Origin(Protocol):
    """The files below one root; for any number of threads. Paths have slashes, and neither begin nor end with one."""

    def look(self, path: str) -> Seen | LeftOut | None:
        """
        Return what is at *path*; None if no file is there.

        Raises:
            UnavailableError: the root cannot be reached now.
        """

    def walk(self, folder: str, after: str) -> Iterator[Seen | LeftOut]:
        """Give everything below *folder* (empty: the root) that comes after the path *after*, in the store's own order."""

    def read(self, path: str, tag: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """
        Yield the bytes from *start* up to *stop*, which is excluded, in pieces of at most `CHUNK`, of the file with that tag.

        Nothing is opened before the first piece is asked for. No piece is of another file, or of what became of this one.

        Raises:
            Changed: there is no file of that tag any more.
            UnavailableError: the root cannot be reached now, or the server may not read the file.
        """

    def path(self, path: str) -> Path | None:
        """Return the file on this machine; None where there are no files."""


class Place(NamedTuple):
    """Where a linked file lies."""

    root: str
    tag: str
    path: str

    def __str__(self) -> str:
        return f"{self.root}:{self.tag}:{self.path}"


def place_of(object: str) -> Place:
    """Return the place that stands in the row of a linked blob."""
    return Place(*object.split(":", 2))


def path_of(object: str) -> str:
    """Return what people call a linked file: its root and its path below that."""
    place = place_of(object)
    return f"{place.root}/{place.path}"


_UNREADABLE = "cannot be read by the server"


class Roots:
    """The origins of a server, by the names of their roots."""

    def __init__(self, origins: Mapping[str, Origin]) -> None:
        self._origins = origins

    def origin(self, root: str) -> Origin:
        """
        Return the files below a root.

        Raises:
            UnavailableError: the settings name no such root, or no longer.
        """
        if root not in self._origins:
            raise UnavailableError(
                f"the root {root!r}, below which this is linked, is not named in the server's settings",
                hint="whoever runs the server can name it again: link_roots",
            )
        return self._origins[root]

    def read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """
        Yield bytes of a linked file, as `Origin.read` says.

        Raises:
            LinkedFileChangedError: it is not what was linked any more.
        """
        place = place_of(object)
        try:
            yield from self.origin(place.root).read(place.path, place.tag, start, stop)
        except Changed as error:
            raise LinkedFileChangedError(
                f"{place.root}/{place.path} {error} since it was linked", hint="link it again: epista link SOURCE PREFIX"
            ) from error

    def path(self, object: str) -> Path | None:
        """Return the file of a linked blob on this machine, if it is what was linked; else None."""
        place = place_of(object)
        origin = self.origin(place.root)
        seen = origin.look(place.path)
        return origin.path(place.path) if isinstance(seen, Seen) and seen.tag == place.tag else None


class FolderOrigin:
    """
    Files of a folder of this machine.

    No symbolic link is followed below the root, also not one that was put there a moment ago: every folder on the way is opened
    from the one above it.
    """

    def __init__(self, name: str, root: Path) -> None:
        self._name = name
        self._root = root

    def look(self, path: str) -> Seen | LeftOut | None:
        """Return what is at *path*."""
        *above, name = path.split("/")
        try:
            folder = self._folder(above)
        except Unreadable:
            return LeftOut(path, _UNREADABLE)
        except Changed:
            return None
        try:
            return _seen(path, name, folder)
        finally:
            os.close(folder)

    def walk(self, folder: str, after: str) -> Iterator[Seen | LeftOut]:
        """Give everything below *folder* after *after*, in code-point order of the paths; one folder's names are in memory."""
        waiting = [folder + "/" if folder else ""]
        while waiting:
            path = waiting.pop()
            if not path.endswith("/") and path:
                if (seen := self.look(path)) is not None:
                    yield seen
                continue
            try:
                names = self._names(path)
            except Unreadable:
                yield LeftOut(path, _UNREADABLE)
                continue
            except Changed:
                continue  # gone meanwhile
            # The last is taken first. What comes before *after* was given already; a folder may still have more.
            found = (path + name for name in names)
            waiting += sorted((one for one in found if one > after or (one[-1] == "/" and after.startswith(one))), reverse=True)

    def _names(self, path: str) -> list[str]:
        """Return the names in a folder, those of folders with a slash at the end."""
        fd = self._folder(path.split("/")[:-1])
        try:
            with os.scandir(fd) as entries:
                return [entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in entries]
        except OSError as error:
            raise self._explained(error) from error
        finally:
            os.close(fd)

    def read(self, path: str, tag: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield bytes of a file, as `Origin.read` says."""
        *above, name = path.split("/")
        try:
            folder = self._folder(above)
            try:
                # A pipe must not be waited for.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._explained(error) from error
        try:
            _compare(fd, tag)
            while start < stop:
                piece = os.pread(fd, min(CHUNK, stop - start), start)
                # Whoever writes in it changes its time first, so what was read before that is of the file that was linked.
                _compare(fd, tag)
                if not piece:
                    raise Changed("changed")
                yield piece
                start += len(piece)
        except OSError as error:
            raise self._explained(error) from error
        finally:
            os.close(fd)

    def path(self, path: str) -> Path | None:
        """Return the file."""
        return self._root / path

    def _folder(self, names: list[str]) -> int:
        """Open a folder below the root, from one to the next."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            fd = os.open(self._root, flags)
        except OSError as error:
            raise UnavailableError(
                f"the root {self._name!r} is not there now", hint="whoever runs the server can look, and mount it again"
            ) from error
        for name in names:
            try:
                below = os.open(name, flags | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise self._explained(error) from error
            finally:
                os.close(fd)
            fd = below
        return fd

    def _explained(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG, errno.ESTALE):
            return Changed("is gone")
        if error.errno in (errno.EACCES, errno.EPERM):
            return Unreadable("can no longer be read by the server")
        return UnavailableError(
            f"what is below the root {self._name!r} cannot be read now: {error.strerror}", hint="try again in a moment"
        )


def _seen(path: str, name: str, folder: int) -> Seen | LeftOut | None:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return None
    if stat.S_ISLNK(found.st_mode):
        return LeftOut(path, "is a symbolic link")
    if not stat.S_ISREG(found.st_mode):
        return LeftOut(path, "is no ordinary file")
    if not os.access(name, os.R_OK, dir_fd=folder, effective_ids=os.access in os.supports_effective_ids):
        return LeftOut(path, _UNREADABLE)
    return Seen(path, found.st_size, _tag(found))


def _compare(fd: int, tag: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or _tag(found) != tag:
        raise Changed("changed")


def stamp_of(object: str) -> tuple[int, int, int]:
    """Return inode, size and time of change, in nanoseconds, of a linked file of a folder as it was when it was linked."""
    changed, size, inode = (int(part, 16) for part in place_of(object).tag.split("-"))
    return inode, size, changed


def _tag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
