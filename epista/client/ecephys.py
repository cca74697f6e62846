"""``exp.ecephys``: what spike sorting made of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.contract.errors import RoleNotFoundError

if TYPE_CHECKING:
    from epista.client.assets import Asset
    from epista.client.experiments import Experiment
    from epista.client.roles import Folder


class Ecephys:
    """The members of an experiment whose label is ``sorted``, or begins with ``sorted-``."""

    def __init__(self, host: Experiment) -> None:
        self._host = host

    @property
    def sorted_data_assets(self) -> tuple[Folder | Asset, ...]:
        """All of them, by the time in their label."""
        derived = self._host.derived
        labels = [label for label in derived.labels if label.casefold() == "sorted" or label.casefold().startswith("sorted-")]
        keys = {one.key for label in labels for one in derived(label)}
        return tuple(one for one in derived if one.key in keys)

    @property
    def sorted_data_asset(self) -> Folder | Asset:
        """
        The newest.

        Raises:
            RoleNotFoundError: there is none.
        """
        found = self.sorted_data_assets
        if not found:
            raise RoleNotFoundError(
                f"nothing in {self._host.name!r} that you may read is sorted", hint='exp.why("derived") tells what was looked at'
            )
        return found[-1]

    @property
    def is_sorted(self) -> bool:
        """Whether there is one."""
        return bool(self.sorted_data_assets)

    def __repr__(self) -> str:
        return f"<Ecephys of {self._host.name!r}>"
