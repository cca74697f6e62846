"""
``ws.instruments``: exports of instruments, as tables, where allotropy knows the vendor.

allotropy (https://github.com/Benchling-Open-Source/allotropy) turns the exports of some fifty instruments into the Allotrope
Simple Model. It wants other versions of pandas and jsonschema than Epista, so it lives in a Python environment of its own, whose
interpreter is run for each file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from epista.client import assets, objects, settings
from epista.client.session import Session
from epista.contract.assets import AssetRef
from epista.contract.errors import MissingExtraError, TooLargeError, UnreadableError
from epista.serializers import asm

if TYPE_CHECKING:
    import pandas as pd

HOME = "~/.epista/instruments"
"""The environment with allotropy, unless a variable names another interpreter."""

SECONDS = 300.0
"""How long one file may take."""

_CHILD = Path(__file__).with_name("instruments_child.py")


class Instruments:
    """Exports of instruments. Nothing is guessed at: allotropy knows the export, or it is refused."""

    def __init__(self, host: Session) -> None:
        self._here = host

    def table(self, ref: str | AssetRef, *, vendor: str | None = None, version: str | int | None = None) -> pd.DataFrame:
        """
        Read the measurements of an export: a row for each, in the order of the file.

        Columns are called as in the Allotrope Simple Model, with the unit in parentheses: ``sample identifier``,
        ``well location identifier``, ``absorbance (mAU)``. What is said of a run stands in each of its rows; times are UTC.
        ``attrs`` hold ``vendor``, ``manifest`` (which model), ``device``, ``software``, and ``left_out``: the data cubes, such as
        curves, which are in `document`.

        *vendor* is one of `vendors`; None: allotropy finds out.

        Raises:
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        found = self._read(ref, vendor, version)
        return asm.measurements(found["document"], vendor=found["vendor"])

    def calculated(self, ref: str | AssetRef, *, vendor: str | None = None, version: str | int | None = None) -> pd.DataFrame:
        """
        Read what the instrument's own software worked out: columns ``name``, ``value``, ``unit`` and ``rows``, the numbers of
        the rows of `table` that it came from.

        Raises:
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        found = self._read(ref, vendor, version)
        return asm.calculated(found["document"], vendor=found["vendor"])

    def document(self, ref: str | AssetRef, *, vendor: str | None = None, version: str | int | None = None) -> dict[str, Any]:
        """
        Return all of an export, as a document of the Allotrope Simple Model; it is not checked against the model's schema.

        Raises:
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        document: dict[str, Any] = self._read(ref, vendor, version)["document"]
        return document

    def vendors(self) -> dict[str, str]:
        """Return whose exports can be read: the name that *vendor* takes, and what people call it."""
        return dict(self._run([], self._python)["vendors"])

    def _read(self, ref: str | AssetRef, vendor: str | None, version: str | int | None) -> Mapping[str, Any]:
        python = self._python  # before anything is fetched
        key = assets.get(self._here, ref).key
        with tempfile.TemporaryDirectory(prefix="epista-instruments-") as folder:
            # Under its own name: the vendor also shows by the ending.
            path = Path(folder) / PurePosixPath(key).name
            objects.fetch(self._here, ref if isinstance(ref, AssetRef) else key, path, version=version)
            found = self._run([str(path), (vendor or "").upper()], python)
        # Whatever has lines and commas is an empty export of somebody's.
        if asm.is_empty(found["document"]):
            raise UnreadableError(f"nothing was measured, if it is an export of {found['vendor']} at all")
        return found

    @cached_property
    def _python(self) -> str:
        named = settings.instruments_python(os.environ)
        home = Path(HOME).expanduser()
        for path in (named,) if named else (home / "bin" / "python", home / "Scripts" / "python.exe"):
            if path.is_file():
                return str(path)
        if not named and importlib.util.find_spec("allotropy"):
            return sys.executable
        raise _missing(f"exports are read by allotropy, and there is no {named or home}")

    def _run(self, given: list[str], python: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="epista-instruments-") as folder:
            into = Path(folder) / "reply.json"
            try:
                # Isolated: neither the folder where one stands nor variables decide what is imported.
                done = subprocess.run(
                    [python, "-I", str(_CHILD), str(into), *given],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd=folder,
                    env={name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ},
                    timeout=SECONDS,
                )
            except subprocess.TimeoutExpired as error:
                raise TooLargeError(f"allotropy takes longer than {SECONDS:g} s to read it") from error
            except OSError as error:
                raise _missing(f"{python} cannot be run: {error.strerror}") from error
            reply: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError):
                reply = json.loads(into.read_bytes())
        if "error" in reply:
            raise UnreadableError(
                f"allotropy cannot read it: {reply['error']}", hint="ws.instruments.vendors() lists whose it can"
            )
        if reply:
            return reply
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:300]
        if "No module named" in said:
            raise _missing(f"{python} has no allotropy: {said}")
        raise UnreadableError(f"allotropy cannot read it: {said}")


def _missing(message: str) -> MissingExtraError:
    install = f"python -m venv {HOME} && {HOME}/bin/pip install allotropy"
    return MissingExtraError(message, hint=install, details={"package": "allotropy"})
