"""
From an object to bytes and back, by a key's extension and an object's type.

The one place that decides which serializer is asked, wraps gzip around it, and lets only Epista's own errors out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from epista.contract import formats as contract
from epista.contract.errors import EpistaError, FormatError, UnreadableError
from epista.contract.keys import name_of
from epista.serializers import registry, tables, wrapping
from epista.serializers.bytes import is_bytes
from epista.serializers.bytes import write as as_bytes
from epista.serializers.serializer import Serializer, Written, check_names


class Serialized(NamedTuple):
    """An object as it is stored."""

    data: bytes
    """The file."""
    format: str
    """The format's name."""
    options: dict[str, Any]
    """Recorded with the version, so that the object comes back without being told again; JSON."""
    kind: str | None
    """``FIGURE`` for a figure, else None: the format says."""


def serialize(key: str, obj: object, *, format: str | None = None, options: Mapping[str, Any] | None = None) -> Serialized:
    """
    Make the bytes that are stored at *key* for *obj*.

    The extension of *key* says the format; *format* may, where the extension is unknown. Bytes are stored as they are. The same
    object gives the same bytes, except in ``.xlsx``.

    Raises:
        FormatError: the object does not fit the format, no format is known, or an option is wrong.
        ValidationError: a value inside the object is no JSON, with its path.
        MissingExtraError: the format needs a package that is not installed.
    """
    name = _format_to_write(key, format)
    if is_bytes(obj):
        name = name or contract.UNKNOWN.name
        kind = "FIGURE" if name == "svg" else None
        return Serialized(as_bytes(obj), name, check_options(name, options or {}), kind)
    if name is None:
        raise FormatError(
            f"the extension of {name_of(key)!r} says no format; {_what_fits(obj)}", hint="add an extension, or say format="
        )
    serializer = registry.find(name)
    if serializer is None or serializer.write is None or not serializer.accepts(obj):
        takes = f"takes {serializer.takes}" if serializer else "has no writer here"
        raise FormatError(f"a {_type_name(obj)} does not fit {name_of(key)!r}: {name} {takes}; {_what_fits(obj)}")
    given = check_options(name, options or {})
    try:
        made = serializer.write(obj, **given)
    except (EpistaError, MemoryError):
        raise
    except Exception as error:
        # A boundary: writers of other libraries, and of plug-ins, may raise anything.
        raise FormatError(f"a {_type_name(obj)} could not be written as {name}: {error}") from error
    written = made if isinstance(made, Written) else Written(bytes(made), dict(given))
    data = written.data
    if is_wrapped(key, name):
        data = wrapping.wrap(data, blocks=key.lower().endswith(".bgz"))
    return Serialized(data, name, written.options, "FIGURE" if name == "svg" else written.kind)


def deserialize(
    key: str,
    data: bytes,
    *,
    format: str | None = None,
    recorded_format: str | None = None,
    recorded_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    as_type: str | None = None,
) -> object:
    """
    Make the object that *data* at *key* is.

    *format* decides, then what was recorded, then the extension. Recorded options apply to the recorded format, *options* win
    over them; the types of single columns are merged. *as_type* (``pandas``, ``arrow``, ``polars``) is the class of a table.

    Raises:
        UnreadableError: the bytes are not what their format says.
        FormatError: there is no reader, or an option is wrong.
        MissingExtraError: the format needs a package that is not installed.
    """
    serializer = reader_for(key, format=format, recorded_format=recorded_format)
    if serializer is None or serializer.read is None:
        name = format or recorded_format or registry.format_of_key(key)
        what = f"there is no reader for {name}" if name else "its extension says no format"
        raise FormatError(f"{name_of(key)!r}: {what}", hint="read it with format='bytes', or say another format=")
    recorded = dict(recorded_options or {}) if serializer.name == recorded_format else {}
    # What a newer version recorded, and this one does not know, is no fault of the reader.
    given = {name: value for name, value in recorded.items() if name in serializer.options}
    for name, value in check_options(serializer.name, options or {}).items():
        both = isinstance(value, dict) and isinstance(given.get(name), dict)
        given[name] = {**given[name], **value} if both else value
    if serializer.table:
        if as_type not in (None, *tables.CLASSES):
            raise FormatError(f"as_type={as_type!r}: one of {', '.join(tables.CLASSES)} is needed")
        given["as_type"] = as_type or "pandas"
    elif as_type is not None:
        raise FormatError(f"as_type= chooses the class of a table; {name_of(key)!r} is {serializer.name}")
    try:
        return serializer.read(wrapping.unwrap(data) if is_wrapped(key, serializer.name) else data, **given)
    except UnreadableError as error:
        message = f"{key!r} is no readable {serializer.name}: {error.message}"
        raise UnreadableError(message, hint=error.hint, details=error.details) from error
    except EpistaError as error:
        error.message = f"{key!r}: {error.message}"
        raise
    except MemoryError:
        raise
    except Exception as error:
        # A boundary: parsers of other libraries raise anything over bytes they do not expect.
        raise UnreadableError(f"{key!r} is no readable {serializer.name}: {error}") from error


def reader_for(key: str, *, format: str | None = None, recorded_format: str | None = None) -> Serializer | None:
    """Return what would read *key*, None if nothing does, so that a folder can be judged before its bytes move."""
    name = registry.resolve(format) if format else recorded_format or registry.format_of_key(key)
    serializer = registry.find(name) if name else None
    return serializer if serializer and serializer.read else None


def check_options(format_name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check the options of a format, and return them as they are recorded: as JSON.

    Raises:
        FormatError: an option that the format does not know, or a value that it cannot use.
    """
    serializer = registry.find(format_name)
    check_names(format_name, serializer.options if serializer else (), options)
    return serializer.check(options) if serializer else {}


def is_wrapped(key: str, format_name: str) -> bool:
    """Whether the file at *key* is gzip around *format_name*."""
    return key.lower().endswith(contract.GZIP_SUFFIXES) and format_name not in ("gzip", "bytes")


def _format_to_write(key: str, format: str | None) -> str | None:
    known = registry.format_of_key(key)
    if format is None:
        return known
    named = registry.resolve(format)
    # Gzip around something of unknown extension says nothing of the something.
    if known not in (None, "gzip", named):
        raise FormatError(f"format={format!r} contradicts the extension of {name_of(key)!r}, which says {known}")
    return named


def _what_fits(obj: object) -> str:
    fits = registry.fitting(obj)
    if not fits:
        hint = " (put_file stores a file)" if hasattr(obj, "__fspath__") else ""
        return f"nothing takes a {_type_name(obj)}{hint}; make bytes of it"
    endings = [f".{registry.extensions_of(one)[0]}" if registry.extensions_of(one) else f"format={one.name!r}" for one in fits]
    return f"a {_type_name(obj)} fits {', '.join(endings)}"


def _type_name(obj: object) -> str:
    return type(obj).__name__
