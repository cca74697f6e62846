"""
Experiments: the first folders of keys, described, and recordings by what their names say.

What is common to all is there at once; what belongs to one is asked for when it is needed, and each time anew.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from functools import total_ordering
from typing import TYPE_CHECKING, Any

import msgspec

from epista.client import assets, listings, namespaces, roles
from epista.client.assets import Asset, AssetRef
from epista.client.listings import Listing, Pages
from epista.client.roles import Derived, Folder, Trace
from epista.contract import experiments as wire
from epista.contract import metadata, times
from epista.contract.assets import AssetRef as WireAssetRef
from epista.contract.errors import ValidationError
from epista.naming import Parsed
from epista.naming.parsed import recording_of
from epista.serializers.json_values import to_json

if TYPE_CHECKING:
    from epista.client.ecephys import Ecephys
    from epista.client.session import Session
    from epista.client.side_files import Metadata

Time = str | int | dt.date | dt.datetime


@total_ordering
class Experiment:
    """
    One experiment, or one recording under all of its names. It cannot be changed: what changes one gives the new one back.

    Two are equal if their workspace and recording are, or, where a name tells of none, workspace and name; see `same_name`. They
    are ordered by when they started, then by subject and name; those without a time come last.
    """

    if TYPE_CHECKING:  # the namespaces that `namespaces.OURS` lists
        metadata: Metadata
        ecephys: Ecephys

    def __init__(self, workspace: Session, told: wire.Experiment) -> None:
        parsed = None if told.parsed is None else _parsed(told.parsed)
        vars(self).update(_workspace=workspace, _told=told, _parsed=parsed)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to {name!r}: an experiment is changed with update and rename")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete {name!r}")

    @property
    def workspace(self) -> Session:
        """The workspace that it is in."""
        return vars(self)["_workspace"]  # type: ignore[no-any-return]

    @property
    def _message(self) -> wire.Experiment:
        return vars(self)["_told"]  # type: ignore[no-any-return]

    @property
    def id(self) -> str:
        """Opaque; stays the same when it is renamed."""
        return self._message.id

    @property
    def name(self) -> str:
        """The first folder of its keys; of a recording below other folders, the name of its folder or file."""
        return self._message.name

    @property
    def key(self) -> str:
        """Where that stands."""
        return self._message.key

    @property
    def number(self) -> str:
        """As the lab counts; the name until it is given another."""
        return self._message.number

    @property
    def title(self) -> str | None:
        """What it is about."""
        return self._message.title

    @property
    def description(self) -> str | None:
        """The same, at length."""
        return self._message.description

    @property
    def status(self) -> str:
        """``planned``, ``active``, ``done`` or ``archived``."""
        return self._message.status

    @property
    def project(self) -> str | None:
        """The project that it is in."""
        return self._message.project

    @property
    def owners(self) -> tuple[str, ...]:
        """Who says who may do what in it."""
        return self._message.owners

    @property
    def meta(self) -> dict[str, Any]:
        """Its metadata, exactly as given."""
        return self._message.meta

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, in the order in which they were given."""
        return self._message.tags

    @property
    def created_at(self) -> datetime:
        """When it was described, or else when its first asset came."""
        return self._message.created_at

    @property
    def created_by(self) -> str:
        """By whom."""
        return self._message.created_by

    @property
    def parsed(self) -> Parsed | None:
        """What its name says; None if no convention of the workspace reads it."""
        return vars(self)["_parsed"]  # type: ignore[no-any-return]

    @property
    def subject_id(self) -> str | None:
        """Who was recorded."""
        return self.parsed.subject_id if self.parsed else None

    @property
    def platform(self) -> str | None:
        """With what, as this name or another of the recording spells it."""
        return self._message.platform

    @property
    def started(self) -> datetime | None:
        """When it started, in the local time of where that was; None without a time of day."""
        return self.parsed.started if self.parsed else None

    @property
    def date(self) -> dt.date | None:
        """The day on which it started."""
        return self.parsed.date if self.parsed else None

    @property
    def assets(self) -> Listing[AssetRef]:
        """The assets in it, by key, lazily paged."""
        return assets.find(self.workspace, prefix=f"{self.key}/")

    @property
    def members(self) -> Listing[Folder | Asset]:
        """
        The folders and assets whose name tells of the same recording, at any depth; the main one first.

        If its name tells of none, the folders and assets directly in it.
        """
        return roles.members(self.workspace, self.key)

    @property
    def raw(self) -> Folder | Asset:
        """
        The member that is raw: as its metadata says, by tag, or by name; of several the newest. See `why`.

        Raises:
            RoleNotFoundError: none is; the message has what was tried.
        """
        return roles.raw(self)

    @property
    def derived(self) -> Derived:
        """The members that were made from it, by the time in their label; ``derived("sorted")`` those of one label."""
        return roles.derived(self)

    def why(self, role: str = "raw") -> Trace:
        """Tell what was tried for a role (``raw``, ``derived``), and what came of it."""
        return roles.why(self, role)

    def related(self, within: float | timedelta = 60) -> list[Experiment]:
        """Return other recordings of the same subject that started at most *within* seconds before or after it."""
        if self.subject_id is None or self.started is None:
            return []
        found = find(self.workspace, subject=self.subject_id, near=(self.started, within))
        return [other for other in found if other != self]

    def update(
        self,
        *,
        number: str | None = None,
        title: str | None = None,
        description: str | None = None,
        status: str | None = None,
        project: str | None = None,
        meta: Mapping[str, Any] | None = None,
        tags: str | Iterable[str] | None = None,
    ) -> Experiment:
        """
        Describe it anew and return it as it is then. None keeps what there is; ``""`` for title, description or project clears.

        *project* moves it to that project; the status ``archived`` lets nobody write in it until it has another.

        Raises:
            ConflictError: it is archived, or the number is that of another.
        """
        return update(
            self.workspace,
            self._described("described"),
            number=number,
            title=title,
            description=description,
            status=status,
            project=project,
            meta=meta,
            tags=tags,
        )

    def rename(self, to: str) -> Experiment:
        """
        Call it otherwise, with every key in it, and return it as it is then. Ids, versions and roles stay.

        Raises:
            ConflictError: the new name is not free: something has it, or had it.
        """
        return rename(self.workspace, self._described("renamed"), to)

    def _described(self, act: str) -> str:
        if "/" in self.key:
            raise ValidationError(
                f"{self.key!r} lies in an experiment and is none of its own, so it cannot be {act}",
                hint=f"that experiment: ws.experiment({self.key.partition('/')[0]!r})",
            )
        return self.id

    def same_name(self, other: object) -> bool:
        """Whether *other* is of the same name in the same workspace, and not only of the same recording."""
        return isinstance(other, Experiment) and (_lab(self), self.key) == (_lab(other), other.key)

    def __eq__(self, other: object) -> bool:
        return _identity(self) == _identity(other) if isinstance(other, Experiment) else NotImplemented

    def __hash__(self) -> int:
        return hash(_identity(self))

    def __lt__(self, other: object) -> bool:
        return _order(self) < _order(other) if isinstance(other, Experiment) else NotImplemented

    def __dir__(self) -> list[str]:
        return list(namespaces.names(self, super().__dir__()))

    def __repr__(self) -> str:
        return f"<Experiment {self.name!r}{f' {self.title!r}' if self.title else ''}>"

    def _repr_html_(self) -> str:
        fields = [
            ("experiment", self.name),
            ("number", self.number if self.number != self.name else ""),
            ("title", self.title or ""),
            ("project", self.project or ""),
            ("status", self.status),
            ("subject", self.subject_id or ""),
            ("platform", self.platform or ""),
            ("started", str(self.started or self.date or "")),
            ("tags", ", ".join(self.tags)),
        ]
        return listings.html_fields([field for field in fields if field[1]])


class Found(Listing[Experiment]):
    """Experiments that were found, by time; `notes` says what was asked for that nothing has."""

    def __init__(self, here: Session, pages: Pages[wire.Experiments]) -> None:
        super().__init__(
            pages,
            lambda page: [Experiment(here, told) for told in page.experiments],
            identity=lambda found: found.key,
            columns=("experiment", "title", "subject", "platform", "started", "status", "assets"),
            row=_cells,
        )
        self._pages = pages

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each platform, label or convention that was asked for and that nothing has."""
        return self._pages.first().notes

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *map(listings.printable, self.notes)])


def create(
    here: Session,
    name: str,
    *,
    number: str | None = None,
    title: str | None = None,
    description: str | None = None,
    status: str = "active",
    project: str | None = None,
    meta: Mapping[str, Any] | None = None,
    tags: str | Iterable[str] = (),
) -> Experiment:
    """
    Describe an experiment, which you own then; its folder may hold assets already.

    Raises:
        ValidationError: *meta* is no JSON object; every violation is listed.
        ConflictError: it is described already, or the name is not free.
    """
    wanted = wire.CreateExperiment(
        workspace=here.name,
        name=name,
        number=number,
        title=title,
        description=description,
        status=_status(status),
        project=project,
        meta=_meta(meta or {}),
        tags=_tags(tags),
    )
    return Experiment(here, here.wire.call("experiments.create", wanted, reply=wire.Experiment))


def get(here: Session, ref: str | os.PathLike[str] | WireAssetRef | Experiment) -> Experiment:
    """
    Look at one experiment. *ref* is a name, a number, an id, a path in it, an asset, or an experiment.

    Of a path, the folder or file whose name tells of a recording counts, and else the first folder. A recording is found by each
    of its names, old or new.

    Raises:
        NotFoundError: there is none that you may read; one that was renamed is named.
        AmbiguousNameError: the path names two recordings.
    """
    if isinstance(ref, Experiment | WireAssetRef):
        ref = ref.key
    text = str(os.fspath(ref))
    told = here.wire.call("experiments.resolve", wire.ResolveExperiment(workspace=here.name, ref=text), reply=wire.Experiment)
    return Experiment(here, told)


def find(
    here: Session,
    *,
    subject: str | int | None = None,
    platform: str | None = None,
    convention: str | None = None,
    label: str | None = None,
    date: Time | None = None,
    since: Time | None = None,
    until: Time | None = None,
    near: tuple[Time, float | timedelta] | None = None,
    tags: str | Iterable[str] | None = None,
    prefix: str | None = None,
    project: str | None = None,
    status: str | None = None,
    limit: int = 100,
) -> Found:
    """
    List the experiments that satisfy every filter given, by when they started, lazily paged; *limit* is the size of a page.

    A recording is listed once, however many names it has; those without a time come last, by name. Bounds are included, and
    mean all that they name: ``until="2023-12"`` has the whole month, ``date="2023-12-13 13:43"`` the minute. *near* is a time and
    a number of seconds, or a timedelta, before and after. Times are local, as names have them. *platform* and *label* ignore
    case; *tags* are the experiment's own, *prefix* begins its key.

    Raises:
        ValidationError: no such time, *date* beside a bound, or bounds the wrong way round.
    """
    about, tolerance = near if near is not None else (None, 0)
    wanted = wire.ListExperiments(
        workspace=here.name,
        subject=None if subject is None else str(subject),
        platform=platform,
        convention=convention,
        label=label,
        date=_time(date),
        since=_time(since),
        until=_time(until),
        near=_time(about),
        tolerance_seconds=_seconds(tolerance),
        tags=_tags(tags or ()),
        prefix=prefix,
        project=project,
        status=status,
        limit=limit,
    )

    def fetch(after: str | None) -> wire.Experiments:
        return here.wire.call("experiments.find", msgspec.structs.replace(wanted, after=after), reply=wire.Experiments)

    pages = Pages(fetch)
    # What is wrong with a filter is said at once.
    pages.first()
    return Found(here, pages)


def update(
    here: Session,
    name: str,
    *,
    number: str | None = None,
    title: str | None = None,
    description: str | None = None,
    status: str | None = None,
    project: str | None = None,
    meta: Mapping[str, Any] | None = None,
    tags: str | Iterable[str] | None = None,
) -> Experiment:
    """Describe an experiment anew; see `Experiment.update`."""
    wanted = wire.UpdateExperiment(
        workspace=here.name,
        name=name,
        number=number,
        title=title,
        description=description,
        status=None if status is None else _status(status),
        project=project,
        meta=None if meta is None else _meta(meta),
        tags=None if tags is None else _tags(tags),
    )
    return Experiment(here, here.wire.call("experiments.update", wanted, reply=wire.Experiment))


def rename(here: Session, name: str, to: str) -> Experiment:
    """Call an experiment otherwise; see `Experiment.rename`."""
    wanted = wire.RenameExperiment(workspace=here.name, name=name, to=to)
    return Experiment(here, here.wire.call("experiments.rename", wanted, reply=wire.Experiment))


def told(here: Session, name: str) -> wire.Experiment:
    """Return what the server tells of the experiment of that name, number or id."""
    return here.wire.call("experiments.get", wire.GetExperiment(workspace=here.name, name=name), reply=wire.Experiment)


def roles_in(here: Session, name: str) -> wire.ExperimentRoles:
    """List who is what in one experiment."""
    wanted = wire.ListExperimentRoles(workspace=here.name, name=name)
    return here.wire.call("experiments.roles", wanted, reply=wire.ExperimentRoles)


def set_role(here: Session, name: str, user: str, role: str | None) -> wire.ExperimentRoles:
    """
    Say what a member of the workspace is in one experiment: viewer, editor, owner, or None for nothing more than elsewhere.

    Raises:
        ForbiddenError: you are neither an owner of it nor an admin of the workspace.
    """
    if role is not None and role not in wire.ROLES:
        raise ValidationError(f"no role {role!r}; there are {', '.join(wire.ROLES)}")
    wanted = wire.SetExperimentRole(workspace=here.name, name=name, user=user, role=role)  # type: ignore[arg-type]
    return here.wire.call("experiments.set_role", wanted, reply=wire.ExperimentRoles)


def _parsed(told: wire.ParsedName) -> Parsed:
    fields = {name: getattr(told, name) for name in told.__struct_fields__}
    parts = fields.pop("recording")
    return Parsed(**fields, recording=recording_of(fields, parts))


def _lab(one: Experiment) -> tuple[str, str]:
    return one.workspace.location, one.workspace.name


def _identity(one: Experiment) -> tuple[Any, ...]:
    return _lab(one), one.parsed.recording if one.parsed else one.key


def _order(one: Experiment) -> tuple[Any, ...]:
    started = one.started or (one.date and datetime.combine(one.date, datetime.min.time()))
    return started is None, started or datetime.min, one.subject_id or "", one.name


def _time(wanted: Time | None) -> str | None:
    if wanted is None:
        return None
    text = times.text_of(wanted)
    times.span(text)
    return text


def _seconds(tolerance: float | timedelta) -> float:
    seconds = tolerance.total_seconds() if isinstance(tolerance, timedelta) else float(tolerance)
    if not 0 <= seconds <= 1e11:
        raise ValidationError(f"a tolerance is a number of seconds from 0 on, not {tolerance!r}")
    return seconds


def _status(status: str) -> wire.Status:
    if status not in wire.STATUSES:
        raise ValidationError(f"no status {status!r}; there are {', '.join(wire.STATUSES)}")
    return status  # type: ignore[return-value]


def _meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = to_json(dict(meta))
    metadata.check(document)
    return document


def _tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(tags)


def _cells(found: Experiment) -> tuple[str, ...]:
    return (
        found.name,
        found.title or "",
        found.subject_id or "",
        found.platform or "",
        str(found.started or found.date or ""),
        found.status,
        str(found._message.assets),
    )
