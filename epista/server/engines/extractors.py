"""
The extraction child: what to take from each format.

Each extractor yields pieces of text from a bounded part of one file and may raise whatever it likes: the pieces that came
before count. Runs as ``python -m``; the server imports it for the messages and the names of the formats only.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, BinaryIO, cast
from xml.parsers import expat

import msgspec

from epista.contract.errors import EpistaError
from epista.server.engines import sandbox
from epista.server.engines.sources import CHUNK_BYTES, HEAD_BYTES, Job, Source

MAX_TEXT_BYTES = 256 * 1024
"""How much text one file may have, in bytes of UTF-8."""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""After how much text of files that are read together the reply goes off."""

BATCH_SECONDS = 0.5
"""After how long it does."""

NOTEBOOK_BYTES = 32 * 1024**2
"""The same for notebooks, which are read whole or not at all; most of their bytes are outputs, which cost nothing."""


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    text: str
    """The words, as text."""
    error: str = ""
    """The class of the error that ended it early, if one did; never its message, which may quote the file."""


def _lines_once(pieces: Iterable[str]) -> Iterator[str]:
    """A line for each piece, and none again: what repeats in each record must not crowd out the rest."""
    seen: set[str] = set()
    for piece in pieces:
        if piece not in seen:
            seen.add(piece)
            yield piece + "\n"


def _plain(source: Source) -> Iterator[str]:
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


def _html(source: Source) -> Iterator[str]:
    text = source.text()
    parser = _HtmlText()
    for start in range(0, len(text), CHUNK_BYTES):
        parser.feed(text[start : start + CHUNK_BYTES])
        yield "".join(parser.pieces)
        parser.pieces.clear()
    parser.close()
    yield "".join(parser.pieces)


# A string ends at its quote, or where the text ends: one that is cut off still counts, and no text takes two passes.
_JSON_STRING = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)(?:"|\\?\Z)', re.DOTALL)


def _json(source: Source) -> Iterator[str]:
    # Strings, not structure: so depth, a cut, a wrong comma and one record a line make no difference.
    return _lines_once(_unescaped(match[1]) for match in _JSON_STRING.finditer(source.text()))


def _unescaped(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads(f'"{body}"', strict=False))
    except ValueError:
        return body


def _cells(source: Source, sep: str) -> Iterator[str]:
    recorded = source.options.get("sep", sep)
    if len(recorded) == 1 and recorded not in '"\r\n':
        sep = recorded
    csv.field_size_limit(HEAD_BYTES)
    rows = csv.reader(io.StringIO(source.text(), newline=""), delimiter=sep)
    return _lines_once(cell for row in rows for cell in row)


def _csv(source: Source) -> Iterator[str]:
    return _cells(source, ",")


def _tsv(source: Source) -> Iterator[str]:
    return _cells(source, "\t")


class _Cell(msgspec.Struct, frozen=True, kw_only=True):
    cell_type: str = ""
    source: str | list[str] = ""


class _Notebook(msgspec.Struct, frozen=True, kw_only=True):
    cells: list[_Cell] = []


def _ipynb(source: Source) -> Iterator[str]:
    head = source.head(NOTEBOOK_BYTES).removeprefix(codecs.BOM_UTF8)
    for cell in msgspec.json.decode(head, type=_Notebook).cells:
        if cell.cell_type in ("code", "markdown"):
            yield "".join(cell.source) + "\n\n"


def _svg(source: Source) -> Iterator[str]:
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
    for at in range(0, len(svg), CHUNK_BYTES):
        try:
            # Newer expats keep an unfinished end to themselves until they are told that it is the end.
            parser.Parse(svg[at : at + CHUNK_BYTES], at + CHUNK_BYTES >= len(svg))
        except (expat.ExpatError, ValueError):
            yield "".join(pieces)
            raise
        yield "".join(pieces)
        pieces.clear()


def _parquet(source: Source) -> Iterator[str]:
    import pyarrow.parquet

    return _lines_once(_field_names(pyarrow.parquet.ParquetFile(source.file()).schema_arrow))


def _arrow(source: Source) -> Iterator[str]:
    import pyarrow.ipc

    file = source.file()
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    reader = pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)
    return _lines_once(_field_names(reader.schema))


def _fcs(source: Source) -> Iterator[str]:
    from epista.serializers import fcs

    file = source.file()
    head = fcs.read_head(cast(BinaryIO, file))
    names = [word for channel in head.channels for word in (channel.name, channel.label)]
    # What describes channels one by one is numbers; what is left tells of the sample, the machine and the people.
    told = (value for name, value in head.keywords.items() if not _OF_A_CHANNEL.fullmatch(name) and len(value) < _LONG_VALUE)
    return _lines_once(itertools.chain(names, (value for value in told if any(map(str.isalpha, value)))))


def _sequences(source: Source, read: Callable[[BinaryIO], Iterator[Any]]) -> Iterator[str]:
    # Only of what is read, whose last record may be cut.
    with contextlib.suppress(EpistaError):
        for record in read(io.BytesIO(source.head())):
            yield f"{record.id} {record.description}\n"


def _fasta(source: Source) -> Iterator[str]:
    from epista.serializers import sequences

    return _sequences(source, sequences.fasta)


def _fastq(source: Source) -> Iterator[str]:
    from epista.serializers import sequences

    return _sequences(source, sequences.fastq)


# What a flat file of GenBank or EMBL says of a sequence, and not the sequence.
_LETTERS_OF_GENBANK = re.compile(r"\s*[0-9]+( [a-z]{1,10})+|\s+([a-z]{10} )+\s*[0-9]+")


def _genbank(source: Source) -> Iterator[str]:
    return _lines_once(line for line in source.text().splitlines() if not _LETTERS_OF_GENBANK.fullmatch(line))


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


EXTRACTORS: Mapping[str, Callable[[Source], Iterator[str]]] = {
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
    "fasta": _fasta,
    "fastq": _fastq,
    "genbank": _genbank,
}
"""By the names of `epista.contract.formats`; a format that is not here has no words."""

VERSIONS = {**dict.fromkeys(EXTRACTORS, 1)}
"""Which rise, each by itself, when the same bytes give other words: what was indexed before is then read again."""


def extract(job: Job) -> Extracted:
    """Read what *job* names. Whatever goes wrong with the file, the text that came before is kept."""
    pieces: list[str] = []
    left = MAX_TEXT_BYTES
    error = ""
    try:
        with io.FileIO(job.path, "rb") as file:
            for piece in EXTRACTORS[job.format](Source(job, file)):
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
