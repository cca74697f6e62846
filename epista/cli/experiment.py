"""`epista experiment`."""

from __future__ import annotations

from typing import Any

import click

from epista.cli import options, output
from epista.client import experiments
from epista.client.workspace import Workspace
from epista.contract.experiments import ROLES, STATUSES, Experiment, Experiments


@click.group()
def experiment() -> None:
    """Experiments: the first folders of keys, described."""


def described(command: Any) -> Any:
    """Take what can be said of an experiment."""
    for option in (
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="Can be repeated."),
        click.option("--project", metavar="NAME", help="The project that it is in; an empty one takes it out."),
        click.option("--status", type=click.Choice(STATUSES), help="An archived one can only be read."),
        click.option("--description", metavar="TEXT", help="The same, at length."),
        click.option("--title", metavar="TEXT", help="What it is about."),
        click.option("--number", metavar="TEXT", help="As the lab counts."),
    ):
        command = option(command)
    return command


@experiment.command()
@click.argument("name")
@described
@options.metadata
@options.as_json
@options.on_workspace
def create(
    ws: Workspace,
    /,
    name: str,
    *,
    status: str | None,
    tags: tuple[str, ...],
    meta: dict[str, Any] | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Describe an experiment, which you own then; its folder may hold assets already."""
    _print(experiments.create(ws, name, status=status or "active", tags=tags, meta=meta, **said)._message, as_json)


@experiment.command()
@click.argument("name")
@described
@options.metadata
@options.as_json
@options.on_workspace
def update(
    ws: Workspace, /, name: str, *, tags: tuple[str, ...], meta: dict[str, Any] | None, as_json: bool, **said: Any
) -> None:
    """
    Describe an experiment anew: archive it, move it to another project.

    What is not given stays as it is; tags and metadata replace those before.
    """
    _print(experiments.update(ws, name, tags=tags or None, meta=meta, **said)._message, as_json)


@experiment.command()
@click.argument("name")
@click.argument("to")
@options.as_json
@options.on_workspace
def rename(ws: Workspace, name: str, to: str, *, as_json: bool) -> None:
    """
    Call an experiment otherwise, with every key in it.

    Ids, versions and roles stay. Whoever asks for the old name is told the new one.
    """
    _print(experiments.rename(ws, name, to)._message, as_json)


@experiment.command("list")
@click.option("--subject", metavar="ID", help="Who was recorded.")
@click.option("--platform", metavar="NAME", help="With what, in any case.")
@click.option("--label", metavar="NAME", help="What was made of it, in any case.")
@click.option("--date", metavar="TIME", help="When it started: a day, a month or a minute, whole.")
@click.option("--since", metavar="TIME", help="When it started at the earliest, included.")
@click.option("--until", metavar="TIME", help="When it started at the latest, included whole.")
@click.option("--project", metavar="NAME", help="In this project.")
@click.option("--status", type=click.Choice(STATUSES), help="Of this status.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Can be repeated.")
@click.option("--prefix", metavar="TEXT", help="How its name begins.")
@options.as_json
@options.on_workspace
def list_(ws: Workspace, /, *, as_json: bool, **wanted: Any) -> None:
    """List the experiments that satisfy every filter given, by when they started."""
    listed = experiments.find(ws, limit=1000, **wanted)
    found = tuple(one._message for one in listed)
    if as_json:
        output.json(Experiments(experiments=found, notes=listed.notes, next=None))
        return
    if found:
        output.table(
            ("experiment", "assets", "started", "status", "project", "created (UTC)", "by", "title"),
            [
                (
                    one.name,
                    str(one.assets),
                    str(one.parsed.started or one.parsed.date or "") if one.parsed else "",
                    one.status,
                    one.project or "",
                    output.moment(one.created_at),
                    one.created_by,
                    one.title or "",
                )
                for one in found
            ],
        )
    else:
        output.note("; ".join(listed.notes) or ("no experiments yet" if not any(wanted.values()) else "no such experiments"))


@experiment.command()
@click.argument("name")
@options.as_json
@options.on_workspace
def show(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Show one experiment, by its name, number or id."""
    _print(experiments.told(ws, name), as_json)


@experiment.command()
@click.argument("name")
@options.as_json
@options.on_workspace
def roles(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Show who is what in one experiment, besides what everybody is in the workspace."""
    found = experiments.roles_in(ws, name)
    if as_json:
        output.json(found)
    elif found.roles:
        output.table(("user", "role"), [(one.user, one.role) for one in found.roles])
    else:
        output.note(f"nobody has a role of their own in {found.name}")


@experiment.command()
@click.argument("name")
@click.argument("user")
@click.argument("role", type=click.Choice((*ROLES, "none")))
@options.on_workspace
def role(ws: Workspace, name: str, user: str, role: str) -> None:
    """
    Say what a member of the workspace is in one experiment.

    The role adds to what the member is in the workspace; "none" takes it away. For owners of it and admins of the workspace.
    """
    experiments.set_role(ws, name, user, None if role == "none" else role)
    output.line(f"{user} is {role} in {name}" if role != "none" else f"{user} has no role of their own in {name}")


@experiment.command()
@click.argument("name")
@click.argument("role", default="raw", type=click.Choice(("raw", "derived")))
@options.on_workspace
def why(ws: Workspace, name: str, role: str) -> None:
    """Show what was tried to find what is raw in an experiment, and what came of it."""
    output.table(("asked", "answer", "reason"), experiments.get(ws, name).why(role))


def _print(found: Experiment, as_json: bool) -> None:
    if as_json:
        output.json(found)
        return
    output.fields(
        {
            "experiment": found.name,
            "number": found.number if found.number != found.name else None,
            "title": found.title,
            "assets": f"{found.assets:,}",
            "description": found.description,
            "status": found.status,
            "project": found.project,
            "owners": ", ".join(found.owners) or None,
            "tags": ", ".join(found.tags) or None,
            "subject": found.parsed.subject_id if found.parsed else None,
            "platform": found.platform,
            "started": str(found.parsed.started or found.parsed.date or "") or None if found.parsed else None,
            "created": f"{output.moment(found.created_at)} UTC by {found.created_by}",
            "meta": output.pretty(found.meta) if found.meta else None,
        }
    )
