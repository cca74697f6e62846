"""Experiments: the first folder of a key, with a title and metadata of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epista.client import listings
from epista.client.listings import Listing, Pages
from epista.contract import experiments as wire
from epista.contract import metadata
from epista.serializers.json_values import to_json

if TYPE_CHECKING:
    from epista.client.session import Session


def create(here: Session, name: str, *, title: str | None = None, meta: Mapping[str, Any] | None = None) -> wire.Experiment:
    """
    Describe an experiment; its folder may hold assets already.

    Raises:
        ValidationError: *meta* is no JSON object; every violation is listed.
        ConflictError: it is described already.
    """
    document = to_json(dict(meta or {}))
    metadata.check(document)
    wanted = wire.CreateExperiment(workspace=here.name, name=name, title=title, meta=document)
    return here.wire.call("experiments.create", wanted, reply=wire.Experiment)


def find(here: Session) -> Listing[wire.Experiment]:
    """List the experiments that you may read, by name, lazily paged."""
    workspace = here.name

    def fetch(after: str | None) -> wire.Experiments:
        wanted = wire.ListExperiments(workspace=workspace, after=after)
        return here.wire.call("experiments.find", wanted, reply=wire.Experiments)

    return Listing(
        Pages(fetch),
        lambda page: page.experiments,
        identity=lambda experiment: experiment.name,
        columns=("experiment", "title", "assets", "created", "by"),
        row=_row,
    )


def get(here: Session, name: str) -> wire.Experiment:
    """Look at one experiment."""
    return here.wire.call("experiments.get", wire.GetExperiment(workspace=here.name, name=name), reply=wire.Experiment)


def _row(found: wire.Experiment) -> tuple[str, ...]:
    return (found.name, found.title or "", str(found.assets), listings.moment(found.created_at), found.created_by)
