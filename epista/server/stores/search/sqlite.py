"""
Search in SQLite: FTS5 for words, one table of attributes for metadata and tags.

Words are quoted for FTS5, and folding left nothing in them that could end a quote.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, Label, Select, column, func, literal, literal_column, select, table

from epista.contract.keys import name_of
from epista.server.stores.search import attributes as attribution
from epista.server.stores.search.grammar import MAX_INTEGER, MetaWords, Tree, Words
from epista.server.stores.search.index import Document
from epista.server.stores.search.relational import RelationalSearch, between, folded
from epista.server.stores.tables import versions

_WORDS = table("words", column("rowid"))

_WEIGHTS = "10.0, 4.0, 8.0, 3.0, 1.0, 0.0"
"""How much a match counts in name, key, tags, meta, content, attributes."""


class SqliteSearch(RelationalSearch):
    """The index beside a catalog in SQLite."""

    def index(self, tx: Connection, documents: Iterable[Document]) -> None:
        batch = list(documents)
        if not batch:
            return
        of_batch = (json.dumps([document.asset_id for document in batch]),)
        tx.exec_driver_sql("DELETE FROM attributes WHERE asset_id IN (SELECT value FROM json_each(?))", of_batch)
        tx.exec_driver_sql("DELETE FROM documents WHERE asset_id IN (SELECT value FROM json_each(?))", of_batch)
        tx.exec_driver_sql(
            "INSERT OR REPLACE INTO words (rowid, name, key, tags, meta, content, attributes) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    document.asset_id,
                    folded(name_of(document.key)),
                    folded(document.key),
                    attribution.apart(map(folded, document.tags)),
                    attribution.apart(map(folded, attribution.lines(document.meta))) if document.meta else "",
                    folded(document.content),
                    attribution.tokens(document.meta) if document.meta else "",
                )
                for document in batch
            ],
        )
        if rows := [
            (document.workspace_id, *row, document.asset_id)
            for document in batch
            for row in attribution.rows(document.meta, document.tags)
        ]:
            tx.exec_driver_sql(
                "INSERT INTO attributes (workspace_id, path, type, number, text, asset_id) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        if contents := [(document.asset_id, document.content) for document in batch if document.content]:
            tx.exec_driver_sql("INSERT INTO documents (asset_id, content) VALUES (?, ?)", contents)

    def remove(self, tx: Connection, asset_ids: Iterable[int]) -> None:
        gone = (json.dumps(list(asset_ids)),)
        tx.exec_driver_sql("DELETE FROM attributes WHERE asset_id IN (SELECT value FROM json_each(?))", gone)
        tx.exec_driver_sql("DELETE FROM documents WHERE asset_id IN (SELECT value FROM json_each(?))", gone)
        tx.exec_driver_sql("DELETE FROM words WHERE rowid IN (SELECT value FROM json_each(?))", gone)

    def matching(self, leaves: Sequence[Tree], *, every: bool) -> Select[Any]:
        return select(_WORDS.c.rowid).where(_matching(leaves, every=every))

    def ranking(self, tx: Connection, terms: Sequence[Words], *, every: bool) -> CTE:
        score: Label[float] = literal_column(f"bm25(words, {_WEIGHTS})").label("score")
        ranked = select(_WORDS.c.rowid.label("id"), score).where(_matching(terms, every=every))
        return ranked.cte("ranking").prefix_with("MATERIALIZED")

    def among(self, column: ColumnElement[Any], values: Sequence[str] | Sequence[int]) -> ColumnElement[bool]:
        listed = func.json_each(json.dumps(values)).table_valued("value")
        return column.in_(select(listed.c.value))

    def unindexed(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return literal_column(f"+{column}")

    def by_age(self) -> ColumnElement[bool]:
        # It makes SQLite walk them by age and stop at the limit, where it would rather scan and sort.
        return between(versions.c.created_at, -MAX_INTEGER, MAX_INTEGER)


def _matching(leaves: Sequence[Tree], *, every: bool) -> ColumnElement[bool]:
    return literal_column("words").op("MATCH")(literal((" AND " if every else " OR ").join(map(_phrase, leaves))))


def _phrase(leaf: Tree) -> str:
    """Return a condition on words in the language of FTS5."""
    match leaf:
        case MetaWords(path, term):
            columns, found = "attributes", [attribution.token(path, word) for word in term.words]
        case Words(field, term):
            columns, found = {"text": "name key tags meta content"}.get(field, field), list(term.words)
        case _:
            raise AssertionError(leaf)
    return f'{{{columns}}} : "{" ".join(found)}"' + (" *" if term.prefix else "")
