"""Words are read again where the extractor of a format is newer than they are, and only there."""

from __future__ import annotations

from typing import Any

import pytest

import epista
from epista.client import reindexing as client
from epista.contract.errors import ForbiddenError, UnavailableError
from epista.server.app import catalog_of, create_app
from epista.server.config import Config
from epista.server.engines import extractors
from epista.server.services import reindexing, words
from epista.server.stores import extractions
from tests.conftest import Thread
from tests.makers import Api, Clock, Server
from tests.processes import wait_until

TEXTS = 5

OTHERS = sorted(extractors.VERSIONS.keys() - {"text"})
"""Formats of which the lab has nothing to be read again, though they may be new to it."""


ANYWHERE = pytest.mark.parametrize("api", ["here", "elsewhere"], indirect=True)
"""In a folder, and in PostgreSQL and S3."""


@pytest.fixture(params=["here"])
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A lab in which files stand that an older Epista put, which read no words of texts."""
    server: Server = request.getfixturevalue("server")
    api = server.api()
    with monkeypatch.context() as older:
        older.delitem(extractors.EXTRACTORS, "text")
        for number in range(TEXTS):
            api.put(f"EXP-1/{number}.txt", f"ocelot number {number}".encode())
        api.put("EXP-1/table.csv", b"name\nmargay\n")
    return api


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server find more words in texts than those who indexed them."""
    monkeypatch.setitem(extractors.VERSIONS, "text", 2)


def found(api: Api, query: str) -> list[str]:
    return sorted(hit["key"] for hit in api.ok(api.get("~/search", query=query))["hits"])


def shown(api: Api, format: str = "text") -> dict[str, Any]:
    rows = api.ok(api.get("/lab/reindexing"))["formats"]
    return next(row for row in rows if row["format"] == format)


def run(api: Api, **wanted: Any) -> list[dict[str, Any]]:
    steps = [api.ok(api.post("/lab/reindexing", **wanted))]
    while not steps[-1]["is_done"]:
        steps.append(api.ok(api.post("/lab/reindexing", **(wanted | {"again": False}))))
    return steps


@ANYWHERE
@pytest.mark.usefixtures("newer")
def test_what_an_older_epista_indexed_is_found_by_its_words_after_an_upgrade(api: Api) -> None:
    assert found(api, "ocelot") == []
    assert shown(api) == {"format": "text", "version": 2, "recorded": 1, "assets": TEXTS, "left": TEXTS}

    steps = run(api)

    assert sum(step["assets"] for step in steps) == TEXTS
    assert found(api, "ocelot") == [f"EXP-1/{number}.txt" for number in range(TEXTS)]
    assert shown(api) == {"format": "text", "version": 2, "recorded": 2, "assets": 0, "left": 0}
    assert run(api) == [{"format": None, "assets": 0, "is_done": True}]


@pytest.mark.usefixtures("newer")
def test_only_the_formats_are_read_again_whose_extractor_is_newer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    endings: list[str] = []
    read = words.of_blob

    def noted(resources: Any, key: str, *given: Any) -> str:
        endings.append(key.rpartition(".")[2])
        return read(resources, key, *given)

    monkeypatch.setattr(words, "of_blob", noted)
    run(api)

    assert endings == ["txt"] * TEXTS


@pytest.mark.usefixtures("newer")
def test_steps_go_on_where_the_last_one_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run(api, formats=OTHERS)
    monkeypatch.setattr(reindexing, "STEP_ASSETS", 2)

    first = api.ok(api.post("/lab/reindexing"))
    left = shown(api)["left"]
    steps = run(api)

    assert (first, left) == ({"format": "text", "assets": 2, "is_done": False}, 3)
    assert [step["assets"] for step in steps] == [2, 1]
    assert len(found(api, "ocelot")) == TEXTS


@ANYWHERE
@pytest.mark.usefixtures("newer")
def test_what_was_put_deleted_and_described_meanwhile_is_as_it_was_made(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    read = words.of_blob

    disturbances = ["once"]

    def disturbed(resources: Any, key: str, *given: Any) -> str:
        text = read(resources, key, *given)
        if disturbances:
            disturbances.clear()
            api.put("EXP-1/0.txt", b"jaguarundi")
            api.ok(api.post("~/delete", key="EXP-1/1.txt"))
            api.ok(api.post("~/metadata", key="EXP-1/2.txt", meta={"note": "kodkod"}))
            api.ok(api.post("~/move", objects=[{"source": "EXP-1/3.txt", "target": "EXP-2/moved.txt"}]))
        return text

    monkeypatch.setattr(words, "of_blob", disturbed)
    run(api)

    assert found(api, "jaguarundi") == ["EXP-1/0.txt"]
    assert found(api, "ocelot") == ["EXP-1/2.txt", "EXP-1/4.txt", "EXP-2/moved.txt"]
    assert found(api, "kodkod") == ["EXP-1/2.txt"]


@pytest.mark.usefixtures("newer")
def test_two_never_do_the_same_work(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, Any]] = []
    read = words.of_blob

    def watched(resources: Any, key: str, *given: Any) -> str:
        answers.append(api.ok(api.post("/lab/reindexing")))
        return read(resources, key, *given)

    run(api, formats=OTHERS)
    with monkeypatch.context() as watching:
        watching.setattr(words, "of_blob", watched)
        done = api.ok(api.post("/lab/reindexing"))

    assert answers == [{"format": None, "assets": 0, "is_done": False}] * TEXTS
    assert done == {"format": "text", "assets": TEXTS, "is_done": True}


@ANYWHERE
@pytest.mark.usefixtures("newer")
def test_where_one_was_killed_another_goes_on_after_a_while(api: Api, placed: Config, clock: Clock) -> None:
    run(api, formats=OTHERS)
    catalog = catalog_of(placed)
    catalog.open()
    until = clock() + reindexing.HELD_SECONDS * 1_000_000
    catalog.write(lambda tx: extractions.keep(tx, "text", towards=2, holder="killed", held_until=until))
    catalog.close()

    held = api.ok(api.post("/lab/reindexing"))
    clock.ahead_seconds += reindexing.HELD_SECONDS + 1

    assert held == {"format": None, "assets": 0, "is_done": False}
    assert [step["assets"] for step in run(api)] == [TEXTS]


@pytest.mark.usefixtures("newer")
def test_while_the_store_is_away_nothing_counts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*given: Any) -> str:
        raise UnavailableError("the store does not answer")

    run(api, formats=OTHERS)
    with monkeypatch.context() as broken:
        broken.setattr(words, "of_blob", away)
        refused = api.post("/lab/reindexing")

    assert refused.status_code == 503
    assert shown(api)["left"] == TEXTS
    assert [step["assets"] for step in run(api)] == [TEXTS]


def test_words_that_cannot_be_read_now_stay_as_they_were(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(api, "margay") == ["EXP-1/table.csv"]
    with monkeypatch.context() as broken:
        broken.delitem(extractors.EXTRACTORS, "csv")
        run(api, formats=["csv"], again=True)

    assert found(api, "margay") == ["EXP-1/table.csv"]


def test_a_manager_may_have_all_read_again_and_is_told_what_has_words(api: Api) -> None:
    unknown = api.post("/lab/reindexing", formats=["png"])
    run(api)

    assert unknown.status_code == 400
    assert "png" in unknown.json()["detail"]
    assert sum(step["assets"] for step in run(api, again=True, formats=["text"])) == TEXTS
    assert len(found(api, "ocelot")) == TEXTS


def test_it_is_for_managers_of_the_lab(server: Server) -> None:
    with epista.Workspace(server.url, token=server.member("ada", "admin").token, workspace="lab") as ada:
        with pytest.raises(ForbiddenError):
            client.get(ada)
        with pytest.raises(ForbiddenError):
            list(client.run(ada))


@pytest.mark.usefixtures("newer")
def test_a_server_does_it_by_itself_a_while_after_it_was_started(
    api: Api, server: Server, placed: Config, server_thread: Thread, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing, "START_SECONDS", 0.01)
    monkeypatch.setattr(reindexing, "STEP_ASSETS", 2)
    stop = server_thread.start(create_app(placed, clock=clock))
    try:
        again = Api(server_thread.url, server.manager, "lab")
        wait_until(lambda: len(found(again, "ocelot")) == TEXTS, "the words are found")
        wait_until(lambda: shown(again)["recorded"] == 2, "the words are current")
    finally:
        stop()
