"""What the two databases say in words of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Dialect, Select, Table, bindparam, func, insert, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import UserDefinedType


class _Listed(UserDefinedType[Sequence[Any]]):
    """Several values in one parameter."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return json.dumps if dialect.name == "sqlite" else list


class _Among(FunctionElement[Any]):
    inherit_cache = True


@compiles(_Among, "sqlite")
def _among_json(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, values = (compiler.process(part, **how) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - both are compiled, and the values bound


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: SQLCompiler, **how: Any) -> str:
    column, values = (compiler.process(part, **how) for part in element.clauses)
    return f"{column} = ANY({values})"


class _Unindexed(FunctionElement[Any]):
    inherit_cache = True


@compiles(_Unindexed, "sqlite")
def _unindexed_plus(element: _Unindexed, compiler: SQLCompiler, **how: Any) -> str:
    return f"+{compiler.process(element.clauses, **how)}"


@compiles(_Unindexed, "postgresql")
def _unindexed_plain(element: _Unindexed, compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(element.clauses, **how)


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """
    Return *column* such that no index is chosen for it, where a database needs to be told.

    SQLite knows not how long a list is that it is given, and would rather walk through a whole workspace.
    """
    return _Unindexed(column)


def among(column: ColumnElement[Any], values: str) -> ColumnElement[Any]:
    """
    Return the condition that *column* is one of the list that is bound as *values*.

    One parameter however many they are, so that the statement stays the same, and is put together once.
    """
    bound: BindParameter[Any] = bindparam(values, type_=_Listed())
    return _Among(column, bound)


def new_ids(tx: Connection, table: Table, count: int) -> Sequence[int]:
    """
    Return ids for rows to come, within the transaction that adds them.

    Chosen beforehand, they need not be asked for: with RETURNING, SQLite takes ten times as long, a statement a row.
    """
    if not count:
        return ()
    if tx.dialect.name == "postgresql":
        return tx.execute(_from_sequence(table), {"count": count}).scalars().all()
    # What SQLite itself would choose, and nobody else writes meanwhile.
    last = tx.execute(_last(table)).scalar() or 0
    return range(last + 1, last + 1 + count)


def add(tx: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """
    Add rows, all of the same columns, and of types that both databases take as they are.

    By the driver itself: SQLAlchemy would take as long for each row as SQLite does.
    """
    if rows:
        # Values by name, so that a row goes to the driver as it is.
        style = "named" if tx.dialect.name == "sqlite" else "pyformat"
        dialect: Callable[..., Dialect] = type(tx.dialect)
        tx.exec_driver_sql(_insert(table, tuple(rows[0]), dialect, style), rows)


@cache
def _insert(table: Table, columns: tuple[str, ...], dialect: Callable[..., Dialect], style: str) -> str:
    return str(insert(table).compile(dialect=dialect(paramstyle=style), column_keys=columns))


@cache
def _last(table: Table) -> Select[Any]:
    return select(func.max(table.c.id))


@cache
def _from_sequence(table: Table) -> Select[Any]:
    rows = func.generate_series(1, bindparam("count")).table_valued("number")
    return select(func.nextval(func.pg_get_serial_sequence(table.name, "id"))).select_from(rows)
