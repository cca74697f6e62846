"""Sequences: where in a version the letters of a region lie, by an index that is made once for each content."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from epista.contract import formats
from epista.contract import sequences as wire
from epista.contract.errors import FormatError, UnreadableError
from epista.server.access.actors import Actor
from epista.server.engines import extraction, sequence_files
from epista.server.engines.sequence_files import Index
from epista.server.engines.sequences import located
from epista.server.engines.sources import Job
from epista.server.services.assets import resolve, version_row
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.table_names import Blob
from epista.server.services.tables import source_of
from epista.server.services.words import excerpt
from epista.server.stores import table_parts


class Sequences:
    """Who may read a version may look into its index."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def locate(self, actor: Actor, wanted: wire.LocateRegion) -> wire.Region:
        """Find a region: a whole name wins, since names hold colons; an end beyond the record is cut."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = resolve(tx, access, wanted.ref, wanted.experiment)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            place = table_parts.content(tx, version["id"])
        self._all.note(actor, access.workspace_id, row["key"], {"version": version["uid"], "region": wanted.region[:200]})
        if version["format"] != "fasta":
            raise FormatError(f"{row['key']!r} is {version['format']}; regions are fetched from FASTA")
        assert place is not None, "whoever found the version found its content in the same view"
        found = self._index(Blob(**place), gzipped=formats.is_gzipped(row["key"]))
        if found.problem and not found.is_scanned:
            raise UnreadableError(found.problem)
        if found.is_scanned:
            return wire.Region(version=version["uid"], name="", length=0, start=0, stop=0, is_scanned=True)
        return located(found, wanted.region, version["uid"], row["key"])

    def _index(self, blob: Blob, *, gzipped: bool) -> Index:
        if not blob.size:
            raise UnreadableError("the file is empty")
        job = extraction.job_of("", offset=0, size=blob.size, format="fasta", gzipped=gzipped, options={})
        name = f"{source_of(blob)}-fai-{sequence_files.VERSION}-{int(gzipped)}"
        with self._all.table_cache.use() as use:
            path = use.file(name, lambda into: self._make(blob, job, into))
            return msgspec.msgpack.decode(path.read_bytes(), type=Index)

    def _make(self, blob: Blob, job: Job, into: Path) -> None:
        place = Span(blob.sha256, blob.object, blob.offset, 0, blob.size)
        with excerpt(self._all, place, [(0, blob.size)]) as (path, offset):
            found = self._all.indexer.index(msgspec.structs.replace(job, path=os.fsencode(path), offset=offset))
        into.write_bytes(msgspec.msgpack.encode(found))
