"""Which index answers in PostgreSQL, among enough rows for its planner to care."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from epista.server.stores import assets as rows
from epista.server.stores.postgres import PostgresCatalog
from epista.server.stores.search.grammar import parse
from epista.server.stores.search.postgres import PostgresSearch
from epista.server.stores.tables import assets
from tests.postgres import Postgres

ROWS = 20_000

FILLED = (
    "INSERT INTO users VALUES (1, 'us', 'ada', false, 0)",
    "INSERT INTO workspaces VALUES (1, 'ws', 'lab', 0)",
    'INSERT INTO blobs (id, sha256, size, object, "offset", created_at) '
    "SELECT n, lpad(to_hex(n), 64, '0'), n, 'o' || n, 0, n FROM generate_series(1, :rows) n",
    "INSERT INTO assets (id, uid, workspace_id, key, experiment, name, stem, kind, format, head_id) "
    "SELECT n, 'as' || n, 1, 'EXP-' || n % 50 || '/' || n, 'EXP-' || n % 50, '' || n, '' || n, 'OTHER', 'bytes', n "
    "FROM generate_series(1, :rows) n",
    "INSERT INTO versions (id, uid, asset_id, number, blob_id, kind, format, options, meta, tags, created_at, author_id, note) "
    "SELECT n, 've' || n, n, 1, n, 'OTHER', 'bytes', '{}', '{}', '[]', n, 1, '' FROM generate_series(1, :rows) n",
    "INSERT INTO attributes SELECT 1, '.n', 'number', n, '', n FROM generate_series(1, :rows) n",
    "INSERT INTO attributes SELECT 1, '.cell', 'string', 0, 'cell' || n, n FROM generate_series(1, :rows) n",
    "INSERT INTO attributes SELECT 1, 'tags', 'string', 0, 'tag' || n % 5000, n FROM generate_series(1, :rows) n",
    "INSERT INTO words SELECT n, 0, false, 3, ('w' || n % 5000 || '\\:1A common\\:2D exp\\:3B')\\:\\:tsvector "
    "FROM generate_series(1, :rows) n",
    "UPDATE word_counts SET documents = :rows, words = 3 * :rows",
)


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[Engine]:
    name = postgres.create()
    catalog = PostgresCatalog(postgres.url(name), connections=1)
    catalog.open()
    catalog.write(lambda tx: [tx.execute(text(statement), {"rows": ROWS}) for statement in FILLED])
    postgres.sql("VACUUM ANALYZE", name)
    yield catalog._readers
    catalog.close()
    postgres.drop(name)


def plans(engine: Engine, ask: Callable[[Connection], object]) -> list[str]:
    """Return the plan of each statement that *ask* executes."""
    found: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, context: object, executemany: bool) -> None:
        driver: Any = connection.connection.driver_connection
        found.append("\n".join(row[0] for row in driver.execute(f"EXPLAIN {statement}", parameters)))

    with engine.connect() as tx:
        event.listen(tx, "before_cursor_execute", explain)
        ask(tx)
    return found


LISTINGS: dict[str, tuple[Callable[[Connection], object], str]] = {
    "keys": (
        lambda tx: rows.keys_after(tx, 1, None, prefix="EXP-7/", after="EXP-7/1", limit=100),
        "assets_workspace_id_key_key",
    ),
    "keys as text": (
        lambda tx: rows.lines_after(tx, 1, None, prefix="EXP-7/", after="EXP-7/1", limit=100),
        "assets_workspace_id_key_key",
    ),
    "rows": (
        lambda tx: tx.execute(rows.listed(1, None).where(assets.c.key > "EXP-7/1").order_by(assets.c.key).limit(100)),
        "assets_workspace_id_key_key",
    ),
    "level": (lambda tx: rows.level(tx, 1, None, folder="", after=None, limit=3), "assets_workspace_id_key_key"),
    "a folder in the way": (lambda tx: rows.in_the_way(tx, 1, ["EXP-7/1/x", "new"], ["EXP-7"]), "assets_workspace_id_key_key"),
    "some keys": (lambda tx: rows.by_keys(tx, 1, ["EXP-7/7", "EXP-8/8"]), "assets_workspace_id_key_key"),
    "an id": (lambda tx: rows.by_uid(tx, 1, None, "as5"), "assets_uid_key"),
    "a name": (lambda tx: rows.by_name(tx, 1, None, "77", 10), "assets_by_stem"),
    "a name in a query": (lambda tx: rows.called(tx, 1, None, rows.Called("77", True, None, None, None), 10), "assets_by_stem"),
    "a name in any case": (lambda tx: rows.called(tx, 1, None, rows.Called("77", False, None, None, None), 10), "assets_by_stem"),
}


@pytest.mark.parametrize(("ask", "index"), LISTINGS.values(), ids=LISTINGS)
def test_listings_go_by_index(filled: Engine, ask: Callable[[Connection], object], index: str) -> None:
    found = plans(filled, ask)

    assert found
    for plan in found:
        assert index in plan
        assert "Seq Scan on assets" not in plan, plan


SEARCHES = {
    "w77": "words_by_vector",
    "w77 common": "words_by_vector",
    "name:w7*": "words_by_vector",
    "user_meta.cell:=cell5": "attributes_pkey",
    "user_meta.n:>19990": "attributes_pkey",
    "user_meta.n:[5 TO 9]": "attributes_pkey",
    "tags:tag7": "attributes_pkey",
    "key:EXP-7/7": "assets_workspace_id_key_key",
    "key:EXP-7/77*": "assets_workspace_id_key_key",
    f"sha256:{5:064x}": "blobs_by_sha256",
}


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(("query", "index"), SEARCHES.items(), ids=SEARCHES)
def test_a_search_goes_by_its_index(filled: Engine, query: str, index: str, is_first: bool) -> None:
    asked: dict[str, Any] = {"workspace_id": 1, "experiments": None, "limit": 20}

    def ask(tx: Connection) -> object:
        tree = parse(query)
        return PostgresSearch().first(tx, tree, **asked) if is_first else PostgresSearch().find(tx, tree, **asked, after=None)

    found = plans(filled, ask)

    page = next(plan for plan in found if "Limit" in plan and "assets" in plan)
    assert index in page
    assert "Seq Scan on assets" not in page, page
    assert "Seq Scan on words" not in page, page
