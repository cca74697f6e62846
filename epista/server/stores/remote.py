"""
Blobs in an object store that is reached over the network, through obstore.

Bytes go out in parts while they come in, with bounded memory; the store acknowledges the whole before `finish` returns, and that
takes the place of the fsyncs of a folder. What fails for a moment is tried again by obstore, with growing pauses and a limit.
Of obstore's errors none leaves this module.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import obstore.store
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore

from epista.contract.errors import EpistaError, IntegrityError, SettingsError, TooLargeError, UnavailableError
from epista.server.stores.blobs import CHUNK, Address, Found, IncomingPart, Stored, checked, cut_short, missing, new_name

PART_BYTES = 8 * 1024**2
"""How large the parts of an object are at least; what is smaller goes in one request."""

MOST_PARTS = 10_000
"""How many parts S3 allows an object."""

_PARTS_AT_ONCE = 4

_PARTS = "parts/"

_CHUNKS_WAITING = 4

CONNECT_SECONDS = 10.0
"""How long a connection may take to open."""

RETRY_SECONDS = 15.0
"""For how long a request that fails is tried again."""

_log = logging.getLogger("epista.stores")


class RemoteBlobs:
    """Objects of a bucket, below a prefix."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def create(self, *, size: int | None = None) -> RemoteIncoming:
        """Begin a new object."""
        return RemoteIncoming(self._store, size)

    def read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield a part of an object, as `BlobStore.read` says."""
        return self._read(checked(object), start, stop)

    def near(self, object: str, start: int, stop: int) -> bytes:
        """Nothing is near."""
        return b""

    def _read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        if start >= stop:
            self._size(object)
        while start < stop:
            begun = start
            with store_errors():
                try:
                    for data in self._stream(object, start, stop):
                        start += len(data)
                        yield from (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
                except BaseError:
                    if start == begun:
                        raise
                    continue  # cut in the middle, perhaps after longer than obstore tries again
            if start < stop:
                raise cut_short()

    def _stream(self, object: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            found = obstore.get(self._store, object, options={"range": (start, stop)})
        except FileNotFoundError as error:
            raise missing() from error
        except GenericError as error:
            # A part that begins beyond the end is refused, by each store in its own words, but never tried again.
            if "retries" not in said(error) and self._size(object) <= start:
                raise cut_short() from None
            raise
        return iter(found.stream(min_chunk_size=CHUNK))

    def size(self, object: str) -> int | None:
        """Return how many bytes an object has; None if it is missing."""
        with store_errors():
            try:
                return obstore.head(self._store, checked(object))["size"]
            except FileNotFoundError:
                return None

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""
        with store_errors():
            try:
                obstore.delete(self._store, checked(object))
            except FileNotFoundError:
                pass

    def objects(self) -> Iterator[Found]:
        """Walk over all objects."""
        with store_errors():
            for page in obstore.list(self._store, chunk_size=1000):
                yield from (
                    Found(one["path"], one["size"], one["last_modified"].timestamp()) for one in page if "/" not in one["path"]
                )

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Nothing can be found that was left behind; a store has rules of its own for that."""
        return 0, 0

    def begin(self, size: int) -> str:
        """Begin an object that comes in parts; each of them is an object of its own until `join`."""
        return new_name()

    def part(self, unfinished: str, number: int, start: int) -> IncomingPart:
        """Let a part come in; of several who send the same one, each has its own object."""
        return RemotePart(self._store, f"{_PARTS}{checked(unfinished)}/{number:05}-{new_name()}")

    def entrance(self, unfinished: str, number: int, *, size: int, crc32: int, seconds: int) -> Address | None:
        """There are no addresses."""
        return None

    def entered(self, unfinished: str, parts: Mapping[int, tuple[int, int]]) -> dict[int, str]:
        """Nothing comes past this server."""
        return {}

    def peek(self, unfinished: str, start: int, stop: int) -> Generator[bytes, None, None] | None:
        """To read is to transfer: that happens once, when the whole is there."""
        return None

    def join(self, unfinished: str, tags: Sequence[str]) -> str:
        """Copy the parts into one object, which every kind of store can do."""
        try:
            self._size(checked(unfinished))
        except IntegrityError:
            incoming = RemoteIncoming(self._store, sum(self._size(tag) for tag in tags), unfinished)
            try:
                for tag in tags:
                    for piece in self._read(tag, 0, self._size(tag)):
                        incoming.write(piece)
                incoming.finish()
            finally:
                incoming.discard()
        self.abandon(unfinished)
        return unfinished

    def abandon(self, unfinished: str) -> None:
        """Remove the parts."""
        with store_errors():
            for page in obstore.list(self._store, prefix=f"{_PARTS}{checked(unfinished)}/"):
                for one in page:
                    obstore.delete(self._store, one["path"])

    def unfinished(self) -> Iterator[Found]:
        """Walk over what has parts."""
        found: dict[str, Found] = {}
        with store_errors():
            for page in obstore.list(self._store, prefix=_PARTS, chunk_size=1000):
                for one in page:
                    name = one["path"].removeprefix(_PARTS).partition("/")[0]
                    before = found.get(name, Found(name, 0, 0.0))
                    modified = max(before.modified, one["last_modified"].timestamp())
                    found[name] = Found(name, before.size + one["size"], modified)
        yield from found.values()

    def path(self, object: str) -> Path | None:
        """There are no files."""
        return None

    def link(self, object: str, *, name: str, media_type: str, seconds: int) -> str | None:
        """There are no addresses."""
        return None

    def _size(self, object: str) -> int:
        with store_errors():
            try:
                return obstore.head(self._store, object)["size"]
            except FileNotFoundError as error:
                raise missing() from error


class RemoteIncoming:
    """Bytes on their way into an object store; those of a large object leave while more come in."""

    def __init__(self, store: ObjectStore, size: int | None, name: str | None = None) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._part_bytes = max(PART_BYTES, -(-(size or 0) // (MOST_PARTS - 1)))
        self._flow = _Flow()
        self._sender: threading.Thread | None = None
        self._error: EpistaError | None = None
        self._is_sent = False
        self.name = name or new_name()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""
        self._hash.update(data)
        self.size += len(data)
        if self.size > self._part_bytes * MOST_PARTS:
            raise TooLargeError(
                f"an object that does not say its length has at most {self._part_bytes * MOST_PARTS:,} bytes",
                hint="send it with a Content-Length",
            )
        if self._sender is None and self.size > self._part_bytes:
            self._sender = threading.Thread(target=self._send, name="epista-sender", daemon=True)
            self._sender.start()
        self._flow.put(bytes(data), wait=self._sender is not None)
        if self._error:
            raise self._error

    def finish(self) -> Stored:
        """Wait until the store has acknowledged the whole."""
        self._flow.end()
        if self._sender is None:
            with store_errors():
                obstore.put(self._store, self.name, b"".join(self._flow), use_multipart=False)
            self._is_sent = True
        else:
            self._sender.join()
        if self._error:
            raise self._error
        assert self._is_sent, "nobody finishes what was discarded"
        return Stored(self.name, self._hash.hexdigest(), self.size)

    def discard(self) -> None:
        """Forget the bytes, at once; the sender takes back what it has sent."""
        if not self._is_sent:
            self._flow.stop()

    def _send(self) -> None:
        try:
            with store_errors():
                # On any fault, ours of stopping among them, obstore takes back the parts that it has sent.
                obstore.put(
                    self._store,
                    self.name,
                    self._flow,
                    use_multipart=True,
                    chunk_size=self._part_bytes,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        except EpistaError as error:
            self._error = error
        except _StoppedError:
            pass  # discarded: nobody asks any more
        else:
            self._is_sent = True
        finally:
            self._flow.stop()


class RemotePart:
    """A part on its way into an object of its own."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._incoming = RemoteIncoming(store, None, name)

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""
        self._incoming.write(data)

    def finish(self) -> str:
        """Wait until the store has acknowledged the part."""
        return self._incoming.finish().object

    def discard(self) -> None:
        """Forget the part, unless it is finished."""
        self._incoming.discard()


class _StoppedError(Exception):
    """Nobody wants these bytes any more."""


class _Flow:
    """Bytes on their way from one thread to another, a few pieces at a time."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._is_ended = self._is_stopped = False

    def put(self, piece: bytes, *, wait: bool) -> None:
        """Append a piece; *wait* for room first, if there is somebody to make it. After a stop it goes nowhere."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or not wait or len(self._waiting) < _CHUNKS_WAITING)
            if not self._is_stopped and piece:
                self._waiting.append(piece)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that this was all."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let neither side wait any more."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_ended or self._is_stopped)
            if self._is_stopped:
                raise _StoppedError
            if not self._waiting:
                raise StopIteration
            piece = self._waiting.popleft()
            self._changed.notify_all()
            return piece


def open_url(url: str, *, stall_seconds: float = 60.0, retry_seconds: float = RETRY_SECONDS) -> RemoteBlobs:
    """Return the store at a ``gs://`` or ``az://`` address, with the credentials that the machine gives its programs."""
    try:
        store = obstore.store.from_url(url, **how_to_try(stall_seconds=stall_seconds, retry_seconds=retry_seconds))
    except (BaseError, ValueError) as error:
        raise SettingsError(f"the store {url!r} cannot be used: {said(error)}") from error
    return RemoteBlobs(store)


def how_to_try(*, stall_seconds: float, retry_seconds: float) -> dict[str, Any]:
    """Return how obstore waits and tries again."""
    return {
        "client_options": {
            # For a whole transfer there is no limit, only for each wait within it.
            "timeout": timedelta(days=30),
            "read_timeout": timedelta(seconds=stall_seconds),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "allow_http": True,
        },
        "retry_config": {
            # The time decides, not the number.
            "max_retries": 1000,
            "retry_timeout": timedelta(seconds=retry_seconds),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
        },
    }


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what obstore raises into our errors; the log has its words, which may quote the store."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        _log.error("the store of the lab's bytes refuses: %s", said(error))
        raise refusing() from error
    except (BaseError, FileNotFoundError) as error:
        _log.error("the store of the lab's bytes does not answer as it should: %s", said(error))
        raise unavailable() from error


def refusing() -> UnavailableError:
    """Return the error for a store that does not let this server in."""
    return UnavailableError(
        "the store of the lab's bytes refuses the server", hint="whoever runs the server can look at its settings and its log"
    )


def unavailable() -> UnavailableError:
    """Return the error for a store that does not do its work now."""
    return UnavailableError(
        "the store of the lab's bytes does not answer as it should; nothing was recorded", hint="try again in a moment"
    )


def said(error: Exception) -> str:
    """Return what obstore says, in short."""
    return str(error).partition("\n\nDebug source")[0].replace("\n", " ")[:500]
