"""`epista query`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import click

from epista.cli import options, output
from epista.client import table_files
from epista.client.workspace import Workspace


@click.command()
@click.argument("sql", metavar="SQL")
@click.option(
    "--out", metavar="FILE", help="Write the whole result: .parquet, .csv, .tsv, .xlsx, .arrow or .jsonl; - is CSV to stdout."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Show at most so many rows.")
@click.option("--param", "params", multiple=True, metavar="[NAME=]VALUE", help="A value of ?, or of $NAME. Can be repeated.")
@click.option("--as-of", metavar="TIME", help="Every table as it stood at this time.")
@click.option("--engine", metavar="NAME", help="What runs it: duckdb or spark.")
@click.option("--explain", is_flag=True, help="Show the plan of the engine instead of running the query.")
@options.as_json
@options.on_workspace
def query(
    ws: Workspace,
    sql: str,
    *,
    out: str | None,
    limit: int,
    params: tuple[str, ...],
    as_of: str | None,
    engine: str | None,
    explain: bool,
    as_json: bool,
) -> None:
    """
    Ask in SQL over the tables that you may read.

    \b
        epista query "SELECT condition, avg(value) FROM counts GROUP BY ALL"
        epista query 'SELECT * FROM "EXP-12".counts WHERE well = $w' --param w=A01
        epista query "FROM counts" --out counts.parquet
        epista query - < question.sql

    A table is called by its name, its key or its id, in double quotes where these are no plain words; "counts@3" is the third
    version.
    """
    text = sys.stdin.read() if sql == "-" else sql
    given = _params(params)
    if explain:
        click.echo(ws.explain(text, params=given, engine=engine))
        return
    if out is not None:
        format = table_files.format_of(out)
        if out != table_files.STDOUT and not Path(out).absolute().parent.is_dir():
            raise click.BadParameter(f"there is no folder {str(Path(out).parent)!r}", param_hint="--out")
        with ws.query_batches(text, params=given, as_of=as_of, engine=engine) as coming:
            rows = table_files.save(coming, coming.schema, out, format=format)
        if out != table_files.STDOUT:
            output.line(out)
        output.note(f"{output.count(rows, 'row')}")
        return
    found = ws.query(text, params=given, as_of=as_of, engine=engine)
    if as_json:
        from epista.serializers.json_values import to_json

        output.json({"query": found.query_id, "columns": found.columns, "rows": [to_json(row) for row in found]})
        return
    rows_shown = [[_cell(value) for value in row.values()] for row in itertools.islice(found, limit)]
    output.table(found.columns, rows_shown)
    more = f", {len(rows_shown):,} shown; all of them: --out FILE" if len(found) > len(rows_shown) else ""
    output.note(f"{output.count(len(found), 'row')}{more}")


def _params(given: tuple[str, ...]) -> list[Any] | dict[str, Any] | None:
    if not given:
        return None
    pairs = [text.partition("=") for text in given]
    if all(equals and name.isidentifier() for name, equals, _ in pairs):
        return {name: options.json_or_text(text) for name, _, text in pairs}
    return [options.json_or_text(text) for text in given]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
