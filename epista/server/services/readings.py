"""Readings: the ways in which a content is read as a table. The same bytes under other options are another table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epista.contract import formats
from epista.contract import tables as wire
from epista.server.engines import table_files
from epista.server.engines.table_files import Column, Facts, File, Statistics

WORKBOOKS = frozenset(("xlsx", "xls"))
"""Formats of several tables, of which one is named by its sheet."""

FORMATS = frozenset(("csv", "tsv", "parquet", "arrow", "jsonl")) | WORKBOOKS
"""The formats of tables."""


@dataclass(frozen=True)
class Reading:
    """One way to read a content as a table."""

    format: str
    gzipped: bool
    options: str
    sheet: str | None = None

    @classmethod
    def of(cls, key: str, format: str, options: Mapping[str, Any], sheet: str | None = None) -> Reading:
        """Return how a version is read that has that format and options, and stands at that key."""
        return cls(format, formats.is_gzipped(key), json.dumps(options, sort_keys=True), sheet)

    @property
    def is_direct(self) -> bool:
        """Whether engines may be able to read the bytes as they are."""
        return self.format == "parquet" and not self.gzipped

    @property
    def digest(self) -> str:
        """What tells it from others."""
        said: list[Any] = ["parquet"] if self.is_direct else [self.format, self.gzipped, self.options, self.sheet]
        return hashlib.sha256(json.dumps([*said, table_files.VERSION]).encode()).hexdigest()


MOST_STATISTICS = 2000
"""Of how many files and columns statistics are kept one by one."""

PLAIN = Reading("parquet", False, "{}")
"""How parquet is read."""


def table(facts: Facts) -> wire.Table:
    """Return what is known of a table as users see it, its files taken together."""
    return wire.Table(
        columns=tuple(
            wire.Column(name=one.name, type=one.type, **_merged([file.columns.get(one.name) for file in facts.files]))
            for one in facts.columns
        ),
        rows=facts.rows,
        files=facts.file_count,
        notes=tuple(facts.notes),
    )


def together(columns: Sequence[Column], files: Sequence[File]) -> list[File]:
    """Return files as they are, or as one, where they would be more statistics than should be kept with every version."""
    if len(files) * len(columns) <= MOST_STATISTICS:
        return list(files)
    merged = {one.name: Statistics(**_merged([file.columns.get(one.name) for file in files])) for one in columns}
    return [File(rows=sum(file.rows for file in files), columns=merged)]


def _merged(files: list[Statistics | None]) -> dict[str, Any]:
    known = [one for one in files if one is not None]
    if not known or len(known) < len(files):
        return {}
    nulls = None if any(one.nulls is None for one in known) else sum(one.nulls or 0 for one in known)
    # A file that has no value has neither a least nor a greatest one, which cannot be told from one that does not say.
    if any(one.min is None or one.max is None for one in known):
        return {"nulls": nulls}
    try:
        return {"nulls": nulls, "min": min(one.min for one in known), "max": max(one.max for one in known)}  # type: ignore[type-var]
    except TypeError:
        return {"nulls": nulls}
