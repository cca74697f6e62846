"""The OpenAPI 3.1 document of the rows, and of their messages with the docstrings of their fields."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from typing import Any, get_type_hints

import msgspec

from epista.contract.endpoints import ENDPOINTS, Endpoint
from epista.contract.errors import ERRORS

_REF = "#/components/schemas/{name}"

_PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "hint", "details", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "An address that stands for the error class"},
        "title": {"type": "string", "description": "The name of the error class, in words"},
        "status": {"type": "integer", "description": "The HTTP status"},
        "detail": {"type": "string", "description": "The fact, and the nearest alternative"},
        "code": {"type": "string", "description": "Names the error class"},
        "hint": {"type": ["string", "null"], "description": "The next step"},
        "details": {"type": "object", "description": "For programs"},
        "request_id": {"type": "string", "description": "Names the request in the server's log"},
    },
}


@functools.cache
def document() -> dict[str, Any]:
    """Return the whole document."""
    messages = [row.request for row in ENDPOINTS] + [row.reply for row in ENDPOINTS if row.reply]
    _, schemas = msgspec.json.schema_components(messages, ref_template=_REF)
    for message in {struct for top in messages for struct in _structs(top)}:
        described = schemas.get(message.__name__, {})
        for name, text in field_docs(message).items():
            described.get("properties", {}).get(name, {})["description"] = text
    paths: dict[str, dict[str, Any]] = {}
    for row in ENDPOINTS:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schemas)
    schemas = {name: schema for name, schema in schemas.items() if name not in _spread()} | {"Problem": _PROBLEM}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Epista", "version": "1", "description": "One governed bucket for a lab's data."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def field_docs(message: type[msgspec.Struct]) -> dict[str, str]:
    """Return what stands below each field of a message in its source."""
    found: dict[str, str] = {}
    for base in reversed(message.__mro__):
        if not (isinstance(base, type) and issubclass(base, msgspec.Struct)) or base is msgspec.Struct:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found


def path_fields(row: Endpoint) -> list[str]:
    """Return the fields of the request that stand in the path."""
    return [part[1:-1] for part in row.path.split("/") if part.startswith("{")]


def _operation(row: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    in_path = path_fields(row)
    schema = schemas[row.request.__name__]
    has_query = row.method in ("GET", "DELETE") or row.raw == "up"
    parameters = []
    for name, field in schema["properties"].items():
        if name in in_path or has_query:
            parameters.append(
                {
                    "name": name,
                    "in": "path" if name in in_path else "query",
                    "required": name in in_path or name in schema.get("required", ()),
                    "schema": _in_address(field, in_path=name in in_path),
                    "description": field.get("description", ""),
                }
            )
    operation: dict[str, Any] = {
        "operationId": row.name,
        "summary": (inspect.getdoc(row.request) or "").split("\n\n")[0].replace("\n", " "),
        "tags": [row.name.partition(".")[0]],
        "parameters": parameters,
        "security": [{"token": [] if row.scope in (None, "any") else [row.scope]}] if row.scope else [{}, {"token": []}],
        "responses": _responses(row),
    }
    if row.raw == "up":
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
            },
        }
    elif not has_query:
        body = {name: field for name, field in schema["properties"].items() if name not in in_path}
        required = [name for name in schema.get("required", ()) if name not in in_path]
        operation["requestBody"] = {
            "required": bool(required),
            "content": {
                "application/json": {
                    "schema": {"type": "object", "properties": body, "required": required, "additionalProperties": False}
                }
            },
        }
    return operation


def _in_address(field: dict[str, Any], *, in_path: bool) -> dict[str, Any]:
    """Return the schema of a field where it stands in an address: null is said by leaving it out."""
    schema = {name: value for name, value in field.items() if name not in ("description", "default")}
    if "anyOf" in schema:
        schema["anyOf"] = [one for one in schema["anyOf"] if one != {"type": "null"}]
        if len(schema["anyOf"]) == 1:
            schema = schema["anyOf"][0]
    if in_path and schema.get("type") == "string" and "pattern" not in schema:
        # An empty segment, or one with a slash, is another address.
        schema = schema | {"minLength": 1, "pattern": r"^[^/]+$"}
    return schema


def _responses(row: Endpoint) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    if row.raw == "down":
        media = "text/plain" if row.name == "assets.keys" else "*/*"
        done: dict[str, Any] = {"description": "The bytes", "content": {media: {"schema": {"type": "string"}}}}
    else:
        assert row.reply is not None
        schema = {"$ref": _REF.format(name=row.reply.__name__)}
        done = {
            "description": (inspect.getdoc(row.reply) or "").split("\n")[0],
            "content": {"application/json": {"schema": schema}},
        }
    found: dict[str, Any] = {"200": done}
    if row.name in ("objects.content", "links.open"):
        found |= {"206": done | {"description": "The part asked for"}, "304": {"description": "The caller has these bytes"}}
        found["412"] = {"description": "The bytes are others than those the caller asks for"}
        found["416"] = {"description": "There is no such part"}
    if row.method in ("GET", "DELETE"):
        found["414"] = {"description": "The address is longer than the server reads"}
    codes: dict[int, list[str]] = {}
    for error in ERRORS.values():
        codes.setdefault(error.status, []).append(error.code)
    for status in (400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 507):
        found[str(status)] = {"description": ", ".join(codes.get(status, [])), "content": problem}
    return found


def _structs(top: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    found: set[type[msgspec.Struct]] = {top}
    todo = list(get_type_hints(top).values())
    while todo:
        hint = todo.pop()
        todo.extend(getattr(hint, "__args__", ()))
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and hint not in found:
            found.add(hint)
            todo.extend(get_type_hints(hint).values())
    return found


def _spread() -> set[str]:
    """Requests are spread over addresses and bodies, so their own schemas are left out."""
    return {row.request.__name__ for row in ENDPOINTS}
