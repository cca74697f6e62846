"""
Times as people ask for them: text that means all that it names, a month, a day, a minute or a second.

Names carry the local time of the place they were made in, so these have no offset either.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

from epista.contract.errors import ValidationError

_ONE = timedelta(microseconds=1)

_FORM = re.compile(
    r"(?P<year>\d{4})(?:(?P<a>[-/])(?P<month>\d\d)(?:(?P=a)(?P<day>\d\d))?|(?P<month_>\d\d)(?P<day_>\d\d))"
    r"(?:[ _T]?(?P<hour>\d\d)(?P<b>[:.-]?)(?P<minute>\d\d)(?:(?P=b)(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6}))?)?)?",
    re.ASCII,
)
_DAY_FIRST = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*", re.ASCII | re.DOTALL)

_HINT = "such as '2023-12-13', '2023-12', '2023-12-13 13:43' or 20231213134340"


class Span(NamedTuple):
    """All that a time names, both ends included."""

    first: datetime
    last: datetime


def text_of(wanted: str | int | date | datetime) -> str:
    """
    Return a time as text that means the same.

    Raises:
        ValidationError: it has an offset, or is nothing that means a time.
    """
    if isinstance(wanted, datetime):
        if wanted.tzinfo is not None:
            raise ValidationError(
                f"{wanted.isoformat()} has an offset, but names carry local time",
                hint="give the local time without one: when.replace(tzinfo=None)",
            )
        return wanted.isoformat(" ", "microseconds" if wanted.microsecond else "seconds")
    if isinstance(wanted, date):
        return wanted.isoformat()
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return str(wanted)
    if isinstance(wanted, str):
        return wanted
    raise ValidationError(f"a time is a date, a datetime, an int or a str, not {type(wanted).__name__}", hint=_HINT)


def span(text: str) -> Span:
    """
    Return all that *text* names.

    Raises:
        ValidationError: it is no time, or one of no calendar.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        if _DAY_FIRST.fullmatch(text.strip()):
            raise ValidationError(f"{text!r} has the day or the month first", hint=f"the year comes first, {_HINT}")
        if re.fullmatch(r".*(Z|[+-]\d\d:?\d\d)", text.strip()) and re.match(r"\d{4}-\d\d-\d\dT", text):
            raise ValidationError(f"{text!r} has an offset, but names carry local time", hint="give the local time without one")
        raise ValidationError(f"{text!r} is no time", hint=_HINT)
    part = found.groupdict()
    month, day = part["month"] or part["month_"], part["day"] or part["day_"]
    try:
        if day is None:
            first = datetime(int(part["year"]), int(month), 1)
            return Span(first, _month_after(first) - _ONE)
        on = date(int(part["year"]), int(month), int(day))
        if part["hour"] is None:
            return Span(datetime.combine(on, time.min), datetime.combine(on, time.max))
        clock = time(int(part["hour"]), int(part["minute"]), int(part["second"] or 0))
    except (ValueError, OverflowError):
        raise ValidationError(f"{text!r} is on no calendar and no clock", hint=_HINT) from None
    first = datetime.combine(on, clock)
    if part["second"] is None:
        return Span(first, first.replace(second=59, microsecond=999_999))
    fraction = part["fraction"]
    if fraction is None:
        return Span(first, first.replace(microsecond=999_999))
    width = 10 ** (6 - len(fraction))
    low = int(fraction) * width
    return Span(first.replace(microsecond=low), first.replace(microsecond=low + width - 1))


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970 on the same clock."""
    return (moment - datetime(1970, 1, 1)) // _ONE


def _month_after(first: datetime) -> datetime:
    if (first.year, first.month) == (9999, 12):
        raise OverflowError
    return first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
