"""Lineage: what came of what, as a value that shows itself, and as documents that others read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from epista.client import drawings, exports
from epista.client.assets import locate
from epista.contract import keys
from epista.contract import lineage as wire
from epista.contract.assets import AssetRef, GetVersion, Version

if TYPE_CHECKING:
    from epista.client.session import Session

LINES = 200
"""How many lines a graph has when it shows itself as text; `Lineage.text` has them all."""


class Lineage(wire.Graph, frozen=True, kw_only=True):
    """What came of what: `versions` and `activities`, with `edges` in the direction in which data flows. It draws itself."""

    def __repr__(self) -> str:
        lines = list(islice(drawings.lines(self), LINES + 1))
        return "\n".join([*lines[:LINES], "and more: .text()"] if len(lines) > LINES else lines)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def text(self) -> str:
        """Return the graph as lines of text: what each version came from, then what came of it."""
        return "\n".join(drawings.lines(self))

    def to_svg(self) -> str:
        """Return a drawing; of a large graph, what is nearest."""
        return drawings.svg(self)

    def to_prov(self) -> dict[str, Any]:
        """Return the graph as W3C PROV-JSON: entities, activities, agents, and what was used, generated and derived."""
        return exports.prov(self)

    def to_openlineage(self) -> list[dict[str, Any]]:
        """Return the graph as events of OpenLineage: for each activity one that it started, and one that it completed."""
        return exports.openlineage(self)


def get(
    here: Session,
    ref: str | AssetRef | Version,
    *,
    direction: Literal["up", "down", "both"] = "both",
    depth: int | None = None,
    version: str | int | None = None,
) -> Lineage:
    """
    Show what an asset came from, what came of it, or both, as far as you may read it.

    *ref* is an id, a key, a bare name, an asset or one of its versions; a key means its newest version, unless *version* (an id
    or a number) says which. *direction* is ``up`` for what it came from and ``down`` for what came of it. *depth* is how many
    generations, each way; without it, all that one graph may have: 1,000 nodes, and 100 generations.

    What you may not read is one node ``restricted`` beside each that was made from it, with nothing beyond it. What was made
    of it and you may not read is as if it did not exist.

    Raises:
        KeyNotFoundError: nothing fits that you may read.
        AmbiguousNameError: a bare name fits several assets.
    """
    wanted = wire.GetLineage(workspace=here.name, direction=direction, depth=depth)
    return here.wire.call("lineage.get", _about(here, wanted, ref, version), reply=Lineage)


def _about(here: Session, wanted: wire.GetLineage, ref: str | AssetRef | Version, version: str | int | None) -> wire.GetLineage:
    if version is not None:
        key, experiment = (ref.key, None) if isinstance(ref, Version) else locate(here, ref, hint="lineage is of one asset")
        asked = GetVersion(workspace=here.name, key=key, experiment=experiment, version=str(version))
        ref = here.wire.call("assets.version", asked, reply=Version)
    if isinstance(ref, AssetRef | Version):
        return msgspec.structs.replace(wanted, versions=(ref.version if isinstance(ref, AssetRef) else ref.id,))
    return msgspec.structs.replace(wanted, ref=keys.normalise_prefix(ref), experiment=here.experiment_name)
