"""What a search index does, whatever the database: the protocol, its data, cursors and excerpts."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from epista.contract.errors import InvalidRequestError
from epista.contract.keys import name_of
from epista.server.stores.search import attributes, grammar, words
from epista.server.stores.search.grammar import MetaWords, Tree, Words
from epista.server.stores.search.words import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is searched of one asset: its current version."""

    asset_id: int
    workspace_id: int
    key: str
    tags: Sequence[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    content: str = ""
    """Text from inside the file, at most 256 KiB."""


class Hit(NamedTuple):
    """One asset that was found."""

    asset_id: int
    field: str | None
    """Where the text was found: name, tags, key, meta or content; None if only filters matched."""
    snippet: str | None
    """The text around it, matches between ``**``."""


class Found(NamedTuple):
    """One page."""

    hits: list[Hit]
    """Most relevant first, then newest first."""
    next: str | None
    """The cursor of the next page, or None at the end."""


class Counts(NamedTuple):
    """The whole result, counted."""

    total: int
    kind: dict[str, int]
    format: dict[str, int]
    experiment: dict[str, int]
    """Assets at the root of the workspace are not counted."""
    tags: dict[str, int]
    """An asset counts once for each of its tags."""


class SearchIndex(Protocol):
    """
    Search on one kind of database; a module may be one.

    Every function takes the open transaction and never commits. *experiments* is what the caller may see: assets in these
    experiments and nothing else, or everything if None.
    """

    def index(self, tx: Connection, documents: Iterable[Document]) -> None:
        """Index *documents*, each in place of what was there of its asset."""

    def remove(self, tx: Connection, asset_ids: Iterable[int]) -> None:
        """Take assets out of the index; those that are not in it are passed over."""

    def contents_of(self, tx: Connection, ids: Sequence[int]) -> dict[int, str]:
        """Return the text from inside each asset as it was indexed, of those that have some."""

    def find(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int, after: str | None
    ) -> Found:
        """
        Return one page of the live assets that satisfy *tree* at their current version.

        Raises:
            InvalidRequestError: *after* is no cursor.
        """

    def first(
        self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None, limit: int
    ) -> tuple[Found, Counts]:
        """Return the first page of `find`, and what `count` returns, in less time than both take."""

    def count(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> Counts:
        """Count everything that `find` would return over all its pages."""

    def notes(self, tx: Connection, tree: Tree, *, workspace_id: int, experiments: Collection[str] | None) -> tuple[str, ...]:
        """Return a sentence for each path of metadata in *tree* that no asset has, as far as the caller may know."""


class Position(NamedTuple):
    """Where a page ended. Without its score: that speaks of all texts, also of those the caller may not see."""

    is_ranked: bool
    """Whether relevance decides the order, or age alone."""
    created_at: int
    asset_id: int


def cursor(position: Position) -> str:
    """Return *position* as an opaque string."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def position(cursor: str, *, ranked: bool) -> Position:
    """
    Return what `cursor` was made of.

    Raises:
        InvalidRequestError: it is no cursor, or one of a search with another order.
    """
    try:
        match json.loads(base64.urlsafe_b64decode(cursor.encode() + b"==")):
            case [bool(is_ranked), int(created_at), int(asset_id)] if is_ranked is ranked:
                found = Position(is_ranked, created_at, asset_id)
            case _:
                raise ValueError("another shape")
        if max(abs(found.created_at), abs(found.asset_id)) > grammar.MAX_INTEGER:
            raise ValueError("too large")
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidRequestError("this cursor is not from this search", hint="start again without a cursor") from error
    return found


MAX_READ = 4 * 1024 * 1024
"""Characters of metadata and content that the excerpts of one page may read; hits after that show none from there."""


class Excerpts:
    """
    Finds for each hit of one page where its text matched.

    *current* returns tags and metadata of an asset's current version as JSON, *content_of* the text from inside. They are
    asked one asset at a time and only when needed: a page of large documents never is in memory at once.
    """

    def __init__(self, tree: Tree, current: Callable[[int], tuple[str, str]], content_of: Callable[[int], str]) -> None:
        self._current = current
        self._content_of = content_of
        self._left = MAX_READ
        self._name: list[Term] = []
        self._text: list[Term] = []
        self._meta: list[Term] = []
        for leaf in grammar.leaves(tree, positive=True):
            match leaf:
                case Words("name", term):
                    self._name.append(term)
                case Words("text", term):
                    self._text.append(term)
                case Words("meta", term) | MetaWords(_, term):
                    self._meta.append(term)

    def hit(self, asset_id: int, key: str) -> Hit:
        """Return the hit for the asset at *key*."""
        if found := words.excerpt(name_of(key), self._name + self._text):
            return Hit(asset_id, "name", found)
        if (self._text or self._meta) and self._left > 0:
            tags, meta = self._current(asset_id)
            self._left -= len(meta)
            if found := _one_of(json.loads(tags), self._text):
                return Hit(asset_id, "tags", found)
            if found := words.excerpt(key, self._text):
                return Hit(asset_id, "key", found)
            if found := _one_of(attributes.lines(json.loads(meta)), self._text + self._meta):
                return Hit(asset_id, "meta", found)
        if self._text and self._left > 0:
            content = self._content_of(asset_id)
            self._left -= len(content)
            if found := words.excerpt(content, self._text):
                return Hit(asset_id, "content", found)
        return Hit(asset_id, None, None)


def _one_of(texts: Iterable[str], terms: Sequence[Term]) -> str | None:
    return next((found for text in texts if (found := words.excerpt(text, terms))), None)
