"""Names in queries mean the tables that the caller may read, by the first rule with a match."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from epista.contract.errors import AmbiguousNameError, KeyNotFoundError, QueryError
from epista.server.access.policy import Access
from epista.server.app import catalog_of
from epista.server.config import Config
from epista.server.services import table_names
from epista.server.services.table_names import Pinned
from epista.server.stores import people
from epista.server.stores.catalog import Catalog
from tests.makers import Api, Clock, Server


class Part(NamedTuple):
    text: str
    is_quoted: bool


class Name(NamedTuple):
    parts: tuple[Part, ...]
    line: int
    column: int


def name(said: str) -> Name:
    """Read a name as SQL does, as far as this needs it."""
    parts = [Part(part.strip('"'), part.startswith('"')) for part in said.split(".")] if '"' not in said else []
    if not parts:
        quoted = said.split('"')
        parts = [Part(text, at % 2 == 1) for at, text in enumerate(quoted) if at % 2 == 1 or text.strip(".")]
        parts = [Part(part.text.strip("."), part.is_quoted) for part in parts]
    return Name(tuple(parts), 1, 15)


class Asker:
    """Asks what names mean, for somebody who may read some experiments."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __call__(self, said: str, *, experiment: str | None = None, allowed: set[str] | None = None, as_of: Any = None) -> Pinned:
        with self._catalog.read() as tx:
            found = people.workspace(tx, "lab")
            assert found is not None
            allowed_here = None if allowed is None else frozenset(allowed)
            access = Access(
                workspace_id=found["id"], workspace_uid=found["uid"], workspace="lab", role="editor", experiments=allowed_here
            )
            return table_names.find(tx, access, name(said), experiment=experiment, as_of=as_of)

    def key(self, said: str, **given: Any) -> str:
        found = self(said, **given)
        return f"{found.key}@{found.number}"


@pytest.fixture(params=["here", "elsewhere"])
def server_anywhere(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("server")
    return server


@pytest.fixture
def api(server_anywhere: Server) -> Api:
    return server_anywhere.api()


@pytest.fixture
def ask(server_anywhere: Server, placed: Config) -> Iterator[Asker]:
    catalog = catalog_of(placed)
    catalog.open()
    yield Asker(catalog)
    catalog.close()


def put(api: Api, *keys: str) -> list[Any]:
    return [api.put(key, f"a\n{key}\n".encode()) for key in keys]


def test_a_name_is_looked_for_in_the_active_experiment_and_then_everywhere(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/deep/down/counts.csv", "EXP-2/counts.parquet", "EXP-2/other.csv.gz", "root.tsv", "EXP-3/plain.jsonl")

    assert ask.key("counts", experiment="EXP-1") == "EXP-1/deep/down/counts.csv@1"
    assert ask.key("counts", experiment="EXP-2") == "EXP-2/counts.parquet@1"
    assert ask.key("other", experiment="EXP-1") == "EXP-2/other.csv.gz@1"
    assert ask.key("root", experiment="EXP-1") == ask.key("root") == "root.tsv@1"
    assert ask.key('"counts.csv"', experiment="EXP-2") == "EXP-1/deep/down/counts.csv@1"
    assert ask.key('"other.csv.gz"') == "EXP-2/other.csv.gz@1"
    assert ask.key('"EXP-2/counts.parquet"', experiment="EXP-1") == "EXP-2/counts.parquet@1"
    assert ask.key('"EXP-2".counts') == "EXP-2/counts.parquet@1"
    assert ask.key('"EXP-1".counts', experiment="EXP-2") == "EXP-1/deep/down/counts.csv@1"
    assert ask.key('"EXP-1"."counts.csv"') == "EXP-1/deep/down/counts.csv@1"


def test_an_id_and_an_exact_key_come_before_names(api: Api, ask: Asker) -> None:
    first, _, _ = put(api, "EXP-1/counts.csv", "EXP-1/deep/counts.csv", "counts.csv")

    assert ask.key(first["id"]) == ask.key(f'"{first["id"]}"') == "EXP-1/counts.csv@1"
    assert ask.key('"counts.csv"', experiment="EXP-1") == "EXP-1/counts.csv@1"
    assert ask.key('"counts.csv"') == "counts.csv@1"
    with pytest.raises(AmbiguousNameError):
        ask("counts", experiment="EXP-1")


def test_quoted_names_match_exactly_and_others_then_in_any_case(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/Counts.csv", "EXP-2/counts.csv", "EXP-3/Größe.csv", "exp-4/Weiss.csv")

    assert ask.key("Counts") == ask.key('"Counts"') == "EXP-1/Counts.csv@1"
    assert ask.key("counts") == ask.key('"counts"') == "EXP-2/counts.csv@1"
    assert ask.key("counts", experiment="EXP-1") == "EXP-1/Counts.csv@1"
    assert ask.key("GRÖSSE") == "EXP-3/Größe.csv@1"
    with pytest.raises(AmbiguousNameError):
        ask("COUNTS")
    with pytest.raises(KeyNotFoundError):
        ask('"COUNTS"')
    assert ask.key('"exp-4".weiss') == "exp-4/Weiss.csv@1"
    with pytest.raises(KeyNotFoundError):
        ask('"EXP-4".weiss')


def test_an_experiment_without_quotes_is_found_in_any_case(api: Api, ask: Asker) -> None:
    put(api, "Pilot/counts.csv")

    assert ask.key("pilot.counts") == "Pilot/counts.csv@1"
    assert ask.key("Pilot.COUNTS") == "Pilot/counts.csv@1"


def test_several_tables_of_a_name_are_listed(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/counts.csv", "EXP-1/counts.parquet", "EXP-2/counts.csv")

    with pytest.raises(AmbiguousNameError) as caught:
        ask("counts", experiment="EXP-1")

    assert caught.value.details["candidates"] == ["EXP-1/counts.csv", "EXP-1/counts.parquet"]
    assert caught.value.details["column"] == 15


def test_what_one_may_not_read_is_as_if_absent(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/counts.csv", "SECRET/counts.csv", "SECRET/salaries.csv", "loose.csv")
    mine = {"EXP-1"}

    assert ask.key("counts", allowed=mine) == "EXP-1/counts.csv@1"
    said = []
    for wanted in ('"SECRET/salaries.csv"', '"SECRET".salaries', "salaries", '"SECRET".salary', "secret.salaries", "loose"):
        with pytest.raises(KeyNotFoundError) as caught:
            ask(wanted, allowed=mine)
        said.append(str(caught.value) + str(caught.value.details))
        with pytest.raises(KeyNotFoundError) as absent:
            ask(wanted.replace("salar", "wxyzuv").replace("loose", "wxyzuv"), allowed=mine)
        assert type(absent.value) is type(caught.value)
        assert caught.value.hint == absent.value.hint
    assert not any("salaries.csv'" in one and "nearest" in one for one in said)


def test_the_nearest_table_is_named(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/counts.csv", "EXP-1/picture.png", "EXP-2/totals.csv")

    with pytest.raises(KeyNotFoundError, match=r"nearest: 'EXP-1/counts.csv'"):
        ask("count", experiment="EXP-1")
    with pytest.raises(KeyNotFoundError, match=r"nearest: 'EXP-2/totals.csv'"):
        ask("TOTAL", experiment="EXP-1")
    with pytest.raises(KeyNotFoundError) as caught:
        ask("pictur", experiment="EXP-1")
    assert "nearest" not in caught.value.details


def test_an_asset_that_is_no_table_says_so_and_a_deleted_one_too(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/picture.png", "EXP-1/both.png", "EXP-1/both.csv", "EXP-1/gone.csv")
    api.ok(api.post("~/delete", key="EXP-1/gone.csv"))

    with pytest.raises(QueryError, match=r"'EXP-1/picture.png' is no table: IMAGE, png"):
        ask("picture")
    assert ask.key("both") == "EXP-1/both.csv@1"
    with pytest.raises(KeyNotFoundError, match="was deleted"):
        ask('"EXP-1/gone.csv"')
    with pytest.raises(KeyNotFoundError):
        ask("gone")


def test_a_version_follows_an_at_sign(api: Api, ask: Asker) -> None:
    first, *_ = put(api, "EXP-1/counts.csv")
    api.put("EXP-1/counts.csv", b"a\n2\n")

    assert ask.key('"counts@1"') == ask.key(f'"counts@{first["version"]}"') == "EXP-1/counts.csv@1"
    assert ask.key('"EXP-1/counts.csv@1"') == ask.key('"EXP-1"."counts@1"') == "EXP-1/counts.csv@1"
    assert ask.key(f'"{first["id"]}@1"') == "EXP-1/counts.csv@1"
    assert ask.key("counts") == "EXP-1/counts.csv@2"
    with pytest.raises(QueryError, match=r"has no version '3'; the newest is 2"):
        ask('"counts@3"')
    put(api, "EXP-1/counts@1.csv")
    with pytest.raises(AmbiguousNameError) as caught:
        ask('"counts@1"')
    assert sorted(caught.value.details["candidates"]) == ["EXP-1/counts.csv@1", "EXP-1/counts@1.csv"]
    assert ask.key(f'"{first["id"]}@1"') == "EXP-1/counts.csv@1"


def test_a_sheet_follows_a_hash(api: Api, ask: Asker) -> None:
    first, *_ = put(api, "EXP#1/plate.xlsx", "counts.csv")

    assert ask('"plate.xlsx#Sheet2"').sheet == ask('"plate#Sheet2"').sheet == "Sheet2"
    assert ask('"EXP#1/plate.xlsx#Sheet 3"').sheet == ask(f'"{first["id"]}#Sheet 3"').sheet == "Sheet 3"
    assert ask('"plate.xlsx"').sheet is None
    for both in ('"plate.xlsx#Sheet2@1"', '"plate.xlsx@1#Sheet2"'):
        assert (ask(both).sheet, ask(both).number) == ("Sheet2", 1)
    with pytest.raises(KeyNotFoundError):
        ask('"counts.csv#Sheet2"')
    put(api, "EXP#1/plate.xlsx#Sheet2", "plate.xlsx#Sheet2.csv")
    with pytest.raises(AmbiguousNameError):
        ask('"plate.xlsx#Sheet2"')


def test_tables_as_they_stood(api: Api, ask: Asker, clock: Clock) -> None:
    put(api, "EXP-1/counts.csv", "EXP-1/stay.csv")
    clock.ahead_seconds += 60
    between = datetime.fromtimestamp(clock() / 1e6 - 30, UTC)
    api.put("EXP-1/counts.csv", b"a\n2\n")
    put(api, "EXP-2/counts.csv", "EXP-2/new.csv")

    assert ask.key('"EXP-1".counts', as_of=between) == "EXP-1/counts.csv@1"
    assert ask.key("counts", as_of=between) == "EXP-1/counts.csv@1"
    assert ask.key('"EXP-1/counts.csv@2"', as_of=between) == "EXP-1/counts.csv@2"
    with pytest.raises(KeyNotFoundError):
        ask("new", as_of=between)
    with pytest.raises(KeyNotFoundError):
        ask('"EXP-2/new.csv"', as_of=between)
    told = ask("Counts", experiment="EXP-1", as_of={"counts": 1})
    assert (told.number, told.told) == (1, "counts")
    assert ask("stay", as_of={"counts": 1}).told is None
    assert ask('"EXP-1".counts', as_of={"EXP-1.counts": "1"}).number == 1
    with pytest.raises(QueryError, match=r"has no version '7'"):
        ask("counts", experiment="EXP-1", as_of={"counts": 7})


def test_no_name_at_all(api: Api, ask: Asker) -> None:
    for odd in ('"a//b"', '"s3://bucket/x.parquet"', '"/etc/passwd"', '"*.csv"', '"\x00"'):
        with pytest.raises(KeyNotFoundError):
            ask(odd)
    with pytest.raises(QueryError):
        table_names.find(None, None, name("a.b.c"), experiment=None, as_of=None)  # type: ignore[arg-type]


def test_very_long_names_are_told_apart(api: Api, ask: Asker) -> None:
    put(api, "EXP-1/" + "x" * 300 + "A.csv", "EXP-1/" + "x" * 300 + "B.csv")

    assert ask.key("x" * 300 + "b") == "EXP-1/" + "x" * 300 + "B.csv@1"
