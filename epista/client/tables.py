"""Tables: what is known of their columns, and their bytes as one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.client import listings
from epista.contract import tables as wire
from epista.contract.objects import Blob

if TYPE_CHECKING:
    from epista.client.session import Session

JOIN_SECONDS = 3600.0
"""How long the lab may take to make one file of a table."""

MOST_COLUMNS = 100
"""How many columns are shown."""


def join(here: Session, version: str) -> Blob:
    """Have the lab make one file of a version that has several, and return its size and sha256."""
    wanted = wire.JoinTable(workspace=here.name, version=version)
    return here.wire.call("tables.join", wanted, reply=Blob, read_seconds=JOIN_SECONDS)


def extent(table: wire.Table) -> str:
    """Return how large a table is, in words."""
    files = f", in {table.files} files" if table.files > 1 else ""
    return f"{table.rows:,} row{'' if table.rows == 1 else 's'}, {len(table.columns)} columns{files}"


def described(table: wire.Table) -> list[tuple[str, ...]]:
    """Return what is known of the columns, a row each."""
    return [
        (
            one.name,
            one.type,
            "" if one.min is None or one.max is None else f"{one.min} to {one.max}",
            f"{one.nulls:,} missing" if one.nulls else "",
        )
        for one in table.columns[:MOST_COLUMNS]
    ]


def html(table: wire.Table) -> str:
    """Return what is known of a table as HTML, with everything in it escaped."""
    more = " ".join([extent(table), *(f"Assumed: {note}." for note in table.notes)])
    return listings.html_table(("column", "type", "values", "missing"), described(table), more)
