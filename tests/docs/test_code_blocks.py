"""
Code blocks in the docs run, page by page, in a folder of their own.

Python blocks of a page share their names; shell blocks share the exported variables. A block with ``epista serve`` starts a
real server on a free port, and the link it prints takes the place of the page's example link.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import epista
from epista import naming
from epista.client.filesystem import EpistaFileSystem
from epista.serializers import registry
from epista.server.config import SETTINGS

ROOT = Path(__file__).parent.parent.parent

PAGES = [ROOT / "README.md", ROOT / "docs" / "quickstart.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]

# The first two are the subject of CI itself; the others explain how to work on the project.
NOT_HERE = ("pip install",)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)

_ADDRESS = "http://127.0.0.1:8717"


class Page:
    """One page as somebody who types it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._server: subprocess.Popen[str] | None = None
        self._address = _ADDRESS
        self._link = ""
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "EPISTA_CREDENTIALS": str(folder / ".credentials.json"),
        }

    def python(self, source: str) -> None:
        exec(compile(source, "the page", "exec"), self._names)

    def sh(self, source: str) -> None:
        if "epista serve" in source:
            self._serve(source.strip())
            return
        for line in re.findall(r"^export (\w+)=(\S+)$", source, re.MULTILINE):
            self._environment[line[0]] = line[1]
        source = re.sub(r"http://127\.0\.0\.1:8717/sign-in#\w+", self._link, source).replace(_ADDRESS, self._address)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", source],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{source}\n{done.stdout}\n{done.stderr}"

    def json(self, source: str) -> None:
        Path("rules.json").write_text(source, encoding="utf-8")

    def toml(self, source: str) -> None:
        assert set(tomllib.loads(source)) <= set(SETTINGS)

    def _serve(self, command: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [word for word in command.split() if word not in ("--port", "8717")]
        self._server = subprocess.Popen(
            [sys.executable, "-m", *words, "--port", str(port)], env=self._environment, stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout
        self._address = f"http://127.0.0.1:{port}"
        for line in self._server.stdout:
            if found := re.search(r"http://\S+#[\w-]+", line):
                self._link = found.group()
                break
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server of the page does not listen")

    def close(self) -> None:
        for thing in self._names.values():
            if hasattr(thing, "close") and hasattr(thing, "wire"):
                thing.close()
        if self._server:
            self._server.terminate()
            self._server.wait(60)
            assert self._server.stdout
            self._server.stdout.close()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.chdir(tmp_path)
    # What a page registers is gone with the page.
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(registry, "_by_extension", dict(registry._by_extension))
    monkeypatch.setattr(naming.registry, "_registered", naming.registry.registered())
    monkeypatch.setattr(naming.registry, "_current", None)
    # As the entry point does where Epista is installed.
    fsspec.register_implementation("epista", EpistaFileSystem, clobber=True)
    Path("plate1.csv").write_text("well,count\nA1,17\nA2,23\n", encoding="utf-8")
    Path("raw").mkdir()
    Path("raw", "readings.txt").write_text("0.41 0.39\n", encoding="utf-8")
    opened = Page(tmp_path)
    yield opened
    epista.use(None)
    EpistaFileSystem.clear_instance_cache()
    opened.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_code_blocks_of_a_page_run(path: Path, page: Page) -> None:
    blocks = [
        (language, source)
        for language, source in _BLOCK.findall(path.read_text(encoding="utf-8"))
        if language not in ("text", "nginx") and not any(word in source for word in NOT_HERE)
    ]

    for language, source in blocks:
        getattr(page, language)(source)

    assert blocks


def test_every_page_is_linked_and_every_link_has_a_page() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    linked: set[Path] = set()
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            found = (page.parent / target).resolve()
            assert found.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"
            linked.add(found)
    decisions = ROOT / "docs" / "decisions"

    assert {page for page in pages if page.resolve() not in linked and page.parent != decisions} <= {ROOT / "README.md"}
