"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import click

from epista.cli import output
from epista.client import settings
from epista.client.workspace import Workspace
from epista.contract.errors import EpistaError, NotFoundError

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., object])

_COMPLETIONS = 500

_FOUNDERS = frozenset(("put", "create", "add", "set", "demo"))
"""Commands with which a lab may begin."""


def _keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    # Before the command or after it: contexts share their meta, and what stands closer to the command comes last.
    if value is not None and param.name:
        ctx.meta[f"epista.{param.name}"] = value


lab = click.option(
    "--lab",
    metavar="LOCATION",
    expose_value=False,
    callback=_keep,
    is_eager=True,
    help="A server's address, or the folder of a lab, which a first put makes.",
)
"""Where the lab is."""

workspace = click.option(
    "--workspace", metavar="NAME", expose_value=False, callback=_keep, is_eager=True, help="The workspace, if there are several."
)
"""Which workspace of it."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print the message of the HTTP API.")
"""For programs."""


def location(ctx: click.Context) -> str | None:
    """Return what ``--lab`` said."""
    said: str | None = ctx.meta.get("epista.lab")
    return said


def workspace_name(ctx: click.Context) -> str | None:
    """Return what ``--workspace`` said."""
    said: str | None = ctx.meta.get("epista.workspace")
    return said


def on_lab(command: Callable[Concatenate[Workspace, P], None]) -> Callable[P, None]:
    """Open the lab for a command that needs no workspace."""

    @lab
    @functools.wraps(command)
    def run(*args: P.args, **given: P.kwargs) -> None:
        with _opened(click.get_current_context()) as ws:
            command(ws, *args, **given)

    return run


def on_workspace(command: Callable[Concatenate[Workspace, P], None]) -> Callable[P, None]:
    """Open the workspace for a command, and close it in the end."""
    return workspace(on_lab(command))


def complete_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """List folders and keys that begin with what was typed; nothing at all when the lab cannot be asked."""
    try:
        with _opened(ctx) as ws:
            while True:
                level = ws.ls(incomplete.rpartition("/")[0])
                names = (*level.folders, *(asset.key for asset in islice(level.assets, _COMPLETIONS)))
                found = [name for name in names if name.startswith(incomplete)]
                if not (len(found) == 1 and found[0].endswith("/") and found[0] != incomplete):
                    return found
                # A single folder says nothing new: what is in it does.
                incomplete = found[0]
    except (EpistaError, OSError):
        return []


def metadata(command: F) -> F:
    """Add ``--meta``, as a document or None."""
    return click.option(
        "--meta",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_document,
        help="Metadata. VALUE may be JSON, and dots in NAME nest; or a whole JSON object, or @FILE with one. '{}' clears it. "
        "Can be repeated.",
    )(command)


def _document(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the metadata that the options say together; None if there are none."""
    document: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if text.startswith(("@", "{")):
            document |= _whole(text)
        elif not equals or not all(name.split(".")):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, a JSON object or @FILE")
        else:
            *above, last = name.split(".")
            inner: Any = document
            for part in above:
                inner = inner.setdefault(part, {})
                if not isinstance(inner, dict):
                    raise click.BadParameter(f"{name!r}: {part!r} has a value already, so nothing can stand below it")
            inner[last] = json_or_text(value)
    return document if values else None


def _whole(text: str) -> dict[str, Any]:
    where = text[1:] if text.startswith("@") else "the document"
    try:
        found = json.loads(Path(where).read_text(encoding="utf-8-sig") if text.startswith("@") else text, parse_constant=_refuse)
    except OSError as error:
        raise click.BadParameter(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise click.BadParameter(f"{where} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.BadParameter(f"{where} is no JSON object")
    return found


def json_or_text(text: str) -> Any:
    """Return what *text* says as JSON, else the text itself."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _opened(ctx: click.Context) -> Workspace:
    where = location(ctx)
    if where is not None and not settings.is_url(where) and "://" not in where and _is_nothing(Path(where).expanduser()):
        if ctx.info_name not in _FOUNDERS:
            # Else a mistyped folder would be an empty lab, in which nothing is found.
            raise NotFoundError(f"there is no lab in {where!r}", hint=f"epista --lab {where} put FILE KEY makes one")
        output.note(f"a new lab in {where!r}")
    return Workspace(where, workspace=workspace_name(ctx))


def _is_nothing(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
