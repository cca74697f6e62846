"""Times as people ask for them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epista.contract import times
from epista.contract.errors import ValidationError


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2023-12", "2023-12-01 00:00:00", "2023-12-31 23:59:59.999999"),
        ("2024/02", "2024-02-01 00:00:00", "2024-02-29 23:59:59.999999"),
        ("2023-12-13", "2023-12-13 00:00:00", "2023-12-13 23:59:59.999999"),
        ("20231213", "2023-12-13 00:00:00", "2023-12-13 23:59:59.999999"),
        ("2023-12-13 13:43", "2023-12-13 13:43:00", "2023-12-13 13:43:59.999999"),
        ("2023/12/13T13-43-40", "2023-12-13 13:43:40", "2023-12-13 13:43:40.999999"),
        ("2023-12-13_13.43.40", "2023-12-13 13:43:40", "2023-12-13 13:43:40.999999"),
        ("20231213134340", "2023-12-13 13:43:40", "2023-12-13 13:43:40.999999"),
        ("2023-12-13 13:43:40.25", "2023-12-13 13:43:40.250000", "2023-12-13 13:43:40.259999"),
    ],
)
def test_a_time_means_all_that_it_names(text: str, first: str, last: str) -> None:
    assert times.span(text) == (datetime.fromisoformat(first), datetime.fromisoformat(last))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023",
        "202312",
        "2023-12/13",
        "13-12-2023",
        "12/13/2023",
        "2023-02-30",
        "2023-12-13 25:00",
        "2023-12-13T13:43:40Z",
        "٢٠٢٣-12",
    ],
)
def test_what_is_no_time_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        times.span(text)

    assert raised.value.hint


def test_an_offset_is_refused_for_names_have_none() -> None:
    with pytest.raises(ValidationError, match="local time"):
        times.text_of(datetime(2023, 12, 13, tzinfo=UTC))
    with pytest.raises(ValidationError):
        times.text_of(True)


@given(st.datetimes())
@settings(max_examples=50, deadline=None)
def test_what_python_has_is_the_same_as_text(moment: datetime) -> None:
    assert times.span(times.text_of(moment)).first == moment
    assert times.span(times.text_of(moment.date())).first.date() == moment.date()


@given(st.text(max_size=30))
@settings(max_examples=50, deadline=None)
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        first, last = times.span(text)
    except ValidationError:
        return
    assert first <= last


def test_a_day_is_a_day() -> None:
    assert times.text_of(date(2023, 12, 13)) == "2023-12-13"
