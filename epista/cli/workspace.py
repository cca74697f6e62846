"""`epista workspace`."""

from __future__ import annotations

import re

import click

from epista.cli import options, output
from epista.client import usage, workspaces
from epista.client.workspace import Workspace
from epista.contract.workspaces import Workspaces


@click.group()
def workspace() -> None:
    """Buckets with members, rules and an audit log of their own."""


@workspace.command()
@click.argument("name")
@options.as_json
@options.on_lab
def create(ws: Workspace, name: str, *, as_json: bool) -> None:
    """Make a workspace, with yourself as its first admin."""
    made = workspaces.create(ws, name)
    if as_json:
        output.json(made)
    else:
        output.line(f"made the workspace {made.name}; you are its {made.role}")


@workspace.command("list")
@options.as_json
@options.on_lab
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the workspaces that you may open."""
    found = workspaces.find(ws)
    if as_json:
        output.json(Workspaces(workspaces=found))
        return
    output.table(
        ("workspace", "you are", "created (UTC)", "only experiments"),
        [(one.name, one.role, output.moment(one.created_at), ", ".join(one.experiments or ())) for one in found],
    )


@workspace.command()
@click.argument("name")
@click.option("--bytes", "size", metavar="SIZE", help="The most that all versions may need, such as 2TB; 'none' for no limit.")
@click.option("--assets", metavar="N", help="The most live assets; 'none' for no limit.")
@options.on_lab
def quota(ws: Workspace, name: str, *, size: str | None, assets: str | None) -> None:
    """Limit what a workspace may hold, for managers of the lab. What is there already stays, also if it is more."""
    if size is None and assets is None:
        raise click.UsageError("give --bytes, --assets or both; epista usage --of-lab shows what there is")
    before = next((one for one in usage.of_lab(ws).workspaces if one.workspace == name), None)
    max_bytes, max_assets = (before.quota_bytes, before.quota_assets) if before else (None, None)
    if size is not None:
        max_bytes = _number(size, "--bytes")
    if assets is not None:
        max_assets = _number(assets, "--assets")
    usage.set_quota(ws, name, max_bytes=max_bytes, max_assets=max_assets)
    room = "any number of bytes" if max_bytes is None else output.size(max_bytes)
    number = "any number of" if max_assets is None else f"{max_assets:,}"
    output.line(f"the workspace {name} may hold {room}, in {number} assets")


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_UNITS |= {f"{unit}i": 2 ** (10 * power) for power, unit in enumerate("kmgtp", 1)}


def _number(text: str | None, option: str) -> int | None:
    if text is None or text.lower() == "none":
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgtp]?i?)b?", text.replace(",", "").lower())
    if not found or found[2] not in _UNITS:
        raise click.UsageError(f"{option} {text!r} is no number, such as 500GB, 2TiB or 1000000")
    return int(float(found[1]) * _UNITS[found[2]])
