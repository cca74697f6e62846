"""`epista purge`."""

from __future__ import annotations

import sys

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.objects import Purged, PurgedVersion


@click.command()
@click.argument("key", shell_complete=options.complete_keys)
@click.option("--version", help="Erase only this version, which may not be the newest.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@click.option("--yes", is_flag=True, help="Yes, erase it: nothing brings it back. On a terminal, you are asked.")
@options.as_json
@options.on_workspace
def purge(ws: Workspace, key: str, *, version: str | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """
    Erase a deleted asset KEY for good, or one old version.

    Only for admins of the workspace. A folder, ending in /, stands for the deleted assets below it. Backups keep what they have.
    """
    if not (dry_run or yes):
        if not sys.stdin.isatty():
            raise click.UsageError("this cannot be undone: look with --dry-run, then add --yes")
        doomed = ws.purge(key, version, dry_run=True)
        for one in doomed:
            output.note(one)
        click.confirm(f"Erase {output.count(len(doomed), 'version')} for good?", abort=True, err=True)
    gone = ws.purge(key, version, dry_run=dry_run)
    if as_json:
        output.json(Purged(versions=tuple(_version(one) for one in gone)))
        return
    for one in gone:
        output.line(one)
    output.note(f"{output.count(len(gone), 'version')} {'would be ' if dry_run else ''}erased")


def _version(text: str) -> PurgedVersion:
    key, _, number = text.rpartition("@")
    return PurgedVersion(key=key, number=int(number))
