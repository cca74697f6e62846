"""
Recordings: what the names of folders and assets say, kept in rows beside them.

A row is written with the put that brings the name. All rows of a workspace are made anew when its conventions are others than
those by which they were made: the search for experiments sees to that before it reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection

from epista.contract import experiments as wire
from epista.contract import keys, times
from epista.naming import Parsed
from epista.server.services import conventions
from epista.server.stores import recordings as rows

_PACKAGED = re.compile(r"\d{4}|sub-", re.ASCII)
"""What a name has that a packaged convention reads: a year, or the beginning of BIDS."""

_EDITION = "1"
"""Of what rows say; another makes all of them anew."""


_MOST_READERS = 64


class Reader:
    """What names say by the conventions of a workspace."""

    def __init__(self, known: conventions.Known) -> None:
        self.digest = f"{_EDITION} {known.digest}"
        self._read = lru_cache(maxsize=10_000)(known.conventions.read)
        self._packaged_only = known.packaged_only

    def said(self, name: str) -> Parsed | None:
        """Return what a name says; None if no convention reads it."""
        # Most names are of no recording, and a put may have thousands of them.
        if self._packaged_only and not _PACKAGED.search(name):
            return None
        return self._read(name)


_readers: dict[str, Reader] = {}


def reader(tx: Connection, workspace_id: int) -> Reader:
    """Return the conventions of a workspace."""
    known = conventions.known(tx, workspace_id)
    found = _readers.get(known.digest)
    if found is None:
        if len(_readers) >= _MOST_READERS:
            _readers.clear()
        found = _readers[known.digest] = Reader(known)
    return found


def note(tx: Connection, workspace_id: int, new_keys: Iterable[str], *, experiments: Iterable[str] = (), at: int) -> None:
    """Keep what new keys say, and that there are new *experiments*."""
    by = reader(tx, workspace_id)
    rows.add(tx, workspace_id, list(_rows(by, ((key, at) for key in new_keys), ((name, at) for name in experiments))))


def note_experiment(tx: Connection, workspace_id: int, name: str, *, at: int) -> None:
    """Keep what the name of one experiment says."""
    note(tx, workspace_id, (), experiments=[name], at=at)


def forget(tx: Connection, workspace_id: int, gone: Collection[str]) -> None:
    """Forget what the names of assets that were erased said, and those of folders that hold nothing any more."""
    # Experiments stay, with what people said of them.
    folders = {path for key in gone for path in keys.folders_of(key) if "/" in path}
    rows.forget(tx, workspace_id, sorted(folders.union(gone)))


def is_current(tx: Connection, workspace_id: int) -> bool:
    """Whether the rows of a workspace were made by the conventions that it has now."""
    return rows.conventions(tx, workspace_id) == reader(tx, workspace_id).digest


def make_anew(tx: Connection, workspace_id: int) -> None:
    """Make the rows of a workspace by the conventions that it has now."""
    by = reader(tx, workspace_id)
    rows.clear(tx, workspace_id)
    rows.add(tx, workspace_id, list(_rows(by, (), rows.experiments_of(tx, workspace_id))))
    for page in rows.keys_of(tx, workspace_id):
        rows.add(tx, workspace_id, list(_rows(by, page, ())))
    rows.set_conventions(tx, workspace_id, by.digest)


def recording_of(parsed: Parsed | None, experiment: str) -> str:
    """Return what a row keeps as its recording: the same text for every spelling of one."""
    if parsed is None:
        return f"name:{experiment}"
    return json.dumps([str(part) if part is not None else None for part in parsed.recording], ensure_ascii=False)


def message(parsed: str | None) -> wire.ParsedName | None:
    """Return what a row says of a name."""
    return None if parsed is None else msgspec.json.decode(parsed, type=wire.ParsedName)


def _rows(by: Reader, new_keys: Iterable[tuple[str, int]], experiments: Iterable[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Give a row for each experiment, and for each folder and asset whose name says something; each key once."""
    for name, at in experiments:
        yield _row(name, by.said(name), at, is_folder=True)
    known: set[str] = set()
    before = ""
    for key, at in new_keys:
        folder = key.rpartition("/")[0]
        if folder != before:
            before = folder
            for path in keys.folders_of(key):
                if path not in known:
                    known.add(path)
                    # The first folder is an experiment, which has its row already.
                    if "/" in path and (parsed := by.said(keys.name_of(path))):
                        yield _row(path, parsed, at, is_folder=True)
        if parsed := by.said(keys.name_of(key)):
            yield _row(key, parsed, at, is_folder=False)


def _row(key: str, parsed: Parsed | None, at: int, *, is_folder: bool) -> dict[str, Any]:
    started = None
    if parsed is not None and (parsed.started or parsed.date):
        (started, _) = times.span(str(parsed.started or parsed.date))
    is_raw = parsed is None or parsed.kind == "raw"
    return {
        "key": key,
        "experiment": key if is_folder and "/" not in key else keys.experiment_of(key),
        "recording": recording_of(parsed, key),
        "rank": f"{key.count('/'):03d}{'0' if is_folder else '1'}{'0' if is_raw else '1'}",
        "convention": parsed and parsed.convention,
        "subject": parsed and parsed.subject_id,
        "platform": parsed and parsed.platform and parsed.platform.casefold(),
        "label": parsed and parsed.label and parsed.label.casefold(),
        "started": None if started is None else times.microseconds(started),
        "parsed": None if parsed is None else _document(parsed),
        "created_at": at,
    }


def _document(parsed: Parsed) -> str:
    said = {name: getattr(parsed, name) for name in wire.ParsedName.__struct_fields__}
    said["recording"] = [part if part is None or isinstance(part, int) else str(part) for part in parsed.recording]
    return msgspec.json.encode({name: value for name, value in said.items() if value not in (None, ())}).decode()
