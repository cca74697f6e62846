"""Queries: SQL over the tables that the caller may read, and the log of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from epista.contract.lineage import Source
from epista.contract.messages import Cursor, Instant, PageSize, Reply, Request, Text

MAX_SQL_BYTES = 64 * 1024
"""How much SQL one query may be, in bytes of UTF-8."""

MAX_PARAMS = 1000
"""How many values one query may be given."""

Sql = Annotated[str, msgspec.Meta(max_length=MAX_SQL_BYTES)]
"""DuckDB's dialect of SELECT."""

Params = list[Any] | dict[str, Any]
"""
Values of ``?`` and ``$1`` in their order, or of ``$name`` by name: JSON scalars, or what JSON has not, tagged:
``{"date": "2026-11-23"}``, ``{"timestamp": "2026-11-23T08:00:00+00:00"}``, ``{"decimal": "1.50"}``, ``{"bytes": BASE64}``.
"""


class RunQuery(Request, frozen=True, kw_only=True):
    """
    Run one query, and download its result as an Arrow IPC stream.

    The header ``Epista-Query`` names its row in the query log. An error before the first batch is a status; later the stream
    breaks off without its end marker, and the query's row says why. Closing the connection ends the query.
    """

    workspace: Text
    """The workspace."""
    sql: Sql
    """What is asked: one query, in DuckDB's dialect of SELECT."""
    params: Params | None = None
    """Values of its parameters."""
    as_of: datetime | dict[Text, int | Text] | None = None
    """Every table as it stood at a moment, or some tables, by the name in the query, in a version (number or id)."""
    experiment: Text | None = None
    """Where names are looked up first."""
    notebook: Text | None = None
    """The notebook that asks."""
    engine: Text | None = None
    """``duckdb`` or ``spark``; null: as the server is set up."""
    explain: bool = False
    """Give the plan of the engine, as text in one column, instead of the result."""
    of_any_size: bool = False
    """Without the limits on rows and bytes: the caller writes the result on as it comes, and never holds it."""


class FindQueries(Request, frozen=True, kw_only=True):
    """List queries, newest first: one's own, or those of all, for admins."""

    workspace: Text
    """The workspace."""
    everyone: bool = False
    """Those of all users; only for admins of the workspace."""
    after: Cursor | None = None
    """The cursor of the page before."""
    limit: PageSize = 100
    """How many at most."""


class GetQuery(Request, frozen=True, kw_only=True):
    """Look at one query; one's own, or any for admins."""

    workspace: Text
    """The workspace."""
    id: Text
    """Which."""


class CancelQuery(Request, frozen=True, kw_only=True):
    """End a query, wherever it runs; one that has ended stays as it is. One's own, or any for admins."""

    workspace: Text
    """The workspace."""
    id: Text
    """Which."""


class Query(Reply, frozen=True, kw_only=True):
    """One row of the query log."""

    id: str
    """Opaque."""
    sql: str
    """As typed."""
    params: Params | None
    """Values of its parameters."""
    as_of: datetime | dict[str, int | str] | None
    """The moment, or the versions, that were asked for."""
    experiment: str | None
    """Where names were looked up first."""
    notebook: str | None
    """The notebook that asked."""
    user: str
    """Who asked."""
    engine: str
    """What ran it."""
    status: Literal["running", "done", "failed", "cancelled", "refused"]
    """How far it is, or how it ended."""
    error: str | None
    """The code of the error that it ended with."""
    message: str | None
    """What the error said."""
    inputs: tuple[Source, ...]
    """The versions that it read, as far as the caller may read them."""
    rows: int | None
    """How many rows it gave; null while it runs."""
    bytes: int | None
    """How many bytes of Arrow it gave; null while it runs."""
    created_at: Instant
    """When it was logged, and the engine began."""
    ended_at: Instant | None
    """When it ended; null while it runs."""


class Queries(Reply, frozen=True, kw_only=True):
    """A page of the query log, newest first."""

    queries: tuple[Query, ...]
    """The rows."""
    next: str | None
    """Where the next page begins; null at the end."""
