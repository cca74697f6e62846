"""`epista token`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from epista.cli import options, output
from epista.client import tokens
from epista.client.workspace import Workspace
from epista.contract.scopes import DATA_SCOPES, SCOPES
from epista.contract.tokens import Token, Tokens


@click.group()
def token() -> None:
    """Tokens: passwords for programs, never wider than your own."""


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(list(SCOPES)), help="What it may do. [default: read, write]")
@click.option("--workspace", "only", metavar="NAME", help="Restrict it to one workspace.")
@click.option(
    "--experiment", "experiments", multiple=True, metavar="NAME", help="Restrict it to this experiment. Can be repeated."
)
@click.option("--days", type=click.IntRange(min=1), metavar="N", help="End it after N days.")
@click.option("--kernel", is_flag=True, help="For a notebook that a server starts: lives for minutes and renews itself.")
@options.as_json
@options.on_lab
def create(
    ws: Workspace,
    name: str,
    *,
    scopes: tuple[str, ...],
    only: str | None,
    experiments: tuple[str, ...],
    days: int | None,
    kernel: bool,
    as_json: bool,
) -> None:
    """Make a token, and print its secret: this once."""
    made = tokens.create(
        ws,
        name,
        kind="kernel" if kernel else "personal",
        scopes=scopes or DATA_SCOPES,
        workspace=only,
        experiments=experiments or None,
        expires_at=datetime.now(UTC) + timedelta(days=days) if days else None,
    )
    if as_json:
        output.json(made)
        return
    output.line(made.secret)
    ends = f", until {output.moment(made.token.expires_at)} UTC" if made.token.expires_at else ""
    output.note(f"the secret of {made.token.id}, shown this once: {', '.join(made.token.scopes)}{ends}")


@token.command("list")
@options.as_json
@options.on_lab
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List your tokens, newest first."""
    found = tokens.find(ws)
    if as_json:
        output.json(Tokens(tokens=found))
    elif not found:
        output.note("no tokens yet")
    else:
        output.table(
            ("id", "name", "state", "created (UTC)", "ends (UTC)", "only in", "scopes"),
            [
                (
                    one.id,
                    one.name,
                    _state(one),
                    output.moment(one.created_at),
                    output.moment(one.expires_at) if one.expires_at else "",
                    ", ".join((*([one.workspace] if one.workspace else []), *(one.experiments or ()))),
                    ", ".join(one.scopes),
                )
                for one in found
            ],
        )


@token.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.on_lab
def revoke(ws: Workspace, ids: tuple[str, ...]) -> None:
    """End tokens of your own, and those made with them, at once."""
    for one in ids:
        tokens.revoke(ws, one)
        output.line(f"revoked: {one}")


def _state(one: Token) -> str:
    if one.revoked_at:
        return "revoked"
    return "expired" if one.expires_at and one.expires_at <= datetime.now(UTC) else "live"
