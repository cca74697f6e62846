"""`epista signing-key`."""

from __future__ import annotations

import click

from epista.cli import options, output
from epista.client import signing_keys
from epista.client.workspace import Workspace
from epista.contract.signing_keys import SigningKey, SigningKeys


@click.group("signing-key")
def signing_key() -> None:
    """Signing keys: what links are signed with."""


@signing_key.command("list")
@options.as_json
@options.on_lab
def list_(ws: Workspace, *, as_json: bool) -> None:
    """List the signing keys of the lab, newest first; a secret is never shown."""
    _show(signing_keys.find(ws), as_json=as_json)


@signing_key.command()
@click.option("--retire-all", is_flag=True, help="Refuse every link that was made until now.")
@options.as_json
@options.on_lab
def rotate(ws: Workspace, *, retire_all: bool, as_json: bool) -> None:
    """
    Make a new signing key.

    Links that are out go on working until they end, unless all older keys are retired at once.
    """
    _show(signing_keys.rotate(ws, retire_all=retire_all), as_json=as_json)


def _show(found: tuple[SigningKey, ...], *, as_json: bool) -> None:
    if as_json:
        output.json(SigningKeys(keys=found))
    elif not found:
        output.note("no signing keys yet; the first link makes one")
    else:
        output.table(
            ("id", "created (UTC)", "links refused from (UTC)"),
            [(key.id, output.moment(key.created_at), output.moment(key.retired_at) if key.retired_at else "") for key in found],
        )
