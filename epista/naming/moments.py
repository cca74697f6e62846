"""
Days and times in names: shapes first, then real calendar values.

No clock is read: whether a name is valid must not depend on the day it is read.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from epista.naming.components import offset
from epista.naming.parsed import Refused

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CLOCK = re.compile(r"([0-9]{2})-([0-9]{2})-([0-9]{2})(\.[0-9]{1,6})?")
ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})(\.[0-9]{1,6})?")
_looks_like_day = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]+")
_looks_iso = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T.*", re.DOTALL)
_pair = re.compile(r"[0-9]{2}(\.[0-9]{1,6})?")


def calendar(text: str, tokens: list[str], index: int) -> datetime:
    """Read ``2023-12-13T13:43:40``; refuse what no calendar or clock shows."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text.replace('T', ' ')!r} is no date and time of a calendar", offset(tokens, index)) from None


def day(text: str, at: int) -> date:
    """Read ``2023-12-13`` or ``20231213``; refuse what no calendar shows."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text!r} is no day of a calendar", at) from None


class Style:
    """A way to write date and time over whole tokens."""

    def starts(self, tokens: list[str], index: int) -> bool:
        """Tell whether a date begins at this token, complete or not."""
        raise NotImplementedError

    def read(self, tokens: list[str], index: int) -> tuple[datetime, int, bool]:
        """Read the date and time that begin here: the moment, how many tokens it takes, and whether a fraction was dropped."""
        raise NotImplementedError

    def write(self, moment: datetime) -> str:
        """Write it."""
        raise NotImplementedError


class Hyphens(Style):
    """``YYYY-MM-DD_hh-mm-ss``."""

    def starts(self, tokens: list[str], index: int) -> bool:
        return index < len(tokens) and _looks_like_day.fullmatch(tokens[index]) is not None

    def read(self, tokens: list[str], index: int) -> tuple[datetime, int, bool]:
        clock = tokens[index + 1] if index + 1 < len(tokens) else ""
        found = CLOCK.fullmatch(clock)
        if found is None:
            raise Refused(f"the date {tokens[index]} is not followed by a time hh-mm-ss", offset(tokens, index + 1))
        hour, minute, second, fraction = found.groups()
        return calendar(f"{tokens[index]}T{hour}:{minute}:{second}", tokens, index), 2, fraction is not None

    def write(self, moment: datetime) -> str:
        return moment.isoformat("_", "seconds").replace(":", "-")


class Underscores(Style):
    """``YYYY_MM_DD_hh_mm_ss``."""

    def starts(self, tokens: list[str], index: int) -> bool:
        return (
            index + 2 < len(tokens)
            and len(tokens[index]) == 4
            and tokens[index].isdigit()
            and _pair.fullmatch(tokens[index + 1]) is not None
            and _pair.fullmatch(tokens[index + 2]) is not None
        )

    def read(self, tokens: list[str], index: int) -> tuple[datetime, int, bool]:
        parts = tokens[index : index + 6]
        matches = [_pair.fullmatch(part) for part in parts[1:]]
        if len(parts) < 6 or not all(matches) or any(match and match.group(1) for match in matches[:-1]):
            raise Refused("a date is not followed by a time hh_mm_ss", offset(tokens, index))
        fraction = matches[-1] is not None and matches[-1].group(1) is not None
        return calendar("{}-{}-{}T{}:{}:{}".format(*parts[:5], parts[5][:2]), tokens, index), 6, fraction

    def write(self, moment: datetime) -> str:
        return moment.isoformat("_", "seconds").replace(":", "_").replace("-", "_")


class Iso(Style):
    """``YYYY-MM-DDThhmmss``."""

    def starts(self, tokens: list[str], index: int) -> bool:
        return index < len(tokens) and _looks_iso.fullmatch(tokens[index]) is not None

    def read(self, tokens: list[str], index: int) -> tuple[datetime, int, bool]:
        found = ISO.fullmatch(tokens[index])
        if found is None:
            raise Refused("a date is not followed by a time Thhmmss", offset(tokens, index))
        days, hour, minute, second, fraction = found.groups()
        return calendar(f"{days}T{hour}:{minute}:{second}", tokens, index), 1, fraction is not None

    def write(self, moment: datetime) -> str:
        return moment.isoformat("T", "seconds").replace(":", "")


HYPHENS, UNDERSCORES, ISO_BASIC = Hyphens(), Underscores(), Iso()
STYLES: tuple[Style, ...] = (HYPHENS, UNDERSCORES, ISO_BASIC)


def odd_year(year: int) -> tuple[str, ...]:
    """Warn of a year in which hardly anybody recorded anything."""
    return () if 1990 <= year <= 2100 else (f"the year {year} is outside 1990 to 2100",)
