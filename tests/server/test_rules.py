"""Metadata rules: what breaks them is not recorded, and everything that is wrong is said at once."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests

from tests.makers import Api, Server

TEMPERATURE = {
    "type": "object",
    "required": ["temp"],
    "properties": {"temp": {"type": "number", "minimum": 0}, "donor": {"type": "string", "pattern": "^D[0-9]+$"}},
}


def set_rules(api: Api, *rules: dict[str, Any], **given: Any) -> requests.Response:
    return api.call("PUT", "~/rules", json={"rules": [{"name": f"rule {n}"} | rule for n, rule in enumerate(rules)]} | given)


def violations(answer: requests.Response) -> list[tuple[str, str, str]]:
    assert (answer.status_code, answer.json()["code"]) == (422, "validation"), answer.text
    return [(one["key"], one["path"], one["rule"]) for one in answer.json()["details"]["violations"]]


def test_metadata_that_breaks_a_rule_is_not_recorded_and_every_path_is_listed(server: Server) -> None:
    api = server.api()
    api.ok(set_rules(api, {"schema": TEMPERATURE}, {"schema": {"maxProperties": 1}}))

    answer = api.try_put("EXP-1/a.csv", meta={"temp": -1, "donor": "x"})

    assert sorted(violations(answer)) == [
        ("EXP-1/a.csv", "", "rule 1"),
        ("EXP-1/a.csv", "donor", "rule 0"),
        ("EXP-1/a.csv", "temp", "rule 0"),
    ]
    assert answer.json()["hint"] == "epista rules show"
    assert api.keys() == []
    assert api.put("EXP-1/a.csv", meta={"temp": 37})["meta"] == {"temp": 37}


def test_one_key_that_breaks_a_rule_refuses_the_whole_commit(server: Server) -> None:
    api = server.api()
    api.ok(set_rules(api, {"schema": TEMPERATURE}))
    digest = api.upload(b"data")
    objects = [{"key": f"{n}.txt", "sha256": digest, "meta": {"temp": 1} if n else {}} for n in range(3)]

    assert violations(api.post("~/objects", objects=objects)) == [("0.txt", "", "rule 0")]
    assert api.keys() == []


@pytest.mark.parametrize(
    ("rule", "bound", "free"),
    [
        pytest.param({"experiment": "EXP-*"}, ["EXP-1/a.csv", "EXP-1/b/c"], ["a.csv", "exp-1/a", "X/EXP-1"], id="experiment"),
        pytest.param({"kind": "table"}, ["a.csv", "EXP-1/a.parquet"], ["a.txt", "a.fcs"], id="kind"),
        pytest.param({"key": "*/raw/*.csv"}, ["E/raw/a.csv", "E/x/raw/y/a.csv"], ["raw/a.csv", "E/raw/a.txt"], id="key"),
        pytest.param({"key": "*.csv", "experiment": "EXP-1"}, ["EXP-1/a.csv"], ["EXP-2/a.csv", "EXP-1/a.txt"], id="both"),
        pytest.param({}, ["a.csv", "EXP-1/a.fcs"], [], id="everything"),
    ],
)  # fmt: skip
def test_a_rule_is_about_the_assets_that_it_names(
    server: Server, rule: dict[str, Any], bound: list[str], free: list[str]
) -> None:
    api = server.api()
    api.ok(set_rules(api, {"schema": {"required": ["temp"]}} | rule))

    assert [api.try_put(key).status_code for key in bound] == [422] * len(bound)
    assert [api.try_put(key).status_code for key in free] == [200] * len(free)


def test_every_way_to_a_new_version_passes_the_rules(server: Server) -> None:
    api = server.api()
    first = api.put("a.txt", b"1", meta={"temp": -5})
    api.put("a.txt", b"2", meta={"temp": 5})
    api.put("hidden.txt", b"3", meta={})
    api.ok(api.post("~/delete", key="hidden.txt"))
    api.ok(set_rules(api, {"schema": TEMPERATURE}))

    assert violations(api.post("~/metadata", key="a.txt", meta={"temp": "warm"})) == [("a.txt", "temp", "rule 0")]
    assert violations(api.post("~/restore", key="a.txt", version=first["version"])) == [("a.txt", "temp", "rule 0")]
    assert violations(api.try_put("a.txt", b"3", meta={})) == [("a.txt", "", "rule 0")]
    assert api.put("a.txt", b"3")["meta"] == {"temp": 5}
    # What was there before the rule stays, and may come back as it was.
    assert api.ok(api.post("~/restore", key="hidden.txt"))["meta"] == {}
    assert api.ok(api.get("~/versions", key="a.txt"))["versions"][-1]["meta"] == {"temp": -5}


def test_what_breaks_new_rules_is_found_page_by_page(server: Server) -> None:
    api = server.api()
    for number in range(7):
        api.put(f"{number}.txt", meta={"temp": number} if number % 2 else {})
    api.ok(set_rules(api, {"schema": TEMPERATURE}))

    found, checked, after = [], 0, None
    while True:
        page = api.ok(api.get("~/rules/check", limit=3, **({"after": after} if after else {})))
        found += [one["key"] for one in page["breaks"]]
        checked += page["checked"]
        after = page["next"]
        if not after:
            break

    assert (found, checked) == (["0.txt", "2.txt", "4.txt", "6.txt"], 7)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "nonsense"}, id="type"),
        pytest.param({"properties": []}, id="properties"),
        pytest.param({"minimum": "x"}, id="minimum"),
        pytest.param({"$ref": "http://127.0.0.1:1/schema.json"}, id="an address"),
        pytest.param({"$ref": "file:///etc/passwd"}, id="a file"),
        pytest.param({"properties": {"a": {"$ref": "other.json#/x"}}}, id="a relative address"),
        pytest.param({"allOf": [{"$dynamicRef": "https://example.org/x"}]}, id="a dynamic one"),
    ],
)
def test_a_schema_that_is_none_or_points_outside_itself_is_refused(server: Server, schema: dict[str, Any]) -> None:
    api = server.api()

    answer = set_rules(api, {"schema": {"type": "object"}}, {"schema": schema})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation")
    assert answer.json()["details"]["violations"][0]["path"].startswith("rules[1] (rule 1)")
    assert api.ok(api.get("~/rules"))["version"] == 0


def test_references_within_a_schema_work(server: Server) -> None:
    api = server.api()
    api.ok(set_rules(api, {"schema": {"$defs": {"d": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d"}}}}))

    assert violations(api.try_put("a.txt", meta={"a": 1})) == [("a.txt", "a", "rule 0")]
    assert api.try_put("a.txt", meta={"a": "text"}).status_code == 200


def test_a_pattern_that_takes_for_ever_holds_up_nobody(server: Server) -> None:
    api = server.api()
    api.ok(set_rules(api, {"schema": {"properties": {"a": {"pattern": "^(a+)+$"}}}}))
    began = time.monotonic()

    answer = api.try_put("a.txt", meta={"a": "a" * 60 + "!"})

    assert answer.status_code != 500
    assert answer.status_code >= 400
    assert api.keys() == []
    assert api.put("b.txt", meta={"a": "aaa"})["number"] == 1
    assert time.monotonic() - began < 30


def test_two_rules_have_two_names_and_a_known_kind(server: Server) -> None:
    api = server.api()

    assert set_rules(api, {"schema": {}, "name": "same"}, {"schema": {}, "name": "same"}).status_code == 422
    assert set_rules(api, {"schema": {}, "kind": "SOUND"}).status_code == 422
    assert set_rules(api, {"schema": {}, "nosuch": 1}).status_code == 400
    assert api.ok(api.get("~/rules"))["version"] == 0


def test_versions_of_the_rules_are_kept_and_counted(server: Server) -> None:
    api = server.api()
    assert api.ok(api.get("~/rules")) == {"version": 0, "rules": [], "changed_at": None, "changed_by": None}

    api.ok(set_rules(api, {"schema": TEMPERATURE}, expect=0))
    api.ok(set_rules(api, expect=1))
    late = set_rules(api, {"schema": {}}, expect=1)

    assert (late.status_code, late.json()["details"]) == (409, {"found": 2})
    assert api.ok(api.get("~/rules"))["version"] == 2
    assert [rule["schema"] for rule in api.ok(api.get("~/rules", version=1))["rules"]] == [TEMPERATURE]
    assert api.get("~/rules", version=3).status_code == 404
    assert api.put("a.txt")["number"] == 1


def test_rules_of_one_workspace_are_not_those_of_another(server: Server) -> None:
    other = server.api(workspace="other")
    other.create_workspace("other")
    other.ok(set_rules(other, {"schema": TEMPERATURE}))

    assert server.api().put("a.txt")["number"] == 1
    assert other.try_put("a.txt").status_code == 422
