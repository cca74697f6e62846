"""Queries: SQL over the tables that you may read, and what became of it."""

from __future__ import annotations

import base64
import contextlib
import html
import sys
import threading
import time as clock
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from epista.client.assets import instant
from epista.client.listings import Listing, Pages, moment, printable
from epista.contract import queries as wire
from epista.contract.errors import ERRORS, EpistaError, InvalidRequestError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from urllib3 import BaseHTTPResponse

    from epista.client.session import Session
    from epista.contract.lineage import Source

READ_SECONDS = 3600.0
"""How long the first bytes of a result may take, the wait for its turn included; servers have limits of their own."""

COLUMNS = ("status", "rows", "began (UTC)", "user", "id", "sql")
"""What a listing of queries shows; see `row`."""

SHOWN_ROWS = 20
"""How many rows a notebook shows."""

_PATIENCE_SECONDS = 2.0

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow IPC stream ends (Arrow columnar format, "IPC streaming format")."""


class QueryResult:
    """
    The result of a query: a table, its columns, and where it came from.

    It is held as Arrow; any library that takes Arrow's C stream takes it as it is. Iterating gives rows as dicts.
    """

    def __init__(self, here: Session, table: pa.Table, query_id: str) -> None:
        self._here = here
        self._table = table
        self._query: Query | None = None
        self.query_id = query_id
        """Its row in the query log."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    @property
    def query(self) -> Query:
        """Its row in the query log, asked for once."""
        if self._query is None:
            self._query = get(self._here, self.query_id)
        return self._query

    @property
    def inputs(self) -> tuple[Source, ...]:
        """The versions of the assets that were read, asked for once."""
        return self.query.inputs

    def to_arrow(self) -> pa.Table:
        """Return the result as a `pyarrow.Table`."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """Return the result as a DataFrame; integers with missing values that a float cannot hold are of type ``Int64``."""
        from epista.serializers import tables

        frame: pd.DataFrame = tables.from_arrow(self._table, "pandas")
        return frame

    def to_polars(self) -> pl.DataFrame:
        """Return the result as a polars DataFrame."""
        from epista.serializers import tables

        frame: pl.DataFrame = tables.from_arrow(self._table, "polars")
        return frame

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=10_000):
            yield from batch.to_pylist()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        from epista.serializers import tables

        if not len(self):
            return f"<QueryResult of no rows: {', '.join(self.columns)}>"
        frame = tables.from_arrow(self._table.slice(0, SHOWN_ROWS), "pandas")
        lines = [printable(line) for line in frame.to_string(max_colwidth=60).split("\n")]
        return "\n".join([*lines, _counted(len(self), SHOWN_ROWS)])

    def _repr_html_(self) -> str:
        from epista.serializers import tables

        frame = tables.from_arrow(self._table.slice(0, SHOWN_ROWS), "pandas")
        return f"{frame.to_html(notebook=True, escape=True)}<p>{html.escape(_counted(len(self), SHOWN_ROWS))}</p>"


class Batches:
    """
    A result as it comes, batch by batch, never held whole: an iterator of `pyarrow.RecordBatch`, and a context manager.

    Whoever leaves it before its end ends the query. It has to be read on: a server waits a minute for a reader.
    """

    def __init__(self, here: Session, request: wire.RunQuery) -> None:
        import pyarrow as pa

        self._here = here
        self._response = here.wire.open("queries.run", request, read_seconds=READ_SECONDS)
        self.query_id = self._response.headers["Epista-Query"]
        """Its row in the query log."""
        self.rows = 0
        """How many rows have come so far."""
        try:
            self._body = _Body(here, self._response)
            self._reader = pa.ipc.open_stream(pa.PythonFile(self._body, mode="r"))
        except BaseException as error:
            self._fail(error)
            raise
        self.schema: pa.Schema = self._reader.schema
        """The columns, with their types."""

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            batch = self._reader.read_next_batch()
        except StopIteration:
            # An end that only looks like one is none: without the mark, the query's row says what happened.
            if not self._body.is_whole():
                self._fail(UnreachableError("the result broke off"))
            self._response.release_conn()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self.rows += batch.num_rows
        return batch

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, which ends a query that is not done."""
        self._response.close()

    def _fail(self, error: BaseException) -> None:
        """Let go, and raise what the query's row says of its end; nothing if it says nothing better."""
        self.close()
        if not isinstance(error, Exception):
            # Ctrl-C: closing the connection would end it too, as soon as the server notices.
            with contextlib.suppress(EpistaError):
                cancel(self._here, self.query_id)
            return
        with contextlib.suppress(UnreachableError):
            raise _outcome(self._here, self.query_id, error) from error


class _Body:
    """The body of an answer as a file for Arrow; knows whether it was read to the end that it announced."""

    closed = False

    def __init__(self, here: Session, response: BaseHTTPResponse) -> None:
        self._here = here
        self._response = response
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        with self._here.wire.reading():
            data = self._response.read(None if size < 0 else size, decode_content=False)
        self._last = (self._last + data)[-len(_END) :]
        return data

    def is_whole(self) -> bool:
        """Whether the mark of the end came, and nothing after it."""
        return self.read(1) == b"" and self._last == _END

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """The response is closed by whoever opened it."""

    def flush(self) -> None:
        """Nothing is written."""


class Query(wire.Query, frozen=True, kw_only=True):
    """One row of the query log."""

    def __repr__(self) -> str:
        return f"<Query {self.id} {self.status}: {printable(' '.join(self.sql.split()))[:80]!r}>"


class _Queries(wire.Queries, frozen=True, kw_only=True):
    queries: tuple[Query, ...]


def query(
    here: Session,
    sql: str,
    *,
    params: Sequence[Any] | Mapping[str, Any] | None = None,
    as_of: datetime | date | str | Mapping[str, int | str] | None = None,
    engine: str | None = None,
) -> QueryResult:
    """
    Ask in SQL: DuckDB's dialect of SELECT, over the tables that you may read.

    A table is called by its name (``counts``, ``"EXP-12".counts``), its key (``"EXP-12/counts.parquet"``) or its id, and in an
    older version as ``"counts@3"``. *params* are the values of ``?`` and ``$1`` (a list), or of ``$name`` (a dict). *as_of* asks
    for every table as it stood at a moment, or for ``{"counts": 3}``. Ctrl-C ends the query.

    Raises:
        QuerySyntaxError: the SQL cannot be read.
        QueryRefusedError: it asks for more than reading tables.
        KeyNotFoundError, AmbiguousNameError: no table of that name, or several.
        QueryError: it cannot be answered; its classes say why.
        ResultTooLargeError: it has more rows or bytes than a query may give.
    """
    import pyarrow as pa

    with _telling(here) as told, Batches(here, _request(here, sql, params, as_of, engine)) as coming:
        found = []
        for batch in coming:
            found.append(batch)
            told(coming.rows)
        here.provenance.queried(coming.query_id)
        return QueryResult(here, pa.Table.from_batches(found, coming.schema), coming.query_id)


def batches(
    here: Session,
    sql: str,
    *,
    params: Sequence[Any] | Mapping[str, Any] | None = None,
    as_of: datetime | date | str | Mapping[str, int | str] | None = None,
    engine: str | None = None,
) -> Batches:
    """Ask as `query` does, and read the result as it comes, without holding it: it may be as large as it likes."""
    coming = Batches(here, _request(here, sql, params, as_of, engine, of_any_size=True))
    here.provenance.queried(coming.query_id)
    return coming


def explain(
    here: Session, sql: str, *, params: Sequence[Any] | Mapping[str, Any] | None = None, engine: str | None = None
) -> str:
    """Return the plan of the engine for a query, which is not run."""
    request = _request(here, sql, params, None, engine, is_explain=True)
    with Batches(here, request) as coming:
        return "\n".join(text for batch in coming for text in batch.column(0).to_pylist())


def find(here: Session, *, everyone: bool = False, limit: int = 100) -> Listing[Query]:
    """List your queries, newest first; as an admin also those of *everyone*."""

    def fetch(after: str | None) -> _Queries:
        wanted = wire.FindQueries(workspace=here.name, everyone=everyone, after=after, limit=limit)
        return here.wire.call("queries.find", wanted, reply=_Queries)

    return Listing(
        Pages(fetch),
        lambda page: page.queries,
        identity=lambda one: one.id,
        columns=COLUMNS,
        row=row,
    )


def get(here: Session, query_id: str) -> Query:
    """Look at one query of the log."""
    return here.wire.call("queries.get", wire.GetQuery(workspace=here.name, id=query_id), reply=Query)


def cancel(here: Session, query_id: str) -> None:
    """End a query, wherever it runs; one that has ended stays as it is."""
    here.wire.call("queries.cancel", wire.CancelQuery(workspace=here.name, id=query_id))


def row(one: wire.Query) -> tuple[str, ...]:
    """Return the cells of a query in a listing."""
    rows = "" if one.rows is None else f"{one.rows:,}"
    return (one.status, rows, moment(one.created_at), one.user, one.id, " ".join(one.sql.split()))


def _request(
    here: Session,
    sql: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    as_of: datetime | date | str | Mapping[str, int | str] | None,
    engine: str | None,
    *,
    is_explain: bool = False,
    of_any_size: bool = False,
) -> wire.RunQuery:
    return wire.RunQuery(
        workspace=here.name,
        sql=sql,
        params=_params(params),
        as_of=_as_of(as_of),
        experiment=here.experiment_name,
        notebook=here.notebook,
        engine=engine,
        explain=is_explain,
        of_any_size=of_any_size,
    )


def _params(given: Sequence[Any] | Mapping[str, Any] | None) -> wire.Params | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): _param(value, f"${name}") for name, value in given.items()}
    if isinstance(given, str | bytes):
        raise InvalidRequestError("params is a list of values, or a dict of them", hint="params=[value]")
    return [_param(value, f"${number}") for number, value in enumerate(given, 1)]


def _param(value: Any, name: str) -> Any:
    if hasattr(value, "item") and not isinstance(value, str | bytes) and getattr(value, "ndim", 0) == 0:
        value = value.item()  # a scalar of NumPy
    if value is None or isinstance(value, bool | int | float | str):
        return value
    # A pandas Timestamp is a datetime, and a datetime is a date.
    for kind, tag in ((datetime, "timestamp"), (date, "date"), (time, "time")):
        if isinstance(value, kind):
            return {tag: value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple) or hasattr(value, "tolist"):
        items = value if isinstance(value, list | tuple) else value.tolist()
        return [_param(one, name) for one in items]
    raise InvalidRequestError(f"parameter {name}: a {type(value).__name__} is no value of SQL")


def _as_of(given: datetime | date | str | Mapping[str, int | str] | None) -> datetime | dict[str, int | str] | None:
    if given is None or isinstance(given, Mapping):
        return None if given is None else dict(given)
    return instant(given)


def _outcome(here: Session, query_id: str, error: Exception) -> Exception:
    """Return the error that a query ended with, as its row says; *error* while it says nothing."""
    for pause in (0.0, 0.2, 1.0):
        clock.sleep(pause)  # the row is completed a moment after the connection broke
        found = get(here, query_id)
        if found.status != "running":
            break
    if found.error is None or found.status == "done":
        return error
    return ERRORS.get(found.error, EpistaError)(found.message or "the query failed", details={"query": query_id})


@contextlib.contextmanager
def _telling(here: Session) -> Iterator[Any]:
    """Say on a terminal how long a query takes and what has come of it, once it has taken a while."""
    setting = here.show_progress
    if setting is False or (setting is None and not (sys.stderr is not None and sys.stderr.isatty())):
        yield lambda rows: None
        return
    from tqdm import tqdm

    done = threading.Event()
    with tqdm(desc="query", unit=" rows", unit_scale=True, delay=_PATIENCE_SECONDS, file=sys.stderr, leave=False) as bar:

        def tick() -> None:
            while not done.wait(0.5):
                bar.refresh()

        def told(rows: int) -> None:
            bar.update(rows - bar.n)

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            done.set()
            thread.join()


def _counted(rows: int, shown: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}" + (f", {shown} shown" if rows > shown else "")
