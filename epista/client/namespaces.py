"""
Namespaces: groups of verbs on a workspace, an experiment or an asset, such as ``ws.flow``; ours, and those of plug-ins.

Each is an attribute of its host's class that builds the namespace when it is first used, with the host as only argument: whatever
a namespace does, it does as the host, and it is given no credential. This module alone admits global state.
"""

from __future__ import annotations

import keyword
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

from epista.client import listings
from epista.contract.errors import ConflictError, InvalidRequestError, NamespaceError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "epista.namespaces"
"""The entry point group of plug-ins; its names read ``workspace.flow`` or ``experiment.ecephys``."""

OURS = {
    "workspace.array": "epista.client.arrays:Arrays",
    "workspace.flow": "epista.client.flow:Flow",
    "workspace.image": "epista.client.image:Images",
    "workspace.instruments": "epista.client.instruments:Instruments",
    "workspace.sequence": "epista.client.sequence:Sequence",
    "experiment.metadata": "epista.client.side_files:Metadata",
    "experiment.ecephys": "epista.client.ecephys:Ecephys",
}
"""What Epista brings: the host and the name, and where its class is, as in an entry point."""

On = Literal["workspace", "experiment", "asset"]

HOSTS = {
    "workspace": "epista.client.workspace:Workspace",
    "experiment": "epista.client.experiments:Experiment",
    "asset": "epista.client.assets:Asset",
}
"""What has namespaces, and where its class is."""

_C = TypeVar("_C", bound=Callable[..., Any])

_US = "epista"

_lock = threading.RLock()
_discovered = False
_left_out: list[Row] = []


class Row(NamedTuple):
    """One line of `namespaces`."""

    name: str
    """What it is called."""
    host: str
    """What it is an attribute of: ``workspace``, ``experiment`` or ``asset``."""
    source: str
    """The package or module it comes from."""
    state: str
    """``loaded``, ``not loaded yet``, or why it is left out."""


class Rows(tuple[Row, ...]):
    """Lines of `namespaces`, shown as a table."""

    def __repr__(self) -> str:
        return listings.text_table(Row._fields, self)

    def _repr_html_(self) -> str:
        return listings.html_table(Row._fields, self)


class Namespace:
    """The attribute of a host's class: it loads the namespace's class, and builds the namespace, when it is first used."""

    def __init__(self, name: str, on: str, target: str, source: str, load: Callable[[], Callable[..., Any]]) -> None:
        self.name = name
        self.on = on
        self.target = target
        """Its class, as ``module:name``."""
        self.source = source
        self.fault: str | None = None
        """Why it cannot be loaded, if it cannot."""
        self.is_loading = False
        self._load = load
        self._cls: Callable[..., Any] | None = None
        self._lock = threading.RLock()

    @property
    def state(self) -> str:
        """What `namespaces` says of it."""
        return self.fault or ("not loaded yet" if self._cls is None else "loaded")

    def __get__(self, host: Any, owner: type) -> Any:
        if host is None:
            return self
        cls = self._loaded()
        if cls is None:
            raise AttributeError(f"the namespace {self.name!r} is left out: {self.fault}", name=self.name, obj=host)
        built = _kept(host).setdefault(self.name, _Built())
        with built.lock:
            if built.by is not self:
                if built.is_building:
                    raise NamespaceError(f"the namespace {self.name!r} asks for itself while it is made")
                if not self._applies(cls, host):
                    raise AttributeError(f"this {self.on} has no namespace {self.name!r}", name=self.name, obj=host)
                built.is_building = True
                try:
                    built.namespace = self._guarded(cls, host)
                finally:
                    built.is_building = False
                built.by = self
            return built.namespace

    def is_on(self, host: Any) -> bool:
        """Tell whether *host* has it, as far as that can be told without loading it."""
        try:
            return self.fault is None and (self._cls is None or self._applies(self._cls, host))
        except Exception:  # noqa: BLE001 - whoever asks for a list of names is not the one to be told
            return False

    def _applies(self, cls: Callable[..., Any], host: Any) -> bool:
        applies = getattr(cls, "applies", None)
        return applies is None or bool(self._guarded(applies, host))

    def _guarded(self, call: Callable[..., Any], host: Any) -> Any:
        try:
            return call(host)
        except AttributeError as error:
            # It would pass for "there is no such namespace", which getattr and hasattr take for an answer.
            raise NamespaceError(
                f"the namespace {self.name!r} cannot be made: AttributeError: {error}",
                hint=f"this is a fault in {self.source}",
                details={"namespace": self.name, "source": self.source},
            ) from error

    def _loaded(self) -> Callable[..., Any] | None:
        with self._lock:
            if self._cls is None and self.fault is None:
                self.is_loading = True
                try:
                    self._cls = self._load()
                    if not callable(self._cls):
                        raise TypeError(f"{self.target} is no class")
                except Exception as error:
                    if self.source == _US:  # such as an extra that is not installed
                        raise
                    # A plug-in is foreign code, and must not take Epista with it.
                    self._cls, self.fault = None, f"{type(error).__name__}: {error}"
                    _warn(self.name, self.source, self.fault)
                finally:
                    self.is_loading = False
            return self._cls


class _Built:
    """The place of one namespace of one host."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_building = False
        self.by: Namespace | None = None
        self.namespace: Any = None


class _Kept(dict[str, _Built]):
    """The namespaces of one host."""

    def __init__(self, host: Any) -> None:
        super().__init__()
        self.host = host


@overload
def register_namespace(name: str, cls: _C, *, on: On = "workspace", override: bool = False) -> _C: ...
@overload
def register_namespace(name: str, cls: None = None, *, on: On = "workspace", override: bool = False) -> Callable[[_C], _C]: ...
def register_namespace(
    name: str, cls: _C | None = None, *, on: On = "workspace", override: bool = False
) -> _C | Callable[[_C], _C]:
    """
    Make *cls* the attribute *name* of every workspace, experiment or asset; without *cls*, a decorator.

    ``cls(host)`` is called when the attribute is first used, and what it gives is kept. ``cls.applies(host)``, if it is defined,
    says whether that host has it. The same class again, such as that of a notebook's cell that runs twice, replaces itself.

    Raises:
        InvalidRequestError: *name* is no public identifier, or *on* no host.
        ConflictError: *name* is an attribute of the host, or taken by another namespace; ``override=True`` takes the latter over.
    """
    if cls is None:
        return lambda given: register_namespace(name, given, on=on, override=override)
    return add(name, cls, on=on, override=override)


def add(name: str, cls: _C, *, on: str, override: bool = False) -> _C:
    """Make *cls* the attribute *name* of a host, which may be one of a layer above; see `register_namespace`."""
    if not callable(cls):
        raise InvalidRequestError(f"a namespace is a class that takes its host, not {type(cls).__name__}")
    discover()
    target = f"{cls.__module__}:{getattr(cls, '__qualname__', type(cls).__qualname__)}"
    made = Namespace(name, on, target, cls.__module__.partition(".")[0], lambda: cls)
    made._loaded()
    with _lock:
        _put(made, override=override)
    return cls


def namespaces() -> Rows:
    """List every namespace: what it is called, on what, where it comes from, and whether it is loaded."""
    discover()
    with _lock:
        found = [
            Row(one.name, on, one.source, one.state)
            for on in HOSTS
            for one in vars(_class(on)).values()
            if isinstance(one, Namespace)
        ]
        return Rows(sorted([*found, *_left_out], key=lambda row: (list(HOSTS).index(row.host) if row.host in HOSTS else 9, row)))


def discover() -> None:
    """Make ours, and what plug-ins name, attributes of their hosts, once; nothing of them is imported."""
    global _discovered
    with _lock:
        if _discovered:
            return
        _discovered = True
        for place, target in OURS.items():
            on, _, name = place.partition(".")
            _put(Namespace(name, on, target, _US, partial(_named, target)), override=False)
        # Not earlier, for it is slow to import.
        from importlib.metadata import entry_points

        load(sorted(entry_points(group=ENTRY_POINTS), key=_source))


def load(points: Iterable[EntryPoint]) -> None:
    """Make what *points* name attributes of their hosts. A broken one is warned about and left out."""
    refused = []
    for point in points:
        on, _, name = point.name.partition(".")
        source = _source(point)
        try:
            with _lock:
                _put(Namespace(name, on, point.value.replace(" ", ""), source, point.load), override=False)
        except (ConflictError, InvalidRequestError) as error:
            refused.append(Row(name or point.name, on, source, error.message))
    _left_out.extend(refused)
    # At last, for a warning may be made an error, and the others are there all the same.
    for row in refused:
        _warn(row.name, row.source, row.state)


def names(host: Any, every: Iterable[str]) -> Iterator[str]:
    """Yield what ``dir()`` says of *host*: the attributes *every* without the namespaces that it has not."""
    for name in every:
        found = getattr(type(host), name, None)
        if not isinstance(found, Namespace) or found.is_on(host):
            yield name


def _put(new: Namespace, *, override: bool) -> None:
    _check(new.name, new.on)
    cls = _class(new.on)
    old = vars(cls).get(new.name)
    if isinstance(old, Namespace):
        if old.is_loading:  # a plug-in that names its class in an entry point, and registers it too
            return
        if old.target != new.target and not override:
            raise ConflictError(
                f"the namespace {new.name!r} of {_a(new.on)} is taken, by {old.source}", hint="override=True takes it over"
            )
    elif new.name in {*dir(cls), *(name for one in cls.__mro__ for name in vars(one).get("__annotations__", ()))}:
        raise ConflictError(
            f"{new.name!r} is an attribute of every {new.on}, which no namespace replaces", hint="choose another name"
        )
    setattr(cls, new.name, new)


def _check(name: str, on: str) -> None:
    if on not in HOSTS:
        raise InvalidRequestError(f"{on!r} has no namespaces; these have: {', '.join(HOSTS)}")
    is_name = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    if not is_name or name.startswith("_"):
        raise InvalidRequestError(f"{name!r} is no name for a namespace: it is used as in {on}.flow, and begins with a letter")


def _class(on: str) -> type:
    found: type = _named(HOSTS[on])
    return found


def _named(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def _kept(host: Any) -> _Kept:
    attributes = vars(host)
    kept = attributes.get("_namespaces")
    # A copy of a host, with all its attributes, is another host.
    if kept is None or kept.host is not host:
        with _lock:
            kept = attributes.get("_namespaces")
            if kept is None or kept.host is not host:
                kept = attributes["_namespaces"] = _Kept(host)
    found: _Kept = kept
    return found


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.module.partition(".")[0]


def _warn(name: str, source: str, fault: str) -> None:
    warnings.warn(f"the namespace {name} of {source} is left out: {fault}", RuntimeWarning, stacklevel=3)


def _a(on: str) -> str:
    return f"an {on}" if on[0] in "ae" else f"a {on}"
