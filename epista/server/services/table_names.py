"""
Names of tables in queries: which version each of them means.

The first rule with a match decides: an id; an exact key, as everywhere (the active experiment first, then the root); a name, with
or without its extension, in the active experiment at any depth; the same in the workspace. Names in quotes match exactly, others
exactly and then in any case. What the caller may not read is as if it were not there.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, RowMapping

from epista.contract import formats, keys
from epista.contract.errors import AmbiguousNameError, InvalidKeyError, KeyNotFoundError, QueryError
from epista.server.access.policy import Access
from epista.server.services.assets import MAX_CANDIDATES
from epista.server.services.readings import FORMATS, WORKBOOKS, Reading
from epista.server.stores import assets as rows
from epista.server.stores import moments
from epista.server.stores.assets import Called

AsOf = datetime | Mapping[str, int | str] | None
"""Every table as it stood at a moment, or some, by the name in the query, in a version."""

_MOST_LOOKED_AT = 1000
"""Among how many tables the nearest to a name that fits none is looked for."""

_VERSIONED = re.compile(r"(?s)(.+)@([0-9]{1,9}|ve_[0-9a-f]{28})")


class Part(Protocol):
    """One part of a name."""

    @property
    def text(self) -> str:
        """Without its quotes."""

    @property
    def is_quoted(self) -> bool:
        """Whether it had some."""


class Name(Protocol):
    """A name as it stands in a query, and where."""

    @property
    def parts(self) -> Sequence[Part]:
        """The name of the table, or those of its experiment and of the table."""

    @property
    def line(self) -> int:
        """Counted from 1."""

    @property
    def column(self) -> int:
        """Counted in characters from 1."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Where the bytes of a version lie."""

    id: int
    sha256: str | None
    size: int
    object: str
    offset: int
    root: str | None


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """What a name means: a version that the caller may read, of a format that is a table."""

    version_id: int
    version: str
    """Its id, as the world sees it."""
    asset_id: int
    key: str
    number: int
    format: str
    options: Mapping[str, Any]
    """Those that were recorded with it."""
    sheet: str | None
    """The sheet that was named; None for the first one, and for what has none."""
    blob: Blob
    told: str | None = None
    """Under which name of `AsOf` its version was given."""

    @property
    def reading(self) -> Reading:
        """How it is read."""
        return Reading.of(self.key, self.format, self.options, self.sheet)


class _Reading(NamedTuple):
    """One way to read a name: ``plate.xlsx#Sheet2@3`` may be a key, or a sheet of a version."""

    name: str
    sheet: str | None = None
    version: str | None = None


class _Hit(NamedTuple):
    asset_id: int
    key: str
    kind: str
    format: str


def find(tx: Connection, access: Access, name: Name, *, experiment: str | None, as_of: AsOf) -> Pinned:
    """
    Return the version that a name means; *experiment* is the active one.

    Raises:
        KeyNotFoundError: none that the caller may read; names the nearest.
        AmbiguousNameError: several; ``details["candidates"]`` has their keys.
        QueryError: it is no table, or has no such version.
    """
    return _Search(tx, access, name, experiment, as_of).pinned()


class _Search:
    def __init__(self, tx: Connection, access: Access, name: Name, experiment: str | None, as_of: AsOf) -> None:
        self._tx = tx
        self._access = access
        self._said = ".".join(part.text for part in name.parts)
        self._details: dict[str, Any] = {"key": self._said, "line": name.line, "column": name.column}
        self._part = name.parts[-1]
        self._folder = name.parts[-2] if len(name.parts) > 1 else None
        self._experiment = experiment
        self._before = moments.of(as_of) if isinstance(as_of, datetime) else None
        self._told = self._told_by(as_of) if isinstance(as_of, Mapping) else None
        if len(name.parts) > 2:
            raise QueryError(
                f"{self._said!r} has {len(name.parts)} parts; a table has its name, or that of its experiment before it"
            )

    def pinned(self) -> Pinned:
        found = [(reading, hit) for reading in self._readings() for hit in self._hits(reading)]
        if not found:
            raise self._absent()
        if len(found) > 1:
            candidates = [_written(reading, hit) for reading, hit in found[:MAX_CANDIDATES]]
            more = ", ..." if len(found) > MAX_CANDIDATES else ""
            raise AmbiguousNameError(
                f"the name {self._said!r} fits several tables: {', '.join(candidates)}{more}",
                hint="give the whole key, in quotes, or the id of one",
                details=self._details | {"candidates": candidates},
            )
        return self._version(*found[0])

    def _readings(self) -> Iterator[_Reading]:
        try:
            text = keys.normalise(self._part.text)
        except InvalidKeyError:
            return  # nothing can have that name
        yield _Reading(text)
        if not self._part.is_quoted:
            return
        rest, version = text, None
        if found := _VERSIONED.fullmatch(text):
            rest, version = found.groups()
            yield _Reading(rest, None, version)
        book, _, sheet = rest.rpartition("#")
        if book and sheet:
            yield _Reading(book, sheet, version)
            if version is None and (found := _VERSIONED.fullmatch(book)):
                yield _Reading(found[1], sheet, found[2])

    def _hits(self, reading: _Reading, wanted: Collection[str] | None = FORMATS) -> list[_Hit]:
        """Return what a reading means, by the first rule with a match; in any format if none is *wanted*."""
        if reading.sheet is not None:
            wanted = WORKBOOKS
        before = self._before if reading.version is None else None
        for rule in self._rules(reading.name, wanted, before):
            if hits := rule():
                return hits
        return []

    def _rules(self, name: str, wanted: Collection[str] | None, before: int | None) -> Iterator[Callable[[], list[_Hit]]]:
        if self._folder is not None:
            for is_exact in (True, False)[: 1 if self._folder.is_quoted else 2]:
                for experiment in self._experiments(self._folder.text, is_exact):
                    yield partial(self._at, f"{experiment}/{name}", wanted, before)
                    if "/" not in name:
                        yield from self._named(name, experiment, wanted, before)
            return
        if name.startswith("as_"):
            yield partial(self._by_id, name, wanted, before)
        if self._experiment and "/" not in name:
            yield partial(self._at, f"{self._experiment}/{name}", wanted, before)
        yield partial(self._at, name, wanted, before)
        if "/" not in name:
            if self._experiment:
                yield from self._named(name, self._experiment, wanted, before)
            yield from self._named(name, None, wanted, before)

    def _named(
        self, name: str, experiment: str | None, wanted: Collection[str] | None, before: int | None
    ) -> Iterator[Callable[[], list[_Hit]]]:
        for is_exact in (True, False)[: 1 if self._part.is_quoted else 2]:
            yield partial(self._called, Called(name, is_exact, experiment, wanted, before))

    def _experiments(self, said: str, is_exact: bool) -> list[str]:
        if is_exact:
            return [said]
        known = rows.experiments_of(self._tx, self._access.workspace_id, self._access.experiments)
        return [name for name in known if name != said and name.casefold() == said.casefold()]

    def _by_id(self, uid: str, wanted: Collection[str] | None, before: int | None) -> list[_Hit]:
        return self._fitting(rows.by_uid(self._tx, *self._here, uid), wanted, before)

    def _at(self, key: str, wanted: Collection[str] | None, before: int | None) -> list[_Hit]:
        return self._fitting(rows.by_key(self._tx, *self._here, key), wanted, before)

    def _fitting(self, row: RowMapping | None, wanted: Collection[str] | None, before: int | None) -> list[_Hit]:
        if row is None or (wanted is not None and row["format"] not in wanted):
            return []
        if before is not None and rows.pinned(self._tx, row["asset_id"], before=before) is None:
            return []
        return [_Hit(row["asset_id"], row["key"], row["kind"], row["format"])]

    def _called(self, wanted: Called) -> list[_Hit]:
        found = rows.called(self._tx, *self._here, wanted, MAX_CANDIDATES + 1)
        return [_Hit(row["id"], row["key"], row["kind"], row["format"]) for row in found]

    @property
    def _here(self) -> tuple[int, Any]:
        return self._access.workspace_id, self._access.experiments

    def _version(self, reading: _Reading, hit: _Hit) -> Pinned:
        wanted, told = reading.version, None
        if wanted is None and self._told is not None:
            told, wanted = self._told
        before = self._before if wanted is None else None
        row = rows.pinned(self._tx, hit.asset_id, version=wanted, before=before)
        if row is None:
            newest = rows.pinned(self._tx, hit.asset_id)
            assert newest is not None, "an asset has a version"
            raise QueryError(
                f"{hit.key!r} has no version {wanted!r}; the newest is {newest['number']}",
                hint=f"epista history {hit.key}",
                details=self._details,
            )
        if row["format"] not in FORMATS:
            raise self._no_table(hit.key, row["kind"], row["format"])
        return Pinned(
            version_id=row["id"],
            version=row["uid"],
            asset_id=hit.asset_id,
            key=hit.key,
            number=row["number"],
            format=row["format"],
            options=json.loads(row["options"]),
            sheet=reading.sheet,
            blob=Blob(id=row["blob_id"], **{name: row[name] for name in ("sha256", "size", "object", "offset", "root")}),
            told=told,
        )

    def _told_by(self, as_of: Mapping[str, int | str]) -> tuple[str, str] | None:
        """Return the name in *as_of* that means this one, and the version that it gives."""
        for name, version in as_of.items():
            if name == self._said or (not self._part.is_quoted and name.casefold() == self._said.casefold()):
                return name, str(version)
        return None

    def _absent(self) -> KeyNotFoundError | QueryError:
        for reading in self._readings():
            if reading.sheet is None and (hits := self._hits(reading, None)):
                return self._no_table(hits[0].key, hits[0].kind, hits[0].format)
        if (deleted := self._deleted()) is not None:
            return KeyNotFoundError(
                f"the asset at {deleted!r} was deleted", hint=f"bring it back: epista restore {deleted}", details=self._details
            )
        near = self._nearest()
        hint = "ws.assets(kind='TABLE') lists tables"
        if self._folder is not None and not self._part.is_quoted and formats.of_key(self._said) is not None:
            hint = f'a name with a dot stands in quotes: "{self._said}"'
        return KeyNotFoundError(
            f"no table {self._said!r}" + (f"; nearest: {near!r}" if near else ""),
            hint=hint,
            details=self._details | ({"nearest": near} if near else {}),
        )

    def _no_table(self, key: str, kind: str, format: str) -> QueryError:
        tables = ", ".join(sorted(FORMATS))
        return QueryError(f"{key!r} is no table: {kind}, {format}", hint=f"tables are {tables}", details=self._details)

    def _deleted(self) -> str | None:
        if self._folder is not None:
            places = [f"{self._folder.text}/{self._part.text}"]
        else:
            places = [*([f"{self._experiment}/{self._part.text}"] if self._experiment else []), self._part.text]
        return next((one for one in places if rows.by_key(self._tx, *self._here, one, deleted=True)), None)

    def _nearest(self) -> str | None:
        experiment = self._folder.text if self._folder is not None else self._experiment
        for at in dict.fromkeys((experiment, None)):
            found = rows.in_formats(self._tx, *self._here, at, FORMATS, _MOST_LOOKED_AT)
            forms = {
                form.casefold(): key
                for key in reversed(found)
                for form in (key, keys.name_of(key), rows.stem_of(keys.name_of(key)))
            }
            if near := difflib.get_close_matches(self._part.text.casefold(), forms, n=1):
                return forms[near[0]]
        return None


def _written(reading: _Reading, hit: _Hit) -> str:
    """Return how to write what a reading means, such that it is read in this way alone."""
    sheet = "" if reading.sheet is None else f"#{reading.sheet}"
    return hit.key + sheet + ("" if reading.version is None else f"@{reading.version}")
