"""Experiments: the first folder of a key, with a title and metadata of its own."""

from __future__ import annotations

from typing import Any

from epista.contract.messages import Cursor, Instant, Name, PageSize, Reply, Request, Text


class Experiment(Reply, frozen=True, kw_only=True):
    """One experiment. A folder at the root of the workspace is one, also if nobody described it."""

    name: str
    """The first folder of its keys."""
    title: str | None
    """What it is about."""
    meta: dict[str, Any]
    """The user's metadata, exactly as given."""
    assets: int
    """How many live assets it holds."""
    created_at: Instant
    """When it was described, or else when its first asset came."""
    created_by: str
    """By whom."""


class Experiments(Reply, frozen=True, kw_only=True):
    """One page of experiments, by name."""

    experiments: tuple[Experiment, ...]
    """In order of their names."""
    next: str | None
    """Where the next page begins, or null at the end."""


class CreateExperiment(Request, frozen=True, kw_only=True):
    """Describe an experiment; its folder may hold assets already."""

    workspace: Text
    """The workspace."""
    name: Name
    """The folder."""
    title: Text | None = None
    """What it is about."""
    meta: dict[str, Any] = {}
    """Metadata of the experiment itself."""


class ListExperiments(Request, frozen=True, kw_only=True):
    """List the experiments that the caller may read."""

    workspace: Text
    """The workspace."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class GetExperiment(Request, frozen=True, kw_only=True):
    """Look at one experiment."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""
