"""
Tables: versions become parquet files that an engine can read, and what is known about them is kept.

Parquet is read where it lies, if it lies there as a file or can be linked; everything else is made once, in a cache of this
machine: materialised out of a pack, or converted in a limited child. What an engine is given it can only read.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from epista.contract import formats
from epista.contract.errors import IntegrityError
from epista.server.engines import table_files
from epista.server.engines.plans import Column
from epista.server.engines.table_files import Facts
from epista.server.services import spans
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.table_names import Blob, Pinned
from epista.server.stores import table_facts as rows
from epista.server.stores.table_cache import Use

Reach = Literal["files", "links", "cluster"]
"""What an engine can read: files of this machine; addresses in the store too; what a cluster of machines reaches."""

_MEDIA_TYPE = formats.BY_NAME["parquet"].media_type

_TAIL_BYTES = 64 * 1024
"""How much of the end of a file is read to find what is in it; more if that says so."""


class Opened(NamedTuple):
    """A version as an engine takes it."""

    files: tuple[str, ...]
    """Paths, or addresses for a short while; never shown to anybody."""
    schema: tuple[Column, ...]


@dataclass(frozen=True)
class Reading:
    """One way to read a content as a table; the same bytes under other options are another table."""

    format: str
    gzipped: bool
    options: str
    sheet: str | None

    @classmethod
    def of(cls, pinned: Pinned) -> Reading:
        """Return how a version is read."""
        return cls(pinned.format, pinned.is_gzipped, json.dumps(pinned.options, sort_keys=True), pinned.sheet)

    @property
    def is_direct(self) -> bool:
        """Whether engines may be able to read the bytes as they are."""
        return self.format == "parquet" and not self.gzipped

    @property
    def digest(self) -> str:
        """What tells it from others."""
        if self.is_direct:
            return hashlib.sha256(f"parquet {table_files.VERSION}".encode()).hexdigest()
        said = [self.format, self.gzipped, self.options, self.sheet, table_files.VERSION]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class Tables:
    """Who may read a version is decided before: this knows contents, not people."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    @contextmanager
    def opened(self, pinned: Pinned, *, reach: Reach, seconds: float) -> Iterator[Opened]:
        """
        Give a version as files that can be read until the context ends, and addresses that are good for some *seconds*.

        Raises:
            UnreadableError: it is no such table; ``details`` may have line and column.
            FormatError, TooLargeError, IntegrityError, MissingExtraError: as they say.
        """
        with self._all.table_cache.use() as use:
            yield self._open(pinned, use, reach, seconds)

    def facts(self, pinned: Pinned) -> Facts:
        """Return what is known about a version, or find it out."""
        known = self.known(pinned)
        if known is None:
            with self._all.table_cache.use() as use:
                if Reading.of(pinned).is_direct:
                    return self._inspected(pinned, use)
                return self._converted(pinned, use)[1]
        return known

    def known(self, pinned: Pinned) -> Facts | None:
        """Return what is known about a version already."""
        with self._all.catalog.read() as tx:
            found = rows.known(tx, pinned.blob.id, Reading.of(pinned).digest)
        return None if found is None else msgspec.json.decode(found, type=Facts)

    def _open(self, pinned: Pinned, use: Use, reach: Reach, seconds: float) -> Opened:
        with self._all.catalog.read() as tx:
            parts = [Blob(**row) for row in rows.parts_of(tx, pinned.version_id)]
        if Reading.of(pinned).is_direct:
            facts = self.known(pinned) or self._inspected(pinned, use)
            if facts.is_plain:
                files = [self._reached(one, use, reach, seconds) for one in parts or [pinned.blob]]
                return Opened(tuple(files), _schema(facts))
        path, facts = self._converted(pinned, use)
        return Opened((str(path),), _schema(facts))

    def _reached(self, blob: Blob, use: Use, reach: Reach, seconds: float) -> str:
        """Return where an engine reads the bytes of a parquet file."""
        if (path := self._path(blob)) is not None:
            return str(path)
        if reach == "links" and blob.root is None and blob.offset == 0:
            link = self._all.blobs.link(blob.object, name="table.parquet", media_type=_MEDIA_TYPE, seconds=int(seconds))
            if link is not None:
                return link
        return str(self._materialised(blob, use))

    def _path(self, blob: Blob) -> Path | None:
        """Return the file that has just these bytes, of those that nobody else may write in."""
        return self._all.file_of(blob.object) if blob.root is None and blob.offset == 0 else None

    def _materialised(self, blob: Blob, use: Use) -> Path:
        use.require_room(blob.size)
        return use.file(f"{_source(blob)}-bytes.parquet", lambda path: self._copy(blob, path))

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
        reading, blob = Reading.of(pinned), pinned.blob
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

        path = use.file(f"{_source(blob)}-{reading.digest}.parquet", convert)
        if found:
            self._keep(pinned, found[0])
            return path, found[0]
        # Another one may have made the file, and not yet said what is in it; from the file all can be told but the notes.
        return path, known or self.known(pinned) or self._all.table_files.inspect(path)

    def _inspected(self, pinned: Pinned, use: Use) -> Facts:
        """Find out what is in a parquet file: from its end, wherever it lies."""
        blob = pinned.blob
        path = self._path(blob)
        if path is not None:
            facts = self._all.table_files.inspect(path)
        else:
            with self._end_of(blob) as path:
                facts = self._all.table_files.inspect(path)
        self._keep(pinned, facts)
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

    def _keep(self, pinned: Pinned, facts: Facts) -> None:
        document = msgspec.json.encode(facts).decode()
        digest = Reading.of(pinned).digest
        self._all.catalog.write(lambda tx: rows.keep(tx, pinned.blob.id, digest, document))


def _source(blob: Blob) -> str:
    """Return what the names of files begin with that are made of a content."""
    return blob.sha256 or "linked." + hashlib.sha256(blob.object.encode()).hexdigest()


def _schema(facts: Facts) -> tuple[Column, ...]:
    return tuple(Column(name=one.name, type=one.type) for one in facts.columns)
