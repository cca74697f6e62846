"""The audit log of a workspace, and the care of the lab's bytes."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from epista.contract.messages import Cursor, Instant, PageSize, Reply, Request, Text


class AuditRow(Reply, frozen=True, kw_only=True):
    """What one request did, chained to the row before by hash."""

    number: int
    """Counted from 1, without gaps."""
    at: Instant
    """When."""
    actor: str
    """The user's name."""
    token: str | None
    """The id of the token used."""
    action: str
    """The endpoint's name, such as ``objects.commit``."""
    target: str
    """What it was done to."""
    outcome: str
    """``done``, or the code of the error."""
    request_id: str
    """The request, as the server's log and the client's errors name it."""
    details: dict[str, Any]
    """What else is worth knowing."""
    hash: str
    """sha256 over the hash of the row before and everything in this one."""


class AuditPage(Reply, frozen=True, kw_only=True):
    """One page of the audit log."""

    rows: tuple[AuditRow, ...]
    """Newest first."""
    next: str | None
    """Where the next page begins, or null at the end."""


class ReadAudit(Request, frozen=True, kw_only=True):
    """Read the audit log of a workspace, newest first."""

    workspace: Text
    """The workspace."""
    actor: Text | None = None
    """Only what this user did."""
    action: Text | None = None
    """Only this action."""
    target: Text | None = None
    """Only what was done to exactly this."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 100
    """The size of the page."""


class VerifyAudit(Request, frozen=True, kw_only=True):
    """Recompute the chain of hashes of a workspace's audit log."""

    workspace: Text
    """The workspace."""


class ReadLabAudit(Request, frozen=True, kw_only=True):
    """Read the audit log of the lab itself, newest first: tokens, sign-ins, workspaces, care."""

    actor: Text | None = None
    """Only what this user did."""
    action: Text | None = None
    """Only this action."""
    target: Text | None = None
    """Only what was done to exactly this."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 100
    """The size of the page."""


class VerifyLabAudit(Request, frozen=True, kw_only=True):
    """Recompute the chain of hashes of the lab's own audit log."""


class AuditVerdict(Reply, frozen=True, kw_only=True):
    """Whether the audit log is whole."""

    rows: int
    """How many rows were checked."""
    head: str
    """The hash of the newest row; noted down elsewhere, it also proves that the log was not rewritten as a whole."""
    problems: tuple[str, ...]
    """What is wrong, in words; none if the log is whole."""


class VerifyBlobs(Request, frozen=True, kw_only=True):
    """Check the lab's blobs against their hashes, some at a time."""

    after: Cursor | None = None
    """Where to go on."""


class BlobProblem(Reply, frozen=True, kw_only=True):
    """A blob that is missing or is not what it should be."""

    sha256: str | None
    """What it should be; null for a linked file that nobody has read whole yet."""
    problem: str
    """What is wrong, in words."""
    keys: tuple[str, ...]
    """Some of the assets that need it, as ``workspace:key@version``."""


class BlobVerdict(Reply, frozen=True, kw_only=True):
    """What one step of a verification found."""

    blobs: int
    """How many were checked in this step."""
    size_bytes: int
    """How many bytes were read in this step."""
    problems: tuple[BlobProblem, ...]
    """What is wrong."""
    next: str | None
    """Where to go on, or null at the end."""


class CollectGarbage(Request, frozen=True, kw_only=True):
    """
    Remove content that no version needs and that lies there longer than the grace period, and old temporary files.

    Packs of which less than half is needed are rewritten.
    """

    dry_run: bool = False
    """Only say what would go."""
    grace_seconds: Annotated[int, msgspec.Meta(ge=0, le=100 * 365 * 24 * 3600)] = 24 * 3600
    """How long content may wait for its commit."""


class Garbage(Reply, frozen=True, kw_only=True):
    """What a collection removed."""

    blobs: int
    """Contents that no version needed."""
    files: int
    """Temporary or orphaned files."""
    size_bytes: int
    """How much room that gave back."""
    packs: int = 0
    """Packs of which less than half was needed, and that were rewritten."""
    packs_bytes: int = 0
    """How much shorter that made them; what was needed once, and is no more, counts among the contents too."""
    tables: int = 0
    """Tables of many files of which one was made."""


class BackUp(Request, frozen=True, kw_only=True):
    """Copy a folder lab, as of one moment, into a new folder on the server's machine."""

    destination: Text
    """An absolute path that does not exist yet, or is an empty folder; on a shared server, one below its ``backup_root``."""


class Backup(Reply, frozen=True, kw_only=True):
    """A finished copy: a lab of its own, but for bytes that are in a store elsewhere."""

    path: str
    """Where it lies."""
    blobs: int
    """How many blob files it has."""
    size_bytes: int
    """How many bytes they are."""
    left_out: str | None = None
    """The store whose bytes were not copied; null if all were."""
    linked_blobs: int = 0
    """How many linked files are in the catalog, whose bytes stay where they are."""
