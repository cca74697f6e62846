"""Words, excerpts and attributes: how text and metadata are taken apart."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.server.stores.search import attributes, dates, words
from epista.server.stores.search.attributes import Attribute
from epista.server.stores.search.words import Term


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD3-FITC", ["cd3", "fitc"]),
        ("Crème Brûlée", ["creme", "brulee"]),
        ("Cre\u0300me", ["creme"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδοσ"]),
        ("5 µm CO₂ ①", ["5", "μm", "co2", "1"]),
        ("a_b.c/d\\e\0f", ["a", "b", "c", "d", "e", "f"]),
        ("हिन्दी", ["हिनदी"]),
        ("細胞 HeLa", ["細胞", "hela"]),
        ("½", ["1", "2"]),
        ("+ - & 😀", []),
        ("x" * 300, ["x" * 200]),
    ],
)
def test_text_is_folded_and_split_at_anything_not_a_letter_or_digit(text: str, expected: list[str]) -> None:
    assert words.split(text) == expected


@given(st.text())
def test_case_and_normal_form_make_no_difference_to_words(text: str) -> None:
    expected = words.split(text)

    assert words.split(unicodedata.normalize("NFC", text)) == expected
    assert words.split(unicodedata.normalize("NFD", text)) == expected
    assert words.split(text.casefold()) == expected


@given(st.text())
def test_folded_words_fold_to_themselves(text: str) -> None:
    found = words.split(text)

    assert words.split(" ".join(found)) == found


def test_names_are_compared_without_case_but_with_accents() -> None:
    assert words.caseless("ÉVA") == words.caseless("e\u0301va")
    assert words.caseless("ÉVA") != words.caseless("eva")


FOX = Term(("fox",))


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("A Fox!", [FOX], "A **Fox**!"),
        ("foxes", [FOX], None),
        ("foxes", [Term(("fox",), prefix=True)], "**foxes**"),
        ("CD3-FITC, cd3", [Term(("cd3", "fitc"))], "**CD3-FITC**, cd3"),
        ("cd3 x fitc", [Term(("cd3", "fitc"))], None),
        ("cre\u0300me bru\u0302le\u0301e", [Term(("creme", "brulee"))], "**cre\u0300me bru\u0302le\u0301e**"),
        ("ﬁve straße", [Term(("strasse",)), Term(("five",))], "**ﬁve** **straße**"),
        ("a\n\tfox\r\nb", [FOX], "a **fox** b"),
        ("fox fox", [FOX], "**fox** **fox**"),
        ("", [FOX], None),
        ("fox", [], None),
        ("ab abab ab", [Term(("ab",))], "**ab** abab **ab**"),
        ("x" * 250, [Term(("x" * 200,))], "**" + "x" * 200 + "**…"),
    ],
)
def test_an_excerpt_marks_its_matches_in_the_original(text: str, terms: list[Term], expected: str | None) -> None:
    assert words.excerpt(text, terms) == expected


def test_an_excerpt_is_short_and_says_where_text_is_left_out() -> None:
    text = "before " * 1000 + "the Quick fox " + "after " * 1000

    assert words.excerpt(text, [Term(("quick", "fox"))]) == (
        "…before before before before before before before the **Quick fox** " + "after " * 21 + "after…"
    )


@pytest.mark.parametrize("filling", ["word ", "é ", "x", "\0"], ids=["words", "accents", "one word", "no words"])
@pytest.mark.parametrize("length", [100, 8_000, 8_192, 9_000, 20_000, 262_144])
def test_a_match_anywhere_in_a_long_text_is_found(filling: str, length: int) -> None:
    text = (filling * length)[:length] + " thor\nodinson " + filling * 100

    found = words.excerpt(text, [Term(("thor", "odinson"))])

    assert found is not None
    assert "**thor odinson**" in found
    assert len(found) < 250


@given(st.text(alphabet="ab éß-", max_size=30), st.lists(st.sampled_from(["a", "b", "ab", "ss", "e"]), min_size=1, max_size=2))
def test_there_is_an_excerpt_exactly_if_the_words_stand_side_by_side(text: str, wanted: list[str]) -> None:
    found = words.split(text)
    there = any(found[at : at + len(wanted)] == wanted for at in range(len(found)))

    assert (words.excerpt(text, [Term(tuple(wanted))]) is not None) is there


def test_metadata_becomes_paths_with_types_and_values() -> None:
    meta = {
        "temp": 37,
        "cell line": {"name": "HeLa", "a.b": None},
        "gates": [{"id": 1}, {"id": 2.5}],
        "done": True,
        "none": [],
        "taken": "2026-01-01",
    }

    assert attributes.rows(meta, ["QC"]) == {
        Attribute("tags", "string", text="qc"),
        Attribute(".temp", "number", 37.0),
        Attribute(".cell line", "object"),
        Attribute(".cell line.name", "string", text="HeLa"),
        Attribute(".cell line.a\\.b", "null"),
        Attribute(".gates", "list"),
        Attribute(".gates", "object"),
        Attribute(".gates.id", "number", 1.0),
        Attribute(".gates.id", "number", 2.5),
        Attribute(".done", "boolean", 1.0),
        Attribute(".none", "list"),
        Attribute(".taken", "string", text="2026-01-01"),
        Attribute(".taken", "date", 1_767_225_600_000_000.0),
    }


def test_metadata_reads_as_lines() -> None:
    meta = {"temp": 37, "cell": {"name": "HeLa"}, "markers": ["CD3", "CD4"], "none": [], "ok": True, "gap": None}

    assert attributes.lines(meta) == [
        "temp: 37", "cell", "name: HeLa", "markers: CD3", "CD4", "none", "ok: true", "gap: null",
    ]  # fmt: skip


def test_large_integers_keep_their_digits_and_huge_ones_are_infinite() -> None:
    assert attributes.rows({"n": 2**53 + 1}) == {Attribute(".n", "number", 2.0**53, "9007199254740993")}
    (huge,) = attributes.rows({"n": -(10**400)})
    assert huge.number == float("-inf")
    assert huge.text.startswith("-1000")


def test_long_texts_and_paths_are_kept_short_and_stay_different() -> None:
    deep: Any = "end"
    for _ in range(60):
        deep = {"k" * 1000: deep}
    found = attributes.rows(deep) | attributes.rows({"a": "x" * 5000}) | attributes.rows({"a": "x" * 5001})

    assert len(found) == 62
    assert max(len(row.path) for row in found) < 230
    assert max(len(row.text) for row in found) < 230


def test_an_index_of_metadata_grows_no_faster_than_the_metadata() -> None:
    meta = {"k" * 10_000: {str(n): "v" for n in range(1000)}}

    assert sum(map(len, attributes.lines(meta))) < 20_000
    assert sum(len(row.path) for row in attributes.rows(meta)) < 300_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-31", datetime(2026, 3, 31, tzinfo=UTC)),
        ("2026-03-31T10:30", datetime(2026, 3, 31, 10, 30, tzinfo=UTC)),
        ("2026-03-31 10:30:15.25", datetime(2026, 3, 31, 10, 30, 15, 250_000, tzinfo=UTC)),
        ("2026-03-31T00:30:00+02:00", datetime(2026, 3, 30, 22, 30, tzinfo=UTC)),
        ("2026-03-31T23:30:00-0130", datetime(2026, 4, 1, 1, 0, tzinfo=UTC)),
    ],
)
def test_iso_dates_in_metadata_are_dates(text: str, moment: datetime) -> None:
    assert dates.stored(text) == int(moment.timestamp()) * 1_000_000 + moment.microsecond


@pytest.mark.parametrize(
    "text", ["2026", "2026-03", "2026-02-30", "31.03.2026", "2026-03-31 late", "٢٠٢٦-٠٣-٣١", "0000-01-01", "2026-03-31T24:00"]
)
def test_other_strings_in_metadata_are_no_dates(text: str) -> None:
    assert dates.stored(text) is None
