"""`epista export`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace


@click.command()
@click.argument("experiment")
@click.option("--ro-crate", metavar="FILE", required=True, type=click.Path(dir_okay=False), help="Write an RO-Crate 1.1, a zip.")
@click.option("--license", metavar="URL", help="The terms under which others may use it.")
@options.on_workspace
def export(ws: Workspace, experiment: str, *, ro_crate: str, license: str | None) -> None:
    """
    Write an experiment to a file that others understand.

    \b
        epista export EXP-12 --ro-crate EXP-12.zip --license https://creativecommons.org/licenses/by/4.0/

    The zip has the files as they are now, verified, and a description: who made them when, from what, and how.
    """
    output.line(str(ws.export_crate(experiment, ro_crate, license=license)))
