"""The words of contents, read before the transaction that indexes them, because it takes its time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping

from epista.contract import formats, keys
from epista.contract import objects as wire
from epista.contract.errors import IntegrityError
from epista.server.access.actors import Actor
from epista.server.engines import extraction
from epista.server.engines.sources import Job
from epista.server.services import spans
from epista.server.services.contents import known_to
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.services.versions import Fresh
from epista.server.stores import table_parts


def of_objects(
    resources: Resources, actor: Actor, workspace: str, objects: Sequence[wire.PutObject], fresh: Fresh | None
) -> dict[str, str]:
    """Return the words worth indexing of each key, also of contents that are not recorded yet."""
    blobs = fresh.places() if fresh else {}
    if older := {one.sha256 for one in objects if one.sha256 not in blobs}:
        with resources.read(actor, "write", workspace) as (tx, access):
            blobs |= _located(known_to(tx, actor, access, list(older)))
    texts: dict[str, str] = {}
    together: dict[str, Job] = {}
    movable: dict[str, tuple[dict[str, Any], str, wire.PutObject]] = {}
    for one in objects:
        key = keys.normalise(one.key)
        format = one.format or (formats.of_key(key) or formats.UNKNOWN).name
        blob = blobs.get(one.sha256)
        if blob is None or not extraction.needed(format, blob["size"]):
            continue
        path = resources.blobs.path(blob["object"])
        if path is None:
            texts[key] = of_blob(resources, key, blob, format, one.options)
        else:
            place = {"offset": blob["offset"], "size": blob["size"]}
            together[key] = extraction.job_of(path, **place, format=format, gzipped=formats.is_gzipped(key), options=one.options)
            if one.sha256 in older:
                movable[key] = blob, format, one
    texts |= zip(together, resources.extractor.texts(list(together.values())), strict=True)
    # What moved before it was read is read where it lies now.
    gone = {name for name in {blob["object"] for blob, *_ in movable.values()} if resources.blobs.size(name) is None}
    for key, (blob, format, one) in movable.items():
        if blob["object"] in gone:
            texts[key] = of_blob(resources, key, blob, format, one.options)
    return texts


def of_blob(resources: Resources, key: str, blob: Mapping[str, Any], format: str, options: Mapping[str, Any]) -> str:
    """Return the words of one content, which may lie in a store elsewhere; of a table of several files, those of the last."""
    if blob["sha256"] is None and blob["root"] is None:
        with resources.catalog.read() as tx:
            blob = dict(table_parts.of_blob(tx, blob["id"])[-1])
    place = Span(blob["sha256"], blob["object"], blob["offset"], 0, blob["size"])
    while True:
        text = _words(resources, place, key, format, options)
        # In a folder, a collection may have moved the content before its words were read.
        if text or resources.file_of(place.object) is None or resources.blobs.size(place.object) is not None:
            return text
        [now] = spans.looked_up(resources, [place])
        if now == place:
            return text
        place = now


def _words(resources: Resources, place: Span, key: str, format: str, options: Mapping[str, Any]) -> str:
    try:
        with excerpt(resources, place, extraction.needed(format, place.stop)) as (path, offset):
            return resources.extractor.text(
                path,
                offset=offset,
                size=place.stop,
                format=format,
                gzipped=formats.is_gzipped(key),
                options=options,
            )
    except IntegrityError:  # damaged bytes have no words, which `verify` says better
        return ""


@contextmanager
def excerpt(resources: Resources, place: Span, parts: Sequence[tuple[int, int]]) -> Iterator[tuple[Path, int]]:
    """Give a file in which at least *parts* of a content stand, and where in it the content begins."""
    if (path := resources.file_of(place.object)) is not None:
        yield path, place.offset
        return
    with tempfile.NamedTemporaryFile(prefix="epista-excerpt-") as file:
        # The rest is a hole, which takes no room.
        file.truncate(place.stop)
        for start, stop in parts:
            file.seek(start)
            for piece in spans.read(resources, [place._replace(start=start, stop=stop)]):
                file.write(piece)
        file.flush()
        yield Path(file.name), 0


def _located(blobs: Mapping[str, RowMapping]) -> dict[str, dict[str, Any]]:
    return {sha256: {name: row[name] for name in ("sha256", "object", "offset", "size")} for sha256, row in blobs.items()}
