"""
JSON Schema checks, in a limited child: it alone loads jsonschema, and a pattern that takes for ever ends with it.

Draft 2020-12 (json-schema.org). The child's side; `schema_checks` is the server's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from epista.server.engines import sandbox

MAX_MESSAGE_CHARACTERS = 300
"""How much of one message is told; it may quote the document."""

MAX_VIOLATIONS = 1000
"""How many violations one job reports."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, and the schemas that they must satisfy."""

    schemas: list[str]
    """As JSON text."""
    documents: list[tuple[int, dict[str, Any]]]
    """Each with the position of its schema; none of them: the schemas themselves are checked."""


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    position: int
    """Of the document in the job, or of the schema if schemas are checked."""
    path: str
    """Where in it."""
    message: str
    """What."""


def check(job: Job) -> list[Violation]:
    """Return everything that is wrong, up to `MAX_VIOLATIONS`."""
    found: list[Violation] = []
    if not job.documents:
        for position, text in enumerate(job.schemas):
            found += [Violation(position=position, path=path, message=said) for path, said in _faults(text)]
    for position, (schema, document) in enumerate(job.documents):
        found += [Violation(position=position, path=path, message=said) for path, said in _broken(job.schemas[schema], document)]
        if len(found) >= MAX_VIOLATIONS:
            break
    return found[:MAX_VIOLATIONS]


def _faults(text: str) -> list[tuple[str, str]]:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator
    from referencing.exceptions import Unresolvable

    schema = msgspec.json.decode(text)
    try:
        Draft202012Validator.check_schema(schema)
        _validator(text).is_valid({})
    except SchemaError as error:
        return [(_dotted(error.absolute_path), _cut(error.message))]
    except (RecursionError, Unresolvable) as error:
        return [("", _inapplicable(error))]
    return []


def _broken(text: str, document: dict[str, Any]) -> list[tuple[str, str]]:
    from referencing.exceptions import Unresolvable

    try:
        errors = sorted(_validator(text).iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    except (RecursionError, Unresolvable) as fault:
        # Only some documents may lead to where a schema has no bottom, so it is not always seen when rules are set.
        return [("", f"cannot be checked: {_inapplicable(fault)}")]
    return [(_dotted(error.absolute_path), _cut(error.message)) for error in errors]


@lru_cache(maxsize=64)
def _validator(text: str) -> Any:
    import referencing
    from jsonschema.validators import Draft202012Validator

    # An empty registry retrieves nothing: no schema makes the server read an address.
    return Draft202012Validator(msgspec.json.decode(text), registry=referencing.Registry())


def _inapplicable(error: Exception) -> str:
    """Return what is wrong with a schema that is well-formed and leads nowhere."""
    if isinstance(error, RecursionError):
        return "it nests too deeply, or a reference leads back to itself"
    return f"a reference leads nowhere: {_cut(str(error))}"


def _dotted(path: Iterable[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[:MAX_MESSAGE_CHARACTERS] + "..."


def _work(job: bytes) -> bytes:
    return msgspec.json.encode(check(msgspec.json.decode(job, type=Job)))


if __name__ == "__main__":
    sandbox.serve(_work)
