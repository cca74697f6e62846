"""
What a store of bytes can do, whatever it keeps them in.

An object is a run of bytes with a random name that is used once; it is never changed, so removing one can never take another
one's bytes along. A store knows names and bytes, never keys or people. Implementations: `memory`, `local`, `s3`, and
`remote` for other object stores.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from epista.contract.errors import IntegrityError, NotFoundError

CHUNK = 1024 * 1024
"""How many bytes are read or written at once."""

_NAME = re.compile(r"[0-9a-f]{32}")


class Stored(NamedTuple):
    """Bytes that are durable."""

    object: str
    sha256: str
    size: int


class Found(NamedTuple):
    """An object that lies in the store."""

    object: str
    size: int
    modified: float
    """When it was stored, in seconds since 1970."""


class Incoming(Protocol):
    """Bytes on their way into the store: `write` them in order, then `finish` or `discard`."""

    name: str
    size: int

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""

    def finish(self) -> Stored:
        """Make the bytes durable under their final name; until then nobody can see them."""

    def discard(self) -> None:
        """Forget the bytes, from whatever thread; does nothing after a `finish` that succeeded."""


class BlobStore(Protocol):
    """Immutable objects by name; for any number of threads and processes."""

    def create(self, *, size: int | None = None) -> Incoming:
        """Begin a new object, of *size* bytes if that is known; it may still become another size."""

    def read(self, object: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """
        Yield the bytes from *start* up to *stop*, which is excluded, in pieces of at most `CHUNK`.

        Nothing is opened before the first piece is asked for; closing the generator lets go of what is open.

        Raises:
            IntegrityError: the object is missing, which shows before the first piece, or ends before *stop*.
            UnavailableError: the store does not answer.
        """

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""

    def objects(self) -> Iterator[Found]:
        """Walk over all objects, in no order."""

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Remove what began to come in and was left more than the grace period ago; return how many, and their bytes."""

    def path(self, object: str) -> Path | None:
        """Return the file of an object, for reading only; None where the store has no files on this machine."""

    def link(self, object: str, *, name: str, media_type: str, seconds: int) -> str | None:
        """
        Return an address where anybody can read the object for some *seconds*, as a file called *name*.

        None where the store has no addresses of its own.
        """


def new_name() -> str:
    """Return a name for a new object."""
    return secrets.token_hex(16)


def checked(object: str) -> str:
    """Return the name of an object, which must look like one."""
    if not _NAME.fullmatch(object):
        raise NotFoundError(f"no object has the name {object!r}")
    return object


def missing() -> IntegrityError:
    """Return the error for an object that is not there."""
    return IntegrityError("the bytes are missing from the lab's store", hint="the lab's manager can run: epista verify")


def cut_short() -> IntegrityError:
    """Return the error for an object that ends before it should."""
    return IntegrityError("the object is shorter than its row says", hint="the lab's manager can run: epista verify")


def digest(store: BlobStore, object: str, offset: int, size: int) -> str | None:
    """Return the sha256 of a part of an object as it lies there; None if the object is missing or too short."""
    found = hashlib.sha256()
    try:
        for piece in store.read(object, offset, offset + size):
            found.update(piece)
    except IntegrityError:
        return None
    return found.hexdigest()
