"""`epista auth`."""

from __future__ import annotations

import os
import socket
import sys

import click

from epista.cli import options, output
from epista.client import credentials, settings, tokens, workspaces
from epista.client.credentials import Saved
from epista.client.workspace import Workspace
from epista.contract.errors import EpistaError
from epista.contract.tokens import Me


@click.group()
def auth() -> None:
    """Sign in to a server, and out."""


@auth.command()
@click.argument("link", required=False)
@click.option("--token", metavar="TOKEN", help="A token you have, in place of a link; '-' reads it from stdin.")
@click.option("--api-url", metavar="URL", help="The server of the token.")
@click.option("--workspace", metavar="NAME", help="The workspace to open from now on, if there are several.")
@click.pass_context
def login(ctx: click.Context, link: str | None, *, token: str | None, api_url: str | None, workspace: str | None) -> None:
    """
    Sign in, with a sign-in LINK or with a token, and remember it in the credentials file.

    Without both, on a terminal, asks for the token of --api-url.
    """
    file = settings.credentials_file(os.environ)
    workspace = workspace or options.workspace_name(ctx)
    if link is not None:
        if token is not None or api_url is not None:
            raise click.UsageError("a sign-in link says it all: leave --token and --api-url out")
        url, made = tokens.sign_in(link, name=f"sign-in on {socket.gethostname()}")
        # At once, because the link works only once.
        credentials.remember(file, url, Saved(token=made.secret))
        token = made.secret
    else:
        given = api_url or options.location(ctx) or os.environ.get("EPISTA_API_URL") or os.environ.get("BIOLAKE_API_URL")
        if not given:
            raise click.UsageError("give a sign-in link, or --api-url and a token")
        url = settings.normalise(given, "--api-url", folders=False)
        token = _token(token)
    with Workspace(url, token=token, workspace=workspace) as ws:
        me = tokens.me(ws)
        if workspace:
            workspaces.get(ws)
    if len(me.workspaces) == 1:
        # So that commands without --workspace go on working when a second one is made.
        (workspace,) = me.workspaces
    credentials.remember(file, url, Saved(token=token, workspace=workspace, user=me.user))
    output.line(f"signed in to {url} as {me.user}")
    if not workspace and me.workspaces:
        output.note(f"workspaces: {', '.join(me.workspaces)}; --workspace NAME or EPISTA_WORKSPACE_ID chooses one")


@auth.command()
@options.as_json
@options.on_lab
def status(ws: Workspace, *, as_json: bool) -> None:
    """Show who you are to the server, and what your token allows."""
    me = tokens.me(ws)
    if as_json:
        output.json(me)
        return
    output.fields(
        {
            "server": f"{ws.url}, of a lab in a folder, while this command ran" if ws.is_embedded else ws.url,
            "user": f"{me.user}, who manages the lab" if me.is_lab_admin else me.user,
            "workspaces": ", ".join(me.workspaces) or "none",
            "token": _about(me),
            "only in": ", ".join(me.experiments) if me.experiments is not None else None,
        }
    )


@auth.command()
@options.lab
@click.pass_context
def logout(ctx: click.Context) -> None:
    """
    Revoke the token of a server, and forget it.

    Of the one that --lab names, else of the one you signed in to last.
    """
    file = settings.credentials_file(os.environ)
    given = options.location(ctx)
    known = credentials.load(file)
    url = settings.normalise(given, "--lab", folders=False) if given else known.default
    saved = known.servers.get(url) if url else None
    if url is None or not credentials.forget(file, url):
        output.line("signed in nowhere" if url is None else f"not signed in to {url}")
        return
    output.line(f"signed out of {url}")
    if saved and saved.token:
        try:
            with Workspace(url, token=saved.token) as ws:
                if (own := tokens.me(ws).token) is not None:
                    tokens.revoke(ws, own)
        except EpistaError as error:
            output.note(f"the token was forgotten here, and not revoked there: {error.message}")


def _token(given: str | None) -> str:
    """Return the token as given, from stdin or as typed."""
    if given is None and sys.stdin.isatty():
        given = click.prompt("Token", hide_input=True, err=True)
    elif given == "-":
        given = sys.stdin.readline()
    if not given or not given.strip():
        raise click.UsageError("no token: give --token, where '-' reads it from stdin")
    return given.strip()


def _about(me: Me) -> str:
    ends = f", until {output.moment(me.expires_at)} UTC" if me.expires_at else ""
    return f"for {', '.join(me.scopes)}{ends}"
