"""Previews: the beginning of what a version holds, made once for each content, in a limited child."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from epista.contract import formats
from epista.contract import previews as wire
from epista.contract.errors import EpistaError, IntegrityError, UnreadableError
from epista.server.access.actors import Actor
from epista.server.engines import extraction, preview_files, previews
from epista.server.engines.preview_files import Shown
from epista.server.engines.sources import Job
from epista.server.imaging.index import VERSION as INDEX_VERSION
from epista.server.imaging.index import Index
from epista.server.services import cursors
from epista.server.services.assets import resolve, version_row
from epista.server.services.contents import Content, content_of
from epista.server.services.pixels import Pixels
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.table_names import Blob
from epista.server.services.tables import source_of
from epista.server.services.words import excerpt
from epista.server.stores import table_parts

IMAGES = frozenset(("tiff", "ome-tiff", "svs", "ndpi", "scn", "ome-zarr"))
"""Formats that are shown by those who read images; they need no more of a file than its smallest level."""


class Previews:
    """Who may read a version may see its preview."""

    def __init__(self, resources: Resources, pixels: Pixels) -> None:
        self._all = resources
        self._pixels = pixels

    def get(self, actor: Actor, wanted: wire.GetPreview) -> wire.Preview:
        """Show the beginning of an asset."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = resolve(tx, access, wanted.ref, wanted.experiment)
            version = row if wanted.version is None else version_row(tx, row, wanted.version)
            # Of a table of several files, the first.
            parts = table_parts.of_version(tx, version["id"])
            place = parts[0] if parts else table_parts.content(tx, version["id"])
            image = content_of(tx, access, version["uid"]) if version["format"] in IMAGES else None
        self._all.note(actor, access.workspace_id, row["key"], {"version": version["uid"]})
        options = cursors.document(version["options"])
        # Whoever found the version found its content in the same view.
        assert place is not None
        if image is not None and not formats.is_gzipped(row["key"]):
            shown = self._looked_at(image, Blob(**place))
        else:
            shown = self._shown(Blob(**place), row["key"], version["format"], options)
        if len(parts) > 1:
            shown = msgspec.structs.replace(shown, facts=(("files", str(len(parts))),), is_cut=True)
        told = {name: value for name, value in msgspec.structs.asdict(shown).items() if name != "is_lasting"}
        return wire.Preview(version=version["uid"], format=version["format"], **told)

    def _looked_at(self, content: Content, blob: Blob) -> Shown:
        """Show an image as its reader does."""

        def make(into: Path) -> None:
            try:
                with self._pixels.open(content) as image:
                    index, png = image.index, image.read(image.thumbnail(preview_files.PICTURE_PIXELS))
            except EpistaError as error:
                lasts = isinstance(error, UnreadableError)
                shown = Shown(problem=error.message, is_lasting=lasts)
            else:
                size = index.scenes[0].levels[0]
                shown = Shown(facts=_facts(index), picture=wire.Picture(png=png, width=size.width, height=size.height))
            _keep(shown, into)

        if not blob.size:
            return Shown(problem="it is empty")
        return self._kept(f"{source_of(blob)}-preview-image-{preview_files.VERSION}-{INDEX_VERSION}", make)

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
        return self._kept(name, lambda into: self._make(blob, job, into))

    def _kept(self, name: str, make: Callable[[Path], None]) -> Shown:
        try:
            with self._all.table_cache.use() as use:
                return msgspec.msgpack.decode(use.file(name, make).read_bytes(), type=Shown)
        except _PassingError as passing:
            return passing.shown
        except IntegrityError as error:
            # Bytes that are not what was recorded have no preview; reading them says the same.
            return Shown(problem=error.message)

    def _make(self, blob: Blob, job: Job, into: Path) -> None:
        place = Span(blob.sha256, blob.object, blob.offset, 0, blob.size)
        with excerpt(self._all, place, previews.needed(job.format, blob.size) or []) as (path, offset):
            shown = self._all.previewer.show(msgspec.structs.replace(job, path=os.fsencode(path), offset=offset))
        _keep(shown, into)


def _keep(shown: Shown, into: Path) -> None:
    if not shown.is_lasting:
        raise _PassingError(shown)
    into.write_bytes(msgspec.msgpack.encode(shown))


def _facts(index: Index) -> tuple[tuple[str, str], ...]:
    first = index.scenes[0]
    size = first.levels[0]
    names = [channel.name for channel in first.channels]
    facts = {
        "image": index.format,
        "size": f"{size.width:,} x {size.height:,} pixels",
        "type": first.type_name,
        "channels": ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else ""),
        "levels": f"{len(first.levels)}" if len(first.levels) > 1 else "",
        "planes": " x ".join(f"{count:,}" for count in (first.size_t, first.size_z) if count > 1),
        "pixel size": " x ".join(f"{length:.4g}" for length in first.pixel_size_um) + " µm" if first.pixel_size_um else "",
        "images": f"{len(index.scenes):,}" if len(index.scenes) > 1 else "",
    }
    return tuple((name, preview_files.short(value)) for name, value in facts.items() if value)


_MOST_NAMES = 20


class _PassingError(Exception):
    """What is shown may be another thing the next time, and is not kept."""

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.shown = shown
