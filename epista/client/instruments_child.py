"""
Reads one export with allotropy, as a program of its own: ``python instruments_child.py REPLY [FILE VENDOR TIMEZONE LOCALE]``.

Runs in an environment that has allotropy and not Epista, so it imports nothing of ours. Without a file it lists the vendors.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
import warnings
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

MEMORY_BYTES = 4 * 1024**3
"""Address space; an export of a plate reader takes a twentieth of that."""

REPLY_BYTES = 256 * 1024**2
"""How large what is made of a file may be."""


def main(into: str, path: str = "", vendor: str = "", timezone: str = "", locale: str = "") -> None:
    """Write to *into* what was found in the file *path*, as JSON; what is not said is an empty string."""
    _restrict()
    warnings.simplefilter("ignore")
    from allotropy.allotrope.converter import unstructure
    from allotropy.parser_factory import Vendor
    from allotropy.to_allotrope import allotrope_model_from_file

    if not path:
        _reply(into, {"vendors": {one.value: one.display_name for one in Vendor}})
        return
    known = [one.value for one in Vendor]
    if vendor and vendor not in known:
        near = [one for one in known if vendor in one][:3] or difflib.get_close_matches(vendor, known, 3)
        _reply(into, {"wrong": f"no vendor is called {vendor!r}" + (f"; nearest: {', '.join(near)}" if near else "")})
        return
    try:
        zone = ZoneInfo(timezone or "UTC")
    except (KeyError, ValueError, OSError):
        _reply(into, {"wrong": f"no time zone is called {timezone!r}; they are called as in 'Europe/Berlin'"})
        return
    documents: dict[str, Any] = {}
    refused = []
    for name in [vendor] if vendor else _looks(path):
        try:
            model = allotrope_model_from_file(path, Vendor(name), default_timezone=zone, locale=locale or None)
            documents[name] = unstructure(model)
        except Exception as error:  # noqa: BLE001 - its parsers raise whatever a line that they do not expect leads to
            first = (str(error).strip().splitlines() or [""])[0]
            refused.append(f"as an export of {name}: {type(error).__name__}: {first}"[:300])
    if len(documents) == 1:
        [(name, document)] = documents.items()
        _reply(into, {"vendor": name, "document": document})
    elif documents:
        _reply(into, {"several": sorted(documents)})
    else:
        _reply(into, {"error": "; ".join(refused[:3]) or "it looks like an export of no vendor that allotropy knows"})


def _looks(path: str) -> list[str]:
    """
    Return the vendors whose exports look like it, by its ending and what stands in it.

    allotropy's own search takes the first of several, and where nothing looks like it, whoever's parser does not fail.
    """
    from allotropy.named_file_contents import NamedFileContents
    from allotropy.parser_factory import Vendor

    found = []
    for vendor in Vendor:
        with Path(path).open("rb") as file, contextlib.suppress(Exception):
            contents = NamedFileContents(file, path)
            if contents.extension in vendor.supported_extensions and vendor.get_parser().sniff(contents):
                found.append(vendor.value)
    return found


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
