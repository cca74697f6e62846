"""
Crates: an experiment as an RO-Crate 1.1, a zip with its files and a description of them that others understand.

Files go from the lab into the zip without being held: small ones by the frame, large ones as streams. What is written first is
the description, which needs nothing of the bytes.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from epista.client import assets, experiments
from epista.client.exports import about
from epista.client.labels import notebooks_of, title_of
from epista.client.objects import pinned
from epista.client.transfer import disk, download, streams
from epista.client.transfer.progress import shown
from epista.contract import formats, frames, keys
from epista.contract.experiments import Experiment
from epista.contract.lineage import MAX_ROOTS, Edge, GetLineage, Graph, GraphVersion, RecordedActivity, Restricted

if TYPE_CHECKING:
    import os

    from epista.client.session import Session
    from epista.client.transfer.download import Pinned
    from epista.contract.assets import AssetRef

DESCRIPTION = "ro-crate-metadata.json"
"""The name that RO-Crate gives the description."""

FILES = "data/"
"""Where in the zip the files are, so that none of them can stand at a name that RO-Crate gives a meaning."""

BACKSLASH = "\\"

PIECE_BYTES = 1024 * 1024

Entity = dict[str, Any]
"""An object of the description."""


def export(here: Session, experiment: str, dest: str | os.PathLike[str], *, license: str | None = None) -> Path:
    """
    Write an experiment to *dest* as an RO-Crate: a zip with its files as they are, and who made them when, from what, and how.

    *license* is the address of the terms under which others may use it; without it, the crate says that none was stated. A file
    that stands at *dest* is replaced, when all is there.

    Raises:
        NotFoundError: there is no such experiment that you may read.
    """
    described = experiments.told(here, experiment)
    found = [one for one in assets.find(here, experiment=described.name) if not one.key.endswith("/")]
    wanted = [pinned(here, one, one.version, None) for one in found]
    graph = _made(here, [one.version for one in found])
    document = msgspec.json.format(msgspec.json.encode(_crate(described, found, wanted, graph, license)), indent=2)
    target = Path(dest)
    with disk.replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as crate:
        crate.writestr(DESCRIPTION, document)
        _fill(here, crate, {one.version: one for one in found}, wanted)
    here.provenance.read([one.version for one in found])
    return target


def _fill(here: Session, crate: zipfile.ZipFile, found: Mapping[str, AssetRef], wanted: Sequence[Pinned]) -> None:
    """Put the bytes of versions into a zip, verified."""
    small = [one for one in wanted if one.size_bytes < frames.SMALL_BYTES]
    with shown(here, "export", sum(one.size_bytes for one in wanted)) as progress:
        for one, data in download.to_memories(here, small, progress):
            crate.writestr(_entry(found[one.version]), data)
        for one in wanted:
            if one.size_bytes >= frames.SMALL_BYTES:
                with (
                    streams.opened(here, one, 0, one.size_bytes) as source,
                    crate.open(_entry(found[one.version]), "w", force_zip64=True) as entry,
                ):
                    while piece := source.read(PIECE_BYTES):
                        entry.write(piece)
                        progress.advance(len(piece))


def _entry(found: AssetRef) -> zipfile.ZipInfo:
    at = found.created_at.astimezone(UTC)
    entry = zipfile.ZipInfo(_path(found), (max(at.year, 1980), at.month, at.day, at.hour, at.minute, at.second))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _path(one: AssetRef) -> str:
    """
    Return where in the zip a file is: as its key says.

    Some systems take a backslash for a separator, and would leave the folder; such a file is in a folder of its own.
    """
    path = one.key.partition("/")[2]
    return keys.normalise(FILES + (f"{one.version}/{path.replace(BACKSLASH, '%5C')}" if BACKSLASH in path else path))


def _id(one: AssetRef) -> str:
    return quote(_path(one), safe="/")


def _made(here: Session, versions: Sequence[str]) -> Graph:
    """Return how versions were made: one generation, asked for in parts that one answer may have."""
    found: dict[str, GraphVersion] = {}
    activities: dict[str, RecordedActivity] = {}
    restricted: dict[str, Restricted] = {}
    edges: dict[Edge, None] = {}
    waiting = [versions[start : start + MAX_ROOTS] for start in range(0, len(versions), MAX_ROOTS)]
    while waiting:
        part = waiting.pop()
        wanted = GetLineage(workspace=here.name, versions=tuple(part), direction="up", depth=1)
        answer = here.wire.call("lineage.get", wanted, reply=Graph)
        if answer.is_cut and len(part) > 1:
            waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
            continue
        found |= {one.id: one for one in answer.versions}
        activities |= {one.id: one for one in answer.activities}
        restricted |= {one.id: one for one in answer.restricted}
        edges |= dict.fromkeys(answer.edges)
    return Graph(
        workspace=here.name,
        roots=tuple(versions),
        versions=tuple(found.values()),
        activities=tuple(activities.values()),
        restricted=tuple(restricted.values()),
        edges=tuple(edges),
    )


def _crate(
    described: Experiment, found: Sequence[AssetRef], wanted: Sequence[Pinned], graph: Graph, license: str | None
) -> dict[str, Any]:
    """Return the description: the crate, its files, who made them, and how."""
    ids = {one.version: _id(one) for one in found}
    ids |= {one.id: f"urn:epista:{one.id}" for one in graph.versions if one.id not in ids}
    ids |= {one.id: f"#{quote(one.id)}" for one in graph.activities} | {one.id: f"#{quote(one.id)}" for one in graph.restricted}
    activities = {one.id for one in graph.activities}
    used: defaultdict[str, list[Entity]] = defaultdict(list)
    made: defaultdict[str, list[Entity]] = defaultdict(list)
    for edge in graph.edges:
        if edge.source in activities:
            made[edge.source].append({"@id": ids[edge.target]})
        else:
            used[edge.target].append({"@id": ids[edge.source]})
    files = [_file(one, bytes, used[one.version]) for one, bytes in zip(found, wanted, strict=True)]
    inside = {one.version for one in found}
    others = [_other(ids[one.id], f"{one.key}@{one.number}") for one in graph.versions if one.id not in inside]
    others += [_other(ids[one.id], "erased" if one.erased else "restricted") for one in graph.restricted]
    notebooks = notebooks_of(graph)
    actions = [_action(one, ids[one.id], used[one.id], made[one.id], notebooks.get(one.id)) for one in graph.activities]
    people = sorted({described.created_by, *(one.created_by for one in found), *(one.by for one in graph.activities)})
    now = _time(datetime.now(UTC))
    terms: Entity = {"@id": license} if license else {"@id": "#license"}
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": described.title or described.name,
        "description": f"Experiment {described.name} of the workspace {graph.workspace}, as it was on {now}.",
        "identifier": described.name,
        "dateCreated": _time(described.created_at),
        "datePublished": now,
        "author": [_person(name) for name in people],
        "license": terms,
        "hasPart": [{"@id": one["@id"]} for one in files],
        "mentions": [{"@id": action["@id"]} for action, _ in actions],
    }
    entities: list[Entity] = [
        {
            "@id": DESCRIPTION,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        root,
        {**terms, "@type": "CreativeWork", "name": license or "no licence was stated: ask the authors"},
        *files,
        *others,
        *({**_person(name), "@type": "Person", "name": name} for name in people),
        *(entity for action, code in actions for entity in (action, *code)),
    ]
    return {
        "@context": ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}],
        "@graph": [_compact(entity) for entity in entities],
    }


def _compact(entity: Entity) -> Entity:
    """Leave out what is empty, and write a list of one as that one, as RO-Crate recommends."""
    said = {name: value for name, value in entity.items() if value not in (None, "", [])}
    return {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in said.items()}


def _file(one: AssetRef, bytes: Pinned, inputs: Sequence[Entity]) -> Entity:
    known = formats.BY_NAME.get(one.format, formats.UNKNOWN)
    return {
        "@id": _id(one),
        "@type": "File",
        "name": one.name,
        "contentSize": str(bytes.size_bytes),
        "encodingFormat": known.media_type,
        "identifier": f"urn:epista:{one.version}",
        "version": str(one.number),
        "dateModified": _time(one.created_at),
        "author": _person(one.created_by),
        "sha256": bytes.sha256,
        "keywords": list(one.tags),
        "isBasedOn": list(inputs),
    }


def _other(id: str, name: str) -> Entity:
    """Describe what went in, and is not in the crate."""
    return {"@id": id, "@type": "CreativeWork", "name": name}


def _action(
    one: RecordedActivity, id: str, used: Sequence[Entity], made: Sequence[Entity], notebook: str | None
) -> tuple[Entity, list[Entity]]:
    """Describe what was done, and the code that did it."""
    known = about(one, notebook)
    code = [
        {"@id": f"{id}-sql-{number}", "@type": "SoftwareSourceCode", "name": "query", "programmingLanguage": "SQL", "text": sql}
        for number, sql in enumerate(known.get("sql", ()), 1)
    ]
    if name := known.get("script") or known.get("notebook") or ("a notebook cell" if "source" in known else None):
        program = {"@id": f"{id}-code", "@type": "SoftwareSourceCode", "name": name, "programmingLanguage": "Python"}
        version = known.get("git_commit", "") + (" and changes" if known.get("has_changes") else "")
        code.append(program | {"version": version, "text": known.get("source")})
    action: Entity = {
        "@id": id,
        "@type": "CreateAction",
        "name": title_of(one),
        "agent": _person(one.by),
        "startTime": _time(one.told.started_at) if one.told.started_at else None,
        "endTime": _time(one.at),
        "object": list(used),
        "result": list(made),
        "instrument": [{"@id": each["@id"]} for each in code],
    }
    return action, [_compact(each) for each in code]


def _person(name: str) -> Entity:
    return {"@id": f"#user-{quote(name, safe='')}"}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")
