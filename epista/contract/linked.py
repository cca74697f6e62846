"""Linked files: catalogued where they lie, below roots that the server's settings name, without a copy of their bytes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Cursor, Reply, Request, Text
from epista.contract.objects import MAX_PARTS, BatchId


class LinkFiles(Request, frozen=True, kw_only=True):
    """
    Set files aside that lie below a root of the server, some thousand at a time, for the commit of a batch.

    They become visible together, with `CommitBatch`, as versions whose bytes stay where they are. Only below roots that the
    server's settings name for this workspace.
    """

    workspace: Text
    """The workspace."""
    source: Text
    """A file or a folder: ``ROOT/path``, with the name of a root, or the whole address, such as ``s3://bucket/path``."""
    prefix: Text = ""
    """The folder below which they shall stand; nothing is the root of the workspace."""
    batch: BatchId | None = None
    """Where to set them aside; null only tells what would be linked."""
    part: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)] = 0
    """The first part of the batch that is free."""
    after: Cursor | None = None
    """Where to go on."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not linked."""

    path: str
    """Where it lies, below the source."""
    reason: str
    """Why not, in words."""


class LinkedFiles(Reply, frozen=True, kw_only=True):
    """What one step found."""

    files: int
    """How many files can be linked."""
    size_bytes: int
    """How many bytes they have, where they are."""
    parts: int
    """How many parts of the batch they became."""
    left_out: tuple[LeftOut, ...]
    """What cannot be linked, and why; of very much, the beginning."""
    left_out_count: int
    """How many cannot be linked."""
    next: str | None
    """Where to go on, or null at the end."""
