"""`epista usage`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from epista.cli import options, output
from epista.client import usage as wire
from epista.client.workspace import Workspace
from epista.contract.usage import Share, Usage


@click.command()
@click.option("--of-lab", is_flag=True, help="Of all workspaces, for managers of the lab.")
@options.as_json
@options.on_workspace
def usage(ws: Workspace, *, of_lab: bool, as_json: bool) -> None:
    """
    Show how much the workspace holds, and how much it may.

    Bytes are counted as they are stored: all versions, also those of deleted assets, and the same content once.
    """
    if of_lab:
        lab = wire.of_lab(ws)
        if as_json:
            output.json(lab)
            return
        output.table(
            ("workspace", "bytes", "of", "assets", "of", "versions"),
            [(one.workspace, *_of(one), f"{one.versions:,}") for one in lab.workspaces],
        )
        output.note(f"{output.count(lab.blobs, 'content')} in all, {output.size(lab.stored_bytes)}")
        return
    found = wire.get(ws)
    if as_json:
        output.json(found)
        return
    size, most_bytes, assets, most_assets = _of(found)
    output.line(f"{size}{_limit(most_bytes)} in {output.count(found.versions, 'version')}")
    output.line(f"{assets}{_limit(most_assets)} live assets")
    _table("experiment", found.experiments)
    _table("kind", found.kinds)


def _of(one: Usage) -> tuple[str, str, str, str]:
    return (
        output.size(one.stored_bytes),
        "" if one.quota_bytes is None else output.size(one.quota_bytes),
        f"{one.assets:,}",
        "" if one.quota_assets is None else f"{one.quota_assets:,}",
    )


def _limit(most: str) -> str:
    return f" of {most}" if most else ""


def _table(what: str, shares: Iterable[Share]) -> None:
    if rows := [(one.name or "(none)", f"{one.assets:,}", output.size(one.size_bytes)) for one in shares]:
        output.line("")
        output.table((what, "assets", "current versions"), rows)
