"""Naming conventions: those of a workspace, and how it reads names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epista import naming
from epista.contract import conventions as wire

if TYPE_CHECKING:
    from epista.client.session import Session


def conventions(here: Session) -> naming.Conventions:
    """
    Return the conventions by which this workspace reads names, to `parse`, `find_all`, `explain` and `format` with.

    The workspace's own come first, then what is registered here, then the packaged ones: the same as on the server, as long as
    what is installed there is installed here too, which is warned about.
    """
    found = get(here)
    if missing := [name for name in found.installed if name not in naming.registry.registered()]:
        warnings.warn(f"the server also reads names by {', '.join(missing)}, not installed here", RuntimeWarning, stacklevel=2)
    return naming.conventions({one.name: one.declaration for one in found.conventions})


def get(here: Session, *, version: int | None = None) -> wire.Conventions:
    """Look at the workspace's own conventions in force, or at an older version of them."""
    return here.wire.call("conventions.get", wire.ShowConventions(workspace=here.name, version=version), reply=wire.Conventions)


def set_all(here: Session, declared: Mapping[str, Any], *, expect: int | None = None) -> wire.Conventions:
    """Replace the workspace's own conventions: declarations by name, in the order in which they are to be asked."""
    rows = tuple(wire.Convention(name=name, declaration=naming.declaration(given)) for name, given in declared.items())
    wanted = wire.SetConventions(workspace=here.name, conventions=rows, expect=expect)
    return here.wire.call("conventions.set", wanted, reply=wire.Conventions)


def add(here: Session, name: str, declared: str | Mapping[str, Any]) -> wire.Conventions:
    """Declare one convention, the text of a TOML document or a mapping; one of the same name is replaced where it stands."""
    found = get(here)
    kept: dict[str, Any] = {one.name: one.declaration for one in found.conventions}
    return set_all(here, {**kept, name: naming.declaration(declared)}, expect=found.version)


def remove(here: Session, name: str) -> wire.Conventions:
    """Remove one of the workspace's own conventions."""
    found = get(here)
    kept: dict[str, Any] = {one.name: one.declaration for one in found.conventions}
    if name not in kept:
        raise naming.missing(name, kept)
    return set_all(here, {other: given for other, given in kept.items() if other != name}, expect=found.version)


def explain(here: Session, text: str) -> tuple[wire.NameReading, ...]:
    """Ask the server what every convention makes of a name or a path."""
    return here.wire.call(
        "conventions.explain", wire.ExplainName(workspace=here.name, text=text), reply=wire.NameReadings
    ).readings
