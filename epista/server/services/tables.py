"""
Tables: versions become parquet files that an engine can read, and what is known about them is kept.

Parquet is read where it lies, if it lies there as a file or can be linked; everything else is made once, in a cache of this
machine: materialised out of a pack, or converted in a limited child. What an engine is given it can only read.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from epista.contract import formats
from epista.contract.errors import IntegrityError, NotFoundError
from epista.server.engines.plans import Column
from epista.server.engines.table_files import Facts
from epista.server.services import spans
from epista.server.services.readings import PLAIN, Reading
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.table_names import Blob, Pinned
from epista.server.stores import table_facts as rows
from epista.server.stores import table_parts
from epista.server.stores.table_cache import Use

Reach = Literal["files", "links", "cluster"]
"""
What an engine can read: files of this machine; addresses in the store, too; or, in a cluster, what its settings say of both.
"""

LOOK_SECONDS = 3600.0
"""How often a server looks whether files that it made for queries are of contents that are there no more."""

_MEDIA_TYPE = formats.BY_NAME["parquet"].media_type

_TAIL_BYTES = 64 * 1024
"""How much of the end of a file is read to find what is in it; more if that says so."""


class Opened(NamedTuple):
    """A version as an engine takes it."""

    files: tuple[str, ...]
    """Paths, or addresses for a short while; never shown to anybody."""
    schema: tuple[Column, ...]


class Tables:
    """Who may read a version is decided before: this knows contents, not people."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources
        self._look_at = 0.0

    @contextmanager
    def opened(self, pinned: Pinned, *, reach: Reach, seconds: float) -> Iterator[Opened]:
        """
        Give a version as files that can be read until the context ends, and addresses that are good for some *seconds*.

        Raises:
            UnreadableError: it is no such table; ``details`` may have line and column.
            FormatError, TooLargeError, IntegrityError, MissingExtraError: as they say.
        """
        self._drop_unknown()
        with self._all.table_cache.use() as use:
            yield self._open(pinned, use, reach, seconds)

    def _drop_unknown(self) -> None:
        """Remove from time to time what was made of contents that were purged, maybe by another server."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS

        def unknown(sources: list[str]) -> set[str]:
            with self._all.catalog.read() as tx:
                return rows.unknown(tx, sources)

        self._all.table_cache.drop(unknown)

    def facts(self, blob: Blob) -> Facts:
        """Return what is known about a content that is parquet, or find it out."""
        return self._known(blob, PLAIN) or self._inspected(blob)

    def known(self, pinned: Pinned) -> Facts | None:
        """Return what is known about a version already."""
        return self._known(pinned.blob, pinned.reading)

    def files(self, blob: Blob, use: Use) -> list[Path]:
        """Return the parquet files of a content as files of this machine: its parts, or itself."""
        with self._all.catalog.read() as tx:
            parts = [Blob(**row) for row in table_parts.of_blob(tx, blob.id)]
        return [self._path(one) or self._materialised(one, use) for one in parts or [blob]]

    def _known(self, blob: Blob, reading: Reading) -> Facts | None:
        with self._all.catalog.read() as tx:
            found = rows.known(tx, blob.id, reading.digest)
        return None if found is None else msgspec.json.decode(found, type=Facts)

    def _open(self, pinned: Pinned, use: Use, reach: Reach, seconds: float) -> Opened:
        if pinned.reading.is_direct:
            with self._all.catalog.read() as tx:
                # By the version: a table of several files may have become one since it was found.
                parts = [Blob(**row) for row in table_parts.of_version(tx, pinned.version_id)]
                row = table_parts.content(tx, pinned.version_id)
            if row is None:
                raise NotFoundError(f"version {pinned.number} of {pinned.key!r} was erased meanwhile")
            blob = Blob(**row)
            facts = self.facts(blob)
            if facts.is_plain:
                files = [self._reached(one, use, reach, seconds) for one in parts or [blob]]
                return Opened(tuple(files), _schema(facts))
        path, facts = self._converted(pinned, use)
        return Opened((str(path),), _schema(facts))

    def _reached(self, blob: Blob, use: Use, reach: Reach, seconds: float) -> str:
        """Return where an engine reads the bytes of a parquet file."""
        if (path := self._path(blob)) is not None:
            return str(path)
        if reach != "files" and blob.root is None and blob.offset == 0:
            link = self._all.blobs.link(blob.object, name="table.parquet", media_type=_MEDIA_TYPE, seconds=int(seconds))
            if link is not None:
                return link
        return str(self._materialised(blob, use))

    def _path(self, blob: Blob) -> Path | None:
        """Return the file that has just these bytes, of those that nobody else may write in."""
        return self._all.file_of(blob.object) if blob.root is None and blob.offset == 0 else None

    def _materialised(self, blob: Blob, use: Use) -> Path:
        use.require_room(blob.size)
        return use.file(f"{source_of(blob)}-bytes.parquet", lambda path: self._copy(blob, path))

    def _copy(self, blob: Blob, path: Path) -> None:
        digest = hashlib.sha256()
        with path.open("xb") as file:
            for piece in spans.read(self._all, [Span(blob.sha256, blob.object, blob.offset, 0, blob.size)]):
                digest.update(piece)
                file.write(piece)
        if blob.sha256 is not None and digest.hexdigest() != blob.sha256:
            raise IntegrityError("the bytes are not what was recorded", hint="the lab's manager can run: epista verify")

    def _converted(self, pinned: Pinned, use: Use) -> tuple[Path, Facts]:
        """Return a version as a parquet file of our own, and what is known about it."""
        reading, blob = pinned.reading, pinned.blob
        known = self.known(pinned)
        found: list[Facts] = []

        def convert(into: Path) -> None:
            source = self._path(blob)
            if source is None:
                use.require_room(blob.size)
                source = use.scratch()
                self._copy(blob, source)
            facts = self._all.table_files.convert(
                source,
                sha256=blob.sha256,
                format=reading.format,
                gzipped=reading.gzipped,
                options=pinned.options,
                sheet=reading.sheet,
                into=into,
            )
            found.append(facts)

        path = use.file(f"{source_of(blob)}-{reading.digest}.parquet", convert)
        if found:
            self._keep(blob, reading, found[0])
            return path, found[0]
        # Another one may have made the file, and not yet said what is in it; from the file all can be told but the notes.
        return path, known or self.known(pinned) or self._all.table_files.inspect(path)

    def _inspected(self, blob: Blob) -> Facts:
        """Find out what is in a parquet file: from its end, wherever it lies."""
        path = self._path(blob)
        if path is not None:
            facts = self._all.table_files.inspect(path)
        else:
            with self._end_of(blob) as path:
                facts = self._all.table_files.inspect(path)
        self._keep(blob, PLAIN, facts)
        return facts

    @contextmanager
    def _end_of(self, blob: Blob) -> Iterator[Path]:
        """Give a file in which the end of a parquet file stands, where its footer is; the rest is a hole, which takes no room."""
        with tempfile.NamedTemporaryFile(prefix="epista-table-") as file:
            file.truncate(blob.size)
            start = blob.size
            wanted = max(0, blob.size - _TAIL_BYTES)
            while wanted < start:
                file.seek(wanted)
                for piece in spans.read(self._all, [Span(blob.sha256, blob.object, blob.offset, wanted, start)]):
                    file.write(piece)
                file.flush()
                start = wanted
                # The last eight bytes: the length of the footer, and a mark.
                file.seek(max(0, blob.size - 8))
                wanted = max(0, min(start, blob.size - 8 - int.from_bytes(file.read(4), "little")))
            yield Path(file.name)

    def _keep(self, blob: Blob, reading: Reading, facts: Facts) -> None:
        self._all.catalog.write(lambda tx: rows.keep(tx, blob.id, reading.digest, document(facts)))


def source_of(blob: Blob) -> str:
    """Return what the names of files begin with that are made of a content."""
    return blob.sha256 or rows.linked_source(blob.object)


def document(facts: Facts) -> str:
    """Return what is known of a table as its row keeps it."""
    return msgspec.json.encode(facts).decode()


def _schema(facts: Facts) -> tuple[Column, ...]:
    return tuple(Column(name=one.name, type=one.type) for one in facts.columns)
