"""`epista rules`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from epista.cli import options, output
from epista.client import workspaces
from epista.client.workspace import Workspace
from epista.contract.errors import ValidationError
from epista.contract.workspaces import Rule, RuleBreak, RuleBreaks, Rules


class _Shown(msgspec.Struct):
    """The part of what ``rules show --json`` prints that can be set again."""

    rules: list[Rule]


@click.group()
def rules() -> None:
    """The metadata that assets must have."""


@rules.command("set")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--expect", type=int, metavar="N", help="Only if these replace version N of the rules.")
@options.as_json
@options.on_workspace
def set_(ws: Workspace, file: Path, *, expect: int | None, as_json: bool) -> None:
    """
    Replace the rules by those in FILE.

    FILE is a JSON list of rules, or what `epista rules show --json` prints; '[]' lifts all rules. What is there already stays.
    """
    made = workspaces.set_rules(ws, _read(file), expect=expect)
    _print(made, as_json)


@rules.command()
@click.option("--version", type=int, metavar="N", help="An older version of the rules.")
@options.as_json
@options.on_workspace
def show(ws: Workspace, *, version: int | None, as_json: bool) -> None:
    """Show the rules in force."""
    _print(workspaces.rules(ws, version=version), as_json)


@rules.command()
@options.as_json
@options.on_workspace
@click.pass_context
def check(ctx: click.Context, ws: Workspace, *, as_json: bool) -> None:
    """Find assets that break the rules; exits with 1 if any do."""
    checked = 0
    breaks: list[RuleBreak] = []
    for page in workspaces.check_rules(ws):
        checked += page.checked
        breaks += page.breaks
        output.status(f"{output.count(checked, 'asset')} checked", wanted=ws.show_progress)
    output.status("", wanted=ws.show_progress)
    if as_json:
        output.json(RuleBreaks(checked=checked, breaks=tuple(breaks), next=None))
    else:
        for one in breaks:
            output.line(one.key)
            for violation in one.violations:
                output.line(f"  {violation['path'] or '(whole)'}: {violation['message']}  [{violation['rule']}]")
        output.line(f"{output.count(checked, 'asset')} checked, {len(breaks):,} against the rules")
    ctx.exit(1 if breaks else 0)


def _read(file: Path) -> list[Rule]:
    try:
        text = file.read_bytes()
        if text.lstrip().startswith(b"{"):
            return msgspec.json.decode(text, type=_Shown).rules
        return msgspec.json.decode(text, type=list[Rule])
    except msgspec.DecodeError as error:
        raise ValidationError(f"{str(file)!r} holds no rules: {error}", hint="see docs/guides/metadata-rules.md") from error


def _print(found: Rules, as_json: bool) -> None:
    if as_json:
        output.json(found)
        return
    if found.changed_at is None:
        output.note("no rules yet")
        return
    output.line(f"version {found.version}, {output.moment(found.changed_at)} UTC by {found.changed_by}")
    for rule in found.rules:
        output.line("")
        output.fields(
            {
                "rule": rule.name,
                "experiment": rule.experiment,
                "kind": rule.kind,
                "key": rule.key,
                "schema": output.pretty(rule.schema),
            }
        )
    if not found.rules:
        output.note("all rules are lifted")
