"""`epista project`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import projects
from epista.client.workspace import Workspace
from epista.contract.projects import Project, Projects


@click.group()
def project() -> None:
    """Projects: named groups of experiments."""


@project.command()
@click.argument("name")
@click.option("--title", metavar="TEXT", help="What it is about.")
@click.option("--description", metavar="TEXT", help="The same, at length.")
@options.as_json
@options.on_workspace
def create(ws: Workspace, name: str, *, title: str | None, description: str | None, as_json: bool) -> None:
    """Make a project; `epista experiment update EXP --project NAME` moves an experiment there."""
    _print(projects.create(ws, name, title=title, description=description), as_json)


@project.command("list")
@options.as_json
@options.on_workspace
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the projects."""
    found = tuple(projects.find(ws))
    if as_json:
        output.json(Projects(projects=found, next=None))
    elif not found:
        output.note("no projects yet")
    else:
        output.table(
            ("project", "experiments", "created (UTC)", "by", "title"),
            [(one.name, str(one.experiments), output.moment(one.created_at), one.created_by, one.title or "") for one in found],
        )


@project.command()
@click.argument("name")
@options.as_json
@options.on_workspace
def show(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Show one project."""
    _print(projects.get(ws, name), as_json)


@project.command()
@click.argument("name")
@click.option("--to", metavar="NAME", help="Its new name.")
@click.option("--title", metavar="TEXT", help="What it is about; an empty one clears.")
@click.option("--description", metavar="TEXT", help="The same, at length; an empty one clears.")
@options.as_json
@options.on_workspace
def update(ws: Workspace, name: str, *, to: str | None, title: str | None, description: str | None, as_json: bool) -> None:
    """Describe a project anew, or call it otherwise."""
    _print(projects.update(ws, name, to=to, title=title, description=description), as_json)


@project.command()
@click.argument("name")
@options.on_workspace
def remove(ws: Workspace, name: str) -> None:
    """Remove a project; its experiments stay."""
    projects.remove(ws, name)
    output.line(f"removed {name}")


def _print(found: Project, as_json: bool) -> None:
    if as_json:
        output.json(found)
        return
    output.fields(
        {
            "project": found.name,
            "title": found.title,
            "description": found.description,
            "experiments": f"{found.experiments:,}",
            "created": f"{output.moment(found.created_at)} UTC by {found.created_by}",
        }
    )
