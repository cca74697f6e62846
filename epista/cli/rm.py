"""`epista rm`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.objects import Keys


@click.command()
@click.argument("key", shell_complete=options.complete_keys)
@click.option("--dir", "is_folder", is_flag=True, help="Hide everything below the folder KEY, or nothing.")
@click.option("--dry-run", is_flag=True, help="Only say what --dir would hide.")
@options.as_json
@options.on_workspace
def rm(ws: Workspace, key: str, *, is_folder: bool, dry_run: bool, as_json: bool) -> None:
    """
    Hide the asset KEY, with all its versions.

    Nothing is lost: epista restore brings it back.
    """
    if not is_folder and (dry_run or key.endswith("/")):
        raise click.UsageError(f"'{key}' is a folder: add --dir" if key.endswith("/") else "--dry-run goes with --dir")
    if is_folder:
        hidden = ws.delete_dir(key, dry_run=dry_run)
        if as_json:
            output.json(Keys(keys=tuple(hidden)))
            return
        for one in hidden:
            output.line(one)
        output.note(f"{output.count(len(hidden), 'asset')} {'would be ' if dry_run else ''}hidden")
        if hidden and not dry_run:
            output.note("epista restore KEY brings each of them back")
        return
    asset = ws.delete(key)
    if as_json:
        output.json(asset)
    else:
        output.line(f"hidden: {asset.key}, {output.count(asset.number, 'version')}")
        output.note(f"epista restore '{asset.key}' brings it back")
