"""Purging: old versions, and all versions of deleted assets, are erased for good, out of packs too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from epista.contract import keys
from epista.contract import objects as wire
from epista.contract.errors import ConflictError, InvalidKeyError, InvalidRequestError
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import packs, recordings
from epista.server.services.assets import locate, version_row
from epista.server.services.resources import Resources
from epista.server.stores import blobs, care, remains, usage
from epista.server.stores.table_facts import linked_source

MOST_TRIES = 5
"""How often a purge begins anew because others changed what it touches."""

CLOCKS_MICROSECONDS = 60 * 1_000_000
"""How far the clocks of the servers of a lab may be apart."""

LISTED_IN_AUDIT = 50
"""How many versions the audit row of a purge names."""


class _Plan(NamedTuple):
    """What goes, and what has to move because it lies in one pack with that."""

    chosen: list[care.Chosen]
    doomed: list[care.Piece]
    """Contents that nothing else needs."""
    others: list[care.Piece]
    """Contents that stay, in the objects of those that go."""
    touched: set[str]
    """The objects with a copy of what goes."""


class _Changed(Exception):
    """What was planned is not what is there any more."""


def purge(resources: Resources, actor: Actor, wanted: wire.PurgeVersions) -> wire.Purged:
    """
    Erase versions and the bytes that no other version needs.

    Neighbours in packs are copied before the commit, and the old objects removed after it: a crash in between leaves objects
    that no row knows, which the next collection removes.
    """
    for _ in range(MOST_TRIES):
        with resources.read(actor, "admin", wanted.workspace) as (tx, access):
            # Asked first: what was purged is not there to be found again.
            if (kept := resources.kept(tx, actor, wire.Purged)) is None:
                plan, looked_at = _plan(tx, access, wanted), resources.clock()
                told = care.telling(tx, access.workspace_id, plan.chosen, since=0)
        if kept is not None:
            resources.note(actor, access.workspace_id, "", {"repeats": actor.request.idempotency_key})
            return kept
        touched = set(plan.touched)
        try:
            moved = [] if wanted.dry_run else _move(resources, plan.others, touched)

            def work(
                tx: Connection,
                access: Access,
                plan: _Plan = plan,
                moved: Sequence[care.Moved] = moved,
                told: care.Told = told,
                since: int = looked_at - CLOCKS_MICROSECONDS,
            ) -> wire.Purged:
                if _plan(tx, access, wanted) != plan:
                    raise _Changed
                if not wanted.dry_run:
                    care.repoint(tx, moved, at=resources.clock())
                    care.forget_told(tx, told)
                    care.forget_told(tx, care.telling(tx, access.workspace_id, plan.chosen, since))
                    gone = care.erase(tx, plan.chosen)
                    # What no version of the workspace has any more, though another workspace may.
                    lost = usage.fresh_bytes(tx, access.workspace_id, {one.blob_id for one in plan.chosen})
                    usage.add(tx, access.workspace_id, stored_bytes=-lost, versions=-len(plan.chosen))
                    resources.search.remove(tx, gone)
                    care.remove_assets(tx, gone)
                    recordings.forget(tx, access.workspace_id, {one.key for one in plan.chosen})
                    care.forget(tx, [one.id for one in plan.doomed])
                named = [f"{one.key}@{one.number}" for one in plan.chosen[:LISTED_IN_AUDIT]]
                details = {"versions": named, "count": len(plan.chosen), "dry_run": wanted.dry_run}
                resources.record(tx, actor, access.workspace_id, wanted.path, details)
                purged = tuple(wire.PurgedVersion(key=one.key, number=one.number) for one in plan.chosen)
                return wire.Purged(versions=purged)

            return resources.write(actor, "admin", wanted.workspace, wire.Purged, work)
        except _Changed:
            continue
        finally:
            if not wanted.dry_run:
                packs.drop(resources, touched)
                resources.table_cache.drop({one.sha256 or linked_source(one.object) for one in plan.doomed})
    raise ConflictError("others changed the same contents again and again meanwhile", hint="try again in a moment")


def _plan(tx: Connection, access: Access, wanted: wire.PurgeVersions) -> _Plan:
    chosen = _chosen(tx, access, wanted)
    doomed = care.needed_only_by(tx, chosen)
    ids = {one.id for one in doomed}
    touched = {one.object for one in doomed} | remains.objects_with(tx, [one.sha256 for one in doomed if one.sha256])
    return _Plan(chosen, doomed, [one for one in care.lying_in(tx, touched) if one.id not in ids], touched)


def _chosen(tx: Connection, access: Access, wanted: wire.PurgeVersions) -> list[care.Chosen]:
    if wanted.path.endswith("/"):
        folder = keys.normalise_folder(wanted.path)
        if not folder:
            raise InvalidKeyError("an empty folder would mean the whole workspace", hint="name a folder, such as EXP-12/")
        if wanted.version is not None:
            raise InvalidRequestError("a folder has no versions", hint="give the key of one asset")
        return care.deleted_below(tx, access.workspace_id, folder)
    row = locate(tx, access, wanted.path, None, deleted=True)
    if wanted.version is None:
        if row["deleted_at"] is None:
            raise ConflictError(
                f"{row['key']!r} is not deleted", hint=f"delete it first: epista rm {row['key']}; or give a version"
            )
        return care.versions_at(tx, row["asset_id"])
    version = version_row(tx, row, wanted.version)
    if version["id"] == row["id"]:
        raise ConflictError(
            f"version {version['number']} is the newest of {row['key']!r}",
            hint="put or restore another one first; or delete the asset, and purge all of it",
        )
    return [one for one in care.versions_at(tx, row["asset_id"]) if one.id == version["id"]]


def _move(resources: Resources, others: Sequence[care.Piece], touched: set[str]) -> list[care.Moved]:
    """Copy what stays out of the packs, each pack into a new one; add the names of those to *touched*."""
    moved: list[care.Moved] = []
    for name in sorted({one.object for one in others}):
        pack = resources.blobs.create()
        try:
            # None of a pack begins at 0, where only what has a file of its own does.
            pack.write(b"\0")
            placed: list[tuple[int, int, bool]] = []
            for one in (one for one in others if one.object == name):
                is_whole = blobs.digest(resources.blobs, name, one.offset, one.size) == one.sha256
                placed.append((one.id, pack.size, is_whole))
                if is_whole:
                    for data in resources.blobs.read(name, one.offset, one.offset + one.size):
                        pack.write(data)
            stored = pack.finish()
        except BaseException:
            pack.discard()
            raise
        touched.add(stored.object)
        moved += [care.Moved(id, stored.object, offset, is_whole) for id, offset, is_whole in placed]
    return moved
