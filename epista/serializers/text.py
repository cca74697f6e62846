"""Text of every kind: UTF-8, line ends kept as they are."""

from __future__ import annotations

import codecs
from typing import Any

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers.serializer import Options, Serializer

FORMATS = (
    *("text", "markdown", "rst", "xml", "yaml", "code", "flowjo"),
    *("embl", "clustal", "gff", "bed", "vcf", "sam"),
)
"""The formats that are plain text to us; `figure` takes html, which may be a picture."""

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def write(obj: Any, *, encoding: str | None = None) -> bytes:
    """Write a string, in UTF-8 unless *encoding* says otherwise."""
    # A string that begins with a byte order mark gets a second one, because reading takes the first away.
    mark = "\ufeff" if encoding is None and obj.startswith("\ufeff") else ""
    try:
        return (mark + str(obj)).encode(encoding or "utf-8")
    except UnicodeEncodeError as error:
        raise FormatError(
            f"the character {obj[error.start]!r} at {error.start} cannot be written in {encoding or 'UTF-8'}"
        ) from error


def read(data: bytes, *, encoding: str | None = None) -> str:
    """Read a string: by *encoding*, else by its byte order mark, else as UTF-8."""
    if encoding is None:
        encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"byte {error.start} is not {encoding}", hint="say encoding=, such as encoding='cp1252', or format='bytes'"
        ) from error


def check(options: Options) -> dict[str, Any]:
    """Check the option ``encoding``: a text encoding that Python knows."""
    encoding = options.get("encoding")
    if encoding is not None:
        check_encoding(encoding)
    return dict(options)


def check_encoding(encoding: object) -> None:
    """Refuse what is no text encoding."""
    try:
        "".encode(str(encoding))
    except LookupError:
        raise FormatError(f"option encoding={encoding!r}: no such text encoding, such as 'utf-8' or 'cp1252'") from None


def _accepts(obj: object) -> bool:
    return isinstance(obj, str)


SERIALIZERS = tuple(
    Serializer(name=name, takes="str", accepts=_accepts, write=write, read=read, options=("encoding",), check=check)
    for name in FORMATS
)
