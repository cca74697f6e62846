"""
Python values as JSON values, for ``.json`` files and for metadata alike.

Tuples become lists, numpy scalars numbers, dates and times ISO 8601 strings. All else that is no JSON is refused with its
path, instead of being changed in silence.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from epista.contract.errors import ValidationError
from epista.contract.metadata import MAX_INTEGER_DIGITS
from epista.serializers.serializer import is_a

MAX_LEVELS = 200
"""How deeply a value may nest: what fits Python's stack with room to spare."""

_PLAIN = (str, int, float, bool, type(None), dict, list, tuple)

_HINTS = (
    (("numpy.ndarray",), "use .tolist()"),
    (("pandas.DataFrame", "pandas.Series", "polars.DataFrame", "polars.Series", "pyarrow.Table"), "put it as a table of its own"),
    (("builtins.set", "builtins.frozenset"), "use a sorted list"),
    (("pathlib.PurePath", "uuid.UUID", "decimal.Decimal"), "use str()"),
)


def to_json(value: object) -> Any:
    """
    Return *value* as dicts with string keys, lists, strings, integers, finite floats, booleans and None.

    Raises:
        ValidationError: what is no JSON; every violation is listed, with its path.
    """
    violations: list[dict[str, str]] = []
    converted = _convert(value, "", 1, violations)
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise ValidationError(f"{first['path'] or 'value'}: {first['message']}{more}", details={"violations": violations})
    return converted


def _convert(value: Any, path: str, level: int, violations: list[dict[str, str]]) -> Any:
    def refuse(message: str) -> None:
        violations.append({"path": path, "message": message, "rule": "json"})

    if type(value) not in _PLAIN and is_a(value, ("numpy.generic",)):
        value = _scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            return refuse("has half a surrogate pair")
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_DIGITS * 3.3219:
            return refuse(f"has more than {MAX_INTEGER_DIGITS} digits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return refuse(f"is {value}, which JSON cannot say; leave it out or use None")
        return float(value)
    # NaT is a datetime to isinstance, and unequal to itself.
    if isinstance(value, datetime.date | datetime.time) and value == value:
        return value.isoformat()
    if isinstance(value, dict | list | tuple):
        if level > MAX_LEVELS:
            return refuse(f"nests deeper than {MAX_LEVELS} levels, or contains itself")
        if not isinstance(value, dict):
            return [_convert(item, f"{path}[{index}]", level + 1, violations) for index, item in enumerate(value)]
        found = {}
        for key, item in value.items():
            if not isinstance(key, str):
                refuse(f"has the key {key!r}, which is no string")
            elif any("\ud800" <= char <= "\udfff" for char in key):
                refuse("has a key with half a surrogate pair")
            else:
                found[str.__str__(key)] = _convert(item, f"{path}.{key}" if path else key, level + 1, violations)
        return found
    hint = next((f"; {hint}" for names, hint in _HINTS if is_a(value, names)), "")
    return refuse(f"is a {type(value).__name__}, which is no JSON{hint}")


def _scalar(value: Any) -> object:
    """Return a numpy scalar as Python's own, where that loses nothing."""
    if is_a(value, ("numpy.datetime64",)):
        # .item() would give nanoseconds as an integer; str() is ISO 8601.
        return value if str(value) == "NaT" else str(value)
    if is_a(value, ("numpy.bool", "numpy.bool_", "numpy.integer", "numpy.float16", "numpy.float32", "numpy.float64")):
        item: object = value.item()
        return item
    return value
