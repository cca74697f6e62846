"""`epista lineage`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from epista.cli import options, output
from epista.client.lineage import Lineage
from epista.client.workspace import Workspace
from epista.contract.lineage import MAX_DEPTH

FORMATS = ("text", "svg", "prov", "openlineage", "json")


@click.command()
@click.argument("ref", shell_complete=options.complete_keys)
@click.option("--version", metavar="VERSION", help="An older version, by number or id; see epista history.")
@click.option(
    "--direction", type=click.Choice(["up", "down", "both"]), default="both", show_default=True, help="Up is what it came from."
)
@click.option("--depth", type=click.IntRange(1, MAX_DEPTH), help="How many generations, each way.")
@click.option(
    "--format", type=click.Choice(FORMATS), help="Text, unless --out ends in .svg; json is the message of the HTTP API."
)
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="Write to this file.")
@options.as_json
@options.on_workspace
def lineage(
    ws: Workspace,
    ref: str,
    *,
    version: str | None,
    direction: Literal["up", "down", "both"],
    depth: int | None,
    format: str | None,
    out: str | None,
    as_json: bool,
) -> None:
    """
    Show what an asset came from, and what came of it.

    \b
        epista lineage EXP-12/figure.svg
        epista lineage EXP-12/figure.svg --direction up --out lineage.svg
        epista lineage EXP-12/figure.svg --format prov --out lineage.prov.json

    REF is a key, a bare name or an id. What you may not read is 'restricted'. Of the formats, prov is W3C PROV-JSON, openlineage
    a list of run events, and json the message of the HTTP API.
    """
    found = ws.lineage(ref, direction=direction, depth=depth, version=version)
    chosen = "json" if as_json else format or ("svg" if out and out.lower().endswith(".svg") else "text")
    written = _written(found, chosen)
    if out is not None:
        Path(out).write_text(written + "\n", encoding="utf-8")
        output.line(out)
    else:
        # Nothing in it steers the terminal.
        click.echo(written)


def _written(found: Lineage, format: str) -> str:
    match format:
        case "svg":
            return found.to_svg()
        case "prov":
            return output.pretty(found.to_prov())
        case "openlineage":
            return output.pretty(found.to_openlineage())
        case "json":
            return output.pretty(found)
        case _:
            return found.text()
