"""`epista workspace`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import workspaces
from epista.client.workspace import Workspace
from epista.contract.workspaces import Workspaces


@click.group()
def workspace() -> None:
    """Buckets with members, rules and an audit log of their own."""


@workspace.command()
@click.argument("name")
@options.as_json
@options.on_lab
def create(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Make a workspace, with yourself as its first admin."""
    made = workspaces.create(ws, name)
    if as_json:
        output.json(made)
    else:
        output.line(f"made the workspace {made.name}; you are its {made.role}")


@workspace.command("list")
@options.as_json
@options.on_lab
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the workspaces that you may open."""
    found = workspaces.find(ws)
    if as_json:
        output.json(Workspaces(workspaces=found))
        return
    output.table(
        ("workspace", "you are", "created (UTC)", "only experiments"),
        [(one.name, one.role, output.moment(one.created_at), ", ".join(one.experiments or ())) for one in found],
    )
