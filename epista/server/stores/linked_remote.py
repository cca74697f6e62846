"""Linked files of an object store, through obstore: one answer of the store is of one version of an object."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from epista.contract.errors import EpistaError, UnavailableError
from epista.server.stores.blobs import CHUNK
from epista.server.stores.linked import Changed, LeftOut, Seen
from epista.server.stores.remote import said

_log = logging.getLogger("epista.stores")


class RemoteOrigin:
    """Objects below a prefix of a bucket."""

    def __init__(self, name: str, store: ObjectStore) -> None:
        self._name = name
        self._store = store

    def look(self, path: str) -> Seen | LeftOut | None:
        """Return what is at *path*."""
        with self._errors():
            try:
                return _seen(obstore.head(self._store, path))
            except FileNotFoundError:
                return None

    def walk(self, folder: str, after: str) -> Iterator[Seen | LeftOut]:
        """Give everything below *folder* after *after*, as the store orders it."""
        before: Seen | None = None
        with self._errors():
            for page in obstore.list(self._store, prefix=folder or None, offset=after or None, chunk_size=1000):
                for seen in map(_seen, page):
                    # An empty object that is called like a folder is how some programs keep one.
                    if before is not None and (before.size or not seen.path.startswith(before.path + "/")):
                        yield before
                    before = seen
        if before is not None:
            yield before

    def read(self, path: str, tag: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield bytes of an object, as `Origin.read` says."""
        if start >= stop:
            with self._errors():
                self._compare(path, tag)
        while start < stop:
            begun = start
            with self._errors():
                try:
                    for data in self._stream(path, tag, start, stop):
                        start += len(data)
                        yield from (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
                except BaseError:
                    if start == begun:
                        raise
                    continue  # cut in the middle, perhaps after longer than obstore tries again
            if start < stop:
                raise Changed("changed")

    def path(self, path: str) -> Path | None:
        """There are no files."""
        return None

    def _stream(self, path: str, tag: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            found = obstore.get(self._store, path, options={"range": (start, stop)})
        except FileNotFoundError as error:
            raise Changed("is gone") from error
        except BaseError:
            # A part that begins beyond the end is refused, by each store in its own words.
            self._compare(path, tag)
            raise
        if _seen(found.meta).tag != tag:
            raise Changed("changed")
        return iter(found.stream(min_chunk_size=CHUNK))

    def _compare(self, path: str, tag: str) -> None:
        try:
            found = obstore.head(self._store, path)
        except FileNotFoundError as error:
            raise Changed("is gone") from error
        if _seen(found).tag != tag:
            raise Changed("changed")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what obstore raises into our errors; the log has its words, which may quote the store."""
        try:
            yield
        except EpistaError:
            raise
        except (BaseError, FileNotFoundError) as error:
            _log.error("the root %s does not answer as it should: %s", self._name, said(error))
            raise UnavailableError(
                f"the root {self._name!r} cannot be read now", hint="try again in a moment, or ask whoever runs the server"
            ) from error


def _seen(found: Any) -> Seen:
    # The version of an object is in its ETag; where a store has none, the time has to do.
    told = found["e_tag"] or found["last_modified"].isoformat()
    return Seen(found["path"], found["size"], hashlib.sha256(f"{found['size']} {told}".encode()).hexdigest()[:32])
