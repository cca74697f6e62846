"""Experiments over raw HTTP: who may do what in one, lists of what may be seen after a rename, rules, conventions, purges."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from epista.naming import registry
from tests.makers import Api, Server

RAW = "ecephys_676909_2023-12-13_13-43-40"


@pytest.fixture
def manager(server: Server) -> Api:
    api = server.api()
    for key in ("EXP-1/a.csv", "EXP-2/b.csv", "root.csv"):
        api.put(key)
    return api


def give(api: Api, experiment: str, user: str, role: str | None) -> Any:
    return api.post(f"~/experiments/{experiment}/roles", user=user, role=role)


def refused(api: Api, key: str) -> bool:
    """Whether *api* may not even send what would stand at *key*."""
    return api.call("POST", "~/blobs", data=b"data").status_code == 403 and api.keys(key) == []


def again(server: Server, api: Api, **restricted: Any) -> Api:
    """Return raw HTTP with a token that *api*'s user makes for themselves."""
    made = api.ok(api.post("/tokens", name="narrow", scopes=["read", "write"], **restricted))
    return Api(server.url, made["secret"], api.workspace)


def test_a_viewer_who_is_editor_in_one_experiment_writes_there_and_nowhere_else(server: Server, manager: Api) -> None:
    viewer = server.member("vera", "viewer")
    assert refused(viewer, "EXP-1/new.csv")
    manager.ok(give(manager, "EXP-1", "vera", "editor"))

    viewer.put("EXP-1/new.csv")
    for answer in (
        viewer.try_put("EXP-2/new.csv"),
        viewer.try_put("root2.csv"),
        viewer.post("~/delete", key="EXP-2/b.csv"),
        viewer.post("~/delete", key="root.csv"),
        viewer.call("POST", "~/delete-folder", json={"path": "EXP-2"}),
        viewer.post("~/metadata", key="EXP-2/b.csv", meta={}),
        viewer.post("~/copy", objects=[{"source": "EXP-1/a.csv", "target": "EXP-2/a.csv"}]),
        viewer.post("~/move", objects=[{"source": "EXP-2/b.csv", "target": "EXP-1/b.csv"}]),
        viewer.post("~/experiments/EXP-2", title="x"),
        viewer.post("~/experiments/EXP-2/rename", to="EXP-3"),
        viewer.post("~/experiments", name="EXP-9"),
        viewer.post("~/projects", name="p"),
        give(viewer, "EXP-1", "vera", "owner"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text
    viewer.ok(viewer.post("~/copy", objects=[{"source": "EXP-2/b.csv", "target": "EXP-1/b.csv"}]))
    assert viewer.ok(viewer.post("~/experiments/EXP-1", title="mine"))["title"] == "mine"
    manager.ok(give(manager, "EXP-1", "vera", None))
    assert refused(viewer, "EXP-1/more.csv")


def test_a_role_shows_an_experiment_to_who_is_restricted_to_others_but_not_to_a_token(server: Server, manager: Api) -> None:
    member = server.member("rita", "editor", experiments=["EXP-1"])
    narrow = again(server, member, experiments=["EXP-1"])
    manager.ok(give(manager, "EXP-2", "rita", "viewer"))

    assert member.keys() == ["EXP-1/a.csv", "EXP-2/b.csv"]
    assert narrow.keys() == ["EXP-1/a.csv"]
    assert member.try_put("EXP-2/new.csv").status_code == 403
    assert narrow.get("~/experiments/EXP-2").status_code == 404
    assert member.ok(member.get("~/experiments/EXP-2/roles"))["roles"] == [{"user": "rita", "role": "viewer"}]


def test_owners_and_admins_say_who_is_what_and_a_membership_ends_with_its_roles(server: Server, manager: Api) -> None:
    anna, bert = server.member("anna", "editor"), server.member("bert", "viewer")
    made = anna.ok(anna.post("~/experiments", name="EXP-7"))
    assert made["owners"] == ["anna"]

    assert give(bert, "EXP-7", "bert", "owner").status_code == 403
    assert give(anna, "EXP-1", "anna", "owner").status_code == 403
    assert give(anna, "EXP-7", "nobody", "viewer").status_code == 404
    anna.ok(give(anna, "EXP-7", "bert", "editor"))
    bert.put("EXP-7/a.csv")
    assert manager.ok(give(manager, "EXP-7", "anna", None))["roles"] == [{"user": "bert", "role": "editor"}]
    manager.ok(manager.call("DELETE", "~/members/bert"))
    assert manager.ok(manager.get("~/experiments/EXP-7/roles"))["roles"] == []


def test_lists_of_what_may_be_seen_follow_a_rename_and_open_nothing_else(server: Server, manager: Api) -> None:
    other = server.api(workspace="other")
    other.create_workspace("other")
    other.put("EXP-1/other.csv")
    other.put("SECRET/x.csv")
    member = server.member("mona", "editor", experiments=["EXP-1"])
    server.member("mona", "editor", workspace="other")
    bound = again(server, member, experiments=["EXP-1"], workspace="lab")
    free = again(server, member, experiments=["EXP-1"])

    manager.ok(manager.post("~/experiments/EXP-1/rename", to="SECRET"))

    for api in (member, bound, free):
        assert api.keys() == ["SECRET/a.csv"]
        api.put("SECRET/more.csv")
        assert "SECRET" in api.get_asset("EXP-1/a.csv").json()["detail"]
        api.ok(api.post("~/delete", key="SECRET/more.csv"))
    assert Api(server.url, free.token, "other").keys() == ["EXP-1/other.csv"]
    members = {one["user"]: one["experiments"] for one in manager.ok(manager.get("~/members"))["members"]}
    assert members["mona"] == ["SECRET"]


def test_who_is_restricted_learns_nothing_of_others_from_names(server: Server, manager: Api) -> None:
    manager.ok(manager.post("~/experiments/EXP-2", number="two"))
    manager.put("OLD/c.csv")
    manager.ok(manager.post("~/experiments/OLD/rename", to="HIDDEN"))
    member = server.member("rita", "editor", experiments=["EXP-1"])

    for name in ("EXP-2", "two", "HIDDEN", "OLD", "FREE"):
        answers = [
            member.post("~/experiments/EXP-1/rename", to=name),
            member.post("~/experiments/EXP-1", number=name),
            member.post("~/experiments", name=name),
            member.get(f"~/experiments/{name}"),
            member.get("~/experiment", ref=f"{name}/c.csv"),
            member.get("~/experiment/members", ref=name),
            member.try_put(f"{name}/c.csv"),
        ]
        said = [(one.status_code, one.json()["detail"].replace(name, "NAME")) for one in answers]
        if name == "EXP-2":
            first = said
        assert said == first


def test_a_rename_is_held_to_the_rules_at_its_new_keys(manager: Api) -> None:
    rule = {"name": "grant", "schema": {"required": ["grant"]}, "experiment": "FUNDED-*"}
    manager.ok(manager.call("PUT", "~/rules", json={"rules": [rule]}))

    refused = manager.post("~/experiments/EXP-1/rename", to="FUNDED-1")

    assert refused.status_code == 422
    assert refused.json()["details"]["violations"][0]["key"] == "FUNDED-1/a.csv"
    manager.ok(manager.post("~/metadata", key="EXP-1/a.csv", meta={"grant": "G"}))
    manager.ok(manager.post("~/experiments/EXP-1/rename", to="FUNDED-1"))
    assert manager.keys("FUNDED") == ["FUNDED-1/a.csv"]


def test_a_convention_that_is_declared_later_reads_the_names_that_are_there(manager: Api) -> None:
    manager.put("EXP-1/m12_north/a.dat")
    assert manager.ok(manager.get("~/experiments", subject="12"))["experiments"] == []
    tokens = [
        {"field": "subject_id", "lead": "m", "form": "digits", "length": [1, 4]},
        {"field": "rig", "values": ["north", "south"]},
    ]
    declared = {"separator": "_", "tokens": tokens}
    done = manager.call("PUT", "~/conventions", json={"conventions": [{"name": "rigs", "declaration": declared}]})
    assert done.status_code == 200, done.text

    (found,) = manager.ok(manager.get("~/experiments", subject="12"))["experiments"]
    assert (found["key"], found["parsed"]["convention"], found["assets"]) == ("EXP-1/m12_north", "rigs", 1)
    manager.put("EXP-2/m12_north/b.dat")
    assert len(manager.ok(manager.get("~/experiment/members", ref="m12_north"))["members"]) == 2


def test_a_purge_forgets_what_names_said(server: Server, manager: Api) -> None:
    key = f"EXP-1/{RAW}/{RAW}.json"
    manager.put(key)
    manager.ok(manager.post("~/delete", key=key))
    manager.ok(manager.call("POST", "~/purge", json={"path": key}))

    with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
        assert catalog.execute("SELECT key FROM recordings WHERE key LIKE ?", (f"%{RAW}%",)).fetchall() == []


def test_plain_names_are_not_parsed(manager: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of no other test, for what was read once is known.
    said = "ecephys_676909_2023-12-13_13-43-41"
    read: list[str] = []
    before = registry._read

    def reading(asked: Any, name: str, start: int) -> Any:
        read.append(name)
        return before(asked, name, start)

    monkeypatch.setattr(registry, "_read", reading)
    manager.put("EXP-12/plate 1/a.csv")
    manager.put(f"EXP-12/{said}/a.csv")
    manager.put(f"EXP-12/{said}/b.csv")

    assert read == [said]


def test_pages_go_on_where_they_ended(manager: Api) -> None:
    for number in range(5):
        manager.put(f"67690{number}_2023-12-1{number}_13-43-40/a.json")
    found, after = [], None
    while True:
        page = manager.ok(manager.get("~/experiments", limit=2, **({"after": after} if after else {})))
        found += [one["name"] for one in page["experiments"]]
        if (after := page["next"]) is None:
            break

    assert found == [*(f"67690{number}_2023-12-1{number}_13-43-40" for number in range(5)), "EXP-1", "EXP-2"]
    for cursor in ("x", "WzFd", "bnVsbA"):
        assert manager.get("~/experiments", after=cursor).status_code in (400, 422)
