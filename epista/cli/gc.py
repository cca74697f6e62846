"""`epista gc`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import audit
from epista.client.workspace import Workspace


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--grace-hours", type=click.FloatRange(min=0), metavar="N", help="How long content may wait for its commit. [default: 24]"
)
@options.as_json
@options.on_lab
def gc(ws: Workspace, *, dry_run: bool, grace_hours: float | None, as_json: bool) -> None:
    """
    Remove content that no version needs.

    Such as what broken uploads left behind, a day after it came.
    """
    found = audit.gc(ws, dry_run=dry_run, grace_seconds=None if grace_hours is None else round(grace_hours * 3600))
    if as_json:
        output.json(found)
        return
    what = f"{output.count(found.blobs, 'blob')} and {output.count(found.files, 'file')}, {output.size(found.size_bytes)}"
    if found.packs:
        what += f"; {output.count(found.packs, 'pack')} rewritten, {output.size(found.packs_bytes)} shorter"
    if found.tables:
        what += f"; {output.count(found.tables, 'table')} of many files made one"
    output.line(f"would remove {what}" if dry_run else f"removed {what}")
