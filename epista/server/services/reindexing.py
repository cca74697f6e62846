"""
Reindexing: words are read again where the extractor of a format is newer than they are.

By and by, in the background, by one server of a lab at a time; a manager of the lab may hurry it. How far it came is in the
catalog, so that whoever is next goes on from there, also after a crash. No put waits for it: it has a child of its own, and its
commits are short.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping

from epista.contract import reindexing as wire
from epista.contract.errors import EpistaError, InvalidRequestError, UnavailableError
from epista.server.access import policy
from epista.server.access.actors import Actor
from epista.server.engines.extraction import Extractor
from epista.server.engines.extractors import VERSIONS
from epista.server.services import words
from epista.server.services.resources import Resources
from epista.server.stores import audit
from epista.server.stores import extractions as rows
from epista.server.stores.search.index import Document

START_SECONDS = 30.0
"""How long a server that was just started leaves old words alone."""

STEP_SECONDS = 3.0
"""How long one step reads; then it commits."""

STEP_ASSETS = 100
"""How many assets it goes through at most: they are indexed in one commit, for which other writers wait."""

HELD_SECONDS = 180
"""After how long a step that did not end is taken for dead: longer than its last asset may take."""

LATER_SECONDS = 60.0
"""How long the background waits when somebody else is at it, or the catalog or the store is away."""

_log = logging.getLogger("epista.reindexing")


class _Step(NamedTuple):
    format: str | None
    assets: int
    is_done: bool


class Reindexing:
    """What is read again is where it was, for those who saw it before: only its words change."""

    def __init__(self, resources: Resources, extractor: Extractor) -> None:
        self._all = replace(resources, extractor=extractor)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="epista-reindexing", daemon=True)

    def open(self) -> None:
        """Start to look for old words, a while from now."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was read and not committed is read again another time."""
        self._stop.set()
        self._all.extractor.close()
        self._thread.join()

    def get(self, actor: Actor, wanted: wire.ShowReindexing) -> wire.Reindexing:
        """Tell how far the words of each format are."""
        policy.require_lab(actor)
        with self._all.catalog.read() as tx:
            known = rows.known(tx)
            stale = {format: _begun(known.get(format), VERSIONS[format]) for format in _stale(known, VERSIONS)}
            counts = rows.counts(tx, stale)
        self._all.note(actor, audit.LAB, "words")
        return wire.Reindexing(
            formats=tuple(
                wire.FormatWords(
                    format=format,
                    version=VERSIONS[format],
                    recorded=known[format]["version"] if format in known else 0,
                    assets=counts.get(format, (0, 0))[0],
                    left=counts.get(format, (0, 0))[1],
                )
                for format in sorted(VERSIONS)
            )
        )

    def run(self, actor: Actor, wanted: wire.RunReindexing) -> wire.Reindexed:
        """Read some words again."""
        policy.require_lab(actor)
        if unknown := sorted(set(wanted.formats) - set(VERSIONS)):
            raise InvalidRequestError(f"no words are read of the format {unknown[0]!r}", hint=f"of these: {', '.join(VERSIONS)}")
        chosen = wanted.formats or tuple(VERSIONS)
        if wanted.again:
            self._all.catalog.write(lambda tx: self._forget(tx, chosen))
        step = self._step(chosen)
        self._all.note(actor, audit.LAB, "words", {"format": step.format, "assets": step.assets, "again": wanted.again})
        return wire.Reindexed(format=step.format, assets=step.assets, is_done=step.is_done)

    def _forget(self, tx: Connection, chosen: Collection[str]) -> None:
        for format in chosen:
            # Whoever is at it finds that it is no longer the holder, and its step does not count.
            rows.keep(tx, format, version=0, towards=0, after_id=0, holder="", held_until=0)

    def _run(self) -> None:
        wait, count = START_SECONDS, 0
        while not self._stop.wait(wait):
            started = time.monotonic()
            try:
                step = self._step(tuple(VERSIONS))
            except EpistaError as error:
                _log.warning("words are not read again just now: %s", error.message)
                wait = LATER_SECONDS
                continue
            except Exception:  # noqa: BLE001 - the loop of a thread; a fault must not come again and again
                _log.exception("words are not read again any more")
                return
            count += step.assets
            if step.is_done:
                if count:
                    _log.info("words are current: read again of %d assets", count)
                return
            if step.format is not None:
                _log.info("words read again: format=%s version=%d assets=%d", step.format, VERSIONS[step.format], count)
            # As long as it worked, others have the machine.
            wait = LATER_SECONDS if step.format is None else time.monotonic() - started

    def _step(self, chosen: Collection[str]) -> _Step:
        """
        Go through the next assets of the first of the formats that has old words.

        Raises:
            UnavailableError: the catalog or the store is away; nothing of it counts.
        """
        holder = secrets.token_hex(8)
        claimed = self._claim(chosen, holder)
        if not isinstance(claimed, tuple):
            return _Step(None, 0, claimed)
        format, after = claimed
        try:
            return self._read_again(format, after, holder, chosen)
        except BaseException:
            self._all.catalog.write(lambda tx: self._release(tx, format, holder))
            raise

    def _claim(self, chosen: Collection[str], holder: str) -> tuple[str, int] | bool:
        """Return the format that is next and after which asset; else whether nothing is left to do."""
        with self._all.catalog.read() as tx:
            if not _stale(rows.known(tx), chosen):
                return True

        def work(tx: Connection) -> tuple[str, int] | bool:
            known, now = rows.known(tx), self._all.clock()
            stale = _stale(known, chosen)
            if not stale:
                return True
            if any(row["held_until"] > now for row in known.values()):
                return False
            format = stale[0]
            after = _begun(known.get(format), VERSIONS[format])
            until = now + HELD_SECONDS * 1_000_000
            rows.keep(tx, format, towards=VERSIONS[format], after_id=after, holder=holder, held_until=until)
            return format, after

        return self._all.catalog.write(work)

    def _read_again(self, format: str, after: int, holder: str, chosen: Collection[str]) -> _Step:
        with self._all.catalog.read() as tx:
            found = rows.after(tx, format, after, STEP_ASSETS)
        until = time.monotonic() + STEP_SECONDS
        texts: dict[int, str] = {}
        count = 0
        for row in found:
            texts[row["asset_id"]] = self._words(row, format)
            count += 1
            if self._stop.is_set():
                # The extractor may be closed already, and what it says of the last ones no more than that.
                raise UnavailableError("the server stops")
            if time.monotonic() > until:
                break
        read = found[:count]
        last = read[-1]["asset_id"] if read else after

        def work(tx: Connection) -> _Step:
            known = rows.known(tx)
            if known[format]["holder"] != holder:
                return _Step(None, 0, False)
            # What has other contents by now was read when they were put.
            still = [row for row in rows.still(tx, read) if texts[row["asset_id"]]]
            self._all.search.index(tx, [_document(row, texts[row["asset_id"]]) for row in still])
            if rows.after(tx, format, last, 1):
                rows.keep(tx, format, after_id=last, holder="", held_until=0)
            else:
                rows.keep(tx, format, version=VERSIONS[format], after_id=0, holder="", held_until=0)
            return _Step(format, count, not _stale(rows.known(tx), chosen))

        return self._all.catalog.write(work)

    def _words(self, row: RowMapping, format: str) -> str:
        """Return the words of an asset; nothing if there are none or they cannot be had: then the old ones stay."""
        try:
            return words.of_blob(self._all, row["key"], dict(row), format, json.loads(row["options"]))
        except EpistaError as error:
            # A linked file lies where others may take it away; the store is ours, and comes back.
            if row["root"] is None and isinstance(error, UnavailableError):
                raise
            _log.warning("words are not read again of one asset: %s", type(error).__name__)
            return ""

    def _release(self, tx: Connection, format: str, holder: str) -> None:
        if rows.known(tx)[format]["holder"] == holder:
            rows.keep(tx, format, holder="", held_until=0)


def _stale(known: dict[str, RowMapping], chosen: Collection[str]) -> list[str]:
    """Return the formats whose words an older extractor read; not those that a newer server has read."""
    return sorted(format for format in chosen if format not in known or known[format]["version"] < VERSIONS[format])


def _begun(row: RowMapping | None, version: int) -> int:
    """Return up to which asset a format was read by that version already."""
    return row["after_id"] if row is not None and row["towards"] == version else 0


def _document(row: RowMapping, text: str) -> Document:
    return Document(
        asset_id=row["asset_id"],
        workspace_id=row["workspace_id"],
        key=row["key"],
        tags=json.loads(row["tags"]),
        meta=json.loads(row["meta"]),
        content=text,
    )
