"""What ``import epista`` offers, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import epista
from epista.contract.errors import ERRORS

PROBE = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import epista
seconds = time.perf_counter() - start
print(seconds, *sorted(set(sys.modules) - before))
"""


def test_import_is_light() -> None:
    runs = [subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True) for _ in range(3)]

    seconds = min(float(run.stdout.split()[0]) for run in runs)
    loaded = {
        name for name in runs[0].stdout.split()[1:] if name.split(".")[0] in ("pandas", "pyarrow", "numpy", "requests", "urllib3")
    }
    assert loaded == set()
    assert not [name for name in runs[0].stdout.split() if name.startswith("epista.server")]
    assert seconds < 0.12


def test_the_client_does_not_load_the_server_or_pandas() -> None:
    probe = "import sys, epista; epista.Workspace; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()

    assert not {"pandas", "pyarrow", "numpy", "epista.server"} & set(loaded)


def test_every_public_name_is_listed_imported_and_there() -> None:
    source = ast.parse(Path(epista.__file__).read_text(encoding="utf-8"))
    (imports,) = (node for node in source.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    imported = {name.name: node.module for node in imports.body if isinstance(node, ast.ImportFrom) for name in node.names}

    assert list(epista._WHERE) == epista.__all__
    assert imported == epista._WHERE
    for name in epista.__all__:
        # Of all but `image`, which is no class or function.
        assert getattr(getattr(epista, name), "__name__", "image") == name


def test_every_error_is_public() -> None:
    assert {error.__name__ for error in ERRORS.values()} <= set(epista.__all__)


def test_a_misspelt_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="Workspce"):
        getattr(epista, "Workspce")  # noqa: B009 - the type checker must not see it
    assert "Workspace" in dir(epista)


def test_the_version_is_that_of_the_package() -> None:
    assert getattr(epista, "__version__").count(".") == 2  # noqa: B009 - found by the module's own __getattr__
