"""`epista pull`."""

from __future__ import annotations

import re

import click

from epista.cli import options, output
from epista.client import conversions, regions
from epista.client.workspace import Workspace
from epista.contract.errors import KeyNotFoundError


def _region(context: click.Context, option: click.Parameter, value: str | None) -> regions.Region | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", value.replace(" ", ""), re.ASCII)
    if found is None:
        raise click.BadParameter(f"{value!r}: four whole numbers are needed, such as 0,0,512,512", context, option)
    return regions.Region(*map(int, found.groups()))


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@click.argument("dest", default=".", type=click.Path())
@click.option("--version", metavar="VERSION", help="An older version of a file, by number or id; see epista history.")
@click.option("--region", metavar="X,Y,W,H", callback=_region, help="Of an image this part; x and y in pixels of level 0.")
@click.option("--level", metavar="NUMBER", type=click.IntRange(min=0), help="Of an image this level; w and h are its pixels.")
@click.option(
    "--channel", "channels", metavar="NAME", multiple=True, help="Of an image this channel, by name or number; repeatable."
)
@click.option("--z", metavar="NUMBER", type=click.IntRange(min=0), help="Of an image this plane of a stack.")
@click.option("--t", metavar="NUMBER", type=click.IntRange(min=0), help="Of an image this point in time.")
@click.option("--scene", metavar="NUMBER", type=click.IntRange(min=0), help="Of a file with several images this one.")
@options.on_workspace
def pull(
    ws: Workspace,
    ref: str,
    dest: str,
    *,
    version: str | None,
    region: regions.Region | None,
    level: int | None,
    channels: tuple[str, ...],
    z: int | None,
    t: int | None,
    scene: int | None,
) -> None:
    """
    Download a file or a folder.

    Prints the path that was written. REF is a key, a folder, a bare name or an id. A file goes into DEST if that is a folder
    or ends in '/', else to DEST itself; what is in a folder goes right into DEST. Every file is verified; one that is there
    already with the same bytes is left alone, and one with other bytes is replaced.

    A table is written in the format that the extension of DEST says: .csv, .tsv, .parquet, .arrow, .jsonl or .xlsx.

    A part of an image (--region, --level, ...) is written to DEST as its extension says: .png is what one sees, channels in their
    colours and between their limits; .tif, .ome.tif and .npy have the values as they are stored.
    """
    if region is not None or channels or any(one is not None for one in (level, z, t, scene)):
        written = regions.fetch(
            ws,
            ref,
            dest,
            region=region,
            level=level or 0,
            channels=list(channels) or None,
            z=z,
            t=t or 0,
            scene=scene or 0,
            version=version,
        )
        output.line(str(written))
        return
    if not ref.endswith("/") and (converted := conversions.fetch(ws, ref, dest, version=version)):
        output.line(str(converted))
        return
    try:
        path = ws.fetch(ref, dest, version=version)
    except KeyNotFoundError:
        if ref.endswith("/"):
            raise
        path = ws.fetch(ws.get(ref), dest, version=version)
    output.line(str(path))
