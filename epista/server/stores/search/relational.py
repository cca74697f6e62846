"""
Search in a relational database: trees become conditions on `assets`, the leaves subqueries over the indexes of search.

Everything that the databases have in common; each adds how words are found and ranked. Whatever a user typed is bound, never
part of the SQL.
"""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    and_,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    union_all,
)

from epista.server.stores.assets import after_all
from epista.server.stores.dialects import among
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
from epista.server.stores.search.tables import attributes, documents
from epista.server.stores.tables import asset_tags, assets, blobs, users, versions

# The blob as an outer join, because a database leaves it out where no condition uses it.
_CURRENT = assets.join(versions, versions.c.id == assets.c.head_id).outerjoin(blobs, blobs.c.id == versions.c.blob_id)

_CONTENTS = select(documents.c.asset_id, documents.c.content).where(among(documents.c.asset_id, "ids"))

_ABOVE_ALL = -1e300
"""A score that comes before every other: the lower, the more relevant."""

_LITTLE = 4096
"""Characters of metadata that are read together with those of other assets."""

_NEAREST_OF = 1000
"""How many paths are looked at for the one that was meant."""


class RelationalSearch(ABC):
    """A search index in the tables of a catalog."""

    max_joins = 2**31
    """How many subqueries of one statement the database may take for joins, whose order it tries to find out."""

    @abstractmethod
    def index(self, tx: Connection, documents: Iterable[Document]) -> None:
        """Index documents, each in place of what was there of its asset."""

    @abstractmethod
    def remove(self, tx: Connection, asset_ids: Iterable[int]) -> None:
        """Take assets out of the index; those that are not in it are passed over."""

    @abstractmethod
    def matching(self, leaves: Sequence[Tree], *, every: bool) -> Select[Any]:
        """Select the ids of the assets that satisfy all of *leaves* (`Words`, `MetaWords`), or any."""

    @abstractmethod
    def ranking(self, tx: Connection, terms: Sequence[Words], *, every: bool) -> CTE:
        """Return the assets that satisfy all of *terms*, or any, as ``id, score``: the lower, the more relevant."""

    @abstractmethod
    def among(self, column: ColumnElement[Any], values: Sequence[str] | Sequence[int]) -> ColumnElement[bool]:
        """Return the condition that *column* is one of *values*: one bound parameter, however many they are."""

    def unindexed(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return *column* such that no index is chosen for it, where a database needs to be told."""
        return column

    def by_age(self) -> ColumnElement[bool]:
        """Return a condition that is true of all, and makes the database walk by age, where it needs to be told."""
        return true()

    def contents_of(self, tx: Connection, ids: Sequence[int]) -> dict[int, str]:
        """Return the text from inside each asset as it was indexed, of those that have some."""
        return {row.asset_id: row.content for row in tx.execute(_CONTENTS, {"ids": ids}) if row.content}

    def find(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int, after: str | None
    ) -> Found:
        """Return one page of the live assets that satisfy *tree* at their current version."""
        statement, ranked = self.page(tx, tree, workspace_id=workspace_id, experiments=experiments, limit=limit, after=after)
        return self._found(tx, tree, tx.execute(statement).all(), limit, ranked=ranked)

    def first(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int
    ) -> tuple[Found, Counts]:
        """Return the first page of `find`, and what `count` returns; where relevance decides, over one list of hits."""
        statement = self.ranked(tx, tree, workspace_id=workspace_id, experiments=experiments, limit=limit)
        if statement is None:
            page = self.find(tx, tree, workspace_id=workspace_id, experiments=experiments, limit=limit, after=None)
            return page, self.count(tx, tree, workspace_id=workspace_id, experiments=experiments)
        page_rows, counts = [], Counts(total=0, kind={}, format={}, experiment={}, tags={})
        for row in tx.execute(statement):
            if row.number is None:
                page_rows.append(row)
                continue
            counts = counts._replace(total=counts.total + row.number)
            _count_alike(counts, row)
            for tag in set(json.loads(row.tags)):
                counts.tags[tag] = counts.tags.get(tag, 0) + row.number
        # A union promises no order.
        page_rows.sort(key=lambda row: (row.score, -row.created_at, -row.id))
        return self._found(tx, tree, page_rows, limit, ranked=True), counts

    def _found(self, tx: Connection, tree: Tree, rows: Sequence[Row[Any]], limit: int, *, ranked: bool) -> Found:
        """Return the page of *rows*, of which there is one more than *limit* if it is not the last."""
        current = _Current(self, tx, [row.id for row in rows[:limit]])
        excerpts = Excerpts(tree, current.of, lambda asset_id: self.contents_of(tx, [asset_id]).get(asset_id, ""))
        hits = [excerpts.hit(row.id, row.key) for row in rows[:limit]]
        if len(rows) <= limit:
            return Found(hits, None)
        last = rows[limit - 1]
        return Found(hits, cursor(Position(ranked, last.created_at, last.id)))

    def count(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> Counts:
        """Count everything that `find` would return over all its pages."""
        counts = Counts(total=0, kind={}, format={}, experiment={}, tags={})
        total = 0
        for row in tx.execute(self.groups(tx, tree, workspace_id=workspace_id, experiments=experiments)):
            if row.tag is not None:
                counts.tags[row.tag] = row.number
                continue
            total += row.number
            _count_alike(counts, row)
        return counts._replace(total=total)

    def notes(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> tuple[str, ...]:
        """Return a sentence for each path of metadata in *tree* that no asset has, as far as the caller may know."""
        asked = {leaf.path: None for leaf in leaves(tree) if isinstance(leaf, MetaHas | MetaWords | MetaIs | MetaBetween)}
        visible = self._visible(workspace_id, experiments, hinted=True)

        def known(path: str) -> bool:
            holder = select(literal(1)).select_from(attributes.join(assets, assets.c.id == attributes.c.asset_id))
            there = and_(attributes.c.workspace_id == workspace_id, attributes.c.path == path)
            return tx.execute(holder.where(there, visible).limit(1)).first() is not None

        found = []
        for path in asked:
            if not known(path):
                paths = _distinct(tx, attributes.c.path, attributes.c.workspace_id == workspace_id, limit=_NEAREST_OF)
                # Only a path that the caller may know is named.
                near = filter(known, difflib.get_close_matches(path, [other for other in paths if other != attribution.TAGS]))
                nearest = "".join(f"; nearest: {attribution.shown(other)!r}" for other in list(near)[:1])
                found.append(f"no asset has metadata at {attribution.shown(path)!r}{nearest}")
        return tuple(found)

    def page(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int, after: str | None
    ) -> tuple[Select[Any], bool]:
        """Return the statement of `find`, one row more than *limit*, and whether relevance decides the order."""
        wanted = self._wanted(tx, tree, workspace_id=workspace_id, experiments=experiments)
        score, ranking = wanted.score, wanted.ranking
        age = [versions.c.created_at, assets.c.id]
        statement = select(assets.c.id, assets.c.key, versions.c.created_at, score.label("score"))
        statement = statement.select_from(wanted.source).where(wanted.condition).limit(limit + 1)
        if experiments is None and ranking is None and not _selective(tree):
            statement = statement.where(self.by_age())
        if after is not None:
            last = position(after, ranked=ranking is not None)
            if ranking is not None:
                # Its score as of now. If it is no hit any more there is none, and the first page comes again.
                shown = select(literal(1)).select_from(assets).where(assets.c.id == last.asset_id)
                is_seen = tx.execute(shown.where(self._visible(workspace_id, experiments, hinted=True))).first() is not None
                then = select(ranking.c.score).where(ranking.c.id == last.asset_id).scalar_subquery()
                last_score = func.coalesce(then, _ABOVE_ALL if wanted.every else 0.0) if is_seen else literal(_ABOVE_ALL)
                statement = statement.where(or_(score > last_score, and_(score == last_score, _older(last))))
            else:
                statement = statement.where(versions.c.created_at <= last.created_at, _older(last))
        order = [part.desc() for part in age]
        if ranking is None:
            return statement.order_by(*order), False
        return statement.order_by(score.asc(), *order), True

    def ranked(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int
    ) -> Select[Any] | None:
        """Return the statement of `first`: its page without an order, then hits by all facets; None if age decides alone."""
        wanted = self._wanted(tx, tree, workspace_id=workspace_id, experiments=experiments)
        if wanted.ranking is None:
            return None
        facets = [assets.c.kind, assets.c.format, assets.c.experiment, versions.c.tags]
        hits = (
            select(assets.c.id, versions.c.created_at, wanted.score.label("score"), *facets)
            .select_from(wanted.source)
            .where(wanted.condition)
            .cte("hits")
            .prefix_with("MATERIALIZED")
        )
        order = [hits.c.score, hits.c.created_at.desc(), hits.c.id.desc()]
        top = select(hits.c.id, hits.c.created_at, hits.c.score).order_by(*order).limit(limit + 1).subquery()
        names = ("kind", "format", "experiment", "tags", "number")
        page = select(top.c.id, assets.c.key, top.c.created_at, top.c.score, *(null().label(name) for name in names))
        by = [hits.c.kind, hits.c.format, hits.c.experiment, hits.c.tags]
        alike = select(null(), null(), null(), null(), *by, func.count()).group_by(*by)
        return select(union_all(page.select_from(top.join(assets, assets.c.id == top.c.id)), alike).subquery())

    def _wanted(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> _Wanted:
        terms = [leaf for leaf in leaves(tree, positive=True) if isinstance(leaf, Words) and leaf.field != "meta"]
        source, rest, ranking, every = _CURRENT, tree, None, False
        score: ColumnElement[Any] = null()
        if terms:
            # Words that every hit has are found and ranked in one go. Others only rank; what they demand is a condition.
            alone = tree.items if isinstance(tree, All) else (tree,)
            every = all(term in alone for term in terms)
            ranking = self.ranking(tx, terms, every=every)
            source = source.join(ranking, ranking.c.id == assets.c.id, isouter=not every)
            score = ranking.c.score if every else func.coalesce(ranking.c.score, 0.0)
            if every:
                rest = All(tuple(item for item in alone if item not in terms))
        visible = self._visible(workspace_id, experiments, hinted=_hinted(tree, experiments))
        return _Wanted(source, score, and_(visible, _Conditions(self, tx, workspace_id).of(rest)), ranking, every)

    def groups(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> Select[Any]:
        """Return the statement of `count`: hits by kind, format and experiment, then hits by tag."""
        used = any(
            isinstance(leaf, Between) or (isinstance(leaf, Value) and leaf.field in ("author", "sha256")) for leaf in leaves(tree)
        )
        source = _CURRENT if used else assets
        visible = self._visible(workspace_id, experiments, hinted=_hinted(tree, experiments))
        hits = (
            select(assets.c.id, assets.c.kind, assets.c.format, assets.c.experiment)
            .select_from(source)
            .where(visible, _Conditions(self, tx, workspace_id).of(tree))
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

    def _visible(self, workspace_id: int, experiments: Collection[str] | None, *, hinted: bool) -> ColumnElement[bool]:
        """Return what the caller may see; *hinted* keeps the database from finding it by index."""
        workspace: ColumnElement[Any] = assets.c.workspace_id
        experiment: ColumnElement[Any] = assets.c.experiment
        if hinted:
            workspace, experiment = self.unindexed(workspace), self.unindexed(experiment)
        conditions = [workspace == workspace_id, assets.c.deleted_at.is_(None)]
        if experiments is not None:
            conditions.append(self.among(experiment, sorted(experiments)))
        return and_(*conditions)


class _Wanted(NamedTuple):
    """Which assets a search is about, and how relevant they are."""

    source: FromClause
    score: ColumnElement[Any]
    condition: ColumnElement[bool]
    ranking: CTE | None
    """What relevance comes from; None if it does not matter."""
    every: bool
    """Whether what is ranked is all that is found."""


class _Current:
    """Tags and metadata of the assets of one page: those with little of it are read together, once one is asked for."""

    def __init__(self, search: RelationalSearch, tx: Connection, asset_ids: Sequence[int]) -> None:
        self._search = search
        self._tx = tx
        self._asset_ids = asset_ids
        # By hand: a cached_property has one lock for all objects, so that searches would wait for each other.
        self._small: dict[int, tuple[str, str]] | None = None

    def of(self, asset_id: int) -> tuple[str, str]:
        """Return tags and metadata of an asset's current version, as JSON."""
        if self._small is None:
            little = func.length(versions.c.meta) <= _LITTLE
            self._small = self._read(self._search.among(assets.c.id, self._asset_ids), little)
        return self._small.get(asset_id) or self._read(assets.c.id == asset_id)[asset_id]

    def _read(self, *conditions: ColumnElement[bool]) -> dict[int, tuple[str, str]]:
        found = select(assets.c.id, versions.c.tags, versions.c.meta).join(versions, versions.c.id == assets.c.head_id)
        return {row[0]: (row[1], row[2]) for row in self._tx.execute(found.where(*conditions))}


class _Conditions:
    """Turns trees of one workspace into conditions on assets, with their current versions and blobs joined."""

    def __init__(self, search: RelationalSearch, tx: Connection, workspace_id: int) -> None:
        self._search = search
        self._tx = tx
        self._workspace_id = workspace_id
        self._joins = 0
        self._authors: list[tuple[int, str]] | None = None
        self._experiments: list[str] | None = None

    def of(self, tree: Tree) -> ColumnElement[bool]:
        match tree:
            case Everything():
                return true()
            case All(items):
                return self._several(items, and_, every=True)
            case AnyOf(items):
                return self._several(items, or_, every=False)
            case Not(item):
                return not_(self.of(item))
            case Words() | MetaWords():
                return self._in(self._search.matching([tree], every=True))
            case Value():
                return self._value(tree)
            case Has(field):
                return self._has(field)
            case Between(field, low, high):
                return between(blobs.c.size if field == "size" else versions.c.created_at, low, high)
            case MetaHas(path):
                return self._attribute(attributes.c.path == path)
            case MetaIs(path, value):
                same = [attributes.c[name] == part for name, part in zip(value._fields, value, strict=True)]
                return self._attribute(*same)
            case MetaBetween(path, type_, low, high):
                within = between(attributes.c.number, low, high)
                return self._attribute(attributes.c.path == path, attributes.c.type == type_, within)

    def _several(self, items: Sequence[Tree], joined: Callable[..., ColumnElement[bool]], *, every: bool) -> ColumnElement[bool]:
        # One question for all words at this level.
        wanted = [item for item in items if isinstance(item, Words | MetaWords)]
        parts = [self.of(item) for item in items if not isinstance(item, Words | MetaWords)]
        if wanted:
            parts.insert(0, self._in(self._search.matching(wanted, every=every)))
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
                same = _same(named.c.sha256, value, prefix=prefix)
                # What is linked has an index of its own.
                kept, linked = and_(named.c.root.is_(None), same), and_(named.c.root.is_not(None), same)
                return versions.c.blob_id.in_(select(named.c.id).where(or_(kept, linked)))
            case "author":
                fitting_ids = [id_ for id_, name in self._every_author() if _fits(name, wanted)]
                return self._search.among(versions.c.author_id, fitting_ids)
            case "experiment":
                fitting = [name for name in self._every_experiment() if _fits(name, wanted)]
                there = and_(assets.c.workspace_id == self._workspace_id, self._search.among(assets.c.experiment, fitting))
                # At the root there is none, and NOT of that must hold. The index is left to the list.
                return and_(self._search.unindexed(assets.c.experiment).is_not(None), there)
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
        return self._in(select(attributes.c.asset_id).where(mine, *conditions))

    def _in(self, found: Select[Any]) -> ColumnElement[bool]:
        self._joins += 1
        condition = assets.c.id.in_(found)
        return condition if self._joins <= self._search.max_joins else condition.is_(True)

    # People and experiments are few. Compared here, because databases differ in what they know of case.
    def _every_author(self) -> list[tuple[int, str]]:
        if self._authors is None:
            self._authors = [(row.id, row.name) for row in self._tx.execute(select(users.c.id, users.c.name))]
        return self._authors

    def _every_experiment(self) -> list[str]:
        if self._experiments is None:
            self._experiments = _distinct(self._tx, assets.c.experiment, assets.c.workspace_id == self._workspace_id)
        return self._experiments


def _hinted(tree: Tree, experiments: Collection[str] | None) -> bool:
    # A database that takes a workspace for ten assets needs to be told: only for few experiments, and nothing better, is that
    # index worth it; otherwise the condition leads, or age does, so that the first page needs no sorting.
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


def between(value: ColumnElement[Any], low: float | None, high: float | None) -> ColumnElement[bool]:
    """Return the condition that *value* lies between the ends, which are included; None is open."""
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


def _count_alike(counts: Counts, row: Row[Any]) -> None:
    """Count the hits of one row by all facets but their tags."""
    for facet, value in ((counts.kind, row.kind), (counts.format, row.format), (counts.experiment, row.experiment)):
        if value is not None:
            facet[value] = facet.get(value, 0) + row.number


def folded(text: str) -> str:
    """Return the folded words of *text*, a space between them."""
    return " ".join(folding.split(text))


def _distinct(tx: Connection, of: ColumnElement[str], where: ColumnElement[bool], *, limit: int = MAX_INTEGER) -> list[str]:
    """Return the distinct values of a column in order, jumping along its index from each to the next."""
    found = select(func.min(of).label("value")).where(where).cte("found", recursive=True)
    following = select(func.min(of)).where(where, of > found.c.value).scalar_subquery()
    found = found.union_all(select(following).where(found.c.value.is_not(None)))
    return list(tx.execute(select(found.c.value).where(found.c.value.is_not(None)).limit(limit)).scalars())
