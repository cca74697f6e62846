"""Lineage: what somebody did when versions were made, and from what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from epista.contract.messages import Instant, Reply, Request, Text

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


class Origin(Request, frozen=True, kw_only=True):
    """What every commit says of where its versions come from."""

    inputs: Annotated[tuple[Text, ...], msgspec.Meta(max_length=10_000)] = ()
    """Ids of the versions that went into them, as whoever writes states it."""
    notebook: Text | None = None
    """The notebook that made them."""
    activity: Activity | None = None
    """What was being done, and what had been read before."""


def said(origin: Origin) -> dict[str, Any]:
    """Return the fields of an `Origin`, for a message that says the same."""
    return {name: getattr(origin, name) for name in Origin.__struct_fields__}


class Source(Reply, frozen=True, kw_only=True):
    """A version that went into another one, or came out of it."""

    version: str
    """The id of the version."""
    key: str
    """Where its asset stands."""
    number: int
    """Which version of that asset it is."""


class AskedQuery(Reply, frozen=True, kw_only=True):
    """A query whose result went into something."""

    id: str
    """In the query log."""
    sql: str | None = None
    """As typed; null unless the caller asked it, or may read all that it read."""


class RecordedActivity(Reply, frozen=True, kw_only=True):
    """What somebody did when versions were made, as the lab recorded it."""

    id: str
    """Opaque."""
    by: str
    """Who."""
    at: Instant
    """When the versions were made."""
    told: Activity
    """What was told of it, without `read` and `queries`; a cell's source is for its author and who sees the whole workspace."""
    queries: tuple[AskedQuery, ...] = ()
    """The queries whose results went in."""


class Lineage(Reply, frozen=True, kw_only=True):
    """Where a version came from, and what came of it."""

    inputs: tuple[Source, ...] = ()
    """The versions that went into it, as far as the caller may read them."""
    more: int = 0
    """How many more inputs the caller may read; `GetLineage` tells of them."""
    notebook: str | None = None
    """The notebook that made it."""
    activity: RecordedActivity | None = None
    """What made it, if that was told; said only of one asset that was looked up."""
    outputs: tuple[Source, ...] = ()
    """The newest 100 versions that it went into and the caller may read; said only of one asset that was looked up."""


MAX_DEPTH = 100
"""How many generations a graph reaches, each way."""

MAX_NODES = 1000
"""How many nodes a graph has."""

MAX_EDGES = 10_000
"""How many edges a graph has."""

MAX_ROOTS = 100
"""How many versions one graph may be about."""


class GraphVersion(Reply, frozen=True, kw_only=True):
    """A version that the caller may read, as a node of a graph."""

    id: str
    """The id of the version."""
    key: str
    """Where its asset stands."""
    number: int
    """Which version of that asset it is."""
    kind: str
    """Of this version."""
    format: str
    """Of this version."""
    at: Instant
    """When it was made."""
    by: str
    """Who made it."""
    notebook: str | None = None
    """The notebook that made it."""
    deleted: bool = False
    """Whether its asset is hidden."""


class Restricted(Reply, frozen=True, kw_only=True):
    """What a node was made from besides, and the caller may not read: one for each node, however much it is."""

    id: str
    """In this graph; it says of which node."""
    erased: bool = False
    """Whether it was erased for good; said to whoever sees the whole workspace, for whom nothing else is restricted."""


class Edge(Reply, frozen=True, kw_only=True):
    """Data flowed from one node to another: something was used, or made."""

    source: str
    """The id of a node."""
    target: str
    """The id of a node."""


class Graph(Reply, frozen=True, kw_only=True):
    """What came of what: versions, and the activities between them."""

    workspace: str
    """The workspace."""
    roots: tuple[str, ...]
    """The versions that it is about."""
    versions: tuple[GraphVersion, ...] = ()
    """Those among its nodes, the roots included."""
    activities: tuple[RecordedActivity, ...] = ()
    """Those among its nodes."""
    restricted: tuple[Restricted, ...] = ()
    """Those among its nodes."""
    edges: tuple[Edge, ...] = ()
    """In the direction in which data flows."""
    is_cut: bool = False
    """Whether there is more than one graph may have; not for what lies beyond the depth that was asked for."""


class GetLineage(Request, frozen=True, kw_only=True):
    """Show what versions came from, what came of them, or both."""

    workspace: Text
    """The workspace."""
    ref: Text | None = None
    """An asset, by its id, key or bare name, for its current version."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    versions: Annotated[tuple[Uid, ...], msgspec.Meta(max_length=MAX_ROOTS)] = ()
    """Ids of versions, instead of *ref*; also of deleted assets."""
    direction: Literal["up", "down", "both"] = "both"
    """``up`` for what they came from, ``down`` for what came of them."""
    depth: Annotated[int, msgspec.Meta(ge=1, le=MAX_DEPTH)] | None = None
    """How many generations of versions, each way; null for as many as one graph may have."""
