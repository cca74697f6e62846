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
from collections.abc import Generator, Iterator, Mapping, Sequence
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


class Address(NamedTuple):
    """Where anybody can send something for a while, with just these headers."""

    url: str
    headers: Mapping[str, str]


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


class IncomingPart(Protocol):
    """One part of an object on its way into the store: `write` its bytes in order, then `finish`; at last `discard`."""

    def write(self, data: bytes | memoryview) -> None:
        """Append *data*; after a `discard` it goes nowhere."""

    def finish(self) -> str:
        """Make the bytes durable and return the store's tag for them."""

    def discard(self) -> None:
        """Let go of the part, from whatever thread; what was finished stays."""


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

    def near(self, object: str, start: int, stop: int) -> bytes | bytearray:
        """Return bytes from *start* on, up to *stop* and at most `CHUNK`, as far as they are had without waiting: maybe none."""

    def size(self, object: str) -> int | None:
        """Return how many bytes an object has; None if it is missing."""

    def delete(self, object: str) -> None:
        """Remove an object; a missing one is fine."""

    def objects(self) -> Iterator[Found]:
        """Walk over all objects, in no order."""

    def sweep(self, grace_seconds: float, *, dry_run: bool) -> tuple[int, int]:
        """Remove what began to come in and was left more than the grace period ago; return how many, and their bytes."""

    def begin(self, size: int) -> str:
        """
        Begin an object of *size* bytes that comes in parts, in any order and to any process.

        Return the name of the object-to-be, and after it whatever else the store has to know of it until `join`.

        Raises:
            StorageFullError: there is no room for it.
        """

    def part(self, unfinished: str, number: int, start: int) -> IncomingPart:
        """
        Let a part come in, counted from 1, whose bytes begin at *start*.

        Raises:
            UnavailableError: another request sends this part just now. A store may also let both do so: then what each
                sends has a tag of its own, and the one that is given to `join` counts.
            IntegrityError: there is no such unfinished object, where the store looks for it now.
        """

    def entrance(self, unfinished: str, number: int, *, size: int, crc32: int, seconds: int) -> Address | None:
        """
        Return an address where anybody can send that part with PUT for some *seconds*, past this server.

        The store takes no bytes with another length or CRC-32. None where a store has no addresses of its own.
        """

    def entered(self, unfinished: str, parts: Mapping[int, tuple[int, int]]) -> dict[int, str]:
        """Return the tags, by number, of those *parts* (their sizes and CRC-32) that have come in by their addresses, whole."""

    def peek(self, unfinished: str, start: int, stop: int) -> Generator[bytes, None, None] | None:
        """Yield bytes of finished parts as `read` does; None where the store cannot read them before `join`."""

    def join(self, unfinished: str, tags: Sequence[str]) -> str:
        """
        Make one durable object of finished parts, given all their *tags* in order, and return its name.

        Does nothing, and returns the same, if it is done already.
        """

    def abandon(self, unfinished: str) -> None:
        """Remove an unfinished object, in the middle of a part too; a missing one, and a joined one, is fine."""

    def unfinished(self) -> Iterator[Found]:
        """Walk over all unfinished objects, in no order."""

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


def is_name(object: str) -> bool:
    """Whether an object could have that name."""
    return _NAME.fullmatch(object) is not None


def checked(object: str) -> str:
    """Return the name of an object, which must look like one."""
    if not is_name(object):
        raise NotFoundError(f"no object has the name {object!r}")
    return object


def object_of(unfinished: str) -> str:
    """Return the name that an unfinished object will have."""
    return unfinished[:32]


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
