"""
DuckDB's dialect, said to Spark.

sqlglot prints the tree in Spark's dialect; where both have a word and mean different things by it, the tree is rewritten first,
so that both engines give the same answer and the same types. What cannot be said to Spark is an error, never something like it.
"""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.scope import Scope, traverse_scope

from epista.contract.errors import QueryError
from epista.server.engines.plans import BoundTable, Plan

DUCKDB_ONLY = "ask DuckDB instead: engine='duckdb'"
"""What to do about what Spark cannot do."""

_Type = exp.DataType.Type


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """What Spark is asked."""

    sql: str = field(repr=False)
    params: Mapping[str, Any] = field(repr=False)
    """Values of ``:name`` in it: text, numbers, booleans, bytes or None. Other types are text that is cast."""
    limit: int | None
    """How many rows the outermost LIMIT allows, where that is known."""


def translate(plan: Plan) -> Translation:
    """
    Say a plan in Spark's dialect.

    Raises:
        QueryError: Spark has no words for a part of it, or a parameter has no value.
    """
    if not isinstance(plan.ast, exp.Query):
        raise QueryError("this is no query")
    tree = plan.ast.copy()
    _name_columns(tree)
    params = _bind(tree, plan.params)
    limit = _limit(tree, params)
    _annotate(tree, plan.tables)
    for node in reversed(list(tree.dfs())):
        rule = _RULES.get(type(node))
        new = rule(node) if rule else node
        if new is not node:
            new.type = node.type
            node.replace(new)
    for select in reversed(list(tree.find_all(exp.Select))):
        if select.args.get("qualify"):
            unfolded = _unqualified(select)
            if select is tree:
                tree = unfolded
            else:
                select.replace(unfolded)
    try:
        sql = tree.sql(dialect="spark", unsupported_level=ErrorLevel.RAISE, comments=False)
    except SqlglotError as problem:
        raise _unsaid("a part of this query") from problem
    return Translation(sql=sql, params=params, limit=limit)


def _unsaid(what: str) -> QueryError:
    return QueryError(f"the Spark engine has nothing like {what}", hint=DUCKDB_ONLY)


# Names of columns, parameters, the limit


def _name_columns(tree: exp.Query) -> None:
    """Name the columns of the result that have no name of their own as DuckDB would, not as the rewritten tree reads."""
    first: exp.Expr = tree
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if not isinstance(first, exp.Select):
        return
    for column in first.expressions:
        if isinstance(column, (exp.Alias, exp.Aliases, exp.Column, exp.Star)) or column.is_star:
            continue
        if isinstance(column, (exp.Explode, exp.Unnest, exp.Dot)):
            continue
        name = column.sql(dialect="duckdb", normalize_functions="lower", comments=False)
        name = "count_star()" if name == "count(*)" else f"({name})" if isinstance(column, exp.Binary) else name
        column.replace(exp.alias_(column.copy(), name, quoted=True))


def _bind(tree: exp.Query, given: Any) -> dict[str, Any]:
    """Give every parameter a name of our own, a type where its value has one that Spark would guess wrong, and its value."""
    found = list(tree.find_all(exp.Placeholder))
    counted = [node for node in found if not node.args.get("this")]
    if counted:
        # The tree does not say in which order they were written; the text that it prints does.
        mark = f"m{secrets.token_hex(8)}x"
        for number, node in enumerate(counted):
            node.set("this", f"{mark}{number}")
        order = dict.fromkeys(re.findall(rf"{mark}(\d+)", tree.sql(dialect="duckdb")))
        for position, number in enumerate(order, 1):
            counted[int(number)].set("this", str(position))
    values = dict(given) if isinstance(given, Mapping) else {str(at): value for at, value in enumerate(given, 1)}
    bound: dict[str, Any] = {}
    for node in found:
        name = str(node.this)
        if name not in values:
            raise QueryError(f"parameter {name!r} has no value")
        bound[f"p_{name}"], to = _plain(values[name])
        new: exp.Expr = exp.Placeholder(this=f"p_{name}")
        node.replace(exp.cast(new, to, dialect="spark") if to else new)
    return bound


def _plain(value: Any) -> tuple[Any, str | None]:
    """Return a value that msgpack carries, and as what Spark has to read it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" "), "TIMESTAMP_LTZ" if value.tzinfo else "TIMESTAMP_NTZ"
    if isinstance(value, datetime.date):
        return value.isoformat(), "DATE"
    if isinstance(value, Decimal):
        scale = max(0, -int(value.as_tuple().exponent))
        return f"{value:f}", f"DECIMAL({max(len(value.as_tuple().digits), scale + 1)}, {scale})"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value), "DECIMAL(38, 0)"
    if value is None or isinstance(value, (str, int, float, bytes)):
        return value, None
    raise _unsaid(f"a parameter of type {type(value).__name__}")


def _limit(tree: exp.Query, params: Mapping[str, Any]) -> int | None:
    limit = tree.args.get("limit")
    count = limit.expression if isinstance(limit, exp.Limit) else limit.args.get("count") if limit else None
    if isinstance(count, exp.Placeholder):
        value = params.get(str(count.this))
        return value if isinstance(value, int) else None
    return int(count.this) if isinstance(count, exp.Literal) and str(count.this).isdigit() else None


# What Spark has no word for


def _unqualified(select: exp.Select) -> exp.Select:
    """Say QUALIFY as a condition on a subquery; what orders and cuts the result stays outside of it."""
    inner = select.copy()
    if inner.args.get("distinct") or (inner.args.get("group") and inner.args["group"].args.get("all")):
        raise _unsaid("QUALIFY with DISTINCT or GROUP BY ALL")
    with_, order, limit, offset = (part.pop() if (part := inner.args.get(key)) else None for key in _OUTSIDE)
    named = {column.alias.lower(): column.this for column in inner.expressions if isinstance(column, exp.Alias)}
    mark = f"q_{secrets.token_hex(8)}"
    hidden = [mark]
    # In brackets, so that also a condition that is one column has something around it.
    test = exp.paren(inner.args["qualify"].pop().this, copy=False)
    for column in list(test.find_all(exp.Column)):
        if not column.table and column.name.lower() in named:
            column.replace(exp.paren(named[column.name.lower()].copy(), copy=False))
    inner.select(exp.alias_(test, mark), copy=False)
    for number, ordered in enumerate(order.expressions if order else ()):
        if isinstance(ordered.this, exp.Literal) or (isinstance(ordered.this, exp.Column) and ordered.this.name.lower() in named):
            continue
        hidden.append(f"{mark}_{number}")
        inner.select(exp.alias_(ordered.this.copy(), hidden[-1]), copy=False)
        ordered.set("this", exp.column(hidden[-1]))
    star = exp.Star(except_=[exp.to_identifier(name) for name in hidden])
    outer = exp.select(star).from_(inner.subquery(f"{mark}_t", copy=False)).where(exp.column(mark))
    for key, part in zip(_OUTSIDE, (with_, order, limit, offset), strict=True):
        outer.set(key, part)
    return outer


_OUTSIDE = ("with_", "order", "limit", "offset")


# Types


def _annotate(tree: exp.Query, tables: tuple[BoundTable, ...]) -> None:
    """Find out the types of expressions, as far as they can be known; of the others, rules assume nothing."""
    schema: dict[str, Any] = {
        table.internal: {column.name: _duckdb_type(column.type) for column in table.schema} for table in tables
    }
    for scope in traverse_scope(tree):
        _qualify(scope, schema)
    annotate_types(tree, schema=schema, dialect="duckdb")


def _duckdb_type(arrow: str) -> str:
    """Return DuckDB's name of a type of Arrow's; for the rules above, which look at plain types only."""
    if arrow.startswith("decimal"):
        return arrow.replace("decimal128", "DECIMAL").replace("decimal256", "DECIMAL")
    if arrow.startswith("timestamp"):
        return "TIMESTAMPTZ" if "tz=" in arrow else "TIMESTAMP"
    return _DUCKDB_TYPES.get(arrow, "UNKNOWN")


_DUCKDB_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "large_string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
}


def _qualify(scope: Scope, schema: Mapping[str, Mapping[str, str]]) -> None:
    """Say of columns whose table is not named which it is, where only one can be meant."""
    columns: dict[str, set[str]] = {}
    for alias, source in scope.sources.items():
        if isinstance(source, Scope):
            names = source.expression.named_selects if isinstance(source.expression, exp.Query) else []
            if "*" in names or not names:
                return
        else:
            names = list(schema.get(source.name, ()))
            if not names:
                return
        columns[alias] = {name.lower() for name in names}
    aliases = {name.lower() for name in getattr(scope.expression, "named_selects", ())}
    for column in scope.columns:
        name = column.name.lower()
        homes = [alias for alias, names in columns.items() if name in names]
        # An alias of the select list may be meant instead, after it: leave those alone.
        if not column.table and len(homes) == 1 and (name not in aliases or column.find_ancestor(exp.Select) is None):
            column.set("table", exp.to_identifier(homes[0], quoted=True))


def _is(node: exp.Expr, *types: Any) -> bool:
    return node.type is not None and node.type.this in types


_INTEGERS = (_Type.TINYINT, _Type.SMALLINT, _Type.INT, _Type.BIGINT)
_FLOATS = (_Type.FLOAT, _Type.DOUBLE)


# Rules, by the kind of node. Each returns the node itself, or what stands in its place.


def _call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[one.copy() for one in arguments])


def _cast(node: exp.Expr, to: str) -> exp.Cast:
    return exp.Cast(this=node.copy(), to=exp.DataType.build(to, dialect="spark"))


def _to_bigint(node: exp.Expr) -> exp.Expr:
    """Count in 64 bits, as DuckDB does."""
    return node if isinstance(node.parent, exp.Cast) else _cast(node, "BIGINT")


def _window(node: exp.Window) -> exp.Expr:
    return _to_bigint(node) if isinstance(node.this, (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile)) else node


def _divide(node: exp.Div) -> exp.Expr:
    """Divide doubles, by zero too: Spark divides decimals as decimals, and refuses zero."""
    if isinstance(node.this, exp.Interval) or _is(node.this, _Type.INTERVAL):
        return node
    dividend, divisor = _cast(node.this, "DOUBLE"), node.expression
    if (isinstance(divisor.unnest(), exp.Literal) and str(divisor.unnest().this).strip("0.")) or divisor.find(exp.Div):
        return exp.Div(this=exp.paren(dividend, copy=False), expression=divisor.copy())
    is_zero = exp.EQ(this=exp.paren(divisor.copy(), copy=False), expression=exp.Literal.number(0))
    factor = exp.If(
        this=is_zero,
        true=_cast(exp.Literal.string("Infinity"), "DOUBLE"),
        false=_cast(exp.Literal.number(1), "DOUBLE"),
    )
    one_for_zero = exp.If(this=is_zero.copy(), true=_cast(exp.Literal.number(1), "DOUBLE"), false=_cast(divisor, "DOUBLE"))
    return exp.paren(exp.Div(this=exp.Mul(this=dividend, expression=factor), expression=one_for_zero), copy=False)


def _remainder(node: exp.Binary) -> exp.Expr:
    """By zero it is NULL."""
    divisor = exp.Nullif(this=node.expression.copy(), expression=exp.Literal.number(0))
    return type(node)(this=node.this.copy(), expression=divisor)


def _round_to_int(node: exp.Cast) -> exp.Expr:
    """Round what is cast to an integer, halves of doubles to the even one: Spark cuts off."""
    if node.to.this is _Type.VARBINARY and not _is(node.this, _Type.VARBINARY):
        raise _unsaid("a cast to BLOB, which reads \\x as a byte")
    if node.to.this not in _INTEGERS or isinstance(node, exp.TryCast):
        return node
    operand = node.this
    if _is(operand, *_FLOATS):
        return _cast_to(_call("RINT", operand), node.to)
    if _is(operand, _Type.DECIMAL):
        return _cast_to(exp.Round(this=operand.copy()), node.to)
    if isinstance(operand.unnest(), (exp.Predicate, exp.Connector, exp.Not, exp.Boolean)) or (
        operand.type and operand.type.this is not _Type.UNKNOWN
    ):
        return node
    # Its type is known to Spark alone: the branch is chosen when the query is planned, not for each row.
    value = exp.column("v")
    rounded = (
        exp.Case()
        .when(
            exp.In(this=_call("TYPEOF", value), expressions=[exp.Literal.string(one) for one in ("double", "float")]),
            _cast_to(_call("RINT", _cast(value, "DOUBLE")), node.to),
        )
        .when(
            exp.Like(this=_call("TYPEOF", value), expression=exp.Literal.string("decimal%")),
            _cast_to(exp.Round(this=_cast(value, "DECIMAL(38, 18)")), node.to),
        )
        .else_(_cast_to(value, node.to))
    )
    one = exp.Array(expressions=[operand.copy()])
    mapped = exp.Transform(this=one, expression=exp.Lambda(this=rounded, expressions=[exp.to_identifier("v")]))
    return _call("ELEMENT_AT", mapped, exp.Literal.number(1))


def _cast_to(node: exp.Expr, to: exp.DataType) -> exp.Cast:
    return exp.Cast(this=node.copy(), to=to.copy())


def _data_type(node: exp.DataType) -> exp.Expr:
    if node.this in _UNSAID_TYPES:
        raise _unsaid(f"the type {node.sql(dialect='duckdb')}")
    return exp.DataType.build(_WIDER[node.this], dialect="spark") if node.this in _WIDER else node


_WIDER = {
    _Type.UTINYINT: "SMALLINT",
    _Type.USMALLINT: "INT",
    _Type.UINT: "BIGINT",
    _Type.UBIGINT: "DECIMAL(20, 0)",
    _Type.INT128: "DECIMAL(38, 0)",
    _Type.UINT128: "DECIMAL(38, 0)",
    _Type.TIMESTAMP: "TIMESTAMP_NTZ",
    _Type.TIMESTAMPTZ: "TIMESTAMP_LTZ",
    _Type.TIMESTAMP_S: "TIMESTAMP_NTZ",
    _Type.TIMESTAMP_MS: "TIMESTAMP_NTZ",
    _Type.TIMESTAMP_NS: "TIMESTAMP_NTZ",
}

_UNSAID_TYPES = {_Type.TIME, _Type.TIMETZ, _Type.UUID, _Type.BIT, _Type.ENUM, _Type.UNION, _Type.JSON, _Type.INTERVAL}


def _average(node: exp.Avg) -> exp.Expr:
    """Averages are doubles, of decimals too."""
    if isinstance(node.this, exp.Interval) or _is(node.this, _Type.INTERVAL):
        raise _unsaid("the average of intervals")
    if node.this is None or isinstance(node.this, exp.Distinct) or _is(node.this, *_FLOATS, _Type.TIMESTAMP):
        return node
    return exp.Avg(this=_cast(node.this, "DOUBLE"))


def _log(node: exp.Log) -> exp.Expr:
    return node if node.args.get("expression") else _call("LOG10", node.this)


def _quantile_cont(node: exp.Expr) -> exp.Expr:
    share = node.args.get("quantile") or node.expression
    return _call("PERCENTILE", node.this, share)


def _quantile_disc(node: exp.Expr) -> exp.Expr:
    share = node.args.get("quantile") or node.expression
    if isinstance(share, exp.Array):
        raise _unsaid("quantile_disc() of several shares")
    order = exp.Order(expressions=[exp.Ordered(this=node.this.copy(), nulls_first=False)])
    return exp.WithinGroup(this=_call("PERCENTILE_DISC", share), expression=order)


def _list(node: exp.ArrayAgg) -> exp.Expr:
    """Keep missing values, as Spark's own does not."""
    if isinstance(node.this, (exp.Order, exp.Distinct)):
        raise _unsaid("list() with ORDER BY or DISTINCT")
    packed = _call(
        "COLLECT_LIST", exp.Struct(expressions=[exp.PropertyEQ(this=exp.to_identifier("v"), expression=node.this.copy())])
    )
    # An aggregate may have a FILTER or a window behind it, so what goes around it waits for those.
    held: exp.Expr = node
    while isinstance(held.parent, (exp.Filter, exp.Window)) and held.parent.this is held:
        raise _unsaid("list() with FILTER or OVER")
    unpacked = exp.Lambda(
        this=exp.Dot(this=exp.to_identifier("e"), expression=exp.to_identifier("v")), expressions=[exp.to_identifier("e")]
    )
    return exp.Transform(this=packed, expression=unpacked)


def _extreme_by(node: exp.Expr) -> exp.Expr:
    """Pass over rows whose first argument is missing."""
    if node.args.get("count"):
        raise _unsaid("arg_max() of several rows")
    order = exp.If(
        this=exp.Not(this=exp.Is(this=exp.paren(node.this), expression=exp.Null())), true=node.expression.copy(), false=exp.Null()
    )
    return type(node)(this=node.this.copy(), expression=order)


def _date_diff(node: exp.DateDiff) -> exp.Expr:
    """Count the boundaries between two moments, not the whole units."""
    unit = (node.text("unit") or "DAY").upper()
    if unit == "DAY":
        days = _call("DATEDIFF", _cast(node.this, "DATE"), _cast(node.expression, "DATE"))
        return _cast(days, "BIGINT")
    if unit not in ("YEAR", "QUARTER", "MONTH", "HOUR", "MINUTE", "SECOND"):
        raise _unsaid(f"date_diff({unit.lower()!r}, ...)")
    ends = [_call("DATE_TRUNC", exp.Literal.string(unit), one) for one in (node.expression, node.this)]
    return _cast(_call("DATEDIFF", exp.var(unit), *ends), "BIGINT")


def _date_trunc(node: exp.Expr) -> exp.Expr:
    """Give moments without a zone, except of moments with one."""
    cut = _call("DATE_TRUNC", exp.Literal.string(node.text("unit").upper()), node.this)
    return _cast(cut, "TIMESTAMP_LTZ" if _is(node.this, _Type.TIMESTAMPTZ) else "TIMESTAMP_NTZ")


def _subtract(node: exp.Sub) -> exp.Expr:
    if _is(node.this, _Type.DATE) and _is(node.expression, _Type.DATE):
        return _cast(_call("DATEDIFF", node.this, node.expression), "BIGINT")
    return _shift(node)


def _shift(node: exp.Binary) -> exp.Expr:
    """A date and an interval make a moment; a date and a number of days make a date."""
    if isinstance(node.expression, exp.Interval) and _is(node.this, _Type.DATE):
        return type(node)(this=_cast(node.this, "TIMESTAMP_NTZ"), expression=node.expression.copy())
    return node


def _extract(node: exp.Extract) -> exp.Expr:
    part = node.name.upper()
    if part in ("DOW", "DAYOFWEEK", "WEEKDAY"):
        return _day_of_week(exp.DayOfWeek(this=node.expression))
    if part == "SECOND":
        return _cast(_call("SECOND", node.expression), "BIGINT")
    if part not in _PARTS:
        raise _unsaid(f"extract({part.lower()} FROM ...)")
    return _cast(exp.Extract(this=exp.var(_PARTS[part]), expression=node.expression.copy()), "BIGINT")


_PARTS = {one: one for one in ("YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "DOY")}
_PARTS |= {"DAYOFYEAR": "DOY", "DAYOFMONTH": "DAY", "ISODOW": "DAYOFWEEK_ISO", "ISOYEAR": "YEAROFWEEK"}


def _date_part(node: exp.Anonymous) -> exp.Expr:
    part, of = node.expressions
    return _extract(exp.Extract(this=exp.var(part.name), expression=of))


def _day_of_week(node: exp.Expr) -> exp.Expr:
    """Sunday is 0."""
    return _cast(exp.paren(exp.Sub(this=_call("DAYOFWEEK", node.this), expression=exp.Literal.number(1)), copy=False), "BIGINT")


def _epoch(node: exp.Expr) -> exp.Expr:
    micros = _cast(_call("UNIX_MICROS", _cast(node.this, "TIMESTAMP_LTZ")), "DOUBLE")
    return exp.paren(exp.Div(this=micros, expression=exp.Literal.number("1000000")), copy=False)


def _regexp_replace(node: exp.RegexpReplace) -> exp.Expr:
    if node.text("modifiers") != "g":
        raise _unsaid("regexp_replace() without 'g'")
    return node


def _formatted(node: exp.Expr) -> exp.Expr:
    """Take the parts of a format that both write alike."""
    pattern = node.args.get("format")
    if not isinstance(pattern, exp.Literal) or not _FORMAT.fullmatch(str(pattern.this)):
        raise _unsaid("a time format of other parts than %Y %m %d %H %M %S")
    return node


_FORMAT = re.compile(r"(%[YmdHMS]|[^%A-Za-z'])*")


def _end_of_text(node: exp.Expr) -> exp.Expr:
    """Refuse to count from the other end, which Spark takes for nothing."""
    if not (isinstance(node.expression, exp.Literal) and str(node.expression.this).isdigit()):
        raise _unsaid(f"{type(node).__name__.lower()}() of a count that is no number")
    return node


def _substring(node: exp.Substring) -> exp.Expr:
    start = node.args.get("start")
    if isinstance(start, exp.Literal) and start.this == "0":
        raise _unsaid("a substring that begins at 0")
    return node


def _like(node: exp.Expr) -> exp.Expr:
    r"""Read ``\`` in a pattern as itself; Spark takes it for an escape."""
    pattern = node.expression
    if isinstance(node.parent, exp.Escape) or (isinstance(pattern, exp.Literal) and "\\" not in str(pattern.this)):
        return node
    return exp.Escape(this=node.copy(), expression=exp.Literal.string("\x01"))


def _series(node: exp.Table) -> exp.Expr:
    """Say `range` and `generate_series` as tables."""
    series = node.this
    if not isinstance(series, exp.GenerateSeries):
        return node
    start, end = series.args["start"], series.args["end"]
    step = series.args.get("step") or exp.Literal.number(1)
    if not series.args.get("is_end_exclusive"):
        end = exp.Add(this=exp.paren(end), expression=_call("SIGN", step))
        end = _cast(end, "BIGINT")
    alias = node.args.get("alias")
    columns = alias.args.get("columns") if alias else None
    name = columns[0].name if columns else "range" if series.args.get("is_end_exclusive") else "generate_series"
    source = exp.Table(this=_call("RANGE", start, end, step))
    rows = exp.select(exp.alias_(exp.column("id"), name, quoted=True)).from_(source)
    return rows.subquery(alias.name if alias else name, copy=False)


def _scalar_series(node: exp.GenerateSeries) -> exp.Expr:
    if isinstance(node.parent, exp.Table):
        return node
    raise _unsaid("range() as a list")


def _anonymous(node: exp.Anonymous) -> exp.Expr:
    # No query that was bound has them; this is a second lock.
    if node.name.lower() in _NEVER:
        raise _unsaid(f"{node.name.lower()}()")
    rule = _BY_NAME.get(node.name.lower())
    return rule(node) if rule else node


_NEVER = ("java_method", "reflect", "try_reflect", "input_file_name", "input_file_block_start", "input_file_block_length")

_BY_NAME: dict[str, Callable[[Any], exp.Expr]] = {
    "date_part": _date_part,
    "datepart": _date_part,
    "isodow": lambda node: _extract(exp.Extract(this=exp.var("ISODOW"), expression=node.expressions[0])),
    "isoyear": lambda node: _extract(exp.Extract(this=exp.var("ISOYEAR"), expression=node.expressions[0])),
    "weekday": lambda node: _day_of_week(exp.DayOfWeek(this=node.expressions[0])),
}

_RULES: dict[type[exp.Expr], Callable[[Any], exp.Expr]] = {
    exp.Add: _shift,
    exp.Anonymous: _anonymous,
    exp.ArgMax: _extreme_by,
    exp.ArgMin: _extreme_by,
    exp.ArrayAgg: _list,
    exp.Avg: _average,
    exp.Cast: _round_to_int,
    exp.DataType: _data_type,
    exp.DateDiff: _date_diff,
    exp.DateTrunc: _date_trunc,
    exp.DayOfWeek: _day_of_week,
    exp.Div: _divide,
    exp.Extract: _extract,
    exp.GenerateSeries: _scalar_series,
    exp.ILike: _like,
    exp.IntDiv: _remainder,
    exp.Left: _end_of_text,
    exp.Like: _like,
    exp.Log: _log,
    exp.Mod: _remainder,
    exp.PercentileCont: _quantile_cont,
    exp.PercentileDisc: _quantile_disc,
    exp.Quantile: _quantile_disc,
    exp.RegexpReplace: _regexp_replace,
    exp.Right: _end_of_text,
    exp.StrToTime: _formatted,
    exp.Sub: _subtract,
    exp.Substring: _substring,
    exp.Table: _series,
    exp.TimestampTrunc: _date_trunc,
    exp.TimeToStr: _formatted,
    exp.TimeToUnix: _epoch,
    exp.Week: lambda node: _extract(exp.Extract(this=exp.var("WEEK"), expression=node.this)),
    exp.Window: _window,
}

_COUNTS = (
    exp.Length,
    exp.StrPosition,
    exp.Year,
    exp.Month,
    exp.Day,
    exp.DayOfMonth,
    exp.DayOfYear,
    exp.WeekOfYear,
    exp.Quarter,
    exp.Hour,
    exp.Minute,
    exp.Second,
)
_RULES.update(dict.fromkeys(_COUNTS, _to_bigint))
