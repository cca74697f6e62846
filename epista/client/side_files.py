"""``exp.metadata``: the JSON files beside the raw data of an experiment, as attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from epista.client import assets, objects
from epista.client.roles import Folder
from epista.contract.errors import NotFoundError, RoleNotFoundError

if TYPE_CHECKING:
    from epista.client.experiments import Experiment

_END = ".json"


class SideFileNotFoundError(NotFoundError, AttributeError):
    """There is no such JSON file beside the raw data, and no such metadata of the experiment."""


class Metadata:
    """
    What ``subject.json`` and its like say, next to the raw data; where there is no such file, the experiment's own metadata.

    ``exp.metadata.subject["genotype"]``; a name with dots by ``getattr(exp.metadata, "rig.calibration")``. Read anew each time.
    """

    def __init__(self, host: Experiment) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python and notebooks ask of any object
            raise AttributeError(name)
        found = keys(self._host)
        if name in found:
            return objects.deserialize(self._host.workspace, found[name])
        if name in self._host.meta:
            return self._host.meta[name]
        there = ", ".join(sorted({*found, *self._host.meta})) or "none"
        raise SideFileNotFoundError(f"no {name}{_END} beside the raw data of {self._host.name!r}; there are: {there}")

    def __iter__(self) -> Iterator[str]:
        """The names there are."""
        return iter(sorted({*keys(self._host), *self._host.meta}))

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"<Metadata of {self._host.name!r}>"


def keys(experiment: Experiment) -> dict[str, str]:
    """Return where the JSON files lie that are directly in the raw folder, by name without extension."""
    try:
        raw = experiment.raw
    except RoleNotFoundError:
        return {}
    if not isinstance(raw, Folder):
        return {}
    level = assets.ls(experiment.workspace, raw.key).assets
    return {one.name.removesuffix(_END): one.key for one in level if one.name.endswith(_END)}
