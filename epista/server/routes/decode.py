"""Requests as they come over the wire, decoded into the message of their row."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from epista.contract.endpoints import Endpoint
from epista.contract.errors import InvalidRequestError, TooLargeError
from epista.contract.messages import Request

_CONTAINERS = 200_000
_BYTES_PER_CONTAINER = 32

M = TypeVar("M", bound=msgspec.Struct)


def from_query(row: Endpoint, path: Mapping[str, str], query: list[tuple[str, str]]) -> Request:
    """Return the message of a request whose fields stand in its path and query."""
    hints = _hints(row.request)
    found: dict[str, Any] = {}
    for name, value in query:
        if name in path:
            raise InvalidRequestError(f"{name!r} stands in the path and in the query")
        if name not in hints:
            raise _unknown(row, name)
        if _is_tuple(hints[name]):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise InvalidRequestError(f"{name!r} is given twice")
        else:
            found[name] = value
    return _converted(row, {**found, **path}, strict=False)


def from_json(row: Endpoint, path: Mapping[str, str], body: bytes) -> Request:
    """Return the message of a request whose fields stand in its path and a JSON object."""
    _refuse_containers(body)
    try:
        found = msgspec.json.decode(body) if body else {}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidRequestError("the body nests too deeply") from error
    if not isinstance(found, dict):
        raise InvalidRequestError("the body is a JSON object")
    for name in found:
        if name in path:
            raise InvalidRequestError(f"{name!r} stands in the path and in the body")
    return _converted(row, {**found, **path}, strict=True)


def message(as_type: type[M], text: bytes) -> M:
    """Return a JSON message that stands in a body beside other things."""
    _refuse_containers(text)
    try:
        return msgspec.json.decode(text, type=as_type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"the message does not fit: {error}") from error
    except RecursionError as error:
        raise InvalidRequestError("the message nests too deeply") from error


def _refuse_containers(body: bytes) -> None:
    # Counted before it is decoded: millions of empty lists fit into a small body, and other requests wait for their decoding.
    if body.count(b"[") + body.count(b"{") > _CONTAINERS + len(body) // _BYTES_PER_CONTAINER:
        raise TooLargeError("the body has more lists and objects than one of its size may have", hint="split it")


def _converted(row: Endpoint, found: Mapping[str, Any], *, strict: bool) -> Request:
    try:
        return msgspec.convert(found, row.request, strict=strict)
    except msgspec.ValidationError as error:
        unknown = [name for name in found if name not in row.request.__struct_fields__]
        if unknown:
            raise _unknown(row, unknown[0]) from error
        raise InvalidRequestError(f"the request does not fit: {error}", hint=f"see {row.name} in the HTTP reference") from error
    except RecursionError as error:
        raise InvalidRequestError("the request nests too deeply") from error


def _unknown(row: Endpoint, name: str) -> InvalidRequestError:
    known = ", ".join(field for field in row.request.__struct_fields__)
    return InvalidRequestError(f"{row.name} has no field {name!r}; it has {known or 'none'}")


@functools.cache
def _hints(request: type[Request]) -> dict[str, Any]:
    return get_type_hints(request)


def _is_tuple(hint: Any) -> bool:
    return any(get_origin(part) is tuple for part in (hint, *getattr(hint, "__args__", ())))
