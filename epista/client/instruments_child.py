"""
Reads one export with allotropy, as a program of its own: ``python instruments_child.py REPLY [FILE VENDOR]``.

Runs in an environment that has allotropy and not Epista, so it imports nothing of ours. Without a file it lists the vendors.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

MEMORY_BYTES = 4 * 1024**3
"""Address space; an export of a plate reader takes a twentieth of that."""

REPLY_BYTES = 1024**3
"""How large what is made of a file may be."""


def main(into: str, path: str = "", vendor: str = "") -> None:
    """Write to *into* what was found in the file *path*, as JSON."""
    _restrict()
    warnings.simplefilter("ignore")
    from allotropy.allotrope.converter import unstructure
    from allotropy.parser_factory import Vendor
    from allotropy.to_allotrope import allotrope_model_from_file, vendor_from_file

    if not path:
        _reply(into, {"vendors": {one.value: one.display_name for one in Vendor}})
        return
    known = {one.value for one in Vendor}
    if vendor and vendor not in known:
        _reply(into, {"error": f"no vendor is called {vendor!r}"})
        return
    try:
        found = Vendor(vendor) if vendor else vendor_from_file(path)
        document = unstructure(allotrope_model_from_file(path, found))
    except Exception as error:  # noqa: BLE001 - its parsers raise whatever a line that they do not expect leads to
        first = (str(error).strip().splitlines() or [""])[0]
        _reply(into, {"error": f"{type(error).__name__}: {first}"[:500]})
        return
    _reply(into, {"vendor": found.value, "document": document})


def _reply(into: str, said: dict[str, Any]) -> None:
    Path(into).write_text(json.dumps(said), encoding="utf-8")


def _restrict() -> None:
    if sys.platform == "win32":
        return
    import resource

    for which, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, REPLY_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    main(*sys.argv[1:])
