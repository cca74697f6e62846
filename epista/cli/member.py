"""`epista member`."""

from __future__ import annotations

from typing import Literal

import click

from epista.cli import options, output
from epista.client import workspaces
from epista.client.workspace import Workspace
from epista.contract.scopes import ROLES
from epista.contract.workspaces import Members


@click.group()
def member() -> None:
    """The people of a workspace, and what they may do."""


@member.command()
@click.argument("user")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Restrict to this experiment. Can be repeated.")
@click.option("--new-link", is_flag=True, help="Print a sign-in link also for a user who has one, or has lost the token.")
@options.as_json
@options.on_workspace
def add(
    ws: Workspace,
    user: str,
    role: Literal["viewer", "editor", "admin"],
    *,
    experiments: tuple[str, ...],
    new_link: bool,
    as_json: bool,
) -> None:
    """
    Make USER a member, or change what the member may do.

    For a user who cannot sign in yet it prints a sign-in link, which works once.
    """
    made = workspaces.add_member(ws, user, role, experiments=experiments or None, new_link=new_link)
    if as_json:
        output.json(made)
        return
    only = f", only in {', '.join(made.experiments)}" if made.experiments else ""
    output.line(f"{made.user} is {made.role} in {ws.name}{only}")
    if made.sign_in_link:
        output.line(f"to sign in, once:  epista auth login '{made.sign_in_link}'")


@member.command("list")
@options.as_json
@options.on_workspace
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the members of the workspace."""
    found = workspaces.members(ws)
    if as_json:
        output.json(Members(members=found))
    else:
        output.table(
            ("user", "role", "only experiments"), [(one.user, one.role, ", ".join(one.experiments or ())) for one in found]
        )


@member.command()
@click.argument("user")
@options.on_workspace
def remove(ws: Workspace, user: str) -> None:
    """End a membership; the last admin stays."""
    workspaces.remove_member(ws, user)
    output.line(f"{user} is no longer a member of {ws.name}")
