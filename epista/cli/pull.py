"""`epista pull`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import conversions
from epista.client.workspace import Workspace
from epista.contract.errors import KeyNotFoundError


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@click.argument("dest", default=".", type=click.Path())
@click.option("--version", metavar="VERSION", help="An older version of a file, by number or id; see epista history.")
@options.on_workspace
def pull(ws: Workspace, ref: str, dest: str, *, version: str | None) -> None:
    """
    Download a file or a folder.

    Prints the path that was written. REF is a key, a folder, a bare name or an id. A file goes into DEST if that is a folder
    or ends in '/', else to DEST itself; what is in a folder goes right into DEST. Every file is verified; one that is there
    already with the same bytes is left alone, and one with other bytes is replaced.

    A table is written in the format that the extension of DEST says: .csv, .tsv, .parquet, .arrow, .jsonl or .xlsx.
    """
    if not ref.endswith("/") and (converted := conversions.fetch(ws, ref, dest, version=version)):
        output.line(str(converted))
        return
    try:
        path = ws.fetch(ref, dest, version=version)
    except KeyNotFoundError:
        if ref.endswith("/"):
            raise
        path = ws.fetch(ws.get(ref), dest, version=version)
    output.line(str(path))
