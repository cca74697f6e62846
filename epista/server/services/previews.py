"""Previews: the beginning of what a version holds, made once for each content, in a limited child."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from epista.contract import formats
from epista.contract import previews as wire
from epista.contract.errors import IntegrityError
from epista.server.access.actors import Actor
from epista.server.engines import extraction, preview_files, previews
from epista.server.engines.preview_files import Shown
from epista.server.engines.sources import Job
from epista.server.services import cursors
from epista.server.services.assets import resolve, version_row
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.table_names import Blob
from epista.server.services.tables import source_of
from epista.server.services.words import excerpt
from epista.server.stores import table_parts


class Previews:
    """Who may read a version may see its preview."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def get(self, actor: Actor, wanted: wire.GetPreview) -> wire.Preview:
        """Show the beginning of an asset."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = resolve(tx, access, wanted.ref, wanted.experiment)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            # Of a table of several files, the first.
            parts = table_parts.of_version(tx, version["id"])
            place = parts[0] if parts else table_parts.content(tx, version["id"])
        self._all.note(actor, access.workspace_id, row["key"], {"version": version["uid"]})
        options = cursors.document(version["options"])
        # Whoever found the version found its content in the same view.
        assert place is not None
        shown = self._shown(Blob(**place), row["key"], version["format"], options)
        if len(parts) > 1:
            shown = msgspec.structs.replace(shown, facts=(("files", str(len(parts))),), is_cut=True)
        told = {name: value for name, value in msgspec.structs.asdict(shown).items() if name != "is_lasting"}
        return wire.Preview(version=version["uid"], format=version["format"], **told)

    def _shown(self, blob: Blob, key: str, format: str, options: dict[str, Any]) -> Shown:
        if format not in preview_files.PREVIEWS:
            return Shown()
        if not blob.size:
            return Shown(problem="it is empty")
        gzipped = formats.is_gzipped(key)
        job = extraction.job_of("", offset=0, size=blob.size, format=format, gzipped=gzipped, options=options)
        if self._all.file_of(blob.object) is None and previews.needed(format, blob.size) is None:
            return Shown(problem=f"it is not on the server's own disk, and larger than {preview_files.WHOLE_BYTES:,} bytes")
        said = json.dumps([format, gzipped, sorted(job.options.items()), preview_files.VERSION])
        name = f"{source_of(blob)}-preview-{hashlib.sha256(said.encode()).hexdigest()[:32]}"
        try:
            with self._all.table_cache.use() as use:
                return msgspec.msgpack.decode(use.file(name, lambda into: self._make(blob, job, into)).read_bytes(), type=Shown)
        except _PassingError as passing:
            return passing.shown
        except IntegrityError as error:
            # Bytes that are not what was recorded have no preview; reading them says the same.
            return Shown(problem=error.message)

    def _make(self, blob: Blob, job: Job, into: Path) -> None:
        place = Span(blob.sha256, blob.object, blob.offset, 0, blob.size)
        with excerpt(self._all, place, previews.needed(job.format, blob.size) or []) as (path, offset):
            shown = self._all.previewer.show(msgspec.structs.replace(job, path=os.fsencode(path), offset=offset))
        if not shown.is_lasting:
            raise _PassingError(shown)
        into.write_bytes(msgspec.msgpack.encode(shown))


class _PassingError(Exception):
    """What is shown may be another thing the next time, and is not kept."""

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.shown = shown
