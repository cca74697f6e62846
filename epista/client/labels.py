"""Labels: what is said of the nodes of a graph of lineage, wherever it is shown."""

from __future__ import annotations

from typing import Literal, NamedTuple

from epista.client.listings import moment
from epista.contract import lineage as wire


class Label(NamedTuple):
    """What is said of a node."""

    kind: Literal["version", "activity", "restricted"]
    """What it is."""
    title: str
    """Its name."""
    detail: str
    """What else is known, in a line."""
    more: tuple[str, ...]
    """What else is known, line by line."""


def labels(graph: wire.Graph) -> dict[str, Label]:
    """Return what is said of each node, as it came: nothing of it is escaped."""
    notebooks = notebooks_of(graph)
    said = {one.id: _of_version(one) for one in graph.versions}
    said |= {one.id: _of_activity(one, notebooks.get(one.id)) for one in graph.activities}
    return said | {one.id: Label("restricted", "erased" if one.erased else "restricted", "", ()) for one in graph.restricted}


def notebooks_of(graph: wire.Graph) -> dict[str, str]:
    """Return the notebooks of activities, which their versions tell."""
    told = {one.id: one.notebook for one in graph.versions}
    return {edge.source: notebook for edge in graph.edges if (notebook := told.get(edge.target))}


def title_of(activity: wire.RecordedActivity) -> str:
    """Return what an activity is called."""
    told = activity.told
    if told.title or told.script:
        return told.title or told.script or ""
    return "a notebook cell" if told.cell else "a session"


def _of_version(one: wire.GraphVersion) -> Label:
    deleted = ", deleted" if one.deleted else ""
    return Label("version", one.key, f"version {one.number}{deleted}", (f"{moment(one.at)} UTC, {one.by}", one.id))


def _of_activity(one: wire.RecordedActivity, notebook: str | None) -> Label:
    told = one.told
    cell = f"cell {told.cell.number}" if told.cell and told.cell.number is not None else ""
    commit = f"git {told.git_commit[:10]}{' and changes' if told.is_dirty else ''}" if told.git_commit else ""
    where = [told.script or "" if told.title else "", " of ".join(part for part in (cell, notebook) if part), commit]
    more = [part for part in where if part]
    more += [f"SQL: {query.sql}" for query in one.queries if query.sql]
    if told.cell and told.cell.source:
        more.append(told.cell.source)
    return Label("activity", title_of(one), f"{moment(one.at)} UTC, {one.by}", tuple(more))
