"""
From the SQL that somebody typed to a tree that an engine may run.

Every name of a table is either a common table expression in scope or asked of the resolver, and is replaced: by ``t_`` and
random letters for a table, by ``c_`` and a number for a common table expression. The name as typed stays as the alias. So no
scope of the engine's decides what a name means, and what is printed is checked once more for other names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from sqlglot import ErrorLevel, exp, parse_one
from sqlglot.errors import SqlglotError

from epista.contract.errors import QueryRefusedError, QuerySyntaxError, ServerError
from epista.server.services import grammar

P = TypeVar("P")


class Part(NamedTuple):
    """A part of a name."""

    text: str
    is_quoted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Name:
    """What the SQL calls a table that is no common table expression."""

    parts: tuple[Part, ...]
    """One or two, as typed."""
    line: int
    """Where it stands, counted from 1."""
    column: int

    def __str__(self) -> str:
        return ".".join('"' + part.text.replace('"', '""') + '"' if part.is_quoted else part.text for part in self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound(Generic[P]):
    """A query whose every table is pinned."""

    ast: exp.Query
    """Prints in the dialect of the engine that it was bound for."""
    tables: Mapping[str, P]
    """What each name in the tree stands for; one name for each thing pinned."""


def bind(sql: str, resolve: Callable[[Name], P], *, engine: str = "duckdb") -> Bound[P]:
    """
    Return *sql* as a tree of allowed nodes over the tables that *resolve* pins.

    *resolve* is asked once for each name as typed; what it raises is passed on.

    Raises:
        QuerySyntaxError: the SQL cannot be read.
        QueryRefusedError: it asks for something that is on no list.
        QueryError: names in it clash, or *engine* has no such function.
    """
    tree = grammar.read(sql, engine=engine)
    try:
        binder = _Binder(sql=sql, resolve=resolve)
        binder.visit(tree, _Scope({}, {}))
        names = {*binder.tables, *(f"c_{number + 1}" for number in range(binder.ctes))}
        return Bound(ast=_checked(tree, names, engine), tables=binder.tables)
    except RecursionError:
        raise grammar.too_deep(sql, 0) from None


class _Scope(NamedTuple):
    """What names mean at some place of the query."""

    ctes: Mapping[str, str]
    """Internal names of the common table expressions, by their names in lower case."""
    aliases: Mapping[tuple[str, str], str]
    """What tables of two parts that have no alias are called, by both parts in lower case."""


@dataclass(kw_only=True, slots=True)
class _Binder(Generic[P]):
    sql: str
    resolve: Callable[[Name], P]
    tables: dict[str, P] = field(default_factory=dict)
    ctes: int = 0
    asked: dict[tuple[Part, ...], str] = field(default_factory=dict)
    """The internal names by those that were typed."""

    def visit(self, node: exp.Expr, scope: _Scope) -> None:
        """Replace every name of a table at and below *node*."""
        if isinstance(node, exp.Query):
            scope = self._with(node, scope)
        if isinstance(node, exp.Select):
            scope = self._from(node, scope)
        if isinstance(node, exp.Table) and not isinstance(node.this, exp.Anonymous):
            self._table(node, scope)
        elif isinstance(node, exp.Column):
            _strip(node, scope)
        elif isinstance(node, exp.Identifier):
            # DuckDB and Spark fold the case of quoted names as well.
            node.set("quoted", True)
        for child in list(node.iter_expressions()):
            if not isinstance(child, exp.With):
                self.visit(child, scope)

    def _with(self, query: exp.Query, scope: _Scope) -> _Scope:
        """Name the common table expressions of *query* anew, each seeing those before it, and itself if it may."""
        with_: exp.With | None = query.args.get("with_")
        for cte in with_.expressions if with_ else ():
            self.ctes += 1
            internal = f"c_{self.ctes}"
            assert with_ is not None
            seen = scope._replace(ctes={**scope.ctes, cte.alias.lower(): internal})
            self.visit(cte.this, seen if with_.args.get("recursive") else scope)
            cte.args["alias"].set("this", exp.to_identifier(internal))
            self.visit(cte.args["alias"], scope)
            scope = seen
        return scope

    def _from(self, select: exp.Select, scope: _Scope) -> _Scope:
        """Give tables of two parts an alias: the last part, or both where another table of this FROM is called like it."""
        found = _sources(select)
        names = [table.alias_or_name.lower() for table in found]
        aliases = {}
        for table, name in zip(found, names, strict=True):
            if isinstance(table, exp.Table) and table.db and not table.alias:
                alias = f"{table.db}.{table.name}" if names.count(name) > 1 else table.name
                _set_alias(table, alias)
                aliases[table.db.lower(), name] = alias
        return scope._replace(aliases={**scope.aliases, **aliases})

    def _table(self, table: exp.Table, scope: _Scope) -> None:
        parts = tuple(Part(part.name, bool(part.args.get("quoted"))) for part in table.parts)
        internal = scope.ctes.get(parts[0].text.lower()) if len(parts) == 1 else None
        if internal is None:
            internal = self.asked.get(parts)
        if internal is None:
            line, column = grammar.place(self.sql, grammar.offset(table))
            internal = self.asked[parts] = self._pin(self.resolve(Name(parts=parts, line=line, column=column)))
        if not table.alias:
            _set_alias(table, parts[-1].text)
        table.set("this", exp.to_identifier(internal, quoted=True))
        table.set("db", None)

    def _pin(self, pinned: P) -> str:
        for internal, known in self.tables.items():
            if known == pinned:
                return internal
        internal = f"t_{secrets.token_hex(8)}"
        self.tables[internal] = pinned
        return internal


def _sources(select: exp.Select) -> list[exp.Expr]:
    """Return what stands in the FROM of *select*, and not in that of another one."""
    clauses = [select.args.get("from_"), *select.args.get("joins", ()), *select.args.get("laterals", ())]
    return [
        node
        for clause in clauses
        if clause
        for node in clause.walk(prune=lambda node: isinstance(node, exp.Select))
        if isinstance(node, exp.Table | exp.Subquery)
    ]


def _set_alias(table: exp.Expr, alias: str) -> None:
    if not table.args.get("alias"):
        table.set("alias", exp.TableAlias())
    table.args["alias"].set("this", exp.to_identifier(alias, quoted=True))


def _strip(column: exp.Column, scope: _Scope) -> None:
    """Turn ``"EXP-12".counts.a`` into ``counts.a``, where `counts` is what that table is called."""
    parts = column.parts
    alias = scope.aliases.get((parts[0].name.lower(), parts[1].name.lower())) if len(parts) > 2 else None
    if alias is not None:
        rest = [exp.to_identifier(alias), *parts[2:]]
        for key in ("catalog", "db", "table", "this"):
            column.set(key, None)
        for key, part in zip(("this", "table", "db"), reversed(rest), strict=False):
            column.set(key, part)


def _checked(tree: exp.Query, names: set[str], engine: str) -> exp.Query:
    """Return the tree for *engine*, when what it prints is allowed as well, and reads no table but those in *names*."""
    try:
        printed = tree.sql("duckdb", unsupported_level=ErrorLevel.RAISE)
        _only(grammar.read(printed), names)
        if engine == "duckdb":
            return tree
        typed = parse_one(printed, dialect="duckdb")
        # Made of texts here, as in date_diff('day', ...), and printed without quotes.
        for word in typed.find_all(exp.Var):
            if not grammar.WORD.fullmatch(word.name):
                raise QueryRefusedError(f"{word.name[:100]!r} is no part of a date or time", hint="such as 'day' or 'month'")
        _only(parse_one(typed.sql(engine, unsupported_level=ErrorLevel.RAISE), dialect=engine), names)
    except (SqlglotError, QuerySyntaxError):
        raise QueryRefusedError("the query has a form that cannot be handed to the engine") from None
    assert isinstance(typed, exp.Query)
    return typed


def _only(tree: exp.Expr, names: set[str]) -> None:
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Anonymous | exp.Func):
            continue
        if len(table.parts) != 1 or table.name not in names:
            raise ServerError("a query was bound to a table that nobody resolved")
