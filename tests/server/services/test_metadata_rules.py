"""Rules that are well-formed JSON Schema and lead nowhere."""

from __future__ import annotations

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
