"""Reindexing: words of contents are read again where a newer extractor finds others."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Reply, Request, Text

Formats = Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)]
"""Names of formats."""


class ShowReindexing(Request, frozen=True, kw_only=True):
    """Ask which formats have assets whose words an older extractor read."""


class FormatWords(Reply, frozen=True, kw_only=True):
    """How far the words of one format are."""

    format: str
    """Its name."""
    version: int
    """The version of the extractor that the server has."""
    recorded: int
    """The version that read all words there are; 0 for none."""
    assets: int
    """How many live assets are in this format; counted only where some are left."""
    left: int
    """How many of them have yet to be read again."""


class Reindexing(Reply, frozen=True, kw_only=True):
    """How far the words of all formats are."""

    formats: tuple[FormatWords, ...]
    """Every format that has words, by name."""


class RunReindexing(Request, frozen=True, kw_only=True):
    """Read some words again, for some seconds: those of formats whose extractor is newer than the words."""

    formats: Formats = ()
    """Only of these formats; nothing for all."""
    again: bool = False
    """Begin these formats from their first asset, also where their words are current."""


class Reindexed(Reply, frozen=True, kw_only=True):
    """What one step read again."""

    format: str | None
    """Of which format; null if there was nothing to do, or somebody else is at it just now."""
    assets: int
    """How many assets it went through."""
    is_done: bool
    """Whether all words are current now."""
