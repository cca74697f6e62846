"""`epista get`."""

from __future__ import annotations

import click
import msgspec

from epista.cli import options, output
from epista.client import tables
from epista.client.assets import Asset, origin_fields
from epista.client.image import ImageInfo, described
from epista.client.workspace import Workspace
from epista.contract.errors import EpistaError
from epista.contract.tables import Table


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@options.as_json
@options.on_workspace
def get(ws: Workspace, ref: str, *, as_json: bool) -> None:
    """
    Show what is known of one asset. REF is a key, a bare name or an id.

    Of an image also its size, levels and channels; with --json they stand in "image".
    """
    asset = ws.get(ref)
    image, problem = _image(ws, asset)
    if as_json:
        output.json(asset if image is None else {**msgspec.to_builtins(asset), "image": image})
        return
    output.fields(
        {
            "key": asset.key,
            "id": asset.id,
            "kind": f"{asset.kind}, {asset.format}",
            "size": output.size(asset.size_bytes) + (f" ({asset.size_bytes:,} bytes)" if asset.size_bytes is not None else ""),
            "sha256": asset.sha256 or "not known before the file is read for the first time",
            "linked": asset.linked,
            "version": f"{asset.number}, {asset.version}",
            "modified": f"{output.moment(asset.created_at)} UTC by {asset.created_by}",
            "tags": ", ".join(asset.tags) or None,
            **dict(origin_fields(asset.lineage)),
            "options": output.pretty(asset.options) if asset.options else None,
            "meta": output.pretty(asset.meta) if asset.meta else None,
            "table": _table(asset.table) if asset.table else None,
            "image": "\n".join(described(image)) if image else problem,
            "preview": _preview(ws, asset) if asset.kind != "IMAGE" else None,
        }
    )


def _image(ws: Workspace, asset: Asset) -> tuple[ImageInfo | None, str | None]:
    """Return what is in an image, or why nobody knows."""
    if asset.kind != "IMAGE":
        return None, None
    try:
        return ws.image.info(asset), None
    except EpistaError as error:
        return None, f"not known: {error.message}"


def _preview(ws: Workspace, asset: Asset) -> str | None:
    """Return what is seen of an asset; what is known of it is told also while the lab cannot look into it."""
    try:
        return ws.preview(asset, version=asset.version).as_text() or None
    except EpistaError as error:
        return f"no preview: {error.message}"


def _table(table: Table) -> str:
    rows = tables.described(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([tables.extent(table), *lines, *table.notes])
