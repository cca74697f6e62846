"""Assets: what stands at a key, its versions, and the ways to find them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from epista.client import listings, namespaces, tables
from epista.client.listings import Ahead, Listing, Pages
from epista.contract import assets as wire
from epista.contract import keys as grammar
from epista.contract import metadata
from epista.contract.errors import EpistaError, InvalidKeyError, ValidationError
from epista.contract.lineage import Lineage
from epista.contract.messages import Reply, Request
from epista.contract.objects import DeleteAsset, DeleteFolder, Keys, Purged, PurgeVersions, RestoreAsset, SetMetadata
from epista.serializers.json_values import to_json

if TYPE_CHECKING:
    from epista.client.session import Session

_P = TypeVar("_P", bound=listings.Page)
_R = TypeVar("_R", bound=Request)
_A = TypeVar("_A", "_AssetPage", "_Level")
_F = TypeVar("_F", bound="AssetRef")


class AssetRef(wire.AssetRef, frozen=True, kw_only=True, gc=True, dict=True):
    """
    What stands at a key, in the light form of listings.

    It knows the workspace that handed it out, beside its fields: that is neither compared nor shown nor sent, and neither pickled
    nor copied.
    """

    @property
    def workspace(self) -> Session:
        """
        The workspace that handed it out.

        Raises:
            ValidationError: none did: it was made, copied or unpickled.
        """
        here: Session | None = self.__dict__.get("_here")
        if here is None:
            raise ValidationError(
                f"this asset, {self.key!r}, knows no workspace: it was made, copied or unpickled",
                hint="ws.get(asset) gives one that does",
            )
        return here

    def __repr__(self) -> str:
        about = f"{self.kind} {self.format} {listings.size(self.size_bytes)} version {self.number}"
        return f"<{type(self).__name__} {self.key!r} {listings.printable(about)}>"

    def _repr_html_(self) -> str:
        return listings.html_fields(_fields(self))


class Asset(wire.Asset, AssetRef, frozen=True, kw_only=True):
    """What stands at a key, whole."""

    def _repr_html_(self) -> str:
        more = origin_fields(self.lineage)
        if self.meta:
            more.append(("meta", json.dumps(self.meta, ensure_ascii=False, indent=1)))
        fields = listings.html_fields([*_fields(self), *more])
        return fields + (tables.html(self.table) if self.table is not None else "") + _preview(self)

    def __dir__(self) -> list[str]:
        return list(namespaces.names(self, super().__dir__()))


class Hit(wire.Hit, AssetRef, frozen=True, kw_only=True, gc=True):
    """An asset that a search found, with the words around the match in `snippet`."""

    def _repr_html_(self) -> str:
        return listings.html_fields([*_fields(self), (f"matched in {self.field}", self.snippet or "")])


_share = vars(AssetRef)["__dict__"].__set__


class Version(wire.Version, frozen=True, kw_only=True):
    """One immutable version of an asset."""

    def __repr__(self) -> str:
        return f"<Version {self.number} of {self.key!r} {self.id} {listings.size(self.size_bytes)}>"

    def _repr_html_(self) -> str:
        return listings.html_fields(list(zip(_VERSION_COLUMNS, _version_row(self), strict=True)))


def _preview(asset: Asset) -> str:
    """Return what is seen of the version that is shown, as HTML; nothing where the lab cannot be asked any more."""
    here: Session | None = asset.__dict__.get("_here")
    if here is None:
        return ""
    from epista.client import previews

    try:
        shown = previews.get(here, asset, version=asset.version)
    except EpistaError:
        return ""
    if asset.kind != "IMAGE" or shown.picture is None:
        return shown.as_html()
    # Not the address: it is a right to look, and a notebook is kept and passed on.
    way = f"ws.image.url({asset.key!r})"
    return f"{shown.as_html()}<p>in the viewer: <code>{html.escape(way)}</code></p>"


def origin_fields(lineage: Lineage) -> list[tuple[str, str]]:
    """Return what is shown of where an asset came from, and what came of it: pairs of a title and lines."""
    inputs = [f"{source.key}, version {source.number}" for source in lineage.inputs]
    if lineage.more:
        inputs.append(f"and {lineage.more:,} more")
    activity = lineage.activity
    told = activity.told if activity else None
    program = ""
    if told and (told.script or told.git_commit):
        commit = f"commit {told.git_commit[:12]}{', changed since' if told.is_dirty else ''}" if told.git_commit else None
        program = " at ".join(part for part in (told.script, commit) if part)
    outputs = [f"{output.key}, version {output.number}" for output in lineage.outputs]
    fields = [
        ("made in", (told.title if told else None) or ""),
        ("made by", program),
        ("made from", "\n".join(inputs)),
        ("queries", "\n".join(query.sql or query.id for query in activity.queries) if activity else ""),
        ("notebook", lineage.notebook or ""),
        ("cell", (told.cell.source or "") if told and told.cell else ""),
        ("went into", "\n".join(outputs)),
    ]
    return [(title, text) for title, text in fields if text]


class Hits(Listing[Hit]):
    """What a search found: most relevant first, more pages as they are needed."""

    def __init__(self, pages: Pages[_Hits]) -> None:
        self._pages = pages
        super().__init__(pages, lambda page: page.hits, identity=lambda hit: hit.id, columns=_HIT_COLUMNS, row=_hit_row)

    def __len__(self) -> int:
        return self.total

    @property
    def total(self) -> int:
        """How many assets match in all, when the search was made."""
        total = self._pages.first().total
        assert total is not None, "the first page counts"
        return total

    @property
    def facets(self) -> wire.Facets:
        """How many of all hits have which kind, format, experiment and tags."""
        facets = self._pages.first().facets
        assert facets is not None, "the first page counts"
        return facets

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about the query, such as a metadata path that no asset has."""
        return self._pages.first().notes

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *(listings.printable(f"note: {note}") for note in self.notes)])

    def _repr_html_(self) -> str:
        return super()._repr_html_() + "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)

    def _more(self) -> str:
        return f"and {self.total - listings.ROWS} more"


class Level:
    """One level of the tree of keys: its folders, and its assets. Iterating gives all folders, then all assets."""

    def __init__(self, pages: Pages[_Level]) -> None:
        self._folders: Listing[str] = Listing(
            pages, lambda page: page.folders, identity=str, columns=("folder",), row=lambda folder: (folder,)
        )
        self._assets = _listing(pages)

    @property
    def folders(self) -> Sequence[str]:
        """The folders directly below, whole, ending in ``/``."""
        return self._folders

    @property
    def assets(self) -> Sequence[AssetRef]:
        """The assets directly below."""
        return self._assets

    def __iter__(self) -> Iterator[str | AssetRef]:
        yield from self._folders
        yield from self._assets

    def __len__(self) -> int:
        return len(self._folders) + len(self._assets)

    def __bool__(self) -> bool:
        return bool(self._folders) or bool(self._assets)

    def __repr__(self) -> str:
        return "\n\n".join(repr(part) for part in (self._folders, self._assets) if part) or "(nothing)"

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in (self._folders, self._assets) if part) or "<p>(nothing)</p>"


class _Unread(Reply, frozen=True, kw_only=True):
    """A page of assets as it came, of which only the end is known."""

    assets: msgspec.Raw
    next: str | None


class _AssetPage(wire.AssetPage, frozen=True, kw_only=True):
    assets: tuple[AssetRef, ...]


class _Level(wire.Level, frozen=True, kw_only=True):
    assets: tuple[AssetRef, ...]


class _Hits(wire.Hits, frozen=True, kw_only=True):
    hits: tuple[Hit, ...]


class _Versions(wire.Versions, frozen=True, kw_only=True):
    versions: tuple[Version, ...]


def locate(here: Session, ref: str | wire.AssetRef, *, hint: str | None = None) -> tuple[str, str | None]:
    """
    Return the key that *ref* means when something is read, and the experiment in which to look it up first.

    An asset is exact: it is looked up nowhere else.

    Raises:
        InvalidKeyError: no key; for a folder, with *hint*, which names the right verb.
    """
    if isinstance(ref, wire.AssetRef):
        return ref.key, None
    if hint and isinstance(ref, str) and ref.endswith("/"):
        raise InvalidKeyError(f"{ref!r} means a folder, and this is for one asset", hint=hint)
    key = grammar.normalise(ref)
    return key, None if "/" in key else here.experiment_name


def target(here: Session, ref: str | wire.AssetRef) -> str:
    """Return the whole key that *ref* means when something is written: without a folder, in the active experiment."""
    if isinstance(ref, wire.AssetRef):
        return ref.key
    key = grammar.normalise(ref)
    if "/" in key or here.experiment_name is None:
        return key
    return grammar.normalise(f"{here.experiment_called(here.experiment_name)}/{key}")


def whole(here: Session, found: wire.AssetRef | wire.Version) -> wire.AssetRef | wire.Version:
    """Return *found* with a size and a sha256: those of one file, which the lab makes of a table that has several."""
    if found.size_bytes is not None:
        return found
    joined = tables.join(here, found.id if isinstance(found, wire.Version) else found.version)
    return msgspec.structs.replace(found, size_bytes=joined.size_bytes, sha256=joined.sha256)


def keys(here: Session, prefix: str = "") -> list[str]:
    """List every key that you may read and that starts with the plain string *prefix*, in code-point order."""
    text = here.wire.read("assets.keys", wire.ListKeys(workspace=here.name, prefix=grammar.normalise_prefix(prefix)))
    # Only at line feeds: a key may well have one of the other line ends of Unicode.
    return text.decode().split("\n")[:-1]


def ls(here: Session, prefix: str | wire.AssetRef = "") -> Level:
    """
    List one level of the tree of keys.

    *prefix* is a folder, with or without its ``/``, or the key of one asset. The result has `folders` and `assets`, both lazily
    paged, and shows itself as a table. Nothing there is an empty listing.
    """
    path = prefix.key if isinstance(prefix, wire.AssetRef) else prefix
    grammar.normalise_folder(path)
    workspace = here.name

    def fetch(after: str | None) -> _Level:
        page = here.wire.call("assets.level", wire.ListLevel(workspace=workspace, path=path, after=after), reply=_Level)
        bind(here, page.assets)
        return page

    return Level(_begun(Pages(fetch)))


def find(
    here: Session,
    *,
    experiment: str | None = None,
    kind: str | None = None,
    format: str | None = None,
    tags: str | Iterable[str] | None = None,
    prefix: str | None = None,
    created_after: datetime | date | str | None = None,
    created_before: datetime | date | str | None = None,
    created_by: str | None = None,
    limit: int = 1000,
) -> Listing[AssetRef]:
    """
    List the assets that satisfy every filter given, in code-point order of their keys, lazily paged.

    *tags*: assets with all of them. *prefix* is a plain string at the start of the key. *created_after* (that moment or later)
    and *created_before* (before that moment) are about the current version; a time without an offset, and the midnight at
    which a date begins, are in UTC. *limit* is the size of the first page, at most 5,000; whoever reads on gets longer ones.
    """
    wanted = wire.FindAssets(
        workspace=here.name,
        experiment=experiment,
        kind=kind,
        format=format,
        tags=(tags,) if isinstance(tags, str) else tuple(tags or ()),
        prefix=grammar.normalise_prefix(prefix or ""),
        created_after=instant(created_after),
        created_before=instant(created_before),
        created_by=created_by,
        limit=limit,
    )

    sizes = _growing(limit)

    def ask(after: str | None) -> _Unread:
        asked = msgspec.structs.replace(wanted, after=after, limit=next(sizes))
        return here.wire.call("assets.find", asked, reply=_Unread)

    ahead = Ahead(ask)

    def fetch(after: str | None) -> _AssetPage:
        page = ahead.get(after)
        return _AssetPage(assets=bind(here, here.wire.part(page.assets, tuple[AssetRef, ...])), next=page.next)

    return _listing(_begun(Pages(fetch)))


def get(here: Session, ref: str | wire.AssetRef) -> Asset:
    """
    Look at one asset, as it is now. *ref* is an id, a key, a bare name or an asset.

    Raises:
        KeyNotFoundError: nothing fits that you may read.
        AmbiguousNameError: a bare name fits several assets; ``details["candidates"]`` lists their keys.
    """
    if isinstance(ref, wire.AssetRef):
        return _get(here, ref.key, None)
    text = grammar.normalise_prefix(ref)
    wanted = wire.GetAsset(workspace=here.name, ref=text, experiment=here.experiment_name)
    return bound(here, here.wire.call("assets.get", wanted, reply=Asset))


def get_meta(here: Session, key: str | wire.AssetRef) -> dict[str, Any]:
    """Return the metadata of an asset, exactly as put; ``{}`` if it has none."""
    return _get(here, *locate(here, key, hint="a folder has no metadata; ws.ls(prefix) lists its assets")).meta


def set_meta(here: Session, key: str | wire.AssetRef, meta: Mapping[str, Any], *, expect: str | None = None) -> Asset:
    """
    Replace the metadata of an asset: a new version on the same bytes. Return the asset.

    *expect* is the id of the version that this replaces.

    Raises:
        ValidationError: *meta* is no JSON object, or breaks a rule of the workspace; every violation is listed.
        ConflictError: *expect* is not the current version; ``details["found"]`` is.
    """
    if not isinstance(meta, Mapping):
        raise ValidationError(
            f"metadata is a JSON object (a dict), not {type(meta).__name__}", hint="{} clears it; None would change nothing"
        )
    document = to_json(dict(meta))
    metadata.check(document)
    place, experiment = locate(here, key, hint="a folder has no metadata; give each asset its own")
    wanted = SetMetadata(workspace=here.name, key=place, experiment=experiment, meta=document, expect=expect)
    return bound(here, here.wire.call("objects.set_meta", wanted, reply=Asset))


def delete(here: Session, key: str | wire.AssetRef) -> Asset:
    """
    Hide one asset, with all its versions, and return it. `restore` brings it back.

    Raises:
        KeyNotFoundError: there is none, or only a folder of that name.
    """
    place, experiment = locate(here, key, hint="ws.delete_dir(prefix) deletes a folder")
    wanted = DeleteAsset(workspace=here.name, key=place, experiment=experiment)
    return bound(here, here.wire.call("objects.delete", wanted, reply=Asset))


def delete_dir(here: Session, prefix: str, *, dry_run: bool = False) -> list[str]:
    """
    Hide everything below a folder, or nothing at all, and return the keys. ``dry_run=True`` only returns them.

    *prefix* is a folder from the root of the workspace, with or without its ``/``. Nothing there gives ``[]``.

    Raises:
        InvalidKeyError: *prefix* is empty: a whole workspace is never deleted at once.
        ForbiddenError: one asset among them may not be deleted by you.
    """
    path = grammar.normalise_folder(prefix)
    if not path:
        raise InvalidKeyError("a whole workspace is never deleted at once", hint="name a folder: ws.delete_dir('EXP-12')")
    wanted = DeleteFolder(workspace=here.name, path=path, dry_run=dry_run)
    return list(here.wire.call("objects.delete_dir", wanted, reply=Keys).keys)


def purge(here: Session, key: str | wire.AssetRef, version: str | int | None = None, *, dry_run: bool = False) -> list[str]:
    """
    Erase versions for good, for admins of the workspace, and return them as ``key@number``. Nothing brings them back.

    *version* (an id or a number) erases that one, which may not be the newest. Without it, the asset has to be deleted, and
    all of it goes. A folder, ending in ``/``, stands for the deleted assets below it. ``dry_run=True`` only returns them.

    Raises:
        KeyNotFoundError: nothing stood there, or it has no such version.
        ConflictError: the asset is not deleted, or the version is the newest.
        ForbiddenError: you are no admin, or the token has not the scope ``admin``.
    """
    place = key if isinstance(key, str) and key.endswith("/") else locate(here, key, hint="a folder ends in /")[0]
    wanted = PurgeVersions(workspace=here.name, path=place, version=None if version is None else str(version), dry_run=dry_run)
    return [f"{one.key}@{one.number}" for one in here.wire.call("objects.purge", wanted, reply=Purged).versions]


def restore(here: Session, key: str | wire.AssetRef, *, version: str | int | None = None) -> Asset:
    """
    Bring a deleted asset back, or make an old version (an id or a number) the current one. Return the asset.

    Restoring what is there already changes nothing.

    Raises:
        KeyNotFoundError: nothing stood there, or it has no such version.
        ConflictError: the name has become a folder.
    """
    place, experiment = locate(here, key, hint="name one asset; ws.versions(key) also answers for deleted ones")
    wanted = RestoreAsset(
        workspace=here.name, key=place, experiment=experiment, version=None if version is None else str(version)
    )
    return bound(here, here.wire.call("objects.restore", wanted, reply=Asset))


def versions(here: Session, key: str | wire.AssetRef) -> Listing[Version]:
    """List the versions of an asset, also of a deleted one, newest first, lazily paged."""
    place, experiment = locate(here, key, hint="ws.ls(prefix) lists a folder")
    wanted = wire.ListVersions(workspace=here.name, key=place, experiment=experiment)

    def fetch(after: str | None) -> _Versions:
        return here.wire.call("assets.versions", _at(wanted, after), reply=_Versions)

    pages = _begun(Pages(fetch))
    return Listing(
        pages, lambda page: page.versions, identity=lambda version: version.id, columns=_VERSION_COLUMNS, row=_version_row
    )


def search(here: Session, query: str = "", *, limit: int = 100) -> Hits:
    """
    Search names, keys, tags, metadata and content: ``kind:flow tags:qc user_meta.temp:>30 "CD3 FITC"``.

    Text ranks by relevance, then newest; filters alone, newest first. *limit* is the size of a page; iterating goes on past it.
    The result has `total`, `facets` and `notes`, and each hit the words around its match in `snippet`.

    Raises:
        SearchSyntaxError: the query cannot be read; ``column`` says where.
    """
    wanted = wire.SearchAssets(workspace=here.name, query=query, limit=limit)

    def fetch(after: str | None) -> _Hits:
        page = here.wire.call("assets.search", _at(wanted, after), reply=_Hits)
        bind(here, page.hits)
        return page

    return Hits(_begun(Pages(fetch)))


def bound(here: Session, found: Asset) -> Asset:
    """Let an asset know the workspace that hands it out, and return it."""
    found.__dict__["_here"] = here
    return found


def bind(here: Session, found: tuple[_F, ...]) -> tuple[_F, ...]:
    """Let the assets of a listing know the workspace that hands them out, and return them."""
    known = {"_here": here}
    for one in found:
        # One for all, for a listing may have a million.
        _share(one, known)
    return found


def _get(here: Session, key: str, experiment: str | None) -> Asset:
    wanted = wire.GetAsset(workspace=here.name, ref=key, experiment=experiment, exact=True)
    return bound(here, here.wire.call("assets.get", wanted, reply=Asset))


def _begun(pages: Pages[_P]) -> Pages[_P]:
    """Ask for the first page now, so that what is wrong with the question is said where it is asked."""
    pages.first()
    return pages


def _growing(size: int) -> Iterator[int]:
    """Give sizes of pages: who has read a few will read them all, and then each request should bring much."""
    while True:
        yield size
        size = min(2 * size, max(size, wire.MAX_LISTED))


def _at(wanted: _R, after: str | None) -> _R:
    return msgspec.structs.replace(wanted, after=after)


def instant(moment: datetime | date | str | None) -> datetime | None:
    """Return a moment that a person gave, in UTC unless it says otherwise."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise ValidationError(
                f"{moment!r} is no date or time", hint="such as '2026-03-31' or '2026-03-31T14:00+02:00'"
            ) from None
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _listing(pages: Pages[_A]) -> Listing[AssetRef]:
    return Listing(pages, lambda page: page.assets, identity=lambda asset: asset.id, columns=_ASSET_COLUMNS, row=_asset_row)


_ASSET_COLUMNS = ("key", "kind", "format", "size", "version", "created", "by", "tags")
_HIT_COLUMNS = (*_ASSET_COLUMNS, "match")
_VERSION_COLUMNS = ("version", "id", "size", "sha256", "created", "by", "note")


def _asset_row(asset: wire.AssetRef) -> tuple[str, ...]:
    return (
        asset.key,
        asset.kind,
        asset.format,
        listings.size(asset.size_bytes),
        str(asset.number),
        listings.moment(asset.created_at),
        asset.created_by,
        ", ".join(asset.tags),
    )


def _hit_row(hit: wire.Hit) -> tuple[str, ...]:
    return (*_asset_row(hit), f"{hit.field}: {hit.snippet}" if hit.snippet else hit.field or "")


def _version_row(version: wire.Version) -> tuple[str, ...]:
    return (
        str(version.number),
        version.id,
        listings.size(version.size_bytes),
        (version.sha256 or "")[:12],
        listings.moment(version.created_at),
        version.created_by,
        version.note,
    )


def _fields(asset: wire.AssetRef) -> list[tuple[str, str]]:
    return [*zip(_ASSET_COLUMNS, _asset_row(asset), strict=True), ("id", asset.id), ("sha256", asset.sha256 or "not read yet")]
