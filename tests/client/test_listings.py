"""Listings: pages asked for as needed, nothing twice, and tables that nothing in them can break."""

from __future__ import annotations

import threading
from typing import NamedTuple

import pytest

from epista.client import listings
from epista.client.listings import Ahead, Listing, Pages
from epista.contract.errors import UnavailableError


class Page(NamedTuple):
    items: tuple[str, ...]
    next: str | None


class Source:
    """Pages of names; ``asked`` says which were asked for."""

    def __init__(self, *pages: tuple[str, ...]) -> None:
        self.pages = pages
        self.asked: list[str | None] = []

    def __call__(self, after: str | None) -> Page:
        self.asked.append(after)
        number = int(after or 0)
        return Page(self.pages[number], str(number + 1) if number + 1 < len(self.pages) else None)

    def listing(self) -> Listing[str]:
        return Listing(Pages(self), lambda page: page.items, identity=str, columns=("name",), row=lambda name: (name,))


def test_iterating_goes_on_past_the_first_page() -> None:
    assert list(Source(("a", "b"), ("c",), ("d",)).listing()) == ["a", "b", "c", "d"]


def test_an_empty_page_in_between_is_not_the_end() -> None:
    assert list(Source(("a",), (), ("b",)).listing()) == ["a", "b"]


def test_what_moved_to_a_later_page_comes_once() -> None:
    found = Source(("a", "b"), ("b", "c")).listing()

    assert list(found) == ["a", "b", "c"]
    assert len(found) == 3


def test_no_more_pages_are_asked_for_than_are_used() -> None:
    source = Source(("a", "b"), ("c",), ("d",))
    found = source.listing()
    assert source.asked == []

    assert found
    assert (found[1], found[:2]) == ("b", ["a", "b"])
    assert source.asked == [None]
    assert found[2] == "c"
    assert source.asked == [None, "1"]
    assert found[-1] == "d"
    assert (len(found), list(found)) == (4, ["a", "b", "c", "d"])
    assert source.asked == [None, "1", "2"]


def test_whoever_read_a_few_pages_is_given_the_next_while_they_read() -> None:
    asked = threading.Event()

    class Watched(Source):
        def __call__(self, after: str | None) -> Page:
            if after == "3":
                asked.set()
            return super().__call__(after)

    source = Watched(("a",), ("b",), ("c",), ("d",), ("e",))
    ahead = Ahead(source)
    assert [ahead.get(after).items for after in (None, "1")] == [("a",), ("b",)]
    assert source.asked == [None, "1"]

    assert ahead.get("2").items == ("c",)
    assert asked.wait(30)
    assert [ahead.get(after).items for after in ("3", "4")] == [("d",), ("e",)]
    assert source.asked == [None, "1", "2", "3", "4"]


def test_a_page_that_did_not_come_ahead_is_asked_for_again() -> None:
    class Failing(Source):
        def __call__(self, after: str | None) -> Page:
            page = super().__call__(after)
            if after == "3" and self.asked.count("3") <= 2:
                raise UnavailableError("the lab rests")
            return page

    source = Failing(("a",), ("b",), ("c",), ("d",))
    ahead = Ahead(source)
    for after in (None, "1", "2"):
        ahead.get(after)

    with pytest.raises(UnavailableError, match="rests"):
        ahead.get("3")
    assert ahead.get("3").items == ("d",)


def test_it_is_a_sequence() -> None:
    found = Source(("a", "b"), ("c",)).listing()

    assert "c" in found
    assert found.index("b") == 1
    assert list(reversed(found)) == ["c", "b", "a"]
    assert found[::-1] == ["c", "b", "a"]
    assert found[1:] == ["b", "c"]
    assert found[-2:5] == ["b", "c"]
    with pytest.raises(IndexError):
        found[3]


def test_an_empty_listing_is_false_and_says_so() -> None:
    found = Source(()).listing()

    assert not found
    assert len(found) == 0
    assert repr(found) == "(nothing)"


def test_the_repr_is_a_table_of_the_first_rows() -> None:
    source = Source(*[tuple(f"n{page}-{n}" for n in range(10)) for page in range(9)])

    lines = repr(source.listing()).splitlines()

    assert lines[:2] == ["name", "n0-0"]
    assert len(lines) == 1 + listings.ROWS + 1
    assert lines[-1] == "and more"
    assert source.asked == [None, "1", "2"]


def test_html_is_escaped() -> None:
    found = Source(("<script>alert(1)</script>",)).listing()

    text = found._repr_html_()

    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>" not in listings.html_fields([("<b>", "<b>")])


def test_a_table_cannot_steer_the_terminal() -> None:
    found = Source(("a\x1b[2Jb\u202ec\nd",)).listing()

    assert repr(found).splitlines()[1:] == [r"a\x1b[2Jb\u202ec\nd"]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_999, "1.0 MB"), (5 * 10**17, "500.0 PB")],
)
def test_sizes_are_decimal(size_bytes: int, text: str) -> None:
    assert listings.size(size_bytes) == text
