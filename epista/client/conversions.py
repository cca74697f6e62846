"""Conversions: tables of the lab as files of other formats, and files as rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from epista.client import assets, objects
from epista.client.transfer import destinations, disk
from epista.contract import formats
from epista.contract.assets import AssetRef, GetVersion, Version
from epista.contract.errors import FormatError, KeyNotFoundError

if TYPE_CHECKING:
    import os

    from epista.client.session import Session


def fetch(here: Session, ref: str | AssetRef, dest: str | os.PathLike[str], *, version: str | int | None = None) -> Path | None:
    """
    Write the table *ref* to the file *dest* in the format of its extension; None if *ref* is no table, or in that format already.

    The table is in memory meanwhile. The file is replaced whole or not at all.

    Raises:
        AmbiguousNameError: *ref* fits several assets.
        FormatError: that format has no place for the table.
    """
    from epista import serializers
    from epista.serializers import tables

    wanted = _format(str(dest))
    if wanted is None or Path(dest).is_dir():
        return None
    try:
        found = assets.get(here, ref)
    except KeyNotFoundError:
        return None  # a folder, perhaps
    pinned: AssetRef | Version = found
    if version is not None:
        asked = GetVersion(workspace=here.name, key=found.key, version=str(version))
        pinned = here.wire.call("assets.version", asked, reply=Version)
    name, is_gzipped = wanted
    if _table(pinned.format) is None or (pinned.format, formats.is_gzipped(found.key)) == (name, is_gzipped):
        return None
    path = destinations.for_file(dest, found.key)
    pin = pinned.id if isinstance(pinned, Version) else None
    table = objects.deserialize(here, found, version=pin, as_type=_class(pinned.format))
    if isinstance(table, dict):
        raise FormatError(f"{found.key!r} has several sheets: {', '.join(table)}", hint="pull it as .xlsx")
    if isinstance(table, list):
        table = tables.to_arrow(table)
    data = serializers.serialize(path.name, table.to_pylist() if name == "jsonl" else table).data
    part = destinations.part_of(path, hashlib.sha256(data).hexdigest())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise disk.explain(error, path) from error
    return path


def rows(path: str | os.PathLike[str]) -> Any:
    """
    Return the table in a file of this machine, read by its extension.

    Raises:
        FormatError: the extension is that of no table.
        UnreadableError: the file is no such table.
    """
    from epista import serializers

    path = Path(path)
    found = formats.of_key(path.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise disk.explain(error, path) from error
    return serializers.deserialize(path.name, data, as_type=_class(found.name if found else None))


def _class(format: str | None) -> Literal["arrow"] | None:
    """Return the class that tables of a format are read as; lines of JSON are a list."""
    return None if format == "jsonl" else "arrow"


def _format(name: str) -> tuple[str, bool] | None:
    """Return the format of a table that a file's name says, and whether it is gzipped."""
    found = formats.of_key(name)
    return None if found is None or _table(found.name) is None else (found.name, formats.is_gzipped(name))


def _table(format: str) -> formats.Format | None:
    found = formats.BY_NAME.get(format)
    return found if found is not None and found.kind == "TABLE" else None
