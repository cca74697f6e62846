"""
Exports: lineage as documents that other programs read.

Ids are ours, below `urn:epista:`: they are random, so that documents of several labs can be put together.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import uuid
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from epista.client.labels import labels, notebooks_of, title_of
from epista.contract.lineage import Graph, GraphVersion, RecordedActivity

_NAMESPACE = "urn:epista:"

_OPENLINEAGE = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
_FACETS = "https://openlineage.io/spec/facets/"


def prov(graph: Graph) -> dict[str, Any]:
    """Return a graph as PROV-JSON (W3C member submission of 24 April 2013)."""
    said = labels(graph)
    versions = {one.id for one in graph.versions}
    activities = {one.id for one in graph.activities}
    numbers = itertools.count(1)
    document: dict[str, dict[str, Any]] = {
        "prefix": {"epista": _NAMESPACE},
        "entity": {_name(one.id): _entity(one) for one in graph.versions},
        "activity": {_name(one.id): _activity(one, notebooks_of(graph).get(one.id)) for one in graph.activities},
        "agent": {
            _agent(by): {"prov:type": _qualified("prov:Person"), "prov:label": by}
            for by in sorted({one.by for one in graph.versions} | {one.by for one in graph.activities})
        },
    }
    for one in graph.restricted:
        document["entity"][_name(one.id)] = {"prov:label": said[one.id].title, "prov:type": _qualified("epista:Restricted")}
    relations: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for edge in graph.edges:
        source, target = _name(edge.source), _name(edge.target)
        if edge.source in activities:
            relations["wasGeneratedBy"][f"_:{next(numbers)}"] = {"prov:entity": target, "prov:activity": source}
        elif edge.target in activities:
            relations["used"][f"_:{next(numbers)}"] = {"prov:activity": target, "prov:entity": source}
        elif edge.target in versions:
            derived = {"prov:generatedEntity": target, "prov:usedEntity": source}
            relations["wasDerivedFrom"][f"_:{next(numbers)}"] = derived
    for version in graph.versions:
        attributed = {"prov:entity": _name(version.id), "prov:agent": _agent(version.by)}
        relations["wasAttributedTo"][f"_:{next(numbers)}"] = attributed
    for activity in graph.activities:
        associated = {"prov:activity": _name(activity.id), "prov:agent": _agent(activity.by)}
        relations["wasAssociatedWith"][f"_:{next(numbers)}"] = associated
    return {name: part for name, part in (document | relations).items() if part}


def _entity(one: GraphVersion) -> dict[str, Any]:
    return {
        "prov:label": f"{one.key}@{one.number}",
        "prov:generatedAtTime": _typed(_time(one.at), "xsd:dateTime"),
        "epista:key": one.key,
        "epista:number": _typed(str(one.number), "xsd:int"),
        "epista:kind": one.kind,
        "epista:format": one.format,
    }


def _activity(one: RecordedActivity, notebook: str | None) -> dict[str, Any]:
    started = {"prov:startTime": _time(one.told.started_at)} if one.told.started_at else {}
    described = {f"epista:{name}": value for name, value in about(one, notebook).items()}
    return started | {"prov:endTime": _time(one.at), "prov:label": title_of(one)} | described


def about(one: RecordedActivity, notebook: str | None) -> dict[str, Any]:
    """Return what is known of an activity beside its title, under names of our own."""
    told = one.told
    known = {
        "notebook": notebook,
        "cell": None if told.cell is None or told.cell.number is None else str(told.cell.number),
        "source": None if told.cell is None else told.cell.source,
        "script": told.script,
        "git_commit": told.git_commit,
        "has_changes": told.is_dirty,
        "python": told.python,
        "epista": told.epista,
        "sql": [query.sql for query in one.queries if query.sql],
    }
    return {name: value for name, value in known.items() if value not in (None, [])}


def _name(id: str) -> str:
    return f"epista:{quote(id, safe='')}"


def _agent(user: str) -> str:
    return f"epista:user-{quote(user, safe='')}"


def _qualified(name: str) -> dict[str, str]:
    return _typed(name, "prov:QUALIFIED_NAME")


def _typed(value: str, type: str) -> dict[str, str]:
    return {"$": value, "type": type}


def openlineage(graph: Graph) -> list[dict[str, Any]]:
    """
    Return a graph as run events of OpenLineage 2-0-2, oldest first.

    An activity is a run of a job of its title. A version with stated inputs and no activity is made by a run of its own.
    """
    activities = {one.id: one for one in graph.activities}
    makers = {edge.target: edge.source for edge in graph.edges if edge.source in activities}
    runs: dict[str, RecordedActivity | GraphVersion] = dict(activities)
    runs |= {one.id: one for one in graph.versions if one.id not in makers}
    used: defaultdict[str, dict[str, None]] = defaultdict(dict)
    made: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for edge in graph.edges:
        if edge.source in activities:
            made[edge.source][edge.target] = None
        else:
            run = makers.get(edge.target, edge.target)
            used[run][edge.source] = None
            if run not in activities:
                made[run][run] = None
    data = {one.id: _dataset(graph, one) for one in graph.versions}
    data |= {one.id: {"namespace": _space(graph), "name": one.id} for one in graph.restricted}
    notebooks = notebooks_of(graph)
    events = []
    for id, one in runs.items():
        if not made[id]:
            continue
        event = {
            "run": _run(one, notebooks.get(id)),
            "job": _job(graph, one),
            "inputs": [data[source] for source in used[id]],
            "outputs": [data[target] for target in made[id]],
            "producer": _producer(),
            "schemaURL": f"{_OPENLINEAGE}RunEvent",
        }
        told = one.told.started_at if isinstance(one, RecordedActivity) else None
        # Told by another clock, it may be later.
        started = min(told or one.at, one.at)
        events.append({"eventType": "START", "eventTime": _time(started), **event, "outputs": []})
        events.append({"eventType": "COMPLETE", "eventTime": _time(one.at), **event})
    return sorted(events, key=lambda event: str(event["eventTime"]))


def _run(one: RecordedActivity | GraphVersion, notebook: str | None) -> dict[str, Any]:
    run: dict[str, Any] = {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, _NAMESPACE + one.id))}
    if isinstance(one, RecordedActivity):
        known = {name: value for name, value in about(one, notebook).items() if name != "sql"}
        run["facets"] = {"epista_activity": _facet(f"{_OPENLINEAGE}RunFacet", id=one.id, **known)}
    return run


def _job(graph: Graph, one: RecordedActivity | GraphVersion) -> dict[str, Any]:
    schema = f"{_FACETS}1-0-1/OwnershipJobFacet.json#/$defs/OwnershipJobFacet"
    facets = {"ownership": _facet(schema, owners=[{"name": f"user:{one.by}"}])}
    if isinstance(one, GraphVersion):
        return {"namespace": _space(graph), "name": f"make {one.key}", "facets": facets}
    if sql := [query.sql for query in one.queries if query.sql]:
        schema = f"{_FACETS}1-1-0/SQLJobFacet.json#/$defs/SQLJobFacet"
        facets["sql"] = _facet(schema, query=";\n".join(sql), dialect="duckdb")
    return {"namespace": _space(graph), "name": title_of(one), "facets": facets}


def _dataset(graph: Graph, one: GraphVersion) -> dict[str, Any]:
    schema = f"{_FACETS}1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
    return {"namespace": _space(graph), "name": one.key, "facets": {"version": _facet(schema, datasetVersion=one.id)}}


def _facet(schema: str, **said: Any) -> dict[str, Any]:
    return {"_producer": _producer(), "_schemaURL": schema, **said}


def _space(graph: Graph) -> str:
    return f"epista://{quote(graph.workspace, safe='')}"


def _producer() -> str:
    return f"{_NAMESPACE}client:{importlib.metadata.version('epista')}"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
