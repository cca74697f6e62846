"""Assets: finding what stands at keys, as far as it exists for the caller."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, TypedDict

import msgspec
from sqlalchemy import Connection, RowMapping, Select, select

from epista.contract import assets as wire
from epista.contract import keys
from epista.contract.errors import AmbiguousNameError, InvalidKeyError, KeyNotFoundError, NotFoundError
from epista.contract.lineage import Lineage, Source
from epista.contract.tables import Table
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.engines.table_files import Facts
from epista.server.services import cursors, readings
from epista.server.services.activities import recorded
from epista.server.services.experiment_names import called_now, name_of
from epista.server.services.readings import Reading
from epista.server.services.resources import Resources
from epista.server.stores import activities, linked, moments, table_facts
from epista.server.stores import assets as rows
from epista.server.stores.search import grammar
from epista.server.stores.search.index import Counts
from epista.server.stores.tables import asset_tags, assets, users, versions

KEYS_PAGE = 10_000
"""How many keys one step of the stream of keys reads."""

MAX_CANDIDATES = 20
"""How many keys an error about an ambiguous name lists."""


MAX_INPUTS = 1000
"""How many inputs one answer tells of, all of its assets together; but of each asset one."""

MAX_OUTPUTS = 100
"""How many versions made from it an asset tells of."""


class Where(TypedDict):
    """Whose assets a search is about."""

    workspace_id: int
    experiments: AbstractSet[str] | None


class Assets:
    """What a caller may not read is in no listing, count, facet or hint."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def keys(self, actor: Actor, wanted: wire.ListKeys) -> Iterator[bytes]:
        """Return every key, a line each, in pages; each page is a short view of its own, so that a slow reader blocks nobody."""
        prefix = keys.normalise_prefix(wanted.prefix)
        with self._all.read(actor, "read", wanted.workspace) as (_, access):
            pass
        self._all.note(actor, access.workspace_id, prefix)
        return self._key_pages(access, prefix)

    def _key_pages(self, access: Access, prefix: str) -> Iterator[bytes]:
        after = None
        while True:
            with self._all.catalog.read() as tx:
                page = rows.lines_after(tx, access.workspace_id, access.experiments, prefix=prefix, after=after, limit=KEYS_PAGE)
            if page is None:
                return
            yield page.encode() + b"\n"
            after = page.rpartition("\n")[2]

    def level(self, actor: Actor, wanted: wire.ListLevel) -> wire.Level:
        """List one level; the key of an asset lists that asset, and nothing there is an empty level."""
        folder = keys.normalise_folder(wanted.path)
        after = cursors.text(wanted.after)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            here = access.workspace_id, access.experiments
            folders, found, more = rows.level(tx, *here, folder=folder, after=after, limit=wanted.limit)
            if folder and not folders and not found and after is None and not wanted.path.endswith("/"):
                found = [folder.removesuffix("/")]
            known = rows.by_keys(tx, access.workspace_id, found, light=True)
        self._all.note(actor, access.workspace_id, folder)
        shown = tuple(ref(known[key]) for key in found if key in known and access.sees(key) and known[key]["deleted_at"] is None)
        return wire.Level(folders=tuple(folders), assets=shown, next=None if more is None else cursors.of(more))

    def find(self, actor: Actor, wanted: wire.FindAssets) -> wire.AssetPage:
        """List assets that satisfy every filter, by key."""
        after = cursors.text(wanted.after)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.listed(access.workspace_id, access.experiments)
            found = found.where(rows.starting_with(keys.normalise_prefix(wanted.prefix)))
            if wanted.experiment is not None:
                found = found.where(assets.c.experiment == name_of(tx, access, keys.normalise_prefix(wanted.experiment)))
            if wanted.kind is not None:
                found = found.where(assets.c.kind == wanted.kind.upper())
            if wanted.format is not None:
                found = found.where(assets.c.format == wanted.format.lower())
            for tag in wanted.tags:
                found = found.where(assets.c.id.in_(asset_tags.select().with_only_columns(asset_tags.c.asset_id).where(
                    asset_tags.c.workspace_id == access.workspace_id, asset_tags.c.tag == tag
                )))  # fmt: skip
            if wanted.created_after is not None:
                found = found.where(versions.c.created_at >= moments.of(wanted.created_after))
            if wanted.created_before is not None:
                found = found.where(versions.c.created_at < moments.of(wanted.created_before))
            if wanted.created_by is not None:
                by = select(users.c.id).where(users.c.name == wanted.created_by).scalar_subquery()
                found = found.where(versions.c.author_id == by)
            if after is not None:
                found = found.where(assets.c.key > after)
            page = _listed(tx, access, found.order_by(assets.c.key).limit(wanted.limit))
        self._all.note(actor, access.workspace_id, wanted.prefix)
        more = cursors.of(page[-1].key) if len(page) == wanted.limit else None
        return wire.AssetPage(assets=tuple(page), next=more)

    def get(self, actor: Actor, wanted: wire.GetAsset) -> wire.Asset:
        """Look at one asset by id, key or bare name; a name that fits several is an error that lists them."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            find = locate if wanted.exact else resolve
            row = find(tx, access, wanted.ref, wanted.experiment)
            found = asset(tx, access, row)
            if not wanted.exact:
                # Who pins a version asks for its bytes.
                lineage = _more_lineage(tx, actor, access, row, found.lineage)
                found = msgspec.structs.replace(found, table=_table(tx, row), lineage=lineage)
        self._all.note(actor, access.workspace_id, found.key, {"version": found.version})
        return found

    def versions(self, actor: Actor, wanted: wire.ListVersions) -> wire.Versions:
        """List versions, newest first, also those of a deleted asset."""
        before = cursors.number(wanted.after)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = locate(tx, access, wanted.key, wanted.experiment, deleted=True)
            found = rows.versions_of(tx, row["asset_id"], before=before, limit=wanted.limit)
            page = _versions(tx, access, row["key"], found)
        self._all.note(actor, access.workspace_id, row["key"])
        more = cursors.of(found[-1]["number"]) if found and found[-1]["number"] > 1 else None
        return wire.Versions(key=row["key"], deleted=row["deleted_at"] is not None, versions=page, next=more)

    def version(self, actor: Actor, wanted: wire.GetVersion) -> wire.Version:
        """Look at one version of a live asset, by id or number."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = locate(tx, access, wanted.key, wanted.experiment)
            found = version_row(tx, row, wanted.version)
            (message,) = _versions(tx, access, row["key"], [found])
        self._all.note(actor, access.workspace_id, row["key"], {"version": message.id})
        return message

    def search(self, actor: Actor, wanted: wire.SearchAssets) -> wire.Hits:
        """Search live assets at their current version; total and facets count exactly what the caller may read."""
        tree = grammar.parse(wanted.query)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            where: Where = {"workspace_id": access.workspace_id, "experiments": access.experiments}
            counts, notes = None, tuple[str, ...]()
            if wanted.after is None:
                # Counting reads the whole result, so only the first page does it.
                found, counts = self._all.search.first(tx, tree, **where, limit=wanted.limit)
                notes = self._all.search.notes(tx, tree, **where)
            else:
                found = self._all.search.find(tx, tree, **where, limit=wanted.limit, after=wanted.after)
            known = rows.by_ids(tx, [hit.asset_id for hit in found.hits])
        self._all.note(actor, access.workspace_id, wanted.query, {"total": counts.total} if counts else {})
        return wire.Hits(
            hits=tuple(wire.Hit(**_light(known[hit.asset_id]), field=hit.field, snippet=hit.snippet) for hit in found.hits),
            total=counts.total if counts else None,
            facets=_facets(counts) if counts else None,
            notes=notes,
            next=found.next,
        )


def _table(tx: Connection, row: RowMapping) -> Table | None:
    """Return what is known of a version as a table."""
    if row["format"] not in readings.FORMATS:
        return None
    reading = Reading.of(row["key"], row["format"], json.loads(row["options"]))
    document = table_facts.known(tx, row["blob_id"], reading.digest)
    return None if document is None else readings.table(msgspec.json.decode(document, type=Facts))


def locate(tx: Connection, access: Access, key: str, experiment: str | None, *, deleted: bool = False) -> RowMapping:
    """
    Return the asset at *key*: without a folder, in the active experiment first, then at the root, and nowhere else.

    Raises:
        KeyNotFoundError: nothing there; names the nearest key, or that it was deleted.
    """
    key = keys.normalise(key)
    here = access.workspace_id, access.experiments
    places = [f"{experiment}/{key}", key] if experiment and "/" not in key else [key]
    for place in places:
        if row := rows.by_key(tx, *here, place, deleted=deleted):
            return row
    if len(places) > 1 and (name := name_of(tx, access, experiment)) != experiment:
        # The experiment was given by its number.
        places[0] = f"{name}/{key}"
        if row := rows.by_key(tx, *here, places[0], deleted=deleted):
            return row
    for place in places:
        if rows.by_key(tx, *here, place, deleted=True):
            raise KeyNotFoundError(f"the asset at {place!r} was deleted", hint=f"bring it back: epista restore {place}")
    for place in places:
        if rows.keys_after(tx, *here, prefix=place + "/", after=None, limit=1):
            raise KeyNotFoundError(f"{place!r} is a folder, not an asset", hint=f"epista ls {place}/", details={"folder": place})
    for place in places:
        first, slash, rest = place.partition("/")
        if slash and (now := called_now(tx, access, first)):
            raise KeyNotFoundError(
                f"no asset at {place!r}; experiment {first!r} is called {now!r} now",
                hint=f"epista get {now}/{rest}",
                details={"key": place, "renamed": now},
            )
    near = _nearest(tx, access, places[0])
    folder = key.rpartition("/")[0]
    raise KeyNotFoundError(
        f"no asset at {key!r}" + (f"; nearest: {near!r}" if near else ""),
        hint=f"epista ls {folder}/" if folder else "epista ls",
        details={"key": key} | ({"nearest": near} if near else {}),
    )


def _nearest(tx: Connection, access: Access, key: str) -> str | None:
    here = access.workspace_id, access.experiments
    folder, slash, name = key.rpartition("/")
    candidates = rows.keys_after(tx, *here, prefix=folder + slash, after=None, limit=1000)
    if not candidates:
        candidates = rows.keys_after(tx, *here, prefix="", after=None, limit=1000)
    candidates += [row["key"] for row in rows.by_name(tx, *here, name, 10)]
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
    return near[0] if near else None


def version_row(tx: Connection, row: RowMapping, version: str) -> RowMapping:
    """Return a version of the asset in *row* by its id or number."""
    found = rows.version_of(tx, row["asset_id"], version)
    if found is None:
        raise NotFoundError(
            f"{row['key']!r} has no version {version!r}; the newest is {row['number']}", hint=f"epista history {row['key']}"
        )
    return found


def resolve(tx: Connection, access: Access, ref: str, experiment: str | None) -> RowMapping:
    """
    Return the asset that *ref* means: an id, a key, or a bare name.

    Raises:
        KeyNotFoundError: nothing fits that the caller may read.
        AmbiguousNameError: a bare name fits several assets.
    """
    here = access.workspace_id, access.experiments
    if ref.startswith("as_") and (row := rows.by_uid(tx, *here, ref)):
        return row
    try:
        return locate(tx, access, ref, experiment)
    except KeyNotFoundError:
        if "/" in ref:
            raise
        named = rows.by_name(tx, *here, keys.normalise(ref), MAX_CANDIDATES + 1)
        if not named:
            raise
        if len(named) == 1:
            return named[0]
        candidates = [row["key"] for row in named[:MAX_CANDIDATES]]
        more = ", ..." if len(named) > MAX_CANDIDATES else ""
        raise AmbiguousNameError(
            f"the name {ref!r} fits several assets: {', '.join(candidates)}{more}",
            hint="give the whole key",
            details={"candidates": candidates},
        ) from None


def refuse_folder(key: str, verb: str) -> None:
    """Refuse a key that means a folder, and name the verb for folders."""
    if key.endswith("/"):
        raise InvalidKeyError(f"{key!r} is a folder", hint=f"for a folder: {verb}")


def _facets(counts: Counts) -> wire.Facets:
    return wire.Facets(kind=counts.kind, format=counts.format, experiment=counts.experiment, tags=counts.tags)


def _light(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["asset_uid"],
        "key": row["key"],
        "name": row["name"],
        "kind": row["kind"],
        "format": row["format"],
        "size_bytes": _size(row),
        "sha256": row["sha256"],
        "version": row["uid"],
        "number": row["number"],
        "tags": _tags(row["tags"]),
        "experiment": row["experiment"],
        "experiment_number": row["experiment_number"],
        "created_at": moments.to_datetime(row["created_at"]),
        "created_by": row["author"],
    }


def _size(row: RowMapping) -> int | None:
    """Return how many bytes there are to read; of a table of several files nobody knows before they are joined."""
    return None if row["sha256"] is None and row["root"] is None else row["size"]


def ref(row: RowMapping) -> wire.AssetRef:
    """Return a row in the light form of listings."""
    return wire.AssetRef(**_light(row))


def _listed(tx: Connection, access: Access, wanted: Select[Any]) -> list[wire.AssetRef]:
    """Return the rows of `rows.listed`."""
    cursor: Any = tx.execute(wanted).cursor
    # As the driver gives them: a row with names costs as much again, and there are thousands on a page.
    found = cursor.fetchall()
    numbers = rows.numbers(tx, access.workspace_id, {row[10] for row in found} - {None})
    authors = rows.authors(tx, {row[12] for row in found})
    return [
        wire.AssetRef(
            id=id_,
            key=key,
            name=name,
            kind=kind,
            format=format_,
            size_bytes=None if sha256 is None and root is None else size,
            sha256=sha256,
            version=version,
            number=number,
            tags=_tags(tags),
            experiment=experiment,
            experiment_number=numbers.get(experiment),
            created_at=moments.to_datetime(created_at),
            created_by=authors[author_id],
        )
        for id_, key, name, kind, format_, size, sha256, version, number, tags, experiment, created_at, author_id, root in found
    ]


@lru_cache(maxsize=1024)
def _tags(document: str) -> tuple[str, ...]:
    """Return the tags of a row; most assets have the same few."""
    return tuple(json.loads(document))


def asset(tx: Connection, access: Access, row: RowMapping) -> wire.Asset:
    """Return a row whole."""
    return whole(tx, access, [row])[0]


def receipts_of(tx: Connection, access: Access, ids: Sequence[int]) -> list[wire.Asset]:
    """
    Return the receipts of versions that were made.

    Raises:
        NotFoundError: the caller asks again, and may not read all of them now, or some were erased meanwhile.
    """
    found = rows.by_versions(tx, access.workspace_id, access.experiments, ids)
    if any(version not in found for version in ids):
        raise NotFoundError("what this request once made is not there", hint="put it again, as another request")
    return whole(tx, access, [found[version] for version in ids])


def whole(tx: Connection, access: Access, found: Sequence[RowMapping]) -> list[wire.Asset]:
    """Return rows whole."""
    origins = _lineages(tx, access, found)
    return [
        wire.Asset(
            **_light(row),
            meta=json.loads(row["meta"]),
            options=json.loads(row["options"]),
            lineage=origin,
            linked=None if row["root"] is None else linked.path_of(row["object"]),
        )
        for row, origin in zip(found, origins, strict=True)
    ]


def _lineages(tx: Connection, access: Access, found: Sequence[RowMapping]) -> list[Lineage]:
    """Return where each row comes from; the more rows, the less of each is told."""
    here = access.workspace_id, access.experiments
    stated = rows.inputs_of(tx, *here, [row["id"] for row in found])
    told = activities.inputs_of(tx, *here, {row["activity_id"] for row in found if row["activity_id"] is not None})
    shared = {id: _sources(inputs) for id, inputs in told.items()}
    most = max(1, MAX_INPUTS // max(1, len(found)))
    lineages = []
    for row in found:
        inputs = _sources(stated.get(row["id"], ()))
        if row["activity_id"] in shared:
            both = dict.fromkeys((*inputs, *shared[row["activity_id"]]))
            inputs = tuple(sorted(both, key=lambda one: (one.key, one.number)))
        lineages.append(Lineage(inputs=inputs[:most], more=max(0, len(inputs) - most), notebook=row["notebook"]))
    return lineages


def _more_lineage(tx: Connection, actor: Actor, access: Access, row: RowMapping, known: Lineage) -> Lineage:
    """Return what is told of one asset alone."""
    outputs = activities.outputs_of(tx, access.workspace_id, access.experiments, row["id"], MAX_OUTPUTS)
    id = row["activity_id"]
    activity = recorded(tx, actor, access, [id]).get(id) if id is not None else None
    return msgspec.structs.replace(known, activity=activity, outputs=_sources(outputs))


def _sources(found: Sequence[RowMapping]) -> tuple[Source, ...]:
    return tuple(Source(version=one["uid"], key=one["key"], number=one["number"]) for one in found)


def _versions(tx: Connection, access: Access, key: str, found: Sequence[RowMapping]) -> tuple[wire.Version, ...]:
    origins = _lineages(tx, access, found)
    return tuple(
        wire.Version(
            id=row["uid"],
            number=row["number"],
            key=key,
            kind=row["kind"],
            format=row["format"],
            size_bytes=_size(row),
            sha256=row["sha256"],
            tags=tuple(json.loads(row["tags"])),
            meta=json.loads(row["meta"]),
            options=json.loads(row["options"]),
            created_at=moments.to_datetime(row["created_at"]),
            created_by=row["author"],
            note=row["note"],
            lineage=origin,
        )
        for row, origin in zip(found, origins, strict=True)
    )
