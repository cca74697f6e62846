"""Dates in queries and metadata: year, month, day or instant (ISO 8601), in microseconds since 1970, UTC unless offset."""

from __future__ import annotations

import re
from datetime import date

_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[T ](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?)?)?",
    re.ASCII,
)
_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE
_EPOCH = date(1970, 1, 1).toordinal()


def span(text: str) -> tuple[int, int] | None:
    """
    Return the first microsecond of what *text* names, and the first one after it; None if it is no date.

    A year, month or day means all of it; an instant is one microsecond.

    Raises:
        ValueError: *text* looks like a date, but the calendar or the clock has no such one.
    """
    if not (found := _DATE.fullmatch(text)):
        return None
    part = {name: int(value) for name, value in found.groupdict().items() if value and name not in ("fraction", "offset")}
    year, month, day = part["year"], part.get("month", 1), part.get("day", 1)
    start = date(year, month, day).toordinal()
    if "day" in part:
        after = start + 1
    elif "month" in part:
        after = date(year, month + 1, 1).toordinal() if month < 12 else date(year, 12, 31).toordinal() + 1
    else:
        after = date(year, 12, 31).toordinal() + 1
    offset = _offset(found["offset"])
    first, last = (start - _EPOCH) * _DAY - offset, (after - _EPOCH) * _DAY - offset
    if "hour" not in part:
        return first, last
    hour, minute, second = part["hour"], part["minute"], part.get("second", 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("the clock goes to 23:59:59")
    fraction = int((found["fraction"] or "")[:6].ljust(6, "0"))
    first += (hour * 60 + minute) * _MINUTE + second * 1_000_000 + fraction
    return first, first + 1


def stored(text: str) -> int | None:
    """Return the moment that a string of metadata says, or None; a day is its beginning, a bare year or month is no date."""
    if not 10 <= len(text) <= 35:
        return None
    try:
        found = span(text)
    except ValueError:
        return None
    return found[0] if found else None


def _offset(text: str | None) -> int:
    if not text or text == "Z":
        return 0
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError("an offset goes to 23:59")
    return (-1 if text[0] == "-" else 1) * (hours * 60 + minutes) * _MINUTE
