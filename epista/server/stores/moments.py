"""Moments as the catalog keeps them: microseconds since 1970 in UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], int]
"""What tells the time; tests bring their own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


def now() -> int:
    """Return this moment."""
    return of(datetime.now(UTC))


def of(moment: datetime) -> int:
    """Return *moment*, which knows its time zone, in microseconds; what is past the year 9999 in UTC is the end of that year."""
    return (min(moment, _LAST) - _EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Return *microseconds* as an aware moment in UTC."""
    return _EPOCH + microseconds * _MICROSECOND
