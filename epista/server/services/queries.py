"""
Queries: SQL over the tables that the caller may read.

    sql ─ bind ─ log ─► Plan ─► Engine ─► Arrow IPC stream

Names become versions while they are bound, and the log says which before any engine hears of the query. A running query belongs
to the process that runs it; the others reach it through its row, which its own process watches.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping

from epista.contract import queries as wire
from epista.contract.errors import (
    AmbiguousNameError,
    EpistaError,
    ForbiddenError,
    InvalidRequestError,
    MissingExtraError,
    NotFoundError,
    QueryCancelledError,
    QueryError,
    ResultTooLargeError,
)
from epista.contract.lineage import Source
from epista.contract.messages import Done
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.engines.plans import BoundTable, Engine, Limits, Plan, ResultStream
from epista.server.services import cursors, table_names
from epista.server.services.activities import may_see
from epista.server.services.experiment_names import name_of
from epista.server.services.resources import Resources
from epista.server.services.table_names import Pinned
from epista.server.services.tables import Tables
from epista.server.stores import moments
from epista.server.stores import queries as rows

if TYPE_CHECKING:
    from sqlglot import exp

    from epista.server.services.binding import Bound

log = logging.getLogger("epista.queries")

WATCH_SECONDS = 1.0
"""How often the process that runs queries looks whether somebody asked to end one."""

ALIVE_SECONDS = 60
"""How long a query counts as running after its process was last heard of."""

MAX_MESSAGE = 2000
"""How many characters of an error the log keeps."""

LISTED_IN_AUDIT = 50
"""How many versions one audit row names."""


class Queries:
    """Runs queries on the *engines*, by their names, and keeps the log of them."""

    def __init__(self, resources: Resources, tables: Tables, engines: Mapping[str, Engine], limits: Limits) -> None:
        self._all = resources
        self._tables = tables
        self._engines = engines
        self._limits = limits
        self._running: dict[int, Running] = {}
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None

    def close(self) -> None:
        """End every query of this process."""
        with self._lock:
            running = list(self._running.values())
        for one in running:
            one.cancel("the server was stopped")
        for engine in self._engines.values():
            engine.close()

    def run(self, actor: Actor, wanted: wire.RunQuery) -> Running:
        """
        Bind a query and log it; what is returned runs it when its first bytes are asked for.

        A query that is refused is logged too, without versions.
        """
        name = wanted.engine or self._all.config.query_engine
        engine = self._engine(name)
        # Not with the module: without the extra there is no sqlglot, and it would slow every start of a server.
        from epista.server.services import binding

        params = _params(wanted.params)
        created_at = self._all.clock()
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            try:
                experiment = name_of(tx, access, wanted.experiment)
                find = partial(table_names.find, tx, access, experiment=experiment, as_of=wanted.as_of)
                bound = binding.bind(wanted.sql, find, engine=engine.dialect)
                _refuse_unused(wanted.as_of, bound.tables.values())
            except (QueryError, NotFoundError, AmbiguousNameError) as error:
                refusal: EpistaError | None = error
            else:
                refusal = None
        if refusal is not None:
            ended = {"status": "refused", "error": refusal.code, "message": refusal.message[:MAX_MESSAGE], "ended_at": created_at}
            self._log(actor, wanted, name, created_at, {}, ended)
            raise refusal
        _refuse_params(bound.ast, params)
        uid, id = self._log(actor, wanted, name, created_at, bound.tables, {"status": "running"})
        limits = replace(self._limits, rows=None, bytes=None) if wanted.of_any_size else self._limits
        running = Running(self, uid, id, engine, bound, limits, params, is_explain=wanted.explain)
        with self._lock:
            self._running[id] = running
            if self._watch is None:
                self._watch = threading.Thread(target=self._watch_running, name="epista-queries", daemon=True)
                self._watch.start()
        return running

    def find(self, actor: Actor, wanted: wire.FindQueries) -> wire.Queries:
        """List queries, newest first."""
        with self._all.read(actor, "admin" if wanted.everyone else "read", wanted.workspace) as (tx, access):
            user_id = None if wanted.everyone else actor.user_id
            before = cursors.number(wanted.after)
            found = rows.page(tx, access.workspace_id, user_id=user_id, before=before, limit=wanted.limit)
            shown = [row for row in found if may_see(access, row["within"])]
            sources = rows.inputs_of(tx, access.workspace_id, access.experiments, [row["id"] for row in shown])
        self._all.note(actor, access.workspace_id, "", {"everyone": wanted.everyone})
        more = cursors.of(found[-1]["id"]) if len(found) == wanted.limit else None
        return wire.Queries(queries=tuple(self._message(row, sources.get(row["id"], ())) for row in shown), next=more)

    def get(self, actor: Actor, wanted: wire.GetQuery) -> wire.Query:
        """Look at one query."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = self._row(tx, actor, access, wanted.id)
            sources = rows.inputs_of(tx, access.workspace_id, access.experiments, [row["id"]])
        self._all.note(actor, access.workspace_id, wanted.id)
        return self._message(row, sources.get(row["id"], ()))

    def cancel(self, actor: Actor, wanted: wire.CancelQuery) -> Done:
        """End a query, wherever it runs."""

        def work(tx: Connection, access: Access) -> Done:
            row = self._row(tx, actor, access, wanted.id)
            rows.change(tx, row["id"], cancel_asked_at=self._all.clock())
            self._all.record(tx, actor, access.workspace_id, wanted.id)
            return Done()

        done = self._all.write(actor, "read", wanted.workspace, Done, work)
        with self._lock:
            here = next((one for one in self._running.values() if one.uid == wanted.id), None)
        if here is not None:
            here.cancel("it was cancelled")
        return done

    def opened(self, held: ExitStack, pinned: Mapping[str, Pinned], engine: Engine, limits: Limits) -> tuple[BoundTable, ...]:
        """Return the tables as the engine reaches them, until *held* is closed."""
        tables = []
        for internal, one in pinned.items():
            files, schema = held.enter_context(self._tables.opened(one, reach=engine.reach, seconds=limits.seconds))
            tables.append(BoundTable(internal=internal, version=one.version, files=files, schema=schema))
        return tuple(tables)

    def ended(self, running: Running, error: EpistaError | None) -> None:
        """Complete the row of a query."""
        with self._lock:
            if self._running.pop(running.row_id, None) is None:
                return
        status = "done" if error is None else "cancelled" if isinstance(error, QueryCancelledError) else "failed"
        said = {"error": error.code, "message": error.message[:MAX_MESSAGE]} if error else {}
        values = {"status": status, "rows": running.rows, "bytes": running.bytes, "ended_at": self._all.clock(), **said}
        try:
            self._all.catalog.write(lambda tx: rows.change(tx, running.row_id, **values))
        except EpistaError as problem:
            # What it read is in the log already; that it ended shows when its process is not heard of any more.
            log.error("the end of query %s was not logged: %s", running.uid, problem.message)

    def _engine(self, name: str) -> Engine:
        if (found := self._engines.get(name)) is not None:
            return found
        if name == "duckdb":
            raise MissingExtraError("for SQL a package is missing on the server", hint='pip install "epista[sql]"')
        if name == "spark":
            raise InvalidRequestError("this server has no Spark cluster", hint="whoever runs the server: see spark_url")
        known = ", ".join(sorted(self._engines)) or "none"
        raise InvalidRequestError(f"no engine {name!r} on this server; there are: {known}", hint="leave engine out")

    def _log(
        self,
        actor: Actor,
        wanted: wire.RunQuery,
        engine: str,
        created_at: int,
        pinned: Mapping[str, Pinned],
        values: Mapping[str, Any],
    ) -> tuple[str, int]:
        uid = secrets.identifier("qu")
        added = 0

        def work(tx: Connection, access: Access) -> Done:
            nonlocal added
            row = {
                "uid": uid,
                "workspace_id": access.workspace_id,
                "user_id": actor.user_id,
                "experiment": wanted.experiment,
                "within": None if access.experiments is None else json.dumps(sorted(access.experiments)),
                "notebook": wanted.notebook,
                "sql": wanted.sql,
                "params": None if wanted.params is None else json.dumps(wanted.params),
                "as_of": _as_of(wanted.as_of),
                "engine": engine,
                "limits": json.dumps(_limits(self._limits)),
                "created_at": created_at,
                "alive_until": created_at + ALIVE_SECONDS * 1_000_000,
                **values,
            }
            added = rows.add(tx, row, [one.version_id for one in pinned.values()])
            if pinned or values["status"] == "running":
                versions = sorted({one.version for one in pinned.values()})[:LISTED_IN_AUDIT]
                self._all.record(tx, actor, access.workspace_id, wanted.sql, {"query": uid, "inputs": versions})
            return Done()

        self._all.write(actor, "read", wanted.workspace, Done, work)
        return uid, added

    def _row(self, tx: Connection, actor: Actor, access: Access, uid: str) -> RowMapping:
        row = rows.get(tx, access.workspace_id, uid)
        if row is None or not may_see(access, row["within"]) or (row["user_id"] != actor.user_id and access.role != "admin"):
            raise NotFoundError(f"no query {uid!r}", hint="epista queries")
        if row["user_id"] != actor.user_id and "admin" not in actor.scopes:
            raise ForbiddenError("this query is somebody else's: it needs a token with the scope 'admin'")
        return row

    def _message(self, row: RowMapping, sources: Sequence[RowMapping]) -> wire.Query:
        status, error, message = row["status"], row["error"], row["message"]
        if status == "running" and row["alive_until"] < self._all.clock():
            status, error, message = "failed", "unavailable", "the server that ran it has ended"
        as_of = json.loads(row["as_of"]) if row["as_of"] else None
        return wire.Query(
            id=row["uid"],
            sql=row["sql"],
            params=json.loads(row["params"]) if row["params"] else None,
            as_of=datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of,
            experiment=row["experiment"],
            notebook=row["notebook"],
            user=row["user"],
            engine=row["engine"],
            status=status,
            error=error,
            message=message,
            inputs=tuple(Source(version=one["uid"], key=one["key"], number=one["number"]) for one in sources),
            rows=row["rows"],
            bytes=row["bytes"],
            created_at=moments.to_datetime(row["created_at"]),
            ended_at=moments.to_datetime(row["ended_at"]) if row["ended_at"] else None,
        )

    def _watch_running(self) -> None:
        """End what somebody asked to end, and say that the others live, as long as anything runs."""
        pause, beats = threading.Event(), 0
        while True:
            pause.wait(WATCH_SECONDS)
            beats += 1
            with self._lock:
                running = dict(self._running)
                if not running:
                    self._watch = None
                    return
            try:
                with self._all.catalog.read() as tx:
                    asked = rows.cancelled(tx, running)
                if beats % (ALIVE_SECONDS // 3) == 0:
                    until = self._all.clock() + ALIVE_SECONDS * 1_000_000
                    self._all.catalog.write(partial(rows.keep_alive, ids=list(running), until=until))
            except EpistaError as error:
                log.warning("running queries could not be looked up: %s", error.message)
                continue
            for id in asked:
                running[id].cancel("it was cancelled")


class Running(Iterator[bytes]):
    """A query that is logged, and its result on the way out. `close` it when done; `cancel` ends it from any thread."""

    def __init__(
        self,
        queries: Queries,
        uid: str,
        row_id: int,
        engine: Engine,
        bound: Bound[Pinned],
        limits: Limits,
        params: tuple[Any, ...] | Mapping[str, Any],
        *,
        is_explain: bool,
    ) -> None:
        self.uid = uid
        """Its id in the log."""
        self.row_id = row_id
        """Its row there."""
        self.bytes = 0
        """How many have been given."""
        self._queries = queries
        self._engine = engine
        self._bound = bound
        self._limits = limits
        self._params = params
        self._is_explain = is_explain
        self._held = ExitStack()
        self._stream: ResultStream | None = None
        self._cancelled: str | None = None
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """How many have been given."""
        return self._stream.rows if self._stream else 0

    def __next__(self) -> bytes:
        try:
            stream = self._stream or self._begun()
            self._refuse_cancelled()
            piece = next(stream)
        except StopIteration:
            self._queries.ended(self, None)
            raise
        except EpistaError as error:
            found = self._as_asked(error)
            self._queries.ended(self, found)
            if found is error:
                raise
            raise found from error
        self.bytes += len(piece)
        return piece

    def cancel(self, why: str) -> None:
        """End the query, from whatever thread; *why* goes to whoever reads it."""
        with self._lock:
            self._cancelled = self._cancelled or why
        self._engine.cancel(self.uid)

    def close(self) -> None:
        """Let go of everything; a query that is not done is ended."""
        try:
            if self._stream is not None:
                self._stream.close()
            self._held.close()
        finally:
            self._queries.ended(self, QueryCancelledError(self._cancelled or "its reader left"))

    def _begun(self) -> ResultStream:
        tables = self._queries.opened(self._held, self._bound.tables, self._engine, self._limits)
        self._refuse_cancelled()
        plan = Plan(ast=self._bound.ast, tables=tables, limits=self._limits, params=self._params, is_explain=self._is_explain)
        self._stream = self._engine.run(plan, query_id=self.uid)
        return self._stream

    def _refuse_cancelled(self) -> None:
        if self._cancelled is not None:
            raise QueryCancelledError(self._cancelled)

    def _as_asked(self, error: EpistaError) -> EpistaError:
        """Return *error* as whoever asked shall see it: an end that was asked for is no fault."""
        found: EpistaError = error
        if self._cancelled is not None and not isinstance(error, QueryCancelledError):
            found = QueryCancelledError(self._cancelled)
        if isinstance(found, QueryError | ResultTooLargeError):
            found.details.setdefault("query", self.uid)
        return found


def _refuse_params(ast: exp.Query, params: tuple[Any, ...] | Mapping[str, Any]) -> None:
    """Refuse parameters without a value, and values without a parameter."""
    from sqlglot import exp

    wanted = {placeholder.name for placeholder in ast.find_all(exp.Placeholder)}
    given = set(params) if isinstance(params, Mapping) else {str(number + 1) for number in range(len(params))}
    if missing := sorted(wanted - given):
        raise QueryError(f"the query has the parameter ${missing[0]}, and no value for it", hint="give params=")
    if unused := sorted(given - wanted):
        raise QueryError(f"there is a value for ${unused[0]}, which the query has not")


def _refuse_unused(as_of: datetime | Mapping[str, int | str] | None, pinned: Iterable[Pinned]) -> None:
    """Refuse a version of a table that the query does not read: its name was mistyped."""
    told = {one.told for one in pinned}
    if isinstance(as_of, Mapping) and (unused := [name for name in as_of if name not in told]):
        raise QueryError(f"as_of names {unused[0]!r}, which the query does not read", hint="write it as it stands in the query")


def _limits(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__slots__}


def _as_of(wanted: datetime | dict[str, int | str] | None) -> str | None:
    if wanted is None:
        return None
    return json.dumps(wanted.isoformat() if isinstance(wanted, datetime) else wanted)


def _params(wanted: wire.Params | None) -> tuple[Any, ...] | dict[str, Any]:
    """Return the values of parameters as Python has them."""
    if wanted is None:
        return ()
    if len(wanted) > wire.MAX_PARAMS:
        raise InvalidRequestError(f"{len(wanted)} parameters are more than {wire.MAX_PARAMS}")
    if isinstance(wanted, dict):
        return {name: _value(value, f"${name}") for name, value in wanted.items()}
    return tuple(_value(value, f"${number}") for number, value in enumerate(wanted, 1))


_TAGGED: dict[str, Callable[[str], Any]] = {
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "decimal": Decimal,
    "bytes": lambda text: base64.b64decode(text, validate=True),
}


def _value(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_value(one, name) for one in value]
    if isinstance(value, dict) and len(value) == 1:
        tag, text = next(iter(value.items()))
        if tag in _TAGGED and isinstance(text, str):
            try:
                return _TAGGED[tag](text)
            except (ValueError, binascii.Error, InvalidOperation) as error:
                raise InvalidRequestError(f"parameter {name}: {text!r} is no {tag}") from error
    raise InvalidRequestError(f"parameter {name} is no value of SQL", hint="give numbers, texts, dates or lists of them")
