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
from epista.contract.errors import InvalidRequestError, MissingExtraError, TooLargeError, UnreadableError
from epista.serializers import asm

if TYPE_CHECKING:
    import pandas as pd

HOME = "~/.epista/instruments"
"""The environment with allotropy, unless a variable names another interpreter."""

SECONDS = 300.0
"""How long one file may take."""

FILE_BYTES = 256 * 1024**2
"""How large one file may be; of text, a twentieth of that takes the time that there is."""

_SAID_BYTES = 4096

_CHILD = Path(__file__).with_name("instruments_child.py")


class Instruments:
    """Exports of instruments. Nothing is guessed at: allotropy knows the export, or it is refused."""

    def __init__(self, host: Session) -> None:
        self._here = host

    def table(
        self,
        ref: str | AssetRef,
        *,
        vendor: str | None = None,
        timezone: str | None = None,
        day_first: bool = False,
        version: str | int | None = None,
    ) -> pd.DataFrame:
        """
        Read the measurements of an export: a row for each, in the order of the file.

        Columns are called as in the Allotrope Simple Model, with the unit in parentheses: ``sample identifier``,
        ``well location identifier``, ``mass concentration (ng/µL)``. Units are those that allotropy tells, but for absorbance,
        which has none: it calls it mAU, whatever it is, and converts nothing. What is said of a run stands in each of its rows.
        ``attrs`` hold ``vendor``, ``manifest`` (which model), ``device``, ``software``, ``timezone``, and ``left_out``: the data
        cubes, such as curves, which are in `document`.

        *vendor* is one of `vendors`; None: it is found by what stands in the file. Times are UTC. Those that the export gives
        without a zone were read off a clock in *timezone*, such as ``Europe/Berlin``; None: they are taken for UTC. A date like
        03/04/2026 is the fourth of March, or, if *day_first*, the third of April.

        Raises:
            InvalidRequestError: no vendor or time zone is called so.
            TooLargeError: the file has more than `FILE_BYTES`, or takes longer than `SECONDS`.
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        found = self._read(ref, vendor, timezone, day_first, version)
        table = asm.measurements(found["document"], vendor=found["vendor"])
        table.attrs["timezone"] = timezone or "UTC"
        return table

    def calculated(
        self,
        ref: str | AssetRef,
        *,
        vendor: str | None = None,
        timezone: str | None = None,
        day_first: bool = False,
        version: str | int | None = None,
    ) -> pd.DataFrame:
        """
        Read what the instrument's own software worked out: columns ``name``, ``value``, ``unit`` and ``rows``, the numbers of
        the rows of `table` that it came from. Arguments are those of `table`.

        Raises:
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        found = self._read(ref, vendor, timezone, day_first, version)
        return asm.calculated(found["document"], vendor=found["vendor"])

    def document(
        self,
        ref: str | AssetRef,
        *,
        vendor: str | None = None,
        timezone: str | None = None,
        day_first: bool = False,
        version: str | int | None = None,
    ) -> dict[str, Any]:
        """
        Return all of an export, as a document of the Allotrope Simple Model, just as allotropy makes it; it is not checked
        against the model's schema. Arguments are those of `table`.

        Raises:
            UnreadableError: allotropy knows no vendor of such an export, or cannot read it.
            MissingExtraError: allotropy is not installed; the hint says how.
        """
        document: dict[str, Any] = self._read(ref, vendor, timezone, day_first, version)["document"]
        return document

    def vendors(self) -> dict[str, str]:
        """Return whose exports can be read: the name that *vendor* takes, and what people call it."""
        return dict(self._run([], self._python)["vendors"])

    def _read(
        self, ref: str | AssetRef, vendor: str | None, timezone: str | None, day_first: bool, version: str | int | None
    ) -> Mapping[str, Any]:
        python = self._python  # before anything is fetched
        asset = assets.get(self._here, ref)
        if version is None and asset.size_bytes is not None and asset.size_bytes > FILE_BYTES:
            raise TooLargeError(f"it has {asset.size_bytes:,} bytes; exports of at most {FILE_BYTES:,} are read")
        key = asset.key
        with tempfile.TemporaryDirectory(prefix="epista-instruments-") as folder:
            # Under its own name: the vendor also shows by the ending.
            path = Path(folder) / PurePosixPath(key).name
            objects.fetch(self._here, ref if isinstance(ref, AssetRef) else key, path, version=version)
            # Only whether the day comes first depends on it.
            locale = "en_GB" if day_first else ""
            found = self._run([str(path), (vendor or "").upper(), timezone or "", locale], python)
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
            log = Path(folder) / "said.txt"
            try:
                # Isolated: neither the folder where one stands nor variables decide what is imported.
                with log.open("wb") as stderr:
                    done = subprocess.run(
                        [python, "-I", "-X", "utf8", str(_CHILD), str(into), *given],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
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
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _SAID_BYTES))
                stderr_text = file.read().decode("utf-8", "replace")
        if "wrong" in reply:
            raise InvalidRequestError(reply["wrong"], hint="ws.instruments.vendors() lists whose exports can be read")
        if "several" in reply:
            raise UnreadableError(
                f"it looks like an export of {' and of '.join(reply['several'])}",
                hint=" or ".join(f"vendor={name!r}" for name in reply["several"]) + " says which",
                details={"candidates": reply["several"]},
            )
        if "error" in reply:
            raise UnreadableError(
                f"allotropy cannot read it: {reply['error']}", hint="ws.instruments.vendors() lists whose it can"
            )
        if reply:
            return reply
        said = (stderr_text.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:300]
        if "No module named" in said:
            raise _missing(f"{python} has no allotropy: {said}")
        raise UnreadableError(f"allotropy cannot read it: {said}")


def _missing(message: str) -> MissingExtraError:
    install = f"python -m venv {HOME} && {HOME}/bin/pip install allotropy"
    return MissingExtraError(message, hint=install, details={"package": "allotropy"})
