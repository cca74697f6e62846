"""`epista ls`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract import keys
from epista.contract.assets import AssetPage, Level


@click.command()
@click.argument("prefix", default="", shell_complete=options.complete_keys)
@click.option("--experiment", metavar="NAME", help="Only assets of this experiment.")
@click.option("--kind", metavar="KIND", help="Only assets of this kind, such as TABLE.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only assets with this tag. Can be repeated.")
@options.as_json
@options.on_workspace
def ls(ws: Workspace, prefix: str, *, experiment: str | None, kind: str | None, tags: tuple[str, ...], as_json: bool) -> None:
    """
    List the folder PREFIX, or the whole workspace.

    One level, folders first. With --experiment, --kind or --tag, every asset below PREFIX that has them.
    """
    if experiment is None and kind is None and not tags:
        level = ws.ls(prefix)
        if as_json:
            output.json(Level(folders=tuple(level.folders), assets=tuple(level.assets), next=None))
        else:
            output.assets(level.assets, level.folders)
        return
    found = ws.assets(experiment=experiment, kind=kind, tags=tags, prefix=keys.normalise_folder(prefix))
    if as_json:
        output.json(AssetPage(assets=tuple(found), next=None))
    else:
        output.assets(found)
