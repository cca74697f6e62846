"""Lineage: the graph of what came of what, as far as it exists for the caller."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence

from sqlalchemy import Connection, RowMapping

from epista.contract import lineage as wire
from epista.contract.errors import InvalidRequestError, NotFoundError
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services.activities import recorded
from epista.server.services.assets import resolve
from epista.server.services.resources import Resources
from epista.server.stores import assets as asset_rows
from epista.server.stores import lineage as rows
from epista.server.stores import moments

Node = tuple[str, int]
"""``version`` or ``activity`` and its row; before it ``restricted``, for what went into that and may not be read."""

Ask = Callable[[Connection, int, Collection[str] | None, Sequence[int], int], list[rows.Step]]
"""A step of `stores.lineage`."""


class Lineage:
    """What came of what."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def get(self, actor: Actor, wanted: wire.GetLineage) -> wire.Graph:
        """Show what versions came from, what came of them, or both."""
        if (wanted.ref is None) == (not wanted.versions):
            raise InvalidRequestError("lineage is of one asset or of some versions", hint="give ref or versions, one of the two")
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            graph = _Walk(tx, access, _roots(tx, access, wanted))
            graph.go(wanted.direction, wanted.depth or wire.MAX_DEPTH)
            found = graph.told(actor)
        self._all.note(actor, access.workspace_id, wanted.ref or "", {"versions": found.roots})
        return found


def _roots(tx: Connection, access: Access, wanted: wire.GetLineage) -> list[int]:
    if wanted.ref is not None:
        return [resolve(tx, access, wanted.ref, wanted.experiment)["id"]]
    known = asset_rows.version_ids(tx, access.workspace_id, access.experiments, wanted.versions)
    for uid in wanted.versions:
        if uid not in known:
            raise NotFoundError(f"no version {uid!r}", hint="epista history KEY")
    return [known[uid] for uid in dict.fromkeys(wanted.versions)]


class _Walk:
    """
    From the roots up and down in turn, a generation of versions at a time, until nothing is new or it is too much.

    What went into a version goes by way of the activity that made it, if that was told, also where it was stated. What may not be
    read ends the walk there: above it stands one node *restricted*; below it nothing, as if it did not exist.
    """

    def __init__(self, tx: Connection, access: Access, roots: Sequence[int]) -> None:
        self._tx = tx
        self._access = access
        self._here = access.workspace_id, access.experiments
        self._roots = roots
        self._nodes: dict[Node, None] = {("version", id): None for id in roots}
        self._edges: dict[tuple[Node, Node], None] = {}
        self._is_cut = False

    def go(self, direction: str, depth: int) -> None:
        """Walk at most *depth* generations."""
        above = self._roots if direction != "down" else []
        below = self._roots if direction != "up" else []
        known_above, known_below = set(self._nodes), set(self._nodes)
        for _ in range(depth):
            above, below = self._up(above, known_above), self._down(below, known_below)
            if not above and not below:
                return
        self._is_cut |= depth == wire.MAX_DEPTH

    def _up(self, ids: Sequence[int], known: set[Node]) -> list[int]:
        """Go from versions to what they were made from; return the versions that are new."""
        steps = self._ask(rows.into_versions, ids)
        makers = {step.id: step.activity for step in steps if step.activity is not None}
        doing = [node for id, maker in makers.items() if self._join(node := ("activity", maker), ("version", id))]
        reached: list[Node] = []
        for step in steps:
            if step.activity is None:
                here = ("activity", makers[step.id]) if step.id in makers else ("version", step.id)
                reached += self._came_from(step, here)
        for step in self._ask(rows.into_activities, _new(known, "activity", doing)):
            reached += self._came_from(step, ("activity", step.id))
        return _new(known, "version", reached)

    def _came_from(self, step: rows.Step, here: Node) -> list[Node]:
        source = (f"restricted {here[0]}", here[1]) if step.version is None else ("version", step.version)
        return [source] if self._join(source, here) else []

    def _down(self, ids: Sequence[int], known: set[Node]) -> list[int]:
        """Go from versions to what was made of them; return the versions that are new."""
        doing: list[Node] = []
        reached: list[Node] = []
        for step in self._ask(rows.out_of_versions, ids):
            way: list[Node] = [("version", step.id)]
            way += [("activity", step.activity)] if step.activity is not None else []
            way += [("version", step.version)] if step.version is not None else []
            if all(self._join(source, target) for source, target in itertools.pairwise(way)):
                (doing if step.version is None else reached).append(way[-1])
        for step in self._ask(rows.out_of_activities, _new(known, "activity", doing)):
            if step.version is not None and self._join(("activity", step.id), made := ("version", step.version)):
                reached.append(made)
        return _new(known, "version", reached)

    def _ask(self, question: Ask, ids: Sequence[int]) -> list[rows.Step]:
        if not ids:
            return []
        room = wire.MAX_EDGES - len(self._edges)
        found = question(self._tx, *self._here, ids, room + 1)
        self._is_cut |= len(found) > room
        return found[:room]

    def _join(self, source: Node, target: Node) -> bool:
        """Add an edge with its nodes, of which one is there; return whether there was room."""
        more = {source, target} - self._nodes.keys()
        if len(self._nodes) + len(more) > wire.MAX_NODES or (
            len(self._edges) >= wire.MAX_EDGES and (source, target) not in self._edges
        ):
            self._is_cut = True
            return False
        self._nodes |= dict.fromkeys((source, target))
        self._edges[source, target] = None
        return True

    def told(self, actor: Actor) -> wire.Graph:
        """Return what was found, as *actor* may see it."""
        activities = recorded(self._tx, actor, self._access, [id for kind, id in self._nodes if kind == "activity"])
        versions = {
            row["id"]: row for row in rows.nodes(self._tx, *self._here, [id for kind, id in self._nodes if kind == "version"])
        }
        names: dict[Node, str] = {("version", id): row["uid"] for id, row in versions.items()}
        names |= {("activity", id): one.id for id, one in activities.items()}
        names |= {(f"restricted {kind}", id): f"restricted:{name}" for (kind, id), name in names.items()}
        # What went out of sight between two statements takes its edges along.
        edges = [(names[one], names[other]) for one, other in self._edges if one in names and other in names]
        return wire.Graph(
            workspace=self._access.workspace,
            roots=tuple(versions[id]["uid"] for id in self._roots if id in versions),
            versions=tuple(_version(row) for row in versions.values()),
            activities=tuple(activities[id] for id in sorted(activities)),
            restricted=tuple(
                wire.Restricted(id=names[node], erased=self._access.experiments is None)
                for node in self._nodes
                if node[0].startswith("restricted") and node in names
            ),
            edges=tuple(wire.Edge(source=source, target=target) for source, target in edges),
            is_cut=self._is_cut,
        )


def _new(known: set[Node], kind: str, nodes: Iterable[Node]) -> list[int]:
    """Return the rows of those nodes of a kind that were not known, and are from now on."""
    new = {node: None for node in nodes if node[0] == kind and node not in known}
    known.update(new)
    return [id for _, id in new]


def _version(row: RowMapping) -> wire.GraphVersion:
    return wire.GraphVersion(
        id=row["uid"],
        key=row["key"],
        number=row["number"],
        kind=row["kind"],
        format=row["format"],
        at=moments.to_datetime(row["created_at"]),
        by=row["author"],
        notebook=row["notebook"],
        deleted=row["deleted_at"] is not None,
    )
