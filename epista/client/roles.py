"""
Roles: which members of an experiment are raw, and which were made from it, and why.

Asked in order: what its metadata names, what members declare of themselves, tags, names. A miss is no end, and what cannot be
asked now says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from epista.client import assets, listings
from epista.client.assets import Asset
from epista.client.listings import Listing, Pages
from epista.contract import experiments as wire
from epista.contract.errors import EpistaError, NotFoundError, RoleNotFoundError

if TYPE_CHECKING:
    from epista.client.experiments import Experiment
    from epista.client.session import Session

RAW_LEVELS = ("raw", "raw data")
"""What a member declares as its ``data_level`` that is raw."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder that is a member of an experiment."""

    id: str
    """Opaque; stays the same as long as the folder is called so."""
    name: str
    """The last segment of its key."""
    key: str
    """Where it stands, without ``/`` at the end."""
    created_at: datetime
    """When the first asset in it was made."""
    tags: tuple[str, ...] = ()
    """Those of the experiment that it is, if it is one."""
    meta: dict[str, Any]
    """That of the experiment that it is, if it is one."""


class _Member(wire.ExperimentMember, frozen=True, kw_only=True):
    asset: Asset | None = None


class _Members(wire.ExperimentMembers, frozen=True, kw_only=True):
    members: tuple[_Member, ...]


class Step(NamedTuple):
    """One thing that was tried."""

    asked: str
    """What was looked for."""
    answer: Literal["hit", "miss", "unavailable"]
    """What came of it."""
    reason: str
    """Why."""


class Trace(tuple[Step, ...]):
    """What was tried for a role, in order; shown as text."""

    def __str__(self) -> str:
        return listings.text_table(("asked", "answer", "reason"), self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return listings.html_table(("asked", "answer", "reason"), self)


class Derived(Sequence["Folder | Asset"]):
    """Members that were made from a recording, by the time in their label."""

    def __init__(self, name: str, found: Sequence[_Member]) -> None:
        self._name = name
        self._found = found

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels there are."""
        return tuple(dict.fromkeys(one.parsed.label for one in self._found if one.parsed and one.parsed.label))

    @property
    def latest(self) -> Folder | Asset:
        """
        The newest.

        Raises:
            RoleNotFoundError: there is none.
        """
        if not self._found:
            raise RoleNotFoundError(f"nothing was derived from {self._name!r} that you may read", hint="exp.why('derived')")
        return shown(self._found[-1])

    def __call__(self, label: str) -> Derived:
        """
        Return those of one label, in any case.

        Raises:
            RoleNotFoundError: none has it; lists those that are there.
        """
        folded = label.casefold()
        found = [one for one in self._found if one.parsed and (one.parsed.label or "").casefold() == folded]
        if not found:
            there = ", ".join(self.labels) or "none"
            raise RoleNotFoundError(
                f"nothing derived from {self._name!r} has the label {label!r}; there are: {there}",
                hint="exp.derived.labels lists them",
                details={"labels": list(self.labels)},
            )
        return Derived(self._name, found)

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Folder | Asset: ...
    @overload
    def __getitem__(self, index: slice) -> list[Folder | Asset]: ...
    def __getitem__(self, index: int | slice) -> Folder | Asset | list[Folder | Asset]:
        if isinstance(index, slice):
            return [shown(one) for one in self._found[index]]
        return shown(self._found[index])

    def __repr__(self) -> str:
        rows = [(one.key, (one.parsed.label if one.parsed else None) or "", str(_time_of(one))) for one in self._found]
        return listings.text_table(("derived", "label", "made"), rows)


def members(here: Session, ref: str) -> Listing[Folder | Asset]:
    """List the members of an experiment, the main one first, lazily paged."""
    return Listing(
        _pages(here, ref),
        lambda page: [shown(one) for one in page.members],
        identity=lambda one: one.key,
        columns=("member", "created", "tags"),
        row=lambda one: (one.key, listings.moment(one.created_at), ", ".join(one.tags)),
    )


def shown(member: _Member) -> Folder | Asset:
    """Return a member as people see it."""
    if member.asset is not None:
        return member.asset
    return Folder(
        id=member.id,
        name=member.name,
        key=member.key,
        created_at=member.created_at,
        tags=member.tags,
        meta=member.meta,
    )


def raw(experiment: Experiment) -> Folder | Asset:
    """Return the member that is raw; see `Experiment.raw`."""
    found, trace = _raw(experiment)
    if found is None:
        raise RoleNotFoundError(
            f"nothing in {experiment.name!r} that you may read is raw:\n{trace}",
            hint='tag a member "raw", or exp.update(meta={"roles": {"raw": KEY}})',
            details={"trace": [list(step) for step in trace]},
        )
    return found


def derived(experiment: Experiment) -> Derived:
    """Return the members that were made from it; see `Experiment.derived`."""
    return Derived(experiment.name, _derived(experiment)[0])


def why(experiment: Experiment, role: str) -> Trace:
    """Tell what was tried for a role; see `Experiment.why`."""
    if role == "raw":
        return _raw(experiment)[1]
    if role == "derived":
        return _derived(experiment)[1]
    raise RoleNotFoundError(f"no role {role!r}; there are raw and derived", hint='exp.why("raw")')


def _raw(experiment: Experiment) -> tuple[Folder | Asset | None, Trace]:
    try:
        every = _all(experiment)
    except EpistaError as error:
        if isinstance(error, NotFoundError):
            return None, Trace([Step("members", "miss", "there are none that you may read")])
        return None, Trace([Step("members", "unavailable", error.message)])
    declares_raw = [one for one in every if _level(one) in RAW_LEVELS]
    others = [one for one in every if _level(one) is None]

    def is_raw(one: _Member) -> bool:
        if experiment.parsed is None:
            return one.is_folder and one.name == "raw"
        return one.parsed is not None and one.parsed.kind == "raw"

    rules = (
        ('meta["data_level"]', declares_raw, "declares"),
        ("tag raw", [one for one in others if "raw" in one.tags], "is tagged"),
        ("name", [one for one in others if is_raw(one)], "is named so"),
    )
    named, steps = _named(experiment, every)
    hit: Folder | Asset | None = named
    for asked, found, how in rules:
        outer = _outermost(found)
        if not outer:
            steps.append(Step(asked, "miss", f"none of {len(every)} members {how}"))
        elif hit is not None:
            steps.append(Step(asked, "hit", f"not needed: {', '.join(one.key for one in outer[:5])}"))
        else:
            newest = max(outer, key=lambda one: (one.created_at, one.key))
            left = [one.key for one in outer if one is not newest]
            steps.append(Step(asked, "hit", f"{newest.key}" + (f", the newest; also {', '.join(left[:5])}" if left else "")))
            hit = shown(newest)
    return hit, Trace(steps)


def _named(experiment: Experiment, every: Sequence[_Member]) -> tuple[Folder | Asset | None, list[Step]]:
    """Ask for what the metadata of the experiment names as raw."""
    asked = 'meta["roles"]["raw"]'
    given = experiment.meta.get("roles")
    ref = given.get("raw") if isinstance(given, dict) else None
    if ref is None:
        return None, [Step(asked, "miss", "not given")]
    if not isinstance(ref, str) or not ref.strip("/"):
        return None, [Step(asked, "miss", "neither an id nor a key")]
    for member in every:
        if ref == member.id or ref.strip("/") == member.key:
            return shown(member), [Step(asked, "hit", member.key)]
    here = experiment.workspace
    try:
        found = assets.get(here, ref) if ref.startswith("as_") else assets._get(here, ref.strip("/"), None)
    except NotFoundError as error:
        if folder := error.details.get("folder"):
            return _folder(here, str(folder)), [Step(asked, "hit", f"{folder}/")]
        return None, [Step(asked, "miss", f"{ref!r} is not there, as far as you may read")]
    except EpistaError as error:
        return None, [Step(asked, "unavailable", error.message)]
    return found, [Step(asked, "hit", found.key)]


def _folder(here: Session, key: str) -> Folder:
    """Return a folder that is no member of the experiment."""
    first = next(iter(assets.find(here, prefix=key + "/", limit=1)))
    return Folder(id="", name=key.rpartition("/")[2], key=key, created_at=first.created_at, meta={})


def _derived(experiment: Experiment) -> tuple[list[_Member], Trace]:
    try:
        every = _all(experiment)
    except EpistaError as error:
        return [], Trace([Step("members", "miss" if isinstance(error, NotFoundError) else "unavailable", error.message)])
    by_name = [one for one in every if _level(one) is None and one.parsed is not None and one.parsed.kind == "derived"]
    declared = [one for one in every if (_level(one) or "").startswith("derived")]
    steps = []
    for asked, some in (('meta["data_level"]', declared), ("name", by_name)):
        listed = ", ".join(one.key for one in _outermost(some)[:5])
        steps.append(Step(asked, "hit" if some else "miss", listed or f"none of {len(every)} members"))
    found = sorted(_outermost([*declared, *by_name]), key=lambda one: (_time_of(one), one.created_at, one.key))
    return found, Trace(steps)


def _time_of(member: _Member) -> datetime:
    return (member.parsed.label_time if member.parsed else None) or datetime.min


def _level(member: _Member) -> str | None:
    """Return what a member declares itself to be, in lower case; None if nothing."""
    level = member.meta.get("data_level")
    return level.strip().casefold() if isinstance(level, str) else None


def _outermost(found: Iterable[_Member]) -> list[_Member]:
    """Leave out what lies below another of them: the files of a folder are not told of besides the folder."""
    kept: list[_Member] = []
    for one in sorted(found, key=lambda one: one.key.split("/")):
        if not (kept and one.key.startswith(kept[-1].key + "/")):
            kept.append(one)
    return kept


def _all(experiment: Experiment) -> list[_Member]:
    pages = _pages(experiment.workspace, experiment.key)
    found: list[_Member] = []
    number = 0
    while (page := pages.get(number)) is not None:
        found.extend(page.members)
        number += 1
    return found


def _pages(here: Session, ref: str) -> Pages[_Members]:
    workspace = here.name

    def fetch(after: str | None) -> _Members:
        wanted = wire.ListExperimentMembers(workspace=workspace, ref=ref, after=after)
        page = here.wire.call("experiments.members", wanted, reply=_Members)
        for member in page.members:
            if member.asset is not None:
                assets.bound(here, member.asset)
        return page

    return Pages(fetch)
