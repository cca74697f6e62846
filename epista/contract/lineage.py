"""Lineage: what somebody did when versions were made."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Instant

MAX_READ = 1000
"""How many versions an activity names as read; each put repeats them, so they have to be few."""

MAX_QUERIES = 100
"""How many queries an activity names."""

MAX_SOURCE = 16 * 1024
"""How many characters of a cell are kept."""

Short = Annotated[str, msgspec.Meta(max_length=500)]
"""A title, a path or a name."""

Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""The id of a version or of a query."""


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell of a notebook."""

    number: int | None = None
    """As the notebook counts what was run."""
    id: Short | None = None
    """As the notebook names it; it stays the same when the cell is run again."""
    source: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE)] | None = None
    """What was run, without what looks like a secret; its beginning if it is long."""


class Activity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What somebody did when versions were made, as told by whoever did it.

    It has no paths of a machine, no names of users and nothing of the environment. The notebook stands in the commit beside it.
    """

    title: Short | None = None
    """What `Workspace.run` was given."""
    cell: Cell | None = None
    """The cell of the notebook."""
    script: Short | None = None
    """The script, from the root of its git repository, or its name alone; of ``python -m``, the module."""
    git_commit: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40,64}$(?!\n)", max_length=64)] | None = None
    """The commit that was checked out there."""
    is_dirty: bool | None = None
    """Whether tracked files differed from it; null if git did not say."""
    python: Short | None = None
    """The version of Python."""
    epista: Short | None = None
    """The version of Epista."""
    started_at: Instant | None = None
    """When `Workspace.run` was entered."""
    read: Annotated[tuple[Uid, ...], msgspec.Meta(max_length=MAX_READ)] = ()
    """Ids of versions that were read before; unlike stated inputs, what is not there for the caller any more is left out."""
    left_out: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many more were read, and are not named."""
    queries: Annotated[tuple[Uid, ...], msgspec.Meta(max_length=MAX_QUERIES)] = ()
    """Ids of queries in the log whose results went in."""
