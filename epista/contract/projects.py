"""Projects: named groups of experiments, never part of a key."""

from __future__ import annotations

from epista.contract.messages import Cursor, Instant, Name, PageSize, Reply, Request, Text


class Project(Reply, frozen=True, kw_only=True):
    """One project."""

    id: str
    """Opaque; stays the same when it is renamed."""
    name: str
    """What it is called."""
    title: str | None
    """What it is about."""
    description: str | None
    """The same, at length."""
    experiments: int
    """How many of its experiments the caller may read."""
    created_at: Instant
    """When it was made."""
    created_by: str
    """By whom."""


class Projects(Reply, frozen=True, kw_only=True):
    """One page of projects."""

    projects: tuple[Project, ...]
    """By name."""
    next: str | None
    """Where the next page begins, or null at the end."""


class CreateProject(Request, frozen=True, kw_only=True):
    """Make a project."""

    workspace: Text
    """The workspace."""
    name: Name
    """What to call it."""
    title: Text | None = None
    """What it is about."""
    description: Text | None = None
    """The same, at length."""


class ListProjects(Request, frozen=True, kw_only=True):
    """List the projects that hold an experiment that the caller may read; whoever may read all sees empty ones too."""

    workspace: Text
    """The workspace."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class GetProject(Request, frozen=True, kw_only=True):
    """Look at one project."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""


class UpdateProject(Request, frozen=True, kw_only=True):
    """Describe a project anew. What is null stays as it is."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""
    to: Name | None = None
    """Its new name."""
    title: Text | None = None
    """What it is about; empty for nothing."""
    description: Text | None = None
    """The same, at length; empty for nothing."""


class RemoveProject(Request, frozen=True, kw_only=True):
    """Remove a project. Its experiments stay, and are in no project then."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""
