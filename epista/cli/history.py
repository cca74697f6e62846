"""`epista history`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client.workspace import Workspace
from epista.contract.assets import Versions
from epista.contract.errors import KeyNotFoundError


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@options.as_json
@options.on_workspace
def history(ws: Workspace, ref: str, *, as_json: bool) -> None:
    """
    List the versions of one asset, newest first.

    REF is a key, a bare name or an id; for an asset that was deleted, its key.
    """
    try:
        key, is_deleted = ws.get(ref).key, False
    except KeyNotFoundError:
        key, is_deleted = ref, True
    versions = ws.versions(key)
    if as_json:
        output.json(Versions(key=versions[0].key, deleted=is_deleted, versions=tuple(versions), next=None))
        return
    output.table(
        ("version", "size", "created (UTC)", "by", "sha256", "id", "note"),
        [
            (
                str(version.number),
                output.size(version.size_bytes),
                output.moment(version.created_at),
                version.created_by,
                (version.sha256 or "not read yet")[:12],
                version.id,
                version.note,
            )
            for version in versions
        ],
    )
    if is_deleted:
        output.note(f"deleted; epista restore '{versions[0].key}' brings it back")
