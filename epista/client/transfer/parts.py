"""
Large contents to the lab in parts, a few at once.

The lab keeps the parts that it has acknowledged, so whoever sends the same content again, after whatever broke, sends only what
is missing. Nothing is remembered here: the lab is asked what it has of a content of this size, and its parts are compared with
this one by their checksums.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from epista.client.listings import size as shown_size
from epista.client.transfer.download import FAR_SECONDS
from epista.client.transfer.hashing import PIECE_BYTES
from epista.client.transfer.progress import Stopped
from epista.contract.errors import (
    ConflictError,
    EpistaError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
)
from epista.contract.messages import Done
from epista.contract.uploads import (
    AbortUpload,
    CompletedUpload,
    CompleteUpload,
    CreateUpload,
    FindUploads,
    GetUpload,
    Part,
    PartAddress,
    PutPart,
    SignPart,
    TakePart,
    Upload,
    UploadParts,
    Uploads,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from epista.client.session import Session
    from epista.client.transfer.progress import Progress

PARTS_FROM_BYTES = 256 * 1024 * 1024
"""From this size on, contents go in parts: to send them again would cost too much."""

FAR_PARTS_FROM_BYTES = 32 * 1024 * 1024
"""To a far lab, one connection cannot fill the way, so smaller ones go in parts too."""

AT_ONCE = 4
"""How many parts are under way at a time."""

PATIENCE_SECONDS = 180.0
"""How long a lab may give no answer, such as while it is started again, before an upload is given up for now."""

PAUSE_SECONDS = 2.0
"""How long to wait before it is asked again, on average, after each row of retries."""

_TRIES = 3


def suit(here: Session, size: int) -> bool:
    """Whether content of that *size* goes in parts."""
    is_far = here.wire.round_trip_seconds >= FAR_SECONDS
    return size >= PARTS_FROM_BYTES or (is_far and size >= FAR_PARTS_FROM_BYTES)


def send(
    here: Session,
    read: Callable[[int, int], bytes],
    size: int,
    progress: Progress,
    *,
    is_known: Callable[[str], bool],
    sha256: str | None = None,
) -> str | None:
    """
    Send *size* bytes that *read* gives by their start and number, and return their sha256; None if the lab takes no more uploads.

    They are hashed beside the transfer, unless their *sha256* is known. Once it is, the lab is asked whether it *is_known*:
    then the rest is not sent.

    Raises:
        IntegrityError: the lab received something else.
    """
    for is_own in (False, True):
        transfer = _Transfer(here, read, size, progress, is_known, sha256)
        try:
            return transfer.run(is_own=is_own)
        except _MixedError:
            # Somebody sends other content of the same size and beginning into the same upload: so begin one of our own.
            transfer.move(-transfer.moved)
        except _FullError:
            progress.note("no more uploads in parts may be under way: it goes in one piece (epista uploads lists them)")
            return None
    raise ConflictError("the upload was given up while it was sent", hint="send it again")


class _MixedError(Exception):
    """The upload is not, or no longer, one of this content."""


class _FullError(Exception):
    """No more uploads may be under way."""


class _Transfer:
    """One content on its way."""

    def __init__(
        self,
        here: Session,
        read: Callable[[int, int], bytes],
        size: int,
        progress: Progress,
        is_known: Callable[[str], bool],
        sha256: str | None,
    ) -> None:
        self._here = here
        self._read = read
        self._size = size
        self._progress = progress
        self._is_known = is_known
        self._sha256 = sha256
        self._trouble: BaseException | None = None
        self._is_there = False
        self._is_straight = True
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._heard_at = time.monotonic()
        self.moved = 0

    def run(self, *, is_own: bool) -> str:
        """Send what is missing; *is_own* goes on with no other upload."""
        hashing = threading.Thread(target=self._hash, name="epista-sha256", daemon=True)
        hashing.start()
        try:
            upload, there = self._begin() if is_own else self._found() or self._begin()
            self._send_parts(upload, there)
            hashing.join()
            if self._trouble:
                raise self._trouble
            assert self._sha256, "it was hashed"
            if self._is_there:
                with contextlib.suppress(EpistaError):
                    self._here.wire.call("uploads.abort", AbortUpload(workspace=self._here.name, upload=upload.id), reply=Done)
                self.move(self._size - self.moved)
                return self._sha256
            return self._complete(upload)
        finally:
            self._over.set()
            hashing.join()

    def move(self, moved_bytes: int) -> None:
        """Count bytes of this content, for the progress."""
        with self._lock:
            self.moved += moved_bytes
        self._progress.advance(moved_bytes)

    def read(self, start: int, size: int) -> bytes:
        """Return the next bytes of the content; ends the thread that asks when the transfer is over."""
        if self._over.is_set():
            raise Stopped
        return self._read(start, size)

    def _hash(self) -> None:
        """Hash all of it, as fast as it can be read, and find out whether the lab needs it."""
        try:
            if self._sha256 is None:
                digest = hashlib.sha256()
                for start in range(0, self._size, PIECE_BYTES):
                    digest.update(self.read(start, min(PIECE_BYTES, self._size - start)))
                    self._progress.advance(0)
                self._sha256 = digest.hexdigest()
                with contextlib.suppress(EpistaError):
                    self._is_there = self._is_known(self._sha256)
                if self._is_there:
                    self._over.set()
        except BaseException as error:  # noqa: BLE001 - told by whoever waits for this thread
            self._trouble = error
            self._over.set()

    def _found(self) -> tuple[Upload, set[int]] | None:
        """Find an upload of this content that was not completed, and which parts of it are there."""
        wanted = FindUploads(workspace=self._here.name, size_bytes=self._size)
        for upload in self._here.wire.call("uploads.find", wanted, reply=Uploads).uploads:
            # One without a part has nothing to tell it from others of this size, and nothing to save either.
            if upload.received_bytes and upload.sha256 is None:
                asked = GetUpload(workspace=self._here.name, upload=upload.id)
                try:
                    parts = self._here.wire.call("uploads.get", asked, reply=UploadParts).parts
                except NotFoundError:
                    continue
                if all(self._crc32(*_span(upload, part.number)) == part.crc32 for part in parts):
                    self._progress.note(f"continues an upload of which {shown_size(upload.received_bytes)} are there")
                    self.move(sum(part.size_bytes for part in parts))
                    return upload, {part.number for part in parts}
        return None

    def _begin(self) -> tuple[Upload, set[int]]:
        wanted = CreateUpload(workspace=self._here.name, size_bytes=self._size)
        try:
            return self._here.wire.call("uploads.create", wanted, reply=Upload), set()
        except ConflictError as error:
            raise _FullError from error

    def _send_parts(self, upload: Upload, there: set[int]) -> None:
        count = -(-self._size // upload.part_bytes)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="epista-part") as pool:
            futures = [pool.submit(self._send, upload, number) for number in range(1, count + 1) if number not in there]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._over.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, upload: Upload, number: int) -> None:
        """Send one part, and again until the lab has it or the transfer is over."""
        start, size = _span(upload, number)
        tries, silent_since = 0, 0.0
        while not self._over.is_set():
            body = _Body(self, start, size)
            try:
                if not tries and not silent_since and self._send_past(upload, number, body):
                    return
                wanted = PutPart(workspace=self._here.name, upload=upload.id, number=number, crc32=self._crc32(start, size))
                self._here.wire.send("uploads.put_part", wanted, body=body, size=size, reply=Part)
                self._heard_at = time.monotonic()
                return
            except (ConflictError, NotFoundError) as error:
                raise _MixedError from error
            except IntegrityError:
                body.forget()
                tries += 1
                if tries == _TRIES:
                    raise
            except (UnreachableError, UnavailableError) as error:
                body.forget()
                silent_since = silent_since or time.monotonic()
                self._wait(error, silent_since)
            except Stopped:
                if self._trouble is None and not self._is_there:
                    raise
                return

    def _send_past(self, upload: Upload, number: int, body: _Body) -> bool:
        """Send one part straight to the lab's store, if it has a door for that and is reached; whether the lab has it then."""
        if not self._is_straight:
            return False
        start, size = _span(upload, number)
        crc32 = self._crc32(start, size)
        asked = SignPart(workspace=self._here.name, upload=upload.id, number=number, crc32=crc32)
        address = self._here.wire.call("uploads.sign_part", asked, reply=PartAddress)
        if address.url is None:
            self._is_straight = False
        elif self._here.wire.send_elsewhere(address.url, body=body, headers=address.headers):
            with contextlib.suppress(IntegrityError):
                taken = TakePart(workspace=self._here.name, upload=upload.id, number=number, crc32=crc32)
                self._here.wire.call("uploads.take_part", taken, reply=Part)
                self._heard_at = time.monotonic()
                return True
        body.seek(0)
        return False

    def _complete(self, upload: Upload) -> str:
        """Wait until the lab has read all of it."""
        wanted = CompleteUpload(workspace=self._here.name, upload=upload.id, sha256=self._sha256)
        silent_since = 0.0
        while True:
            try:
                done = self._here.wire.call("uploads.complete", wanted, reply=CompletedUpload)
            except (ConflictError, NotFoundError) as error:
                raise _MixedError from error
            except (UnreachableError, UnavailableError) as error:
                silent_since = silent_since or time.monotonic()
                self._wait(error, silent_since)
                continue
            self._heard_at, silent_since = time.monotonic(), 0.0
            self._progress.advance(0)
            if done.sha256 is not None:
                if done.sha256 != self._sha256:
                    raise IntegrityError(
                        f"the lab received bytes with sha256 {done.sha256}, but those with {self._sha256} were sent; "
                        "nothing was recorded",
                        details={"sent": self._sha256, "received": done.sha256},
                    )
                return done.sha256

    def _wait(self, error: EpistaError, silent_since: float) -> None:
        """Wait a moment after an *error*, or raise it if it will not pass, or lasts for too long already."""
        from epista.client.wire import passes

        if not passes(error) or time.monotonic() - max(self._heard_at, silent_since) > PATIENCE_SECONDS:
            raise error
        self._over.wait(PAUSE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, hides nothing
        self._progress.advance(0)

    def _crc32(self, start: int, size: int) -> int:
        found = 0
        for at in range(start, start + size, PIECE_BYTES):
            found = zlib.crc32(self.read(at, min(PIECE_BYTES, start + size - at)), found)
        return found


class _Body(io.RawIOBase):
    """A part as the body of a request, which can be read again from its beginning."""

    def __init__(self, transfer: _Transfer, start: int, size: int) -> None:
        super().__init__()
        self._transfer = transfer
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        left = self._size - self._at
        piece = self._transfer.read(self._start + self._at, left if size < 0 else min(size, left)) if left and size else b""
        self._at += len(piece)
        self._transfer.move(len(piece))
        return piece

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go back to the beginning, where a request that is made again starts; nowhere else."""
        if (offset, whence) != (0, os.SEEK_SET):
            raise io.UnsupportedOperation("the body of a request is read from its beginning")
        self.forget()
        return 0

    def forget(self) -> None:
        """Count what was sent as not sent."""
        if self._at:
            self._transfer.move(-self._at)
        self._at = 0


def _span(upload: Upload, number: int) -> tuple[int, int]:
    """Return where a part begins, and its size."""
    start = (number - 1) * upload.part_bytes
    return start, min(upload.part_bytes, upload.size_bytes - start)
