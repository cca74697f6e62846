"""
Bytes to the lab: from memory and from files.

The lab hashes what it receives, and that hash is compared with what was read here. A user's file is read, or copied by the
file system; it is never moved or linked.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from epista.client.transfer import disk, parts
from epista.client.transfer.download import DISK_FROM_BYTES
from epista.client.transfer.hashing import PIECE_BYTES, Digest
from epista.client.transfer.threads import each
from epista.contract.errors import EpistaError, IntegrityError, MissingFileError, TransferError, ValidationError
from epista.contract.frames import SMALL_BYTES
from epista.contract.objects import Blob, Missing, MissingBlobs, Stage, StageBlob, TakeStaged, UploadBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epista.client.session import Session
    from epista.client.transfer.progress import Progress

T = TypeVar("T")

_ASK_FROM_BYTES = 1024 * 1024
_ASK_AT_ONCE = 10_000


class _Changed(Exception):
    """The file is not what it was when reading began."""


class _Look(NamedTuple):
    """What tells one state of a file from another."""

    size_bytes: int
    modified_ns: int
    inode: int
    device: int


def send_bytes(here: Session, data: bytes, progress: Progress) -> str:
    """
    Send *data*, unless the lab says that it is there and that this caller may know, and return its sha256.

    Raises:
        IntegrityError: the lab received something else.
    """
    with Digest(len(data)) as digest:
        digest.update(data)
        sha256 = digest.hexdigest()
    # For a small object the question costs as much as the answer saves.
    if len(data) < _ASK_FROM_BYTES or missing(here, [sha256]):

        def fill(sink: io.FileIO) -> str:
            disk.write(sink, data)
            return sha256

        def read(start: int, size: int) -> bytes:
            return data[start : start + size]

        in_parts = not here.is_embedded and parts.suit(here, len(data))
        if in_parts and parts.send(here, read, len(data), progress, is_known=lambda one: False, sha256=sha256):
            return sha256  # the progress was counted there
        if not (here.is_embedded and len(data) >= DISK_FROM_BYTES and _stage(here, fill, len(data))):
            headers = {"Content-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"}
            request = UploadBlob(workspace=here.name)
            blob = here.wire.send("objects.upload", request, body=data, size=len(data), headers=headers, reply=Blob)
            _compare(blob, sha256, len(data))
    progress.advance(len(data))
    return sha256


def read_small(path: Path) -> bytes | None:
    """
    Return what the file *path* holds, following a link; None for one that does not fit a frame.

    Raises:
        TransferError: no regular file, or one that changed while it was read, twice.
    """

    def read(file: io.FileIO, size: int) -> bytes | None:
        if size >= SMALL_BYTES:
            return None
        data = file.read(size + 1) if size else b""
        if len(data) != size:
            raise _Changed
        return data

    return _steadily(path, read)


def send_file(here: Session, path: Path, progress: Progress) -> str:
    """
    Send the file *path*, following a link, and return its sha256.

    Raises:
        TransferError: no regular file, or one that changed while it was read, twice.
        IntegrityError: the lab received something else.
    """
    return _steadily(path, lambda file, size: _send(here, file, size, progress))


def hash_file(path: Path, progress: Progress) -> str:
    """Return the sha256 of the file *path*, or raise as `send_file` does."""

    def read(file: io.FileIO, size: int) -> str:
        with _Body(file, size, progress) as body:
            while body.read(PIECE_BYTES):
                pass
            return body.sha256()

    return _steadily(path, read)


def hash_files(files: Mapping[str, Path], progress: Progress) -> dict[str, str]:
    """
    Return the sha256 of each file, by the same names.

    Raises:
        ValidationError: files that cannot be read, all of them.
    """
    hashes: dict[str, str] = {}
    problems: dict[str, str] = {}
    with contextlib.closing(each(lambda name: hash_file(files[name], progress), list(files), progress)) as outcomes:
        for name, outcome in outcomes:
            try:
                hashes[name] = outcome.result()
            except EpistaError as error:
                problems[name] = error.message
    refuse(problems)
    return {name: hashes[name] for name in files}


def send_files(
    here: Session, files: Mapping[str, Path], hashes: Mapping[str, str], lacking: Sequence[str], progress: Progress
) -> dict[str, str]:
    """
    Send the files whose content is *lacking*, each content once, and return the sha256 of every file as it is now in the lab.

    Raises:
        TransferError: a file changed while it was read, twice.
    """
    sent = dict(hashes)
    twins: dict[str, list[str]] = {}
    for name, sha256 in hashes.items():
        twins.setdefault(sha256, []).append(name)

    def send(sha256: str) -> None:
        for name in twins[sha256]:
            sent[name] = send_file(here, files[name], progress)
            # Else this file changed since it was hashed, and is sent as it is now; its former twins have to be sent too.
            if sent[name] == sha256:
                return

    with contextlib.closing(each(send, lacking, progress)) as outcomes:
        for _, outcome in outcomes:
            outcome.result()
    return sent


def missing(here: Session, hashes: Sequence[str]) -> list[str]:
    """Return those of *hashes* whose content has to be sent."""
    lacking: list[str] = []
    for start in range(0, len(hashes), _ASK_AT_ONCE):
        request = MissingBlobs(workspace=here.name, sha256=tuple(hashes[start : start + _ASK_AT_ONCE]))
        lacking += here.wire.call("objects.missing", request, reply=Missing).sha256
    return lacking


def refuse(problems: Mapping[str, str]) -> None:
    """Raise one `ValidationError` for all *problems*, if there are any."""
    if problems:
        some = "; ".join(f"{name!r} {text}" for name, text in list(problems.items())[:5])
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ValidationError(
            f"nothing was put, because of {len(problems)} of the files: {some}{more}",
            details={"violations": [{"path": name, "message": text, "rule": "file"} for name, text in problems.items()]},
        )


def _steadily(path: Path, read: Callable[[io.FileIO, int], T]) -> T:
    """Read a file that should not change meanwhile; once again if it does."""
    for _ in range(2):
        try:
            with _open(path) as file:
                before = _look(os.fstat(file.fileno()))
                found = read(file, before.size_bytes)
                # By name too: an editor that saves puts another file in its place.
                if _look(os.fstat(file.fileno())) == before == _look(path.stat()):
                    return found
        except _Changed:
            pass
        except EpistaError:
            raise
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no file '{path}'") from error
        except OSError as error:
            raise disk.explain(error, path) from error
    raise TransferError(
        f"'{path}' changed while it was read, twice; nothing was recorded", hint="wait until it is written, or put a copy of it"
    )


def _open(path: Path) -> io.FileIO:
    # Looked at before it is opened, for opening a pipe or a device can wait, or act; and again after.
    _require_regular(path.stat(), path)
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = io.FileIO(os.open(path, flags), "rb")
    try:
        _require_regular(os.fstat(file.fileno()), path)
    except TransferError:
        file.close()
        raise
    return file


def _require_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise TransferError(f"'{path}' is a folder", hint="ws.put_dir(prefix, path) takes a folder")
    if not stat.S_ISREG(found.st_mode):
        raise TransferError(f"'{path}' is no regular file but a pipe, a socket or a device", hint="write it to a file first")


def _look(found: os.stat_result) -> _Look:
    return _Look(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


def _send(here: Session, file: io.FileIO, size: int, progress: Progress) -> str:
    def fill(sink: io.FileIO) -> str | None:
        # Not hashed here: the lab hashes the copy, which nobody changes, and once is enough for bytes that cross no network.
        if disk.clone(file, sink):
            progress.advance(size)
            return None
        buffer = memoryview(bytearray(PIECE_BYTES))
        while sink.tell() < size:
            taken = file.readinto(buffer[: size - sink.tell()])
            if not taken:
                raise _Changed
            disk.write(sink, buffer[:taken])
            progress.advance(taken)
        return None

    if here.is_embedded and size >= DISK_FROM_BYTES and (staged := _stage(here, fill, size)):
        return staged
    if parts.suit(here, size) and (sent := _send_in_parts(here, file, size, progress)):
        return sent
    with _Body(file, size, progress) as body:
        blob = here.wire.send("objects.upload", UploadBlob(workspace=here.name), body=body, size=size, reply=Blob)
        _compare(blob, body.sha256(), size)
    return blob.sha256


def _send_in_parts(here: Session, file: io.FileIO, size: int, progress: Progress) -> str | None:
    before = _look(os.fstat(file.fileno()))

    def read(start: int, size: int) -> bytes:
        piece = disk.read_at(file, start, size)
        if len(piece) < size:
            raise _Changed
        return piece

    try:
        return parts.send(here, read, size, progress, is_known=lambda sha256: not missing(here, [sha256]))
    except IntegrityError:
        if _look(os.fstat(file.fileno())) != before:
            raise _Changed from None
        raise


def _stage(here: Session, fill: Callable[[io.FileIO], str | None], size: int) -> str | None:
    """
    Put bytes into a file of the embedded lab and have it taken in; None if that cannot be, for HTTP to try.

    *fill* returns the sha256 of what it wrote, or None if it did not read it.
    """
    try:
        stage = here.wire.call("objects.stage", StageBlob(workspace=here.name), reply=Stage)
        sink = io.FileIO(stage.path, "r+b")
    except (EpistaError, OSError):
        return None
    with sink:
        try:
            sha256 = fill(sink)
        except EpistaError:
            raise
        except OSError as error:
            raise disk.explain(error, Path(stage.path)) from error
        if os.fstat(sink.fileno()).st_size != size:
            raise _Changed
    blob = here.wire.call("objects.take_staged", TakeStaged(workspace=here.name, stage=stage.stage), reply=Blob)
    _compare(blob, sha256 or blob.sha256, size)
    return blob.sha256


def _compare(blob: Blob, sha256: str, size: int) -> None:
    if (blob.sha256, blob.size_bytes) != (sha256, size):
        raise IntegrityError(
            f"the lab received {blob.size_bytes:,} bytes with sha256 {blob.sha256}, but {size:,} with {sha256} were sent; "
            "nothing was recorded",
            details={"sent": sha256, "received": blob.sha256},
        )


class _Body(io.RawIOBase):
    """A file as the body of a request: hashed on the way, and not a byte more or less than was announced."""

    def __init__(self, file: io.FileIO, size: int, progress: Progress) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._progress = progress
        self._digest = Digest(size)

    def close(self) -> None:
        self._digest.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._digest.size_bytes
        piece = self._file.read(left if size < 0 else min(size, left))
        if left and size and not piece:
            raise _Changed
        self._digest.update(piece)
        self._progress.advance(len(piece))
        return piece

    def tell(self) -> int:
        return self._digest.size_bytes

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go back to the beginning, where a request that is made again starts; nowhere else."""
        if (offset, whence) != (0, os.SEEK_SET):
            raise io.UnsupportedOperation("the body of a request is read from its beginning")
        if self.tell():
            self._progress.advance(-self.tell())
            self._digest.close()
            self._digest = Digest(self._size)
        return self._file.seek(0)

    def sha256(self) -> str:
        return self._digest.hexdigest()
