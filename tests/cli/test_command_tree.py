"""The command tree is a promise: what is here stays."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from epista.cli import SECTIONS, cli
from tests.cli.conftest import Run

TREE = """
epista --help --lab --version --workspace
epista append KEY PATH --expect --help --json --lab --workspace
epista audit --action --actor --help --json --lab --limit --of-lab --target --verify --workspace
epista auth --help
epista auth login [LINK] --api-url --help --token --workspace
epista auth logout --help --lab
epista auth status --help --json --lab
epista backup DEST --help --json --lab
epista completion {bash|zsh|fish} --help
epista convention --help
epista convention add NAME FILE --help --json --lab --workspace
epista convention explain NAME --help --json --lab --workspace
epista convention list --help --json --lab --version --workspace
epista convention remove NAME --help --json --lab --workspace
epista convention show NAME --help --lab --version --workspace
epista cp KEY TO --dir --expect --help --json --lab --version --workspace
epista demo --from --help --lab
epista experiment --help
epista experiment create NAME --description --help --json --lab --meta --number --project --status --tag --title --workspace
epista experiment list --date --help --json --lab --label --platform --prefix --project --since --status --subject --tag --until --workspace
epista experiment rename NAME TO --help --json --lab --workspace
epista experiment role NAME USER {viewer|editor|owner|none} --help --lab --workspace
epista experiment roles NAME --help --json --lab --workspace
epista experiment show NAME --help --json --lab --workspace
epista experiment update NAME --description --help --json --lab --meta --number --project --status --tag --title --workspace
epista experiment why NAME [raw|derived] --help --lab --workspace
epista export EXPERIMENT --help --lab --license --ro-crate --workspace
epista gc --dry-run --grace-hours --help --json --lab
epista get REF --help --json --lab --workspace
epista history REF --help --json --lab --workspace
epista lineage REF --depth --direction --format --help --json --lab --out --version --workspace
epista link SOURCE [PREFIX] --dry-run --help --json --lab --workspace
epista ls [PREFIX] --experiment --help --json --kind --lab --tag --workspace
epista member --help
epista member add USER {viewer|editor|admin} --experiment --help --json --lab --new-link --workspace
epista member list --help --json --lab --workspace
epista member remove USER --help --lab --workspace
epista mv KEY TO --dir --expect --help --json --lab --workspace
epista project --help
epista project create NAME --description --help --json --lab --title --workspace
epista project list --help --json --lab --workspace
epista project remove NAME --help --lab --workspace
epista project show NAME --help --json --lab --workspace
epista project update NAME --description --help --json --lab --title --to --workspace
epista pull REF [DEST] --channel --help --lab --level --region --scene --t --version --workspace --z
epista purge KEY --dry-run --help --json --lab --version --workspace --yes
epista put PATH... KEY --expect --format --help --ignore --input --json --kind --lab --links --meta --tag --workspace
epista queries --cancel --everyone --help --json --lab --limit --workspace
epista query SQL --as-of --engine --explain --help --json --lab --limit --out --param --workspace
epista reindex --again --dry-run --format --help --json --lab
epista restore KEY --help --json --lab --version --workspace
epista rm KEY --dir --dry-run --help --json --lab --workspace
epista rules --help
epista rules check --help --json --lab --workspace
epista rules set FILE --expect --help --json --lab --workspace
epista rules show --help --json --lab --version --workspace
epista search QUERY --help --json --lab --limit --workspace
epista serve [LAB] --config --help --host --migrate --new-link --port --workers
epista signing-key --help
epista signing-key list --help --json --lab
epista signing-key rotate --help --json --lab --retire-all
epista token --help
epista token create NAME --days --experiment --help --json --kernel --lab --scope --workspace
epista token list --help --json --lab
epista token revoke ID... --help --lab
epista uploads --abort --everyone --help --json --lab --workspace
epista url REF --help --json --lab --seconds --version --workspace
epista usage --help --json --lab --of-lab --workspace
epista verify --help --json --lab
epista workspace --help
epista workspace create NAME --help --json --lab
epista workspace list --help --json --lab
epista workspace quota NAME --assets --bytes --help --lab
"""  # noqa: E501 - a command is a line


def test_the_command_tree_is_what_was_promised() -> None:
    assert list(_tree(cli, "epista", click.Context(cli, **cli.context_settings))) == TREE.strip().splitlines()


def test_every_command_stands_in_a_section_of_the_help(alone: Run) -> None:
    done = alone("--help")

    assert {command for commands in SECTIONS.values() for command in commands} == set(cli.commands.values())
    assert all(f"{title}:" in done.lines for title in SECTIONS)
    assert all(any(line.startswith(f"  {name} ") for line in done.lines) for name in cli.commands)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_first_line_of_the_help_of_a_command_is_not_cut(alone: Run, name: str) -> None:
    (line,) = [line for line in alone("--help").lines if line.startswith(f"  {name} ")]

    assert not line.endswith("...")


def _tree(command: click.Command, path: str, ctx: click.Context) -> Iterator[str]:
    arguments = [one.make_metavar(ctx) for one in command.params if isinstance(one, click.Argument)]
    options = sorted(one.opts[-1] for one in command.get_params(ctx) if isinstance(one, click.Option))
    yield " ".join([path, *arguments, *options])
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from _tree(child, f"{path} {name}", click.Context(child, parent=ctx, info_name=name))
