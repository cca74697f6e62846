"""Tables: what is known of their columns, and rows that are added to them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.lineage import Origin
from epista.contract.messages import Digest, Reply, Request, Text


class Column(Reply, frozen=True, kw_only=True):
    """A column of a table, as queries see it."""

    name: str
    """Told apart from others in any case."""
    type: str
    """Arrow's name of its type."""
    nulls: int | None = None
    """How many values are missing; null where its files do not say."""
    min: bool | int | float | str | None = None
    """The least value; null where its files do not say, or JSON has none for it."""
    max: bool | int | float | str | None = None
    """The greatest value."""


class Table(Reply, frozen=True, kw_only=True):
    """What is known of a version that is a table, once it was read as one."""

    columns: tuple[Column, ...]
    """In their order."""
    rows: int
    """How many."""
    files: int
    """Of how many files it is made; more than one after rows were appended."""
    notes: tuple[str, ...]
    """What was assumed when it was read; options of `put` say otherwise."""


class AppendRows(Origin, frozen=True, kw_only=True):
    """
    Add rows to a table in Parquet as a new version; where there is none, it is put.

    Columns go by name: what the new rows lack is null in them, what the old ones lack in those. A type that holds the values
    of both takes the place of either (int32 and int64, integers and doubles); anything else is refused.
    """

    workspace: Text
    """The workspace."""
    key: Text
    """Where the table stands, or shall stand."""
    sha256: Digest
    """Of the rows, as a parquet file that was sent before."""
    expect: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    """``absent``, or the id of the version that they are added to."""


class JoinTable(Request, frozen=True, kw_only=True):
    """Make one file of a version that has several, for whoever reads its bytes; from then on it has a size and a sha256."""

    workspace: Text
    """The workspace."""
    version: Text
    """The id of the version."""
