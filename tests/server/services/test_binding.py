"""What SQL may be: every known way out is closed before an engine hears of the query."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from epista.contract.errors import KeyNotFoundError, QueryError, QueryRefusedError, QuerySyntaxError
from epista.server.services import functions
from epista.server.services.binding import Bound, Name, bind
from tests.server.engines import spark_calls
from tests.server.services import sql_texts


def bound(sql: str) -> Bound[str]:
    return bind(sql, str)


def names(sql: str) -> set[str]:
    return set(bound(sql).tables.values())


REFUSED = [
    # statements
    "COPY counts TO '/tmp/x'",
    "COPY (SELECT 1) TO '/tmp/x' (use_tmp_file false)",
    "EXPLAIN COPY counts TO '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "CALL pragma_version()",
    "SET memory_limit = '100GB'",
    "RESET ALL",
    "PRAGMA database_list",
    "LOAD httpfs",
    "INSTALL httpfs",
    "PREPARE q AS SELECT 1",
    "EXECUTE q",
    "DESCRIBE counts",
    "SHOW TABLES",
    "SUMMARIZE counts",
    "DROP TABLE counts",
    "CREATE TABLE x AS SELECT 1",
    "INSERT INTO counts VALUES (1)",
    "UPDATE counts SET a = 1",
    "DELETE FROM counts",
    "EXPORT DATABASE '/tmp/x'",
    "CHECKPOINT",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY counts TO '/tmp/x'",
    # inside a query
    "WITH x AS (INSERT INTO counts VALUES (1) RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM counts RETURNING *) SELECT * FROM x",
    "SELECT * INTO x FROM counts",
    "SELECT * FROM counts FOR UPDATE",
    "SELECT * FROM (DESCRIBE counts)",
    "SELECT * FROM counts AT (VERSION => 3)",
    "SELECT * FROM counts FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01'",
    "SELECT * FROM a.b.counts",
    # functions
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('counts')",
    "SELECT json_execute_serialized_sql('x')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT current_setting('memory_limit')",
    "SELECT getvariable('p_1')",
    "SELECT current_query()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_external_file_cache()",
    "SELECT * FROM which_secret('x', 's3')",
    "SELECT * FROM pragma_table_info('counts')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM READ_TEXT ('/etc/passwd')",
    "SELECT * FROM \"read_text\"('/etc/passwd')",
    "SELECT * FROM read_parquet('x')",
    "SELECT * FROM parquet_metadata('x')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT '/etc/passwd'.read_text()",
    "SELECT getenv('HOME')",
    "SELECT pg_sleep(10)",
    "SELECT sleep_ms(10)",
    "SELECT write_log('x')",
    "SELECT nextval('x')",
    "SELECT version()",
    "SELECT java_method('java.lang.System', 'exit')",
    "SELECT reflect('java.lang.System', 'exit')",
    "SELECT re\u0430d_text('x')",
    "SELECT a /* \n */ , getenv /* */ ('x') FROM counts",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_reading_of_tables_is_refused(sql: str) -> None:
    with pytest.raises((QueryRefusedError, QuerySyntaxError)) as refused:
        bound(sql)
    assert refused.value.details["line"] >= 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM secret",
        "FROM secret",
        "SELECT (SELECT max(a) FROM secret) FROM counts",
        "SELECT * FROM counts WHERE a IN (SELECT a FROM secret)",
        "SELECT * FROM counts WHERE EXISTS (FROM secret)",
        "SELECT * FROM counts ORDER BY (SELECT 1 FROM secret)",
        "SELECT * FROM counts LIMIT (SELECT 1 FROM secret)",
        "SELECT count(*) FILTER (WHERE a IN (FROM secret)) FROM counts",
        "SELECT * REPLACE ((SELECT 1 FROM secret) AS a) FROM counts",
        "WITH unused AS (SELECT * FROM secret) SELECT * FROM counts",
        "WITH secret AS (SELECT * FROM secret) SELECT * FROM secret",
        "SELECT * FROM counts JOIN secret USING (a)",
        "SELECT * FROM counts, LATERAL (SELECT * FROM secret)",
        "SELECT * FROM counts UNION SELECT * FROM secret",
        "SELECT list_transform([1], x -> (SELECT x FROM secret)) FROM counts",
        "SELECT * FROM counts GROUP BY ALL HAVING (SELECT true FROM secret)",
        "SELECT * FROM (PIVOT secret ON a USING sum(b))",
        "SELECT a FROM counts QUALIFY row_number() OVER (ORDER BY (SELECT 1 FROM secret)) = 1",
    ],
)
def test_a_table_is_asked_for_wherever_it_stands(sql: str) -> None:
    assert "secret" in names(sql)


def test_a_refusal_of_the_resolver_ends_it() -> None:
    def refuse(name: Name) -> str:
        raise QueryError(f"no table {name}")

    with pytest.raises(QueryError, match=r'no table "EXP-12"\.counts'):
        bind('SELECT * FROM "EXP-12".counts', refuse)


def test_names_are_asked_for_as_they_were_typed() -> None:
    asked = names('SELECT * FROM counts, "EXP-12".plate, \'EXP-1/a.parquet\', "counts@3", "plate.xlsx#Sheet2"')

    assert asked == {"counts", '"EXP-12".plate', '"EXP-1/a.parquet"', '"counts@3"', '"plate.xlsx#Sheet2"'}


def test_words_that_the_engine_would_answer_are_names_here() -> None:
    assert names("SELECT * FROM (SHOW TABLES)") == {"SHOW"}
    assert '"user"' in bound("SELECT user FROM counts").ast.sql("duckdb")


def test_a_common_table_expression_hides_a_table() -> None:
    assert names("WITH counts AS (SELECT 1 AS a) SELECT counts.a FROM counts") == set()


def test_only_our_names_are_printed() -> None:
    found = bound('SELECT counts.a, "EXP-12".plate.b FROM counts JOIN "EXP-12".plate USING (a)')

    printed = found.ast.sql("duckdb")
    assert set(found.tables) == {word.strip('"') for word in printed.split() if word.startswith('"t_')}
    assert 'AS "counts"' in printed and '"plate"."b"' in printed


def test_placeholders_are_numbered_as_they_were_typed() -> None:
    assert "LIMIT $3" in bound("SELECT ?, ? FROM counts LIMIT ?").ast.sql("duckdb")


@pytest.mark.parametrize(
    "sql", ["", "SELECT {'a': 1, : 0}", "SELECT (", "SELECT * FROM EXP-12.counts", "SELECT * FROM counts@3", "SELECT 'open"]
)
def test_what_cannot_be_read_is_a_syntax_error(sql: str) -> None:
    with pytest.raises(QuerySyntaxError):
        bound(sql)


def test_a_name_that_needs_quotes_is_told_so() -> None:
    with pytest.raises(QuerySyntaxError) as wrong:
        bound("SELECT *\nFROM EXP-12.counts")

    assert wrong.value.line == 2
    assert '"EXP-12".counts' in (wrong.value.hint or "")


def test_deep_nesting_is_refused_and_no_crash() -> None:
    for sql in ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "1 + " * 15000 + "1", "SELECT " + "NOT " * 15000 + "true"):
        with pytest.raises((QueryRefusedError, QuerySyntaxError)):
            bound(sql)


def only_counts(name: Name) -> str:
    """Resolve as for somebody who may read one table, and no other."""
    if str(name) not in ("counts", '"counts"'):
        raise KeyNotFoundError(f"no table {name}")
    return "counts"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sql_texts.with_a_forbidden_table())
def test_a_forbidden_table_is_as_if_absent_wherever_it_stands(sql: str) -> None:
    with pytest.raises((KeyNotFoundError, QueryError)):
        bind(sql, only_counts)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sql_texts.with_decoys())
def test_what_only_looks_like_a_forbidden_table_reads_none(sql: str) -> None:
    try:
        found = bind(sql, only_counts)
        # DuckDB's own parser is the judge: it knows no table that was not pinned, also not by a name of the query's own.
        read = duckdb.get_table_names(found.ast.sql("duckdb"))
    except (QueryError, KeyNotFoundError, duckdb.Error):
        return

    assert {name for name in read if not name.startswith("c_")} <= set(found.tables)


def test_every_function_of_the_engine_was_looked_at() -> None:
    rows = duckdb.sql(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'macro')"
    )
    known = set(functions.FUNCTIONS).union(*functions.DENIED.values())
    named = {name for (name,) in rows.fetchall() if name.replace("_", "").isalnum()}

    assert named - known == set()
    assert set(functions.FUNCTIONS).isdisjoint(set().union(*functions.DENIED.values()))


def test_what_the_engine_says_varies_is_known_to_vary() -> None:
    rows = duckdb.sql("SELECT lower(function_name) FROM duckdb_functions() WHERE stability <> 'CONSISTENT'").fetchall()

    allowed = {name for (name,) in rows} & set(functions.FUNCTIONS)
    assert allowed and not any(functions.FUNCTIONS[name].is_deterministic for name in allowed)


def test_every_function_of_spark_is_called_in_the_tests_of_spark() -> None:
    called = " ".join((*spark_calls.SCALARS, *spark_calls.AGGREGATES, *spark_calls.WINDOWS)).lower()
    # Those that vary cannot be compared; the others are in the conformance suite, or give an estimate.
    elsewhere = {"approx_count_distinct", "grouping"}

    on_spark = {name for name, one in functions.FUNCTIONS.items() if "spark" in one.engines and one.is_deterministic}
    assert {name for name in on_spark if f"{name}(" not in called} <= elsewhere


def test_a_function_that_spark_has_not_is_refused_for_spark_alone() -> None:
    assert bind("SELECT hash(a), abs(a) FROM counts", str)
    assert bind("SELECT abs(a) FROM counts", str, engine="spark")
    with pytest.raises(QueryError, match=r"the Spark engine has no function hash\(\), at line 2, column 3") as unknown:
        bind("SELECT abs(a),\n  hash(a) FROM counts", str, engine="spark")

    assert "duckdb" in (unknown.value.hint or "")
    with pytest.raises(QueryRefusedError):
        bind("SELECT java_method('java.lang.System', 'getenv')", str, engine="spark")


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_a_number_of_thousands_of_digits_is_refused(engine: str) -> None:
    with pytest.raises(QuerySyntaxError, match="a number has more than 1000 characters"):
        bind("SELECT a FROM counts LIMIT 1" + "0" * 5000, str, engine=engine)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["a_", "a-", "a.", "a.a@", "a@b.c@"])
def test_long_names_are_answered_soon(text: str) -> None:
    with pytest.raises((QuerySyntaxError, QueryRefusedError)):
        bound("SELECT 1 FROM a, " + text * (60_000 // len(text)) + " x y")


@pytest.mark.parametrize("unit", ["", "h?our", "day, (SELECT 1)", ",,"], ids=["empty", "damaged", "query", "commas"])
def test_what_spark_would_read_without_quotes_is_a_word(unit: str) -> None:
    assert bind("SELECT date_diff('day', a, b) FROM counts", str, engine="spark")
    with pytest.raises(QueryRefusedError, match="is no part of a date or time"):
        bind(f"SELECT date_diff('{unit}', a, b) FROM counts", str, engine="spark")
