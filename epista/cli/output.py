"""What people and programs see: the one place that knows tables, JSON and terminals."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import click
import msgspec

from epista.client.listings import moment, printable, size
from epista.contract.assets import AssetRef
from epista.contract.errors import EpistaError, ValidationError

__all__ = [
    "assets",
    "count",
    "error",
    "fields",
    "json",
    "line",
    "moment",
    "note",
    "pretty",
    "size",
    "status",
    "table",
    "usage_error",
    "warning",
]

RIGHT = {"size", "version", "assets", "number"}
"""The columns whose cells end at the right."""


def json(message: Any) -> None:
    """Print a contract message as it is on the wire, for programs."""
    _write(pretty(message))


def pretty(value: Any) -> str:
    """Return messages, or any JSON, as indented text."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def line(text: str) -> None:
    """Print one line of the result; nothing in it steers the terminal."""
    _write(printable(text))


def note(text: str) -> None:
    """Say something beside the result, on stderr."""
    _write(printable(text), err=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, cut: bool = False) -> None:
    """Print rows below a quiet header; the last column is as long as it likes, or is *cut* to what fits a terminal."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)][:-1]
    _write(click.style(_row(columns, columns, widths), dim=True))
    for row in cells:
        text = _row(columns, row, widths)
        _write(_fitting(text) if cut and sys.stdout.isatty() else text)


def fields(values: Mapping[str, str | None]) -> None:
    """Print names and values, one a line; a value of several lines is indented below the first. None is left out."""
    shown = {name: text for name, text in values.items() if text is not None}
    width = max(map(_width, shown), default=0)
    for name, text in shown.items():
        first, *rest = text.split("\n")
        _write(f"{click.style(_padded(name, width), dim=True)}  {printable(first)}".rstrip())
        for more in rest:
            _write(" " * (width + 2) + printable(more))


def assets(found: Iterable[AssetRef], folders: Iterable[str] = ()) -> None:
    """Print folders and assets as one table."""
    rows = [("", "", "", folder) for folder in folders]
    rows += [(asset.kind, size(asset.size_bytes), moment(asset.created_at), asset.key) for asset in found]
    if rows:
        table(("kind", "size", "modified (UTC)", "key"), rows)
    else:
        note("nothing there")


def status(text: str, *, wanted: bool | None) -> None:
    """Show how far something has come, in place of what was shown before; only on a terminal, unless *wanted* decides."""
    if wanted or (wanted is None and sys.stderr.isatty()):
        click.echo(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, err=True, nl=not sys.stderr.isatty())


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``2,000 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def error(problem: EpistaError) -> None:
    """Print what is so and what to do next, on stderr."""
    first, *rest = (problem.message or type(problem).__name__).split("\n")
    _write(f"{click.style('error:', fg='red', bold=True)} {printable(first)}", err=True)
    for more in rest:
        note(more)
    if isinstance(problem, ValidationError) and len(problem.violations) > 1:
        for violation in problem.violations:
            note(f"  {violation.get('path') or '(whole)'}: {violation.get('message')}")
    if problem.hint:
        _hint(problem.hint)


def usage_error(problem: click.ClickException) -> None:
    """Print what makes no sense in a command line, on stderr."""
    _write(f"{click.style('error:', fg='red', bold=True)} {printable(problem.format_message())}", err=True)
    if isinstance(problem, click.UsageError) and problem.ctx:
        _hint(f"{problem.ctx.command_path} --help")


def warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning for people: what is said, not where in the code."""
    _write(f"{click.style('warning:', fg='yellow')} {printable(str(message))}", err=True)


def _hint(text: str) -> None:
    first, *rest = text.split("\n")
    _write(f"{click.style('hint:', dim=True)} {printable(first)}", err=True)
    for more in rest:
        # Below the first line, because a caret may point into it.
        _write(f"      {printable(more)}", err=True)


def _write(text: str, *, err: bool = False) -> None:
    # click leaves colours out when this is no terminal.
    click.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)


def _row(columns: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [_padded(cell, width, right=name in RIGHT) for name, cell, width in zip(columns, cells, widths, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def _padded(text: str, width: int, *, right: bool = False) -> str:
    room = " " * (width - _width(text))
    return room + text if right else text + room


def _fitting(text: str) -> str:
    room = shutil.get_terminal_size().columns
    if _width(text) <= room:
        return text
    while _width(text) >= room:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
