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
    offsets: list[int]
    """Where each token begins, and where one after the last would."""
    extension: str | None
    """What was set apart."""
    trailing: bool
    """Whether one underscore stood at the end."""
    refusal: tuple[str, int] | None
    """Why no such convention can read it, and where."""


@lru_cache(maxsize=256)
def _cut(text: str) -> Component:
    stem, extension = cut_extension(text)
    trailing = stem.endswith("_")
    tokens = (stem[:-1] if trailing else stem).split("_")
    offsets = [0]
    for token in tokens:
        offsets.append(offsets[-1] + len(token) + 1)
    refusal = None
    if found := _foreign.search(text):
        refusal = (f"{found.group()!r} stands in no name", found.start())
    elif "" in tokens:
        refusal = ("an empty token", offsets[tokens.index("")])
    return Component(tokens, offsets, extension, trailing, refusal)


def cut(text: str) -> Component:
    """Cut a component into tokens; refuse characters that no token holds, and empty tokens."""
    component = _cut(text)
    if component.refusal is not None:
        raise Refused(*component.refusal)
    return component
