"""The graph of what came of what: whole for who may read it all, and for others as if the rest did not exist."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from epista.contract import lineage
from tests.makers import Api, Server

_contents = itertools.count()


def make(api: Api, *keys: str, inputs: list[str] | None = None, **told: Any) -> list[str]:
    """Put something new at keys in one commit; return the ids of the versions."""
    objects = [{"key": key, "sha256": api.upload(f"content {next(_contents)}".encode())} for key in keys]
    made = api.ok(api.post("~/objects", objects=objects, inputs=inputs or [], **({"activity": told} if told else {})))
    return [one["version"] for one in made["assets"]]


def erase(api: Api, key: str) -> None:
    api.ok(api.post("~/delete", key=key))
    api.ok(api.call("POST", "~/purge", json={"path": key}))


def graph(api: Api, ref: str | None = None, **wanted: Any) -> Any:
    return api.ok(api.get("~/lineage", **({} if ref is None else {"ref": ref}), **wanted))


def keys(found: Any) -> list[str]:
    return sorted(one["key"] for one in found["versions"])


def edges(found: Any) -> set[tuple[str, str]]:
    """Return the edges between keys, titles and what is restricted."""
    names = {one["id"]: one["key"] for one in found["versions"]}
    names |= {one["id"]: one["told"]["title"] for one in found["activities"]}
    names |= {one["id"]: "restricted" for one in found["restricted"]}
    return {(names[edge["source"]], names[edge["target"]]) for edge in found["edges"]}


def test_a_graph_goes_from_raw_data_to_a_figure_by_way_of_what_was_done(server: Server) -> None:
    api = server.api()
    [raw] = make(api, "EXP-1/raw.fcs")
    [table] = make(api, "EXP-1/counts.csv", inputs=[raw])
    [figure, other] = make(api, "EXP-1/figure.svg", "EXP-1/figure.png", title="draw", read=[table])
    make(api, "EXP-2/report.pdf", title="write", read=[figure])

    found = graph(api, "EXP-1/figure.svg")

    assert found["roots"] == [figure]
    assert edges(found) == {
        ("EXP-1/raw.fcs", "EXP-1/counts.csv"),
        ("EXP-1/counts.csv", "draw"),
        ("draw", "EXP-1/figure.svg"),
        ("EXP-1/figure.svg", "write"),
        ("write", "EXP-2/report.pdf"),
    }
    assert other not in {one["id"] for one in found["versions"]}
    assert [one["by"] for one in found["activities"]] == ["manager", "manager"]
    assert (found["restricted"], found["is_cut"]) == ([], False)


def test_what_is_stated_of_a_version_went_into_the_activity_that_made_it(server: Server) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["EXP-1"])
    [raw, secret] = make(api, "EXP-1/raw.csv", "EXP-9/secret.csv")
    make(api, "EXP-1/one.csv", "EXP-1/two.csv", inputs=[raw, secret], title="split")
    make(api, "EXP-9/three.csv", inputs=[raw], title="hide")

    above, below = graph(narrow, "EXP-1/one.csv"), graph(narrow, "EXP-1/raw.csv")

    assert edges(above) == {("EXP-1/raw.csv", "split"), ("restricted", "split"), ("split", "EXP-1/one.csv")}
    assert edges(below) == {("EXP-1/raw.csv", "split"), ("split", "EXP-1/one.csv"), ("split", "EXP-1/two.csv")}
    assert ("hide", "EXP-9/three.csv") in edges(graph(api, "EXP-1/raw.csv"))


def test_a_direction_and_a_depth_narrow_it(server: Server) -> None:
    api = server.api()
    [version] = make(api, "EXP-1/v0.csv")
    for number in range(1, 6):
        [version] = make(api, f"EXP-1/v{number}.csv", title=f"step {number}", read=[version])

    up = graph(api, "EXP-1/v3.csv", direction="up")
    down = graph(api, "EXP-1/v3.csv", direction="down")
    near = graph(api, "EXP-1/v3.csv", depth=1)

    assert keys(up) == [f"EXP-1/v{number}.csv" for number in (0, 1, 2, 3)]
    assert keys(down) == [f"EXP-1/v{number}.csv" for number in (3, 4, 5)]
    assert edges(near) == {
        ("EXP-1/v2.csv", "step 3"),
        ("step 3", "EXP-1/v3.csv"),
        ("EXP-1/v3.csv", "step 4"),
        ("step 4", "EXP-1/v4.csv"),
    }


def test_lineage_of_versions_is_of_those_and_of_deleted_ones_too(server: Server) -> None:
    api = server.api()
    [first] = make(api, "EXP-1/counts.csv")
    [second] = make(api, "EXP-1/counts.csv", inputs=[first])
    [gone] = make(api, "EXP-1/gone.csv", inputs=[first])
    api.ok(api.post("~/delete", key="EXP-1/gone.csv"))

    found = graph(api, versions=[gone, first], direction="up")

    assert found["roots"] == [gone, first]
    assert [(one["key"], one["deleted"]) for one in found["versions"]] == [("EXP-1/counts.csv", False), ("EXP-1/gone.csv", True)]
    assert second not in json.dumps(found)


def test_what_is_asked_for_is_one_asset_or_some_versions_that_are_there(server: Server) -> None:
    api = server.api()
    [version] = make(api, "EXP-1/counts.csv")
    hidden = server.member("ada", experiments=["EXP-2"])

    assert api.get("~/lineage").status_code == 400
    assert api.get("~/lineage", ref="EXP-1/counts.csv", versions=[version]).status_code == 400
    assert api.get("~/lineage", ref="EXP-1/none.csv").status_code == 404
    assert api.get("~/lineage", ref="counts.csv").status_code == 200
    absent = hidden.get("~/lineage", versions=["ve_none"]).json()
    unseen = hidden.get("~/lineage", versions=[version]).json()
    assert unseen | {"request_id": ""} == json.loads(json.dumps(absent).replace("ve_none", version)) | {"request_id": ""}


def test_a_parent_that_one_may_not_read_is_restricted_and_nothing_is_beyond_it(server: Server) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["EXP-1"])
    [raw] = make(api, "EXP-1/raw.csv")
    secrets = make(api, "EXP-9/secret.csv", "EXP-9/secrets.csv", inputs=[raw])
    make(api, "EXP-1/stated.csv", inputs=[*secrets, raw])
    make(api, "EXP-1/read.csv", title="mix", read=[*secrets, raw])

    stated, read = graph(narrow, "EXP-1/stated.csv"), graph(narrow, "EXP-1/read.csv")

    assert edges(stated) == {("restricted", "EXP-1/stated.csv"), ("EXP-1/raw.csv", "EXP-1/stated.csv")}
    assert edges(read) == {("restricted", "mix"), ("EXP-1/raw.csv", "mix"), ("mix", "EXP-1/read.csv")}
    for found in stated, read:
        assert len(found["restricted"]) == 1
        assert found["restricted"][0]["erased"] is False
        assert "secret" not in json.dumps(found)
        assert not any(version in json.dumps(found) for version in secrets)


def test_children_that_one_may_not_read_are_as_if_they_did_not_exist(server: Server) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["EXP-1"])
    [raw] = make(api, "EXP-1/raw.csv")
    alone = graph(narrow, "EXP-1/raw.csv")
    [secret] = make(api, "EXP-9/secret.csv", title="hidden work", read=[raw])
    make(api, "EXP-9/stated.csv", inputs=[raw])
    make(api, "EXP-1/far.csv", title="later", read=[secret])

    assert graph(narrow, "EXP-1/raw.csv") == alone
    assert len(graph(api, "EXP-1/raw.csv")["versions"]) == 4


def test_of_an_activity_one_sees_what_one_may_read_of_what_it_made(server: Server) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["EXP-1"])
    [raw] = make(api, "EXP-1/raw.csv")
    make(api, "EXP-1/open.csv", "EXP-9/secret.csv", title="both", read=[raw], cell={"source": "put('EXP-9/secret.csv')"})

    found = graph(narrow, "EXP-1/raw.csv")

    assert edges(found) == {("EXP-1/raw.csv", "both"), ("both", "EXP-1/open.csv")}
    assert "secret" not in json.dumps(found)
    assert graph(api, "EXP-1/raw.csv")["activities"][0]["told"]["cell"]["source"] == "put('EXP-9/secret.csv')"


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_member_never_sees_a_name_or_an_id_of_what_he_may_not_read(server: Server, seed: int) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["OPEN"])
    dice = random.Random(seed)
    made: dict[str, str] = {}
    for number in range(40):
        folder = dice.choice(("OPEN", "OPEN", "CLOSED"))
        key = f"{folder}/{folder.lower()}-name-{number}.csv"
        read = dice.sample(sorted(made), min(len(made), dice.randrange(4)))
        told = {"title": f"step {number}", "read": read, "cell": {"source": f"about {key}"}} if dice.random() < 0.7 else {}
        [version] = make(api, key, inputs=[] if told else read, **told)
        made[version] = key
    closed = {version for version, key in made.items() if key.startswith("CLOSED")}

    for version in sorted(set(made) - closed):
        said = json.dumps(found := graph(narrow, versions=[version]))
        assert "closed" not in said.lower()
        assert not any(one in said for one in closed)
        whole = graph(api, versions=[version])
        assert set(keys(found)) <= set(keys(whole))
        # What can be reached by way of open things alone is all there.
        assert set(keys(found)) == set(keys(_open_only(whole, version)))


def _open_only(found: Any, root: str) -> Any:
    """Return what is left of a whole graph for who may read OPEN alone."""
    shown = {one["id"] for one in found["versions"] if one["key"].startswith("OPEN")}
    activities = {one["id"] for one in found["activities"]}
    reached = {root}
    for start, end in (("target", "source"), ("source", "target")):
        todo = [root]
        while todo:
            node = todo.pop()
            for edge in found["edges"]:
                if edge[start] == node and edge[end] not in reached and edge[end] in shown | activities:
                    reached.add(edge[end])
                    todo.append(edge[end])
    return {"versions": [one for one in found["versions"] if one["id"] in reached]}


def test_a_query_between_is_told_with_its_sql_to_its_author_and_to_who_may_read_all_of_it(server: Server) -> None:
    api, narrow, wide = server.api(), server.member("ada", experiments=["EXP-1"]), server.member("eve")
    api.put("EXP-1/open.csv", b"a\n1\n")
    secret = api.put("EXP-9/secret.csv", b"b\n2\n")
    answered = api.call("POST", "~/queries", json={"sql": 'SELECT * FROM "EXP-1/open.csv", "EXP-9/secret.csv"'})
    make(api, "EXP-1/result.csv", title="ask", queries=[answered.headers["Epista-Query"]])

    mine, theirs, others = (graph(who, "EXP-1/result.csv") for who in (api, wide, narrow))

    assert edges(mine) == {("EXP-1/open.csv", "ask"), ("EXP-9/secret.csv", "ask"), ("ask", "EXP-1/result.csv")}
    assert "SELECT" in mine["activities"][0]["queries"][0]["sql"]
    assert theirs["activities"] == mine["activities"]
    assert edges(others) == {("EXP-1/open.csv", "ask"), ("restricted", "ask"), ("ask", "EXP-1/result.csv")}
    assert "secret" not in json.dumps(others)
    assert secret["version"] not in json.dumps(others)


def test_what_was_erased_leaves_a_mark_and_no_name(server: Server) -> None:
    api, narrow = server.api(), server.member("ada", experiments=["EXP-1"])
    [secret] = make(api, "EXP-1/secret.csv")
    make(api, "EXP-1/stated.csv", inputs=[secret])
    make(api, "EXP-1/read.csv", title="mix", read=[secret])
    api.ok(api.post("~/delete", key="EXP-1/secret.csv"))
    api.ok(api.call("POST", "~/purge", json={"path": "EXP-1/secret.csv"}))

    for who, erased in ((api, True), (narrow, False)):
        stated, read = graph(who, "EXP-1/stated.csv"), graph(who, "EXP-1/read.csv")
        assert edges(stated) == {("restricted", "EXP-1/stated.csv")}
        assert edges(read) == {("restricted", "mix"), ("mix", "EXP-1/read.csv")}
        assert [one["erased"] for one in (*stated["restricted"], *read["restricted"])] == [erased, erased]
        assert secret not in json.dumps([stated, read])


def test_nothing_comes_of_itself(server: Server) -> None:
    api = server.api()
    [first] = make(api, "EXP-1/a.csv")
    [second] = make(api, "EXP-1/b.csv", inputs=[first])
    digest = api.get_asset("EXP-1/a.csv").json()["sha256"]

    # The first is put again as it is, and said to come from what came of it.
    again = api.post(
        "~/objects", objects=[{"key": "EXP-1/a.csv", "sha256": digest}], inputs=[second], activity={"read": [second]}
    )

    assert api.ok(again)["assets"][0]["version"] == first
    assert edges(graph(api, "EXP-1/a.csv")) == edges(graph(api, "EXP-1/b.csv")) == {("EXP-1/a.csv", "EXP-1/b.csv")}


def test_a_graph_has_no_more_nodes_than_it_may_and_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    parts = make(api, *(f"EXP-1/part-{number:02}.csv" for number in range(30)))
    make(api, "EXP-1/whole.csv", inputs=parts)
    whole = graph(api, "EXP-1/whole.csv")

    monkeypatch.setattr(lineage, "MAX_NODES", 10)
    few_nodes = graph(api, "EXP-1/whole.csv")
    monkeypatch.setattr(lineage, "MAX_NODES", 1000)
    monkeypatch.setattr(lineage, "MAX_EDGES", 7)
    few_edges = graph(api, "EXP-1/whole.csv")

    assert (len(whole["versions"]), len(whole["edges"]), whole["is_cut"]) == (31, 30, False)
    assert (len(few_nodes["versions"]), len(few_nodes["edges"]), few_nodes["is_cut"]) == (10, 9, True)
    assert (len(few_edges["versions"]), len(few_edges["edges"]), few_edges["is_cut"]) == (8, 7, True)


def test_a_long_chain_is_cut_after_so_many_generations(server: Server) -> None:
    api = server.api()
    [version] = make(api, "EXP-1/v.csv")
    for _ in range(lineage.MAX_DEPTH + 2):
        [version] = make(api, "EXP-1/v.csv", inputs=[version])

    cut, whole = graph(api, "EXP-1/v.csv"), graph(api, "EXP-1/v.csv", depth=lineage.MAX_DEPTH - 1)

    assert (len(cut["versions"]), cut["is_cut"]) == (lineage.MAX_DEPTH + 1, True)
    assert (len(whole["versions"]), whole["is_cut"]) == (lineage.MAX_DEPTH, False)


def test_what_many_commits_tell_alike_is_kept_once_and_goes_with_the_last_of_them(server: Server) -> None:
    api = server.api()
    cell = {"number": 3, "source": "ws.put('EXP-1/secret.csv')"}
    for key in ("EXP-1/a.csv", "EXP-1/b.csv"):
        make(api, key, title="a cell", cell=cell)
    make(api, "EXP-1/c.csv", title="another")

    def told() -> list[str]:
        with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
            return sorted(json.loads(text)["title"] for (text,) in catalog.execute("SELECT document FROM tellings"))

    assert told() == ["a cell", "another"]
    erase(api, "EXP-1/a.csv")
    assert told() == ["a cell", "another"]
    assert graph(api, "EXP-1/b.csv")["activities"][0]["told"]["cell"]["source"] == cell["source"]
    erase(api, "EXP-1/b.csv")
    assert told() == ["another"]
