"""
Documents of the Allotrope Simple Model (ASM), as tables.

Source: Allotrope Foundation, "Allotrope Simple Models" (manifests of 2023 to 2025), as allotropy 0.1 writes them: one *aggregate
document* of a technique, in it a list of documents, and in each a list of *measurement documents*. A quantity is
``{"value": 3.3, "unit": "mAU"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from epista.contract.errors import UnreadableError

if TYPE_CHECKING:
    import pandas as pd

Cells = dict[str, Any]
"""A row: values by the names of columns."""

MAX_DEPTH = 30

_NO_UNITS = ("", "(unitless)", "#")
_NUMBERS = {"NaN": float("nan"), "+Infinity": float("inf"), "-Infinity": float("-inf")}
# Drawn by lot at each reading; calculated values refer to them.
_IDENTIFIERS = ("measurement identifier", "analyte identifier")
# Of the copy that was read, not of the export.
_PLACES = ("UNC path", "ASM file identifier", "file name", "data system instance identifier")


def is_empty(document: Mapping[str, Any]) -> bool:
    """
    Whether nothing was measured.

    Raises:
        UnreadableError: it is no such document.
    """
    return not any(_measured(_technique(document)))


def measurements(document: Mapping[str, Any], *, vendor: str) -> pd.DataFrame:
    """
    Return a row for each measurement, or for each of the analytes and the like that one measurement has several of.

    Raises:
        UnreadableError: it is no such document.
    """
    import pandas as pd

    technique = _technique(document)
    rows = [row for measured in _measured(technique) for row in measured]
    left_out = sorted({name for row in rows for name in row.pop(_CUBES, ())})
    for row in rows:
        for name in _IDENTIFIERS:
            row.pop(name, None)
    table = pd.DataFrame(rows)
    for name in table.columns:
        if str(name).endswith(" time"):
            table[name] = _times(table[name])
    table.attrs = {"vendor": vendor, "manifest": str(document.get("$asm.manifest", "")), "left_out": left_out}
    for name, part in (("device", "device system document"), ("software", "data system document")):
        said = _flat(_part(technique, part))[0]
        table.attrs[name] = {key: value for key, value in said.items() if key not in (*_PLACES, _CUBES)}
    return table


def calculated(document: Mapping[str, Any], *, vendor: str) -> pd.DataFrame:
    """
    Return a row for each calculated value, with the numbers of the rows of `measurements` that it came from.

    Raises:
        UnreadableError: it is no such document.
    """
    import pandas as pd

    technique = _technique(document)
    found = _documents(_part(technique, "calculated data aggregate document"), "calculated data document")
    sources = {str(one.get("calculated data identifier")): _sources(one) for one in found}
    # By the identifier of what they come from: the rows of a measurement, or those of other calculated values.
    numbers: dict[str, set[int]] = {}
    for number, row in enumerate(row for measured in _measured(technique) for row in measured):
        for name in _IDENTIFIERS:
            if name in row:
                numbers.setdefault(str(row[name]), set()).add(number)

    def reached(names: list[str], depth: int = 0) -> set[int]:
        if depth > MAX_DEPTH:
            raise UnreadableError("its calculated values come of one another")
        for name in names:
            if name not in numbers:
                numbers[name] = reached(sources.get(name, []), depth + 1)
        return {number for name in names for number in numbers[name]}

    rows = [
        (one.get("calculated data name"), *_quantity(one.get("calculated result")), sorted(reached(_sources(one))))
        for one in found
    ]
    table = pd.DataFrame(rows, columns=["name", "value", "unit", "rows"])
    table.attrs = {"vendor": vendor, "manifest": str(document.get("$asm.manifest", ""))}
    return table


_CUBES = "data cubes"
_INNER = ("measurement aggregate document", "measurement document")


def _technique(document: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in document.items():
        if name.endswith(" aggregate document") and isinstance(value, Mapping):
            return value
    raise UnreadableError("no document of the Allotrope Simple Model: no technique is told of")


def _part(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a document within another; an empty one where there is none."""
    found = node.get(name) or {}
    if not isinstance(found, Mapping):
        raise UnreadableError(f"no document of the Allotrope Simple Model: its {name} is none")
    return found


def _documents(node: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the documents of a list within another; none where there is no list."""
    found = node.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise UnreadableError(f"no document of the Allotrope Simple Model: its {name} is no list of documents")
    return found


def _measured(technique: Mapping[str, Any]) -> Iterator[list[Cells]]:
    """Give the rows of each measurement."""
    for name, documents in technique.items():
        if not (name.endswith(" document") and isinstance(documents, list)):
            continue
        for one in _documents(technique, name):
            run = _part(one, "measurement aggregate document")
            said = {**one, **run}
            for measurement in _documents(run, "measurement document"):
                yield _flat({key: value for key, value in said.items() if key not in _INNER} | dict(measurement))


def _flat(node: Mapping[str, Any], depth: int = 0) -> list[Cells]:
    """Return a document as rows: one, or one for each document of a list of several."""
    if depth > MAX_DEPTH:
        raise UnreadableError(f"its documents are more than {MAX_DEPTH} deep")
    rows: list[Cells] = [{}]
    for name, value in node.items():
        if name.endswith(" data cube"):
            _extend(rows, {_CUBES: (name,)}, name)
        elif (
            isinstance(value, Mapping) and set(value) & {"value"} and not any(isinstance(v, dict | list) for v in value.values())
        ):
            number, unit = _quantity(value)
            # allotropy calls every absorbance mAU, and converts none: what is said to be 3.3 mAU is an optical density of 3.3.
            unit = "" if unit == "mAU" and name.endswith("absorbance") else unit
            _extend(rows, {f"{name} ({unit})" if unit else name: number}, name)
        elif isinstance(value, Mapping):
            rows = _joined(rows, _flat(value, depth + 1), name)
        elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            rows = _joined(rows, [row for one in value for row in _flat(one, depth + 1)], name)
        elif isinstance(value, list):
            _extend(rows, {name: json.dumps(value, ensure_ascii=False)}, name)
        else:
            _extend(rows, {name: _NUMBERS.get(value, value) if isinstance(value, str) else value}, name)
    return rows


def _joined(rows: list[Cells], more: list[Cells], name: str) -> list[Cells]:
    if len(more) > 1 and len(rows) > 1:
        # Two lists side by side belong to each other in no way that is told.
        _extend(rows, {name: json.dumps(more, ensure_ascii=False, default=list)}, name)
        return rows
    if len(more) <= 1:
        for cells in more:
            _extend(rows, cells, name)
        return rows
    joined = []
    for cells in more:
        row = dict(rows[0])
        _extend([row], cells, name)
        joined.append(row)
    return joined


def _extend(rows: list[Cells], cells: Cells, name: str) -> None:
    for row in rows:
        for column, value in cells.items():
            if column == _CUBES:
                row[_CUBES] = (*row.get(_CUBES, ()), *value)
            elif column in row and row[column] != value:
                row[f"{name}: {column}"] = value
            else:
                row[column] = value


def _quantity(value: Any) -> tuple[Any, str]:
    if not isinstance(value, Mapping):
        return value, ""
    number, unit = value.get("value"), value.get("unit")
    number = _NUMBERS.get(number, number) if isinstance(number, str) else number
    return number, "" if unit in _NO_UNITS or not isinstance(unit, str) else unit


def _sources(one: Mapping[str, Any]) -> list[str]:
    found = _documents(_part(one, "data source aggregate document"), "data source document")
    return [str(source.get("data source identifier")) for source in found]


def _times(column: pd.Series) -> pd.Series:
    import pandas as pd

    try:
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError):
        return column
