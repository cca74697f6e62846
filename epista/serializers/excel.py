"""
Excel workbooks: one DataFrame, or a dict of them by sheet.

Written by openpyxl, read by calamine. Strings stay strings (``001``, ``=A1``, ``NA``); the index is not written. Excel knows
numbers of 15 digits, times of a millisecond and no time zones. The only format here that is not the same bytes twice.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import tables
from epista.serializers.numpy import check_unpacked_size
from epista.serializers.serializer import Options, Serializer, Written, require

MAX_ROWS = 1_048_576
"""Rows of a sheet, the header included (ECMA-376)."""

_SHEET = "Sheet1"


def write(obj: Any, *, sheet: str | int | None = None) -> Written:
    """Write one table as a *sheet*, or a dict of tables as sheets of these names."""
    openpyxl = require("openpyxl", "epista[excel]")
    if isinstance(sheet, int) and sheet != 0:
        raise FormatError("sheet= names the sheet to be written")
    if isinstance(obj, dict) and sheet is not None:
        raise FormatError("sheet= goes with one table; the keys of a dict name its sheets")
    sheets = obj if isinstance(obj, dict) else {sheet or _SHEET: obj}
    book = openpyxl.Workbook(write_only=True)
    for name, table in sheets.items():
        try:
            page = book.create_sheet(name)
        except ValueError as error:
            raise FormatError(f"{name!r} is no name of a sheet: {error}") from error
        if page.title != name:
            raise FormatError(f"two sheets cannot be called {name!r} (Excel does not tell apart upper and lower case)")
        _fill(openpyxl, page, table)
    out = io.BytesIO()
    book.save(out)
    # A dict of one sheet shall come back as a dict.
    return Written(out.getvalue(), {"sheet": list(sheets)} if isinstance(obj, dict) else {"sheet": sheet or _SHEET})


def read(data: bytes, *, as_type: str, sheet: str | int | list[str] | None = None) -> Any:
    """Read a *sheet* by name or position, or several as a dict; without *sheet* the only one, or a dict of all."""
    calamine = require("python_calamine", "epista[excel]")
    import pandas as pd

    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_unpacked_size(archive)
    try:
        with pd.ExcelFile(io.BytesIO(data), engine="calamine") as book:
            names = [str(name) for name in book.sheet_names]
            wanted = _wanted(names, sheet)
            # As objects: else pandas would read the text "001" as a number.
            read = {
                name: pd.read_excel(book, sheet_name=name, dtype=object, keep_default_na=False, na_values=[""]) for name in wanted
            }
    except (calamine.CalamineError, zipfile.BadZipFile, ValueError, OSError, KeyError) as error:
        raise UnreadableError(f"no Excel workbook: {error}") from error
    found = {name: tables.convert(frame.infer_objects(), as_type) for name, frame in read.items()}
    single = isinstance(sheet, str | int) or (sheet is None and len(found) == 1)
    return found[wanted[0]] if single else found


def _wanted(names: list[str], sheet: str | int | list[str] | None) -> list[str]:
    if sheet is None:
        return names
    wanted = [sheet] if isinstance(sheet, str | int) else sheet
    if missing := [name for name in wanted if (name not in names if isinstance(name, str) else not 0 <= name < len(names))]:
        raise FormatError(f"no sheet {', '.join(map(repr, missing))}; sheets: {', '.join(map(repr, names))}")
    return [names[name] if isinstance(name, int) else name for name in wanted]


def _fill(openpyxl: Any, page: Any, table: Any) -> None:
    arrow = tables.to_arrow(table, index=False)
    if arrow.num_rows >= MAX_ROWS:
        raise FormatError(f"a sheet has room for {MAX_ROWS - 1:,} rows below its header, not for {arrow.num_rows:,}")

    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        made = openpyxl.cell.WriteOnlyCell(page, value)
        # openpyxl takes "=A1" for a formula.
        made.data_type = "s"
        return made

    try:
        page.append([cell(name) for name in arrow.column_names])
        for batch in arrow.to_batches(max_chunksize=10_000):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                page.append([cell(value) for value in row])
    except (ValueError, TypeError) as error:
        raise FormatError(f"a cell does not fit Excel: {error}") from error


def _accepts(obj: object) -> bool:
    if isinstance(obj, dict):
        return bool(obj) and all(isinstance(name, str) and tables.is_table(item) for name, item in obj.items())
    return tables.is_table(obj)


def _check(options: Options) -> dict[str, Any]:
    sheet = options.get("sheet")
    several = isinstance(sheet, list | tuple) and all(isinstance(name, str) for name in sheet)
    if isinstance(sheet, bool) or not (sheet is None or isinstance(sheet, str | int) or several):
        raise FormatError(f"option sheet={sheet!r}: the name of a sheet, its position from 0, or a list of names is needed")
    return {"sheet": list(sheet) if isinstance(sheet, tuple) else sheet} if sheet is not None else {}


def _serializer(name: str, takes: str, writes: bool) -> Serializer:
    return Serializer(
        name=name,
        takes=takes,
        accepts=_accepts if writes else lambda obj: False,
        write=write if writes else None,
        read=read,
        options=("sheet",),
        check=_check,
        table=True,
        requires=("openpyxl", "python_calamine"),
        extra="excel",
    )


SERIALIZERS = (
    _serializer("xlsx", "a DataFrame or other table, or a dict of them", True),
    _serializer("xls", "nothing (it is only read; use .xlsx)", False),
)
