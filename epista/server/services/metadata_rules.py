"""
Metadata rules: which JSON Schema the metadata of which assets must satisfy.

Which rule is about which asset is decided here; whether the metadata satisfies the schema, in a limited child process.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from epista.contract import formats, keys
from epista.contract.errors import ValidationError
from epista.contract.workspaces import Rule
from epista.server.engines.schema_checks import SchemaChecks
from epista.server.stores.tables import rules, users

MAX_REPORTED = 1000
"""How many violations one error lists."""


# Written once: every commit asks it.
_NEWEST = (
    select(rules, users.c.name.label("author"))
    .join(users, users.c.id == rules.c.created_by)
    .where(rules.c.workspace_id == bindparam("workspace_id"))
    .order_by(rules.c.version.desc())
    .limit(1)
)


def current(tx: Connection, workspace_id: int, version: int | None = None) -> RowMapping | None:
    """Return the row of the rules in force, or of an older version."""
    found = _NEWEST if version is None else _NEWEST.where(rules.c.version == version)
    return tx.execute(found, {"workspace_id": workspace_id}).mappings().first()


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


def check_schemas(checks: SchemaChecks, wanted: Sequence[Rule]) -> None:
    """Refuse rules whose schema is none, or points outside itself; every such rule is reported."""
    paths = [f"rules[{number}] ({rule.name})" for number, rule in enumerate(wanted)]
    violations = [
        {"path": f"{paths[one.position]}.schema" + (f".{one.path}" if one.path else ""), "message": one.message}
        for one in (checks.faults(_schemas(wanted)) if wanted else ())
    ]
    for path, rule in zip(paths, wanted, strict=True):
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


class Subject(NamedTuple):
    """What a rule looks at: an asset as it would be."""

    key: str
    kind: str
    meta: str
    """JSON text."""


def violations(checks: SchemaChecks, wanted: Sequence[Rule], subjects: Sequence[Subject]) -> list[dict[str, str]]:
    """Return everything in the metadata of *subjects* that breaks the rules *wanted*."""
    pairs = [(number, subject) for subject in subjects for number, rule in enumerate(wanted) if _is_about(rule, subject)]
    if not pairs:
        return []
    documents = [(number, json.loads(subject.meta)) for number, subject in pairs]
    found = []
    for one in checks.violations(_schemas(wanted), documents):
        number, subject = pairs[one.position]
        found.append({"key": subject.key, "path": one.path, "message": one.message, "rule": wanted[number].name})
    return found


def _schemas(wanted: Iterable[Rule]) -> list[str]:
    return [json.dumps(rule.schema) for rule in wanted]


def _is_about(rule: Rule, subject: Subject) -> bool:
    experiment = keys.experiment_of(subject.key)
    return (
        (rule.experiment is None or (experiment is not None and fnmatch.fnmatchcase(experiment, rule.experiment)))
        and (rule.kind is None or rule.kind.upper() == subject.kind)
        and (rule.key is None or fnmatch.fnmatchcase(subject.key, rule.key))
    )


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
