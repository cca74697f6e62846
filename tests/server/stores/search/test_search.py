"""Search in SQLite and in PostgreSQL: what is found, by whom, in what order, and by which index."""

from __future__ import annotations

import base64
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, func, insert, select
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.schema import DropIndex
from sqlalchemy.sql import Executable

from epista.contract.errors import InvalidRequestError, SearchSyntaxError
from epista.contract.keys import experiment_of, name_of
from epista.server.stores.postgres import PostgresCatalog
from epista.server.stores.search.grammar import (
    MAX_LEVELS,
    MAX_TERMS,
    All,
    AnyOf,
    Between,
    Everything,
    Has,
    MetaBetween,
    MetaHas,
    MetaIs,
    MetaWords,
    Not,
    Tree,
    Value,
    Words,
    parse,
)
from epista.server.stores.search.index import Counts, Document, Hit, SearchIndex
from epista.server.stores.search.postgres import PostgresSearch
from epista.server.stores.search.relational import RelationalSearch
from epista.server.stores.search.sqlite import SqliteSearch
from epista.server.stores.search.tables import SQLITE_DDL, attributes, documents, versions_by_age
from epista.server.stores.tables import asset_tags, assets, blobs, metadata, users, versions, workspaces
from tests.postgres import Postgres


def search(tx: Connection) -> RelationalSearch:
    """Return the index that belongs to the database."""
    return PostgresSearch() if tx.dialect.name == "postgresql" else SqliteSearch()


INDEXES: tuple[SearchIndex, ...] = (SqliteSearch(), PostgresSearch())


@dataclass(kw_only=True)
class Made:
    """An asset of the corpus: what the tests say of it, and what follows from that."""

    key: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    content: str = ""
    kind: str = "OTHER"
    format: str = "bytes"
    author: str = "ada"
    size: int = 100
    created_at: int = 1_767_225_600_000_000
    deleted: bool = False
    workspace_id: int = 1
    id: int = 0

    @property
    def experiment(self) -> str | None:
        return experiment_of(self.key)

    @property
    def sha256(self) -> str:
        return f"{self.id:064x}"


AUTHORS = ("ada", "Éva")


def add(tx: Connection, *corpus: Made) -> None:
    """Write *corpus* as the catalog would, its current versions having another id than their assets."""
    first = tx.execute(select(func.coalesce(func.max(assets.c.id), 0))).scalar_one() + 1
    for made_id, made in enumerate(corpus, start=first):
        made.id = made_id
        tx.execute(insert(blobs).values(id=made.id, sha256=made.sha256, size=made.size, object="o", offset=0, created_at=0))
        tx.execute(
            insert(assets).values(
                id=made.id, uid=f"a{made.id}", workspace_id=made.workspace_id, key=made.key, experiment=made.experiment,
                name=name_of(made.key), kind=made.kind, format=made.format, head_id=made.id + 1000,
                deleted_at=1 if made.deleted else None,
            )
        )  # fmt: skip
        tx.execute(
            insert(versions).values(
                id=made.id + 1000, uid=f"v{made.id}", asset_id=made.id, number=1, blob_id=made.id, kind=made.kind,
                format=made.format, options="{}", meta=json.dumps(made.meta), tags=json.dumps(made.tags),
                created_at=made.created_at, author_id=AUTHORS.index(made.author) + 1, note="",
            )
        )  # fmt: skip
        for tag in set(made.tags):
            tx.execute(insert(asset_tags).values(asset_id=made.id, tag=tag, workspace_id=made.workspace_id))
    search(tx).index(tx, [document(made) for made in corpus if not made.deleted])


def document(made: Made) -> Document:
    return Document(
        asset_id=made.id, workspace_id=made.workspace_id, key=made.key, tags=made.tags, meta=made.meta, content=made.content
    )


@pytest.fixture(params=["sqlite", "postgres"])
def tx(request: pytest.FixtureRequest) -> Iterator[Connection]:
    if request.param == "sqlite":
        with opened() as connection:
            yield connection
        return
    engine: Engine = request.getfixturevalue("searched")
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def on_sqlite() -> Iterator[Connection]:
    with opened() as connection:
        yield connection


@pytest.fixture(scope="session")
def searched(postgres: Postgres) -> Iterator[Engine]:
    """A database with the schema of a lab, two workspaces and two users; tests roll back."""
    name = postgres.create()
    catalog = PostgresCatalog(postgres.url(name), connections=1)
    catalog.open()
    catalog.write(_people)
    yield catalog._writers
    catalog.close()
    postgres.drop(name)


def opened() -> Connection:
    """Return a new SQLite database with two workspaces and two users."""
    connection = create_engine("sqlite://").connect()
    driver: Any = connection.connection.driver_connection
    driver.deserialize(empty())
    return connection


@cache
def empty() -> bytes:
    connection = create_engine("sqlite://").connect()
    metadata.create_all(connection, [table for table in metadata.sorted_tables if table not in (attributes, documents)])
    connection.execute(DropIndex(versions_by_age))
    for statement in SQLITE_DDL:
        connection.exec_driver_sql(statement)
    _people(connection)
    connection.commit()
    driver: Any = connection.connection.driver_connection
    return bytes(driver.serialize())


def _people(tx: Connection) -> None:
    for number, name in enumerate(AUTHORS, start=1):
        tx.execute(insert(users).values(id=number, uid=f"u{number}", name=name, is_lab_admin=False, created_at=0))
    for number in (1, 2):
        tx.execute(insert(workspaces).values(id=number, uid=f"w{number}", name=f"w{number}", created_at=0))


def hits(tx: Connection, query: str | Tree, *, experiments: Collection[str] | None = None, limit: int = 1000) -> list[Hit]:
    """Return all hits, over all pages."""
    tree = parse(query) if isinstance(query, str) else query
    found: list[Hit] = []
    after = None
    while True:
        page = search(tx).find(tx, tree, workspace_id=1, experiments=experiments, limit=limit, after=after)
        found += page.hits
        assert len(page.hits) <= limit
        if (after := page.next) is None:
            return found


def keys(tx: Connection, query: str | Tree, **options: Any) -> list[str]:
    """Return the keys of all hits in their order."""
    by_id = {row.id: row.key for row in tx.execute(select(assets.c.id, assets.c.key))}
    return [by_id[hit.asset_id] for hit in hits(tx, query, **options)]


def count(tx: Connection, query: str | Tree, experiments: Collection[str] | None = None) -> Counts:
    """Return what `count` does, which a first page has as well."""
    tree = parse(query) if isinstance(query, str) else query
    where: dict[str, Any] = {"workspace_id": 1, "experiments": experiments}
    counted = search(tx).count(tx, tree, **where)
    assert search(tx).first(tx, tree, **where, limit=3) == (search(tx).find(tx, tree, **where, limit=3, after=None), counted)
    return counted


# What is found


def test_58_what_is_indexed_is_found_in_the_same_transaction(tx: Connection) -> None:
    add(tx, Made(key="EXP-1/a.txt", content="A quick fox"))

    assert hits(tx, "fox") == [Hit(1, "content", "A quick **fox**")]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_59_a_phrase_in_metadata_is_found_with_either_quote(tx: Connection, quote: str) -> None:
    add(
        tx,
        Made(key="phrase", meta={"name": "The Thor Odinson!"}),
        Made(key="apart", meta={"name": "thor son of odinson"}),
        Made(key="elsewhere", meta={"title": "thor odinson"}),
        Made(key="two values", meta={"name": ["thor", "odinson"]}),
    )

    assert keys(tx, f"user_meta.name:{quote}thor odinson{quote}") == ["phrase"]


def test_60_numbers_and_words_live_under_one_path(tx: Connection) -> None:
    add(tx, Made(key="number", meta={"temp": 37}), Made(key="word", meta={"temp": "warm"}))

    assert keys(tx, "user_meta.temp:>30") == ["number"]
    assert keys(tx, "user_meta.temp:warm") == ["word"]
    assert keys(tx, "user_meta.temp:*") == ["word", "number"]


def test_61_old_text_never_matches_again(tx: Connection) -> None:
    add(tx, Made(key="a", tags=["old"], meta={"cell": "old", "n": 1}, content="old"))

    search(tx).index(tx, [Document(asset_id=1, workspace_id=1, key="a", tags=["new"], meta={"cell": "new"}, content="new")])

    assert keys(tx, "old") == keys(tx, "user_meta.cell:old") == keys(tx, "user_meta.n:1") == keys(tx, "tags:old") == []
    assert keys(tx, "new") == keys(tx, "user_meta.cell:new") == keys(tx, "tags:new") == ["a"]
    assert search(tx).contents_of(tx, [1]) == {1: "new"}


def test_61_old_versions_never_match(tx: Connection) -> None:
    add(tx, Made(key="a", size=5))
    tx.execute(
        insert(versions).values(
            id=500, uid="old", asset_id=1, number=0, blob_id=1, kind="FLOW", format="fcs", options="{}", meta="{}", tags="[]",
            created_at=1, author_id=2, note="",
        )
    )  # fmt: skip

    assert keys(tx, "author:éva") == keys(tx, "created:1970") == keys(tx, "kind:flow") == []
    assert keys(tx, "author:ada size:5") == ["a"]


def test_62_sizes_and_dates_have_exact_ends(tx: Connection) -> None:
    march = int(datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000 + 999_999
    add(tx, Made(key="small", size=1_000_000, created_at=march), Made(key="large", size=1_000_001, created_at=march + 1))

    assert keys(tx, "size:>1MB") == ["large"]
    assert keys(tx, "created:[2026-01 TO 2026-03]") == ["small"]
    assert keys(tx, "created:2026-03-31") == ["small"]
    assert keys(tx, "created:>2026-03") == ["large"]


FOUND = {
    "*": "b, a, c",
    "kind:FLOW": "a",
    "kind:fl*": "a",
    "-kind:flow": "b, c",
    "format:CSV": "b",
    "experiment:exp-é": "b",
    "experiment:EXP*": "b, a",
    "experiment:*": "b, a",
    "-experiment:*": "c",
    "NOT experiment:nope": "b, a, c",
    "author:ÉVA": "b",
    "author:év*": "b",
    f"sha256:{'0' * 63}1": "a",
    "sha256:00*": "b, a, c",
    "tags:To\\ do": "a",
    "tags:'to DO'": "a",
    "tags:to": "",
    "tags:*": "b, a",
    "key:EXP-1/a": "a",
    "key:exp-1/a": "",
    "key:EXP-1/": "a",
    "key:EXP-1": "",
    "key:EXP*": "b, a",
    "key:\U0010ffff\U0010ffff*": "",
    "name:a": "a",
    "name:exp": "",
    "size:<=10": "a",
    "size:[11 TO *]": "b, c",
    "size:>9999999999TB": "",
    "user_meta:*": "b, a",
    "user_meta:hela": "a",
    "user_meta.n:37": "b, a",
    "user_meta.n:'37'": "b",
    "user_meta.n:=37.0": "a",
    "user_meta.ok:true": "a",
    "user_meta.ok:false": "",
    "user_meta.gap:null": "a",
    "user_meta.gap:*": "a",
    "user_meta.cell:hela": "a",
    "user_meta.cell:he*": "a",
    "user_meta.cell:=hela": "",
    "user_meta.cell:=HeLa": "a",
    "user_meta.Cell:hela": "",
    "user_meta.day:>2026-01": "a",
    "user_meta.day:[2026-02-01 TO 2026-02-01]": "a",
    "user_meta.day:<2026-02-01": "",
    "user_meta.day:>5": "",
    "user_meta.n:>36.9": "a",
    "user_meta.n:{37 TO *}": "",
    "user_meta.gates.id:2": "a",
    "user_meta.gates:*": "a",
    "user_meta.'a.b':1": "b",
    "user_meta.a.b:1": "",
    "user_meta.big:9007199254740993": "b",
    "user_meta.big:9007199254740992": "",
    "donor": "b",
    "fox OR hela": "a, c",
    "fo* -hela": "c",
    "(fox OR hela) (kind:flow OR size:>10)": "a, c",
    "fox hela": "",
    "to do": "a",
    "'do second'": "",
}


@pytest.mark.parametrize(("query", "expected"), FOUND.items(), ids=FOUND)
def test_a_query_finds_these(tx: Connection, query: str, expected: str) -> None:
    day = 86_400_000_000
    add(
        tx,
        Made(
            key="EXP-1/a", kind="FLOW", format="fcs", size=10, tags=["To do", "second"], created_at=2 * day,
            meta={
                "n": 37, "cell": "HeLa", "ok": True, "gap": None, "day": "2026-02-01", "gates": [{"id": 1}, {"id": 2}],
            },
        ),
        Made(
            key="EXP-É/b", format="csv", size=20, author="Éva", tags=["qc"], created_at=3 * day,
            meta={"n": "37", "donor": "D1", "a.b": 1, "big": 2**53 + 1},
        ),
        Made(key="c", size=30, content="fox", created_at=day),
        Made(key="EXP-1/other workspace", workspace_id=2, content="fox", meta={"n": 37}, tags=["qc"], kind="FLOW"),
        Made(key="EXP-1/deleted", deleted=True, kind="FLOW"),
    )  # fmt: skip

    # Ranking orders some of these otherwise; what is found is the matter here.
    found = sorted(name_of(key) for key in keys(tx, query))
    assert ", ".join(found) == ", ".join(sorted(expected.split(", ")))
    if not re.search("fox|hela$|donor|^to do|^name:", query):
        assert [name_of(key) for key in keys(tx, query)] == (expected.split(", ") if expected else [])


@pytest.mark.parametrize("query", ["kind:(flow", "nosuch:x"])
def test_65_a_query_that_cannot_be_read_never_reaches_the_index(query: str) -> None:
    with pytest.raises(SearchSyntaxError):
        parse(query)


def test_66_a_key_is_found_as_it_stands(tx: Connection) -> None:
    add(tx, Made(key="EXP-12/cells.fcs"), Made(key="EXP-12/other.fcs"), Made(key="EXP-120/cells.fcs"))

    assert keys(tx, "EXP-12/cells.fcs") == ["EXP-12/cells.fcs"]


def test_removed_assets_are_not_found(tx: Connection) -> None:
    add(tx, Made(key="a", content="fox", meta={"n": 1}, tags=["qc"]), Made(key="b", content="fox"))

    search(tx).remove(tx, [1, 99])

    assert keys(tx, "fox") == ["b"]
    for table in ("attributes", "documents"):
        assert tx.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE asset_id = 1").scalar() == 0
    assert keys(tx, "user_meta:*") == keys(tx, "tags:*") == []


def test_deleted_assets_are_not_found_even_while_they_are_in_the_index(tx: Connection) -> None:
    add(tx, Made(key="a", content="fox", tags=["qc"]))
    tx.execute(assets.update().values(deleted_at=1))

    assert keys(tx, "fox") == keys(tx, "tags:qc") == keys(tx, "") == []
    assert count(tx, "").total == 0


def test_an_empty_batch_changes_nothing(tx: Connection) -> None:
    search(tx).index(tx, [])
    search(tx).remove(tx, [])

    assert count(tx, "").total == 0
    assert search(tx).contents_of(tx, [1]) == {}


# Order, pages and excerpts


def test_text_ranks_by_relevance_and_a_name_counts_most(tx: Connection) -> None:
    filler = "something else entirely " * 20
    add(
        tx,
        Made(key="content", content="fox " + filler),
        Made(key="fox.txt", content=filler),
        Made(key="meta", meta={"animal": "fox"}, content=filler),
        *(Made(key=f"none{n}", content=filler) for n in range(10)),
    )

    assert keys(tx, "fox") == ["fox.txt", "meta", "content"]


def test_filters_alone_and_equal_relevance_go_newest_first(tx: Connection) -> None:
    add(
        tx,
        Made(key="old", created_at=1, content="fox"),
        Made(key="new", created_at=3, content="fox"),
        Made(key="mid", created_at=2, content="fox"),
        Made(key="mid2", created_at=2, content="fox"),
    )

    assert keys(tx, "") == keys(tx, "fox") == keys(tx, "fox OR kind:other") == ["new", "mid2", "mid", "old"]


@pytest.mark.parametrize("query", ["", "fox", "fox OR kind:other", "-zebra", "kind:other", "user_meta.n:>=0", "fo* (a OR b)"])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_make_up_the_whole_result_in_its_order(tx: Connection, query: str, limit: int) -> None:
    add(
        tx,
        *(
            Made(key=f"{n % 3}/{n}", created_at=n % 5, content="fox " * (n % 4 + 1) + "b" * (n % 2), meta={"n": n})
            for n in range(23)
        ),
    )

    whole = hits(tx, query)
    assert hits(tx, query, limit=limit) == whole
    assert len({hit.asset_id for hit in whole}) == len(whole) == count(tx, query).total


def test_a_page_goes_on_where_the_last_one_ended_though_newer_assets_came(tx: Connection) -> None:
    add(tx, *(Made(key=f"{n}", created_at=n) for n in range(6)))
    first = search(tx).find(tx, Everything(), workspace_id=1, experiments=None, limit=3, after=None)
    add(tx, Made(key="newer", created_at=100))

    rest = search(tx).find(tx, Everything(), workspace_id=1, experiments=None, limit=3, after=first.next)

    assert [hit.asset_id for hit in first.hits + rest.hits] == [6, 5, 4, 3, 2, 1]
    assert rest.next is None


BAD_CURSORS = [
    "", "x", "é", "!!!!", "W10", *(
        base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
        for value in ([None, 1], [0.5, 1, 2], [None, "1", 2], [None, 2**70, 1], {"a": 1}, [None, 1, 1, 1])
    ),
]  # fmt: skip


@pytest.mark.parametrize("cursor", BAD_CURSORS)
def test_a_cursor_from_elsewhere_is_refused(tx: Connection, cursor: str) -> None:
    with pytest.raises(InvalidRequestError, match="this cursor is not from this search"):
        search(tx).find(tx, Everything(), workspace_id=1, experiments=None, limit=3, after=cursor)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1", "null"])
def test_a_cursor_with_an_impossible_score_is_refused(tx: Connection, score: str) -> None:
    cursor = base64.urlsafe_b64encode(f"[{score}, 1, 1]".encode()).decode()

    with pytest.raises(InvalidRequestError):
        search(tx).find(tx, parse("fox"), workspace_id=1, experiments=None, limit=3, after=cursor)


@pytest.mark.parametrize(
    ("query", "field", "snippet"),
    [
        ("plate", "name", "**Plate**1.csv"),
        ("exp", "key", "**EXP**-12/Plate1.csv"),
        ("urgent", "tags", "**Urgent** run"),
        ("user_meta.cell:hela", "meta", "cell: **HeLa** S3"),
        ("user_meta:hela", "meta", "cell: **HeLa** S3"),
        ("crème", "content", "a **creme** b"),
        ("name:plate*", "name", "**Plate1**.csv"),
        ("kind:other", None, None),
        ("-zebra", None, None),
        ("zebra OR kind:other", None, None),
    ],
)
def test_a_hit_says_where_it_matched(tx: Connection, query: str, field: str | None, snippet: str | None) -> None:
    add(tx, Made(key="EXP-12/Plate1.csv", tags=["qc", "Urgent run"], meta={"n": 1, "cell": "HeLa S3"}, content="a creme b"))
    if query == "plate":
        query = "plate*"
        snippet = "**Plate1**.csv"

    assert hits(tx, query) == [Hit(1, field, snippet)]


def test_the_excerpts_of_a_page_read_only_so_much(tx: Connection) -> None:
    add(tx, *(Made(key=f"{n}", content="long " * 50_000 + "fox") for n in range(20)))

    fields = Counter(hit.field for hit in hits(tx, "fox"))

    assert fields["content"] == 17
    assert fields[None] == 3


# Who sees what


def test_69_total_facets_and_pages_agree_for_each_of_three_users(tx: Connection) -> None:
    add(
        tx,
        Made(key="EXP-1/a", kind="FLOW", format="fcs", tags=["qc", "old"]),
        Made(key="EXP-1/b", kind="TABLE", format="csv", tags=["qc"]),
        Made(key="EXP-2/c", kind="FLOW", format="fcs"),
        Made(key="d", kind="TABLE", format="csv", tags=["secret"]),
    )

    assert count(tx, "") == (
        4, {"FLOW": 2, "TABLE": 2}, {"fcs": 2, "csv": 2}, {"EXP-1": 2, "EXP-2": 1}, {"qc": 2, "old": 1, "secret": 1},
    )  # fmt: skip
    assert count(tx, "", ["EXP-1"]) == (2, {"FLOW": 1, "TABLE": 1}, {"fcs": 1, "csv": 1}, {"EXP-1": 2}, {"qc": 2, "old": 1})
    assert count(tx, "", []) == (0, {}, {}, {}, {})
    assert keys(tx, "", experiments=["EXP-1"], limit=1) == ["EXP-1/b", "EXP-1/a"]
    assert keys(tx, "", experiments=[]) == []


@pytest.mark.parametrize("query", ["fox", "-zebra", "user_meta.n:1", "tags:qc", "kind:other", "key:EXP*", "experiment:exp-2"])
def test_no_query_reaches_beyond_the_callers_experiments(tx: Connection, query: str) -> None:
    add(
        tx,
        *(Made(key=f"{folder}x", content="fox", meta={"n": 1}, tags=["qc"]) for folder in ("EXP-1/", "EXP-2/", "")),
        Made(key="EXP-1/x", content="fox", meta={"n": 1}, tags=["qc"], workspace_id=2),
    )

    assert keys(tx, query, experiments=["EXP-1"]) == ([] if query == "experiment:exp-2" else ["EXP-1/x"])


def test_many_experiments_are_one_bound_parameter(tx: Connection) -> None:
    add(tx, Made(key="EXP-1/a"))

    assert keys(tx, "", experiments=[f"EXP-{n}" for n in range(100_000)]) == ["EXP-1/a"]


def test_an_unknown_path_has_a_note_that_names_what_the_caller_may_see(tx: Connection) -> None:
    add(
        tx, Made(key="EXP-1/a", meta={"temperature": 1, "cell line": 1}), Made(key="EXP-2/b", meta={"temperatur": 1, "secret": 1})
    )

    def notes(query: str, experiments: list[str] | None = None) -> tuple[str, ...]:
        return search(tx).notes(tx, parse(query), workspace_id=1, experiments=experiments)

    assert notes("user_meta.temperature:1 fox") == ()
    assert notes("user_meta.temperaturr:1", ["EXP-1"]) == ("no asset has metadata at 'temperaturr'; nearest: 'temperature'",)
    assert notes("-user_meta.secret:* OR user_meta.x.y:>1", ["EXP-1"]) == (
        "no asset has metadata at 'secret'",
        "no asset has metadata at 'x.y'",
    )
    assert notes("user_meta.secrets:1") == ("no asset has metadata at 'secrets'; nearest: 'secret'",)
    assert notes("user_meta.tags:1") == ("no asset has metadata at 'tags'",)
    assert keys(tx, "user_meta.secrets:1") == []


# What must not get through

HOSTILE = [
    '"', '""', "'; DROP TABLE words; --", "a\" OR name:\"b", "a NEAR b", "NEAR(a b)", "a + b", "^a", "{name}: a", "a\0b", "\0",
    "name : a", "(((", "a*", "\\", "%", "_", "words MATCH 'x'", "-rowid", "a AND", "ﷺ", "\ue000", "user_meta.a\0:x",
    "key:'\0'", "user_meta.\"'\":\"\\\"\"", "tags:\"'\"", "sha256:'%'", "1) UNION SELECT 1,2,3,4,5,6 --", "\ufeff", "a\u200db",
    "key:\ud7ff*", "key:\U0010ffff\U0010ffff*",
]  # fmt: skip


@pytest.mark.parametrize("typed", HOSTILE)
def test_what_looks_like_sql_or_fts5_is_text(tx: Connection, typed: str) -> None:
    add(tx, Made(key="a", content="plain"), Made(key="b", content="words"))
    escaped = typed.replace("\\", "\\\\").replace('"', '\\"')
    queries = [
        typed,
        f'"{escaped}"',
        f'key:"{escaped}"',
        f'tags:"{escaped}"',
        f'user_meta.x:="{escaped}"',
        f'user_meta."{escaped}":x',
    ]

    for query in queries:
        try:
            tree = parse(query)
        except SearchSyntaxError:
            continue
        total = count(tx, tree).total
        assert len(hits(tx, tree)) == total

    assert count(tx, "").total == 2


@given(query=st.text(alphabet=st.sampled_from("ab*\"'-:()\0[]{}^+ ;%_\\éANDORTkeynamtgs"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_typed_the_database_never_complains(tx: Connection, query: str) -> None:
    try:
        tree = parse(query)
    except SearchSyntaxError:
        return
    assert len(hits(tx, tree)) == count(tx, tree).total


BIG = {
    "words": " ".join(f"w{n}" for n in range(MAX_TERMS)),
    "alternatives": " OR ".join(f"w{n}" for n in range(MAX_TERMS)),
    "excluded": " ".join(f"-w{n}" for n in range(MAX_TERMS)),
    "filters": " OR ".join(f"kind:k{n}" for n in range(MAX_TERMS)),
    "tags": " ".join(f"tag:t{n}" for n in range(MAX_TERMS)),
    "numbers": " OR ".join(f"meta.a:{n}" for n in range(MAX_TERMS)),
    "authors": " OR ".join(f"author:{n:03}*" for n in range(MAX_TERMS)),
    "nested": "(a OR -" * (MAX_LEVELS // 2) + "b" + ")" * (MAX_LEVELS // 2),
    "nested nots": "-(" * (MAX_LEVELS // 2) + "a tag:b OR size:>1" + ")" * (MAX_LEVELS // 2),
    "nested filters": "(tag:a OR size:>1 experiment:b (tag:b size:<1 " * (MAX_LEVELS // 2) + "tag:c" + "))" * (MAX_LEVELS // 2),
    "one word": "x" * 4000,
    "one phrase": '"' + "x " * 2000 + '"',
}


@pytest.mark.parametrize("query", BIG.values(), ids=BIG)
def test_the_largest_queries_are_answered(tx: Connection, query: str) -> None:
    add(tx, Made(key="a"))

    assert len(hits(tx, query)) == count(tx, query).total
    assert search(tx).notes(tx, parse(query), workspace_id=1, experiments=["x"]) is not None


# Which index answers


def plan(tx: Connection, statement: Executable) -> str:
    compiled = cast(Any, statement).compile(dialect=dialect.dialect())
    values = tuple(compiled.params[name] for name in compiled.positiontup)
    return "\n".join(row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values))


PLANS = {
    "": "SEARCH versions USING INDEX versions_by_age (created_at>? AND created_at<?)",
    "kind:flow": "SEARCH versions USING INDEX versions_by_age (created_at>? AND created_at<?)",
    "-fox": "SEARCH versions USING INDEX versions_by_age (created_at>? AND created_at<?)",
    "created:2026": "SEARCH versions USING INDEX versions_by_age (created_at>? AND created_at<?)",
    "fox": "SCAN words VIRTUAL TABLE INDEX 0:M6",
    "user_meta.a:x": "SCAN words VIRTUAL TABLE INDEX 0:M6",
    "user_meta.a:=x": "SEARCH attributes USING PRIMARY KEY (workspace_id=? AND path=? AND type=? AND number=? AND text=?)",
    "user_meta.a:>5": "SEARCH attributes USING PRIMARY KEY (workspace_id=? AND path=? AND type=? AND number>?)",
    "user_meta.a:[1 TO 5]": "PRIMARY KEY (workspace_id=? AND path=? AND type=? AND number>? AND number<?)",
    "user_meta.a:*": "SEARCH attributes USING PRIMARY KEY (workspace_id=? AND path=?)",
    "tags:qc": "SEARCH attributes USING PRIMARY KEY (workspace_id=? AND path=? AND type=? AND number=? AND text=?)",
    "key:EXP-1/": "SEARCH assets USING INDEX sqlite_autoindex_assets_1 (workspace_id=? AND key>? AND key<?)",
    "key:EXP-1/a": "SEARCH assets USING INDEX sqlite_autoindex_assets_1 (workspace_id=? AND key=?)",
    "experiment:exp-1": "SEARCH assets USING INDEX assets_by_experiment (workspace_id=? AND experiment=?)",
    "sha256:abc": "SEARCH named USING INDEX blobs_by_sha256 (sha256=?)",
}


@pytest.mark.parametrize("experiments", [None, ["EXP-1"]], ids=["all", "some"])
@pytest.mark.parametrize(("query", "step"), PLANS.items(), ids=PLANS)
def test_a_query_is_answered_by_its_index(on_sqlite: Connection, query: str, step: str, experiments: list[str] | None) -> None:
    tree = parse(query)
    page, _ = search(on_sqlite).page(on_sqlite, tree, workspace_id=1, experiments=experiments, limit=100, after=None)
    groups = search(on_sqlite).groups(on_sqlite, tree, workspace_id=1, experiments=experiments)
    ranked = search(on_sqlite).ranked(on_sqlite, tree, workspace_id=1, experiments=experiments, limit=100)

    if ranked is not None:
        found = plan(on_sqlite, ranked)
        assert found.count(step) == 1  # of one list of hits both the page and the counts are made
        assert not re.search("SCAN (assets|versions)", found)
    if "versions_by_age" in step and experiments:
        step = "SEARCH assets USING INDEX assets_by_experiment (workspace_id=? AND experiment=?)"
    assert step in plan(on_sqlite, page)
    assert "SCAN assets" not in plan(on_sqlite, page)
    assert "SCAN versions" not in plan(on_sqlite, page)
    if "versions_by_age" not in step:
        assert step in plan(on_sqlite, groups)
        assert "SCAN assets" not in plan(on_sqlite, groups)


def test_counting_leaves_out_the_tables_that_no_condition_needs(on_sqlite: Connection) -> None:
    groups = search(on_sqlite).groups(on_sqlite, parse("kind:flow fox"), workspace_id=1, experiments=None)

    assert not re.search("versions|blobs", plan(on_sqlite, groups))


def test_replacing_and_removing_go_by_index(on_sqlite: Connection) -> None:
    for table in ("attributes", "documents", "words"):
        column = "rowid" if table == "words" else "asset_id"
        found = on_sqlite.exec_driver_sql(
            f"EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each('[1]'))"
        ).all()
        assert found[0][3] in (
            "SEARCH attributes USING COVERING INDEX attributes_by_asset (asset_id=?)",
            "SEARCH documents USING INTEGER PRIMARY KEY (rowid=?)",
            "SCAN words VIRTUAL TABLE INDEX 0:=",
        )


# Equal to a filter written another way


def said(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every (path, value) of metadata, paths joined by slashes; no key of the corpus has one."""

    def walk(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        for item in value if isinstance(value, list) else [value]:
            if path:
                yield path, item
            if isinstance(item, dict):
                for key, part in item.items():
                    yield from walk((*path, key), part)
            elif isinstance(item, list):
                yield from walk(path, item)
        if isinstance(value, list):
            yield path, value

    for path, item in walk((), value):
        yield "." + ".".join(part.replace(".", "\\.") for part in path), item


def fold(text: str) -> list[str]:
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain)


def beside(text: str, words: Sequence[str], prefix: bool) -> bool:
    found = fold(text)
    for at in range(len(found) - len(words) + 1):
        part = found[at : at + len(words)]
        if part[:-1] == list(words[:-1]) and (part[-1].startswith(words[-1]) if prefix else part[-1] == words[-1]):
            return True
    return False


def texts(made: Made, where: str) -> Iterator[str]:
    if where in ("text", "name"):
        yield name_of(made.key)
    if where == "text":
        yield made.key
        yield from made.tags
        yield made.content
    if where in ("text", "meta"):
        for path, value in said(made.meta):
            last = path.rpartition(".")[2]
            if isinstance(value, dict | list):
                yield last
            else:
                shown = value if isinstance(value, str) else json.dumps(value)
                yield last
                yield shown


def instant(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def fits(made: Made, tree: Tree) -> bool:
    """Whether *tree* holds for an asset, without any index."""
    match tree:
        case Everything():
            return True
        case All(items):
            return all(fits(made, item) for item in items)
        case AnyOf(items):
            return any(fits(made, item) for item in items)
        case Not(item):
            return not fits(made, item)
        case Words(where, term):
            return any(beside(text, term.words, term.prefix) for text in texts(made, where))
        case Has("experiment"):
            return made.experiment is not None
        case Has("tags"):
            return bool(made.tags)
        case Has():
            return bool(made.meta)
        case Value("tags", value):
            return value in [tag.casefold() for tag in made.tags]
        case Value("key", value, prefix):
            return made.key.startswith(value) if prefix else made.key == value
        case Value(where, value, prefix):
            own = getattr(made, where)
            return own is not None and (own.casefold().startswith(value) if prefix else own.casefold() == value)
        case Between(where, low, high):
            number = made.size if where == "size" else made.created_at
            return (low is None or number >= low) and (high is None or number <= high)
    values = [value for path, value in said(made.meta) if path == tree.path]
    match tree:
        case MetaHas():
            return bool(values)
        case MetaWords(_, term):
            return any(isinstance(value, str) and beside(value, term.words, term.prefix) for value in values)
        case MetaIs(_, wanted):
            return any(
                value is None if wanted.type == "null"
                else isinstance(value, bool) and value == bool(wanted.number) if wanted.type == "boolean"
                else isinstance(value, int | float) and not isinstance(value, bool) and value == wanted.number
                if wanted.type == "number"
                else isinstance(value, str) and value == wanted.text
                for value in values
            )  # fmt: skip
        case MetaBetween(_, kind, low_, high_):
            if kind == "number":
                numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
            else:
                numbers = [m for v in values if isinstance(v, str) and (m := instant(v)) is not None]
            return any((low_ is None or n >= low_) and (high_ is None or n <= high_) for n in numbers)


SOME_WORDS = ["fox", "Füchse", "foxes", "cd3", "CD3-FITC", "37", "old", "qc"]
PATHS = ["temp", "cell", "cell.name", "when", "day.at"]
texts_ = st.lists(st.sampled_from(SOME_WORDS), max_size=3).map(" ".join)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.sampled_from([0.5, 36.6, 37.0, -1e300]), texts_,
    st.sampled_from(["2026-01-31", "2026-02-01", "2026-02-01T10:30:00Z", "2025-12-31T23:59:59", "37", "true", "null"]),
)  # fmt: skip
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["name", "at"]), scalars, max_size=2))
metas = st.dictionaries(st.sampled_from(["temp", "cell", "when", "day"]), values, max_size=3)
corpora = st.lists(
    st.builds(
        Made,
        key=st.sampled_from(["", "EXP-1/", "exp-1/", "EXP-12/raw/", "Füchse/"]).flatmap(
            lambda folder: st.sampled_from(["a.csv", "fox.fcs", "CD3-FITC.fcs", "37"]).map(lambda name: folder + name)
        ),
        meta=metas,
        tags=st.lists(st.sampled_from(["qc", "old", "QC", "to do", "Füchse"]), max_size=2, unique_by=str.casefold),
        content=texts_,
        kind=st.sampled_from(["FLOW", "TABLE"]),
        format=st.sampled_from(["fcs", "csv"]),
        author=st.sampled_from(AUTHORS),
        size=st.sampled_from([0, 999, 1000, 1001, 1_000_000]),
        created_at=st.sampled_from(["2025-12-31T23:59:59.999999", "2026-01-01", "2026-01-31T12:00:00", "2026-02-01"]).map(
            lambda text: cast(int, instant(text))
        ),
        deleted=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda made: made.key,
)
terms = [
    "fox", "fo*", "'cd3 fitc'", "CD3-F*", "fuchse", "name:fox", "name:37", "37", "temp", "*", "text:old", "user_meta:qc",
    "kind:flow", "kind:ta*", "format:CSV", "experiment:exp-1", "experiment:EXP*", "experiment:füchse", "experiment:*",
    "author:ADA", "author:éva", "author:év*", "tags:qc", "tags:'to do'", "tags:old", "tags:*", "tags:füchse", "key:EXP-1/",
    "key:EXP-1*", "key:37", "key:fox.fcs", "size:1kB", "size:>1kB", "size:<=999", "size:{999 TO 1001}", "size:[* TO 1MB]",
    "created:2026", "created:>2026-01-01", "created:[2026-01 TO 2026-01]", "created:{2025 TO 2026-02}", "user_meta:*",
    "created:<2026-01-31T12:00", "size:(>0 <1MB)", "kind:(flow OR table)",
] + [
    f"user_meta.{path}:{value}"
    for path in PATHS
    for value in (
        "*", "fox", "fo*", "'cd3 fitc'", "37", "'37'", "=37", "='fox'", "true", "null", "false", ">30", "<=36.6", "[0 TO 37]",
        "{0 TO 37}", ">2026-01", "<=2026-01-31", "[2025 TO *]", "[2026-02-01 TO 2026-02-01]", "0.5", "-1e300", "(fox OR 37)",
    )
]  # fmt: skip
queries = st.recursive(
    st.sampled_from(terms),
    lambda parts: st.one_of(
        st.tuples(parts, parts).map(" AND ".join).map("({})".format),
        st.tuples(parts, parts, parts).map(" ".join).map("({})".format),
        st.tuples(parts, parts).map(" OR ".join).map("({})".format),
        parts.map("NOT {}".format),
        parts.map("-{}".format),
    ),
    max_leaves=8,
)


def newest_first(corpus: Collection[Made]) -> list[int]:
    return [made.id for made in sorted(corpus, key=lambda made: (made.created_at, made.id), reverse=True)]


@given(corpus=corpora, asked=st.lists(queries, min_size=1, max_size=4), experiments=st.none() | st.just(["EXP-1", "Füchse"]))
@settings(max_examples=100, deadline=None)
def test_63_every_query_equals_a_brute_force_filter(corpus: list[Made], asked: list[str], experiments: list[str] | None) -> None:
    with opened() as tx:
        add(tx, *corpus)
        for query in ["kind:flow AND NOT (tags:qc OR tags:old)", *asked]:
            tree = parse(query)
            expected = [
                made
                for made in corpus
                if not made.deleted and (experiments is None or made.experiment in experiments) and fits(made, tree)
            ]
            found = hits(tx, tree, experiments=experiments, limit=2)
            counts = count(tx, tree, experiments)

            assert sorted(hit.asset_id for hit in found) == sorted(made.id for made in expected), query
            assert counts.total == len(expected), query
            assert counts.kind == Counter(made.kind for made in expected)
            assert counts.format == Counter(made.format for made in expected)
            assert counts.experiment == Counter(made.experiment for made in expected if made.experiment)
            assert counts.tags == Counter(tag for made in expected for tag in made.tags)
            if all(hit.field is None for hit in found) and "fo" not in query:
                ranked = search(tx).page(tx, tree, workspace_id=1, experiments=None, limit=1, after=None)[1]
                assert ranked or [hit.asset_id for hit in found] == newest_first(expected), query


# The same on both databases


def answers(tx: Connection, query: str, experiments: list[str] | None, limit: int = 2) -> Any:
    notes = search(tx).notes(tx, parse(query), workspace_id=1, experiments=experiments)
    return hits(tx, query, experiments=experiments, limit=limit), count(tx, query, experiments), notes


@given(corpus=corpora, asked=st.lists(queries, min_size=1, max_size=4), experiments=st.none() | st.just(["EXP-1", "Füchse"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_64_every_query_is_answered_alike_on_both_databases(
    searched: Engine, corpus: list[Made], asked: list[str], experiments: list[str] | None
) -> None:
    with opened() as one, searched.connect() as other:
        add(one, *corpus)
        add(other, *corpus)
        for query in asked:
            assert answers(one, query, experiments) == answers(other, query, experiments), query
        other.rollback()


WORDS = [
    "cell", "fox", "plate", "donor", "sample", "control", "stain", "buffer", "spectrum", "CD3-FITC", "HeLa", "2026", "37", "the",
    "of", "Füchse",
]  # fmt: skip


@pytest.fixture(scope="module")
def both(searched: Engine) -> Iterator[tuple[Connection, Connection]]:
    """One corpus with texts of many lengths, in both databases."""
    chance = random.Random(64)

    def text(most: int) -> str:
        return " ".join(chance.choices(WORDS, weights=range(len(WORDS), 0, -1), k=chance.randint(0, most)))

    corpus = [
        Made(
            key=f"EXP-{number % 7}/{text(2).replace(' ', '_')}{number}.txt",
            tags=[text(2) for _ in range(chance.randint(0, 2))],
            meta={"note": text(20), "n": number, "donor": {"name": text(3)}, "list": [text(2), text(2)]},
            content=text(chance.choice([0, 10, 100, 100, 2000])),
            created_at=1_767_225_600_000_000 + number % 50,
        )
        for number in range(100)
    ]
    corpus += [
        Made(key="long.txt", content=" ".join(f"w{number}" for number in range(40_000)) + " fox"),
        Made(key="same.txt", content="nan " * 5000 + "the end"),
        Made(key="wide.txt", meta={f"k{number}": f"{number:040}" for number in range(15_000)}),
    ]
    with opened() as one, searched.connect() as other:
        add(one, *corpus)
        add(other, *corpus)
        yield one, other
        other.rollback()


@pytest.mark.parametrize(
    "query",
    [
        *WORDS, "cell fox", "the of", "cell OR fox OR donor", "'cell fox'", "fo* the", "ce* OR 'the cell' OR 37", "-cell the",
        "name:cell the", "name:fox* OR donor", "user_meta.note:'fox plate'", "user_meta.donor.name:ce*", "tags:cell",
        "fox tags:*", "'cd3 fitc' cell", "cell n", "user_meta:donor", "user_meta:'donor name' OR name:plate", "w15990",
        "'w15999 w16000 w16001'", "'w31990 w31991 w31992 w31993'",
        "fox w7", "nan", "'nan nan'", "'nan the end'", "nan the", "user_meta.k14999:00*",
        "0000000000000000000000000000000000014999", "user_meta.k14998:0000000000000000000000000000000000014998", "w1* end",
        "user_meta.k7:'0000000000000000000000000000000000000007' k14000",
    ],
)  # fmt: skip
def test_64_texts_of_all_lengths_are_found_and_ranked_alike(both: tuple[Connection, Connection], query: str) -> None:
    one, other = both

    assert answers(one, query, None, 100) == answers(other, query, None, 100)
    assert answers(one, query, ["EXP-1", "EXP-2"], 10) == answers(other, query, ["EXP-1", "EXP-2"], 10)
