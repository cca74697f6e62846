"""
What an engine is asked, and what every engine answers.

A plan is made by `services/binding.py` alone: its syntax tree was walked node by node, and every table in it is one of `tables`,
under a name that nobody chose. Engines print the tree in their own dialect; the text that a person typed never reaches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    """Arrow's name of its type, as ``str(pyarrow.DataType)`` gives it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundTable:
    """A version of a table: immutable parquet files in an order, which share a schema."""

    internal: str
    """What the tree calls it: ``t_`` and random letters and digits."""
    version: str
    """The id of the version; ``ID#Sheet`` for a sheet of a workbook. For the record only."""
    files: tuple[str, ...]
    """Where its files are, as the engine reaches them: paths, or addresses with a short life. Never shown to anybody."""
    schema: tuple[Column, ...]
    """Its columns. Those that a file has not are NULL in it, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one query may use; None is no limit."""

    rows: int | None = 10_000_000
    bytes: int | None = 1024**3
    """Of the Arrow stream."""
    seconds: float = 120.0
    """Of work: waiting for a turn and for the reader do not count."""
    memory_bytes: int = 1024**3
    spill_bytes: int = 8 * 1024**3
    threads: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One query, bound."""

    ast: exp.Query = field(repr=False)
    tables: tuple[BoundTable, ...]
    limits: Limits
    params: tuple[Any, ...] | Mapping[str, Any] = ()
    """Values of ``?`` and ``$1``, or of ``$name``, in the tree as parameters."""
    is_explain: bool = False
    """Whether the engine's own plan is asked for, as text in one column, instead of the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineHealth:
    """Whether an engine can take queries."""

    is_ready: bool
    said: str
    """For the lab's manager: which engine it is, or what is wrong with it."""


class ResultStream(Protocol):
    """An Arrow IPC stream on its way out of an engine; an iterator of its bytes, to be closed by whoever asked."""

    rows: int
    """How many rows have been given so far."""

    def __iter__(self) -> Iterator[bytes]:
        """Return itself."""

    def __next__(self) -> bytes:
        """
        Return the next bytes; the first ones when the schema is known.

        Raises:
            QueryError, QueryTimeoutError, QueryMemoryError, ResultTooLargeError, QueryCancelledError: what became of the query.
        """

    def close(self) -> None:
        """End the query, if it is not done, and let go of everything; from whatever thread, and twice is fine."""


class Engine(Protocol):
    """Runs plans; for any number of threads."""

    dialect: str
    """The dialect of sqlglot that it is given: ``duckdb`` or ``spark``."""
    reach: Literal["files", "links", "cluster"]
    """How it comes to files: as paths of this machine, by addresses in the store, or as a cluster does."""

    def run(self, plan: Plan, *, query_id: str) -> ResultStream:
        """
        Begin a query, and return its result as it comes.

        Raises:
            QueryError and its like: refused or failed before there was a first batch.
            UnavailableError: the engine does not answer.
        """

    def cancel(self, query_id: str) -> None:
        """End a query of this process, wherever it is; an unknown one is fine."""

    def health(self) -> EngineHealth:
        """Say whether queries can run, without running one."""

    def close(self) -> None:
        """End whatever runs, and every child."""
