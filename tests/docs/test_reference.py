"""The generated pages are current."""

from __future__ import annotations

import pytest

from docs.generate import HERE, MADE, PAGES


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    assert (HERE / name).read_text(encoding="utf-8") == MADE + PAGES[name](), "run: python -m docs.generate"
