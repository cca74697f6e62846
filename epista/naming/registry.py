"""
Which conventions there are, and what they make of a text.

The packaged ones in a fixed order, those of plug-ins (entry point group ``epista.conventions``, loaded when the first text is
read) and those that a program registers. This module alone admits global state.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple, TypeVar

from epista.contract.errors import (
    AmbiguousNameError,
    ConflictError,
    NotFoundError,
    UnrecognizedNameError,
    ValidationError,
)
from epista.naming import aibs, aind, bids, mindscope
from epista.naming.declared import Declared, declaration
from epista.naming.parsed import READ, WRITTEN, Convention, Parsed, Recording, Refused, recording_of

ENTRY_POINTS = "epista.conventions"
"""The entry point group of plug-ins."""

MAX_COMPONENT = 1024
"""No key is longer, so no component of one is."""

PACKAGED: Mapping[str, Convention] = {
    "aibs-lims": aibs.LIMS,
    "aind-platform": aind.PLATFORM,
    "aind-underscore-datetime": aind.UNDERSCORE,
    "aind-subject": aind.SUBJECT,
    "aind-subject-iso": aind.SUBJECT_ISO,
    "mindscope": mindscope.MINDSCOPE,
    "bids": bids.BIDS,
}
"""The packaged conventions, in the order in which they are asked."""

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
"""What a convention may be called."""

Text = str | os.PathLike[str]
T = TypeVar("T")

_parts = re.compile(r"[^/\\]+")
_LETTERS = r"\d\u00c0-\u024f\u1e00-\u1eff\u0300-\u036f"
"""
Digits of all scripts, Latin letters with marks, and the marks: prose is not cut there, or a part of a word would be a name.

Letters of other scripts cut: some are written without blanks.
"""
_registered: dict[str, Convention] = {}
_loaded = False
_current: Conventions | None = None


class Reading(NamedTuple):
    """What one convention makes of a text."""

    convention: str
    """Which."""
    parsed: Parsed | None
    """Its reading."""
    reason: str | None
    """Why it refused, if it did."""
    at: int | None
    """From which character of the text on, counted from 0."""


class Explanation(tuple[Reading, ...]):
    """What every convention makes of a text, in the order in which they are asked; shown as a table."""

    def __str__(self) -> str:
        width = max((len(row.convention) for row in self), default=0)
        return "\n".join(
            f"{row.convention:<{width}}  "
            + (f"{row.parsed.canonical} ({row.parsed.kind})" if row.parsed else f"{row.reason}, at {row.at}")
            for row in self
        )

    __repr__ = __str__


class Conventions:
    """An ordered set of conventions: whoever accepts a component first has read it."""

    def __init__(self, conventions: Mapping[str, Convention]) -> None:
        self._conventions = dict(conventions)
        extra = {
            character
            for one in self._conventions.values()
            for character in getattr(one, "characters", "")
            # Cutting prose at blanks would be no use if a name could hold one.
            if not character.isspace()
        }
        held = re.escape("".join(sorted(extra)))
        # A colon stands between digits, in the time of MindScope, and after the scheme of a URL.
        self._chunks = re.compile(rf"(?:[A-Za-z0-9_.\-/\\{_LETTERS}{held}]|(?<=[0-9]):(?=[0-9])|:(?=[/\\]))+")

    def __iter__(self) -> Iterator[str]:
        return iter(self._conventions)

    def __getitem__(self, name: str) -> Convention:
        if name not in self._conventions:
            raise missing(name, self._conventions)
        return self._conventions[name]

    def parse(self, text: Text, *, convention: str | None = None, first: bool = False) -> Parsed:
        """
        Read the one recording that a name or a path names.

        The text is cut at ``/`` and ``\\``; a component is read whole or not at all. Where several name the same recording, the
        deepest is returned. *convention* asks that one only; *first* takes the first recording of several.

        Raises:
            UnrecognizedNameError: no convention reads any component; ``details["reasons"]`` says why, by convention.
            AmbiguousNameError: several recordings are named; ``details["candidates"]`` lists them.
        """
        text = os.fspath(text)
        asked = self._asked(convention)
        found: dict[Recording, Parsed] = {}
        for part in _parts.finditer(text):
            if parsed := _read(asked, part.group(), part.start()):
                found[parsed.recording] = parsed
        if not found:
            raise _unrecognized(text, self._explain(asked, text))
        if len(found) > 1 and not first:
            names = [parsed.canonical for parsed in found.values()]
            raise AmbiguousNameError(
                f"two recordings in {_short(text)}: {names[0]!r} and {names[1]!r}",
                hint="first=True takes the first of them",
                details={"candidates": names},
            )
        return next(iter(found.values()))

    def read(self, component: str) -> Parsed | None:
        """Read one component, whole; None if no convention does."""
        return _read(self._conventions, component, 0)

    def find_all(self, text_or_paths: Text | Iterable[Text]) -> list[Parsed]:
        """
        Find every recording named in a text, or in paths; what is not recognised is left out.

        A text is cut at characters that no name holds, and final punctuation is stripped; a path, or one of several, only at
        its slashes. Of the components of one path that name the same recording, the deepest counts.
        """
        if isinstance(text_or_paths, str):
            chunks = [(chunk.group(), chunk.start()) for chunk in self._chunks.finditer(text_or_paths)]
        elif isinstance(text_or_paths, os.PathLike):
            chunks = [(os.fspath(text_or_paths), 0)]
        else:
            paths = [os.fspath(path) for path in text_or_paths]
            chunks = [(path.strip(), len(path) - len(path.lstrip())) for path in paths]
        results: list[Parsed] = []
        for chunk, start in chunks:
            found: dict[Recording, Parsed] = {}
            for part in _parts.finditer(chunk):
                component = part.group()
                if isinstance(text_or_paths, str):
                    component = component.lstrip(".:-").rstrip(".:")
                at = start + part.start() + part.group().index(component)
                parsed = _read(self._conventions, component, at) if component else None
                if parsed is None and component.endswith("-"):
                    # A token may end in a hyphen; else it was a dash.
                    parsed = _read(self._conventions, component.rstrip("-"), at)
                if parsed is not None:
                    found[parsed.recording] = parsed
            results.extend(found.values())
        return results

    def explain(self, text: Text) -> Explanation:
        """Tell what every convention makes of a text: its reading, or why it refused and where."""
        return self._explain(self._conventions, os.fspath(text))

    def format(self, fields: Parsed | Mapping[str, Any], convention: str | None = None) -> str:
        """
        Write the canonical name.

        *convention* is the one that read it, or for plain fields the first that can hold them all. With another, what that one
        does not write (a platform, say) is left out, as long as the name still tells of the same recording.

        Raises:
            ValidationError: the convention cannot hold these fields.
        """
        if isinstance(fields, Parsed):
            if convention is None or convention == fields.convention:
                return fields.canonical
            written = self._write(convention, fields.fields)
            again = _read(self._asked(convention), written, 0)
            if again is None or again.recording != fields.recording:
                raise _unwritable(convention, [f"{written!r} would tell of another recording"])
            return written
        given = _plain(fields)
        tried = [convention] if convention is not None else list(self)
        reasons: list[str] = []
        for name in tried:
            try:
                written = self._write(name, given)
            except ValidationError as error:
                reasons.append(f"{name}: {error.message}")
                continue
            again = _read(self._asked(name), written, 0)
            lost = [key for key, value in given.items() if again is None or getattr(again, key) != value]
            if again is not None and not lost:
                return written
            reasons.append(f"{name}: it cannot hold {', '.join(lost)}" if lost else f"{name}: {written!r} does not read back")
        raise _unwritable(convention, reasons)

    def _write(self, name: str, fields: Mapping[str, Any]) -> str:
        try:
            return self[name].format(fields)
        except (ValueError, TypeError, LookupError) as error:
            if isinstance(error, NotFoundError):
                raise
            raise ValidationError(f"{name} cannot write this: {error}") from error

    def _asked(self, convention: str | None) -> Mapping[str, Convention]:
        return self._conventions if convention is None else {convention: self[convention]}

    def _explain(self, asked: Mapping[str, Convention], text: str) -> Explanation:
        parts = list(_parts.finditer(text))
        return Explanation(_reading(name, one, parts) for name, one in asked.items())


def missing(name: str, known: Iterable[str]) -> NotFoundError:
    """Return the error for a convention that is not there."""
    return NotFoundError(f"no convention is called {name!r}; there are: {', '.join(known) or 'none'}")


def register_convention(name: str, convention: Any = None, *, override: bool = False) -> Any:
    """
    Add a convention of one's own: an object or a class with ``parse(component)`` and ``format(fields)``, or its declaration.

    A declaration is a mapping, or the text of a TOML document, as in the guide. What is registered is asked before the packaged
    conventions, in the order of registration. Without *convention* this is a decorator. The same class again, as when a cell is
    run twice, replaces itself.

    Raises:
        ConflictError: the name is taken; ``override=True`` takes it over.
        ValidationError: the name or the declaration breaks a rule; lists every violation.
    """
    if convention is None:

        def decorate(cls: T) -> T:
            register_convention(name, cls, override=override)
            return cls

        return decorate
    if not NAME.fullmatch(name) or len(name) > 64:
        raise ValidationError(f"{name!r} is no name for a convention; lower-case letters, digits and single hyphens")
    _load()
    if not override and name in (known := {**PACKAGED, **_registered}) and not _same(known[name], convention):
        raise ConflictError(f"a convention {name!r} exists already", hint="override=True takes it over")
    global _current
    _registered[name], _current = _made(name, convention), None
    return convention


def registered() -> dict[str, Convention]:
    """Return the conventions of plug-ins and of this program, without the packaged ones."""
    _load()
    return dict(_registered)


def conventions(own: Mapping[str, Any] | None = None) -> Conventions:
    """
    Return all conventions in the order in which they are asked: *own* (a workspace's), registered ones, the packaged.

    *own* maps names to conventions or declarations, as `register_convention` takes them.
    """
    made = {name: _made(name, convention) for name, convention in (own or {}).items()}
    asked: dict[str, Convention] = {}
    for group in (made, registered(), PACKAGED):
        for name, convention in group.items():
            asked.setdefault(name, convention)
    return Conventions(asked)


def current() -> Conventions:
    """Return what a program knows without a workspace; the same object until something is registered."""
    global _current
    if _current is None:
        _current = conventions()
    return _current


def load(points: Iterable[EntryPoint]) -> None:
    """Register what *points* name, each under its own name; a broken plug-in is warned about and left out."""
    for point in points:
        try:
            found = point.load()
            if not NAME.fullmatch(point.name) or point.name in PACKAGED or point.name in _registered:
                raise ConflictError(f"the name {point.name!r} is taken, or no name for a convention")
            _registered[point.name] = _made(point.name, found)
        except Exception as error:  # noqa: BLE001 - a plug-in is foreign code, and must not take Epista with it
            warnings.warn(f"the plug-in {point.name} ({point.value}) is left out: {error!r}", RuntimeWarning, stacklevel=2)


def _load() -> None:
    """Load plug-ins, once."""
    global _loaded
    if not _loaded:
        _loaded = True
        load(entry_points(group=ENTRY_POINTS))


def _made(name: str, convention: Any) -> Convention:
    """Make a convention of what was given: a declaration, a class or an object."""
    if isinstance(convention, str | Mapping):
        return Declared(declaration(convention))
    made = convention() if isinstance(convention, type) else convention
    if not callable(getattr(made, "parse", None)) or not callable(getattr(made, "format", None)):
        raise ValidationError(f"the convention {name!r} has no parse(component) and format(fields)")
    return made  # type: ignore[no-any-return]


def _same(known: Convention, convention: Any) -> bool:
    """Tell whether this is the class that is registered already, made anew."""
    cls, old = convention if isinstance(convention, type) else type(convention), type(known)
    if isinstance(known, Declared):
        return isinstance(convention, str | Mapping) and known.declared == declaration(convention)
    return (cls.__module__, cls.__qualname__) == (old.__module__, old.__qualname__)


def _read(asked: Mapping[str, Convention], component: str, start: int) -> Parsed | None:
    if len(component) > MAX_COMPONENT:
        return None
    for name, convention in asked.items():
        try:
            return _parsed(name, convention, component, start)
        except ValueError:
            continue
        except Exception:  # noqa: BLE001, S112 - a convention may be foreign code; `explain` shows what it raised
            continue
    return None


def _parsed(name: str, convention: Convention, component: str, start: int) -> Parsed:
    """Ask one convention; add to its fields what follows from them."""
    found = convention.parse(component)
    if found is None or not READ.issuperset(found):
        raise Refused("it gave no fields, or one that nobody knows")
    fields = dict(found)
    label = fields.get("label")
    if "canonical" not in fields:
        fields["canonical"] = convention.format(fields)
    if label is not None and "parent" not in fields:
        *earlier, last = fields.get("earlier") or ((None, None),)
        less = {"label": last[0], "label_time": last[1], "earlier": tuple(earlier), "extension": None}
        try:
            fields["parent"] = convention.format({**fields, **less})
        except (ValueError, LookupError):
            # Without its label it would be no name of this convention.
            fields["parent"] = None
    if "date" not in fields and (started := fields.get("started")) is not None:
        fields["date"] = started.date()
    if "kind" not in fields:
        fields["kind"] = "raw" if label is None or label.casefold() == "raw" else "derived"
    if "recording" not in fields:
        whole = fields.get("parent") or fields["canonical"].removesuffix(fields.get("extension") or "")
        if label is not None and fields["parent"] is None:
            whole = "_".join(value for _, value in fields.get("tokens") or ()) or whole
        fields["recording"] = recording_of(fields, (name, whole))
    return Parsed(convention=name, text=component, span=(start, start + len(component)), **fields)


def _reading(name: str, convention: Convention, parts: list[re.Match[str]]) -> Reading:
    found: dict[Recording, Parsed] = {}
    reason, at, furthest = "there is nothing to read", 0, -1
    for part in parts:
        if len(part.group()) > MAX_COMPONENT:
            why, place = f"it is longer than {MAX_COMPONENT} characters", 0
        else:
            try:
                parsed = _parsed(name, convention, part.group(), part.start())
            except Refused as refused:
                why, place = refused.reason, refused.at
            except ValueError as error:
                why, place = str(error), 0
            except Exception as error:  # noqa: BLE001 - a convention may be foreign code
                why, place = f"it failed: {error!r}", 0
            else:
                found[parsed.recording] = parsed
                continue
        if place >= furthest:
            reason, at, furthest = why, min(part.start() + place, part.end()), place
    if len(found) == 1:
        return Reading(name, next(iter(found.values())), None, None)
    if found:
        places = [parsed.span[0] for parsed in found.values()]
        return Reading(name, None, f"it reads {len(found)} recordings", places[1])
    return Reading(name, None, reason, at)


def _unrecognized(text: str, readings: Explanation) -> UnrecognizedNameError:
    furthest = max(readings, key=lambda row: row.at or 0)
    return UnrecognizedNameError(
        f"{_short(text)} is no name of a recording; {furthest.convention}: {furthest.reason}, at {furthest.at}",
        hint="epista.naming.explain tells why each convention refused",
        details={"reasons": {row.convention: row.reason for row in readings}},
    )


def _unwritable(convention: str | None, reasons: list[str]) -> ValidationError:
    violations = [{"path": "", "message": reason, "rule": "convention"} for reason in reasons]
    what = f"{convention} cannot hold these fields" if convention else "no convention can hold these fields"
    return ValidationError(f"{what}; {'; '.join(reasons)}", details={"violations": violations})


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are set, as `Parsed` would hold them."""
    if unknown := sorted(set(fields) - set(WRITTEN)):
        raise ValidationError(f"no field is called {unknown[0]!r}; there are: {', '.join(WRITTEN)}")
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    for name in ("subject_id", "lims_id"):
        if isinstance(given.get(name), int):
            given[name] = str(given[name])
    if "tokens" in given:
        given["tokens"] = tuple((name, str(value)) for name, value in dict(given["tokens"]).items())
    if "earlier" in given:
        given["earlier"] = tuple((label, time) for label, time in given["earlier"])
    return given


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
