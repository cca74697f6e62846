"""`epista put`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from epista.cli import options, output
from epista.client.assets import Asset
from epista.client.workspace import Workspace
from epista.contract.objects import Assets

_MANY = 20


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.argument("key", shell_complete=options.complete_keys)
@options.metadata
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag, in place of those there are. Can be repeated.")
@click.option("--kind", metavar="KIND", help="What it is, such as FLOW, if its format does not tell. Files only.")
@click.option("--format", metavar="FORMAT", help="The format of a file whose extension does not tell.")
@click.option("--expect", metavar="VERSION", help="Put only if this version is there; 'absent': only if nothing is.")
@click.option("--input", "inputs", multiple=True, metavar="REF", help="What it was made from. Can be repeated.")
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave out of folders, in gitignore syntax. Can be repeated.")
@click.option(
    "--links", type=click.Choice(["inside", "follow", "skip"]), default="inside", help="Which links in folders to follow."
)
@options.as_json
@options.on_workspace
def put(
    ws: Workspace,
    paths: tuple[Path, ...],
    key: str,
    *,
    meta: dict[str, Any] | None,
    tags: tuple[str, ...],
    kind: str | None,
    format: str | None,
    expect: str | None,
    inputs: tuple[str, ...],
    ignore: tuple[str, ...],
    links: Any,
    as_json: bool,
) -> None:
    """
    Upload files and folders.

    A file goes to KEY, or takes its own name below a KEY that ends in '/'; '/' alone is the root of the workspace. What is in a
    folder goes right below KEY, all or nothing. Several PATHs need a KEY that ends in '/', below which each keeps its name.
    """
    if not paths:
        raise click.UsageError(f"say also where {key!r} goes: a key, or '/' for the root of the workspace")
    if len(paths) > 1 and not key.endswith("/"):
        raise click.UsageError(f"several paths go into a folder: end the key with '/', as in '{key}/'")
    if (kind or format) and any(path.is_dir() for path in paths):
        raise click.UsageError("--kind and --format are for files; the extensions of the files in a folder decide")
    folder = "" if key == "/" else key
    given: dict[str, Any] = {"meta": meta, "tags": tags or None, "expect": expect, "inputs": inputs or None}
    made: list[Asset] = []
    try:
        for path in paths:
            name = path.name or path.resolve().name
            if path.is_dir():
                place = folder + name if len(paths) > 1 else folder
                made += ws.put_dir(place, path, ignore=ignore or None, links=links, **given)
            else:
                place = folder + name if key.endswith("/") else key
                made.append(ws.put_file(place, path, kind=kind, format=format, **given))
    except BaseException:
        if made:
            # What was put before a later path failed stays.
            _receipt(made, key, as_json)
        raise
    _receipt(made, key, as_json)


def _receipt(made: list[Asset], key: str, as_json: bool) -> None:
    if as_json:
        output.json(Assets(assets=tuple(made)))
    elif len(made) <= _MANY and made:
        output.table(
            ("version", "kind", "size", "sha256", "key"),
            [(str(one.number), one.kind, output.size(one.size_bytes), (one.sha256 or "")[:12], one.key) for one in made],
        )
    else:
        output.line(f"{output.count(len(made), 'file')}, {output.size(sum(one.size_bytes or 0 for one in made))}, below {key}")
