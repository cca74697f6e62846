"""`epista audit`."""

from __future__ import annotations

from itertools import islice

import click

from epista.cli import options, output
from epista.client import audit as client
from epista.client.workspace import Workspace
from epista.contract.audit import AuditPage


@click.command()
@click.option("--verify", "is_check", is_flag=True, help="Recompute the chain of hashes; exits with 1 if it is broken.")
@click.option("--of-lab", is_flag=True, help="The lab's own log: tokens, sign-ins, workspaces, care. For its managers.")
@click.option("--actor", metavar="USER", help="Only what this user did.")
@click.option("--action", metavar="ACTION", help="Only this action, such as objects.commit.")
@click.option("--target", metavar="KEY", help="Only what was done to exactly this.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Show at most so many.")
@options.as_json
@options.on_workspace
@click.pass_context
def audit(
    ctx: click.Context,
    ws: Workspace,
    *,
    is_check: bool,
    of_lab: bool,
    actor: str | None,
    action: str | None,
    target: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show who did what, newest first."""
    if is_check:
        verdict = client.verify(ws, of_lab=of_lab)
        if as_json:
            output.json(verdict)
        else:
            for problem in verdict.problems:
                output.line(problem)
            output.line(f"{output.count(verdict.rows, 'row')}, {'NOT WHOLE' if verdict.problems else 'whole'}")
            output.line(f"head {verdict.head}")
        ctx.exit(1 if verdict.problems else 0)
    rows = tuple(islice(client.find(ws, of_lab=of_lab, actor=actor, action=action, target=target, limit=min(limit, 1000)), limit))
    if as_json:
        output.json(AuditPage(rows=rows, next=None))
        return
    output.table(
        ("number", "at (UTC)", "actor", "action", "outcome", "target"),
        [(str(row.number), output.moment(row.at), row.actor, row.action, row.outcome, row.target) for row in rows],
    )
