"""`epista reindex`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import reindexing
from epista.client.workspace import Workspace


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what has old words, and how far the server came.")
@click.option("--format", "formats", multiple=True, metavar="NAME", help="Only of this format; more than once for several.")
@click.option("--again", is_flag=True, help="Read all words again, also those that are current.")
@options.as_json
@options.on_lab
def reindex(ws: Workspace, *, dry_run: bool, formats: tuple[str, ...], again: bool, as_json: bool) -> None:
    """
    Read words again where Epista has learnt to find more.

    A server does so by itself after an upgrade, slowly; this hurries it.
    """
    if dry_run:
        found = reindexing.get(ws, formats=formats)
        if as_json:
            output.json(found)
            return
        for one in found.formats:
            if again or one.recorded < one.version:
                output.line(f"{one.format}: version {one.recorded} of {one.version}, {one.left:,} of {one.assets:,} assets left")
        return
    total = 0
    for step in reindexing.run(ws, formats=formats, again=again):
        total += step.assets
        output.status(f"{output.count(total, 'asset')} read again", wanted=ws.show_progress)
    output.status("", wanted=ws.show_progress)
    if as_json:
        output.json({"assets": total})
        return
    output.line(f"{output.count(total, 'asset')} read again; all words are current" if total else "all words are current")
