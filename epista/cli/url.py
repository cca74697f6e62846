"""`epista url`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import links
from epista.client.workspace import Workspace
from epista.contract.links import Link


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@click.option("--version", metavar="VERSION", help="An id or a number, instead of the current version.")
@click.option("--seconds", type=click.IntRange(min=1), metavar="N", help="How long it shall work. [default: an hour]")
@options.as_json
@options.on_workspace
def url(ws: Workspace, ref: str, *, version: str | None, seconds: int | None, as_json: bool) -> None:
    """
    Print a link to one asset that works without a token.

    For a browser, curl, pandas or IGV, and for whoever else has it, until it ends.
    """
    made = links.create(ws, ref, version=version, seconds=seconds)
    if as_json:
        output.json(Link(url=str(made), expires_at=made.expires_at, name=made.name))
        return
    output.line(str(made))
    output.note(f"works until {output.moment(made.expires_at)} UTC, for whoever has it")
