"""
User metadata: a JSON object, checked alike on both ends.

String keys, finite numbers, at most 1 MiB of JSON text and 64 levels. Checked before encoding, because the JSON encoder
would turn NaN into ``null`` silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from epista.contract.errors import TooLargeError, ValidationError

MAX_BYTES = 1024 * 1024
"""The largest metadata document, in bytes of compact UTF-8 JSON."""

MAX_LEVELS = 64
"""How deeply metadata may nest; the document itself is level 1."""

MAX_INTEGER_DIGITS = 4000
"""The longest integer, in decimal digits (CPython itself refuses to print more than 4,300)."""


def check(document: Mapping[str, Any]) -> None:
    """
    Check that *document* is metadata that will come back exactly as it is.

    Raises:
        ValidationError: what is no JSON, with its path; every violation is reported, not only the first.
        TooLargeError: more than `MAX_BYTES`.
    """
    violations: list[dict[str, str]] = []
    if not isinstance(document, dict):
        raise ValidationError(f"metadata is a JSON object (a dict), not {type(document).__name__}")
    _refuse_size(document)
    _walk(document, "", 1, violations)
    if violations:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise ValidationError(
            f"metadata {first['path'] or 'document'}: {first['message']}{more}", details={"violations": violations}
        )


def _refuse_size(document: Mapping[str, Any]) -> None:
    # First, because walking through what is far too large takes a hundred times as long as encoding it.
    try:
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError):
        return  # no JSON: what is wrong is found with its path
    if size > MAX_BYTES:
        raise TooLargeError(
            f"metadata is {size:,} bytes of JSON; at most {MAX_BYTES:,}",
            hint="put the large part as an asset of its own, and its key in the metadata",
            details={"limit_bytes": MAX_BYTES},
        )


def _walk(value: Any, path: str, level: int, violations: list[dict[str, str]]) -> None:
    def found(message: str) -> None:
        violations.append({"path": path, "message": message})

    if level > MAX_LEVELS:
        found(f"nests deeper than {MAX_LEVELS} levels")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                found(f"has the key {key!r}, which is no string")
            elif _unencodable(key):
                found("has a key with half a surrogate pair")
            else:
                _walk(item, f"{path}.{key}" if path else key, level + 1, violations)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", level + 1, violations)
    elif isinstance(value, float):
        if not math.isfinite(value):
            found(f"is {value}, which JSON cannot say; leave it out or use null")
    elif isinstance(value, str):
        if _unencodable(value):
            found("has half a surrogate pair")
    elif isinstance(value, bool) or value is None:
        pass
    elif isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_DIGITS * 3.3219:
            found(f"has more than {MAX_INTEGER_DIGITS} digits")
    else:
        found(f"is a {type(value).__name__}, which is no JSON")


def _unencodable(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
