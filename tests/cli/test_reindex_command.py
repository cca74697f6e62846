"""`epista reindex`."""

from __future__ import annotations

from tests.cli.conftest import Run


def test_words_are_read_again_and_what_is_left_is_told(run: Run) -> None:
    run("reindex")
    left = run("reindex", "--dry-run")
    again = run("reindex", "--again", "--format", "csv", "--json")
    unknown = run("reindex", "--format", "png")

    assert left.lines == []
    assert run("reindex").lines == ["all words are current"]
    assert again.json["assets"] >= 0
    assert unknown.code == 1
    assert "png" in unknown.err
    assert {one["format"] for one in run("reindex", "--dry-run", "--format", "csv", "--json").json["formats"]} == {"csv"}
