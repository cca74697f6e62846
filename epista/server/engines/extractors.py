"""
The extraction child: what to take from each format.

Each extractor yields pieces of text from a bounded part of one file and may raise whatever it likes: the pieces that came
before count. Runs as ``python -m``; the server imports it for the messages and the names of the formats only.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, BinaryIO, cast
from xml.parsers import expat

import msgspec

from epista.server.engines import sandbox

EXTRACTOR_VERSION = 1
"""Rises when the same bytes give other words, so that what was indexed before can be found and done again."""

MAX_TEXT_BYTES = 256 * 1024
"""How much text one file may have, in bytes of UTF-8."""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""After how much text of files that are read together the reply goes off."""

BATCH_SECONDS = 0.5
"""After how long it does."""

HEAD_BYTES = 4 * 1024**2
"""How much of a file is read, and how much of a gzipped one is unpacked."""

NOTEBOOK_BYTES = 32 * 1024**2
"""The same for notebooks, which are read whole or not at all; most of their bytes are outputs, which cost nothing."""

_CHUNK_BYTES = 64 * 1024


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One blob to read."""

    path: bytes
    """The local file that holds it."""
    offset: int
    """Where in the file it begins."""
    size: int
    """How many bytes it has."""
    format: str
    """One of `EXTRACTORS`."""
    gzipped: bool
    """Whether the bytes are gzip around the format."""
    options: dict[str, str]
    """``sep`` and ``encoding``, where recorded."""


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    text: str
    """The words, as text."""
    error: str = ""
    """The class of the error that ended it early, if one did; never its message, which may quote the file."""


class _Range(io.RawIOBase):
    """The bytes of one job's blob as a file."""

    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._size - self._at)
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(memoryview(buffer)[:left]) or 0
        self._at += count
        return count


class _Source:
    """One blob, in the shapes that extractors ask for."""

    def __init__(self, job: Job, file: io.FileIO) -> None:
        self.options: Mapping[str, str] = job.options
        self.is_gzipped = job.gzipped
        self._size = job.size
        self._range = _Range(file, job.offset, job.size)

    def head(self, limit: int = HEAD_BYTES) -> bytes:
        """Return the first *limit* bytes, unpacked."""
        head = b"".join(_chunks(self._range.read, min(limit, self._size)))
        if not self.is_gzipped:
            return head
        # The packed bytes are bounded too: a file of nothing but empty gzip members unpacks to nothing, for ever.
        with gzip.GzipFile(fileobj=io.BytesIO(head)) as unpacked:
            return b"".join(_chunks(unpacked.read1, limit))

    def text(self) -> str:
        """Return the head as text, in the recorded encoding or the likeliest one."""
        return _decode(self.head(), self.options.get("encoding"))

    def file(self) -> io.RawIOBase | io.BytesIO:
        """Return the whole as a file; of a gzipped one, its head."""
        return io.BytesIO(self.head()) if self.is_gzipped else self._range


def _chunks(read: Callable[[int], bytes | None], limit: int) -> Iterator[bytes]:
    try:
        while limit > 0 and (chunk := read(min(limit, _CHUNK_BYTES))):
            limit -= len(chunk)
            yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return  # a gzip that is cut or damaged: what came before counts


_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _decode(head: bytes, recorded: str | None) -> str:
    if recorded:
        try:
            return head.decode(recorded, "replace")
        except (LookupError, UnicodeError):
            pass  # no such encoding, or one without "replace"
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return head.decode(encoding, "replace")
    # Text in a Latin alphabet as UTF-16 has NUL for every other byte.
    sample = head[:1024]
    for first, encoding in ((0, "utf-16-be"), (1, "utf-16-le")):
        if sample[first::2].count(0) * 4 > len(sample):
            return head.decode(encoding, "replace")
    try:
        # Not final: the head may end within a character.
        return codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return head.decode("cp1252", "replace")


def _lines_once(pieces: Iterable[str]) -> Iterator[str]:
    """A line for each piece, and none again: what repeats in each record must not crowd out the rest."""
    seen: set[str] = set()
    for piece in pieces:
        if piece not in seen:
            seen.add(piece)
            yield piece + "\n"


def _plain(source: _Source) -> Iterator[str]:
    yield source.text()


# Inline elements do not part words: CO<sub>2</sub> is one.
_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "cite", "code", "em", "font", "i", "kbd", "mark", "q", "s"}
    | {"samp", "small", "span", "strong", "sub", "sup", "tt", "u", "var", "wbr"}
)


class _HtmlText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._hidden = tag
        elif tag not in _INLINE:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._hidden:
            self._hidden = ""
        if tag not in _INLINE:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def _html(source: _Source) -> Iterator[str]:
    text = source.text()
    parser = _HtmlText()
    for start in range(0, len(text), _CHUNK_BYTES):
        parser.feed(text[start : start + _CHUNK_BYTES])
        yield "".join(parser.pieces)
        parser.pieces.clear()
    parser.close()
    yield "".join(parser.pieces)


# A string ends at its quote, or where the text ends: one that is cut off still counts, and no text takes two passes.
_JSON_STRING = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\\?\Z)', re.DOTALL)


def _json(source: _Source) -> Iterator[str]:
    # Strings, not structure: so depth, a cut, a wrong comma and one record a line make no difference.
    return _lines_once(_unescaped(match[1]) for match in _JSON_STRING.finditer(source.text()))


def _unescaped(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        return body


def _cells(source: _Source, sep: str) -> Iterator[str]:
    recorded = source.options.get("sep", sep)
    if len(recorded) == 1 and recorded not in '"\r\n':
        sep = recorded
    csv.field_size_limit(HEAD_BYTES)
    rows = csv.reader(io.StringIO(source.text(), newline=""), delimiter=sep)
    return _lines_once(cell for row in rows for cell in row)


def _csv(source: _Source) -> Iterator[str]:
    return _cells(source, ",")


def _tsv(source: _Source) -> Iterator[str]:
    return _cells(source, "\t")


class _Cell(msgspec.Struct, frozen=True, kw_only=True):
    cell_type: str = ""
    source: str | list[str] = ""


class _Notebook(msgspec.Struct, frozen=True, kw_only=True):
    cells: list[_Cell] = []


def _ipynb(source: _Source) -> Iterator[str]:
    head = source.head(NOTEBOOK_BYTES).removeprefix(codecs.BOM_UTF8)
    for cell in msgspec.json.decode(head, type=_Notebook).cells:
        if cell.cell_type in ("code", "markdown"):
            yield "".join(cell.source) + "\n\n"


def _svg(source: _Source) -> Iterator[str]:
    pieces: list[str] = []
    hidden: list[str] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local in ("script", "style"):
            hidden.append(name)
        elif local != "tspan":
            pieces.append("\n")

    def end(name: str) -> None:
        if hidden and hidden[-1] == name:
            hidden.pop()

    def data(text: str) -> None:
        if not hidden:
            pieces.append(text)

    def entity(
        name: str, is_parameter: bool, value: str | None, base: str | None, system: str, public: str | None, notation: str | None
    ) -> None:
        # Drawing programs declare entities for namespaces, in good faith. Entities of entities have no honest use.
        if value is not None and "&" in value:
            raise ValueError("an entity that refers to another")

    def leave(text: str) -> None:
        """Having this handler at all keeps expat from expanding entities in text; external ones it never loads."""

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.EntityDeclHandler = entity
    parser.DefaultHandler = leave
    svg = source.head()
    for at in range(0, len(svg), _CHUNK_BYTES):
        try:
            # Newer expats keep an unfinished end to themselves until they are told that it is the end.
            parser.Parse(svg[at : at + _CHUNK_BYTES], at + _CHUNK_BYTES >= len(svg))
        except (expat.ExpatError, ValueError):
            yield "".join(pieces)
            raise
        yield "".join(pieces)
        pieces.clear()


def _parquet(source: _Source) -> Iterator[str]:
    import pyarrow.parquet

    return _lines_once(_field_names(pyarrow.parquet.ParquetFile(source.file()).schema_arrow))


def _arrow(source: _Source) -> Iterator[str]:
    import pyarrow.ipc

    file = source.file()
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)
    return _lines_once(_field_names(reader.schema))


def _fcs(source: _Source) -> Iterator[str]:
    from epista.serializers import fcs

    file = source.file()
    head = fcs.read_head(cast(BinaryIO, file))
    names = [word for channel in head.channels for word in (channel.name, channel.label)]
    # What describes channels one by one is numbers; what is left tells of the sample, the machine and the people.
    told = (value for name, value in head.keywords.items() if not _OF_A_CHANNEL.fullmatch(name) and len(value) < _LONG_VALUE)
    return _lines_once(itertools.chain(names, (value for value in told if any(map(str.isalpha, value)))))


_OF_A_CHANNEL = re.compile(r"\$?P[0-9]+[A-Z]*|\$BYTEORD|\$DATATYPE|\$MODE")
_LONG_VALUE = 500


def _field_names(fields: Iterable[Any]) -> Iterator[str]:
    for field in fields:
        yield field.name
        yield from _names_within(field.type)


def _names_within(dtype: Any) -> Iterator[str]:
    import pyarrow.types

    if pyarrow.types.is_struct(dtype) or pyarrow.types.is_union(dtype):
        yield from _field_names(dtype.field(at) for at in range(dtype.num_fields))
    elif pyarrow.types.is_map(dtype):
        yield from _names_within(dtype.key_type)
        yield from _names_within(dtype.item_type)
    elif pyarrow.types.is_nested(dtype):
        # Lists of all sorts; the name of their one field is Arrow's, not the author's.
        yield from _names_within(dtype.value_type)


EXTRACTORS: Mapping[str, Callable[[_Source], Iterator[str]]] = {
    "text": _plain,
    "markdown": _plain,
    "rst": _plain,
    "xml": _plain,
    "yaml": _plain,
    "code": _plain,
    "html": _html,
    "json": _json,
    "jsonl": _json,
    "csv": _csv,
    "tsv": _tsv,
    "ipynb": _ipynb,
    "svg": _svg,
    "parquet": _parquet,
    "arrow": _arrow,
    "fcs": _fcs,
}
"""By the names of `epista.contract.formats`; a format that is not here has no words."""


def extract(job: Job) -> Extracted:
    """Read what *job* names. Whatever goes wrong with the file, the text that came before is kept."""
    pieces: list[str] = []
    left = MAX_TEXT_BYTES
    error = ""
    try:
        with io.FileIO(job.path, "rb") as file:
            for piece in EXTRACTORS[job.format](_Source(job, file)):
                pieces.append(piece[:left])
                left -= len(piece)
                if left <= 0:
                    break
    except Exception as problem:  # noqa: BLE001 - the loop of a worker process
        error = type(problem).__name__
    # PostgreSQL has no NUL in text, and UTF-8 no lone surrogates.
    text = "".join(pieces).replace("\x00", " ").encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    return Extracted(text=text, error=error)


def _work(jobs: bytes) -> bytes:
    """Read files, at least the first of them, until the reply or the time it took is enough; the rest is asked for again."""
    until = time.monotonic() + BATCH_SECONDS
    found: list[Extracted] = []
    size = 0
    for job in msgspec.msgpack.decode(jobs, type=list[Job]):
        found.append(extract(job))
        size += len(found[-1].text.encode())
        if size > MAX_BATCH_BYTES or time.monotonic() > until:
            break
    return msgspec.msgpack.encode(found)


if __name__ == "__main__":
    sandbox.serve(_work)
