"""`epista restore`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace


@click.command()
@click.argument("key", shell_complete=options.complete_keys)
@click.option("--version", metavar="VERSION", help="Make this version the current one, by number or id; see epista history.")
@options.as_json
@options.on_workspace
def restore(ws: Workspace, key: str, *, version: str | None, as_json: bool) -> None:
    """Bring back a deleted asset, or an old version."""
    asset = ws.restore(key, version=version)
    if as_json:
        output.json(asset)
    else:
        output.line(f"{asset.key} is there, at version {asset.number}")
