"""
The sessions of ``aind_session``, over a workspace.

    import epista.compat.aind as aind_session

    session = aind_session.Session("ecephys_676909_2023-12-13_13-43-40")

Making one asks nobody; what is looked up is looked up in the current workspace, or in ``workspace=``. What differs from upstream
(0.3.27), and why, is told in the guide.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import total_ordering
from pathlib import PurePosixPath
from typing import Any, TypeVar

from epista import naming
from epista.client import assets as _assets
from epista.client import current, ecephys, experiments, namespaces, objects, side_files
from epista.client import session as _session
from epista.client.assets import Asset
from epista.client.experiments import Experiment
from epista.client.roles import Folder
from epista.contract.errors import AmbiguousNameError, NotFoundError, RoleNotFoundError, UnrecognizedNameError
from epista.naming import Parsed

__all__ = [
    "DataAsset",
    "DataPath",
    "ExtensionBaseClass",
    "FolderNotFoundError",
    "Session",
    "Subject",
    "get_sessions",
    "register_namespace",
]

_C = TypeVar("_C", bound=type)

_Time = str | dt.date | dt.datetime


class FolderNotFoundError(NotFoundError, FileNotFoundError):
    """The session has no raw data, as far as you may know."""


class DateRecord(str):
    """A date as upstream shows it, with ``dt``, the date itself."""

    dt: dt.date


class TimeRecord(str):
    """A time of day as upstream shows it, with ``dt``, the time itself."""

    dt: dt.time


class DatetimeRecord(str):
    """A moment as upstream shows it, with ``dt``, the moment itself."""

    dt: dt.datetime


@total_ordering
class Session:
    """
    One session: who was recorded, with what, and when; and what the workspace has of it.

    *session_id* is a name, a path or a longer name that holds one, another session, or an `epista` experiment. Two are equal if
    their recording is: the subject, and when it started.

    Raises:
        ValueError: it names no session, or several.
    """

    id: str
    subject_id: str
    platform: str | None
    dt: dt.datetime
    date: DateRecord
    time: TimeRecord
    datetime: DatetimeRecord

    def __init__(
        self, session_id: str | os.PathLike[str] | Session | Experiment, *, workspace: _session.Session | None = None
    ) -> None:
        parsed = _parsed(session_id)
        if parsed.subject_id is None or parsed.started is None:
            raise UnrecognizedNameError(f"{str(session_id)!r} names no session: it has no subject, or no time of day")
        self._parsed = parsed
        self._workspace = workspace or _workspace_of(session_id)
        self.subject_id = parsed.subject_id
        self.dt = parsed.started
        self.platform = parsed.platform
        if isinstance(session_id, Session | Experiment):
            self.platform = session_id.platform
        self.date = DateRecord(self.dt.date())
        self.date.dt = self.dt.date()
        self.time = TimeRecord(self.dt.time())
        self.time.dt = self.dt.time()
        self.datetime = DatetimeRecord(self.dt)
        self.datetime.dt = self.dt
        moment = f"{self.dt:%Y-%m-%d_%H-%M-%S}"
        self.id = f"{parsed.platform}_{self.subject_id}_{moment}" if parsed.platform else f"{self.subject_id}_{moment}"

    @property
    def data_assets(self) -> tuple[DataAsset, ...]:
        """All that belongs to it, oldest first; may be empty."""
        found = self._experiment
        return () if found is None else _by_creation(self._here, [found])

    assets = data_assets

    @property
    def raw_data_asset(self) -> DataAsset:
        """
        Its raw data: the newest, where there are several.

        Raises:
            RoleNotFoundError: there are none; an AttributeError, too.
        """
        return _data_asset(self._here, self._raw)

    @property
    def raw_data_dir(self) -> DataPath:
        """
        Where its raw data are.

        Raises:
            FolderNotFoundError: there are none.
        """
        try:
            return DataPath(self._here, self._raw.key)
        except RoleNotFoundError as error:
            raise FolderNotFoundError(error.message, hint=error.hint, details=error.details) from error

    @property
    def is_uploaded(self) -> bool:
        """Whether there are raw data."""
        return getattr(self, "raw_data_asset", None) is not None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The folders of its raw data; ``ecephys_compressed`` and ``ecephys_clipped`` are ``ecephys``, metadata are left out."""
        if not self.is_uploaded:
            return ()
        found = {path.name for path in self.raw_data_dir.iterdir() if path.is_dir()}
        names = {"ecephys" if name in ("ecephys_compressed", "ecephys_clipped") else name for name in found}
        return tuple(sorted(name for name in names if "metadata" not in name))

    @property
    def metadata(self) -> side_files.Metadata:
        """
        The JSON files beside its raw data: ``session.metadata.subject["genotype"]``.

        Raises:
            RoleNotFoundError: the workspace has nothing of it.
        """
        return side_files.Metadata(self._known)

    @property
    def docdb(self) -> dict[str, Any]:
        """The JSON files beside its raw data, by name, updated with the experiment's metadata; ``{}`` if there is nothing."""
        found = self._experiment
        if found is None:
            return {}
        files = {stem: objects.deserialize(self._here, key) for stem, key in side_files.keys(found).items()}
        return {**files, **found.meta}

    @property
    def ecephys(self) -> Ecephys:
        """What was sorted of it."""
        return Ecephys(self)

    @property
    def subject(self) -> Subject:
        """Who was recorded."""
        return Subject(self.subject_id, workspace=self._workspace)

    @property
    def _here(self) -> _session.Session:
        return self._workspace or current.current()

    @property
    def _experiment(self) -> Experiment | None:
        try:
            return experiments.get(self._here, self.id)
        except NotFoundError:
            return None

    @property
    def _known(self) -> Experiment:
        found = self._experiment
        if found is None:
            raise RoleNotFoundError(
                f"the workspace has nothing of {self.id!r} that you may read", hint="ws.experiments() lists them"
            )
        return found

    @property
    def _raw(self) -> Folder | Asset:
        return self._known.raw

    def __dir__(self) -> list[str]:
        return list(namespaces.names(self, super().__dir__()))

    def __eq__(self, other: object) -> bool:
        return self._parsed.recording == other._parsed.recording if isinstance(other, Session) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parsed.recording)

    def __lt__(self, other: object) -> bool:
        return (self.dt, self.subject_id) < (other.dt, other.subject_id) if isinstance(other, Session) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the workspace, which holds a token: it is the current one of whoever reads it.
        return type(self), (self.id,)


@total_ordering
class Subject:
    """Who was recorded: a number, a name, or a path or name of one of its sessions."""

    id: str

    def __init__(self, subject_id: str | int | os.PathLike[str], *, workspace: _session.Session | None = None) -> None:
        text = str(subject_id) if isinstance(subject_id, int) else os.fspath(subject_id)
        found = [parsed.subject_id for parsed in naming.find_all(text) if parsed.subject_id]
        self.id = found[0] if found else text
        self._workspace = workspace

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All its sessions, by time; may be empty."""
        return get_sessions(self.id, workspace=self._workspace)

    @property
    def data_assets(self) -> tuple[DataAsset, ...]:
        """All that belongs to it, oldest first; may be empty."""
        here = self._workspace or current.current()
        return _by_creation(here, list(experiments.find(here, subject=self.id)))

    @property
    def docdb(self) -> tuple[dict[str, Any], ...]:
        """`Session.docdb` of each session."""
        return tuple(session.docdb for session in self.sessions)

    def __dir__(self) -> list[str]:
        return list(namespaces.names(self, super().__dir__()))

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Subject) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __lt__(self, other: object) -> bool:
        return self.id < other.id if isinstance(other, Subject) else NotImplemented

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id,)


def get_sessions(
    subject_id: int | str,
    date: _Time | None = None,
    platform: str | None = None,
    start_date: _Time | None = None,
    end_date: _Time | None = None,
    *,
    workspace: _session.Session | None = None,
) -> tuple[Session, ...]:
    """
    Return the sessions of a subject, by time, that satisfy every filter given.

    Bounds are included, and mean all that they name: ``end_date="2023-12-14"`` has that day. Platforms are compared in any case.

    Raises:
        ValueError: no such date, or *date* beside a bound.
    """
    here = workspace or current.current()
    found = experiments.find(
        here,
        subject=str(subject_id),
        platform=platform or None,
        date=date or None,
        since=start_date or None,
        until=end_date or None,
    )
    sessions = [Session(one, workspace=workspace) for one in found if one.started is not None and one.subject_id is not None]
    return tuple(sorted(sessions, key=lambda session: session.dt))


@dataclass(frozen=True)
class DataAsset:
    """A folder or an asset that belongs to a session."""

    id: str
    """Opaque."""
    name: str
    """The last segment of its key."""
    created: int
    """When it was made, in seconds since 1970."""
    tags: list[str]
    """Its tags."""
    path: DataPath
    """Where it is."""

    def __hash__(self) -> int:
        return hash(self.path)


class DataPath(os.PathLike[str]):
    """A folder or a file in a workspace, such as ``epista://EXP-12/raw``."""

    def __init__(self, workspace: _session.Session | None, key: str) -> None:
        self._workspace = workspace
        self._key = PurePosixPath(key)

    @property
    def name(self) -> str:
        """The last segment."""
        return self._key.name

    @property
    def stem(self) -> str:
        """The last segment without its extension."""
        return self._key.stem

    @property
    def suffix(self) -> str:
        """The extension, with its dot."""
        return self._key.suffix

    @property
    def parent(self) -> DataPath:
        """The folder that it is in."""
        return DataPath(self._workspace, str(self._key.parent))

    def as_posix(self) -> str:
        """Return it as a URL, which `fsspec` and what builds on it take."""
        return f"epista://{self._text}"

    def exists(self) -> bool:
        """Whether there is anything."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether it is an asset."""
        return [one.key for one in self._level().assets[:1]] == [self._text]

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        level = self._level()
        return bool(level) and [one.key for one in level.assets[:1]] != [self._text]

    def iterdir(self) -> Iterator[DataPath]:
        """Yield what is directly in it."""
        level = self._level()
        for folder in level.folders:
            yield DataPath(self._here, folder.removesuffix("/"))
        for asset in level.assets:
            if asset.key != self._text:
                yield DataPath(self._here, asset.key)

    def glob(self, pattern: str) -> Iterator[DataPath]:
        """Yield the folders and files below it that fit *pattern*; ``**`` stands for any number of folders."""
        given = [part for part in pattern.split("/") if part]
        # One stands for several, which would be tried in all ways.
        parts = [part for part, before in zip(given, ["", *given], strict=False) if (part, before) != ("**", "**")]
        start = f"{self._text}/" if self._text else ""
        seen = set()
        for key in _assets.keys(self._here, start):
            segments = key.removeprefix(start).split("/")
            for end in range(1, len(segments) + 1):
                found = start + "/".join(segments[:end])
                if found not in seen and _fits(segments[:end], parts):
                    seen.add(found)
                    yield DataPath(self._here, found)

    def open(self, mode: str = "rb", *, encoding: str | None = None) -> Any:
        """Open it for reading; ``"r"`` as text, ``"rb"`` as bytes."""
        if mode not in ("r", "rt", "rb"):
            raise io.UnsupportedOperation(f"mode {mode!r}: it is opened for reading; ws.put writes")
        stream = objects.open(self._here, self._text)
        return stream if mode == "rb" else io.TextIOWrapper(stream, encoding=encoding or "utf-8")

    def read_bytes(self) -> bytes:
        """Return its bytes."""
        with self.open() as stream:
            found: bytes = stream.read()
            return found

    def read_text(self, encoding: str | None = None) -> str:
        """Return its text."""
        return self.read_bytes().decode(encoding or "utf-8")

    @property
    def _here(self) -> _session.Session:
        return self._workspace or current.current()

    def _level(self) -> _assets.Level:
        return _assets.ls(self._here, self._text)

    @property
    def _text(self) -> str:
        return "" if self._key == PurePosixPath(".") else str(self._key)

    def __truediv__(self, other: str | os.PathLike[str]) -> DataPath:
        return DataPath(self._workspace, str(self._key / os.fspath(other).strip("/")))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataPath):
            return NotImplemented
        return (self._key, _lab(self._workspace)) == (other._key, _lab(other._workspace))

    def __hash__(self) -> int:
        return hash(self._key)

    def __fspath__(self) -> str:
        return self.as_posix()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None, self._text)

    def __str__(self) -> str:
        return self.as_posix()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.as_posix()!r})"


class Ecephys:
    """What was sorted of a session."""

    def __init__(self, base: Session) -> None:
        self._base = base

    @property
    def sorted_data_assets(self) -> tuple[DataAsset, ...]:
        """All that was sorted, by the time in its label; may be empty."""
        found = self._base._experiment
        if found is None:
            return ()
        return tuple(_data_asset(self._base._here, one) for one in ecephys.Ecephys(found).sorted_data_assets)

    @property
    def sorted_data_asset(self) -> DataAsset:
        """
        The newest that was sorted.

        Raises:
            RoleNotFoundError: there is none; an AttributeError, too.
        """
        return _data_asset(self._base._here, ecephys.Ecephys(self._base._known).sorted_data_asset)

    @property
    def is_sorted(self) -> bool:
        """Whether anything was sorted."""
        return bool(self.sorted_data_assets)

    @property
    def sorter(self) -> Sorters:
        """What was sorted by which sorter: ``sorter.kilosort2_5.sorted_data_assets``."""
        return Sorters(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"


class Sorters:
    """What was sorted, by the name of the sorter."""

    def __init__(self, base: Ecephys) -> None:
        self._base = base

    @property
    def names(self) -> tuple[str, ...]:
        """The sorters there are."""
        return tuple(sorted({name for asset in self._base.sorted_data_assets if (name := sorter_name(asset)) is not None}))

    def __getattr__(self, name: str) -> Sorter:
        if name.startswith("_"):  # what Python and notebooks ask of any object
            raise AttributeError(name)
        return Sorter(self._base, name)

    def __dir__(self) -> list[str]:
        return ["names", *self.names]


class Sorter:
    """What one sorter made of a session."""

    def __init__(self, base: Ecephys, name: str) -> None:
        self._base = base
        self.name = name

    @property
    def sorted_data_assets(self) -> tuple[DataAsset, ...]:
        """What it sorted, by the time in its label; may be empty."""
        return tuple(asset for asset in self._base.sorted_data_assets if sorter_name(asset) == self.name)

    @property
    def is_sorted(self) -> bool:
        """Whether it sorted anything."""
        return bool(self.sorted_data_assets)


def sorter_name(asset: DataAsset) -> str | None:
    """Return the sorter that ``processing.json`` of a sorted folder names; None if it names none."""
    try:
        found = objects.deserialize(asset.path._here, (asset.path / "processing.json")._text)
    except NotFoundError:
        return None
    for step in _steps(found):
        code = step.get("code")
        for holder in (step, code if isinstance(code, dict) else {}):
            parameters = holder.get("parameters")
            if isinstance(parameters, dict) and isinstance(name := parameters.get("sorter_name"), str):
                return name
    return None


def register_namespace(name: str, cls: type = Session) -> Callable[[_C], _C]:
    """
    Add a namespace to sessions or, with ``cls=Subject``, to subjects: a decorator.

    Raises:
        ConflictError: *name* is an attribute of them already, or taken by another namespace.
    """
    for on, host in _HOSTS.items():
        if cls is host:
            return lambda given: namespaces.add(name, given, on=on)
    raise TypeError(f"namespaces are added to Session or Subject, not to {cls!r}")


class ExtensionBaseClass:
    """A namespace that keeps its host: ``self._base``, and ``self._session`` by its older name."""

    def __init__(self, base: Any) -> None:
        self._base = base

    @property
    def _session(self) -> Any:
        return self._base

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base!r})"


_HOSTS = {"aind session": Session, "aind subject": Subject}

for _on, _host in _HOSTS.items():
    namespaces.HOSTS[_on] = f"{_host.__module__}:{_host.__qualname__}"


def _parsed(given: str | os.PathLike[str] | Session | Experiment) -> Parsed:
    if isinstance(given, Session):
        return given._parsed
    if isinstance(given, Experiment):
        if given.parsed is None:
            raise UnrecognizedNameError(f"{given.name!r} names no session", hint="epista.naming.explain tells why")
        return given.parsed
    try:
        return naming.parse(given)
    except AmbiguousNameError as error:
        raise UnrecognizedNameError(error.message, hint="name one session", details=error.details) from error


def _workspace_of(given: object) -> _session.Session | None:
    if isinstance(given, Session):
        return given._workspace
    return given.workspace if isinstance(given, Experiment) else None


def _lab(workspace: _session.Session | None) -> tuple[str, str]:
    here = workspace or current.current()
    return here.location, here.name


def _data_asset(here: _session.Session, found: Folder | Asset) -> DataAsset:
    return DataAsset(
        id=found.id,
        name=found.name,
        created=int(found.created_at.timestamp()),
        tags=list(found.tags),
        path=DataPath(here, found.key),
    )


def _by_creation(here: _session.Session, found: list[Experiment]) -> tuple[DataAsset, ...]:
    members = {one.key: one for experiment in found for one in experiment.members}
    ordered = sorted(members.values(), key=lambda one: (one.created_at, one.key))
    return tuple(_data_asset(here, one) for one in ordered)


def _steps(found: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of spike sorting that a ``processing.json``, of any version of its schema, tells of."""
    if isinstance(found, list):
        for one in found:
            yield from _steps(one)
    elif isinstance(found, dict):
        if str(found.get("name", "")).startswith("Spike sorting"):
            yield found
        for inner in ("processing_pipeline", "data_processes"):
            yield from _steps(found.get(inner))


def _fits(segments: list[str], parts: list[str]) -> bool:
    if not parts:
        return not segments
    if parts[0] == "**":
        return any(_fits(segments[start:], parts[1:]) for start in range(len(segments) + 1))
    return bool(segments) and re.match(fnmatch.translate(parts[0]), segments[0]) is not None and _fits(segments[1:], parts[1:])
