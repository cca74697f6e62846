"""Sequences: where in an asset the letters of a region lie."""

from __future__ import annotations

from epista.contract.messages import Reply, Request, Text


class Region(Reply, frozen=True, kw_only=True):
    """Letters of one record, and where their bytes lie."""

    version: str
    """The version that was looked into."""
    name: str
    """The record."""
    length: int
    """Letters of the whole record."""
    start: int
    """The first letter, from 1."""
    stop: int
    """The last letter, included."""
    first: int = 0
    """Where in the stored bytes those begin that hold the letters."""
    size: int = 0
    """How many bytes they are."""
    skip: int = 0
    """How many bytes stand before the letters, once the blocks are unpacked."""
    is_packed: bool = False
    """Whether the bytes are blocks of bgzip."""
    is_scanned: bool = False
    """Whether no index can tell where the letters lie, because lines differ in length or the file is one gzip stream."""


class LocateRegion(Request, frozen=True, kw_only=True):
    """Find where the letters of a region lie; the index is made at first use, and kept by content."""

    workspace: Text
    """The workspace."""
    ref: Text
    """An id, a key or a bare name."""
    region: Text
    """A name, or ``chr1:101-600``: from 1, both ends included."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    version: Text | None = None
    """An older version, by id or number."""
