"""``--meta``: names, values, documents and files become one document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from epista.cli import options


def given(*texts: str) -> Any:
    """Return what a command gets for these ``--meta``, or the message that refuses them."""
    found: list[Any] = []

    @click.command()
    @options.metadata
    def command(meta: dict[str, Any] | None) -> None:
        found.append(meta)

    done = CliRunner().invoke(command, [word for text in texts for word in ("--meta", text)])
    return found[0] if found else done.output


@pytest.mark.parametrize(
    ("texts", "document"),
    [
        ((), None),
        (("temp=37",), {"temp": 37}),
        (("temp=37.5", "live=true", "dead=null"), {"temp": 37.5, "live": True, "dead": None}),
        (("name=thor odinson",), {"name": "thor odinson"}),
        (("barcode=001",), {"barcode": "001"}),
        (('barcode="7"',), {"barcode": "7"}),
        (("genes=[1, 2]",), {"genes": [1, 2]}),
        (("formula=a=b",), {"formula": "a=b"}),
        (("note=",), {"note": ""}),
        (("n=NaN",), {"n": "NaN"}),
        (("cell.line=HeLa", "cell.passage=7"), {"cell": {"line": "HeLa", "passage": 7}}),
        (('{"a.b": 1}',), {"a.b": 1}),
        (("{}",), {}),
        (('{"a": 1, "b": 2}', "b=3"), {"a": 1, "b": 3}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else None,
)
def test_options_make_a_document(texts: tuple[str, ...], document: dict[str, Any] | None) -> None:
    assert given(*texts) == document


def test_a_document_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "meta.json"
    file.write_text('{"temp": 37, "operator": "ada"}', encoding="utf-8")

    assert given(f"@{file}", "temp=4") == {"temp": 4, "operator": "ada"}


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("temp",), "'temp' is not NAME=VALUE, a JSON object or @FILE"),
        (("=37",), "is not NAME=VALUE"),
        (("a..b=37",), "is not NAME=VALUE"),
        (("a=1", "a.b=2"), "'a' has a value already"),
        (("{",), "is not JSON"),
        (('{"a": NaN}',), "NaN is no JSON"),
        (("@nothing.json",), "nothing.json cannot be read"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else None,
)
def test_what_is_no_metadata_is_a_usage_error(texts: tuple[str, ...], reason: str) -> None:
    assert reason in given(*texts)
