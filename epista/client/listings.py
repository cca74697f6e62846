"""
Listings: sequences that ask for their next page when it is needed, and show themselves as tables.

What people named is never trusted in a table: escaped in HTML, and without control characters in a terminal.
"""

from __future__ import annotations

import contextlib
import html
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar, overload

from epista.contract.errors import EpistaError

ROWS = 25
"""How many rows a table shows."""

_A_FEW = 3
"""Who has read so many pages will read the next one, too."""


class Page(Protocol):
    """One page of anything."""

    @property
    def next(self) -> str | None:
        """Where the next page begins, or None at the end."""


T = TypeVar("T")
P = TypeVar("P", bound=Page)


class Pages(Generic[P]):
    """The pages of one listing, each asked for once, when first needed."""

    def __init__(self, fetch: Callable[[str | None], P]) -> None:
        self._fetch = fetch
        self._pages: list[P] = []
        self._lock = threading.Lock()

    def get(self, number: int) -> P | None:
        """Return the page of that number, counted from 0, or None after the last."""
        with self._lock:
            while len(self._pages) <= number:
                after = self._pages[-1].next if self._pages else None
                if self._pages and after is None:
                    return None
                self._pages.append(self._fetch(after))
            return self._pages[number]

    def first(self) -> P:
        """Return the first page."""
        page = self.get(0)
        assert page is not None
        return page


class Ahead(Generic[P]):
    """
    Pages as they come, each asked for while the one before is still being read, once a few were.

    A page that did not come that way is asked for again, so that what is wrong is said to whoever reads it.
    """

    def __init__(self, fetch: Callable[[str | None], P]) -> None:
        self._fetch = fetch
        self._asked: _Asked[P] | None = None
        self._read = 0

    def get(self, after: str | None) -> P:
        """Return the page that begins at *after*."""
        page = self._asked.page() if self._asked and self._asked.after == after else None
        page = page or self._fetch(after)
        self._read += 1
        self._asked = _Asked(self._fetch, page.next) if page.next is not None and self._read >= _A_FEW else None
        return page


class _Asked(threading.Thread, Generic[P]):
    """One page that is on its way."""

    def __init__(self, fetch: Callable[[str | None], P], after: str) -> None:
        super().__init__(name="epista-page", daemon=True)
        self.after = after
        self._fetch = fetch
        self._page: P | None = None
        self.start()

    def run(self) -> None:
        with contextlib.suppress(EpistaError):
            self._page = self._fetch(self.after)

    def page(self) -> P | None:
        """Return it when it is here; None if it did not come, or was asked for before the process was forked."""
        self.join()
        return self._page


class Listing(Sequence[T]):
    """
    A sequence whose pages are asked for as they are needed.

    Iterating and indexing ask for no more than they use, save a page ahead in a long listing of assets; ``len()`` and negative
    indices ask for everything. What was listed once stays as it was: ask again to see what has changed since.
    """

    def __init__(
        self,
        pages: Pages[P],
        take: Callable[[P], Sequence[T]],
        *,
        identity: Callable[[T], str],
        columns: Sequence[str],
        row: Callable[[T], Sequence[str]],
    ) -> None:
        def get(number: int) -> Sequence[T] | None:
            page = pages.get(number)
            return None if page is None else take(page)

        self._get = get
        self._identity = identity
        self._columns = columns
        self._row = row
        self._items: list[T] = []
        self._seen: set[str] = set()
        self._page = 0
        self._is_whole = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        self._load(None)
        return len(self._items)

    def __bool__(self) -> bool:
        return self._load(1)

    def __iter__(self) -> Iterator[T]:
        number = 0
        while self._load(number + 1):
            while number < len(self._items):  # what was asked for once is never taken away
                yield self._items[number]
                number += 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            is_bounded = index.stop is not None and index.stop >= 0 and (index.start or 0) >= 0 and (index.step or 1) > 0
            self._load(index.stop if is_bounded else None)
        else:
            self._load(index + 1 if index >= 0 else None)
        return self._items[index]

    def __repr__(self) -> str:
        shown, more = self._shown()
        return text_table(self._columns, [self._row(item) for item in shown], more)

    def _repr_html_(self) -> str:
        shown, more = self._shown()
        return html_table(self._columns, [self._row(item) for item in shown], more)

    def _shown(self) -> tuple[Sequence[T], str]:
        is_more = self._load(ROWS + 1)
        return self._items[:ROWS], self._more() if is_more else ""

    def _more(self) -> str:
        return f"and {len(self._items) - ROWS} more" if self._is_whole else "and more"

    def _load(self, wanted: int | None) -> bool:
        """Ask for pages until there are *wanted* items (None: all), and return whether there are."""
        with self._lock:
            while not self._is_whole and (wanted is None or len(self._items) < wanted):
                found = self._get(self._page)
                self._page += 1
                if found is None:
                    self._is_whole = True
                for item in found or ():
                    # What changes while pages are read may move an item to a later page, too.
                    if (identity := self._identity(item)) not in self._seen:
                        self._seen.add(identity)
                        self._items.append(item)
            return wanted is None or len(self._items) >= wanted


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], more: str = "") -> str:
    """Return rows as plain text, the columns aligned by their number of characters."""
    if not rows:
        return "(nothing)"
    cells = [[printable(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, more] if more else lines)


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], more: str = "") -> str:
    """Return rows as an HTML table, with everything in it escaped."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    foot = f"<p>{html.escape(more)}</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{foot}" if rows else "<p>(nothing)</p>"


def html_fields(fields: Sequence[tuple[str, str]]) -> str:
    """Return names and values as an HTML table, with everything in it escaped."""
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in fields)
    return f"<table><tbody>{rows}</tbody></table>"


def printable(text: str) -> str:
    """Return *text* without anything that would steer a terminal or reverse what is read."""
    # The two joiners are invisible, but Persian, Hindi and emoji need them.
    return "".join(char if char.isprintable() or char in "\u200c\u200d" else ascii(char)[1:-1] for char in text)


def size(size_bytes: int | None) -> str:
    """Return a size for people, in decimal units."""
    if size_bytes is None:
        return "several files"
    if size_bytes < 1000:
        return f"{size_bytes} B"
    units = ("kB", "MB", "GB", "TB", "PB")
    # Rounded to one digit first, so that 999,999 bytes are 1.0 MB and not 1000.0 kB.
    power = next((n for n in range(1, len(units)) if round(size_bytes / 1000**n, 1) < 1000), len(units))
    return f"{size_bytes / 1000**power:.1f} {units[power - 1]}"


def moment(at: datetime) -> str:
    """Return a moment for people, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
