"""
What one may not read is as if it did not exist.

Two workspaces hold the same visible assets, and one of them hidden ones besides. Every question of a caller who is restricted to
one experiment must get the same answer in both: the one in which there is nothing to hide says what the answer should be.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from epista.contract.scopes import SCOPES
from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from tests.conftest import Thread
from tests.makers import Api, Server, sha256

PATIENT = b"a patient's cells"


class Labs:
    """Two workspaces that look alike to whoever may read EXP-1 only."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.hidden: dict[str, Any] = {}
        for workspace in ("hiding", "honest"):
            api = server.api(workspace=workspace)
            api.create_workspace(workspace)
            inputs = []
            if workspace == "hiding":
                api.put("top.csv", b"well,count\n", tags=["secret"])
                api.put("SECRET/plate.csv", b"well,count\nsecret", meta={"donor": "D2"})
                self.hidden = api.put("SECRET/patient.fcs", PATIENT, meta={"patient": "X"}, tags=["secret", "qc"])
                api.put("SECRET/gone.csv")
                api.ok(api.post("~/delete", key="SECRET/gone.csv"))
                api.put("EXP-10/plate.cs")
                api.ok(api.post("~/experiments", name="SECRET", title="the secret", meta={"grant": "G"}))
                api.ok(api.post("~/experiments", name="PLANNED", title="nothing yet"))
                inputs = [self.hidden["version"]]
                api.ok(api.post("~/projects", name="secret work"))
                api.ok(api.post("~/experiments/SECRET", project="secret work", tags=["classified"]))
                api.put("SECRET/ecephys_676909_2023-12-13_13-43-40/a.dat")
                api.put("SECRET/ecephys_668755_2023-08-28_12-46-54_sorted_2024-01-01_00-00-00/a.dat")
                api.put("BEFORE/a.csv")
                api.ok(api.post("~/experiments/BEFORE/rename", to="NOW"))
            api.put("EXP-1/ecephys_668755_2023-08-28_12-46-54/a.dat")
            inputs.append(api.put("EXP-1/plate.csv", b"well,count\nA1,17\n", meta={"donor": "D1"}, tags=["qc"])["version"])
            api.put("EXP-1/gone.csv")
            api.ok(api.post("~/delete", key="EXP-1/gone.csv"))
            derived = [{"key": "EXP-1/derived.csv", "sha256": api.upload(b"derived")}]
            api.ok(api.post("~/objects", objects=derived, inputs=inputs))
            rules: list[dict[str, Any]] = [{"name": "all", "schema": {}}, {"name": "some", "schema": {}, "experiment": "EXP-?"}]
            rules.append({"name": "files", "schema": {}, "key": "*.csv"})
            if workspace == "hiding":
                rules.insert(1, {"name": "secret", "schema": {}, "experiment": "SECRET"})
                rules.insert(2, {"name": "keys", "schema": {}, "key": "SECRET/*.fcs"})
                rules.insert(3, {"name": "root", "schema": {}, "key": "top.csv"})
            api.ok(api.call("PUT", "~/rules", json={"rules": rules}))

    def by_membership(self, workspace: str) -> Api:
        return self.server.member("ada", "editor", workspace=workspace, experiments=["EXP-1"])

    def by_token(self, workspace: str) -> Api:
        whole = self.server.member("bob", "editor", workspace=workspace)
        made = whole.ok(whole.post("/tokens", name="one", scopes=["read", "write"], experiments=["EXP-1"]))
        return Api(whole.url, made["secret"], workspace)


@pytest.fixture(scope="module")
def labs(server_thread: Thread, founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    folder = tmp_path_factory.mktemp("access") / "lab"
    shutil.copytree(founded, folder)
    stop = server_thread.start(create_app(Config(lab=str(folder))))
    link = founding.new_link(folder, address=server_thread.url, seconds=3600, only_if_locked_out=False)
    assert link
    yield Labs(Server(server_thread.url, folder, link.partition("#")[2]))
    stop()


@pytest.fixture(scope="module", params=["member", "token"])
def callers(request: pytest.FixtureRequest, labs: Labs) -> tuple[Api, Api]:
    """One caller in both workspaces, restricted to EXP-1 as a member or by the token."""
    make: Callable[[str], Api] = {"member": labs.by_membership, "token": labs.by_token}[request.param]
    return make("hiding"), make("honest")


def said(answer: requests.Response, workspace: str) -> str:
    """Return an answer without what differs anyway: ids, moments and the name of the workspace."""
    answer.encoding = "utf-8"
    text = re.sub(r"\b(as|ve|ws|ex|fo|pr)_[0-9a-f]+", r"\1", answer.text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "MOMENT", text)
    text = re.sub(r'"request_id":"\w+"', "", text)
    return f"{answer.status_code} {text.replace(workspace, 'WORKSPACE')}"


GETS: dict[str, tuple[str, dict[str, Any]]] = {
    "all keys": ("~/keys", {}),
    "keys by prefix": ("~/keys", {"prefix": "SECRET/"}),
    "the root": ("~/level", {}),
    "a page of the root": ("~/level", {"limit": 1}),
    "a hidden folder": ("~/level", {"path": "SECRET"}),
    "a hidden asset as a level": ("~/level", {"path": "SECRET/patient.fcs"}),
    "all assets": ("~/assets", {}),
    "a page of assets": ("~/assets", {"limit": 1}),
    "assets of a hidden experiment": ("~/assets", {"experiment": "SECRET"}),
    "assets of a kind": ("~/assets", {"kind": "FLOW"}),
    "assets with a tag": ("~/assets", {"tags": "secret"}),
    "assets by prefix": ("~/assets", {"prefix": "SECRET"}),
    "assets by author": ("~/assets", {"created_by": "manager"}),
    "a name that fits one": ("~/asset", {"ref": "plate.csv"}),
    "a hidden key": ("~/asset", {"ref": "SECRET/patient.fcs"}),
    "a hidden name": ("~/asset", {"ref": "patient.fcs"}),
    "a hidden key at the root": ("~/asset", {"ref": "top.csv"}),
    "a hidden folder as an asset": ("~/asset", {"ref": "SECRET"}),
    "a hidden deleted key": ("~/asset", {"ref": "SECRET/gone.csv"}),
    "a hidden id": ("~/asset", {"ref": "HIDDEN ASSET"}),
    "nearly a hidden key": ("~/asset", {"ref": "SECRET/patient.fc"}),
    "nearly a key": ("~/asset", {"ref": "EXP-1/plate.cs"}),
    "a hidden active experiment": ("~/asset", {"ref": "patient.fcs", "experiment": "SECRET"}),
    "lineage": ("~/asset", {"ref": "EXP-1/derived.csv"}),
    "versions": ("~/versions", {"key": "SECRET/patient.fcs"}),
    "versions with lineage": ("~/versions", {"key": "EXP-1/derived.csv"}),
    "a version": ("~/version", {"key": "SECRET/patient.fcs", "version": "1"}),
    "a version of another asset": ("~/version", {"key": "EXP-1/plate.csv", "version": "HIDDEN VERSION"}),
    "content": ("~/versions/HIDDEN VERSION/content", {}),
    "location": ("~/versions/HIDDEN VERSION/location", {}),
    "search for everything": ("~/search", {}),
    "search for a word of hidden content": ("~/search", {"query": "patient"}),
    "search for a word of both": ("~/search", {"query": "well"}),
    "search by tag": ("~/search", {"query": "tags:secret OR tags:qc"}),
    "search by experiment": ("~/search", {"query": "experiment:SECRET"}),
    "search by key": ("~/search", {"query": "key:SECRET/"}),
    "search by hash": ("~/search", {"query": f"sha256:{sha256(PATIENT)}"}),
    "search for a negation": ("~/search", {"query": "NOT tags:qc"}),
    "search in hidden metadata": ("~/search", {"query": "user_meta.patient:X"}),
    "search in nearly hidden metadata": ("~/search", {"query": "user_meta.patien:X"}),
    "search for a hidden value": ("~/search", {"query": "user_meta.donor:D2"}),
    "experiments": ("~/experiments", {}),
    "a hidden experiment": ("~/experiments/SECRET", {}),
    "the roles in a hidden experiment": ("~/experiments/SECRET/roles", {}),
    "a path in a hidden experiment": ("~/experiment", {"ref": "SECRET/plate.csv"}),
    "a hidden recording": ("~/experiment", {"ref": "ecephys_676909_2023-12-13_13-43-40"}),
    "a recording that is hidden in part": ("~/experiment", {"ref": "ecephys_668755_2023-08-28_12-46-54"}),
    "its members": ("~/experiment/members", {"ref": "668755_2023-08-28_12-46-54"}),
    "the members of a hidden experiment": ("~/experiment/members", {"ref": "SECRET"}),
    "recordings of a hidden subject": ("~/experiments", {"subject": "676909"}),
    "a label of a hidden member": ("~/experiments", {"label": "sorted"}),
    "a label like that of a hidden member": ("~/experiments", {"label": "sortex"}),
    "an experiment that was called otherwise": ("~/experiments/BEFORE", {}),
    "a key of one that was called otherwise": ("~/asset", {"ref": "BEFORE/a.csv"}),
    "projects": ("~/projects", {}),
    "a project of hidden experiments": ("~/projects/secret work", {}),
    "experiments of that project": ("~/experiments", {"project": "secret work"}),
    "experiments with a hidden tag": ("~/experiments", {"tags": "classified"}),
    "an experiment without assets": ("~/experiments/PLANNED", {}),
    "an experiment whose name begins alike": ("~/experiments/EXP-10", {}),
    "rules": ("~/rules", {}),
    "conventions": ("~/conventions", {}),
    "the workspace": ("~", {}),
}

POSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "which contents to send": ("~/blobs/missing", {"sha256": [sha256(PATIENT), sha256(b"well,count\nA1,17\n"), "0" * 64]}),
    "known content": ("~/objects", {"objects": [{"key": "EXP-1/mine.fcs", "sha256": sha256(PATIENT)}]}),
    "a put at a hidden key": ("~/objects", {"objects": [{"key": "SECRET/patient.fcs", "sha256": "0" * 64, "expect": "absent"}]}),
    "a put at the root": ("~/objects", {"objects": [{"key": "top.csv", "sha256": "0" * 64, "expect": "absent"}]}),
    "a hidden input": (
        "~/objects",
        {"objects": [{"key": "EXP-1/a", "sha256": sha256(b"derived")}], "inputs": ["HIDDEN VERSION"]},
    ),
    "metadata": ("~/metadata", {"key": "SECRET/patient.fcs", "meta": {}}),
    "a delete": ("~/delete", {"key": "SECRET/patient.fcs"}),
    "a delete of a folder": ("~/delete", {"key": "SECRET"}),
    "a delete of all below": ("~/delete-folder", {"path": "SECRET"}),
    "a rehearsed delete of all below": ("~/delete-folder", {"path": "SECRET", "dry_run": True}),
    "a restore": ("~/restore", {"key": "SECRET/gone.csv"}),
    "a restore of a version": ("~/restore", {"key": "EXP-1/plate.csv", "version": "HIDDEN VERSION"}),
    "a description": ("~/experiments", {"name": "SECRET"}),
}


@pytest.mark.parametrize(("path", "asked"), GETS.values(), ids=GETS)
def test_09_a_question_is_answered_as_if_nothing_were_hidden(
    labs: Labs, callers: tuple[Api, Api], path: str, asked: dict[str, Any]
) -> None:
    path, asked = real(labs, path, asked)
    hiding, honest = (said(caller.call("GET", path, params=asked), caller.workspace) for caller in callers)

    assert hiding == honest


@pytest.mark.parametrize(("path", "asked"), POSTS.values(), ids=POSTS)
def test_33_a_request_is_answered_as_if_nothing_were_hidden(
    labs: Labs, callers: tuple[Api, Api], path: str, asked: dict[str, Any]
) -> None:
    path, asked = real(labs, path, asked)
    manager = labs.server.api(workspace="hiding")
    before = manager.get("~/assets").text

    hiding, honest = (said(caller.call("POST", path, json=asked), caller.workspace) for caller in callers)

    assert hiding == honest
    assert manager.get("~/assets").text == before


def real(labs: Labs, path: str, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Put the ids of what is hidden where the tables name them."""
    names = {"HIDDEN VERSION": labs.hidden["version"], "HIDDEN ASSET": labs.hidden["id"]}
    for name, id in names.items():
        path = path.replace(name, id)
    return path, {
        field: names.get(value, value) if isinstance(value, str) else [labs.hidden["version"]] if field == "inputs" else value
        for field, value in asked.items()
    }


def test_the_questions_have_answers_for_whoever_may_read_everything(labs: Labs) -> None:
    api = labs.server.member("carol", "viewer", workspace="hiding")

    assert api.keys("SECRET/pa") == ["SECRET/patient.fcs"]
    assert api.ok(api.get("~/search", query="patient"))["total"] == 1
    assert api.get("~/asset", ref="plate.csv").json()["code"] == "ambiguous_name"
    assert [one["key"] for one in api.ok(api.get("~/asset", ref="EXP-1/derived.csv"))["lineage"]["inputs"]] == [
        "EXP-1/plate.csv",
        "SECRET/patient.fcs",
    ]
    assert len(api.ok(api.get("~/rules"))["rules"]) == 6
    assert api.call("GET", f"~/versions/{labs.hidden['version']}/content").content == PATIENT


def test_09_both_restrictions_hold(labs: Labs) -> None:
    member = labs.server.member("dora", "editor", workspace="hiding", experiments=["EXP-1", "EXP-10"])

    def seen(*experiments: str) -> list[str]:
        made = member.ok(member.post("/tokens", name="t", experiments=list(experiments)))
        return Api(member.url, made["secret"], "hiding").keys()

    assert seen("EXP-10", "SECRET") == ["EXP-10/plate.cs"]
    assert seen("SECRET") == []
    assert seen() == []
    assert {key.partition("/")[0] for key in list(member.keys())} == {"EXP-1", "EXP-10"}


def test_a_restriction_is_to_whole_names(labs: Labs) -> None:
    member = labs.server.member("eric", "editor", workspace="hiding", experiments=["EXP-1"])

    assert member.try_put("EXP-10/mine.csv").status_code == 403
    assert member.try_put("EXP-1").status_code == 403
    assert member.try_put("mine.csv").status_code == 403
    assert member.try_put("exp-1/mine.csv").status_code == 403


def test_what_is_hidden_and_in_the_way_is_not_named(labs: Labs) -> None:
    manager = labs.server.api(workspace="hiding")
    manager.put("EXP-2", b"a file where an experiment could be")
    member = labs.server.member("fred", "editor", workspace="hiding", experiments=["EXP-2"])

    answer = member.try_put("EXP-2/mine.csv")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"] == "this name cannot be used: it would be a file and a folder at once"
    assert answer.json()["details"] == {}


def test_33_a_known_hash_without_read_access_still_requires_bytes(labs: Labs) -> None:
    member = labs.server.member("gina", "editor", workspace="hiding", experiments=["EXP-3"])
    commit = {"objects": [{"key": "EXP-3/mine.fcs", "sha256": sha256(PATIENT)}]}

    assert member.ok(member.post("~/blobs/missing", sha256=[sha256(PATIENT)]))["sha256"] == [sha256(PATIENT)]
    refused = member.post("~/objects", **commit)
    assert (refused.status_code, refused.json()["details"]["missing"]) == (404, [sha256(PATIENT)])

    member.upload(PATIENT)
    assert member.ok(member.post("~/blobs/missing", sha256=[sha256(PATIENT)]))["sha256"] == []
    assert member.ok(member.post("~/objects", **commit))["assets"][0]["key"] == "EXP-3/mine.fcs"


def test_33_having_sent_content_to_one_workspace_opens_it_in_no_other(labs: Labs) -> None:
    member = labs.server.member("hans", "editor", workspace="hiding")
    elsewhere = labs.server.member("hans", "editor", workspace="honest")
    elsewhere.put("EXP-1/hans.bin", b"hans sent this")
    digest = sha256(b"hans sent this")

    assert member.ok(member.post("~/blobs/missing", sha256=[digest]))["sha256"] == [digest]
    assert member.post("~/objects", objects=[{"key": "a", "sha256": digest}]).status_code == 404


def test_33_content_of_a_deleted_asset_of_somebody_else_must_be_sent(labs: Labs) -> None:
    manager = labs.server.api(workspace="honest")
    member = labs.server.member("ines", "editor", workspace="honest")
    digest = manager.put("EXP-1/short-lived.bin", b"short-lived")["sha256"]
    assert member.ok(member.post("~/blobs/missing", sha256=[digest]))["sha256"] == []

    manager.ok(manager.post("~/delete", key="EXP-1/short-lived.bin"))

    assert member.ok(member.post("~/blobs/missing", sha256=[digest]))["sha256"] == [digest]


@pytest.mark.parametrize("experiments", [None, ["EXP-1"], ["EXP-1", "SECRET"]], ids=["all", "one", "two"])
@pytest.mark.parametrize("query", ["*", "tags:qc", "well OR patient", "NOT kind:FLOW"])
def test_69_total_facets_and_pages_agree_for_each_of_three_users(labs: Labs, experiments: list[str] | None, query: str) -> None:
    name = f"user-{len(experiments or [])}"
    api = labs.server.member(name, "viewer", workspace="hiding", experiments=experiments)

    first = page = api.ok(api.get("~/search", query=query, limit=2))
    hits = list(first["hits"])
    while page["next"]:
        page = api.ok(api.get("~/search", query=query, limit=2, after=page["next"]))
        hits += page["hits"]

    assert first["total"] == len(hits) == len({hit["key"] for hit in hits}) > 0
    assert {hit["key"] for hit in hits} <= set(api.keys())
    for facet in ("kind", "format", "experiment"):
        values = [hit[facet] for hit in hits if hit[facet] is not None]
        assert first["facets"][facet] == {value: values.count(value) for value in values}
    tags = [tag for hit in hits for tag in hit["tags"]]
    assert first["facets"]["tags"] == {tag: tags.count(tag) for tag in tags}


def test_a_membership_that_ends_ends_at_once(labs: Labs) -> None:
    manager = labs.server.api(workspace="honest")
    member = labs.server.member("jane", "editor", workspace="honest")
    assert member.keys("EXP-1/plate") == ["EXP-1/plate.csv"]

    manager.ok(manager.call("DELETE", "~/members/jane"))

    assert member.get("~/keys").status_code == 404
    assert [one["name"] for one in member.ok(member.get("/workspaces"))["workspaces"]] == []
    assert member.ok(member.get("/me"))["workspaces"] == []


def test_a_role_that_is_taken_is_gone_at_once(labs: Labs) -> None:
    manager = labs.server.api(workspace="honest")
    member = labs.server.member("kurt", "admin", workspace="honest")
    assert member.get("~/members").status_code == 200

    manager.ok(manager.post("~/members", user="kurt", role="viewer"))

    assert member.get("~/members").status_code == 403
    assert member.call("POST", "~/blobs", data=b"x").status_code == 403


def test_the_last_admin_of_a_workspace_stays(labs: Labs) -> None:
    manager = labs.server.api(workspace="last")
    manager.create_workspace("last")

    removed = manager.call("DELETE", "~/members/manager")
    demoted = manager.post("~/members", user="manager", role="viewer")

    assert (removed.status_code, demoted.status_code) == (409, 409)
    assert manager.ok(manager.get("~/members"))["members"] == [
        {"user": "manager", "role": "admin", "experiments": None, "sign_in_link": None}
    ]


def test_an_admin_is_not_restricted_to_experiments(labs: Labs) -> None:
    manager = labs.server.api(workspace="honest")
    token = manager.ok(manager.post("/tokens", name="narrow", scopes=list(SCOPES), experiments=["EXP-1"]))["secret"]
    narrow = Api(manager.url, token, "honest")

    assert manager.post("~/members", user="lena", role="admin", experiments=["EXP-1"]).status_code == 422
    for path in ("~/members", "~/audit", "~/audit/verify", "~/rules/check", "/lab/verify"):
        assert narrow.get(path).status_code == 403, path
    assert narrow.call("PUT", "~/rules", json={"rules": []}).status_code == 403


def test_a_token_for_one_workspace_knows_no_other(labs: Labs) -> None:
    manager = labs.server.api()
    token = manager.ok(manager.post("/tokens", name="narrow", scopes=["read"], workspace="honest"))["secret"]
    narrow = Api(manager.url, token, "honest")

    assert narrow.ok(narrow.get("/me"))["workspaces"] == ["honest"]
    assert [one["name"] for one in narrow.ok(narrow.get("/workspaces"))["workspaces"]] == ["honest"]
    assert narrow.get("~/keys").status_code == 200
    assert Api(manager.url, token, "hiding").get("~/keys").status_code == 404


def test_a_workspace_answers_to_its_id_as_to_its_name(labs: Labs) -> None:
    manager = labs.server.api(workspace="honest")
    id = manager.ok(manager.get("~"))["id"]

    assert Api(manager.url, manager.token, id).keys() == manager.keys()
    assert manager.post("/workspaces", name="honest").status_code == 409
    assert manager.post("/workspaces", name=id).status_code == 409


def test_no_folder_of_the_server_is_reached_through_an_address(labs: Labs) -> None:
    manager = labs.server.api()

    for path in (
        "~/versions/..%2f..%2flab.db/content",
        "/workspaces/%2e%2e/keys",
        "/workspaces/lab%00/keys",
    ):
        assert manager.get(path).status_code == 404, path
