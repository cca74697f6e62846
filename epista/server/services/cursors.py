"""Cursors: where the next page begins, opaque to callers; and documents kept as JSON text."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from epista.contract.errors import InvalidRequestError


def of(position: str | int) -> str:
    """Return a position as a cursor."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def text(cursor: str | None) -> str | None:
    """Return the text position that a cursor stands for."""
    found = _position(cursor)
    if found is not None and not isinstance(found, str):
        raise _bad()
    return found


def number(cursor: str | None) -> int | None:
    """Return the numeric position that a cursor stands for."""
    found = _position(cursor)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 2**62):
        raise _bad()
    return found


def document(kept: str) -> dict[str, Any]:
    """Return a kept JSON object."""
    found: dict[str, Any] = json.loads(kept)
    return found


def _position(cursor: str | None) -> Any:
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(found, str):
            found.encode()  # half a surrogate pair is no position
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _bad() from error
    if found is None:
        raise _bad()
    return found


def _bad() -> InvalidRequestError:
    return InvalidRequestError("this page cursor was not made here", hint="use the 'next' field of the page before")
