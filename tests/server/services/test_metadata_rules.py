"""Rules that are well-formed JSON Schema and lead nowhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.makers import Server

DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param('{"$ref": "#"}', "leads back to itself", id="endless"),
        pytest.param('{"$ref": "#/nowhere"}', "leads nowhere", id="dangling"),
        pytest.param(f'{{"default": {DEEP}, "type": 1}}', "", id="deep"),
        pytest.param('{"allOf": [' * 450 + "{}" + "]}" * 450, "nests too deeply", id="deep schema"),
    ],
)
def test_a_schema_that_cannot_be_applied_is_refused(server: Server, schema: str, said: str) -> None:
    api = server.api()

    answer = api.call("PUT", "~/rules", data=f'{{"rules": [{{"name": "r", "schema": {schema}}}]}}')

    assert answer.status_code == 422, answer.text
    assert said in answer.text
    api.put("a.txt")


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"properties": {"x": {"$ref": "#/nowhere"}}}, id="dangling"),
        pytest.param({"properties": {"x": {"$ref": "#/properties/x"}}}, id="endless"),
    ],
)
def test_metadata_that_leads_to_where_a_schema_has_no_bottom_is_a_violation(server: Server, schema: dict[str, Any]) -> None:
    api = server.api()
    api.ok(api.call("PUT", "~/rules", json={"rules": [{"name": "r", "schema": schema}]}))

    answer = api.try_put("a.txt", meta={"x": 1})

    assert answer.status_code == 422, answer.text
    assert "cannot be checked" in answer.json()["details"]["violations"][0]["message"]


def test_a_pattern_that_takes_for_ever_is_cut_off_and_others_go_on_writing(server: Server) -> None:
    api = server.api()
    endless = {"properties": {"x": {"pattern": "^(a+)+$"}}}
    api.ok(api.call("PUT", "~/rules", json={"rules": [{"name": "r", "schema": endless, "key": "slow/*"}]}))
    sha256 = api.upload(b"data")
    body = {"objects": [{"key": "slow/a.txt", "sha256": sha256, "meta": {"x": "a" * 60 + "!"}}]}

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(api.post, "~/objects", **body)
        others = 0
        while not slow.done():
            api.put(f"fast/{others}.txt", str(others).encode())
            others += 1

    assert slow.result().status_code == 422, slow.result().text
    assert "could not be checked" in slow.result().json()["detail"]
    assert others > 3
    assert api.keys("slow/") == []
