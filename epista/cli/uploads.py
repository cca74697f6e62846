"""`epista uploads`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import uploads as verbs
from epista.client.workspace import Workspace
from epista.contract.uploads import Uploads


@click.command()
@click.option("--abort", "ids", multiple=True, metavar="ID", help="Give up this upload instead of listing. Can be repeated.")
@click.option("--everyone", is_flag=True, help="Also those of others; for admins of the workspace.")
@options.as_json
@options.on_workspace
def uploads(ws: Workspace, *, ids: tuple[str, ...], everyone: bool, as_json: bool) -> None:
    """
    List uploads that broke off, or give them up.

    To go on with one, put the same file again: only what is missing is sent. One that nobody goes on with is removed by epista gc
    after a week.
    """
    for id in ids:
        verbs.abort(ws, id)
        output.line(f"given up: {id}")
    if ids:
        return
    found = verbs.find(ws, everyone=everyone)
    if as_json:
        output.json(Uploads(uploads=found))
    elif not found:
        output.note("no uploads under way")
    else:
        output.table(
            ("id", "user", "size", "there", "began (UTC)", "expires (UTC)"),
            [
                (
                    one.id,
                    one.user,
                    output.size(one.size_bytes),
                    output.size(one.received_bytes),
                    output.moment(one.created_at),
                    output.moment(one.expires_at),
                )
                for one in found
            ],
        )
