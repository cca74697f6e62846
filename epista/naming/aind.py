"""
The names of AIND, old and new: ``[platform_]subject_datetime[_label[_datetime]]``.

The rule of today (`aind-subject`) has no platform; assets of former years begin with one. Source: the file naming page of
AllenNeuralDynamics/aind-data-schema, and aind-data-schema-models 6.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from epista.naming import moments
from epista.naming.components import cut, offset
from epista.naming.parsed import Refused
from epista.naming.vocabulary import TOKEN, is_known_label, is_known_platform, is_platform, is_subject

_staging = re.compile(r"(?=[0-9]*[a-f])[0-9a-f]{10}")
_prefix = re.compile(rf"{TOKEN.pattern}|{moments.CLOCK.pattern}")

Step = tuple[str, datetime | None]


class Session:
    """Names of a session and of what was made from it, in one style of date and time."""

    def __init__(self, style: moments.Style, *, platform: bool) -> None:
        self._style = style
        self._platform = platform

    def parse(self, component: str) -> Mapping[str, Any]:
        """Read ``[platform_]subject_datetime`` and its tail."""
        tokens, extension, trailing, _ = cut(component)
        index, started, width, dropped = self._session(tokens)
        first = index
        fields: dict[str, Any] = {"subject_id": tokens[index], "started": started, "date": started.date()}
        warnings = moments.odd_year(started.year)
        if self._platform:
            first -= 1
            if first < 0 or not is_platform(tokens[first]):
                raise Refused("no platform stands before the subject", offset(tokens, max(first, 0)))
            platform = fields["platform"] = tokens[first]
            if not is_known_platform(platform):
                warnings += (f"the platform {platform!r} is not known",)
        if first:
            fields["prefix"] = component[: offset(tokens, first) - 1]
            if "." in fields["prefix"] and not all(map(_prefix.fullmatch, tokens[:first])):
                raise Refused(f"{fields['prefix']!r} is no prefix", 0)
            warnings += (f"the prefix {fields['prefix']!r} is left out",)

        end = index + 1 + width
        steps, last, staging, dropped_later = self._tail(tokens, end) if end < len(tokens) else ([], end, False, False)
        dropped = dropped or dropped_later
        if steps:
            *earlier, (fields["label"], fields["label_time"]) = steps
            if earlier:
                fields["earlier"] = tuple(earlier)
        if extension:
            fields["extension"] = extension
        if dropped:
            warnings += ("a fraction of a second is left out",)
        if trailing:
            warnings += ("an underscore at the end is left out",)
        if warnings:
            fields["warnings"] = warnings
        fields["kind"] = _kind(fields, marked=staging or (not steps and (trailing or first > 0)))
        if first == 0 and not (staging or dropped or trailing):
            # It is canonical as it stands, which most names are.
            fields["canonical"] = component
            if steps:
                fields["parent"] = component[: offset(tokens, last) - 1]
        return fields

    def format(self, fields: Mapping[str, Any]) -> str:
        """Write the session, and every label with its time."""
        subject, started = fields.get("subject_id"), fields.get("started")
        if not subject or not isinstance(started, datetime):
            raise Refused("this convention needs subject_id and started")
        parts = [str(subject), self._style.write(started)]
        if self._platform:
            if not fields.get("platform"):
                raise Refused("this convention needs a platform")
            parts.insert(0, str(fields["platform"]))
        for label, time in (*fields.get("earlier", ()), (fields.get("label"), fields.get("label_time"))):
            if label:
                parts.append(str(label))
                if time:
                    parts.append(self._style.write(time))
        return "_".join(parts) + (fields.get("extension") or "")

    def _session(self, tokens: list[str]) -> tuple[int, datetime, int, bool]:
        """Find the first date and time that follow a subject: the subject's place, the moment, its width, a fraction dropped."""
        stray = None
        for index in range(1, len(tokens)):
            if self._style.starts(tokens, index):
                if is_subject(tokens[index - 1]):
                    return index - 1, *self._style.read(tokens, index)
                stray = stray or index
        if stray:
            raise Refused(f"{tokens[stray - 1]!r}, before the date, is no subject", offset(tokens, stray - 1))
        raise Refused("no subject with a date after it" if self._style.starts(tokens, 0) else "no date", 0)

    def _tail(self, tokens: list[str], index: int) -> tuple[list[Step], int, bool, bool]:
        """Read labels with their times: the labels, where the last begins, a mark of a staging folder, a fraction dropped."""
        staging = _staging.fullmatch(tokens[-1]) is not None
        count = len(tokens) - staging
        steps: list[Step] = []
        words: list[str] = []
        dropped = False
        last = index
        while index < count:
            # Most tokens begin no date: one look at a character spares three shapes.
            if tokens[index][0].isdigit() and any(style.starts(tokens, index) for style in moments.STYLES):
                if not self._style.starts(tokens, index):
                    raise Refused("a date in the tail is spelt otherwise than the session's", offset(tokens, index))
                if not words:
                    raise Refused("a date and time without a label before it", offset(tokens, index))
                time, width, fraction = self._style.read(tokens, index)
                steps.append(("_".join(words), time))
                words, dropped = [], dropped or fraction
                index += width
            elif not TOKEN.fullmatch(tokens[index]):
                raise Refused(f"{tokens[index]!r} is no label", offset(tokens, index))
            else:
                if not words:
                    last = index
                words.append(tokens[index])
                index += 1
        if words:
            steps.append(("_".join(words), None))
        return steps, last, staging, dropped


def _kind(fields: Mapping[str, Any], *, marked: bool) -> str:
    label = fields.get("label")
    if marked:
        return "other"
    if label is None or (label.casefold() == "raw" and fields["label_time"] is None):
        return "raw"
    return "derived" if fields["label_time"] is not None or is_known_label(label) else "other"


PLATFORM = Session(moments.HYPHENS, platform=True)
UNDERSCORE = Session(moments.UNDERSCORES, platform=True)
SUBJECT = Session(moments.HYPHENS, platform=False)
SUBJECT_ISO = Session(moments.ISO_BASIC, platform=False)
