"""
The words that names are made of: known platforms and labels, what a subject and a platform look like, extensions.

Only ASCII letters and digits count: ``\\d`` would also take the digits of every other script.
"""

from __future__ import annotations

import re

PLATFORMS = (
    "behavior",
    "confocal",
    "ecephys",
    "exaSPIM",
    "FIP",
    "HCR",
    "HSFP",
    "ISI",
    "MERFISH",
    "MRI",
    "mesoSPIM",
    "motor-observatory",
    "multiplane-ophys",
    "SLAP2",
    "single-plane-ophys",
    "SmartSPIM",
    "barseq",
    "diSPIM",
    "EFIP",
    "MVR",
)
"""Platforms that are known; any other is taken too, with a warning."""

LABELS = ("sorted", "processed", "videoprocessed", "stitched", "nwb", "dlc", "alignment", "None")
"""Labels that are known to say that something was made from a recording."""

TOKEN = re.compile(r"[A-Za-z0-9-]+")
"""Between two underscores: letters, digits, hyphens."""

_platforms = frozenset(name.casefold() for name in PLATFORMS)
_labels = frozenset(name.casefold() for name in LABELS)
_subject = re.compile(r"[0-9]{4,8}|(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{1,64}|calibration")
_platform = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_extension = re.compile(r"[0-9]{0,9}[A-Za-z][A-Za-z0-9]{0,15}")


def is_known_platform(text: str) -> bool:
    """Tell whether *text* is a known platform, in any case."""
    return text.casefold() in _platforms


def is_known_label(text: str) -> bool:
    """Tell whether *text* is a known label, or one followed by a hyphen or an underscore and more, in any case."""
    return re.split("[-_]", text, maxsplit=1)[0].casefold() in _labels


def is_word(text: str) -> bool:
    """Tell whether *text* is itself a known platform or label, so that it can be no subject."""
    folded = text.casefold()
    return folded in _platforms or folded in _labels


def is_subject(text: str) -> bool:
    """Tell whether *text* is a subject: 4 to 8 digits, letters and digits with a digit, or ``calibration``."""
    return _subject.fullmatch(text) is not None and not is_word(text)


def is_platform(text: str) -> bool:
    """Tell whether *text*, a token, may be a platform: it begins with a letter and is no known label."""
    return _platform.fullmatch(text) is not None and text.casefold() not in _labels


def cut_extension(name: str) -> tuple[str, str | None]:
    """Set the extension apart: ``x.ome.zarr`` gives ``x`` and ``.ome.zarr``; a fraction of a second is none."""
    stem = name
    while True:
        rest, dot, last = stem.rpartition(".")
        if not dot or not rest or not _extension.fullmatch(last):
            break
        stem = rest
    return stem, name[len(stem) :] or None
