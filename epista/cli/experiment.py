"""`epista experiment`."""

from __future__ import annotations

from typing import Any

import click

from epista.cli import options, output
from epista.client import experiments
from epista.client.workspace import Workspace
from epista.contract.experiments import Experiment, Experiments


@click.group()
def experiment() -> None:
    """Experiments: the first folders of keys, described."""


@experiment.command()
@click.argument("name")
@click.option("--title", metavar="TEXT", help="What it is about.")
@options.metadata
@options.as_json
@options.on_workspace
def create(ws: Workspace, name: str, *, title: str | None, meta: dict[str, Any] | None, as_json: bool) -> None:
    """Describe an experiment; its folder may hold assets already."""
    _print(experiments.create(ws, name, title=title, meta=meta), as_json)


@experiment.command("list")
@options.as_json
@options.on_workspace
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the experiments."""
    found = tuple(experiments.find(ws))
    if as_json:
        output.json(Experiments(experiments=found, next=None))
    elif not found:
        output.note("no experiments yet")
    else:
        output.table(
            ("experiment", "assets", "created (UTC)", "by", "title"),
            [(one.name, str(one.assets), output.moment(one.created_at), one.created_by, one.title or "") for one in found],
        )


@experiment.command()
@click.argument("name")
@options.as_json
@options.on_workspace
def show(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Show one experiment."""
    _print(experiments.get(ws, name), as_json)


def _print(found: Experiment, as_json: bool) -> None:
    if as_json:
        output.json(found)
        return
    output.fields(
        {
            "experiment": found.name,
            "title": found.title,
            "assets": f"{found.assets:,}",
            "created": f"{output.moment(found.created_at)} UTC by {found.created_by}",
            "meta": output.pretty(found.meta) if found.meta else None,
        }
    )
