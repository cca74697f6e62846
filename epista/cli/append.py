"""`epista append`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import conversions
from epista.client.workspace import Workspace


@click.command()
@click.argument("key", shell_complete=options.complete_keys)
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option("--expect", metavar="absent|ID", help="Only if nothing is at KEY, or that version.")
@options.as_json
@options.on_workspace
def append(ws: Workspace, key: str, path: str, *, expect: str | None, as_json: bool) -> None:
    """
    Add the rows of a file to the Parquet table KEY.

    That makes a new version. PATH is a .parquet, .csv, .tsv, .jsonl, .arrow or .xlsx file. Columns go by name; where nothing is
    at KEY, the table is put.
    """
    made = ws.append(key, conversions.rows(path), expect=expect)
    if as_json:
        output.json(made)
        return
    output.line(f"{made.key} version {made.number}")
