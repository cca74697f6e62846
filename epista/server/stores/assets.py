"""
Rows of assets, versions and blobs.

What a caller may not see is filtered here, inside the SQL, by the experiments that the policy granted; so is what is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Join,
    RowMapping,
    Select,
    String,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    update,
    values,
)

from epista.server.stores import remains
from epista.server.stores.dialects import add, among, new_ids, unindexed
from epista.server.stores.tables import (
    asset_tags,
    assets,
    blobs,
    experiments,
    uploads,
    users,
    version_inputs,
    versions,
)

T = TypeVar("T")

_CHUNK = 500
"""How many values one IN list or VALUES table may have."""

_STEM_CHARACTERS = 200
"""How much of a stem is kept, as an index of PostgreSQL takes no more than some 2,700 bytes with the key."""

_ENDING = re.compile(r"(?<=.)\.[^.]+(?:\.b?gz)?$|(?<=.)\.b?gz$", re.IGNORECASE | re.DOTALL)

_HEAD_COLUMNS: list[Any] = [
    assets.c.id.label("asset_id"),
    assets.c.uid.label("asset_uid"),
    assets.c.workspace_id,
    assets.c.key,
    assets.c.name,
    assets.c.experiment,
    assets.c.deleted_at,
    versions,
    blobs.c.sha256,
    blobs.c.size,
    blobs.c.root,
    blobs.c.object,
    users.c.name.label("author"),
    experiments.c.number.label("experiment_number"),
]

# What listings show. Metadata may be a megabyte an asset, and a page has a thousand of them.
_LIGHT_COLUMNS = [
    *(column for column in _HEAD_COLUMNS if column.name not in ("versions", "object")),
    *(column for column in versions.c if column.name not in ("meta", "options")),
]

_PAGE_BYTES = 16 * 1024 * 1024
"""How much metadata one page of versions has before it ends."""


def _joined(version: ColumnElement[bool]) -> Join:
    return (
        _contents(version)
        .join(users, users.c.id == versions.c.author_id)
        .join(
            experiments,
            and_(experiments.c.workspace_id == assets.c.workspace_id, experiments.c.name == assets.c.experiment),
            isouter=True,
        )
    )


def _contents(version: ColumnElement[bool]) -> Join:
    return assets.join(versions, version).join(blobs, blobs.c.id == versions.c.blob_id)


_JOINED = _joined(versions.c.id == assets.c.head_id)
_AS_VERSIONS = _joined(versions.c.asset_id == assets.c.id)


def _seen(everything: bool, *, by_key: bool = False) -> ColumnElement[bool]:
    """
    The same as `visible`, for statements that are put together once and executed with `_by`.

    Assets are found otherwise, unless it is *by_key*.
    """
    workspace: ColumnElement[Any] = assets.c.workspace_id
    here = (workspace if by_key else unindexed(workspace)) == bindparam("workspace_id")
    return here if everything else and_(here, among(unindexed(assets.c.experiment), "experiments"))


def _by(workspace_id: int, allowed: Collection[str] | None, **given: Any) -> dict[str, Any]:
    """Return the parameters of `_seen`, and *given* ones."""
    if allowed is not None:
        given["experiments"] = sorted(allowed)
    return {"workspace_id": workspace_id, **given}


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut *items* into pieces that fit one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def visible(workspace_id: int, allowed: Collection[str] | None) -> ColumnElement[bool]:
    """The filter for what exists for a caller who may read the experiments *allowed* (None: everything)."""
    here = assets.c.workspace_id == workspace_id
    return here if allowed is None else and_(here, assets.c.experiment.in_(sorted(allowed)))


def starting_with(prefix: str) -> ColumnElement[bool]:
    """The filter for keys that start with *prefix*, as a range that the index serves."""
    if not prefix:
        return true()
    bound = after_all(prefix)
    above = assets.c.key >= prefix
    return above if bound is None else and_(above, assets.c.key < bound)


def after_all(prefix: str) -> str | None:
    """Return the first text after all that begin with *prefix*, in code-point order; None if there is none."""
    while prefix:
        prefix, last = prefix[:-1], ord(prefix[-1]) + 1
        if last <= 0x10FFFF:
            # Surrogates are no characters.
            return prefix + chr(0xE000 if last == 0xD800 else last)
    return None


def heads(workspace_id: int, allowed: Collection[str] | None) -> Select[Any]:
    """Select live assets with their current version; the caller narrows it."""
    return select(*_HEAD_COLUMNS).select_from(_JOINED).where(visible(workspace_id, allowed), assets.c.deleted_at.is_(None))


def listed(workspace_id: int, allowed: Collection[str] | None) -> Select[Any]:
    """
    Select what listings show of live assets: `services.assets` takes them field by field; the caller narrows it.

    Rows are read by the million. So authors and numbers of experiments, of which there are few, are looked up once a page.
    """
    return _LISTED.where(visible(workspace_id, allowed))


_LISTED = (
    select(
        assets.c.uid,
        assets.c.key,
        assets.c.name,
        versions.c.kind,
        versions.c.format,
        blobs.c.size,
        blobs.c.sha256,
        versions.c.uid,
        versions.c.number,
        versions.c.tags,
        assets.c.experiment,
        versions.c.created_at,
        versions.c.author_id,
        blobs.c.root,
    )
    .select_from(_contents(versions.c.id == assets.c.head_id))
    .where(assets.c.deleted_at.is_(None))
)
_NUMBERS = select(experiments.c.name, experiments.c.number).where(
    experiments.c.workspace_id == bindparam("workspace_id"), among(experiments.c.name, "names")
)
_AUTHORS = select(users.c.id, users.c.name).where(among(users.c.id, "ids"))


def numbers(tx: Connection, workspace_id: int, names: Collection[str]) -> dict[str, str]:
    """Return the numbers of experiments as people write them, by name."""
    if not names:
        return {}
    return {row[0]: row[1] for row in tx.execute(_NUMBERS, {"workspace_id": workspace_id, "names": sorted(names)})}


def authors(tx: Connection, ids: Collection[int]) -> dict[int, str]:
    """Return the names of users."""
    if not ids:
        return {}
    return {row[0]: row[1] for row in tx.execute(_AUTHORS, {"ids": sorted(ids)})}


@cache
def _by_key(everything: bool, deleted: bool) -> Select[Any]:
    found = select(*_HEAD_COLUMNS).select_from(_JOINED).where(_seen(everything, by_key=True), assets.c.key == bindparam("key"))
    return found if deleted else found.where(assets.c.deleted_at.is_(None))


def by_key(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, key: str, *, deleted: bool = False
) -> RowMapping | None:
    """Return the asset at *key* with its current version; a deleted one only if asked."""
    found = _by_key(allowed is None, deleted)
    return tx.execute(found, _by(workspace_id, allowed, key=key)).mappings().first()


@cache
def _by_keys(light: bool) -> Select[Any]:
    columns = _LIGHT_COLUMNS if light else _HEAD_COLUMNS
    return select(*columns).select_from(_JOINED).where(_seen(True, by_key=True), among(assets.c.key, "keys"))


def by_keys(tx: Connection, workspace_id: int, keys: Sequence[str], *, light: bool = False) -> dict[str, RowMapping]:
    """Return the assets at *keys*, deleted ones too; *light* ones without metadata and options."""
    rows = tx.execute(_by_keys(light), {"workspace_id": workspace_id, "keys": keys})
    return {row["key"]: row for row in rows.mappings()}


@cache
def _by_versions(everything: bool) -> Select[Any]:
    return select(*_HEAD_COLUMNS).select_from(_AS_VERSIONS).where(_seen(everything), among(versions.c.id, "ids"))


def by_versions(tx: Connection, workspace_id: int, allowed: Collection[str] | None, ids: Sequence[int]) -> dict[int, RowMapping]:
    """Return versions by their integer ids, as if each were the current one of its asset; also of deleted assets."""
    rows = tx.execute(_by_versions(allowed is None), _by(workspace_id, allowed, ids=ids))
    return {row["id"]: row for row in rows.mappings()}


@cache
def _small_blobs(everything: bool) -> Select[Any]:
    return (
        select(blobs.c.id, blobs.c.sha256, blobs.c.size, blobs.c.object, blobs.c.offset)
        .join(versions, versions.c.blob_id == blobs.c.id)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(_seen(everything), among(versions.c.uid, "uids"), blobs.c.size < bindparam("below"))
        .where(blobs.c.root.is_(None), blobs.c.sha256.is_not(None))
    )


def small_blobs(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, uids: Sequence[str], below: int
) -> list[RowMapping]:
    """Return the distinct blobs of less than *below* bytes of versions, as they lie in the store; but no linked ones."""
    rows = tx.execute(_small_blobs(allowed is None), _by(workspace_id, allowed, uids=uids, below=below))
    found = {row["id"]: row for row in rows.mappings()}
    return sorted(found.values(), key=lambda row: (row["object"], row["offset"]))


def by_ids(tx: Connection, ids: Sequence[int]) -> dict[int, RowMapping]:
    """Return assets with their current versions by their integer ids, without metadata and options."""
    found: dict[int, RowMapping] = {}
    for some in chunks(ids):
        rows = tx.execute(select(*_LIGHT_COLUMNS).select_from(_JOINED).where(assets.c.id.in_(some)))
        found.update((row["asset_id"], row) for row in rows.mappings())
    return found


def by_uid(tx: Connection, workspace_id: int, allowed: Collection[str] | None, uid: str) -> RowMapping | None:
    """Return the live asset with that id."""
    return tx.execute(heads(workspace_id, allowed).where(assets.c.uid == uid)).mappings().first()


def by_name(tx: Connection, workspace_id: int, allowed: Collection[str] | None, name: str, limit: int) -> list[RowMapping]:
    """Return the live assets whose last segment is *name*, by key."""
    named = (assets.c.stem == stem_of(name), assets.c.name == name)
    found = heads(workspace_id, allowed).where(*named).order_by(assets.c.key).limit(limit)
    return list(tx.execute(found).mappings())


class Called(NamedTuple):
    """What an asset may be called in a query, and where."""

    name: str
    """Its name, or that without the extension."""
    is_exact: bool
    """Else in any case."""
    experiment: str | None
    """In that experiment, at any depth; None for the whole workspace."""
    formats: Collection[str] | None
    """In one of these formats; None for any."""
    before: int | None
    """What was there at that moment; None for now."""


def called(tx: Connection, workspace_id: int, allowed: Collection[str] | None, wanted: Called, limit: int) -> list[RowMapping]:
    """Return live assets that are called so, by key: ``id, key, kind, format``."""
    name, stem, whole = wanted.name, folded(wanted.name), stem_of(wanted.name)
    begins = and_(assets.c.stem == stem, func.substr(assets.c.name, 1, len(name)) == name)
    ways = [begins if wanted.is_exact else assets.c.stem == stem]
    if wanted.is_exact and whole != stem:
        # A statement of its own, as one with OR would look at every asset.
        ways.append(and_(assets.c.stem == whole, assets.c.name == name))
    found = select(assets.c.id, assets.c.key, assets.c.name, assets.c.kind, assets.c.format)
    found = found.where(assets.c.workspace_id == workspace_id, assets.c.deleted_at.is_(None))
    if allowed is not None:
        found = found.where(unindexed(assets.c.experiment).in_(sorted(allowed)))
    if wanted.experiment is not None:
        found = found.where(starting_with(wanted.experiment + "/"))
    if wanted.formats is not None:
        found = found.where(assets.c.format.in_(sorted(wanted.formats)))
    if wanted.before is not None:
        found = found.where(exists().where(versions.c.asset_id == assets.c.id, versions.c.created_at <= wanted.before))
    found = found.order_by(assets.c.key).limit(limit)
    rows = [row for way in ways for row in tx.execute(found.where(way)).mappings()]
    # Stems are kept cut off.
    return rows if len(stem) < _STEM_CHARACTERS else [row for row in rows if _is_called(row["name"], wanted)]


def _is_called(name: str, wanted: Called) -> bool:
    both = (name, _ENDING.sub("", name, count=1))
    return wanted.name in both if wanted.is_exact else wanted.name.casefold() in map(str.casefold, both)


def in_formats(
    tx: Connection,
    workspace_id: int,
    allowed: Collection[str] | None,
    experiment: str | None,
    formats: Collection[str],
    limit: int,
) -> list[str]:
    """Return the keys of live assets in these formats, of an experiment or of the whole workspace, the first of them."""
    found = select(assets.c.key).where(visible(workspace_id, allowed), assets.c.deleted_at.is_(None))
    found = found.where(assets.c.format.in_(sorted(formats)), starting_with("" if experiment is None else experiment + "/"))
    return list(tx.execute(found.order_by(assets.c.key).limit(limit)).scalars())


def experiments_of(tx: Connection, workspace_id: int, allowed: Collection[str] | None) -> list[str]:
    """Return the names of the experiments that exist for a caller."""
    found = select(experiments.c.name).where(experiments.c.workspace_id == workspace_id).order_by(experiments.c.name)
    return [name for name in tx.execute(found).scalars() if allowed is None or name in allowed]


def stem_of(name: str) -> str:
    """
    Return the beginning of a name that has no extension, folded: ``Counts.csv.gz`` gives ``counts``.

    The extension is what stands after the last dot, known or not, with ``.gz`` and ``.bgz`` after it; a name is never all
    extension. Rows keep stems: another rule needs a migration.
    """
    return folded(_ENDING.sub("", name, count=1))


def folded(stem: str) -> str:
    """Return a stem as rows keep it, such that it is found in any case."""
    return stem.casefold()[:_STEM_CHARACTERS]


def keys_after(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, *, prefix: str, after: str | None, limit: int
) -> list[str]:
    """Return the next live keys that start with *prefix*, in code-point order."""
    return list(tx.execute(_keys_after(workspace_id, allowed, prefix=prefix, after=after, limit=limit)).scalars())


def lines_after(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, *, prefix: str, after: str | None, limit: int
) -> str | None:
    """Return the same keys as the lines of one text, which costs half as much as a value for each; None after the last."""
    page = _keys_after(workspace_id, allowed, prefix=prefix, after=after, limit=limit).subquery()
    # Both databases join them in the order of the subquery, which its limit keeps in place.
    return tx.execute(select(func.aggregate_strings(page.c.key, "\n"))).scalar()


def _keys_after(workspace_id: int, allowed: Collection[str] | None, *, prefix: str, after: str | None, limit: int) -> Select[Any]:
    found = select(assets.c.key).where(visible(workspace_id, allowed), assets.c.deleted_at.is_(None), starting_with(prefix))
    if after is not None:
        found = found.where(assets.c.key > after)
    return found.order_by(assets.c.key).limit(limit)


def level(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, *, folder: str, after: str | None, limit: int
) -> tuple[list[str], list[str], str | None]:
    """
    Return one page of the names directly below *folder*: sub-folders, asset keys, and where the next page begins.

    A loose scan: past a sub-folder it seeks to the first key behind everything in it, whatever lies below. It reads one key
    at a time while it meets folders and ever more at once while it meets assets. A page's end is ``=`` or ``>`` and a key.
    """
    folders: list[str] = []
    found: list[str] = []
    position, inclusive, step = (after[1:], after[:1] == "=", 1) if after else (folder, True, 1)
    live = and_(visible(workspace_id, allowed), assets.c.deleted_at.is_(None), starting_with(folder))
    while len(folders) + len(found) < limit:
        beyond = assets.c.key >= position if inclusive else assets.c.key > position
        rows = list(tx.execute(select(assets.c.key).where(live, beyond).order_by(assets.c.key).limit(step)).scalars())
        if not rows:
            return folders, found, None
        for key in rows:
            name, slash, _ = key[len(folder) :].partition("/")
            if slash:
                folders.append(folder + name + "/")
                # "0" follows "/", so this is the first string behind everything in the sub-folder.
                position, inclusive, step = folder + name + "0", True, 1
                break
            found.append(key)
            position, inclusive, step = key, False, min(step * 2, limit)
            if len(folders) + len(found) == limit:
                break
    return folders, found, ("=" if inclusive else ">") + position


_AT_ONE = (
    select(assets.c.key).where(_seen(True, by_key=True), assets.c.deleted_at.is_(None), among(assets.c.key, "keys")).limit(1)
)
_BETWEEN = (
    select(assets.c.key)
    .where(_seen(True, by_key=True), assets.c.deleted_at.is_(None))
    .where(assets.c.key > bindparam("start"), assets.c.key < bindparam("stop"))
    # In order, or a planner that expects many would rather look through every row until it meets one.
    .order_by(assets.c.key)
    .limit(1)
)


def in_the_way(tx: Connection, workspace_id: int, keys: Sequence[str], folders: Sequence[str]) -> str | None:
    """Return a live asset that stands at one of *folders*, or below one of *keys* as if that were a folder."""
    if folders:
        at_folder = tx.execute(_AT_ONE, {"workspace_id": workspace_id, "keys": folders}).scalar()
        if at_folder is not None:
            return str(at_folder)
    if not keys:
        return None
    # Most often there is nothing at all where new keys come; else each is asked about.
    between = {"workspace_id": workspace_id, "start": min(keys), "stop": max(keys) + "0"}
    if tx.execute(_BETWEEN, between).first() is None:
        return None
    live = and_(assets.c.workspace_id == workspace_id, assets.c.deleted_at.is_(None))
    for some in chunks(keys):
        ranges = [(key + "/", key + "0") for key in some]
        wanted = values(column("start", String), column("stop", String), name="ranges").data(ranges).cte("wanted")
        # The first key of each range, or a planner would rather look at every key for all ranges.
        first = select(assets.c.key).where(live, assets.c.key >= wanted.c.start, assets.c.key < wanted.c.stop)
        found = select(first.order_by(assets.c.key).limit(1).scalar_subquery().label("hit")).select_from(wanted).subquery()
        if hit := tx.execute(select(found.c.hit).where(found.c.hit.is_not(None)).limit(1)).scalar():
            return str(hit)
    return None


@cache
def _known_blobs(everything: bool) -> Select[Any]:
    sent = exists().where(
        uploads.c.blob_id == blobs.c.id,
        uploads.c.user_id == bindparam("user_id"),
        uploads.c.workspace_id == bindparam("workspace_id"),
    )
    readable = (
        exists()
        .where(versions.c.blob_id == blobs.c.id, versions.c.asset_id == assets.c.id, assets.c.deleted_at.is_(None))
        .where(_seen(everything))
    )
    # A linked file may change where it lies, and is no copy to build on.
    kept = and_(blobs.c.root.is_(None), among(blobs.c.sha256, "sha256"), blobs.c.damaged_at.is_(None))
    return select(blobs).where(kept, or_(sent, readable))


def known_blobs(
    tx: Connection, *, workspace_id: int, allowed: Collection[str] | None, user_id: int, sha256: Sequence[str]
) -> dict[str, RowMapping]:
    """
    Return the undamaged blobs among *sha256* that the caller has sent, or may read in a live asset of this workspace.

    Knowing a hash is not possessing the content, so others are as if they were not there.
    """
    if not sha256:
        return {}
    rows = tx.execute(_known_blobs(allowed is None), _by(workspace_id, allowed, user_id=user_id, sha256=sha256))
    return {row["sha256"]: row for row in rows.mappings()}


class New(NamedTuple):
    """Content that has come in."""

    sha256: str
    size: int
    offset: int
    """Where in its object it begins."""


class Kept(NamedTuple):
    """What became of contents that have come in."""

    ids: dict[str, int]
    is_needed: bool
    """Whether any of them is kept where it lies."""
    elsewhere: dict[str, int]
    """In which objects those lie that were there already, and up to where, as rows say."""


_BY_SHA256 = select(blobs).where(blobs.c.root.is_(None), among(blobs.c.sha256, "sha256"))
_FORGET_UPLOADS = delete(uploads).where(
    uploads.c.workspace_id == bindparam("workspace"), uploads.c.user_id == bindparam("user"), among(uploads.c.blob_id, "blobs")
)


def keep_blobs(tx: Connection, new: Sequence[New], *, object: str, workspace_id: int, user_id: int, at: int) -> Kept:
    """Record contents, which lie in *object*, and who sent them."""
    ids: dict[str, int] = {}
    damaged: set[str] = set()
    elsewhere: dict[str, int] = {}
    for row in tx.execute(_BY_SHA256, {"sha256": [one.sha256 for one in new]}):
        ids[row.sha256] = row.id
        if row.damaged_at is not None:
            damaged.add(row.sha256)
        else:
            elsewhere[row.object] = max(row.offset + row.size, elsewhere.get(row.object, 0))
    if ids:
        tx.execute(_FORGET_UPLOADS, {"workspace": workspace_id, "user": user_id, "blobs": list(ids.values())})
    healed = [one for one in new if one.sha256 in damaged]
    _heal(tx, healed, object)
    added = [one for one in new if one.sha256 not in ids]
    if added:
        made = dict(zip((one.sha256 for one in added), new_ids(tx, blobs, len(added)), strict=True))
        rows = [{"id": made[one.sha256], **one._asdict(), "object": object, "created_at": at} for one in added]
        add(tx, blobs, rows)
        ids |= made
    if ids:
        mine = {"workspace_id": workspace_id, "user_id": user_id, "at": at}
        add(tx, uploads, [{"blob_id": blob_id, **mine} for blob_id in ids.values()])
    if is_needed := bool(added or healed):
        kept = {one.sha256 for one in (*added, *healed)}
        remains.add(tx, [one.sha256 for one in new if one.sha256 not in kept], object)
    return Kept(ids, is_needed, elsewhere)


def replace_blobs(tx: Connection, new: Sequence[New], lost: Collection[str], *, object: str) -> bool:
    """Let contents that lie in *object* take the place of what lay in *lost* ones; return whether the object is needed now."""
    places = {row.sha256: row.object for row in tx.execute(_BY_SHA256, {"sha256": [one.sha256 for one in new]})}
    _heal(tx, [one for one in new if places.get(one.sha256) in lost], object)
    return is_object_known(tx, object)


def _heal(tx: Connection, whole: Sequence[New], object: str) -> None:
    """Point blobs at contents that have come again whole, which heals them for every version that needs them."""
    if whole:
        remains.leave(tx, [one.sha256 for one in whole])
        remains.needed(tx, [one.sha256 for one in whole], object)
        heal = update(blobs).where(blobs.c.root.is_(None), blobs.c.sha256 == bindparam("whole"))
        heal = heal.values(offset=bindparam("start"), object=object, damaged_at=None)
        tx.execute(heal, [{"whole": one.sha256, "start": one.offset} for one in whole])


_WHOLE = select(blobs.c.id, blobs.c.sha256).where(among(blobs.c.id, "ids"), blobs.c.root.is_(None), blobs.c.damaged_at.is_(None))


def whole_blobs(tx: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Return the sha256 of those of the blobs that are there and not damaged, but for linked ones."""
    return {row.id: row.sha256 for row in tx.execute(_WHOLE, {"ids": ids})}


def places(tx: Connection, sha256: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return where those of the contents lie that are recorded: ``object, offset``."""
    found = tx.execute(_BY_SHA256, {"sha256": list(sha256)})
    return {row.sha256: {"object": row.object, "offset": row.offset} for row in found}


def take_sha256(tx: Connection, *, object: str, sha256: str) -> None:
    """Record what a linked file was found to have."""
    mine = (blobs.c.object == object, blobs.c.root.is_not(None), blobs.c.sha256.is_(None))
    tx.execute(update(blobs).where(*mine).values(sha256=sha256))


class Linked(NamedTuple):
    """A file that shall be linked."""

    root: str
    object: str
    size: int


def linked_ids(tx: Connection, objects: Sequence[str]) -> dict[str, int]:
    """Return the ids of the linked files that are known as they are now."""
    found: dict[str, int] = {}
    for some in chunks(objects):
        rows = select(blobs.c.object, blobs.c.id).where(blobs.c.object.in_(some), blobs.c.root.is_not(None))
        found.update((row.object, row.id) for row in tx.execute(rows))
    return found


def keep_linked(tx: Connection, files: Sequence[Linked], *, at: int) -> None:
    """Record linked files; one that was missing, and is there again as it was, is whole again."""
    known = linked_ids(tx, [one.object for one in files])
    for some in chunks(list(known.values())):
        tx.execute(update(blobs).where(blobs.c.id.in_(some), blobs.c.damaged_at.is_not(None)).values(damaged_at=None))
    new = {one.object: one for one in files if one.object not in known}
    add(tx, blobs, [{**one._asdict(), "offset": 0, "created_at": at} for one in new.values()])


def is_object_known(tx: Connection, object: str) -> bool:
    """Whether some blob's bytes lie in that object of the store."""
    return tx.execute(select(blobs.c.id).where(blobs.c.object == object).limit(1)).first() is not None


@cache
def _blob_of(everything: bool) -> Select[Any]:
    return (
        select(
            blobs,
            assets.c.key,
            assets.c.name,
            assets.c.deleted_at,
            versions.c.format,
            versions.c.uid,
            versions.c.id.label("version_id"),
        )
        .join(versions, versions.c.blob_id == blobs.c.id)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(_seen(everything), versions.c.uid == bindparam("uid"))
    )


def blob_of(tx: Connection, workspace_id: int, allowed: Collection[str] | None, version_uid: str) -> RowMapping | None:
    """Return the blob and the names of a version, also of a deleted asset, so that a pinned download can end."""
    return tx.execute(_blob_of(allowed is None), _by(workspace_id, allowed, uid=version_uid)).mappings().first()


def add_assets(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add assets, whose current versions come next."""
    add(tx, assets, rows)


def add_versions(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add versions of assets that are there."""
    add(tx, versions, rows)


_SET_HEAD = (
    update(assets)
    .where(assets.c.id == bindparam("asset_id"))
    .values({name: bindparam(f"new_{name}") for name in ("head_id", "kind", "format")} | {"deleted_at": None})
)
_FORGET_TAGS = delete(asset_tags).where(among(asset_tags.c.asset_id, "ids"))


def set_heads(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make other versions current, and their assets live; rows have ``asset_id, new_head_id, new_kind, new_format``."""
    if rows:
        tx.execute(_FORGET_TAGS, {"ids": [row["asset_id"] for row in rows]})
        tx.execute(_SET_HEAD, rows)


def add_tags(tx: Connection, workspace_id: int, tagged: Iterable[tuple[int, Sequence[str]]]) -> None:
    """Say what tags assets have that had none."""
    rows = [{"asset_id": one, "tag": tag, "workspace_id": workspace_id} for one, tags in tagged for tag in dict.fromkeys(tags)]
    add(tx, asset_tags, rows)


def hide(tx: Connection, ids: Sequence[int], at: int) -> None:
    """Hide assets."""
    for some in chunks(ids):
        tx.execute(update(assets).where(assets.c.id.in_(some)).values(deleted_at=at))


def show(tx: Connection, asset_id: int) -> None:
    """Bring a hidden asset back."""
    tx.execute(update(assets).where(assets.c.id == asset_id).values(deleted_at=None))


_INPUTS = select(version_inputs).where(among(version_inputs.c.version_id, "ids"))


def add_inputs(tx: Connection, version_ids: Sequence[int], input_ids: Iterable[int]) -> None:
    """
    Record that each of *input_ids* went into each of *version_ids*; what is recorded already stays.

    An input is older than what it went into, so that nothing comes of itself: a version that stood already when it was put again
    takes no newer ones.
    """
    inputs = sorted(set(input_ids))
    known: set[tuple[int, int]] = set()
    for row in tx.execute(_INPUTS, {"ids": version_ids}):
        known.add((row.version_id, row.input_id))
    new = [
        {"version_id": version, "input_id": source}
        for version in version_ids
        for source in inputs
        if (version, source) not in known and source < version
    ]
    add(tx, version_inputs, new)


def add_sources(tx: Connection, edges: Sequence[tuple[int, int]]) -> None:
    """Record, of each pair, that the second version went into the first; what is recorded already stays."""
    known: set[tuple[int, int]] = set()
    for row in tx.execute(_INPUTS, {"ids": [version for version, _ in edges]}):
        known.add((row.version_id, row.input_id))
    new = [{"version_id": one, "input_id": other} for one, other in edges if other < one and (one, other) not in known]
    add(tx, version_inputs, new)


@cache
def _inputs_of(everything: bool) -> Select[Any]:
    return (
        select(version_inputs.c.version_id, versions.c.uid, versions.c.number, assets.c.key)
        .join(versions, versions.c.id == version_inputs.c.input_id)
        .join(assets, assets.c.id == versions.c.asset_id)
        .where(among(version_inputs.c.version_id, "ids"), _seen(everything))
    )


def inputs_of(
    tx: Connection, workspace_id: int, allowed: Collection[str] | None, version_ids: Sequence[int]
) -> dict[int, list[RowMapping]]:
    """Return what went into each version, as far as the caller may read it."""
    found: dict[int, list[RowMapping]] = {}
    rows = tx.execute(_inputs_of(allowed is None), _by(workspace_id, allowed, ids=version_ids)).mappings()
    for row in sorted(rows, key=lambda row: (row["key"], row["number"])):
        found.setdefault(row["version_id"], []).append(row)
    return found


@cache
def _version_ids(everything: bool) -> Select[Any]:
    found = select(versions.c.uid, versions.c.id).join(assets, assets.c.id == versions.c.asset_id)
    return found.where(_seen(everything), among(versions.c.uid, "uids"))


def version_ids(tx: Connection, workspace_id: int, allowed: Collection[str] | None, uids: Sequence[str]) -> dict[str, int]:
    """Return the ids of versions that the caller may read."""
    if not uids:
        return {}
    rows = tx.execute(_version_ids(allowed is None), _by(workspace_id, allowed, uids=uids))
    return {row.uid: row.id for row in rows}


def versions_of(tx: Connection, asset_id: int, *, before: int | None, limit: int) -> list[RowMapping]:
    """Return versions of an asset, newest first: *limit* of them, or fewer where their metadata is large."""
    found = (
        select(versions, blobs.c.sha256, blobs.c.size, blobs.c.root, users.c.name.label("author"))
        .join(blobs, blobs.c.id == versions.c.blob_id)
        .join(users, users.c.id == versions.c.author_id)
        .where(versions.c.asset_id == asset_id)
    )
    if before is not None:
        found = found.where(versions.c.number < before)
    page: list[RowMapping] = []
    size = 0
    with tx.execute(found.order_by(versions.c.number.desc()).limit(limit)) as rows:
        for row in rows.mappings():
            page.append(row)
            size += len(row["meta"])
            if size > _PAGE_BYTES:
                break
    return page


def version_of(tx: Connection, asset_id: int, version: str) -> RowMapping | None:
    """Return one version of an asset by its id or its number."""
    is_number = version.isascii() and version.isdigit() and len(version) < 10
    by = versions.c.number == int(version) if is_number else versions.c.uid == version
    found = (
        select(versions, blobs.c.sha256, blobs.c.size, blobs.c.root, users.c.name.label("author"))
        .join(blobs, blobs.c.id == versions.c.blob_id)
        .join(users, users.c.id == versions.c.author_id)
        .where(versions.c.asset_id == asset_id, by)
    )
    return tx.execute(found).mappings().first()


def pinned(tx: Connection, asset_id: int, *, version: str | None = None, before: int | None = None) -> RowMapping | None:
    """Return a version of an asset with its blob (``sha256, size, object, offset, root``): that one, or the last one then."""
    place = [blobs.c[name] for name in ("sha256", "size", "object", "offset", "root")]
    found = select(versions, *place).join(blobs, blobs.c.id == versions.c.blob_id).where(versions.c.asset_id == asset_id)
    if version is not None:
        is_number = version.isascii() and version.isdigit() and len(version) < 10
        found = found.where(versions.c.number == int(version) if is_number else versions.c.uid == version)
    elif before is not None:
        found = found.where(versions.c.created_at <= before)
    else:
        found = found.where(versions.c.id == select(assets.c.head_id).where(assets.c.id == asset_id).scalar_subquery())
    return tx.execute(found.order_by(versions.c.number.desc()).limit(1)).mappings().first()


_LAST_NUMBERS = (
    select(versions.c.asset_id, func.max(versions.c.number))
    .where(among(versions.c.asset_id, "ids"))
    .group_by(versions.c.asset_id)
)


def last_numbers(tx: Connection, asset_ids: Sequence[int]) -> dict[int, int]:
    """Return the highest version number of each asset."""
    if not asset_ids:
        return {}
    return {row[0]: row[1] for row in tx.execute(_LAST_NUMBERS, {"ids": asset_ids})}
