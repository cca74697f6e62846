"""
Which serializers there are: ours, and those of plug-ins.

A dict by format name, one function that adds to it, and the entry point group ``epista.serializers``, loaded the first time a
format is asked for that nobody here knows. This module alone admits global state.
"""

from __future__ import annotations

import html
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from epista.contract import formats as contract
from epista.contract.errors import ConflictError, FormatError
from epista.serializers import arrow, bytes, csv, excel, fcs, figure, json, numpy, parquet, sequences, singlecell, text, tiff
from epista.serializers.serializer import Serializer, is_a

ENTRY_POINTS = "epista.serializers"
"""The entry point group of plug-ins."""

_modules = (csv, parquet, arrow, json, text, numpy, tiff, figure, excel, fcs, sequences, singlecell, bytes)
_by_name: dict[str, Serializer] = {serializer.name: serializer for module in _modules for serializer in module.SERIALIZERS}
_by_extension: dict[str, str] = {}
_loaded = False


def register_serializer(
    name: str,
    *,
    extensions: Iterable[str] = (),
    types: Iterable[str] = (),
    write: Callable[..., Any] | None = None,
    read: Callable[..., Any] | None = None,
    options: Iterable[str] = (),
    takes: str | None = None,
    requires: Iterable[str] = (),
    extra: str | None = None,
    source: str | None = None,
    override: bool = False,
) -> None:
    """
    Add a format of one's own, or a reader for one that Epista knows by name only.

    ``write(obj, **options)`` gives bytes, ``read(data, **options)`` an object; either may be missing. *types* are the classes
    that it writes, by dotted name (``anndata.AnnData``): nothing is imported to test an object. *requires* are the packages that
    must be installed, and *extra* the one of Epista's extras that brings them.

    Raises:
        ConflictError: the name or an extension is taken; ``override=True`` takes it over.
    """
    extensions = tuple(extension.lower().lstrip(".") for extension in extensions)
    names = tuple(types)
    if write is None and read is None:
        raise FormatError(f"serializer {name!r} neither writes nor reads")
    add(
        Serializer(
            name=name,
            takes=takes or ", ".join(names) or "nothing (it is only read)",
            accepts=lambda obj: write is not None and is_a(obj, names),
            write=write,
            read=read,
            options=tuple(options),
            extensions=extensions,
            requires=tuple(requires),
            extra=extra,
            source=source or (read or write).__module__.partition(".")[0],
        ),
        override=override,
    )


def add(serializer: Serializer, *, override: bool = False) -> None:
    """Add a serializer; a taken name or extension is refused unless *override*."""
    if not override:
        taken = [f"the name {serializer.name!r}"] if serializer.name in _by_name else []
        for extension in serializer.extensions:
            row = contract.of_key(f"x.{extension}")
            owner = _by_extension.get(extension) or (row.name if row and extension in row.extensions else None)
            # A known extension that nobody reads yet is free.
            if owner in _by_name and owner != serializer.name:
                taken.append(f"the extension .{extension} (of {owner})")
        if taken:
            raise ConflictError(f"taken: {', '.join(taken)}", hint="override=True takes it over")
    _by_name[serializer.name] = serializer
    _by_extension.update(dict.fromkeys(serializer.extensions, serializer.name))


def find(name: str) -> Serializer | None:
    """Return the serializer of a format, None if there is none."""
    if name not in _by_name:
        _load()
    return _by_name.get(name)


def format_of_key(key: str) -> str | None:
    """Return the format that the extension of *key* says, looking through ``.gz``; None if nobody knows it."""
    row = contract.of_key(key)
    if row is None or row.name == "gzip" or row.name not in _by_name:
        _load()
    name = key.rpartition("/")[2].lower()
    for inner in (*(name.removesuffix(end) for end in contract.GZIP_SUFFIXES if name.endswith(end)), name):
        # Longest first; ours wins over the contract's only where it is at least as long.
        ends = inner.split(".")[1:]
        for start in range(len(ends)):
            extension = ".".join(ends[start:])
            if extension in _by_extension:
                return _by_extension[extension]
            known = contract.of_key(f"x.{extension}")
            if known and extension in known.extensions:
                return known.name
    return None


def resolve(name: str) -> str:
    """
    Return the format that a person means by *name*: its name, or one of its extensions.

    Raises:
        FormatError: nobody knows it.
    """
    if find(name) or name in contract.BY_NAME:
        return name
    plain = name.lower().lstrip(".")
    if found := _by_extension.get(plain) or (format_of_key(f"x.{plain}") if plain else None):
        return found
    raise FormatError(f"no format is called {name!r}; formats: {', '.join(sorted(_by_name))}")


def fitting(obj: object) -> list[Serializer]:
    """Return the serializers that take *obj*, in the order of their names."""
    _load()
    return sorted((one for one in _by_name.values() if one.write and one.accepts(obj)), key=lambda one: one.name)


def extensions_of(serializer: Serializer) -> tuple[str, ...]:
    """Return the extensions of a format, without their leading dots."""
    known = contract.BY_NAME.get(serializer.name)
    return tuple(dict.fromkeys((*(known.extensions if known else ()), *serializer.extensions)))


class Row(NamedTuple):
    """One line of `formats`."""

    name: str
    """The format."""
    extensions: tuple[str, ...]
    """Its extensions, without their leading dots."""
    takes: str
    """What is written in it."""
    options: tuple[str, ...]
    """Its options."""
    installed: bool
    """Whether the packages it requires are there."""
    extra: str | None
    """The extra that brings them."""
    source: str
    """The package it comes from."""


class Rows(tuple[Row, ...]):
    """Lines of `formats`, shown as a table."""

    def _cells(self) -> Iterator[tuple[str, ...]]:
        yield ("format", "extensions", "takes", "options", "installed", "from")
        for row in self:
            missing = f'no: pip install "epista[{row.extra}]"' if row.extra else "no"
            extensions = " ".join(f".{extension}" for extension in row.extensions)
            yield (row.name, extensions, row.takes, " ".join(row.options), "yes" if row.installed else missing, row.source)

    def __repr__(self) -> str:
        lines = list(self._cells())
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def _repr_html_(self) -> str:
        lines = [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in self._cells()]
        return f"<table>{''.join(lines)}</table>"


def formats() -> Rows:
    """Return every format that can be written or read here, what it takes, and what is missing for it."""
    _load()
    return Rows(
        Row(
            name=one.name,
            extensions=extensions_of(one),
            takes=one.takes,
            options=one.options,
            installed=all(importlib.util.find_spec(package) for package in one.requires),
            extra=one.extra,
            source=one.source,
        )
        for _, one in sorted(_by_name.items())
    )


def _load() -> None:
    """Load plug-ins, once."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    load(entry_points(group=ENTRY_POINTS))


def load(points: Iterable[EntryPoint]) -> None:
    """
    Register what *points* name: a function that calls `register_serializer`, a dict of its arguments, or a `Serializer`.

    A broken plug-in is warned about and left out.
    """
    for point in points:
        try:
            found = point.load()
            if callable(found) and not isinstance(found, Serializer):
                found = found()
            if isinstance(found, Serializer):
                add(found)
            elif isinstance(found, dict):
                register_serializer(**{"source": point.dist.name if point.dist else None, **found})
        except Exception as error:  # noqa: BLE001 - a plug-in is foreign code, and must not take Epista with it
            warnings.warn(f"the plug-in {point.name} ({point.value}) is left out: {error!r}", RuntimeWarning, stacklevel=2)
