"""`epista link`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.linked import LinkedFiles


@click.command()
@click.argument("source")
@click.argument("prefix", default="", shell_complete=options.complete_keys)
@click.option("--dry-run", is_flag=True, help="Only say what would be linked.")
@options.as_json
@options.on_workspace
def link(ws: Workspace, source: str, prefix: str, *, dry_run: bool, as_json: bool) -> None:
    """
    Catalogue files where they lie, without a copy.

    SOURCE is a file or folder below a root that the server's settings name: ROOT/path, or the whole address, such as
    s3://bucket/path. Only for admins of the workspace. Again, it adds what is new and makes versions of what changed.
    """
    found = ws.link_dir(source, prefix, dry_run=dry_run)
    if as_json:
        output.json(
            LinkedFiles(
                files=found.files,
                size_bytes=found.size_bytes,
                parts=0,
                left_out=tuple(found.left_out),
                left_out_count=found.left_out_count,
                next=None,
            )
        )
        return
    output.line(f"{'would link' if dry_run else 'linked'} {output.count(found.files, 'file')}, {output.size(found.size_bytes)}")
    for one in found.left_out:
        output.note(f"left out: {one.path}: {one.reason}")
    if found.left_out_count > len(found.left_out):
        output.note(f"left out: {found.left_out_count - len(found.left_out):,} more")
