"""Objects: bytes on their way in and out, and the verbs that change what stands at a key."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from epista.contract.assets import MAX_TAGS, Asset
from epista.contract.frames import MAX_OBJECTS
from epista.contract.lineage import Origin
from epista.contract.messages import Digest, Reply, Request, Text

Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
"""One tag: any text without control characters."""

Expect = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""``absent``, or the id of the version that a write replaces."""


class Blob(Reply, frozen=True, kw_only=True):
    """Content that the server holds."""

    sha256: str
    """As the server computed it from the bytes it received."""
    size_bytes: int
    """How many bytes it received."""


class UploadBlob(Request, frozen=True, kw_only=True):
    """Send the bytes of one object as the body. A ``Content-Digest`` header (RFC 9530), if given, must agree with them."""

    workspace: Text
    """The workspace."""


class MissingBlobs(Request, frozen=True, kw_only=True):
    """Ask which contents have to be sent. Content that the caller can neither read nor has sent counts as missing."""

    workspace: Text
    """The workspace."""
    sha256: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=10_000)]
    """Of the contents."""


class Missing(Reply, frozen=True, kw_only=True):
    """What has to be sent."""

    sha256: tuple[str, ...]
    """Those of the question, in its order."""


class StageBlob(Request, frozen=True, kw_only=True):
    """Ask for a file to copy bytes into, instead of sending them. Only in an embedded lab, for its own user."""

    workspace: Text
    """The workspace."""


class Stage(Reply, frozen=True, kw_only=True):
    """A file of the lab that waits for bytes."""

    stage: str
    """Names the stage when it is taken in."""
    path: str
    """The file, empty; copy into it, never move or link."""


class TakeStaged(Request, frozen=True, kw_only=True):
    """Take in a staged file: the server hashes its own copy."""

    workspace: Text
    """The workspace."""
    stage: Text
    """Which."""


class LocateBlob(Request, frozen=True, kw_only=True):
    """Ask where the bytes of a version lie on this machine. Only in an embedded lab, for its own user."""

    workspace: Text
    """The workspace."""
    version: Text
    """The id of the version."""


class Location(Reply, frozen=True, kw_only=True):
    """Where bytes lie on this machine: read-only, and never to be linked."""

    path: str
    """The file."""
    offset: int
    """Where in the file the bytes begin."""
    size_bytes: int
    """How many they are."""
    sha256: str
    """Of the bytes."""


class ReadContent(Request, frozen=True, kw_only=True):
    """
    Download the bytes of a version; ``Range`` and conditions (RFC 9110) are understood, ``ETag`` is the sha256.

    Of a linked file it stands for what the file was when it was linked, and ``Repr-Digest`` (RFC 9530) tells the sha256 once
    somebody has read the whole of it.

    With ``Prefer: redirect`` the answer may be 307 with an address in the lab's own store, good for a short time. Ask there
    without the token, for the same range, and ask here again once it has ended.
    """

    workspace: Text
    """The workspace."""
    version: Text
    """The id of the version."""


class Described(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version shall say of its content."""

    key: Text
    """Where it shall stand."""
    format: Text | None = None
    """The name of its format; null: by the extension."""
    kind: Text | None = None
    """What it is; null: what it was while the format stays, else by `kind_hint` or the format."""
    kind_hint: Text | None = None
    """What the object it was made from suggests, such as FIGURE."""
    options: dict[str, Any] = {}
    """The serializer's options, recorded with the version."""
    meta: dict[str, Any] | None = None
    """Metadata; null keeps what the asset has."""
    tags: Annotated[tuple[Tag, ...], msgspec.Meta(max_length=MAX_TAGS)] | None = None
    """Tags; null keeps what the asset has."""
    expect: Expect | None = None
    """``absent``, or the id of the version this replaces."""


class PutObject(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key of a commit."""

    sha256: Digest
    """Of content that the caller has sent, or may read."""


class CommitObjects(Origin, frozen=True, kw_only=True):
    """Make versions of contents that are there: all or none."""

    workspace: Text
    """The workspace."""
    objects: Annotated[tuple[PutObject, ...], msgspec.Meta(min_length=1, max_length=1_000_000)]
    """One for each key; a key may stand here once."""


class Assets(Reply, frozen=True, kw_only=True):
    """The assets an act made or changed, in the order of the request."""

    assets: tuple[Asset, ...]
    """Whole; the receipt of a write."""


MAX_PARTS = 100_000
"""How many parts a batch may have."""


class SendFrame(Request, frozen=True, kw_only=True):
    """
    Send small objects together, and make versions of them in the same transaction.

    The body is the length of a `FrameHead` in 4 bytes, that message as JSON, and a frame (``EPF1``, the number of objects in 4
    bytes, the sha256 and the size in 4 bytes of each, then their bytes; numbers are big-endian).
    """

    workspace: Text
    """The workspace."""


BatchId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", max_length=32)]
"""Names a batch; the caller makes it up, at random."""


class FrameHead(Origin, frozen=True, kw_only=True):
    """What stands before a frame."""

    objects: Annotated[tuple[PutObject, ...], msgspec.Meta(max_length=MAX_OBJECTS)] = ()
    """Keys to make versions at, of contents in this frame, or that the caller has sent or may read."""
    batch: BatchId | None = None
    """Only set the keys aside, for the commit of this batch; without where they come from, which is said by the commit."""
    part: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)] = 0
    """Which part of the batch this is; sent again, it replaces what it was."""


class CommitBatch(Origin, frozen=True, kw_only=True):
    """
    Make versions of everything that was set aside for a batch: all or none, in one transaction.

    The keys ascend in code-point order, within each part and from part to part. The answer has a line of JSON for each part, an
    `Assets`. Asked again, also after its reply was lost, it is answered alike.
    """

    workspace: Text
    """The workspace."""
    batch: BatchId
    """Which."""
    parts: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    """How many parts it has, counted from 0."""


class Framed(Reply, frozen=True, kw_only=True):
    """What became of a frame."""

    blobs: int
    """How many objects came in it; each has the sha256 that the frame says."""
    assets: tuple[Asset, ...] = ()
    """The assets that were made or changed, in the order of the request."""


class ReadFrames(Request, frozen=True, kw_only=True):
    """
    Read small objects together: the answer is a frame of the distinct contents, in no particular order.

    What is not there for the caller is not in the frame; nor is what is large, or cannot be read just now.
    """

    workspace: Text
    """The workspace."""
    versions: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_OBJECTS)]
    """The ids of the versions."""


class SetMetadata(Request, frozen=True, kw_only=True):
    """Replace the metadata of an asset: a new version on the same bytes."""

    workspace: Text
    """The workspace."""
    key: Text
    """Its key."""
    meta: dict[str, Any]
    """The new metadata, whole."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    expect: Expect | None = None
    """The id of the version this replaces."""


class DeleteAsset(Request, frozen=True, kw_only=True):
    """Hide an asset; `RestoreAsset` brings it back."""

    workspace: Text
    """The workspace."""
    key: Text
    """Its key."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""


class DeleteFolder(Request, frozen=True, kw_only=True):
    """Hide everything below a folder, or nothing."""

    workspace: Text
    """The workspace."""
    path: Text
    """The folder, with or without its ``/``; never the root."""
    dry_run: bool = False
    """Only say what would be hidden."""


class Keys(Reply, frozen=True, kw_only=True):
    """Keys, in code-point order."""

    keys: tuple[str, ...]
    """The keys."""


class PurgeVersions(Request, frozen=True, kw_only=True):
    """Erase versions for good, with the bytes that no other version needs. Nothing brings them back."""

    workspace: Text
    """The workspace."""
    path: Text
    """The key of an asset, or a folder ending in ``/``, of which only deleted assets are erased."""
    version: Text | None = None
    """The id or number of one version, not the newest; null: all of a deleted asset."""
    dry_run: bool = False
    """Only say what would be erased."""


class PurgedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is gone."""

    key: str
    """Where it stood."""
    number: int
    """Its number."""


class Purged(Reply, frozen=True, kw_only=True):
    """What was erased."""

    versions: tuple[PurgedVersion, ...]
    """In the order of their keys and numbers."""


class RestoreAsset(Request, frozen=True, kw_only=True):
    """Bring a deleted asset back, or make an old version the current one."""

    workspace: Text
    """The workspace."""
    key: Text
    """Its key."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    version: Text | None = None
    """The id or number of the version to make current."""


class MoveObject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One asset or one folder, and where it shall stand."""

    source: Text
    """A key; or a folder, ending in ``/``, with everything below it."""
    target: Text
    """The new key, or the new folder; ``/`` is the root."""
    expect: Expect | None = None
    """``absent``, or the id of the version that is replaced at the target; of a folder for every key."""


class CopyObject(MoveObject, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One asset or one folder, and where a copy of it shall stand."""

    version: Text | None = None
    """The id or number of the version to copy; null: the current one, and so for folders."""


class CopyObjects(Request, frozen=True, kw_only=True):
    """Make what stands at some keys stand at others too, without moving bytes: all or none."""

    workspace: Text
    """The workspace."""
    objects: Annotated[tuple[CopyObject, ...], msgspec.Meta(min_length=1, max_length=1_000_000)]
    """What, and where to; no target twice."""
    experiment: Text | None = None
    """The active experiment, in which a source without a folder is looked up first."""
    notebook: Text | None = None
    """The notebook that asks for it."""


class MoveObjects(Request, frozen=True, kw_only=True):
    """Make what stands at some keys stand at others instead: copies, and the sources hidden, in one step."""

    workspace: Text
    """The workspace."""
    objects: Annotated[tuple[MoveObject, ...], msgspec.Meta(min_length=1, max_length=1_000_000)]
    """What, and where to; no target twice."""
    experiment: Text | None = None
    """The active experiment, in which a source without a folder is looked up first."""
    notebook: Text | None = None
    """The notebook that asks for it."""
