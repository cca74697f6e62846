"""
Attributes: user metadata as (path, type, value), any element of a list counting, and as words.

Paths are kept as one string, ``.a.b`` for ``{"a": {"b": ...}}``. Long paths and texts are kept as their beginning and their
sha256: they are compared for equality only, and an index should not hold a megabyte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from epista.server.stores.search import dates, words

TAGS = "tags"
"""The path under which tags stand among the attributes; no path of metadata is without a leading dot."""

MAX_TEXT = 200
"""The longest path or text that is kept as it is."""

EXACT = 2**53
"""Integers below this are exact as floats; from here on their digits decide equality."""

BREAK = "\ue000"
# A private-use character is in no folded word, so it stands between values: a phrase never runs from one into the next.


class Attribute(NamedTuple):
    """One value at one path."""

    path: str
    """As `path_of` says it."""
    type: str
    """object, list, string, number, boolean, null, or date: a string that says a day or a moment has one row of each."""
    number: float = 0.0
    """The number; 1 for true; the microseconds since 1970 of a date."""
    text: str = ""
    """The string, exactly; the digits of a large number."""


def path_of(segments: Sequence[str]) -> str:
    """Return the path that *segments* are kept under."""
    path = ""
    for segment in segments:
        path = _below(path, segment)
    return path


def shown(path: str) -> str:
    """Return a kept path as one writes it in a query."""
    return path.removeprefix(".")


def exact(text: str) -> str:
    """Return *text* as it is kept: two texts are kept alike only if they are equal."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:160]}\0{hashlib.sha256(text.encode()).hexdigest()}"


def digits(number: float) -> str:
    """Return what tells *number* apart where floats no longer do."""
    if abs(number) < EXACT or number in (float("inf"), float("-inf")):
        return ""
    return exact(str(int(number)))


def real(number: float) -> float:
    """Return *number* as a float; infinite, if it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def rows(meta: Mapping[str, Any], tags: Iterable[str] = ()) -> set[Attribute]:
    """Return the attributes of one asset."""
    found = {Attribute(TAGS, "string", text=exact(words.caseless(tag))) for tag in tags}
    for path, value in _walk("", dict(meta)):
        match value:
            case dict():
                found.add(Attribute(path, "object"))
            case list():
                found.add(Attribute(path, "list"))
            case None:
                found.add(Attribute(path, "null"))
            case bool():
                found.add(Attribute(path, "boolean", float(value)))
            case int() | float():
                found.add(Attribute(path, "number", real(value), digits(value)))
            case str():
                found.add(Attribute(path, "string", text=exact(value)))
                if (moment := dates.stored(value)) is not None:
                    found.add(Attribute(path, "date", float(moment)))
    return found


def tokens(meta: Mapping[str, Any]) -> str:
    """Return the words of every string with its path in front of each, for an index of words."""
    strings = ((path, value) for path, value in _walk("", dict(meta)) if isinstance(value, str))
    return apart(" ".join(token(path, word) for word in words.split(value)) for path, value in strings)


def token(path: str, word: str) -> str:
    """Return what stands in the index for a word of a string at *path*."""
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest() + word


def apart(texts: Iterable[str]) -> str:
    """Join folded texts so that no phrase runs from one into the next."""
    return f" {BREAK} ".join(texts)


def lines(meta: Mapping[str, Any]) -> list[str]:
    """Return metadata as people read it, ``name: value`` for each value; what free text looks into."""
    return list(_lines("", dict(meta)))


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(_below(path, key), item)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(path, item)


def _below(path: str, segment: str) -> str:
    escaped = segment.replace("\\", "\\\\").replace(".", "\\.")
    return exact(f"{path}.{escaped}")


def _lines(name: str, value: Any) -> Iterator[str]:
    # The name stands once before each value, not its whole path: the text stays as small as the document.
    if isinstance(value, dict):
        if name:
            yield name
        for key, item in value.items():
            yield from _lines(key, item)
    elif isinstance(value, list):
        if not value:
            yield name
        for place, item in enumerate(value):
            yield from _lines("" if place else name, item)
    else:
        said = value if isinstance(value, str) else json.dumps(value)
        yield f"{name}: {said}" if name else said
