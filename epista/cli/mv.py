"""`epista mv`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.objects import Assets


@click.command()
@click.argument("source", metavar="KEY", shell_complete=options.complete_keys)
@click.argument("to", shell_complete=options.complete_keys)
@click.option("--dir", "is_folder", is_flag=True, help="Move everything below the folder KEY to below the folder TO.")
@click.option("--expect", metavar="absent|ID", help="Only if nothing is at TO, or that version.")
@options.as_json
@options.on_workspace
def mv(ws: Workspace, source: str, to: str, *, is_folder: bool, expect: str | None, as_json: bool) -> None:
    """
    Move the asset KEY to TO, without moving bytes.

    A copy, and KEY hidden, in one step; epista restore brings KEY back. A TO ending in / takes the name of KEY.
    """
    if source.endswith("/") and not is_folder:
        raise click.UsageError(f"'{source}' is a folder: add --dir")
    if is_folder:
        if expect not in (None, "absent"):
            raise click.UsageError("with --dir, --expect can only be absent")
        done = ws.move_dir(source, to, expect="absent" if expect else None)
    else:
        done = [ws.move(source, to, expect=expect)]
    if as_json:
        output.json(Assets(assets=tuple(done)) if is_folder else done[0])
        return
    for asset in done:
        output.line(f"{asset.key} version {asset.number}")
    if is_folder:
        output.note(f"{output.count(len(done), 'asset')} moved")
