"""Assets: what stands at a key, its versions, and the ways to find them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from epista.contract.lineage import Lineage
from epista.contract.messages import Cursor, Instant, PageSize, Reply, Request, Text
from epista.contract.tables import Table

MAX_TAGS = 100
"""How many tags one asset may have."""

MAX_LISTED = 5000
"""How many assets one page of them may have."""


# Without the garbage collector, for nothing in it can hold a circle, a million are decoded in a third of the time.
class AssetRef(Reply, frozen=True, kw_only=True, gc=False):
    """What stands at a key, in the light form of listings. It never carries a storage credential."""

    id: str
    """Opaque; stays the same over all versions."""
    key: str
    """Where it stands."""
    name: str
    """The last segment of the key."""
    kind: str
    """FLOW, IMAGE, TABLE, VOLUME, SEQUENCE, FIGURE, DOCUMENT, NOTEBOOK, ARRAY or OTHER."""
    format: str
    """The name of its format, such as ``csv``."""
    size_bytes: int | None
    """Size of the current version; null for a table of several files, until somebody reads it as one."""
    sha256: str | None
    """Of the current version's bytes; null for such a table, and for a linked file, that nobody has read whole yet."""
    version: str
    """The id of the current version."""
    number: int
    """The number of the current version, counted from 1."""
    tags: tuple[str, ...]
    """In the order in which they were given."""
    experiment: str | None
    """The first folder of the key, or null at the root."""
    experiment_number: str | None
    """The experiment's number as people write it; its name until it is given another."""
    created_at: Instant
    """When the current version was made."""
    created_by: str
    """Who made the current version."""


class Asset(AssetRef, frozen=True, kw_only=True, gc=True):
    """What stands at a key, whole."""

    meta: dict[str, Any]
    """The user's metadata, exactly as put."""
    options: dict[str, Any] = {}
    """The serializer's options, which apply again when the bytes are read."""
    lineage: Lineage = Lineage()
    """Where the current version came from."""
    linked: str | None = None
    """The file in which the bytes lie, as ``ROOT/path``, if the lab has no copy of them; else null."""
    table: Table | None = None
    """What is known of it as a table, once it was queried or appended to; told by `GetAsset`."""


class Version(Reply, frozen=True, kw_only=True):
    """One immutable version of an asset."""

    id: str
    """Opaque."""
    number: int
    """Counted from 1."""
    key: str
    """Where its asset stands."""
    kind: str
    """Of this version."""
    format: str
    """Of this version."""
    size_bytes: int | None
    """Of its bytes; null for a table of several files, until somebody reads it as one."""
    sha256: str | None
    """Of its bytes; null for such a table, and for a linked file, that nobody has read whole yet."""
    tags: tuple[str, ...]
    """As they were."""
    meta: dict[str, Any]
    """As it was."""
    options: dict[str, Any]
    """The serializer's options, as they were."""
    created_at: Instant
    """When it was made."""
    created_by: str
    """Who made it."""
    note: str
    """Where it came from, in words."""
    lineage: Lineage
    """Where it came from."""


class Versions(Reply, frozen=True, kw_only=True):
    """The versions of an asset, newest first."""

    key: str
    """Where the asset stands."""
    deleted: bool
    """Whether the asset is hidden; `RestoreAsset` brings it back."""
    versions: tuple[Version, ...]
    """Newest first."""
    next: str | None
    """Where the next page begins, or null at the end."""


class AssetPage(Reply, frozen=True, kw_only=True):
    """One page of assets."""

    assets: tuple[AssetRef, ...]
    """In code-point order of their keys."""
    next: str | None
    """Where the next page begins, or null at the end."""


class Level(Reply, frozen=True, kw_only=True):
    """One page of one level of the tree of keys."""

    folders: tuple[str, ...]
    """Folders, whole, ending in ``/``."""
    assets: tuple[AssetRef, ...]
    """Assets directly in the folder."""
    next: str | None
    """Where the next page begins, or null at the end."""


class Facets(Reply, frozen=True, kw_only=True):
    """How many hits have which value, over the whole result."""

    kind: dict[str, int]
    """By kind."""
    format: dict[str, int]
    """By format."""
    experiment: dict[str, int]
    """By experiment; assets at the root are not counted."""
    tags: dict[str, int]
    """By tag; an asset counts once for each of its tags."""


class Hit(AssetRef, frozen=True, kw_only=True):
    """An asset that a search found."""

    field: str | None = None
    """What matched: name, key, tags, meta or content; null when only filters did."""
    snippet: str | None = None
    """The words around the match, with the match between ``**``."""


class Hits(Reply, frozen=True, kw_only=True):
    """One page of a search."""

    hits: tuple[Hit, ...]
    """Most relevant first, then newest first."""
    total: int | None
    """How many assets match in all, exactly; null on the pages after the first, which would count them again."""
    facets: Facets | None
    """Counted over all that match; null on the pages after the first."""
    notes: tuple[str, ...]
    """What the caller should know, such as a metadata path that no asset has."""
    next: str | None
    """Where the next page begins, or null at the end."""


class ListKeys(Request, frozen=True, kw_only=True):
    """Stream every key that the caller may read, in code-point order, one a line (keys have no line ends)."""

    workspace: Text
    """The workspace."""
    prefix: Text = ""
    """Only keys that start with this plain string."""


class ListLevel(Request, frozen=True, kw_only=True):
    """List one level of the tree of keys."""

    workspace: Text
    """The workspace."""
    path: Text = ""
    """A folder, with or without its ``/``, or the key of one asset."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class FindAssets(Request, frozen=True, kw_only=True):
    """List assets that satisfy every filter given."""

    workspace: Text
    """The workspace."""
    experiment: Text | None = None
    """Only this experiment."""
    kind: Text | None = None
    """Only this kind, in any case."""
    format: Text | None = None
    """Only this format."""
    tags: Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_TAGS)] = ()
    """Only assets with all of these tags."""
    prefix: Text = ""
    """Only keys that start with this plain string."""
    created_after: Instant | None = None
    """Only current versions made at this moment or later."""
    created_before: Instant | None = None
    """Only current versions made before this moment."""
    created_by: Text | None = None
    """Only current versions made by this user."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED)] = 1000
    """The size of the page."""


class GetAsset(Request, frozen=True, kw_only=True):
    """Look at one asset."""

    workspace: Text
    """The workspace."""
    ref: Text
    """An id, a key or a bare name."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    exact: bool = False
    """Take *ref* as a key only, never as an id or a bare name."""


class ListVersions(Request, frozen=True, kw_only=True):
    """List the versions of an asset, also of a deleted one."""

    workspace: Text
    """The workspace."""
    key: Text
    """Its key."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class GetVersion(Request, frozen=True, kw_only=True):
    """Look at one version of a live asset."""

    workspace: Text
    """The workspace."""
    key: Text
    """The key of its asset."""
    version: Text
    """Its id or number."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""


class SearchAssets(Request, frozen=True, kw_only=True):
    """Search names, keys, tags, metadata and content."""

    workspace: Text
    """The workspace."""
    query: Text = ""
    """In the search grammar; nothing lists everything, newest first."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 100
    """The size of the page."""
