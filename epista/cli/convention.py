"""`epista convention`."""

from __future__ import annotations

from pathlib import Path

import click

from epista.cli import options, output
from epista.client import conventions
from epista.client.workspace import Workspace
from epista.contract.conventions import Conventions, NameReadings
from epista.contract.errors import NotFoundError, ValidationError


@click.group()
def convention() -> None:
    """How the names of sessions are written."""


@convention.command("list")
@click.option("--version", type=int, metavar="N", help="An older version of the workspace's own conventions.")
@options.as_json
@options.on_workspace
def list_(ws: Workspace, *, version: int | None, as_json: bool) -> None:
    """List the conventions in the order in which they are asked."""
    found = conventions.get(ws, version=version)
    if as_json:
        output.json(found)
        return
    own = [(one.name, "this workspace", str(one.declaration.get("description", ""))) for one in found.conventions]
    output.table(
        ("convention", "from", "description"),
        [*own, *((name, "the server", "") for name in found.installed), *((name, "epista", "") for name in found.packaged)],
        cut=True,
    )
    if found.changed_at:
        output.note(f"version {found.version}, {output.moment(found.changed_at)} UTC by {found.changed_by}")


@convention.command()
@click.argument("name")
@click.option("--version", type=int, metavar="N", help="An older version of the workspace's own conventions.")
@options.on_workspace
def show(ws: Workspace, name: str, *, version: int | None) -> None:
    """Print the declaration of NAME as JSON, as 'convention add' takes it."""
    for one in conventions.get(ws, version=version).conventions:
        if one.name == name:
            output.json(one.declaration)
            return
    raise NotFoundError(f"this workspace declares no convention {name!r}", hint="epista convention list")


@convention.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.as_json
@options.on_workspace
def add(ws: Workspace, name: str, file: Path, *, as_json: bool) -> None:
    """
    Declare the convention NAME: the tokens of its names, in FILE, as TOML or JSON.

    The workspace's own conventions are asked before all others. One of the same name is replaced.
    """
    _tell(conventions.add(ws, name, _read(file)), f"{ws.name} reads names by {name}", as_json)


@convention.command()
@click.argument("name")
@options.as_json
@options.on_workspace
def remove(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Remove the convention NAME of this workspace."""
    _tell(conventions.remove(ws, name), f"{ws.name} no longer reads names by {name}", as_json)


@convention.command()
@click.argument("text", metavar="NAME")
@options.as_json
@options.on_workspace
@click.pass_context
def explain(ctx: click.Context, ws: Workspace, text: str, *, as_json: bool) -> None:
    """Tell what every convention makes of NAME, a name or a path; exits with 1 if none reads it."""
    found = conventions.explain(ws, text)
    if as_json:
        output.json(NameReadings(readings=found))
    else:
        rows = [
            (one.convention, f"{one.canonical} ({one.kind})" if one.canonical else f"{one.reason}, at {one.at}") for one in found
        ]
        output.table(("convention", "reading"), rows)
    ctx.exit(0 if any(one.canonical for one in found) else 1)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValidationError(f"{str(file)!r} holds no declaration: it is no text in UTF-8") from error


def _tell(found: Conventions, done: str, as_json: bool) -> None:
    if as_json:
        output.json(found)
    else:
        output.line(f"{done} (version {found.version})")
