"""What a name says: `Parsed`, and `Refused`, by which a convention declines one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, Protocol

Kind = Literal["raw", "derived", "other"]

Recording = tuple[str, datetime] | tuple[str, date, int | None] | tuple[str, str]
"""What two spellings of one recording share."""


class Refused(ValueError):
    """
    This component is no name of this convention: why, and from which character on.

    A convention of one's own may raise any `ValueError`; this one also says where.
    """

    def __init__(self, reason: str, at: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Convention(Protocol):
    """A way to write names. A component is what stands between two slashes."""

    def parse(self, component: str) -> Mapping[str, Any]:
        """
        Read a whole component: the fields of `Parsed` that it holds, without those that follow from them.

        Raises:
            ValueError: it is no name of this convention; `Refused` says where.
        """

    def format(self, fields: Mapping[str, Any]) -> str:
        """
        Write a name. Whether it reads back as the same fields is tested by the caller.

        Raises:
            ValueError: a field is missing that this convention needs.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What one name says. Times are naive: names carry the local time of the place they were made in."""

    convention: str
    """The convention that read it."""
    text: str
    """The component, as it was spelt."""
    span: tuple[int, int]
    """Where the component stands in what was parsed: from, and up to but not including."""
    canonical: str
    """The same name as its convention writes it: without prefix, fraction of a second or staging mark."""
    recording: Recording
    """What it is a recording of: the same for every spelling; see `recording_of`."""
    kind: Kind
    """``raw``, ``derived`` from a recording, or ``other`` (a staging folder, a label that nobody knows)."""
    subject_id: str | None = None
    """Who was recorded."""
    platform: str | None = None
    """With what, as it was spelt."""
    date: date | None = None
    """On which day."""
    started: datetime | None = None
    """When the session began; None without a time of day."""
    number: int | None = None
    """Which session of the day, from 1."""
    lims_id: str | None = None
    """Its number in the LIMS, 9 or 10 digits."""
    label: str | None = None
    """What was made of it: the last label."""
    label_time: datetime | None = None
    """When that was made."""
    earlier: tuple[tuple[str, datetime | None], ...] = ()
    """Labels before the last, with their times."""
    tokens: tuple[tuple[str, str], ...] = ()
    """What else the convention reads, by name: the session, task and run of BIDS, a lab's own."""
    prefix: str | None = None
    """What stands before the name proper."""
    extension: str | None = None
    """``.nwb``, with its dot."""
    parent: str | None = None
    """The canonical name less its last label and extension; None without one, or where every name has one."""
    warnings: tuple[str, ...] = ()
    """What was odd about it."""

    @property
    def session_id(self) -> str:
        """
        The session, as its field's own tools name it.

        ``ecephys_676909_2023-12-13_13-43-40`` (without a platform if there is none), ``366122_2021-06-01_3`` in `mindscope`,
        ``sub-01_ses-02`` in `bids`; the canonical name's first part elsewhere.
        """
        if self.convention == "mindscope":
            return f"{self.subject_id}_{self.date}" + (f"_{self.number}" if self.number else "")
        if self.convention == "bids":
            return f"sub-{self.subject_id}_ses-{self.tokens[0][1]}"
        if self.subject_id and self.started:
            moment = self.started.isoformat("_", "seconds").replace(":", "-")
            return f"{self.platform}_{self.subject_id}_{moment}" if self.platform else f"{self.subject_id}_{moment}"
        return self.parent if self.parent is not None else self.canonical.removesuffix(self.extension or "")

    @property
    def fields(self) -> dict[str, Any]:
        """What `format` takes: every field that a convention writes and that is set."""
        return {name: value for name in WRITTEN if (value := getattr(self, name)) not in (None, ())}


WRITTEN = (
    "subject_id",
    "platform",
    "date",
    "started",
    "number",
    "lims_id",
    "label",
    "label_time",
    "earlier",
    "tokens",
    "extension",
)
"""The fields that a convention writes; the others follow from them, or are left out of a canonical name."""

READ = frozenset((*WRITTEN, "prefix", "canonical", "parent", "kind", "recording", "warnings"))
"""The fields that a convention may give."""


def recording_of(fields: Mapping[str, Any], fallback: tuple[str, str]) -> Recording:
    """
    Tell what was recorded: (subject, started); without a time (subject, date, number); ("lims", id); or *fallback*.

    The platform is no part of it, for it is spelt in several ways and left out by newer names.
    """
    subject = fields.get("subject_id")
    if subject is not None and (started := fields.get("started")) is not None:
        return (subject, started)
    if subject is not None and (day := fields.get("date")) is not None:
        return (subject, day, fields.get("number"))
    if (lims := fields.get("lims_id")) is not None:
        return ("lims", lims)
    return fallback
