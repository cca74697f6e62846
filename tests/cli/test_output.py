"""Tables, fields and errors, as people see them."""

from __future__ import annotations

import pytest

from epista.cli import output
from epista.contract.errors import KeyNotFoundError, ValidationError


def test_columns_are_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("size", "name", "key"), [("1 B", "細胞", "a"), ("12.5 kB", "cafe\u0301", "b/c")])

    assert capsys.readouterr().out.splitlines() == [
        "   size  name  key",
        "    1 B  細胞  a",
        "12.5 kB  cafe\u0301  b/c",
    ]


def test_nothing_that_people_named_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("kind", "key"), [("FLOW", "a\x1b[31mb\u202ec")])
    output.line("a\x1b[31mb")
    output.error(KeyNotFoundError("no asset at 'a\x1b[31mb'"))

    said = capsys.readouterr()

    assert "\x1b" not in said.out + said.err
    assert "\u202e" not in said.out


def test_a_value_of_several_lines_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    output.fields({"key": "a", "made from": "b\nc", "notebook": None})

    assert capsys.readouterr().out.splitlines() == ["key        a", "made from  b", "           c"]


def test_an_error_lists_every_violation_and_then_the_hint(capsys: pytest.CaptureFixture[str]) -> None:
    violations = [{"path": "temp", "message": "is warm"}, {"path": "", "message": "'operator' is missing"}]

    output.error(ValidationError("two things", hint="look it up", details={"violations": violations}))

    assert capsys.readouterr().err.splitlines() == [
        "error: two things",
        "  temp: is warm",
        "  (whole): 'operator' is missing",
        "hint: look it up",
    ]


def test_a_caret_stays_below_what_it_points_at(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(KeyNotFoundError("bad", hint="kind:(\n     ^ here"))

    assert capsys.readouterr().err.splitlines()[1:] == ["hint: kind:(", "           ^ here"]


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2000, "2,000 files")])
def test_numbers_have_their_nouns(number: int, text: str) -> None:
    assert output.count(number, "file") == text


def test_progress_is_shown_only_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    output.status("1 blob", wanted=None)
    output.status("2 blobs", wanted=False)
    output.status("3 blobs", wanted=True)

    assert capsys.readouterr().err == "3 blobs\n"
