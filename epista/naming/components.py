"""A component cut into tokens, once for all conventions that join tokens by one underscore."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from epista.naming.parsed import Refused
from epista.naming.vocabulary import cut_extension

_foreign = re.compile(r"[^A-Za-z0-9_.-]")


class Component(NamedTuple):
    """A component, cut."""

    tokens: list[str]
    """What stands between underscores; a time keeps its fraction."""
    extension: str | None
    """What was set apart."""
    trailing: bool
    """Whether one underscore stood at the end."""
    refusal: tuple[str, int] | None
    """Why no such convention can read it, and where."""


def offset(tokens: list[str], index: int) -> int:
    """Return where a token begins."""
    return sum(map(len, tokens[:index])) + index


@lru_cache(maxsize=256)
def _cut(text: str) -> Component:
    stem, extension = cut_extension(text)
    trailing = stem.endswith("_")
    tokens = (stem[:-1] if trailing else stem).split("_")
    refusal = None
    if found := _foreign.search(text):
        refusal = (f"{found.group()!r} stands in no name", found.start())
    elif "" in tokens:
        refusal = ("an empty token", offset(tokens, tokens.index("")))
    return Component(tokens, extension, trailing, refusal)


def cut(text: str) -> Component:
    """Cut a component into tokens; refuse characters that no token holds, and empty tokens."""
    component = _cut(text)
    if component.refusal is not None:
        raise Refused(*component.refusal)
    return component
