"""Rows that the care of a lab needs: which blobs there are, and which of them nothing needs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from epista.server.stores import remains
from epista.server.stores.assets import chunks, starting_with
from epista.server.stores.tables import (
    activities,
    activity_inputs,
    activity_queries,
    asset_tags,
    assets,
    batch_parts,
    batches,
    blob_sources,
    blobs,
    queries,
    query_inputs,
    replies,
    table_facts,
    table_parts,
    tellings,
    uploads,
    version_inputs,
    versions,
    workspaces,
)

_VERSION = re.compile(rb"ve_[0-9A-Za-z]+")

_MADE = re.compile(rb'\{"versions":(\[[0-9,]*\])\}')

_READ_AT_ONCE = 100

_HOLDERS = select(table_parts.c.blob_id).where(table_parts.c.part_id == bindparam("part"))


def blobs_after(tx: Connection, after: int, limit: int) -> list[RowMapping]:
    """Return blobs by id."""
    return list(tx.execute(select(blobs).where(blobs.c.id > after).order_by(blobs.c.id).limit(limit)).mappings())


def is_blob(tx: Connection, blob_id: int, object: str) -> bool:
    """Whether the blob is still there, in the same object."""
    return tx.execute(select(blobs.c.id).where(blobs.c.id == blob_id, blobs.c.object == object)).first() is not None


def keys_of_blob(tx: Connection, blob_id: int, limit: int, *, only_current: bool = False) -> list[str]:
    """Return some of the assets that need a blob, or have it as their current version, as ``workspace:key@version``."""
    found = (
        select(workspaces.c.name, assets.c.key, versions.c.number)
        .join(assets, assets.c.workspace_id == workspaces.c.id)
        .join(versions, versions.c.asset_id == assets.c.id)
        .where(or_(versions.c.blob_id == blob_id, versions.c.blob_id.in_(_HOLDERS)))
        .limit(limit)
    )
    if only_current:
        found = found.where(assets.c.head_id == versions.c.id, assets.c.deleted_at.is_(None))
    return [f"{row.name}:{row.key}@{row.number}" for row in tx.execute(found, {"part": blob_id})]


def mark_damaged(tx: Connection, blob_id: int, at: int | None) -> None:
    """Record that a blob is not what it should be, or (None) that it is again."""
    tx.execute(update(blobs).where(blobs.c.id == blob_id).values(damaged_at=at))


def _is_unneeded(before: int) -> ColumnElement[bool]:
    """The filter for blobs that no version needs, and that nobody sent again since *before*."""
    needed = exists().where(versions.c.blob_id == blobs.c.id)
    part = exists().where(table_parts.c.part_id == blobs.c.id, table_parts.c.blob_id == versions.c.blob_id)
    fresh = exists().where(uploads.c.blob_id == blobs.c.id, uploads.c.at > before)
    return and_(~needed, ~part, ~fresh, blobs.c.created_at <= before)


def unneeded(tx: Connection, before: int, *, after: int, limit: int) -> list[int]:
    """Return the ids of the next blobs that no version needs, and that nobody sent again since *before*."""
    found = select(blobs.c.id).where(_is_unneeded(before), blobs.c.id > after).order_by(blobs.c.id).limit(limit)
    return list(tx.execute(found).scalars())


def still_unneeded(tx: Connection, before: int, blob_ids: Sequence[int]) -> list[RowMapping]:
    """Return those of the blobs that are unneeded now."""
    return [
        row
        for some in chunks(blob_ids)
        for row in tx.execute(select(blobs).where(blobs.c.id.in_(some), _is_unneeded(before))).mappings()
    ]


class Share(NamedTuple):
    """What of an object is needed."""

    blobs: int
    size: int
    is_pack: bool
    is_damaged: bool


def shares(tx: Connection, names: Sequence[str], before: int) -> dict[str, Share]:
    """Return what is needed of those of the objects that rows know."""
    found: dict[str, Share] = {}
    needed = case((_is_unneeded(before), 0), else_=1)
    for some in chunks(names):
        counted = select(
            blobs.c.object,
            func.sum(needed),
            func.sum(needed * blobs.c.size),
            func.max(blobs.c.offset),
            func.count(blobs.c.damaged_at),
        )
        rows = tx.execute(counted.where(blobs.c.object.in_(some)).group_by(blobs.c.object))
        found.update((name, Share(int(n), int(size), end > 0, damaged > 0)) for name, n, size, end, damaged in rows)
    return found


def forget(tx: Connection, blob_ids: Sequence[int]) -> None:
    """Remove the rows of blobs; what of them is left in packs is written down."""
    for some in chunks(blob_ids):
        kept = select(blobs.c.sha256).where(blobs.c.id.in_(some), blobs.c.root.is_(None), blobs.c.sha256.is_not(None))
        remains.leave(tx, list(tx.execute(kept).scalars()))
        # What is a part of a table that nothing needs goes before that table.
        tx.execute(delete(table_parts).where(or_(table_parts.c.blob_id.in_(some), table_parts.c.part_id.in_(some))))
        tx.execute(delete(blob_sources).where(or_(blob_sources.c.blob_id.in_(some), blob_sources.c.source_id.in_(some))))
        tx.execute(delete(table_facts).where(table_facts.c.blob_id.in_(some)))
        tx.execute(delete(uploads).where(uploads.c.blob_id.in_(some)))
        tx.execute(delete(blobs).where(blobs.c.id.in_(some)))


def objects(tx: Connection) -> list[str]:
    """Return the names of all objects of the store that rows know."""
    return list(tx.execute(select(blobs.c.object).where(blobs.c.root.is_(None)).distinct()).scalars())


def linked_blobs(tx: Connection) -> int:
    """Return how many linked files rows know."""
    return int(tx.execute(select(func.count()).select_from(blobs).where(blobs.c.root.is_not(None))).scalar_one())


def newest_object(tx: Connection) -> str | None:
    """Return the name of the object of the store that came last, of those that are not known as damaged."""
    there = (blobs.c.root.is_(None), blobs.c.damaged_at.is_(None))
    newest = select(blobs.c.object).where(*there).order_by(blobs.c.id.desc()).limit(1)
    return tx.execute(newest).scalar()


class Chosen(NamedTuple):
    """A version that shall be erased."""

    id: int
    uid: str
    asset_id: int
    key: str
    number: int
    blob_id: int
    is_deleted: bool
    """Whether its asset is."""


class Piece(NamedTuple):
    """A blob as it lies in the store."""

    id: int
    sha256: str | None
    """None of a linked file that nobody has read whole, and of a table of several files."""
    object: str
    offset: int
    size: int


class Moved(NamedTuple):
    """Where a blob lies from now on."""

    id: int
    object: str
    offset: int
    is_whole: bool


_CHOSEN = select(
    versions.c.id,
    versions.c.uid,
    assets.c.id,
    assets.c.key,
    versions.c.number,
    versions.c.blob_id,
    assets.c.deleted_at.is_not(None),
).join(assets, assets.c.id == versions.c.asset_id)

_MADE_OF = (
    (select(table_parts.c.part_id), table_parts.c.blob_id),
    (select(blob_sources.c.source_id), blob_sources.c.blob_id),
)

_PIECES = select(blobs.c.id, blobs.c.sha256, blobs.c.object, blobs.c.offset, blobs.c.size)


def versions_at(tx: Connection, asset_id: int) -> list[Chosen]:
    """Return all versions of an asset."""
    found = _CHOSEN.where(assets.c.id == asset_id).order_by(versions.c.number)
    return [Chosen(*row) for row in tx.execute(found)]


def deleted_below(tx: Connection, workspace_id: int, folder: str) -> list[Chosen]:
    """Return all versions of the deleted assets in a folder."""
    gone = _CHOSEN.where(assets.c.workspace_id == workspace_id, assets.c.deleted_at.is_not(None), starting_with(folder))
    return [Chosen(*row) for row in tx.execute(gone.order_by(assets.c.key, versions.c.number))]


def needed_only_by(tx: Connection, chosen: Sequence[Chosen]) -> list[Piece]:
    """Return the blobs that no other version needs."""
    users = Counter(one.blob_id for one in chosen)
    alone: set[int] = set()
    for some in chunks(sorted(users)):
        counted = select(versions.c.blob_id, func.count()).where(versions.c.blob_id.in_(some)).group_by(versions.c.blob_id)
        alone.update(blob_id for blob_id, count in tx.execute(counted) if count == users[blob_id])
    # With a table go those of its files that are in no other one, and are no version themselves; likewise what it was made of.
    below, new = set[int](), alone
    while new:
        found = [
            set(tx.execute(ids.where(column.in_(some))).scalars()) for some in chunks(sorted(new)) for ids, column in _MADE_OF
        ]
        new = set[int]().union(*found) - alone - below
        below |= new
    doomed: set[int] = set()
    for some in chunks(sorted(alone | below)):
        tables = select(table_parts.c.part_id, table_parts.c.blob_id).where(table_parts.c.part_id.in_(some))
        held = {part for part, table in tx.execute(tables) if table not in alone}
        pointed = select(versions.c.blob_id).where(versions.c.blob_id.in_(some)).distinct()
        held |= set(tx.execute(pointed).scalars()) - alone
        doomed |= set(some) - held
    return [
        Piece(*row)
        for some in chunks(sorted(doomed))
        for row in tx.execute(_PIECES.where(blobs.c.id.in_(some)).order_by(blobs.c.id))
    ]


def lying_in(tx: Connection, names: Collection[str]) -> list[Piece]:
    """Return the blobs in these objects of the store."""
    found: list[Piece] = []
    for some in chunks(sorted(names)):
        lying = _PIECES.where(blobs.c.object.in_(some)).order_by(blobs.c.object, blobs.c.offset)
        found += [Piece(*row) for row in tx.execute(lying)]
    return found


def is_unmoved(tx: Connection, pieces: Sequence[Piece]) -> bool:
    """Whether all of the blobs still lie where they were found."""
    return all(
        len(set(tx.execute(_PIECES.where(blobs.c.id.in_([one.id for one in some]))).all()) & {tuple(one) for one in some})
        == len(some)
        for some in chunks(pieces)
    )


def forget_replies(tx: Connection, before: int) -> None:
    """Remove the replies that were kept for a retry since before a moment."""
    tx.execute(delete(replies).where(replies.c.at < before))


def repoint(tx: Connection, moved: Sequence[Moved], *, at: int) -> None:
    """Record where blobs lie now; those that were not whole are marked as damaged."""
    for one in moved:
        place = update(blobs).where(blobs.c.id == one.id).values(object=one.object, offset=one.offset)
        tx.execute(place if one.is_whole else place.values(damaged_at=at))


def erase(tx: Connection, chosen: Sequence[Chosen]) -> list[int]:
    """
    Remove versions with what hangs on them; return the deleted assets among theirs, of which nothing is left.

    What they went into says how many inputs it has lost: else a query would seem to have read only what is left.
    """
    for some in chunks([one.id for one in chosen]):
        tx.execute(delete(version_inputs).where(version_inputs.c.version_id.in_(some)))
        _forget_inputs(tx, versions, version_inputs, version_inputs.c.version_id, version_inputs.c.input_id.in_(some))
        _forget_inputs(tx, activities, activity_inputs, activity_inputs.c.activity_id, activity_inputs.c.version_id.in_(some))
        _forget_inputs(tx, queries, query_inputs, query_inputs.c.query_id, query_inputs.c.version_id.in_(some))
        made = select(versions.c.activity_id).where(versions.c.id.in_(some), versions.c.activity_id.is_not(None)).distinct()
        done = list(tx.execute(made).scalars())
        tx.execute(delete(versions).where(versions.c.id.in_(some)))
        _forget_activities(tx, done)
    hidden = sorted({one.asset_id for one in chosen if one.is_deleted})
    left = {
        id
        for some in chunks(hidden)
        for id in tx.execute(select(versions.c.asset_id).where(versions.c.asset_id.in_(some))).scalars()
    }
    return [id for id in hidden if id not in left]


def _forget_inputs(tx: Connection, things: Table, pairs: Table, of: ColumnElement[int], is_gone: ColumnElement[bool]) -> None:
    lost = select(func.count()).select_from(pairs).where(of == things.c.id, is_gone).scalar_subquery()
    affected = things.c.id.in_(select(of).where(is_gone))
    tx.execute(update(things).where(affected).values(gone_inputs=things.c.gone_inputs + lost))
    tx.execute(delete(pairs).where(is_gone))


def _forget_activities(tx: Connection, ids: Sequence[int]) -> None:
    """Remove activities of which no version is left, with what was told of them alone."""
    for some in chunks(ids):
        alive = select(versions.c.activity_id).where(versions.c.activity_id.in_(some))
        done = sorted(set(some) - set(tx.execute(alive).scalars()))
        tx.execute(delete(activity_inputs).where(activity_inputs.c.activity_id.in_(done)))
        tx.execute(delete(activity_queries).where(activity_queries.c.activity_id.in_(done)))
        told = list(tx.execute(select(activities.c.telling_id).where(activities.c.id.in_(done)).distinct()).scalars())
        tx.execute(delete(activities).where(activities.c.id.in_(done)))
        still = select(activities.c.telling_id).where(activities.c.telling_id.in_(told))
        tx.execute(delete(tellings).where(tellings.c.id.in_(told), tellings.c.id.not_in(still)))


def remove_assets(tx: Connection, asset_ids: Sequence[int]) -> None:
    """Remove assets that have no versions any more."""
    for some in chunks(asset_ids):
        tx.execute(delete(asset_tags).where(asset_tags.c.asset_id.in_(some)))
        tx.execute(delete(assets).where(assets.c.id.in_(some)))


class Told(NamedTuple):
    """What is kept for a retry and tells of a version."""

    replies: set[tuple[int, str]]
    """By user and key."""
    batches: set[int]


def telling(tx: Connection, workspace_id: int, chosen: Sequence[Chosen], since: int) -> Told:
    """Return what of all that is kept since a moment tells of versions; all of it is read, which others should not wait for."""
    uids, ids = {one.uid.encode() for one in chosen}, {one.id for one in chosen}
    kept = select(replies.c.user_id, replies.c.key, replies.c.reply).where(replies.c.at >= since)
    made = select(batch_parts.c.batch_id, batch_parts.c.document).join(batches, batches.c.id == batch_parts.c.batch_id)
    made = made.where(batches.c.workspace_id == workspace_id, batches.c.made_at.is_not(None), batches.c.at >= since)
    told = Told(set(), set())
    with tx.execute(kept, execution_options={"yield_per": _READ_AT_ONCE}) as found:
        for row in found:
            if not uids.isdisjoint(_VERSION.findall(row.reply)) or not ids.isdisjoint(_ids_in(row.reply)):
                told.replies.add((row.user_id, row.key))
    with tx.execute(made, execution_options={"yield_per": _READ_AT_ONCE}) as parts:
        told.batches.update(row.batch_id for row in parts if not ids.isdisjoint(json.loads(row.document)))
    return told


def forget_told(tx: Connection, told: Told) -> None:
    """Remove what is kept for a retry."""
    for user_id, key in sorted(told.replies):
        tx.execute(delete(replies).where(replies.c.user_id == user_id, replies.c.key == key))
    for some in chunks(sorted(told.batches)):
        tx.execute(delete(batch_parts).where(batch_parts.c.batch_id.in_(some)))
        tx.execute(delete(batches).where(batches.c.id.in_(some)))


def _ids_in(reply: bytes) -> list[int]:
    """Return the versions whose receipts a kept reply names by their ids alone."""
    found = _MADE.fullmatch(reply)
    return json.loads(found[1]) if found else []
