"""
Search in PostgreSQL: tsvector with GIN for words, the table of attributes for metadata and tags.

The words are those of our own folding, never of a text search configuration. A vector says where each word stands and, by its
label, in what: A the name, B the folders (and, twice, the tags), C the metadata, D the text from inside. Words at a path of the
metadata have the path in front. Relevance is computed as SQLite's bm25 is, from the same counts.

A vector holds 16,383 places and 255 of one word, so a long text takes several rows. What stands around the border of two is
once more in a row of its own, with a negative number, where phrases are found and nothing is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Select,
    and_,
    any_,
    cast,
    column,
    delete,
    func,
    literal,
    not_,
    select,
    table,
    text,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL, TSQUERY
from sqlalchemy.types import BigInteger, Boolean, Float, Text

from epista.contract.keys import name_of
from epista.server.stores.search import attributes as attribution
from epista.server.stores.search import words as folding
from epista.server.stores.search.grammar import MetaWords, Tree, Words
from epista.server.stores.search.index import Document
from epista.server.stores.search.relational import RelationalSearch
from epista.server.stores.search.tables import attributes, documents

MAX_PLACES = 16_000
"""How many places one row has."""

MAX_TIMES = 250
"""How often one word stands in one row."""

MAX_VECTOR_BYTES = 500_000
"""How large a vector may be; PostgreSQL's own limit is a megabyte."""

OVERLAP = 64
"""How many words on either side of a border are repeated; a longer phrase may not be found there."""

_AT_PATH = "\ue001"
# A private-use character is in no folded word, so no word is taken for one at a path.

_WORDS = table("words", column("asset_id"), column("part"), column("is_part", Boolean), column("size"), column("vector"))
_COUNTS = table("word_counts", column("documents"), column("words"))

# How much a match counts where D, C, B and A stand: content 1, metadata 3, a folder or one of the two tags 4, and a name 14,
# because it is part of the key too. They are divided by the greatest, since PostgreSQL takes weights up to 1.
_MOST = 14
_WEIGHTS = {"text": (1, 3, 4, 14), "name": (0, 0, 0, 10)}
_LABELS = {"text": "", "name": "A", "meta": "C"}


class PostgresSearch(RelationalSearch):
    """The index beside a catalog in PostgreSQL."""

    max_joins = 12

    def index(self, tx: Connection, documents: Iterable[Document]) -> None:
        batch = list(documents)
        if not batch:
            return
        self.remove(tx, [document.asset_id for document in batch])
        sizes = []
        rows = []
        for document in batch:
            size, parts, borders = _vectors(document)
            sizes.append(size)
            numbered = [*enumerate(parts), *((-number, border) for number, border in enumerate(borders, start=1))]
            rows += [(document.asset_id, number, len(parts) > 1, size, vector) for number, vector in numbered]
        _copy(tx, "words (asset_id, part, is_part, size, vector)", rows)
        _count(tx, len(batch), sum(sizes))
        _copy(
            tx,
            "attributes (workspace_id, path, type, number, text, asset_id)",
            [
                (document.workspace_id, *row, document.asset_id)
                for document in batch
                for row in attribution.rows(document.meta, document.tags)
            ],
        )
        contents = [(document.asset_id, document.content) for document in batch if document.content]
        _copy(tx, "documents (asset_id, content)", contents)

    def remove(self, tx: Connection, asset_ids: Iterable[int]) -> None:
        gone = literal(list(asset_ids), ARRAY(BigInteger))
        tx.execute(delete(attributes).where(attributes.c.asset_id == any_(gone)))
        tx.execute(delete(documents).where(documents.c.asset_id == any_(gone)))
        removed = text("DELETE FROM words WHERE asset_id = ANY(:ids) RETURNING part, size")
        sizes = [row.size for row in tx.execute(removed, {"ids": gone.value}) if row.part == 0]
        if sizes:
            _count(tx, -len(sizes), -sum(sizes))

    def matching(self, leaves: Sequence[Tree], *, every: bool) -> Select[Any]:
        whole, of_parts = _rows(leaves, every=every)
        ids = select(_WORDS.c.asset_id)
        parts = ids.where(of_parts).group_by(_WORDS.c.asset_id)
        if every:
            parts = parts.having(_having(leaves))
        found = union_all(ids.where(whole), parts).subquery()
        return select(found.c.asset_id)

    def ranking(self, tx: Connection, terms: Sequence[Words], *, every: bool) -> CTE:
        rarities, mean = _statistics(tx, terms)
        times = [_times(term).label(f"times{number}") for number, term in enumerate(terms)]
        whole, of_parts = _rows(terms, every=every)
        size = _WORDS.c.size
        summed = [func.coalesce(func.sum(each).filter(_WORDS.c.part >= 0), 0.0).label(each.name) for each in times]
        parts = select(_WORDS.c.asset_id, func.max(size).label("size"), *summed).where(of_parts).group_by(_WORDS.c.asset_id)
        if every:
            parts = parts.having(_having(terms))
        found = union_all(select(_WORDS.c.asset_id, size, *times).where(whole), parts).subquery()
        # Okapi BM25 with the constants of FTS5, k1 = 1.2 and b = 0.75: Robertson and Zaragoza (2009).
        length = 1.2 * (0.25 + 0.75 * cast(found.c.size, Float) / literal(mean, Float))
        score: ColumnElement[float] = literal(0.0, Float)
        for number, rarity in enumerate(rarities):
            counted = type_coerce(found.c[f"times{number}"], Float)
            score = score + literal(rarity, Float) * (counted * 2.2) / (counted + length)
        ranked = select(found.c.asset_id.label("id"), (-score).label("score"))
        return ranked.cte("ranking").prefix_with("MATERIALIZED")

    def among(self, column: ColumnElement[Any], values: Sequence[str] | Sequence[int]) -> ColumnElement[bool]:
        of = Text() if column.type.python_type is str else BigInteger()
        return column == any_(literal(list(values), ARRAY(of)))


def _rows(leaves: Sequence[Tree], *, every: bool) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """
    Return which rows answer: of assets with one row, and of those with several, of which no row may have every word.

    Said as the predicates of the two indexes say it.
    """
    either = [_query(leaf) for leaf in leaves]
    whole = (" & " if every else " | ").join(f"({query})" for query in either)
    parts = " | ".join(f"({query})" for query in either)
    return and_(not_(_WORDS.c.is_part), _answers(whole)), and_(_WORDS.c.is_part, _answers(parts))


def _having(leaves: Sequence[Tree]) -> ColumnElement[bool]:
    """Return the condition that each of *leaves* is in some row of a group."""
    return and_(*(func.bool_or(_answers(_query(leaf))) for leaf in leaves))


def _answers(query: str) -> ColumnElement[bool]:
    return _WORDS.c.vector.op("@@", is_comparison=True)(_tsquery(query))


def _tsquery(query: str) -> ColumnElement[Any]:
    return cast(literal(query, Text), TSQUERY)


def _query(leaf: Tree) -> str:
    """Return a condition on words in the language of tsquery."""
    match leaf:
        case MetaWords(path, term):
            label, found = "", [_AT_PATH + attribution.token(path, word) for word in term.words]
        case Words(field, term):
            label, found = _LABELS[field], list(term.words)
        case _:
            raise AssertionError(leaf)
    ends = [label] * (len(found) - 1) + [("*" if term.prefix else "") + label]
    return " <-> ".join(_quoted(word) + (f":{end}" if end else "") for word, end in zip(found, ends, strict=True))


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _times(term: Words) -> ColumnElement[float]:
    """Return how often *term* stands in a row, each place counted by its weight: of one word, cover density is that sum."""
    weights = literal([weight / _MOST for weight in _WEIGHTS[term.field]], ARRAY(REAL))
    density = func.ts_rank_cd(weights, _WORDS.c.vector, _tsquery(_query(term)))
    return func.round(cast(density * _MOST, Float))


def _statistics(tx: Connection, terms: Sequence[Words]) -> tuple[list[float], float]:
    """Return how rare each of *terms* is, and how many words an asset has in the mean."""
    rare = []
    if len(terms) > 1:  # a factor of all scores changes no order
        for term in terms:
            whole, parts = _rows([term], every=True)
            rare.append(select(func.count()).select_from(_WORDS).where(whole).scalar_subquery())
            rare.append(select(func.count(_WORDS.c.asset_id.distinct())).where(parts).scalar_subquery())
    count, words, *found = tx.execute(select(_COUNTS.c.documents, _COUNTS.c.words, *rare)).one()
    having = [whole + parts for whole, parts in zip(found[::2], found[1::2], strict=True)]
    rarities = [math.log((count - n + 0.5) / (n + 0.5)) for n in having] or [1.0]
    return [rarity if rarity > 0 else 1e-6 for rarity in rarities], (words / count if count and words else 1.0)


def _count(tx: Connection, documents: int, words: int) -> None:
    counted = {"documents": _COUNTS.c.documents + documents, "words": _COUNTS.c.words + words}
    tx.execute(update(_COUNTS).values(counted))


def _copy(tx: Connection, target: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        connection: Any = tx.connection.driver_connection
        with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def _vectors(document: Document) -> tuple[int, list[str], list[str]]:
    """Return how many words an asset has, as FTS5 counts them, its vectors, as many as it takes, and those of their borders."""
    key = folding.split(document.key)
    name = folding.split(name_of(document.key))
    tags = [folding.split(tag) for tag in document.tags]
    meta = [folding.split(line) for line in attribution.lines(document.meta)]
    content = folding.split(document.content)
    at_paths = attribution.tokens(document.meta).split()
    texts = [("B", tags_) for tags_ in (*tags, *tags)] + [("C", line) for line in meta] + [("D", content)]
    builder = _Vectors()
    folders = key[: len(key) - len(name)]
    builder.add([*((word, "B") for word in folders), *((word, "A") for word in name)])
    for label, words in texts:
        builder.add([(word, label) for word in words])
    phrase: list[tuple[str, str]] = []
    for token in (*at_paths, attribution.BREAK):
        if token == attribution.BREAK:
            builder.add(phrase)
            phrase = []
        else:
            phrase.append((_AT_PATH + token, ""))
    breaks = max(0, len(tags) - 1) + max(0, len(meta) - 1)
    size = len(name) + len(key) + breaks + len(content) + len(at_paths) + sum(map(len, (*tags, *meta)))
    return size, *builder.done()


class _Vectors:
    """Takes texts, a gap after each so that no phrase runs on, and makes as many vectors of them as it takes."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._borders: list[str] = []
        self._vector = _Vector()

    def add(self, words: Sequence[tuple[str, str]]) -> None:
        for at, (word, label) in enumerate(words):
            if self._vector.is_full_for(word):
                self._done.append(str(self._vector))
                self._vector = _Vector()
                if at:
                    border = _Vector()
                    for beside in words[max(0, at - OVERLAP) : at + OVERLAP]:
                        border.put(*beside)
                    self._borders.append(str(border))
            self._vector.put(word, label)
        self._vector.skip()

    def done(self) -> tuple[list[str], list[str]]:
        """Return the vectors, at least one, and those of their borders."""
        return [*self._done, str(self._vector)], self._borders


class _Vector:
    """Words with their places, in the language of tsvector."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self._next = 1
        self._bytes = 0

    def is_full_for(self, word: str) -> bool:
        times = len(self._places.get(word, ()))
        return self._next >= MAX_PLACES or times >= MAX_TIMES or self._bytes >= MAX_VECTOR_BYTES

    def put(self, word: str, label: str) -> None:
        places = self._places.get(word)
        if places is None:
            places = self._places[word] = []
            self._bytes += 4 + len(word.encode())
        places.append(f"{self._next}{label}")
        self._next += 1
        self._bytes += 2

    def skip(self) -> None:
        """Leave a place empty."""
        self._next += 1

    def __str__(self) -> str:
        return " ".join(f"{_quoted(word)}:{','.join(places)}" for word, places in self._places.items())
