"""JSON documents, and JSON lines: one value a line."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any, NoReturn

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers.json_values import to_json
from epista.serializers.serializer import Options, Serializer, is_a


def write(obj: object, *, indent: int | None = None) -> bytes:
    """Write one JSON value; *indent* spreads it over lines."""
    return _encode(obj, indent)


def read(data: bytes, *, indent: int | None = None) -> object:
    """Read one JSON value. NaN and infinity, which are no JSON, are refused."""
    return _decode(data, "the document")


def write_lines(obj: Any) -> bytes:
    """Write a list of JSON values, one a line."""
    return b"".join(_encode(value) for value in obj)


def read_lines(data: bytes) -> list[object]:
    """Read JSON lines as a list; blank lines are skipped."""
    return [_decode(line, f"line {number}") for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]


def _encode(obj: object, indent: int | None = None) -> bytes:
    return json.dumps(to_json(obj), ensure_ascii=False, indent=indent).encode() + b"\n"


def _decode(data: bytes, where: str) -> object:
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise UnreadableError(f"{where} nests too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"{where} is no JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is too large")
    return number


def _accepts(obj: object) -> bool:
    plain = (dict, list, tuple, str, int, float, datetime.date, datetime.time)
    return obj is None or isinstance(obj, plain) or is_a(obj, ("numpy.generic",))


def _accepts_lines(obj: object) -> bool:
    return isinstance(obj, list | tuple)


def _check(options: Options) -> dict[str, Any]:
    indent = options.get("indent")
    if indent is not None and (isinstance(indent, bool) or not isinstance(indent, int) or not 0 <= indent <= 16):
        raise FormatError(f"option indent={indent!r}: a number of spaces from 0 to 16 is needed")
    return dict(options)


SERIALIZERS = (
    Serializer(
        name="json",
        takes="JSON values: dict, list, str, numbers, bool, None",
        accepts=_accepts,
        write=write,
        read=read,
        options=("indent",),
        check=_check,
    ),
    Serializer(
        name="ipynb",
        takes="a notebook as a dict",
        accepts=lambda obj: isinstance(obj, dict),
        write=write,
        read=read,
        options=("indent",),
        check=_check,
    ),
    Serializer(name="jsonl", takes="a list of JSON values", accepts=_accepts_lines, write=write_lines, read=read_lines),
)
