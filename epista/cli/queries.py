"""`epista queries`."""

from __future__ import annotations

from itertools import islice

import click

from epista.cli import options, output
from epista.client import queries as verbs
from epista.client.workspace import Workspace
from epista.contract.queries import Queries


@click.command()
@click.option("--cancel", "ids", multiple=True, metavar="ID", help="End this query instead of listing. Can be repeated.")
@click.option("--everyone", is_flag=True, help="Also those of others; for admins of the workspace.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show at most so many.")
@options.as_json
@options.on_workspace
def queries(ws: Workspace, *, ids: tuple[str, ...], everyone: bool, limit: int, as_json: bool) -> None:
    """
    List your queries, newest first, or end them.

    Each names the versions that it read (--json), for as long as the lab exists.
    """
    for id in ids:
        ws.cancel_query(id)
        output.line(f"cancelled: {id}")
    if ids:
        return
    found = tuple(islice(ws.queries(everyone=everyone, limit=min(limit, 1000)), limit))
    if as_json:
        output.json(Queries(queries=found, next=None))
    elif not found:
        output.note("no queries yet")
    else:
        output.table(verbs.COLUMNS, [verbs.row(one) for one in found], cut=True)
