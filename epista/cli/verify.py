"""`epista verify`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import audit
from epista.client.workspace import Workspace
from epista.contract.audit import BlobProblem, BlobVerdict


@click.command()
@options.as_json
@options.on_lab
@click.pass_context
def verify(ctx: click.Context, ws: Workspace, *, as_json: bool) -> None:
    """
    Check every blob of the lab against its hash.

    Exits with 1 if one is damaged or missing.
    """
    blobs = size_bytes = 0
    problems: list[BlobProblem] = []
    for step in audit.verify_blobs(ws):
        blobs += step.blobs
        size_bytes += step.size_bytes
        problems += step.problems
        output.status(f"{output.count(blobs, 'blob')}, {output.size(size_bytes)} read", wanted=ws.show_progress)
    output.status("", wanted=ws.show_progress)
    if as_json:
        output.json(BlobVerdict(blobs=blobs, size_bytes=size_bytes, problems=tuple(problems), next=None))
    else:
        for one in problems:
            output.line(f"{one.sha256 or 'linked file'}: {one.problem}")
            for key in one.keys:
                output.line(f"  needed by {key}")
        verdict = f"{len(problems):,} damaged" if problems else "all whole"
        output.line(f"{output.count(blobs, 'blob')}, {output.size(size_bytes)}: {verdict}")
    ctx.exit(1 if problems else 0)
