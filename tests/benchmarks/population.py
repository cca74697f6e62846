"""
A lab with as many assets as wanted, made in minutes instead of hours.

The rows are the ones that puts would have made, by the same functions of the stores, and every content is really there: all of
them lie in one object, as in a pack. Only the transactions are larger, and nothing waits for the disk until the end.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, insert, select

from epista.contract import keys
from epista.server import founding
from epista.server.access import secrets
from epista.server.stores import audit, experiments, moments, people, usage
from epista.server.stores.assets import stem_of
from epista.server.stores.catalog import Catalog
from epista.server.stores.local import LocalBlobs
from epista.server.stores.postgres import PostgresCatalog
from epista.server.stores.search.index import Document
from epista.server.stores.search.postgres import PostgresSearch
from epista.server.stores.search.sqlite import SqliteSearch
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.tables import asset_tags, assets, blobs, uploads, versions, workspaces

RARE_WORD = "q0000017"
"""Stands in the metadata of one asset."""

METADATA = "user_meta.batch:B0000001"
"""Ten assets have it."""

RANKED_PAIR = "fixed stained"
"""Every tenth asset has the one word in its metadata, every seventh the other."""

_BATCH = 10_000
_CONTENT = 16


def populate(folder: Path, count: int, *, database: str | None = None) -> None:
    """Make a lab of *count* assets in *folder*, with its catalog there, or in PostgreSQL at the address *database*."""
    founding.prepare(folder, user="admin", database=PostgresCatalog(database, connections=1) if database else None)
    incoming = LocalBlobs(folder).create()
    for some in _batched(count):
        incoming.write(b"".join(map(_content, some)))
    stored = incoming.finish()
    catalog: Catalog = PostgresCatalog(database, connections=1) if database else SqliteCatalog(folder / "lab.db")
    catalog.open()
    try:
        for some in _batched(count):
            catalog.write(functools.partial(_add, numbers=some, object=stored.object))
    finally:
        catalog.close()
    if database:
        with psycopg.connect(database, autocommit=True) as connection:
            for table in ("blobs", "assets", "versions"):
                connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
            connection.execute("VACUUM ANALYZE")


def key(number: int) -> str:
    return f"EXP-{number // 10_000:03}/plate-{number // 100 % 100:02}/sample-{number:07}.csv"


def _batched(count: int) -> Iterator[range]:
    for start in range(0, count, _BATCH):
        yield range(start, min(start + _BATCH, count))


def _content(number: int) -> bytes:
    return f"{number:0{_CONTENT}}".encode()


def _meta(number: int) -> dict[str, Any]:
    treatment = [word for word, every in (("fixed", 10), ("stained", 7), ("washed", 3)) if number % every == 0]
    return {
        "batch": f"B{number // 10:07}",
        "serial": f"q{number:07}",
        "operator": f"operator{number % 50}",
        "temperature": number % 1000 / 10,
        "treatment": treatment,
    }


def _add(tx: Connection, numbers: range, object: str) -> None:
    workspace_id: int = tx.execute(select(workspaces.c.id)).scalar_one()
    user = people.first_lab_admin(tx)
    assert user is not None
    now = moments.now()
    places = [(number + 1, number, key(number)) for number in numbers]  # in an empty lab ids are ours to choose
    content = {"size": _CONTENT, "object": object, "created_at": now}
    tx.execute(
        insert(blobs),
        [
            content | {"id": id_, "sha256": hashlib.sha256(_content(number)).hexdigest(), "offset": number * _CONTENT}
            for id_, number, _ in places
        ],
    )
    sender = {"workspace_id": workspace_id, "user_id": user["id"], "at": now}
    tx.execute(insert(uploads), [sender | {"blob_id": id_} for id_, _, _ in places])
    alike: dict[str, Any] = {"kind": "TABLE", "format": "csv"}
    tx.execute(
        insert(assets),
        [
            alike
            | {
                "id": id_,
                "uid": secrets.identifier("as"),
                "workspace_id": workspace_id,
                "key": place,
                "experiment": keys.experiment_of(place),
                "name": keys.name_of(place),
                "stem": stem_of(keys.name_of(place)),
                "head_id": id_,
            }
            for id_, _, place in places
        ],
    )
    said = {"number": 1, "options": "{}", "tags": '["qc"]', "author_id": user["id"], "note": "put", "notebook": None}
    tx.execute(
        insert(versions),
        [
            alike
            | said
            | {
                "id": id_,
                "uid": secrets.identifier("ve"),
                "asset_id": id_,
                "blob_id": id_,
                "meta": json.dumps(_meta(number)),
                "created_at": now + number,
            }
            for id_, number, _ in places
        ],
    )
    tx.execute(insert(asset_tags), [{"asset_id": id_, "tag": "qc", "workspace_id": workspace_id} for id_, _, _ in places])
    named = [name for _, _, place in places if (name := keys.experiment_of(place)) is not None]
    there = experiments.known(tx, workspace_id, named)
    uids = {name: f"ex_{workspace_id}_{name}" for name in named if name not in there}
    if uids:
        experiments.add(tx, workspace_id=workspace_id, uids=uids, user_id=user["id"], at=now)
    search = PostgresSearch() if tx.dialect.name == "postgresql" else SqliteSearch()
    search.index(
        tx,
        [
            Document(asset_id=id_, workspace_id=workspace_id, key=place, tags=("qc",), meta=_meta(number))
            for id_, number, place in places
        ],
    )
    usage.add(tx, workspace_id, stored_bytes=_CONTENT * len(numbers), assets=len(numbers), versions=len(numbers))
    entry = audit.Entry(
        workspace_id=workspace_id,
        at=now,
        actor=user["name"],
        token=None,
        action="objects.commit",
        target=f"{len(numbers)} assets",
        outcome="done",
        request_id="population",
    )
    audit.append(tx, [entry])
