"""`epista serve`: the one file of the command line that knows the server."""

from __future__ import annotations

import os
from pathlib import Path

import click

from epista.cli import options


@click.command()
@click.argument("lab", required=False, type=click.Path(file_okay=False))
@click.option("--host", metavar="ADDRESS", help="The address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="The port; 0 takes a free one. [default: 8717]")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="How many processes serve requests. [default: 1]")
@click.option(
    "--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A TOML file with more settings."
)
@click.option("--new-link", is_flag=True, help="Print a new sign-in link for the manager, in case the token was lost.")
@click.option("--migrate", is_flag=True, help="Only bring the catalog up to date.")
@click.pass_context
def serve(
    ctx: click.Context,
    lab: str | None,
    *,
    host: str | None,
    port: int | None,
    workers: int | None,
    file: Path | None,
    new_link: bool,
    migrate: bool,
) -> None:
    """
    Serve a lab to others, from a folder.

    LAB is the folder, made if absent. [default: lab] Prints the address, and for a new lab a sign-in link that works once.
    Settings come from --config, then from EPISTA_SERVER_* variables, then from here.
    """
    from epista.server import config
    from epista.server.serve import run

    settings = config.read(file=file, environ=os.environ, lab=lab or options.location(ctx), host=host, port=port, workers=workers)
    run(settings, new_link=new_link, migrate_only=migrate, say=click.echo)
