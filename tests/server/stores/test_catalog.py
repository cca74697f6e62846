"""What every catalog must do, on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, UniqueConstraint, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from epista.contract.errors import ConflictError, SettingsError, UnavailableError
from epista.server.stores import activities, migrations, people
from epista.server.stores.catalog import Catalog
from epista.server.stores.columns import restored, without_nul
from epista.server.stores.postgres import PostgresCatalog
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.tables import assets, experiments, metadata, tellings, users, workspaces
from tests.postgres import Postgres

Opener = Callable[[], Catalog]


@pytest.fixture(params=["sqlite", "postgres"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Return a function that opens the test's catalog, as one more process would."""
    if request.param == "sqlite":
        yield lambda: SqliteCatalog(tmp_path / "lab.db")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create()
    yield lambda: PostgresCatalog(postgres.url(name), connections=8)
    postgres.drop(name)


@pytest.fixture
def catalog(another: Opener) -> Iterator[Catalog]:
    opened = another()
    opened.open()
    yield opened
    opened.close()


def add(name: str) -> Callable[[Connection], int]:
    return lambda tx: people.add_user(tx, uid=f"us_{name}", name=name, is_lab_admin=False, at=2**60)


def names(catalog: Catalog) -> list[str]:
    with catalog.read() as tx:
        return list(tx.execute(select(users.c.name).order_by(users.c.name)).scalars())


def test_what_was_written_is_there_when_write_returns(catalog: Catalog, another: Opener) -> None:
    catalog.write(add("ada"))

    with closing(another()) as other:
        assert names(catalog) == names(other) == ["ada"]


def test_a_write_that_fails_leaves_nothing_and_takes_no_other_along(catalog: Catalog) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(tx: Connection) -> None:
        started.set()
        go_on.wait(30)

    def fail(tx: Connection) -> None:
        add("lost")(tx)
        raise ConflictError("no")

    def twice(tx: Connection) -> None:
        add("lost")(tx)
        add("lost")(tx)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(catalog.write, wait)
        assert started.wait(30)
        # These gather meanwhile, and share one transaction.
        together: list[Callable[[Connection], Any]] = [add("ada"), fail, add("bob"), twice, add("eve")]
        others = [pool.submit(catalog.write, work) for work in together]
        time.sleep(0.2)
        go_on.set()
        outcomes = [one.exception() for one in (first, *others)]

    assert [type(outcome) for outcome in outcomes] == [
        type(None), type(None), ConflictError, type(None), IntegrityError, type(None),
    ]  # fmt: skip
    assert names(catalog) == ["ada", "bob", "eve"]


def test_a_read_is_one_view_while_others_write(catalog: Catalog) -> None:
    catalog.write(add("ada"))

    with catalog.read() as tx:
        before = tx.execute(select(func.count()).select_from(users)).scalar()
        catalog.write(add("bob"))
        after = tx.execute(select(func.count()).select_from(users)).scalar()

    assert (before, after) == (1, 1)
    assert names(catalog) == ["ada", "bob"]


def test_a_read_cannot_write(catalog: Catalog) -> None:
    with pytest.raises((DBAPIError, UnavailableError)), catalog.read() as tx:
        add("ada")(tx)

    assert names(catalog) == []


def test_what_a_write_reads_stays_true_until_it_has_written(catalog: Catalog, another: Opener) -> None:
    """Two processes count up what they read; SQLite and PostgreSQL lose no step."""
    catalog.write(lambda tx: tx.execute(insert(workspaces).values(uid="w", name="w", created_at=0)))
    other = another()
    other.open()

    def count_up(tx: Connection) -> None:
        found = tx.execute(select(workspaces.c.created_at)).scalar_one()
        tx.execute(update(workspaces).values(created_at=found + 1))

    with ThreadPoolExecutor(16) as pool:
        for one in [pool.submit(which.write, count_up) for _ in range(100) for which in (catalog, other)]:
            one.result(60)
    other.close()

    with catalog.read() as tx:
        assert tx.execute(select(workspaces.c.created_at)).scalar() == 200


def test_of_two_processes_that_add_what_may_be_there_once_one_adds_it(catalog: Catalog, another: Opener) -> None:
    other = another()
    other.open()

    def once(tx: Connection) -> bool:
        if people.user(tx, "ada"):
            return False
        add("ada")(tx)
        return True

    with ThreadPoolExecutor(8) as pool:
        done = [one.result(60) for one in [pool.submit(which.write, once) for _ in range(20) for which in (catalog, other)]]
    other.close()

    assert sorted(done) == [False] * 39 + [True]


def test_writes_after_close_are_refused(catalog: Catalog, another: Opener) -> None:
    other = another()
    other.open()
    other.close()

    with pytest.raises(UnavailableError, match="the server is stopping"):
        other.write(add("ada"))


@pytest.mark.parametrize("text", ["\0", "a\0b", "\1", "\0\1\2\1\0", "\1\1\2", "\1\2", "plain", ""])
def test_any_text_comes_back_as_it_was(catalog: Catalog, text: str) -> None:
    catalog.write(add("ada"))
    row = {"number": "n", "meta": "{}", "described": True, "created_at": 0, "created_by": 1, "workspace_id": 1}
    catalog.write(lambda tx: tx.execute(insert(workspaces).values(uid="w", name="w", created_at=0)))

    catalog.write(lambda tx: tx.execute(insert(experiments).values(row | {"name": "e", "title": text})))

    with catalog.read() as tx:
        assert tx.execute(select(experiments.c.title)).scalars().all() == [text]
        assert tx.execute(select(experiments.c.id).where(experiments.c.title == text)).all() == [(1,)]
        assert people.user(tx, text) is None


def test_texts_without_nul_stay_different() -> None:
    texts = ["".join(chars) for chars in itertools.product("\0\1\2a", repeat=5)]

    assert len({without_nul(text) for text in texts}) == len(texts)
    assert [restored(without_nul(text)) for text in texts] == texts
    assert not any("\0" in without_nul(text) for text in texts)


def test_texts_are_ordered_by_code_point(catalog: Catalog) -> None:
    found = ["B", "a", "a-b", "a/b", "a0", "ab", "Ä", "é", "\uffff", "\U0001f600"]
    for name in reversed(found):
        catalog.write(add(name))

    assert names(catalog) == found == sorted(found)


def test_the_migrated_database_is_what_the_tables_say(catalog: Catalog) -> None:
    def described(tx: Connection) -> dict[str, object]:
        migrated = MetaData()
        migrated.reflect(tx)
        own = ("words", "word_counts", "alembic_version")
        return {
            table.name: (
                [(column.name, str(column.type), column.nullable) for column in table.columns],
                sorted(column.name for column in table.primary_key),
                sorted((index.name, tuple(index.columns.keys()), index.unique) for index in table.indexes),
                sorted(str(key.target_fullname) for key in table.foreign_keys),
                sorted(
                    tuple(column.name for column in constraint.columns)
                    for constraint in table.constraints
                    if isinstance(constraint, UniqueConstraint)
                ),
            )
            for table in migrated.sorted_tables
            if not table.name.startswith(own)
        }

    with catalog.read() as tx:
        found = described(tx)

    class Undone(Exception):
        pass

    made: dict[str, object] = {}

    def make(tx: Connection) -> None:
        tx.exec_driver_sql("DROP TABLE IF EXISTS words")
        metadata.drop_all(tx)
        metadata.create_all(tx)
        made.update(described(tx))
        raise Undone

    with pytest.raises(Undone):
        catalog.write(make)
    assert found == made


def test_assets_of_an_older_catalog_get_the_stems_of_their_names(another: Opener) -> None:
    older: Any = another()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with older._writers.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0009")
        tx.exec_driver_sql("INSERT INTO workspaces (id, uid, name, created_at) VALUES (1, 'ws', 'lab', 0)")
        for number, name in enumerate(("Counts.csv.gz", "plain", "GRÖSSE.parquet"), start=1):
            tx.exec_driver_sql(
                "INSERT INTO assets (id, uid, workspace_id, key, name, kind, format, head_id) "
                f"VALUES ({number}, 'as{number}', 1, 'EXP-1/{name}', '{name}', 'TABLE', 'csv', 0)"
            )

    older.open()

    with older.read() as tx:
        assert tx.execute(select(assets.c.stem).order_by(assets.c.id)).scalars().all() == ["counts", "plain", "grösse"]
    older.close()


def test_what_was_told_of_older_activities_is_kept_once(another: Opener) -> None:
    older: Any = another()
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with older._writers.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0011")
        tx.exec_driver_sql("INSERT INTO users (id, uid, name, is_lab_admin, created_at) VALUES (1, 'us', 'ada', false, 0)")
        tx.exec_driver_sql("INSERT INTO workspaces (id, uid, name, created_at) VALUES (1, 'ws', 'lab', 0)")
        for number, told in enumerate(("one", "two", "one"), start=1):
            tx.exec_driver_sql(
                "INSERT INTO activities (id, uid, workspace_id, user_id, at, document) "
                f"VALUES ({number}, 'ac{number}', 1, 1, 0, '{told}')"
            )

    older.open()

    with older.read() as tx:
        assert {id: row["document"] for id, row in activities.get(tx, [1, 2, 3]).items()} == {1: "one", 2: "two", 3: "one"}
        assert tx.execute(select(func.count()).select_from(tellings)).scalar() == 2
    older.close()


def test_opening_again_and_at_once_is_fine(another: Opener) -> None:
    opened = [another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(one.open) for one in opened]:
            done.result(60)
    for one in opened:
        one.close()

    with closing(another()) as last:
        last.open()
        assert names(last) == []


@pytest.mark.parametrize("oldest", ["9998", None])
def test_a_catalog_of_a_newer_epista_that_is_not_compatible_is_refused(
    catalog: Catalog, another: Opener, oldest: str | None
) -> None:
    catalog.write(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    change = f"UPDATE compatibility SET oldest = '{oldest}'" if oldest else "DROP TABLE compatibility"
    catalog.write(lambda tx: tx.exec_driver_sql(change))

    with closing(another()) as other, pytest.raises(SettingsError, match="newer Epista"):
        other.open()


def test_an_older_server_goes_on_with_what_a_newer_one_has_added(catalog: Catalog, another: Opener) -> None:
    """As in a rolling upgrade: one that runs never notices, one that starts again is told that it may."""
    newer = another()
    newer.open()
    newer.write(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    newer.write(lambda tx: tx.exec_driver_sql("CREATE TABLE added (a INTEGER)"))
    newer.close()

    catalog.write(add("ada"))
    with closing(another()) as again:
        again.open()
        again.write(add("bob"))

    assert names(catalog) == ["ada", "bob"]


def test_a_copy_is_a_catalog_of_its_own(catalog: Catalog, tmp_path: Path) -> None:
    catalog.write(add("ada"))
    (tmp_path / "copy").mkdir()

    catalog.copy_to(tmp_path / "copy" / "copy.db")
    catalog.write(add("bob"))

    copy = SqliteCatalog(tmp_path / "copy" / "copy.db")
    copy.open()
    assert names(copy) == ["ada"]
    copy.close()
    assert [path.name for path in (tmp_path / "copy").iterdir() if not path.name.startswith(".")] == ["copy.db"]


# PostgreSQL alone


def test_the_address_of_a_database_is_in_no_error(postgres: Postgres) -> None:
    for url in ("postgresql://epista:secret@127.0.0.1:1/lab", f"postgresql://x:secret@/none?host={postgres.folder}"):
        with closing(PostgresCatalog(url, connections=1)) as catalog, pytest.raises(SettingsError) as caught:
            catalog.open()
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(SettingsError, match="no address"):
        PostgresCatalog("postgresql://epista:secret@host:port:more/lab", connections=1)


def test_a_database_of_others_is_left_alone(postgres: Postgres) -> None:
    name = postgres.create()
    postgres.sql("CREATE TABLE theirs (a INTEGER)", name)

    with closing(PostgresCatalog(postgres.url(name), connections=1)) as catalog, pytest.raises(SettingsError, match="others"):
        catalog.open()
    postgres.drop(name)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    name = postgres.create()
    yield name
    postgres.drop(name)


@pytest.fixture
def on_postgres(postgres: Postgres, database: str) -> Iterator[PostgresCatalog]:
    catalog = PostgresCatalog(postgres.url(database), connections=4)
    catalog.open()
    yield catalog
    catalog.close()


CUT = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()"


def test_connections_that_were_cut_are_replaced_before_anybody_notices(
    postgres: Postgres, database: str, on_postgres: PostgresCatalog
) -> None:
    on_postgres.write(add("ada"))
    assert names(on_postgres) == ["ada"]

    postgres.sql(CUT.format(database))

    on_postgres.write(add("bob"))
    assert names(on_postgres) == ["ada", "bob"]


def test_a_group_whose_connection_is_cut_fails_as_a_whole_and_the_next_one_is_written(
    postgres: Postgres, database: str, on_postgres: PostgresCatalog
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def wait(tx: Connection) -> None:
        add("lost")(tx)
        started.set()
        go_on.wait(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(on_postgres.write, wait)
        assert started.wait(30)
        second = pool.submit(on_postgres.write, add("lost too"))
        postgres.sql(CUT.format(database))
        go_on.set()
        outcomes = [first.exception(), second.exception()]

    assert isinstance(outcomes[0], UnavailableError)
    # The second came in time for the group, and shares its fate, or began the next one.
    assert outcomes[1] is None or isinstance(outcomes[1], UnavailableError)
    assert names(on_postgres) == (["lost too"] if outcomes[1] is None else [])
    on_postgres.write(add("ada"))
    assert "ada" in names(on_postgres)


def test_a_commit_whose_answer_is_lost_is_reported_as_in_doubt(on_postgres: PostgresCatalog) -> None:
    def arm(tx: Connection) -> None:
        tx.exec_driver_sql(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        tx.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER dies AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION die()"
        )

    on_postgres.write(arm)

    with pytest.raises(UnavailableError, match="whether this was written is not known") as caught:
        on_postgres.write(add("ada"))

    assert "Idempotency-Key" in (caught.value.hint or "")
    assert names(on_postgres) == []


def test_a_database_that_does_not_sync_commits_for_others_does_for_a_lab(postgres: Postgres, database: str) -> None:
    postgres.sql(f"ALTER DATABASE {database} SET synchronous_commit = off")

    with closing(PostgresCatalog(postgres.url(database), connections=1)) as catalog:
        catalog.open()
        assert catalog.write(lambda tx: tx.exec_driver_sql("SHOW synchronous_commit").scalar()) == "on"
