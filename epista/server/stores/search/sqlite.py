"""
Search in SQLite: FTS5 for words, one table of attributes for metadata and tags.

A tree becomes one condition on `assets`, its leaves are subqueries over the indexes; whatever a user typed is bound, never
part of the SQL. Words are quoted for FTS5, and folding left nothing in them that could end a quote.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    column,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    table,
    text,
    true,
    union_all,
)

from epista.contract.keys import name_of
from epista.server.stores.assets import after_all
from epista.server.stores.search import attributes as attribution
from epista.server.stores.search import words as folding
from epista.server.stores.search.grammar import (
    MAX_INTEGER,
    All,
    AnyOf,
    Between,
    Everything,
    Has,
    MetaBetween,
    MetaHas,
    MetaIs,
    MetaWords,
    Not,
    Tree,
    Value,
    Words,
    leaves,
)
from epista.server.stores.search.index import Counts, Document, Excerpts, Found, Position, cursor, position
from epista.server.stores.search.tables import attributes
from epista.server.stores.tables import asset_tags, assets, blobs, users, versions

_WORDS = table("words", column("rowid"))

# The blob as an outer join, because SQLite leaves it out where no condition uses it.
_CURRENT = assets.join(versions, versions.c.id == assets.c.head_id).outerjoin(blobs, blobs.c.id == versions.c.blob_id)

_WEIGHTS = "10.0, 4.0, 8.0, 3.0, 1.0, 0.0"
"""How much a match counts in name, key, tags, meta, content, attributes."""

_ABOVE_ALL = -1e300
"""A score that comes before every other: the lower, the more relevant."""

_NEAREST_OF = 1000
"""How many paths are looked at for the one that was meant."""


def index(tx: Connection, batch: Iterable[Document]) -> None:
    """Index documents, each in place of what was there of its asset."""
    batch = list(batch)
    if not batch:
        return
    of_batch = (_ids(document.asset_id for document in batch),)
    tx.exec_driver_sql("DELETE FROM attributes WHERE asset_id IN (SELECT value FROM json_each(?))", of_batch)
    tx.exec_driver_sql("DELETE FROM documents WHERE asset_id IN (SELECT value FROM json_each(?))", of_batch)
    tx.exec_driver_sql(
        "INSERT OR REPLACE INTO words (rowid, name, key, tags, meta, content, attributes) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                document.asset_id,
                _folded(name_of(document.key)),
                _folded(document.key),
                attribution.apart(map(_folded, document.tags)),
                attribution.apart(map(_folded, attribution.lines(document.meta))),
                _folded(document.content),
                attribution.tokens(document.meta),
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


def remove(tx: Connection, asset_ids: Iterable[int]) -> None:
    """Take assets out of the index; those that are not in it are passed over."""
    gone = (_ids(asset_ids),)
    tx.exec_driver_sql("DELETE FROM attributes WHERE asset_id IN (SELECT value FROM json_each(?))", gone)
    tx.exec_driver_sql("DELETE FROM documents WHERE asset_id IN (SELECT value FROM json_each(?))", gone)
    tx.exec_driver_sql("DELETE FROM words WHERE rowid IN (SELECT value FROM json_each(?))", gone)


def content_of(tx: Connection, asset_id: int) -> str:
    """Return the text from inside an asset as it was indexed, empty if there is none."""
    return tx.exec_driver_sql("SELECT content FROM documents WHERE asset_id = ?", (asset_id,)).scalar() or ""


def find(
    tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int, after: str | None
) -> Found:
    """Return one page of the live assets that satisfy *tree* at their current version."""
    statement, ranked = page(tx, tree, workspace_id=workspace_id, experiments=experiments, limit=limit, after=after)
    rows = tx.execute(statement).all()
    excerpts = Excerpts(tree, partial(_current, tx), partial(content_of, tx))
    hits = [excerpts.hit(row.id, row.key) for row in rows[:limit]]
    if len(rows) <= limit:
        return Found(hits, None)
    last = rows[limit - 1]
    return Found(hits, cursor(Position(ranked, last.created_at, last.id)))


def count(tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> Counts:
    """Count everything that `find` would return over all its pages."""
    counts = Counts(total=0, kind={}, format={}, experiment={}, tags={})
    total = 0
    for row in tx.execute(groups(tx, tree, workspace_id=workspace_id, experiments=experiments)):
        if row.tag is not None:
            counts.tags[row.tag] = row.number
            continue
        total += row.number
        for facet, value in ((counts.kind, row.kind), (counts.format, row.format), (counts.experiment, row.experiment)):
            if value is not None:
                facet[value] = facet.get(value, 0) + row.number
    return counts._replace(total=total)


def notes(tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> tuple[str, ...]:
    """Return a sentence for each path of metadata in *tree* that no asset has, as far as the caller may know."""
    asked = {leaf.path: None for leaf in leaves(tree) if isinstance(leaf, MetaHas | MetaWords | MetaIs | MetaBetween)}

    def known(path: str) -> bool:
        holder = select(literal(1)).select_from(attributes.join(assets, assets.c.id == attributes.c.asset_id))
        there = and_(attributes.c.workspace_id == workspace_id, attributes.c.path == path)
        return tx.execute(holder.where(there, _visible(workspace_id, experiments, hinted=True)).limit(1)).first() is not None

    found = []
    for path in asked:
        if not known(path):
            paths = _distinct(tx, "attributes", "path", workspace_id, limit=_NEAREST_OF)
            # Only a path that the caller may know is named.
            near = filter(known, difflib.get_close_matches(path, [other for other in paths if other != attribution.TAGS]))
            nearest = "".join(f"; nearest: {attribution.shown(other)!r}" for other in list(near)[:1])
            found.append(f"no asset has metadata at {attribution.shown(path)!r}{nearest}")
    return tuple(found)


def page(
    tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int, after: str | None
) -> tuple[Select[Any], bool]:
    """Return the statement of `find`, one row more than *limit*, and whether relevance decides the order."""
    terms = [leaf for leaf in leaves(tree, positive=True) if isinstance(leaf, Words) and leaf.field != "meta"]
    source = _CURRENT
    score: ColumnElement[Any] = null()
    rest = tree
    if terms:
        # Words that every hit has are found and ranked in one go. Others only rank; what they demand is a condition.
        alone = tree.items if isinstance(tree, All) else (tree,)
        every = all(term in alone for term in terms)
        ranking = (
            select(_WORDS.c.rowid.label("id"), literal_column(f"bm25(words, {_WEIGHTS})").label("score"))
            .where(_matching((" AND " if every else " OR ").join(map(_phrase, terms))))
            .cte("ranking")
            .prefix_with("MATERIALIZED")
        )
        source = source.join(ranking, ranking.c.id == assets.c.id, isouter=not every)
        score = ranking.c.score if every else func.coalesce(ranking.c.score, 0.0)
        if every:
            rest = All(tuple(item for item in alone if item not in terms))
    visible = _visible(workspace_id, experiments, hinted=_hinted(tree, experiments))
    condition = and_(visible, _Conditions(tx, workspace_id).of(rest))
    age = [versions.c.created_at, assets.c.id]
    statement = select(assets.c.id, assets.c.key, versions.c.created_at, score.label("score"))
    statement = statement.select_from(source).where(condition).limit(limit + 1)
    if experiments is None and not terms and not _selective(tree):
        # True of all, but it makes SQLite walk them by age and stop at the limit, where it would rather scan and sort.
        statement = statement.where(_between(versions.c.created_at, -MAX_INTEGER, MAX_INTEGER))
    if after is not None:
        last = position(after, ranked=bool(terms))
        if terms:
            # Its score as of now. If it is no hit any more there is none, and the first page comes again.
            shown = select(literal(1)).select_from(assets).where(assets.c.id == last.asset_id)
            is_seen = tx.execute(shown.where(_visible(workspace_id, experiments, hinted=True))).first() is not None
            then = select(ranking.c.score).where(ranking.c.id == last.asset_id).scalar_subquery()
            last_score = func.coalesce(then, _ABOVE_ALL if every else 0.0) if is_seen else literal(_ABOVE_ALL)
            statement = statement.where(or_(score > last_score, and_(score == last_score, _older(last))))
        else:
            statement = statement.where(versions.c.created_at <= last.created_at, _older(last))
    order = [part.desc() for part in age]
    return statement.order_by(score.asc(), *order) if terms else statement.order_by(*order), bool(terms)


def groups(tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> Select[Any]:
    """Return the statement of `count`: hits by kind, format and experiment, then hits by tag."""
    used = any(
        isinstance(leaf, Between) or (isinstance(leaf, Value) and leaf.field in ("author", "sha256")) for leaf in leaves(tree)
    )
    source = _CURRENT if used else assets
    visible = _visible(workspace_id, experiments, hinted=_hinted(tree, experiments))
    hits = (
        select(assets.c.id, assets.c.kind, assets.c.format, assets.c.experiment)
        .select_from(source)
        .where(visible, _Conditions(tx, workspace_id).of(tree))
        .cte("hits")
        .prefix_with("MATERIALIZED")
    )
    by_kind = [hits.c.kind, hits.c.format, hits.c.experiment]
    alike = select(*by_kind, null().label("tag"), func.count().label("number")).group_by(*by_kind)
    tagged = (
        select(null(), null(), null(), asset_tags.c.tag, func.count())
        .select_from(hits.join(asset_tags, asset_tags.c.asset_id == hits.c.id))
        .group_by(asset_tags.c.tag)
    )
    return select(union_all(alike, tagged).subquery())


class _Conditions:
    """Turns trees of one workspace into conditions on assets, with their current versions and blobs joined."""

    def __init__(self, tx: Connection, workspace_id: int) -> None:
        self._tx = tx
        self._workspace_id = workspace_id

    def of(self, tree: Tree) -> ColumnElement[bool]:
        match tree:
            case Everything():
                return true()
            case All(items):
                return self._several(items, " AND ", and_)
            case AnyOf(items):
                return self._several(items, " OR ", or_)
            case Not(item):
                return not_(self.of(item))
            case Words() | MetaWords():
                return _has_words(_phrase(tree))
            case Value():
                return self._value(tree)
            case Has(field):
                return self._has(field)
            case Between(field, low, high):
                return _between(blobs.c.size if field == "size" else versions.c.created_at, low, high)
            case MetaHas(path):
                return self._attribute(attributes.c.path == path)
            case MetaIs(path, value):
                same = [attributes.c[name] == part for name, part in zip(value._fields, value, strict=True)]
                return self._attribute(*same)
            case MetaBetween(path, type_, low, high):
                within = _between(attributes.c.number, low, high)
                return self._attribute(attributes.c.path == path, attributes.c.type == type_, within)

    def _several(self, items: Sequence[Tree], operator: str, joined: Callable[..., ColumnElement[bool]]) -> ColumnElement[bool]:
        # One question to FTS5 for all words at this level.
        phrases = [_phrase(item) for item in items if isinstance(item, Words | MetaWords)]
        parts = [self.of(item) for item in items if not isinstance(item, Words | MetaWords)]
        if phrases:
            parts.insert(0, _has_words(operator.join(phrases)))
        return joined(*parts) if parts else true()

    def _value(self, wanted: Value) -> ColumnElement[bool]:
        value, prefix = wanted.value, wanted.prefix
        match wanted.field:
            case "key":
                # The workspace once more, without the hint: these two are an index.
                return and_(assets.c.workspace_id == self._workspace_id, _same(assets.c.key, value, prefix=prefix))
            case "kind":
                return _same(assets.c.kind, value.upper(), prefix=prefix)
            case "format":
                return _same(assets.c.format, value, prefix=prefix)
            case "sha256":
                named = blobs.alias("named")
                those = select(named.c.id).where(_same(named.c.sha256, value, prefix=prefix))
                return versions.c.blob_id.in_(those)
            case "author":
                return versions.c.author_id.in_(_listed([id_ for id_, name in self._authors if _fits(name, wanted)]))
            case "experiment":
                fitting = [name for name in self._experiments if _fits(name, wanted)]
                there = and_(assets.c.workspace_id == self._workspace_id, assets.c.experiment.in_(_listed(fitting)))
                # At the root there is none, and NOT of that must hold. The plus leaves the index to the list.
                return and_(literal_column("+assets.experiment").is_not(None), there)
            case "tags":
                tagged = [attributes.c.type == "string", attributes.c.number == 0.0]
                return self._attribute(
                    attributes.c.path == attribution.TAGS, *tagged, attributes.c.text == attribution.exact(value)
                )

    def _has(self, field: str) -> ColumnElement[bool]:
        if field == "experiment":
            return assets.c.experiment.is_not(None)
        if field == "tags":
            return self._attribute(attributes.c.path == attribution.TAGS)
        # Every path of metadata begins with a dot, and nothing else does.
        return self._attribute(attributes.c.path >= ".", attributes.c.path < "/")

    def _attribute(self, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        mine = attributes.c.workspace_id == self._workspace_id
        return assets.c.id.in_(select(attributes.c.asset_id).where(mine, *conditions))

    # People and experiments are few. Compared here, because SQLite knows the case of ASCII only.
    @cached_property
    def _authors(self) -> list[tuple[int, str]]:
        return [(row.id, row.name) for row in self._tx.execute(select(users.c.id, users.c.name))]

    @cached_property
    def _experiments(self) -> list[str]:
        return _distinct(self._tx, "assets", "experiment", self._workspace_id)


def _visible(workspace_id: int, experiments: Collection[str] | None, *, hinted: bool) -> ColumnElement[bool]:
    """Return what the caller may see; *hinted* keeps SQLite from finding it by index (a unary plus does that)."""
    workspace: ColumnElement[Any] = literal_column("+assets.workspace_id") if hinted else assets.c.workspace_id
    experiment: ColumnElement[Any] = literal_column("+assets.experiment") if hinted else assets.c.experiment
    conditions = [workspace == workspace_id, assets.c.deleted_at.is_(None)]
    if experiments is not None:
        conditions.append(experiment.in_(_listed(sorted(experiments))))
    return and_(*conditions)


def _hinted(tree: Tree, experiments: Collection[str] | None) -> bool:
    # SQLite takes a workspace for ten assets. Only for few experiments, and nothing better, is that index worth it;
    # otherwise the condition leads, or age does, so that the first page needs no sorting.
    return experiments is None or _selective(tree)


def _selective(tree: Tree) -> bool:
    """Whether *tree* has a better beginning than all assets of the workspace."""
    match tree:
        case All(items):
            return any(map(_selective, items))
        case AnyOf(items):
            return all(map(_selective, items))
        case Value(field):
            return field not in ("kind", "format", "author")
        case Words() | MetaHas() | MetaWords() | MetaIs() | MetaBetween():
            return True
    return False


def _older(last: Position) -> ColumnElement[bool]:
    """Return the condition of standing after *last* among those of the same score."""
    age = versions.c.created_at
    return or_(age < last.created_at, and_(age == last.created_at, assets.c.id < last.asset_id))


def _has_words(match: str) -> ColumnElement[bool]:
    return assets.c.id.in_(select(_WORDS.c.rowid).where(_matching(match)))


def _matching(match: str) -> ColumnElement[bool]:
    return literal_column("words").op("MATCH")(literal(match))


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


def _between(value: ColumnElement[Any], low: float | None, high: float | None) -> ColumnElement[bool]:
    ends = [value >= low] if low is not None else []
    if high is not None:
        ends.append(value <= high)
    return and_(*ends) if ends else true()


def _same(value: ColumnElement[Any], wanted: str, *, prefix: bool) -> ColumnElement[bool]:
    if not prefix:
        return value == wanted
    after = after_all(wanted)
    return and_(value >= wanted, value < after) if after else value >= wanted


def _fits(name: str, wanted: Value) -> bool:
    name = folding.caseless(name)
    return name.startswith(wanted.value) if wanted.prefix else name == wanted.value


def _listed(values: Sequence[str] | Sequence[int]) -> Select[Any]:
    """Return *values* as a subquery: one bound parameter, however many they are."""
    return select(column("value")).select_from(func.json_each(json.dumps(values)).table_valued("value"))


def _current(tx: Connection, asset_id: int) -> tuple[str, str]:
    """Return tags and metadata of an asset's current version, as JSON."""
    statement = "SELECT versions.tags, versions.meta FROM assets JOIN versions ON versions.id = head_id WHERE assets.id = ?"
    tags, meta = tx.exec_driver_sql(statement, (asset_id,)).one()
    return tags, meta


def _ids(values: Iterable[int]) -> str:
    return json.dumps(list(values))


def _folded(text: str) -> str:
    return " ".join(folding.split(text))


def _distinct(tx: Connection, name: str, of: str, workspace_id: int, *, limit: int = -1) -> list[str]:
    """Return the distinct values of a column in order, jumping along its index from each to the next."""
    jumps = f"""
        WITH RECURSIVE found (value) AS (
            SELECT min({of}) FROM {name} WHERE workspace_id = :workspace_id
            UNION ALL
            SELECT (SELECT min({of}) FROM {name} WHERE workspace_id = :workspace_id AND {of} > found.value)
            FROM found WHERE found.value IS NOT NULL
        )
        SELECT value FROM found WHERE value IS NOT NULL LIMIT :limit
    """  # noqa: S608 - names of ours
    return list(tx.execute(text(jumps), {"workspace_id": workspace_id, "limit": limit}).scalars())
