"""
Words: how text is taken apart, for the index and for the query alike, on every database.

Folding is Unicode compatibility decomposition (NFKD, UAX #15), full case folding and dropping what has a combining class,
character by character. What is left is split at everything that is no letter, digit or mark. There is no stemming.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

MAX_WORD = 200
"""Characters of a word that count; what follows them is cut off, in the index and in the query."""

MAX_EXCERPT = 200
"""Characters of an excerpt, without its marks."""

_BEFORE = 60
_PIECE = 8192
_OVERLAP = 1024


class Term(NamedTuple):
    """Words that stand side by side."""

    words: tuple[str, ...]
    """Folded, at least one."""
    prefix: bool = False
    """Whether the last word may go on."""


class _Folds(dict[int, str]):
    """A table for `str.translate` that is made as characters are met."""

    def __missing__(self, codepoint: int) -> str:
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(codepoint)).casefold())
        kept = (char for char in plain if not unicodedata.combining(char))
        self[codepoint] = folded = "".join(char if _in_word(char) else " " for char in kept)
        return folded


def _in_word(char: str) -> bool:
    # Marks without a combining class are vowels of their own in many scripts, such as Devanagari.
    return char.isalnum() or unicodedata.category(char).startswith("M")


_FOLDS = _Folds()


def split(text: str) -> list[str]:
    """Return the folded words of *text* in their order."""
    found = text.translate(_FOLDS).split()
    return [word[:MAX_WORD] for word in found] if len(text) > MAX_WORD else found


def ends_in_word(text: str) -> bool:
    """Whether more letters after *text* would belong to its last word."""
    return bool(text) and not text.translate(_FOLDS).endswith(" ")


def caseless(text: str) -> str:
    """Return *text* so that two spellings are equal if they differ in case or normal form only; accents count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def excerpt(text: str, terms: Sequence[Term]) -> str | None:
    """
    Return the part of *text* around the first place where one of *terms* stands, or None.

    Every match in that part stands between ``**``, runs of white space are one space, and ``…`` says where text is left out.
    """
    found = _first(text, terms)
    if found is None:
        return None
    start = max(0, found[0] - _BEFORE)
    if start and (space := re.search(r"\s", text[start : found[0]])):
        start += space.end()
    end = min(len(text), start + MAX_EXCERPT)
    if end < len(text) and found[1] < end and (space := re.search(r"\s\S*$", text[found[1] : end])):
        end = found[1] + space.start()
    # Looked at again with one character more on both sides: half a word at the edge is no match.
    edge = max(0, start - 1)
    marked, done = ["…" if start else ""], start
    for first, last in _spans(text[edge : end + 1], terms):
        first, last = max(first + edge, done), min(last + edge, end)
        if first < last:
            marked += [text[done:first], "**", text[first:last], "**"]
            done = last
    marked += [text[done:end], "…" if end < len(text) else ""]
    return " ".join("".join(marked).split())


def _first(text: str, terms: Sequence[Term]) -> tuple[int, int] | None:
    # In pieces, because the match is mostly near the beginning and text may be long. Pieces overlap for phrases.
    start = 0
    while start < len(text):
        end = start + _PIECE + _OVERLAP
        for first, last in _spans(text[start:end], terms, only_first=True):
            if start + last < end or end >= len(text):
                return start + first, start + last
        start += _PIECE
        # Begin the next piece between two words.
        for at in range(start, min(start + MAX_WORD, len(text))):
            if " " in _FOLDS[ord(text[at])]:
                start = at
                break
    return None


def _spans(text: str, terms: Sequence[Term], *, only_first: bool = False) -> list[tuple[int, int]]:
    folded = text.translate(_FOLDS)
    found = [span for term in terms for span in _matches(folded, term, only_first=only_first)]
    if not found:
        return []
    offsets = _offsets(text)
    # A match ends before the character after its last one, so that it takes in accents that were dropped.
    spans = sorted((offsets[first], offsets[last] if last < len(offsets) else len(text)) for first, last in found)
    return spans[:1] if only_first else spans


def _matches(folded: str, term: Term, *, only_first: bool) -> Iterator[tuple[int, int]]:
    if term.words[0] not in folded:
        return
    pattern, at = _pattern(term), 0
    while found := pattern.search(folded, at):
        at = found.start() + 1
        if found.start() == 0 or folded[found.start() - 1] == " ":
            yield found.span()
            if only_first:
                return
            at = found.end()


@lru_cache(maxsize=1024)
def _pattern(term: Term) -> re.Pattern[str]:
    tail = r"\S*" if term.prefix or len(term.words[-1]) >= MAX_WORD else r"(?!\S)"
    return re.compile(" +".join(map(re.escape, term.words)) + tail)


def _offsets(text: str) -> Sequence[int]:
    """Return for each character of the folded text where its original stands."""
    if text.isascii():
        return range(len(text))
    return [at for at, char in enumerate(text) for _ in _FOLDS[ord(char)]]
