"""
What names tell: conventions by which labs name sessions, and what was made from them.

    parsed = epista.naming.parse("ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45")
    parsed.subject_id, parsed.started, parsed.label
    epista.naming.format({"subject_id": "676909", "started": datetime(2023, 12, 13, 13, 43, 40)})

Pure: the standard library and the contract's errors. Client and server read names with the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from epista.naming import registry
from epista.naming.declared import declaration
from epista.naming.parsed import Convention, Parsed, Recording, Refused
from epista.naming.registry import Conventions, Explanation, Reading, Text, conventions, missing, register_convention, registered

__all__ = [
    "Convention",
    "Conventions",
    "Explanation",
    "Parsed",
    "Reading",
    "Recording",
    "Refused",
    "conventions",
    "declaration",
    "explain",
    "find_all",
    "format",
    "missing",
    "parse",
    "register_convention",
    "registered",
]


def parse(text: Text, *, convention: str | None = None, first: bool = False) -> Parsed:
    """Read the one recording that a name or a path names; see `Conventions.parse`."""
    return registry.current().parse(text, convention=convention, first=first)


def find_all(text_or_paths: Text | Iterable[Text]) -> list[Parsed]:
    """Find every recording named in a text, or in paths; see `Conventions.find_all`."""
    return registry.current().find_all(text_or_paths)


def explain(text: Text) -> Explanation:
    """Tell what every convention makes of a text; see `Conventions.explain`."""
    return registry.current().explain(text)


def format(fields: Parsed | Mapping[str, Any], convention: str | None = None) -> str:
    """Write the canonical name; see `Conventions.format`."""
    return registry.current().format(fields, convention)
