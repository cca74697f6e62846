"""Copies of a whole catalog from one database to the other: a backup of a lab in PostgreSQL is a lab in a folder."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, create_engine, delete, insert, select

from epista.server.stores import care
from epista.server.stores.search.index import Document
from epista.server.stores.search.sqlite import SqliteSearch
from epista.server.stores.search.tables import attributes, documents
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.tables import assets, compatibility, metadata, versions

_ROWS = 1000


def into_sqlite(source: Connection, path: Path) -> None:
    """Copy every row that *source* sees into a new catalog at *path*."""
    target = SqliteCatalog(path)
    target.open()
    try:
        target.write(lambda tx: _copy(source, tx))
    finally:
        target.close()
    path.with_name(".writer").unlink(missing_ok=True)


def objects_in(path: Path) -> set[str]:
    """Return the names of the objects of the store that a copied catalog knows, which nobody has open."""
    # As a file that nothing changes, or files for its log would come to lie beside it.
    opened = create_engine("sqlite://", creator=lambda: sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True))
    try:
        with opened.connect() as tx:
            return set(care.objects(tx))
    finally:
        opened.dispose()


def _copy(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        if table in (attributes, documents, compatibility):
            continue  # the index makes them, and migrating the copy
        # Migrating the copy has made some rows.
        target.execute(delete(table))
        # By key, so that what a row of the same table points at comes first.
        found = source.execute(select(table).order_by(*table.primary_key), execution_options={"yield_per": _ROWS})
        for rows in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])
    for batch in _indexed(source):
        SqliteSearch().index(target, batch)


def _indexed(source: Connection) -> Iterator[list[Document]]:
    """Yield what is searched of each live asset."""
    found = (
        select(assets.c.id, assets.c.workspace_id, assets.c.key, versions.c.tags, versions.c.meta, documents.c.content)
        .join(versions, versions.c.id == assets.c.head_id)
        .join(documents, documents.c.asset_id == assets.c.id, isouter=True)
        .where(assets.c.deleted_at.is_(None))
    )
    for rows in source.execute(found, execution_options={"yield_per": 100}).partitions():
        yield [
            Document(
                asset_id=row.id,
                workspace_id=row.workspace_id,
                key=row.key,
                tags=json.loads(row.tags),
                meta=json.loads(row.meta),
                content=row.content or "",
            )
            for row in rows
        ]
