"""SQL of many forms for hypothesis, with a table somewhere in it that the caller may not read."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

HOLE = "\N{REPLACEMENT CHARACTER}"
"""Where a table stands in a form that is being made."""

SPELLINGS = (
    "secret",
    "SECRET",
    "SeCrEt",
    '"secret"',
    "'secret'",
    '"secret.parquet"',
    '"EXP-2".secret',
    '"EXP-2"."secret"',
    '"EXP-2/secret.parquet"',
    "'EXP-2/secret.parquet'",
    '"secret@1"',
    '"EXP-2/secret.parquet@1"',
    "/* counts */ secret",
    "/* /* nested */ */ secret",
    "secret -- counts\n",
    "(secret)",
    "secret AS counts",
    '"secret" counts(well, count)',
    "\u00a0secret",
    "(FROM secret)",
    "(TABLE secret)",
    "(SELECT * FROM secret) counts",
    "main.secret",
    "memory.main.secret",
    "parquet.secret",
    "information_schema.tables",
    "duckdb_tables()",
    "query('FROM secret')",
    "query_table('secret')",
    "read_parquet('secret.parquet')",
    "'/etc/passwd'",
    "se\u0441ret",  # with a Cyrillic letter
    "\uff53ecret",  # with a full-width one
    "s\u0065\u0301cret",
)
"""What may stand where a table stands, and is never one that the caller may read."""

_COLUMNS = ("well", "count", "counts.well", "*", "42", "'x'", "NULL", '"well"')


def _pieces(draw: st.DrawFn, depth: int) -> tuple[Callable[[], str], Callable[[], str]]:
    """Return what draws an expression and what draws a query, at most so deep."""

    def source() -> str:
        if depth <= 0:
            return HOLE
        query = _pieces(draw, depth - 1)[1]
        forms: list[Callable[[], str]] = [
            lambda: HOLE,
            lambda: f"({query()}) q",
            lambda: f"{HOLE} a JOIN {HOLE} b USING (well)",
            lambda: f"{HOLE} a, LATERAL ({query()}) b",
            lambda: f"{HOLE} NATURAL LEFT JOIN ({query()}) b",
            lambda: f"(PIVOT {HOLE} ON well USING sum(count)) p",
            lambda: f"(UNPIVOT {HOLE} ON count INTO NAME n VALUE v) u",
            lambda: f"range(3) r, {HOLE}",
            lambda: f"unnest((SELECT list(well) FROM {HOLE})) t(x)",
            lambda: f"{HOLE} TABLESAMPLE 50 PERCENT",
            lambda: f"(VALUES (1, (SELECT count(*) FROM {HOLE}))) v(well, count)",
        ]
        return draw(st.sampled_from(forms))()

    def expression() -> str:
        if depth <= 0:
            return str(draw(st.sampled_from(_COLUMNS)))
        inner, query = _pieces(draw, depth - 1)
        forms: list[Callable[[], str]] = [
            lambda: f"(SELECT max(count) FROM {source()})",
            lambda: f"EXISTS ({query()})",
            lambda: f"{inner()} IN ({query()})",
            lambda: f"{inner()} = ANY (SELECT well FROM {HOLE})",
            lambda: f"CASE WHEN {inner()} IS NULL THEN (SELECT 1 FROM {HOLE} LIMIT 1) ELSE 2 END",
            lambda: f"list_transform([1, 2], x -> x + (SELECT count(*) FROM {HOLE}))",
            lambda: f"list_filter([1], lambda x: EXISTS (FROM {HOLE}))",
            lambda: f"count(*) FILTER (WHERE count > (SELECT min(count) FROM {HOLE}))",
            lambda: f"sum(count) OVER (PARTITION BY (SELECT 1 FROM {HOLE} LIMIT 1) ORDER BY {inner()})",
            lambda: f"row_number() OVER (ORDER BY (SELECT count(*) FROM {HOLE}))",
            lambda: f"ARRAY(SELECT well FROM {HOLE})",
            lambda: f"{{'a': (SELECT max(well) FROM {HOLE})}}.a",
            lambda: f"(SELECT count(*) FROM {HOLE})::VARCHAR || 'x'",
            lambda: f"coalesce({inner()}, (SELECT max(count) FROM {HOLE}))",
            lambda: f"count BETWEEN 0 AND (SELECT max(count) FROM {HOLE})",
        ]
        return draw(st.sampled_from(forms))()

    def query() -> str:
        forms: list[Callable[[], str]] = [
            lambda: f"SELECT {expression()} FROM {source()}",
            lambda: f"FROM {HOLE}",
            lambda: f"FROM {source()} SELECT {expression()}",
            lambda: f"TABLE {HOLE}",
            lambda: f"SELECT * REPLACE ({expression()} AS well) FROM {HOLE}",
            lambda: f"SELECT * EXCLUDE (well) FROM {source()}",
            lambda: f"SELECT COLUMNS('c.*') FROM {HOLE}",
            lambda: f"SELECT well FROM {HOLE} WHERE {expression()}",
            lambda: f"SELECT well FROM {HOLE} GROUP BY well HAVING {expression()}",
            lambda: f"SELECT well FROM {HOLE} GROUP BY GROUPING SETS ((well), ()) ORDER BY {expression()}",
            lambda: f"SELECT well FROM {HOLE} QUALIFY {expression()}",
            lambda: f"SELECT well FROM {HOLE} ORDER BY {expression()} NULLS LAST",
            lambda: f"SELECT well FROM {HOLE} LIMIT (SELECT count(*) FROM {HOLE})",
            lambda: f"SELECT well FROM {HOLE} LIMIT 1 OFFSET (SELECT count(*) FROM {HOLE})",
            lambda: f"SELECT DISTINCT ON ({expression()}) well FROM {HOLE}",
            lambda: f"SELECT sum(count) OVER w FROM {HOLE} WINDOW w AS (ORDER BY {expression()})",
            lambda: f"WITH unused AS (SELECT * FROM {HOLE}) SELECT 1",
            lambda: f"WITH c AS MATERIALIZED (SELECT * FROM {source()}) SELECT {expression()} FROM c",
            lambda: f"WITH counts AS (SELECT * FROM {HOLE}) SELECT * FROM counts",
            lambda: f"WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, {HOLE} WHERE n < 3) SELECT * FROM r",
            lambda: f"SELECT well FROM {HOLE} UNION ALL SELECT {expression()} FROM {HOLE}",
            lambda: f"(SELECT well FROM {HOLE}) EXCEPT (SELECT well FROM {source()})",
            lambda: f"SELECT well FROM {HOLE} INTERSECT SELECT well FROM {HOLE}",
            lambda: f"SELECT * FROM {HOLE} UNION BY NAME SELECT * FROM {HOLE}",
            lambda: f"VALUES ((SELECT count(*) FROM {HOLE}))",
            lambda: f"SELECT {expression()}, {expression()}",
        ]
        return draw(st.sampled_from(forms))()

    return expression, query


DECOYS = (
    "counts",
    "counts secret",
    'counts AS "secret"',
    "counts -- FROM secret\n",
    "counts /* , secret */",
    "counts /* ' */ /* , secret */",
    '(SELECT well AS "FROM secret", count FROM counts) q',
    "(SELECT 'FROM secret; --' AS well, 1 AS count FROM counts) q",
    "(SELECT $$ FROM secret $$ AS well, 1 AS count) q",
    "(SELECT e'\\' FROM secret --' AS well, 1 AS count) q",
    "(WITH secret AS (FROM counts) FROM secret) q",
    "(WITH SECRET(well, count) AS (FROM counts) FROM secret) q",
    "(WITH secret AS (FROM secret) FROM counts) q",
    "(WITH RECURSIVE secret AS (SELECT 'a' AS well, 1 AS count UNION ALL FROM secret WHERE false) FROM secret) q",
    "(WITH a AS (WITH secret AS (FROM counts) FROM secret) FROM a, secret) q",
    "(WITH a AS (FROM secret), secret AS (FROM counts) FROM a) q",
    "counts secret, LATERAL (SELECT secret.well FROM secret) b",
    "counts secret, secret s2",
)
"""What may stand where a table stands, and names a forbidden one where it means nothing, or something else."""


@st.composite
def with_decoys(draw: st.DrawFn) -> str:
    """A query over ``counts`` in which a table that the caller may not read is named, maybe as one."""
    first, *rest = _pieces(draw, 1)[1]().split(HOLE)
    return first + "".join(draw(st.sampled_from(DECOYS)) + piece for piece in rest)


@st.composite
def with_a_forbidden_table(draw: st.DrawFn) -> str:
    """A query over ``counts`` in which one table is another one."""
    form = _pieces(draw, 2)[1]()
    if HOLE not in form:
        form = f"SELECT * FROM {HOLE} WHERE well IN ({form})"
    holes = form.split(HOLE)
    chosen: int = draw(st.integers(0, len(holes) - 2))
    spelling = draw(st.sampled_from(SPELLINGS))
    return holes[0] + "".join((spelling if number == chosen else "counts") + rest for number, rest in enumerate(holes[1:]))
