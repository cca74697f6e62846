"""`epista search`."""

from __future__ import annotations

from itertools import islice

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.assets import Hits


@click.command()
@click.argument("query", nargs=-1, metavar="QUERY")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Show at most so many.")
@options.as_json
@options.on_workspace
def search(ws: Workspace, query: tuple[str, ...], *, limit: int, as_json: bool) -> None:
    """
    Search names, keys, tags, metadata and content.

    \b
        epista search penguin*
        epista search kind:TABLE tags:qc
        epista search "user_meta.temp:>30 NOT author:ada"

    Most relevant first; without a QUERY everything, newest first. A QUERY that begins with '-' stands after '--'.
    """
    hits = ws.search(" ".join(query), limit=min(limit, 1000))
    shown = tuple(islice(hits, limit))
    if as_json:
        output.json(Hits(hits=shown, total=hits.total, facets=hits.facets, notes=hits.notes, next=None))
        return
    if shown:
        output.table(
            ("kind", "size", "modified (UTC)", "key", "match"),
            [
                (
                    hit.kind,
                    output.size(hit.size_bytes),
                    output.moment(hit.created_at),
                    hit.key,
                    ": ".join(filter(None, (hit.field, " ".join((hit.snippet or "").split())))),
                )
                for hit in shown
            ],
            cut=True,
        )
    output.note(f"{hits.total:,} found" + (f", {len(shown):,} shown" if len(shown) < hits.total else ""))
    for note in hits.notes:
        output.note(f"note: {note}")
