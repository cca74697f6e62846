"""Uploads: large contents that come in parts, in any order, and go on where they were after whatever broke."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Digest, Instant, Reply, Request, Text

MAX_PARTS = 10_000
"""How many parts one upload may have; S3 knows no more either."""

Checksum = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
"""The CRC-32 of some bytes (ISO 3309, as of zlib and of ``x-amz-checksum-crc32``): it finds faults of transport, no forgery."""


class Part(Reply, frozen=True, kw_only=True):
    """A part that is there to stay: durable, and never replaced."""

    number: int
    """Counted from 1."""
    size_bytes: int
    """How many bytes it has."""
    crc32: int
    """Of the bytes that arrived."""


class Upload(Reply, frozen=True, kw_only=True):
    """Content that comes in parts."""

    id: str
    """Opaque."""
    size_bytes: int
    """Of the whole."""
    part_bytes: int
    """Of each part, but of the last one, which has the rest."""
    received_bytes: int
    """Of the parts that are there."""
    sha256: str | None
    """Of the whole, as the sender announced it, if so."""
    user: str
    """Who sends it."""
    created_at: Instant
    """When it began."""
    expires_at: Instant
    """When it is forgotten, unless it is complete by then."""


class Uploads(Reply, frozen=True, kw_only=True):
    """Incomplete uploads."""

    uploads: tuple[Upload, ...]
    """Newest first."""


class UploadParts(Reply, frozen=True, kw_only=True):
    """An upload, and which of its parts are there."""

    upload: Upload
    """The upload."""
    parts: tuple[Part, ...]
    """By number."""


class CompletedUpload(Reply, frozen=True, kw_only=True):
    """How far the server has come with making one blob of the parts."""

    sha256: str | None
    """As the server computed it from the bytes it received; null while it reads them: then ask again."""
    size_bytes: int
    """Of the whole."""
    read_bytes: int
    """How much of it the server has read."""


class CreateUpload(Request, frozen=True, kw_only=True):
    """Begin to send large content in parts."""

    workspace: Text
    """The workspace."""
    size_bytes: Annotated[int, msgspec.Meta(ge=1, lt=2**62)]
    """Of the whole."""
    sha256: Digest | None = None
    """Of the whole, if it is known; the completed content must have it."""


class FindUploads(Request, frozen=True, kw_only=True):
    """List incomplete uploads: the caller's own."""

    workspace: Text
    """The workspace."""
    size_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] | None = None
    """Only those of content of that size."""
    everyone: bool = False
    """Those of all members; for admins of the workspace."""


class GetUpload(Request, frozen=True, kw_only=True):
    """Ask which parts of an upload are there."""

    workspace: Text
    """The workspace."""
    upload: Text
    """Its id."""


class PutPart(Request, frozen=True, kw_only=True):
    """Send one part as the body. A part that is there already stays as it is; to send other bytes in its place is a conflict."""

    workspace: Text
    """The workspace."""
    upload: Text
    """The id of the upload."""
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    """Counted from 1."""
    crc32: Checksum | None = None
    """Of the body, as the sender computed it; it must agree with what arrives."""


class SignPart(Request, frozen=True, kw_only=True):
    """Ask for an address in the lab's own store to which one part can be sent straight; `uploads.take_part` ends it."""

    workspace: Text
    """The workspace."""
    upload: Text
    """The id of the upload."""
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    """Counted from 1."""
    crc32: Checksum
    """Of the part; the store takes no other bytes."""


class TakePart(Request, frozen=True, kw_only=True):
    """Have a part recorded that was sent straight to the lab's store."""

    workspace: Text
    """The workspace."""
    upload: Text
    """The id of the upload."""
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    """Counted from 1."""
    crc32: Checksum
    """Of the part, as it was given for its address."""


class PartAddress(Reply, frozen=True, kw_only=True):
    """Where to send a part."""

    url: str | None
    """Where to send it with PUT, for a short time, without the token; null: to `uploads.put_part` as ever."""
    headers: dict[str, str]
    """What to send with it, just so."""

    def __repr__(self) -> str:
        return "PartAddress(url=<hidden>)"


class CompleteUpload(Request, frozen=True, kw_only=True):
    """Make one blob of all the parts. Asked again, it answers the same."""

    workspace: Text
    """The workspace."""
    upload: Text
    """The id of the upload."""
    sha256: Digest | None = None
    """Of the whole, as the sender computed it; it must agree with what arrived."""


class AbortUpload(Request, frozen=True, kw_only=True):
    """Give up an upload, and its parts. An admin of the workspace may do so for others."""

    workspace: Text
    """The workspace."""
    upload: Text
    """Its id."""
