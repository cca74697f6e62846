"""
Notebooks: what ``%load_ext epista`` gives, cells of SQL.

IPython is never imported here: it hands itself over when the extension is loaded.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from epista.client import current, queries
from epista.client.session import Session
from epista.contract.errors import EpistaError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

_AS = ("query", "pandas", "arrow", "polars")


class _Options(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequestError(message, hint="%epista lists the options")


def load(ipython: Any) -> None:
    """
    Add ``%%epista``, a cell of SQL, to an IPython.

    ``%%epista counts --params {...} --as-of 2026-11-01`` keeps the result as ``counts``; without a name it is shown.
    ``%epista SELECT ...`` is the same in a line, and ``%epista`` lists the options.
    """

    def epista(line: str, cell: str | None = None) -> Any:
        try:
            return _cell(ipython, line, cell)
        except EpistaError as error:
            # The cell fails, with the message alone: the traceback would be one through this module.
            lines = [f"{type(error).__name__}: {error}"]
            vars(error)["_render_traceback_"] = lambda: lines
            raise

    # Else IPython would fill in the braces of --params.
    vars(epista)["_ipython_magic_no_var_expand"] = True
    ipython.register_magic_function(epista, magic_kind="line_cell", magic_name="epista")


def _cell(ipython: Any, line: str, cell: str | None) -> Any:
    if cell is None:  # %epista SELECT ...
        if not line.strip():
            _options().print_help()
            return None
        return queries.query(current.current(), line)
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise InvalidRequestError(
            f"the options cannot be read: {error}", hint="quote what has spaces: '2026-11-01 12:00'"
        ) from None
    given = _options().parse_args(words)
    if given.name is not None and not given.name.isidentifier():
        raise InvalidRequestError(f"{given.name!r} is no name for a result", hint="%%epista counts")
    here = _value(ipython, given.on, "--on") if given.on else current.current()
    if not isinstance(here, Session):
        raise InvalidRequestError(f"--on {given.on}: a {type(here).__name__} is no workspace")
    result = queries.query(
        here,
        cell,
        params=_value(ipython, given.params, "--params") if given.params else None,
        as_of=_as_of(given.as_of),
        engine=given.engine,
    )
    makers: dict[str, Callable[[], Any]] = {
        "query": lambda: result,
        "pandas": result.to_pandas,
        "arrow": result.to_arrow,
        "polars": result.to_polars,
    }
    found = makers[given.as_type]()
    if given.name is None:
        return found
    ipython.push({given.name: found})
    return None


def _options() -> _Options:
    about = "Ask in SQL over the tables that you may read."
    options = _Options(prog="%%epista", description=about, allow_abbrev=False, add_help=False)
    options.add_argument("name", nargs="?", metavar="NAME", help="keep the result under this name, instead of showing it")
    options.add_argument("--as", dest="as_type", choices=_AS, default="query", help="a QueryResult, or a table of a library")
    options.add_argument("--params", metavar="PYTHON", help="values of ? (a list) or of $name (a dict): a name, or in quotes")
    options.add_argument(
        "--as-of", action="append", metavar="TIME|TABLE=VERSION", help="tables as they stood; the second form can be repeated"
    )
    options.add_argument("--engine", help="duckdb or spark")
    options.add_argument("--on", metavar="NAME", help="the workspace to ask, instead of the current one")
    return options


def _value(ipython: Any, expression: str, option: str) -> Any:
    try:
        return ipython.ev(expression)
    except Exception as error:
        # A boundary: it is the notebook's own Python.
        raise InvalidRequestError(f"{option} {expression}: {error}") from error


def _as_of(given: list[str] | None) -> str | dict[str, int | str] | None:
    if not given:
        return None
    pairs = [text.rpartition("=") for text in given]
    if len(given) == 1 and not pairs[0][1]:
        return given[0]
    if not all(equals for _, equals, _ in pairs):
        raise InvalidRequestError("--as-of is one time, or TABLE=VERSION as often as needed")
    return {name: int(version) if version.isdecimal() else version for name, _, version in pairs}
