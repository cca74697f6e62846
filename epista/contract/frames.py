"""
Frames: many small objects as one run of bytes.

A frame is a header and then the bodies, one after another. The header is ``EPF1``, the number of objects (4 bytes, big-endian)
and for each object its sha256 (32 bytes) and its size (4 bytes). A frame that is sent becomes a pack as it is, so it has no keys
and no metadata: they travel before it, as JSON after its length (4 bytes).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epista.contract.errors import IntegrityError, InvalidRequestError

SMALL_BYTES = 256 * 1024
"""Objects below this size travel in frames."""

MAX_OBJECTS = 1000
"""How many objects one frame has at most."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""How many bytes the objects of a frame that is sent have together at most; an answer may have as many as its objects have."""

PREFIX_BYTES = 8
"""How many bytes of a frame tell the length of its header."""

LENGTH_BYTES = 4
"""How many bytes tell the length of the message before a frame."""

_MAGIC = b"EPF1"
_PREFIX = struct.Struct(">4sI")
_ENTRY = struct.Struct(">32sI")
_LENGTH = struct.Struct(">I")


class Entry(NamedTuple):
    """One object of a frame."""

    sha256: str
    """Of its bytes, in hexadecimal."""
    size: int
    """How many they are."""


class Placed(NamedTuple):
    """One object of a frame, and where in the frame its bytes begin."""

    sha256: str
    """Of its bytes, in hexadecimal."""
    size: int
    """How many they are."""
    offset: int
    """Never 0, for a header comes first."""


def header(entries: Sequence[Entry]) -> bytes:
    """Return the header of a frame of these objects."""
    parts = [_PREFIX.pack(_MAGIC, len(entries))]
    parts += [_ENTRY.pack(bytes.fromhex(sha256), size) for sha256, size in entries]
    return b"".join(parts)


def frame(bodies: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the frame of these objects: the sha256 and the bytes of each."""
    listed = list(bodies)
    return b"".join([header([Entry(sha256, len(body)) for sha256, body in listed]), *(body for _, body in listed)])


def header_bytes(prefix: bytes | memoryview) -> int:
    """
    Return how long the header is of a frame that begins with *prefix*, at least its `PREFIX_BYTES`.

    Raises:
        InvalidRequestError: no frame begins so.
    """
    if len(prefix) < PREFIX_BYTES:
        raise InvalidRequestError("the frame ends within its header")
    magic, count = _PREFIX.unpack_from(prefix)
    if magic != _MAGIC:
        raise InvalidRequestError("these bytes are no frame")
    if count > MAX_OBJECTS:
        raise InvalidRequestError(f"the frame says that it has {count:,} objects; at most {MAX_OBJECTS:,} are allowed")
    return PREFIX_BYTES + int(count) * _ENTRY.size


def entries(head: bytes | memoryview) -> list[Entry]:
    """
    Return the objects that a whole header names.

    Raises:
        InvalidRequestError: it does not fit the format, or names an object twice or one that is too large for a frame.
    """
    length = header_bytes(head)
    if len(head) != length:
        raise InvalidRequestError("the frame ends within its header")
    found = [Entry(digest.hex(), size) for digest, size in _ENTRY.iter_unpack(head[PREFIX_BYTES:])]
    for sha256, size in found:
        if size >= SMALL_BYTES:
            raise InvalidRequestError(f"{sha256} has {size:,} bytes; from {SMALL_BYTES:,} bytes on, objects travel alone")
    if len({sha256 for sha256, _ in found}) < len(found):
        raise InvalidRequestError("the frame has an object twice")
    return found


def parse(data: bytes | memoryview) -> list[Placed]:
    """
    Return the objects of a whole frame, each of which has the sha256 that the header says.

    Raises:
        InvalidRequestError: the frame is cut short, goes on after its end, or is over a limit.
        IntegrityError: an object is not what the header says.
    """
    view = memoryview(data)
    offset = header_bytes(view)
    found = entries(view[:offset])
    size = sum(entry.size for entry in found)
    if size > MAX_BODY_BYTES:
        raise InvalidRequestError(f"the frame has {size:,} bytes of objects; at most {MAX_BODY_BYTES:,} are allowed")
    if len(view) != offset + size:
        raise InvalidRequestError(f"the frame has {len(view):,} bytes, but its header says {offset + size:,}")
    placed: list[Placed] = []
    for entry in found:
        if hashlib.sha256(view[offset : offset + entry.size]).hexdigest() != entry.sha256:
            raise IntegrityError(
                f"the bytes that arrived for {entry.sha256} have another sha256",
                hint="send them again",
                details={"sha256": entry.sha256},
            )
        placed.append(Placed(entry.sha256, entry.size, offset))
        offset += entry.size
    return placed


def joined(message: bytes, data: bytes) -> bytes:
    """Return *message* and the frame *data* as one body."""
    return b"".join([_LENGTH.pack(len(message)), message, data])


def split(body: bytes) -> tuple[memoryview, memoryview]:
    """
    Return the message and the frame of a body.

    Raises:
        InvalidRequestError: the message is cut short.
    """
    view = memoryview(body)
    if len(view) < LENGTH_BYTES:
        raise InvalidRequestError("the body ends before its message")
    (length,) = _LENGTH.unpack_from(view)
    if len(view) < LENGTH_BYTES + length:
        raise InvalidRequestError("the body ends within its message")
    return view[LENGTH_BYTES : LENGTH_BYTES + length], view[LENGTH_BYTES + length :]
