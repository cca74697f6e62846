"""
A cache on this machine's disk, of contents by their sha256 and of answers, for all processes that name the same folder.

What is kept is a copy; it is compared with its sha256 whenever it is used, and dropped if it is anything else. One lock for
the whole folder is held while something is added, so that the sum stays within its limit whoever adds; what was used longest
ago makes room. A process that is killed leaves at most a temporary file, which the next count removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from epista.client.transfer import disk
from epista.contract.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LEFT_SECONDS = 3600
"""How old a temporary file is that nobody writes any more."""

_ROOM = 0.9
"""How full the cache is after room was made, so that not every addition has to make room."""

_ALONE = 0o700

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class _Entry(NamedTuple):
    used: float
    size: int
    path: str


class Cache:
    """Contents by sha256, and answers that were given to *who*, in *folder*, which nobody but its owner and group may enter."""

    def __init__(self, folder: Path, limit_bytes: int, who: str) -> None:
        self._folder = folder
        self._limit = limit_bytes
        try:
            folder.mkdir(mode=_ALONE, parents=True, exist_ok=True)
            self._mode = stat.S_IMODE(folder.stat().st_mode)
            if self._mode & 0o007 and os.name != "nt":
                hint = f"chmod o= '{folder}', or name another"
                raise SettingsError(f"the cache folder '{folder}' is open to everybody on this machine", hint=hint)
            self._contents = folder / "contents"
            self._make(self._contents, self._mode)
            # Answers are nobody else's business, whoever shares the contents.
            mine = folder / f"answers-{os.getuid() if hasattr(os, 'getuid') else 'me'}"
            self._make(mine, _ALONE)
            self._answers = mine / hashlib.sha256(who.encode()).hexdigest()[:32]
        except OSError as error:
            raise SettingsError(f"the cache folder '{folder}' cannot be used: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"Cache('{self._folder}')"

    @contextlib.contextmanager
    def content(self, sha256: str) -> Iterator[io.FileIO | None]:
        """Open what is kept under *sha256*, which may be something else by now; None if nothing is."""
        path = self._place(sha256)
        try:
            fd = os.open(path, os.O_RDONLY | _FLAGS | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            yield None
            return
        with io.FileIO(fd, "rb") as file:
            with contextlib.suppress(OSError):
                os.utime(path)  # used now
            yield file if stat.S_ISREG(os.fstat(fd).st_mode) else None

    def keep(self, sha256: str, size_bytes: int, fill: Callable[[io.FileIO], None]) -> None:
        """Keep what *fill* writes, if there is room to be made for it; a cache that cannot be written is none."""
        if size_bytes <= self._limit:
            self._add(self._place(sha256), fill, self._mode & 0o660)

    def drop(self, sha256: str) -> None:
        """Forget a content."""
        with contextlib.suppress(OSError):
            self._place(sha256).unlink()

    def answer(self, question: str) -> bytes | None:
        """Return what was answered to *question*."""
        try:
            return self._answer(question).read_bytes()
        except OSError:
            return None

    def remember(self, question: str, answer: bytes) -> None:
        """Keep an answer."""
        if len(answer) <= self._limit:
            self._add(self._answer(question), lambda sink: disk.write(sink, answer), 0o600)

    def forget(self, question: str) -> None:
        """Forget an answer."""
        with contextlib.suppress(OSError):
            self._answer(question).unlink()

    def forget_all(self) -> None:
        """Forget every answer: whoever got them may no longer ask."""
        with contextlib.suppress(OSError):
            for path in self._answers.iterdir():
                path.unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        assert re.fullmatch("[0-9a-f]{64}", sha256), "a sha256 names a file"
        return self._contents / sha256[:2] / sha256

    def _answer(self, question: str) -> Path:
        return self._answers / hashlib.sha256(question.encode(errors="surrogatepass")).hexdigest()[:32]

    def _add(self, path: Path, fill: Callable[[io.FileIO], None], mode: int) -> None:
        made = self._folder / f".new-{secrets.token_hex(8)}"
        try:
            with io.FileIO(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, mode), "r+b") as sink:
                _allow(sink, mode)
                fill(sink)
                size = sink.seek(0, os.SEEK_END)
            with self._alone() as file:
                self._make(path.parent, self._mode if path.is_relative_to(self._contents) else _ALONE)
                total = self._noted(file)
                if total + size > self._limit:
                    total = self._make_room(size)
                # Noted first: a process that is killed in between leaves a sum that is too large, never too small.
                self._note(file, total + size)
                made.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)

    def _make(self, folder: Path, mode: int) -> None:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(mode)  # which mkdir would narrow by the umask

    @contextlib.contextmanager
    def _alone(self) -> Iterator[io.FileIO]:
        with io.FileIO(os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | _FLAGS, self._mode & 0o660), "r+b") as file:
            if not os.fstat(file.fileno()).st_size:
                _allow(file, self._mode & 0o660)
            disk.wait_for(file)
            yield file

    def _noted(self, file: io.FileIO) -> int:
        """Return the sum of all sizes, as the last one to add noted it."""
        file.seek(0)
        text = file.read(32)
        return int(text) if text.isdigit() else sum(entry.size for entry in self._entries())

    def _note(self, file: io.FileIO, total: int) -> None:
        file.seek(0)
        file.write(b"%032d" % max(0, total))

    def _make_room(self, size: int) -> int:
        """Remove what was used longest ago; return the sum of what is left, counted anew."""
        entries = sorted(self._entries())
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total + size <= max(size, int(self._limit * _ROOM)):
                break
            with contextlib.suppress(OSError):
                os.unlink(entry.path)  # noqa: PTH108 - walked with scandir, for speed
                total -= entry.size
        return total

    def _entries(self) -> Iterator[_Entry]:
        folders = [str(self._folder)]
        while folders:
            with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
                for one in found:
                    with contextlib.suppress(OSError):
                        if one.is_dir(follow_symlinks=False):
                            folders.append(one.path)
                            continue
                        about = one.stat(follow_symlinks=False)
                        if one.name.startswith(".new-"):
                            if time.time() - about.st_mtime > _LEFT_SECONDS:
                                os.unlink(one.path)  # noqa: PTH108
                        elif one.name != ".lock":
                            yield _Entry(about.st_mtime, about.st_size, one.path)


def _allow(file: io.FileIO, mode: int) -> None:
    """Give *file*, if it is our own, the permissions that its folder says, whatever the umask."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(PermissionError):
            os.fchmod(file.fileno(), mode)
