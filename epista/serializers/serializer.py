"""
What a serializer is: one format, both directions.

The registry holds these; each format's module makes its own. Nothing here imports what it describes: objects are recognised
by the dotted names of their classes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from epista.contract.errors import FormatError, MissingExtraError

Options = Mapping[str, Any]


class Written(NamedTuple):
    """What a serializer made of an object, where there is more to say than bytes."""

    data: bytes
    """The file."""
    options: dict[str, Any]
    """What must be known to read it back; JSON, recorded with the version."""
    kind: str | None = None
    """A hint at the asset's kind, where the object says more than its format."""


@dataclass(frozen=True, kw_only=True)
class Serializer:
    """One format: which objects it takes, how they become bytes, and how bytes become an object."""

    name: str
    """The format's name, as recorded with every version."""
    takes: str
    """What it takes, in words, for messages."""
    accepts: Callable[[object], bool]
    """Whether it takes this object, as far as the object's type tells; `write` may still refuse."""
    write: Callable[..., bytes | Written] | None = None
    """``write(obj, **options)``; None where a format is only read."""
    read: Callable[..., object] | None = None
    """``read(data, **options)``; a `table` serializer is also told ``as_type``."""
    options: tuple[str, ...] = ()
    """The names of options that both directions take."""
    check: Callable[[Options], dict[str, Any]] = dict
    """Checks the values of options and returns them as JSON."""
    extensions: tuple[str, ...] = ()
    """Extensions beyond those of `epista.contract.formats`, without the leading dot, lower case."""
    table: bool = False
    """Whether `read` gives a table, whose class the caller may choose."""
    requires: tuple[str, ...] = ()
    """Packages that must be there, by the names they are imported under."""
    extra: str | None = None
    """The extra that brings them."""
    source: str = "epista"
    """The package it comes from."""


def is_a(obj: object, names: Iterable[str]) -> bool:
    """
    Whether *obj* is of a class with one of these dotted *names*, without importing anything.

    A class is known by the path under which it is public (``pandas.DataFrame``) as well as by the one where it is defined
    (``pandas.core.frame.DataFrame``); subclasses count.
    """
    return any(_is_class(cls, name) for name in names for cls in type(obj).__mro__)


def _is_class(cls: type, name: str) -> bool:
    module, _, qualname = name.rpartition(".")
    if cls.__qualname__ == qualname and (cls.__module__ == module or cls.__module__.startswith(module + ".")):
        return True
    # Classes of compiled packages may claim another module; who holds such an object has imported the public one.
    loaded = sys.modules.get(module)
    return loaded is not None and vars(loaded).get(qualname) is cls


def require(module: str, install: str) -> ModuleType:
    """
    Import an optional package.

    Raises:
        MissingExtraError: it is not installed; *install* is what pip takes, such as ``epista[excel]``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"the package {package!r} is not installed", hint=f'pip install "{install}"', details={"package": package}
        ) from error


def check_names(format_name: str, known: Iterable[str], options: Options) -> None:
    """Refuse options that nobody knows, naming those that are known."""
    known = sorted(known)
    if unknown := sorted(str(name) for name in options if name not in known):
        raise FormatError(
            f"unknown option{'s' if len(unknown) > 1 else ''} for {format_name}: {', '.join(unknown)}; "
            f"known: {', '.join(known) or 'none'}"
        )


def positive_numbers(options: Options) -> dict[str, Any]:
    """Check options that are all positive numbers."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise FormatError(f"option {name}={value!r}: a positive number is needed")
    return dict(options)
