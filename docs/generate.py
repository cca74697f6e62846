"""Write the reference pages from the tables: ``python -m docs.generate``. A test checks that they are current."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from epista.cli import cli
from epista.client import settings as client_settings
from epista.contract import formats
from epista.contract.endpoints import ENDPOINTS
from epista.contract.errors import ERRORS, EpistaError
from epista.contract.openapi import field_docs, path_fields
from epista.contract.scopes import ROLES, SCOPES
from epista.serializers import formats as serializer_rows
from epista.server.access import policy
from epista.server.config import PREFIX, Config
from epista.server.services import functions, grammar
from tests.benchmarks import growth
from tests.benchmarks import page as benchmarks

HERE = Path(__file__).parent / "reference"

MADE = "<!-- Made by `python -m docs.generate`; changes here are lost. -->\n\n"
"""What each generated page begins with."""

_ABOUT_HTTP = """\
Generated from `epista/contract/endpoints.py`; the same rows make `/openapi.json`. Fields that stand in the path travel there,
the others as query parameters of GET and DELETE, and as a JSON object otherwise. A field that an endpoint does not know is
refused. Tokens travel as `Authorization: Bearer TOKEN`. Errors are `application/problem+json` (RFC 9457) with `code`, `hint`,
`details` and `request_id`: see [errors](errors.md). *Retry*: `safe` requests may be sent again; `key` ones with the same
`Idempotency-Key`, under which the reply is kept for a day; `never` ones may not.
"""

_ABOUT_FORMATS = """\
The longest matching extension of a key decides, in any case; `.gz` and `.bgz` wrap any of them. *Put and read* says whether
Epista turns objects into this format and back; any can be stored as a file, and read with `format="bytes"`.
"""

_ABOUT_SQL = """\
A query is one SELECT of DuckDB's: WITH, FROM first, VALUES, set operations and subqueries included. Every form, function and type
in it is on a list of this page; what is on none is refused, with its line and column. How tables are named, and what limits there
are: [SQL](../guides/sql.md). Generated from `epista/server/services/grammar.py` and `functions.py`.
"""


def http() -> str:
    """Return the page of the HTTP API."""
    lines = [
        "# HTTP API\n",
        _ABOUT_HTTP,
        "| name | request | scope | retry |\n|---|---|---|---|",
    ]
    lines += [
        f"| [{row.name}](#{row.name.replace('.', '')}) | `{row.method} {row.path}` | {row.scope or 'no token'} | {row.retry} |"
        for row in ENDPOINTS
    ]
    for row in ENDPOINTS:
        lines.append(f"\n## {row.name}\n\n`{row.method} {row.path}`\n\n{inspect.getdoc(row.request)}\n")
        if row.raw:
            body = "The body of the request is the bytes." if row.raw == "up" else "The answer is the bytes."
            lines.append(f"{body}\n")
        lines += _fields("Field", row.request, path_fields(row))
        if row.reply:
            lines.append(f"\nAnswers `{row.reply.__name__}`: {inspect.getdoc(row.reply)}\n")
            lines += _fields("Answer", row.reply, [])
    return "\n".join(lines) + "\n"


def errors() -> str:
    """Return the page of the errors."""
    lines = [
        "# Errors\n",
        "One tree on both ends: what the server raises arrives in the notebook as the same class. Every class is in `epista`.\n",
        "| class | also a | code | HTTP | meaning |\n|---|---|---|---|---|",
    ]
    for error in ERRORS.values():
        if error is not EpistaError:
            builtin = next(base.__name__ for base in error.__mro__ if base.__module__ == "builtins")
            meaning = (inspect.getdoc(error) or "").replace("\n", " ")
            lines.append(f"| `{error.__name__}` | `{builtin}` | `{error.code}` | {error.status} | {meaning} |")
    return "\n".join(lines) + "\n"


def policy_page() -> str:
    """Return the page of the policy."""
    lines = ["# Policy\n", "```text", (inspect.getdoc(policy) or ""), "```\n"]
    lines.append("| scope | allows | least role |\n|---|---|---|")
    for scope, meaning in SCOPES.items():
        role = policy.LEAST_ROLE.get(scope, "manager of the lab" if scope == "lab" else "anybody")
        lines.append(f"| `{scope}` | {meaning} | {role} |")
    lines.append(f"\nRoles, from least to most: {', '.join(ROLES)}.\n\n| scope | endpoints |\n|---|---|")
    scopes: tuple[str | None, ...] = (None, "any", *SCOPES)
    for scope_or_none in scopes:
        names = ", ".join(f"`{row.name}`" for row in ENDPOINTS if row.scope == scope_or_none)
        lines.append(f"| {scope_or_none or 'no token'} | {names} |")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Return the page of the settings of both ends."""
    lines = ["# Settings\n", "## Client\n", (inspect.getdoc(client_settings) or "") + "\n"]
    lines.append("| variable | meaning |\n|---|---|")
    lines += [f"| `EPISTA_{name}` | {meaning} |" for name, meaning in client_settings.VARIABLES.items()]
    lines += [
        "\n## Server\n",
        "A TOML file (`--config`), then environment variables, then the command line; later ones win.\n",
        "| setting | variable | default | meaning |\n|---|---|---|---|",
    ]
    docs = field_docs(Config)
    for name, default in zip(Config.__struct_fields__, Config.__struct_defaults__, strict=True):
        lines.append(f"| `{name}` | `{PREFIX}{name.upper()}` | `{default!r}` | {docs[name]} |")
    return "\n".join(lines) + "\n"


def formats_page() -> str:
    """Return the page of the formats."""
    lines = [
        "# Formats\n",
        _ABOUT_FORMATS,
        "| format | kind | extensions | media type | put and read |\n|---|---|---|---|---|",
    ]
    known = {row.name: row for row in serializer_rows()}
    for row in formats.FORMATS:
        extensions = " ".join(f"`.{extension}`" for extension in row.extensions)
        serializer = known.get(row.name)
        extra = "" if serializer is None else f"yes, with `epista[{serializer.extra}]`" if serializer.extra else "yes"
        lines.append(f"| {row.name} | {row.kind} | {extensions} | {row.media_type} | {extra} |")
    return "\n".join(lines) + "\n"


def sql() -> str:
    """Return the page of SQL."""
    everywhere = [name for name, one in functions.FUNCTIONS.items() if one.engines == tuple(grammar.ENGINES)]
    varying = [name for name, one in functions.FUNCTIONS.items() if not one.is_deterministic]
    lines = [
        "# SQL\n",
        _ABOUT_SQL,
        "## Functions\n",
        "A query with a function that its engine has not, or means something else by, is a `QueryError` before it runs.\n",
        f"### On both engines ({len(everywhere)})\n\n{_words(everywhere)}\n",
    ]
    for name, called in grammar.ENGINES.items():
        alone = [function for function, one in functions.FUNCTIONS.items() if one.engines == (name,)]
        if alone:
            lines.append(f"### On {called} alone ({len(alone)})\n\n{_words(alone)}\n")
    lines += [
        "### In FROM\n",
        f"{_words(functions.TABLE_FUNCTIONS)}\n",
        "### Which read the clock or roll dice\n",
        f"The same query may give another answer the next time: {_words(varying)}\n",
        "## Types\n",
        f"What may be cast to, all their other names included: {_words(one.value for one in grammar.TYPES)}\n",
        "## Forms\n",
        "What a query is made of, as its reader (sqlglot) calls it, and which parts each may have.\n",
        "| form | parts |\n|---|---|",
    ]
    forms = {grammar.name_of(node): parts for node, parts in grammar.NODES.items()}
    lines += [f"| {name} | {' '.join(part.strip('_') for part in parts.split())} |" for name, parts in sorted(forms.items())]
    lines.append("\n## Refused functions of DuckDB's\n\n| why | functions |\n|---|---|")
    lines.append("| reads files, or tells of the engine | all that give tables, but for those above |")
    lines += [f"| {why} | {_words(name for name in names if name[0] != '_')} |" for why, names in functions.DENIED.items()]
    return "\n".join(lines) + "\n"


def _words(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in sorted(words))


def command_line() -> str:
    """Return the page of the command line."""
    lines = ["# Command line\n"]
    _commands(cli, "epista", lines)
    return "\n".join(lines) + "\n"


def _commands(command: click.Command, path: str, lines: list[str]) -> None:
    # The names of the help option are those of the whole command line, which a command by itself does not know.
    names = cli.context_settings["help_option_names"]
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100, help_option_names=names)
    lines.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            _commands(command.commands[name], f"{path} {name}", lines)


def _fields(title: str, message: type, in_path: list[str]) -> list[str]:
    docs = field_docs(message)
    if not docs:
        return []
    lines = [f"| {title.lower()} | meaning |\n|---|---|"]
    for name, text in docs.items():
        where = " (in the path)" if name in in_path else ""
        lines.append(f"| `{name}`{where} | {' '.join(text.split())} |")
    return lines


PAGES: dict[str, Callable[[], str]] = {
    "http.md": http,
    "errors.md": errors,
    "policy.md": policy_page,
    "settings.md": settings,
    "formats.md": formats_page,
    "sql.md": sql,
    "cli.md": command_line,
    "benchmarks.md": benchmarks.page,
    "growth.md": growth.page,
}
"""Every generated page."""


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(MADE + page(), encoding="utf-8")


if __name__ == "__main__":
    main()
