"""
Metadata rules: which JSON Schema the metadata of which assets must satisfy.

Compiled once per version of a workspace's rules; a version never changes, so the cache needs no invalidation.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select

from epista.contract import formats
from epista.contract.errors import ValidationError
from epista.contract.workspaces import Rule
from epista.server.stores.tables import rules, users

MAX_REPORTED = 1000
"""How many violations one error lists."""


def current(tx: Connection, workspace_id: int, version: int | None = None) -> RowMapping | None:
    """Return the row of the rules in force, or of an older version."""
    found = select(rules, users.c.name.label("author")).join(users, users.c.id == rules.c.created_by)
    found = found.where(rules.c.workspace_id == workspace_id)
    if version is not None:
        found = found.where(rules.c.version == version)
    return tx.execute(found.order_by(rules.c.version.desc()).limit(1)).mappings().first()


def add(tx: Connection, *, workspace_id: int, version: int, wanted: Iterable[Rule], user_id: int, at: int) -> None:
    """Add a version of the rules."""
    document = msgspec.json.encode(list(wanted)).decode()
    row = {"workspace_id": workspace_id, "version": version, "document": document, "created_at": at, "created_by": user_id}
    tx.execute(insert(rules).values(row))


def loaded(row: RowMapping | None) -> tuple[Rule, ...]:
    """Return the rules in a row."""
    return msgspec.json.decode(row["document"], type=tuple[Rule, ...]) if row else ()


def concerning(wanted: Iterable[Rule], experiments: Collection[str] | None) -> tuple[Rule, ...]:
    """Return the rules that can be about assets of *experiments* (None: of all): the others name what does not exist there."""
    if experiments is None:
        return tuple(wanted)

    def concerns(rule: Rule, experiment: str) -> bool:
        if rule.experiment is not None and not fnmatch.fnmatchcase(experiment, rule.experiment):
            return False
        if rule.key is None:
            return True
        # Of the pattern of a key, the part that its first folder must match; without an end it is about keys at the root.
        first = re.match(r"([^*/]*)([*/])", rule.key)
        return first is not None and fnmatch.fnmatchcase(experiment, first[1] + first[2].removesuffix("/"))

    return tuple(rule for rule in wanted if any(concerns(rule, experiment) for experiment in experiments))


def check_schemas(wanted: Sequence[Rule]) -> None:
    """Refuse rules whose schema is none, or points outside itself; every such rule is reported."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator
    from referencing.exceptions import Unresolvable

    violations = []
    for number, rule in enumerate(wanted):
        path = f"rules[{number}] ({rule.name})"
        try:
            Draft202012Validator.check_schema(rule.schema)
        except SchemaError as error:
            violations.append({"path": f"{path}.schema.{_dotted(error.absolute_path)}", "message": error.message})
            continue
        except RecursionError:
            violations.append({"path": f"{path}.schema", "message": "nests too deeply"})
            continue
        try:
            _validator(rule).is_valid({})
        except (RecursionError, Unresolvable) as error:
            violations.append({"path": f"{path}.schema", "message": _inapplicable(error)})
        violations.extend({"path": path, "message": f"points outside itself: {ref}"} for ref in _outside(rule.schema))
        if rule.kind is not None and rule.kind.upper() not in formats.KINDS:
            message = f"no kind {rule.kind!r}; there are {', '.join(formats.KINDS)}"
            violations.append({"path": path, "message": message})
    if len({rule.name for rule in wanted}) < len(wanted):
        violations.append({"path": "rules", "message": "two rules have the same name"})
    if violations:
        raise ValidationError(
            f"{violations[0]['path']}: {violations[0]['message']}",
            hint="schemas are JSON Schema, draft 2020-12",
            details={"violations": violations},
        )


def violations(document: str, *, key: str, experiment: str | None, kind: str, meta: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return everything in *meta* that breaks the rules in *document* (JSON text) for such an asset."""
    compiled = _compiled(document)
    if not compiled:
        return []
    from referencing.exceptions import Unresolvable

    found: list[dict[str, str]] = []
    for rule, validator in compiled:
        if (
            (rule.experiment is None or (experiment is not None and fnmatch.fnmatchcase(experiment, rule.experiment)))
            and (rule.kind is None or rule.kind.upper() == kind)
            and (rule.key is None or fnmatch.fnmatchcase(key, rule.key))
        ):
            try:
                errors = sorted(validator.iter_errors(meta), key=lambda error: [str(part) for part in error.absolute_path])
            except (RecursionError, Unresolvable) as fault:
                # Only some metadata may lead to where a schema has no bottom, so it is not always seen when rules are set.
                found.append({"key": key, "path": "", "message": f"cannot be checked: {_inapplicable(fault)}", "rule": rule.name})
                continue
            for error in errors:
                message = error.message if len(error.message) <= 300 else error.message[:300] + "..."
                found.append({"key": key, "path": _dotted(error.absolute_path), "message": message, "rule": rule.name})
    return found


def refuse(found: Sequence[dict[str, str]]) -> None:
    """Report all violations at once, if there are any."""
    if not found:
        return
    lines = [f"{one['key']}: {one['path'] or 'metadata'}: {one['message']} (rule {one['rule']!r})" for one in found[:20]]
    more = f"\n... and {len(found) - 20} more" if len(found) > 20 else ""
    raise ValidationError(
        "the metadata breaks the rules of this workspace:\n" + "\n".join(lines) + more,
        hint="epista rules show",
        details={"violations": list(found[:MAX_REPORTED]), "count": len(found)},
    )


@functools.lru_cache(maxsize=64)
def _compiled(document: str) -> list[tuple[Rule, Any]]:
    return [(rule, _validator(rule)) for rule in msgspec.json.decode(document, type=tuple[Rule, ...])]


def _validator(rule: Rule) -> Any:
    # Imported when the first rule is checked: most labs have none, and jsonschema takes a while to load.
    import referencing
    from jsonschema.validators import Draft202012Validator

    # An empty registry retrieves nothing: no schema makes the server read an address.
    return Draft202012Validator(rule.schema, registry=referencing.Registry())


def _inapplicable(error: Exception) -> str:
    """Return what is wrong with a schema that is well-formed and leads nowhere."""
    return "a reference leads back to itself" if isinstance(error, RecursionError) else f"a reference leads nowhere: {error}"


def _outside(schema: Any) -> list[str]:
    found: list[str] = []
    todo = [schema]
    while todo:  # not by recursion: a schema may nest as deeply as a request
        part = todo.pop()
        if isinstance(part, dict):
            here = [part[name] for name in ("$ref", "$dynamicRef") if isinstance(part.get(name), str)]
            found += [ref for ref in here if not ref.startswith("#")]
            todo += reversed(part.values())
        elif isinstance(part, list):
            todo += reversed(part)
    return found


def _dotted(path: Iterable[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def document_of(row: RowMapping | None) -> str:
    """Return the rules in a row as JSON text, the form in which they are compiled and cached."""
    return str(row["document"]) if row else json.dumps([])
