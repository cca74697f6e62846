"""`epista completion`."""

from __future__ import annotations

import click
from click import shell_completion


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """
    Print a script for the shell to complete words and keys.

    \b
        bash   epista completion bash > ~/.local/share/bash-completion/completions/epista
        zsh    epista completion zsh > "${fpath[1]}/_epista"
        fish   epista completion fish > ~/.config/fish/completions/epista.fish
    """
    maker = shell_completion.get_completion_class(shell)
    assert maker, "the choice lists what click knows"
    click.echo(maker(ctx.find_root().command, {}, "epista", "_EPISTA_COMPLETE").source())
