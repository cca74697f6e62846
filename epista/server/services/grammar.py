"""
What SQL may be: DuckDB's SELECT, node by node.

The text is read by sqlglot, in a dialect that keeps every function call as it was typed. Each node, each part of a node, each
function, type and word must then be on a list here or in `functions.py`: what nobody thought of is refused. Identifiers leave in
quotes, and everything else that is printed comes from a list, is a number, or is a string between quotes, so that the engine's
own parser has nothing to read differently. Why these lists: `docs/decisions/0027-lists-say-what-sql-may-do.md`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import TokenType

from epista.contract.errors import EpistaError, QueryError, QueryRefusedError, QuerySyntaxError
from epista.contract.queries import MAX_SQL_BYTES
from epista.server.services.functions import FUNCTIONS, TABLE_FUNCTIONS

MAX_DEPTH = 120
"""How deep a query may nest, in nodes of its tree."""

ENGINES = {"duckdb": "DuckDB", "spark": "Spark"}
"""What people call the engines, by their names."""

_ONLY_SELECT = "a query is one SELECT: WITH, FROM, VALUES, UNION and subqueries included"

_QUERY = "with_ joins laterals order limit offset"

NODES: dict[type[exp.Expr], str] = {
    # queries
    exp.Select: f"{_QUERY} expressions distinct from_ where group having qualify windows sample",
    exp.Union: f"{_QUERY} this expression distinct by_name",
    exp.Except: f"{_QUERY} this expression distinct by_name",
    exp.Intersect: f"{_QUERY} this expression distinct by_name",
    exp.Subquery: f"{_QUERY} this alias pivots sample",
    exp.With: "expressions recursive",
    exp.CTE: "this alias materialized",
    exp.TableAlias: "this columns",
    exp.From: "this",
    exp.Join: "this on side kind using method",
    exp.Lateral: "this alias ordinality",
    exp.Table: "this alias db joins laterals pivots sample ordinality",
    exp.Unnest: "expressions alias offset",
    exp.Values: "expressions alias",
    exp.Pivot: "this alias expressions fields unpivot using group include_nulls columns "
    "identify_pivot_strings prefixed_pivot_columns pivot_column_naming",
    exp.PivotAlias: "this alias",
    exp.UnpivotColumns: "this expressions",
    exp.TableSample: "method percent rows size seed",
    exp.Where: "this",
    exp.Group: "expressions grouping_sets cube rollup all",
    exp.Cube: "expressions",
    exp.Rollup: "expressions",
    exp.GroupingSets: "expressions",
    exp.Having: "this",
    exp.Qualify: "this",
    exp.Order: "this expressions",
    exp.Ordered: "this desc nulls_first",
    exp.Limit: "expression limit_options",
    exp.LimitOptions: "percent",
    exp.Offset: "expression",
    exp.Distinct: "expressions on",
    exp.Window: "this partition_by order spec alias over",
    exp.WindowSpec: "kind start start_side end end_side exclude",
    exp.Filter: "this expression",
    exp.WithinGroup: "this expression",
    exp.IgnoreNulls: "this",
    exp.RespectNulls: "this",
    # what is computed
    exp.Alias: "this alias",
    exp.Column: "this table db catalog",
    exp.Identifier: "this quoted",
    exp.Star: "except_ replace rename",
    exp.Dot: "this expression",
    exp.PositionalColumn: "this",
    exp.Literal: "this is_string",
    exp.RawString: "this",
    exp.ByteString: "this is_bytes",
    exp.HexString: "this is_integer",
    exp.Boolean: "this",
    exp.Null: "",
    exp.Placeholder: "this",
    exp.Paren: "this",
    exp.Tuple: "expressions",
    exp.Array: "expressions bracket_notation value_constructor",
    exp.Struct: "expressions",
    exp.Map: "keys values",
    exp.ToMap: "this",
    exp.PropertyEQ: "this expression",
    exp.Slice: "this expression step",
    exp.Bracket: "this expressions offset safe returns_list_for_maps",
    exp.Lambda: "this expressions",
    exp.Kwarg: "this expression",
    exp.Comprehension: "this expression iterator condition position",
    exp.Case: "this ifs default",
    exp.If: "this true false",
    exp.Cast: "this to",
    exp.TryCast: "this to safe",
    exp.DataType: "this expressions nested values",
    exp.DataTypeParam: "this",
    exp.ColumnDef: "this kind",
    exp.Interval: "this unit",
    exp.Var: "this",
    exp.Anonymous: "this expressions",
    exp.Concat: "expressions coalesce",
    exp.Columns: "this unpack",
    exp.PercentileCont: "this",
    exp.PercentileDisc: "this",
    exp.Extract: "this expression",
    exp.Trim: "this expression position",
    exp.Substring: "this start length",
    exp.StrPosition: "this substr",
    exp.CurrentDate: "",
    exp.CurrentTime: "",
    exp.CurrentTimestamp: "",
    exp.Localtime: "",
    exp.Localtimestamp: "",
    exp.Exists: "this",
    exp.Any: "this",
    exp.All: "this",
    exp.In: "this expressions query field",
    exp.Between: "this low high symmetric",
    exp.Collate: "this expression",
    exp.AtTimeZone: "this zone",
    exp.JSONExtract: "this expression only_json_types",
    exp.JSONExtractScalar: "this expression only_json_types",
    exp.Escape: "this expression",
    **dict.fromkeys((exp.Not, exp.Neg, exp.BitwiseNot, exp.Abs), "this"),
    **dict.fromkeys(
        (
            *(exp.And, exp.Or, exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is),
            *(exp.Add, exp.Sub, exp.Mul, exp.Mod, exp.IntDiv, exp.Pow, exp.Distance),
            *(exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseLeftShift, exp.BitwiseRightShift),
            *(exp.RegexpLike, exp.RegexpFullMatch, exp.StartsWith),
            *(exp.ArrayOverlaps, exp.ArrayContainsAll, exp.ArrayContainedBy),
        ),
        "this expression",
    ),
    exp.Div: "this expression typed safe",
    exp.DPipe: "this expression safe",
    **dict.fromkeys((exp.Like, exp.ILike, exp.SimilarTo, exp.Glob), "this expression negate"),
}
"""The nodes that a query may be made of, and which of their parts may be there."""

TYPES = frozenset(
    exp.DType[name]
    for name in [
        "ARRAY",
        "BIGINT",
        "BIGNUM",
        "BINARY",
        "BIT",
        "BLOB",
        "BOOLEAN",
        "CHAR",
        "DATE",
        "DATETIME",
        "DECIMAL",
        "DOUBLE",
        "ENUM",
        "FLOAT",
        "GEOMETRY",
        "HUGEINT",
        "INT",
        "INT128",
        "INTERVAL",
        "JSON",
        "LIST",
        "MAP",
        "NULL",
        "SMALLINT",
        "STRUCT",
        "TEXT",
        "TIME",
        "TIMETZ",
        "TIME_NS",
        "TIMESTAMP",
        "TIMESTAMPNTZ",
        "TIMESTAMPTZ",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
        "TINYINT",
        "UBIGINT",
        "UHUGEINT",
        "UINT",
        "UINT128",
        "UNION",
        "USMALLINT",
        "UTINYINT",
        "UUID",
        "VARBINARY",
        "VARCHAR",
        "VARIANT",
    ]
    if name in exp.DType.__members__
)
"""What may be cast to."""

WORDS = frozenset(
    [
        "LEFT",
        "RIGHT",
        "FULL",
        "INNER",
        "OUTER",
        "CROSS",
        "SEMI",
        "ANTI",
        "NATURAL",
        "ASOF",
        "POSITIONAL",
        "ROWS",
        "RANGE",
        "GROUPS",
        "PRECEDING",
        "FOLLOWING",
        "OVER",
        "BOTH",
        "LEADING",
        "TRAILING",
        "UNBOUNDED",
        "TIES",
        "GROUP",
        "AGG_NAME_IF_ALIASED_OR_MULTIPLE",
    ]
) | {"CURRENT ROW", "NO OTHERS"}
"""Bare words that nodes hold as text."""

_IDENTIFIERS: dict[type[exp.Expr], str] = {
    exp.TableAlias: "this columns",
    exp.Alias: "alias",
    exp.PivotAlias: "",
    exp.Column: "table db catalog",
    exp.Table: "db",
    exp.Window: "alias",
}
"""Where nothing but a name may stand: sqlglot reads ``counts@3`` as ``counts AS $3``."""

WORD = re.compile(r"[A-Za-z_]+")
"""What an `exp.Var` must be, since it is printed without quotes."""

_PRINTED_AS_IS: dict[type[exp.Expr], re.Pattern[str]] = {
    exp.Var: WORD,
    exp.Placeholder: re.compile(r"[0-9]+|[A-Za-z_][A-Za-z0-9_]*"),
    exp.HexString: re.compile(r"[0-9A-Fa-f]+"),
}
"""What the text of some nodes must be, since it is printed without quotes."""

_NUMBER = re.compile(r"[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9]+)?|\.[0-9][0-9_]*([eE][+-]?[0-9]+)?")

_MAX_DIGITS = 1000

_BETWEEN_QUOTES = (exp.Identifier, exp.Literal, exp.RawString, exp.ByteString)

_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")

# From the beginning of a word, and never back: else the time it takes grows with the square of a long name.
_BARE_NAME = re.compile(r"\b(?:[^\W\d]\w*+(?:[-@/#]\w[\w.@/#-]*+)++|\w++\.\w++@\w++)")

_TOLD: dict[Any, tuple[str, str]] = {
    (exp.Table, "catalog"): ("a name of three parts", 'names have one part, or two: "EXP-12".counts'),
    (exp.Table, "when"): ("AT (VERSION or TIMESTAMP)", 'name a version in quotes, as in "counts@3", or give as_of=...'),
    (exp.Table, "version"): ("FOR ... AS OF", 'name a version in quotes, as in "counts@3", or give as_of=...'),
    (exp.Select, "into"): ("SELECT INTO", "publish the result with ws.put"),
    (exp.Select, "locks"): ("FOR UPDATE or SHARE", "leave it out: versions never change"),
    exp.CurrentUser: ("CURRENT_USER", "a column of that name is written with its table: t.current_user"),
    exp.SessionUser: ("SESSION_USER", "a column of that name is written with its table: t.session_user"),
    exp.CurrentCatalog: ("CURRENT_CATALOG", "a column of that name is written with its table: t.current_catalog"),
    exp.Describe: ("DESCRIBE", "the columns of a table are in the schema of its asset: ws.get(...)"),
    exp.Summarize: ("SUMMARIZE", "compute what you need: min, max, avg, count(DISTINCT ...)"),
    exp.WithinGroup: ("WITHIN GROUP for this function", "write the function with an argument: mode(x), quantile_cont(x, 0.5)"),
}
"""What to call some things that are refused, and what to do instead."""


def place(sql: str, offset: int) -> tuple[int, int]:
    """Return the line and the column, counted from 1, of the character at *offset*."""
    return sql.count("\n", 0, offset) + 1, offset - sql.rfind("\n", 0, offset)


def refuse(what: str, sql: str, offset: int, hint: str = _ONLY_SELECT) -> NoReturn:
    """Say that *what*, which stands at *offset*, may not be in a query."""
    line, column = place(sql, offset)
    raise QueryRefusedError(f"{what}, at line {line}, column {column}", hint=hint, details={"line": line, "column": column})


def unreadable(what: str, sql: str, offset: int, hint: str | None = None) -> QuerySyntaxError:
    """Return the error for SQL that cannot be read at *offset*."""
    line, column = place(sql, offset)
    details = {"line": line, "column": column}
    return QuerySyntaxError(f"{what}, at line {line}, column {column}", hint=hint, details=details)


def offset(node: exp.Expr) -> int:
    """Return where *node* begins in the text, as nearly as it, its parts, or what it is in remember."""
    found = min((part.meta["start"] for part in node.walk() if part.meta_get("start") is not None), default=None)
    if found is None:
        return offset(node.parent) if node.parent else 0
    return int(found)


def _refuse_statement(parser: DuckDBParser) -> NoReturn:
    verb = parser._prev
    refuse(f"{verb.text.upper()} is no query", parser.sql, verb.start)


def _numbered(parser: DuckDBParser) -> exp.Placeholder:
    """Read ``?`` as the ``$1`` that it is, by its place in the text: what is printed may have another order."""
    before = parser._tokens[: parser._index]
    return exp.Placeholder(this=str(sum(token.token_type == TokenType.PLACEHOLDER for token in before)))


class Typed(DuckDB):
    """DuckDB's dialect with function calls as they were typed: nothing of sqlglot's own understanding changes them."""

    class Tokenizer(DuckDB.Tokenizer):
        COMMANDS: ClassVar[set[TokenType]] = set()

    class Parser(DuckDBParser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {
            name: DuckDBParser.FUNCTIONS[name] for name in ("COLUMNS", "PERCENTILE_CONT", "PERCENTILE_DISC")
        }
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: DuckDBParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT", "TRIM", "SUBSTRING", "POSITION")
        }
        STATEMENT_PARSERS: ClassVar[dict[TokenType, Any]] = {
            **dict.fromkeys(DuckDBParser.STATEMENT_PARSERS.keys() | DuckDB.Tokenizer.COMMANDS, _refuse_statement),
            TokenType.SEMICOLON: DuckDBParser.STATEMENT_PARSERS[TokenType.SEMICOLON],
        }
        PLACEHOLDER_PARSERS: ClassVar[dict[TokenType, Any]] = {
            **DuckDBParser.PLACEHOLDER_PARSERS,
            TokenType.PLACEHOLDER: _numbered,
        }
        TYPE_LITERAL_PARSERS: ClassVar[dict[Any, Any]] = {}


def read(sql: str, *, engine: str = "duckdb") -> exp.Query:
    """
    Return the tree of *sql*, if it is one query and everything in it is allowed.

    Raises:
        QuerySyntaxError: it cannot be read.
        QueryRefusedError: something in it may not be in a query.
        QueryError: *engine* has no such function as one in it.
    """
    tree = _parse(sql)
    if isinstance(tree, exp.Values):
        tree = exp.select("*").from_(tree, copy=False)
    if not isinstance(tree, exp.Query):
        refuse(f"{name_of(type(tree))} is no query", sql, offset(tree))
    todo: list[tuple[exp.Expr, int]] = [(tree, 1)]
    while todo:
        node, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise too_deep(sql, offset(node))
        _allow(node, sql)
        if isinstance(node, exp.Anonymous):
            _allow_function(node, sql, engine)
        todo += ((child, depth + 1) for child in node.iter_expressions())
    return tree


def too_deep(sql: str, at: int) -> QueryRefusedError:
    line, column = place(sql, at)
    hint = "name parts of the query in a WITH; IN (...) or a parameter replaces long chains of OR"
    return QueryRefusedError("the query is nested too deeply", hint=hint, details={"line": line, "column": column})


def _parse(sql: str) -> exp.Expr:
    if len(sql.encode("utf-8", "replace")) > MAX_SQL_BYTES:
        raise QueryRefusedError(
            f"the SQL is longer than {MAX_SQL_BYTES // 1024} kB", hint="put long lists of values into a table, and join it"
        )
    if (odd := _UNSPEAKABLE.search(sql)) is not None:
        raise unreadable(f"the SQL contains the character U+{ord(odd[0]):04X}", sql, odd.start(), "write it with chr(...)")
    try:
        trees = [tree for tree in Typed().parse(sql) if tree is not None and not isinstance(tree, exp.Semicolon)]
    except ParseError as error:
        told = error.errors[0]
        raise _misread(sql, told["line"], told["col"] - len(told["highlight"] or "") + 1, told["highlight"] or "") from None
    except TokenError as error:
        told_at = re.search(r":(\d+)$", str(error.__cause__))
        raise unreadable("a quote or a comment does not end", sql, int(told_at[1]) if told_at else 0) from None
    except RecursionError:
        raise too_deep(sql, 0) from None
    except EpistaError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # Some texts that are no SQL make the parser stumble before it says so.
        raise unreadable("cannot read the SQL", sql, 0, _ONLY_SELECT) from None
    if not trees:
        raise unreadable("there is no query", sql, 0, _ONLY_SELECT)
    if len(trees) > 1:
        refuse("there is more than one statement", sql, offset(trees[1]))
    return trees[0]


def _misread(sql: str, line: int, column: int, near: str) -> QuerySyntaxError:
    at = sum(len(text) + 1 for text in sql.split("\n")[: line - 1]) + max(column, 1) - 1
    return unreadable(f"cannot read the SQL near {near!r}" if near else "the SQL ends too early", sql, at, _hint(sql, at))


def _hint(sql: str, at: int) -> str | None:
    """Return what to write instead, where a name that needs quotes stands without them."""
    for found in _BARE_NAME.finditer(sql):
        if found.start() <= at <= found.end() + 1:
            first, _, rest = found[0].partition(".")
            return f'names with such characters stand in quotes: "{first}"' + (f".{rest}" if rest.isidentifier() else "")
    return None


def _allow(node: exp.Expr, sql: str) -> None:
    """Refuse *node* if it, or a part of it, is on no list; make safe what it prints."""
    if isinstance(node, exp.DataType) and node.this not in TYPES:
        refuse(f"the type {node.sql('duckdb')} is not allowed", sql, offset(node), "cast to a type of DuckDB's own")
    parts = NODES.get(type(node))
    if parts is None:
        _refuse_node(node, type(node), name_of(type(node)), sql)
    allowed = parts.split()
    for key, value in node.args.items():
        if value is None or value is False or value == []:
            continue
        if key not in allowed:
            _refuse_node(node, (type(node), key), f"{key.strip('_').upper()} in {name_of(type(node))}", sql)
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, exp.Expr):
                if key in _IDENTIFIERS.get(type(node), "").split() and not isinstance(part, exp.Identifier):
                    at = offset(node)
                    raise unreadable("a name is expected", sql, at, 'a version is named in quotes: "counts@3"')
            elif isinstance(part, str) and not isinstance(node, _BETWEEN_QUOTES):
                _allow_text(node, part, sql)
    if isinstance(node, exp.Literal) and not node.is_string:
        if len(node.this) > _MAX_DIGITS:
            raise unreadable(f"a number has more than {_MAX_DIGITS} characters", sql, offset(node))
        if not _NUMBER.fullmatch(node.this):
            raise unreadable(f"{node.this!r} is no number", sql, offset(node))
    if isinstance(node, exp.WithinGroup) and not isinstance(node.this, exp.PercentileCont | exp.PercentileDisc):
        _refuse_node(node, exp.WithinGroup, "", sql)
    node.comments = None


def _refuse_node(node: exp.Expr, key: Any, called: str, sql: str) -> NoReturn:
    what, hint = _TOLD.get(key, (called, _ONLY_SELECT))
    refuse(f"{what} is not allowed", sql, offset(node), hint)


def _allow_text(node: exp.Expr, text: str, sql: str) -> None:
    pattern = _PRINTED_AS_IS.get(type(node))
    if not (pattern.fullmatch(text) if pattern else text.upper() in WORDS or isinstance(node, exp.Anonymous)):
        refuse(f"{text!r} in {name_of(type(node))} is not allowed", sql, offset(node))


def _allow_function(node: exp.Anonymous, sql: str, engine: str) -> None:
    name = node.name.lower()
    in_from = isinstance(node.parent, exp.Table | exp.Lateral)
    if name not in (TABLE_FUNCTIONS if in_from else FUNCTIONS):
        hint = "tables come from Epista, by name" if in_from else "the functions allowed are listed in the reference: SQL"
        refuse(f"the function {node.name} is not allowed", sql, offset(node), hint)
    if not in_from and engine not in FUNCTIONS[name].engines:
        line, column = place(sql, offset(node))
        raise QueryError(
            f"the {ENGINES[engine]} engine has no function {name}(), at line {line}, column {column}",
            hint="ask DuckDB instead: engine='duckdb'",
            details={"line": line, "column": column},
        )
    node.set("this", name)


def name_of(node: type[exp.Expr]) -> str:
    """Return what to call a kind of node."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.__name__).upper()
