"""
Conditions and ranges of a download, as in RFC 9110, sections 13 and 14.

The only validator is a strong one, the sha256. There is no date of last change, so conditions on one are no conditions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from starlette.datastructures import Headers

_TAGS = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class Answer(NamedTuple):
    """What is answered, and with which bytes: none but for 200 and 206."""

    status: int
    start: int = 0
    stop: int = 0
    """Excluded."""


def answer(method: str, headers: Headers, *, tag: str, size: int) -> Answer:
    """Return how to answer a request for content of *size* bytes whose entity tag, in its quotes, is *tag*."""
    wanted = _field(headers, "if-match")
    if wanted is not None and wanted != "*" and tag not in _tags(wanted, weak=False):
        return Answer(412)
    known = _field(headers, "if-none-match")
    if known is not None and (known == "*" or tag in _tags(known, weak=True)):
        return Answer(304)
    # A range means something for GET alone; and a part of other bytes than the caller has would be of no use.
    if method != "GET" or headers.get("if-range", tag).strip() != tag:
        return Answer(200, 0, size)
    return _part(_field(headers, "range") or "", size)


def _part(wanted: str, size: int) -> Answer:
    found = _RANGE.fullmatch(wanted)
    whole = Answer(200, 0, size)
    # No range, several ones, or another unit: all of it is an answer too.
    if not found or found.groups() == ("", ""):
        return whole
    first, last = found.groups()
    if not first:
        if not int(last):
            return Answer(416)
        # No Content-Range could say which part of nothing this is.
        return Answer(206, max(0, size - int(last)), size) if size else whole
    start = int(first)
    if last and int(last) < start:
        return whole
    if start >= size:
        return Answer(416)
    return Answer(206, start, min(int(last) + 1, size) if last else size)


def _field(headers: Headers, name: str) -> str | None:
    """Return a header, its lines joined; None if it was not sent."""
    lines = headers.getlist(name)
    return ", ".join(lines).strip() if lines else None


def _tags(field: str, *, weak: bool) -> set[str]:
    """Return the entity tags of a list, weak ones only where that makes no difference."""
    return {tag for prefix, tag in _TAGS.findall(field) if weak or not prefix}
