"""
Attacks on queries, on the whole path: a member with little access, a served lab, the engine, the log.

Each hole that binding or the sandbox closes is tried here as whoever would use it: it gives an error that says what was wrong and
nothing of what is hidden, it is in the query log and in the audit log, and the server answers the next query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import epista
from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from tests.conftest import Thread
from tests.makers import Server
from tests.processes import wait_until
from tests.server.services import sql_texts

CANARY = "canary-4711"

COUNTS = pd.DataFrame({"well": ["A1", "A2", "B1"], "count": [17, 4, 9]})

SECRET = pd.DataFrame({"well": [CANARY], "count": [4711]})

ATTACKS = {
    # writing and leaving
    "dml in a cte": "WITH x AS (INSERT INTO counts VALUES ('X', 1) RETURNING *) SELECT * FROM x",
    "delete in a cte": "WITH x AS (DELETE FROM counts RETURNING *) SELECT * FROM x",
    "into": "SELECT * INTO stolen FROM counts",
    "for update": "SELECT * FROM counts FOR UPDATE",
    "copy": "COPY (FROM counts) TO '/tmp/epista-stolen.csv'",
    "copy over a path": "COPY counts TO '{file}' (use_tmp_file false)",
    "explain copy": "EXPLAIN COPY counts TO '{file}'",
    "attach": "ATTACH '{lab}/lab.db' AS lab",
    "call": "CALL duckdb_settings()",
    "set": "SET lock_configuration = false",
    "pragma": "PRAGMA enable_profiling",
    "load": "LOAD '/tmp/evil.duckdb_extension'",
    "prepare": "PREPARE q AS FROM counts",
    "describe": "DESCRIBE counts",
    "show": "SHOW ALL TABLES",
    "summarize": "SUMMARIZE counts",
    "second statement": "SELECT 1; COPY counts TO '/tmp/epista-stolen.csv'",
    # SQL in strings
    "query()": "FROM query('SELECT 1')",
    "query_table()": "FROM query_table('counts')",
    "serialized sql": "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    # settings, secrets, the catalog
    "current_setting": "SELECT current_setting('temp_directory')",
    "current_query": "SELECT current_query()",
    "settings": "FROM duckdb_settings()",
    "settings as a table": "FROM duckdb_settings",
    "views": "FROM duckdb_views()",
    "views as a table": "SELECT sql FROM duckdb_views",
    "file cache": "FROM duckdb_external_file_cache()",
    "secrets": "FROM duckdb_secrets()",
    "which secret": "FROM which_secret('s3://x/y', 's3')",
    "pragma functions": "FROM pragma_table_info('counts')",
    "information schema": "FROM information_schema.tables",
    "pg_catalog": "FROM pg_catalog.pg_tables",
    "sqlite_master": "FROM sqlite_master",
    "variables": "SELECT getvariable('p_1')",
    "version": "SELECT version()",
    # files and the network
    "read_csv": "FROM read_csv('/etc/passwd')",
    "read_text": "SELECT content FROM read_text('/etc/passwd')",
    "read_blob": "SELECT content FROM read_blob('{lab}/lab.db')",
    "read_parquet": "FROM read_parquet('{lab}/**/*')",
    "glob": "FROM glob('/*')",
    "sniff_csv": "FROM sniff_csv('/etc/passwd')",
    "parquet_metadata": "FROM parquet_metadata('{lab}/*')",
    "a file as a table": "FROM '/etc/passwd'",
    "a csv as a table": "FROM '/tmp/x.csv'",
    "a url as a table": "FROM 'http://169.254.169.254/latest/meta-data'",
    "a bucket as a table": "FROM 's3://lab/secret.parquet'",
    "method call": "SELECT '/etc/passwd'.read_text()",
    "getenv": "SELECT getenv('HOME')",
    "filename": "SELECT filename FROM counts",
    "file_row_number": "SELECT file_row_number FROM counts",
    # the engine's works
    "write_log": "SELECT write_log('x')",
    "enable_logging": "CALL enable_logging()",
    "enable_profiling": "FROM enable_profiling()",
    "pg_sleep": "SELECT pg_sleep(100)",
    "sleep_ms": "SELECT sleep_ms(100000)",
    "java_method": "SELECT java_method('java.lang.System', 'getenv')",
    "reflect": "SELECT reflect('java.lang.System', 'getenv')",
    "spark files": "FROM text.`file:///etc/passwd`",
    "spark overwrite": "INSERT OVERWRITE DIRECTORY '/tmp/x' SELECT * FROM counts",
    # names that mean something else
    "version without quotes": "SELECT * FROM counts@1",
    "at version": "FROM counts AT (VERSION => 1)",
    "as of": "SELECT * FROM counts FOR SYSTEM_TIME AS OF TIMESTAMP '2020-01-01'",
    "three parts": 'FROM memory.main."counts"',
    "dots in quotes": 'FROM main."a.b"',
    # case, quotes, comments, look-alikes
    "upper case": "FROM READ_TEXT('/etc/passwd')",
    "quoted function": "FROM \"read_text\"('/etc/passwd')",
    "comment before brackets": "FROM read_text /* x */ -- y\n ('/etc/passwd')",
    "nested comment": "SELECT /* /* */ getenv('HOME') /* */ */",
    "look-alike": "SELECT re\u0430d_text('/etc/passwd')",
    "full width": "SELECT \uff47etenv('HOME')",
    "no-break space": "FROM\u00a0read_text('/etc/passwd')",
    "nul": "SELECT 1 \0 FROM counts",
    # bombs
    "deep nesting": "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "long chain": "SELECT " + "1 + " * 15_000 + "1",
    "long text": "SELECT '" + "é" * 40_000 + "'",
    "memory": "SELECT length(repeat('x', 2000000000)) + length(repeat('y', 2000000000))",
    "time": "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = -1",
    "time in one function": "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "disk": "SELECT count(*) FROM (SELECT DISTINCT hash(range), md5(range::VARCHAR) FROM range(200000000))",
    "rows": "FROM range(1001)",
}
"""What a member tries who may read ``EXP-1`` alone; each is an error of its own, and none tells anything."""


_TELLING = re.compile(rf"{CANARY}|\bt_[0-9a-f]{{8,}}|\bc_[0-9]+\b|root:|Traceback|duckdb\.|/scratch/")
"""What no error may say."""


@pytest.fixture(scope="module")
def lab(server_thread: Thread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A served lab with low limits, for all attacks: none of them may spoil it for the next one."""
    folder = tmp_path_factory.mktemp("attacked") / "lab"
    founding.prepare(folder, user="manager")
    limits = Config(
        lab=str(folder),
        query_seconds=3.0,
        query_rows=1000,
        query_memory_bytes=128 * 1024**2,
        query_spill_bytes=16 * 1024**2,
    )
    stop = server_thread.start(create_app(limits))
    link = founding.new_link(folder, address=server_thread.url, seconds=3600, only_if_locked_out=False)
    assert link
    yield Server(server_thread.url, folder, link.partition("#")[2])
    stop()


@pytest.fixture(scope="module")
def owner(lab: Server) -> Iterator[epista.Workspace]:
    with epista.Workspace(lab.url, token=lab.manager, workspace="lab") as found:
        found.put("EXP-1/counts.parquet", COUNTS)
        found.put("EXP-2/secret.parquet", SECRET)
        yield found


@pytest.fixture(scope="module")
def guest(owner: epista.Workspace, lab: Server) -> Iterator[epista.Workspace]:
    """A member who may read one experiment of two."""
    narrow = lab.member("guest", "viewer", experiments=["EXP-1"], scopes=["read"])
    with epista.Workspace(lab.url, token=narrow.token, workspace="lab") as found:
        yield found


def is_audited(lab: Server, sql: str, error: epista.EpistaError) -> bool:
    """Whether a query is in the audit log; one that began is there as begun, and its end in the query log."""
    rows = lab.api().ok(lab.api().get("~/audit", limit=20))["rows"]
    found = {row["outcome"] for row in rows if row["action"] == "queries.run" and sql.startswith(row["target"].removesuffix("…"))}
    return bool(found & {error.code, "done"})


@pytest.mark.parametrize("form", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_a_clear_error_and_audited(form: str, guest: epista.Workspace, lab: Server) -> None:
    sql = form.replace("{lab}", str(lab.folder)).replace("{file}", str(lab.folder / "lab.db"))

    with pytest.raises((epista.QueryError, epista.NotFoundError, epista.ResultTooLargeError)) as refused:
        guest.query(sql)

    said = f"{refused.value.message} {refused.value.hint}"
    assert refused.value.message
    assert not _TELLING.search(said)
    assert str(lab.folder) not in said or str(lab.folder) in sql
    entry = guest.queries()[0]
    assert (entry.sql, entry.error) == (sql, refused.value.code)
    assert entry.status in ("refused", "failed")
    assert entry.inputs == () or {one.key for one in entry.inputs} == {"EXP-1/counts.parquet"}
    wait_until(lambda: is_audited(lab, sql, refused.value), "it is audited")
    assert len(guest.query("SELECT * FROM counts")) == 3


@settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(sql_texts.with_a_forbidden_table())
def test_a_forbidden_table_is_never_read(guest: epista.Workspace, lab: Server, sql: str) -> None:
    with pytest.raises((epista.QueryError, epista.NotFoundError)) as refused:
        guest.query(sql)

    assert CANARY not in f"{refused.value} {refused.value.details}"
    entry = guest.queries()[0]
    assert (entry.sql, entry.status, entry.inputs) == (sql, "refused", ())
    wait_until(lambda: is_audited(lab, sql, refused.value), "it is audited")


@settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(sql_texts.with_decoys())
def test_what_looks_like_a_forbidden_table_gives_none_of_it(guest: epista.Workspace, sql: str) -> None:
    try:
        found = guest.query(sql)
    except (epista.QueryError, epista.NotFoundError) as error:
        assert CANARY not in f"{error} {error.details}"
        return

    assert CANARY not in str(found.to_arrow().to_pydict())
    assert {one.key for one in found.inputs} <= {"EXP-1/counts.parquet"}


def test_the_owner_reads_what_the_guest_may_not(owner: epista.Workspace) -> None:
    assert list(owner.query("SELECT well FROM secret")) == [{"well": CANARY}]
