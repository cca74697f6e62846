"""`epista backup`."""

from __future__ import annotations

import shlex

import click

from epista.cli import options, output
from epista.client import audit
from epista.client.workspace import Workspace


@click.command()
@click.argument("dest", type=click.Path())
@options.as_json
@options.on_lab
def backup(ws: Workspace, dest: str, *, as_json: bool) -> None:
    """
    Copy a folder lab, as of one moment.

    DEST, a new folder, is on the server's machine, and becomes a lab of its own. The lab stays in use meanwhile.
    """
    made = audit.backup(ws, dest)
    if as_json:
        output.json(made)
    else:
        output.line(f"{made.path}: {output.count(made.blobs, 'blob file')}, {output.size(made.size_bytes)}")
        if made.linked_blobs:
            output.note(f"without the bytes of {output.count(made.linked_blobs, 'linked file')}, which stay where they are")
        if made.left_out:
            output.note(f"without the bytes, which stay in {made.left_out}; serve it with that as `blobs`")
        else:
            output.note(f"open it like any lab: epista --lab {shlex.quote(made.path)} ls")
