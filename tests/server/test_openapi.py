"""The OpenAPI document: valid, whole, and open to everybody."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import requests
from openapi_spec_validator import validate

from epista.contract.endpoints import ENDPOINTS, Endpoint
from epista.contract.openapi import document, path_fields
from tests.makers import Server

every_row = pytest.mark.parametrize("row", ENDPOINTS, ids=[row.name for row in ENDPOINTS])


def operation(row: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = document()["paths"][row.path][row.method.lower()]
    return found


def as_json() -> Any:
    return msgspec.json.decode(msgspec.json.encode(document()))


def test_the_document_is_valid() -> None:
    validate(as_json())


def test_the_server_gives_it_to_anybody(server: Server) -> None:
    answer = requests.get(server.url + "/openapi.json", timeout=60)

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == as_json()


def test_it_lists_the_rows_and_nothing_else() -> None:
    listed = [(path, method.upper()) for path, methods in document()["paths"].items() for method in methods]

    assert sorted(listed) == sorted((row.path, row.method) for row in ENDPOINTS)


@every_row
def test_every_field_of_the_request_stands_somewhere(row: Endpoint) -> None:
    found = operation(row)
    parameters = {one["name"]: one["in"] for one in found["parameters"]}
    content = found.get("requestBody", {}).get("content", {})
    body = content.get("application/json", {}).get("schema", {}).get("properties", {})

    assert found["operationId"] == row.name
    assert {name for name, where in parameters.items() if where == "path"} == set(path_fields(row))
    assert set(parameters) | set(body) == set(row.request.__struct_fields__)
    assert not set(parameters) & set(body)
    assert ("application/octet-stream" in content) == (row.raw == "up")


@every_row
def test_everything_is_described(row: Endpoint) -> None:
    found = operation(row)

    assert found["summary"].endswith(".")
    assert all(one["description"] for one in found["parameters"])
    assert all(one["description"] for one in found["responses"].values())


@every_row
def test_the_token_and_its_scope_are_said(row: Endpoint) -> None:
    security = operation(row)["security"]

    if row.scope is None:
        assert {} in security
    else:
        assert security == [{"token": [] if row.scope == "any" else [row.scope]}]


def test_every_message_is_a_schema_with_described_fields() -> None:
    schemas = document()["components"]["schemas"]

    for name, schema in schemas.items():
        for field, one in schema.get("properties", {}).items():
            assert one.get("description"), f"{name}.{field}"
