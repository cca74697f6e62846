"""
The sessions of MindScope: ``366122_20210601``, ``DRpilot_366122_2021-06-01_101203_2``, ``2021-06-01_10:12:03_366122``.

Source: ``SessionRecord`` of npc_session 0.1.41.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from epista.naming import moments
from epista.naming.parsed import Refused
from epista.naming.vocabulary import is_known_platform, is_platform

_foreign = re.compile(r"[^A-Za-z0-9_:-]")
_subject = re.compile(r"[0-9]{6,7}")
_lims = re.compile(r"[0-9]{9,10}")
_day = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}")
_clock = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})|([0-9]{2})([0-9]{2})([0-9]{2})")
_number = re.compile(r"[1-9][0-9]{0,2}")


class MindScope:
    """A project or LIMS id perhaps, a subject, a day, perhaps a time and the number of the session on that day."""

    def parse(self, component: str) -> Mapping[str, Any]:
        """Read them in their order, or day, time and subject."""
        if found := _foreign.search(component):
            raise Refused(f"{found.group()!r} stands in no name", found.start())
        tokens = component.split("_")
        offsets = [0]
        for token in tokens:
            offsets.append(offsets[-1] + len(token) + 1)
        fields: dict[str, Any] = {"kind": "raw"}
        if _day.fullmatch(tokens[0]):
            place, days, clock, number = self._day_first(tokens)
        else:
            place = self._first(tokens, fields)
            days, clock, number = place + 1, None, None
            if days < len(tokens) and _day.fullmatch(tokens[days]):
                rest = tokens[days + 1 :]
                after = days + 1
                if rest and _clock.fullmatch(rest[0]):
                    clock, after = after, after + 1
                if after < len(tokens) and _number.fullmatch(tokens[after]):
                    number, after = after, after + 1
                if after < len(tokens):
                    raise Refused(f"{tokens[after]!r} is no time and no number of the day", offsets[after])
        if place >= len(tokens) or not _subject.fullmatch(tokens[place]):
            raise Refused("no subject of 6 or 7 digits", offsets[min(place, len(tokens) - 1)])
        if days >= len(tokens) or not _day.fullmatch(tokens[days]):
            raise Refused("no day after the subject", offsets[min(days, len(tokens))])
        fields["subject_id"] = tokens[place]
        fields["date"] = on = moments.day(tokens[days], offsets[days])
        if clock is not None:
            fields["started"] = self._started(on, tokens[clock], offsets[clock])
        if number is not None:
            fields["number"] = int(tokens[number])
        warnings = moments.odd_year(on.year)
        if (platform := fields.get("platform")) and not is_known_platform(platform):
            warnings += (f"the project {platform!r} is no known platform",)
        fields["warnings"] = warnings
        return fields

    def format(self, fields: Mapping[str, Any]) -> str:
        """Write project or LIMS id, subject, day, time and number, as far as there are any."""
        subject, on = fields.get("subject_id"), fields.get("date")
        started = fields.get("started")
        if on is None and isinstance(started, datetime):
            on = started.date()
        if not subject or on is None:
            raise Refused("this convention needs subject_id and date")
        parts = [str(subject), on.isoformat()]
        if first := fields.get("platform") or fields.get("lims_id"):
            parts.insert(0, str(first))
        if started:
            parts.append(started.strftime("%H%M%S"))
        if fields.get("number"):
            parts.append(str(fields["number"]))
        return "_".join(parts)

    @staticmethod
    def _first(tokens: list[str], fields: dict[str, Any]) -> int:
        """Read a project or LIMS id, if one begins the name; return where the subject stands."""
        if _subject.fullmatch(tokens[0]):
            return 0
        if _lims.fullmatch(tokens[0]):
            fields["lims_id"] = tokens[0]
        elif is_platform(tokens[0]):
            fields["platform"] = tokens[0]
        else:
            raise Refused(f"{tokens[0]!r} is no project, LIMS id, subject or day", 0)
        return 1

    @staticmethod
    def _day_first(tokens: list[str]) -> tuple[int, int, int | None, int | None]:
        """Return where subject, day, time and number stand in a name that begins with the day."""
        if len(tokens) == 3 and _clock.fullmatch(tokens[1]):
            return 2, 0, 1, None
        if len(tokens) > 2:
            raise Refused("after the day come a time and a subject, and nothing else", sum(map(len, tokens[:2])) + 2)
        return 1, 0, None, None

    @staticmethod
    def _started(on: date, text: str, at: int) -> datetime:
        digits = text.replace(":", "")
        try:
            return datetime.combine(on, time(int(digits[:2]), int(digits[2:4]), int(digits[4:])))
        except ValueError:
            raise Refused(f"{text!r} is no time of a day", at) from None


MINDSCOPE = MindScope()
