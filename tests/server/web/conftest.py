"""A browser: Debian's Chromium, driven by Playwright, of whose own browsers none is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright


# By module and not by session: while Playwright is there, its event loop counts as running in the thread of the tests, and
# other modules could not run one.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    return browser_type_launch_args | {"executable_path": found}


@pytest.fixture(scope="module")
def browser(playwright: Playwright, browser_type_launch_args: dict[str, Any]) -> Iterator[Browser]:
    started = playwright.chromium.launch(**browser_type_launch_args)
    yield started
    started.close()


@pytest.fixture(scope="module")
def browser_context_args() -> dict[str, Any]:
    return {"viewport": {"width": 1100, "height": 700}, "reduced_motion": "reduce", "locale": "en-GB"}


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page of which nothing may be an error: no exception, no refused address, nothing against the page's policy."""
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []
