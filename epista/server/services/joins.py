"""
Joins: of a table of several files, one is made, when somebody reads its bytes or its files are too many.

The version then points at an ordinary content with the same rows, which has a size and a sha256. Nobody could have read other
bytes of it before, so it stays what it was; and its files stay for the versions that still have them.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from epista.contract.errors import NotFoundError
from epista.server.access.actors import Actor
from epista.server.services import packs
from epista.server.services.readings import PLAIN
from epista.server.services.resources import Resources
from epista.server.services.table_names import Blob
from epista.server.services.tables import Tables, document
from epista.server.stores import audit, table_facts, table_parts, usage
from epista.server.stores.blobs import CHUNK
from epista.server.stores.table_parts import Made

MOST_TRIES = 3
"""How often a join begins anew because its files moved meanwhile."""


def join(resources: Resources, actor: Actor, version_id: int) -> None:
    """
    Make one file of a version that has several; one that is a file stays as it is.

    Raises:
        NotFoundError: the version was erased.
        TooLargeError: its rows are more than the server can write in the time that it has.
    """
    tables = Tables(resources)
    with resources.catalog.read() as tx:
        row = table_parts.content(tx, version_id)
        parts = table_parts.of_version(tx, version_id)
    if row is None:
        raise NotFoundError("this version was erased meanwhile")
    if not parts:
        return
    blob = Blob(**row)
    facts = tables.facts(blob)
    with resources.table_cache.turn(f"join-{blob.id}").held(), resources.table_cache.use() as use:
        with resources.catalog.read() as tx:
            row = table_parts.content(tx, version_id)
        if row is None or row["id"] != blob.id:
            return  # others did it meanwhile
        into = use.scratch()
        joined = resources.table_files.join(tables.files(blob, use), columns=facts.columns, schemas=facts.schemas, into=into)
        made = stored(resources, into)

    def work(tx: Connection) -> None:
        # Of those that have it now: it may have been erased, or joined by another server.
        if not (workspaces := table_parts.workspaces_of(tx, blob.id)):
            return
        whole_id = table_parts.keep(tx, made, at=resources.clock())
        lost = [one["id"] for one in table_parts.of_blob(tx, blob.id)]
        fresh = {one: usage.fresh_bytes(tx, one, [whole_id]) for one in workspaces}
        table_parts.replace(tx, blob.id, whole_id)
        for one in workspaces:
            usage.add(tx, one, stored_bytes=fresh[one] - usage.fresh_bytes(tx, one, lost))
        table_parts.add_sources(tx, whole_id, lost)
        table_facts.keep(tx, whole_id, PLAIN.digest, document(joined))
        resources.record(tx, actor, audit.LAB, "tables", {"joined": len(lost), "sha256": made.sha256})

    try:
        resources.catalog.write(work)
    finally:
        packs.drop(resources, {made.object, blob.object})


def stored(resources: Resources, path: Path) -> Made:
    """Take a file into the store, durable, as an object that no row knows yet."""
    incoming = resources.blobs.create(size=path.stat().st_size)
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                incoming.write(piece)
        found = incoming.finish()
    finally:
        incoming.discard()
    return Made(found.object, found.sha256, found.size)
