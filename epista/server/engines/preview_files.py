"""
The preview child: the beginning of a file, in a shape that a person can look at.

Each function reads a bounded part of one file and may raise whatever it likes. Runs as ``python -m``; the server imports it for
the messages and the names of the formats only.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import msgspec

from epista.contract.errors import EpistaError, UnreadableError
from epista.contract.previews import Picture, PreviewCell
from epista.contract.tables import Column
from epista.server.engines import sandbox
from epista.server.engines.sources import Job, Source, decode

VERSION = 2
"""Rises when the same bytes give another preview, so that what was kept before is not taken for it."""

MAX_ROWS = 20
MAX_COLUMNS = 50
MAX_CELL_CHARACTERS = 200
MAX_LINES = 40
MAX_LINE_CHARACTERS = 500
MAX_CELLS = 20
MAX_CELL_SOURCE = 2000
MAX_PIXELS = 128 * 1024**2
"""How many pixels a picture may have that is made smaller here."""
PICTURE_PIXELS = 512
"""How wide and how high a small picture is at most."""
TEXT_BYTES = 256 * 1024
"""How much of a text is read."""
WHOLE_BYTES = 64 * 1024**2
"""How large a file may be that has to be read whole."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of one file; `epista.contract.previews.Preview` says what the other fields mean."""

    is_lasting: bool = True
    """Whether the same file gives the same another time; what does not is not kept."""
    facts: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    text: str | None = None
    cells: tuple[PreviewCell, ...] = ()
    picture: Picture | None = None
    is_cut: bool = False
    problem: str | None = None


Facts = tuple[tuple[str, str], ...]

_PICTURES = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


def _table(
    columns: Iterable[tuple[str, str]], rows: Iterable[Sequence[Any]], *, facts: Facts = (), total: int | None = None
) -> Shown:
    """Show the first rows; *total* says how many there are, else one more of *rows* than is shown says that there are more."""
    named = list(itertools.islice(columns, MAX_COLUMNS + 1))
    some = list(itertools.islice(rows, MAX_ROWS + 1))
    # Rows of text may be longer or shorter than the first.
    width = min(MAX_COLUMNS, max(map(len, (named, *some[:MAX_ROWS]))))
    named += [("", "")] * (width - len(named))
    return Shown(
        facts=facts,
        columns=tuple(Column(name=short(name), type=dtype) for name, dtype in named[:width]),
        rows=tuple(tuple(short(value) for value in (*row, *[None] * (width - len(row)))[:width]) for row in some[:MAX_ROWS]),
        is_cut=len(named) > MAX_COLUMNS or (len(some) if total is None else total) > MAX_ROWS,
    )


def short(value: Any) -> str:
    """Return a value as one short line of text."""
    text = "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)
    text = _written(" ".join(text.split()))
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"


def _text(source: Source) -> Shown:
    head = source.head(TEXT_BYTES)
    lines = decode(head, source.options.get("encoding")).splitlines()
    shown = [line if len(line) <= MAX_LINE_CHARACTERS else line[: MAX_LINE_CHARACTERS - 1] + "…" for line in lines[:MAX_LINES]]
    is_cut = len(lines) > MAX_LINES or shown != lines[:MAX_LINES] or len(head) >= TEXT_BYTES
    return Shown(text="\n".join(shown), is_cut=is_cut)


def _json(source: Source) -> Shown:
    head = source.head(TEXT_BYTES)
    try:
        text = json.dumps(json.loads(head), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return _text(source)  # cut, or no JSON: as it is
    lines = text.splitlines()
    return Shown(text="\n".join(line[:MAX_LINE_CHARACTERS] for line in lines[:MAX_LINES]), is_cut=len(lines) > MAX_LINES)


def _separated(source: Source, sep: str) -> Shown:
    recorded = source.options.get("sep", sep)
    sep = recorded if len(recorded) == 1 and recorded not in '"\r\n' else sep
    head = source.head(TEXT_BYTES)
    csv.field_size_limit(TEXT_BYTES)
    rows = csv.reader(io.StringIO(decode(head, source.options.get("encoding")), newline=""), delimiter=sep)
    names = next(rows, [])
    return _table(((name, "") for name in names), rows)


def _csv(source: Source) -> Shown:
    return _separated(source, ",")


def _tsv(source: Source) -> Shown:
    return _separated(source, "\t")


def _jsonl(source: Source) -> Shown:
    lines = source.head(TEXT_BYTES).split(b"\n")
    records = [found for line in lines[: MAX_ROWS + 1] if isinstance(found := _loaded(line), dict)]
    names = list(dict.fromkeys(name for record in records for name in record))
    return _table(((name, "") for name in names), [[record.get(name) for name in names] for record in records])


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _parquet(source: Source) -> Shown:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source.file())
    total = file.metadata.num_rows
    fields = list(file.schema_arrow)[:MAX_COLUMNS]
    names = [field.name for field in fields]
    batch = next(file.iter_batches(batch_size=MAX_ROWS, columns=names), None) if total else None
    more = len(file.schema_arrow) > MAX_COLUMNS
    shown = _arrow_table(file.schema_arrow, batch, total)
    return msgspec.structs.replace(shown, is_cut=shown.is_cut or more)


def _arrow(source: Source) -> Shown:
    import pyarrow.ipc

    file = source.file()
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    if is_file:
        reader = pyarrow.ipc.open_file(file)
        batch = reader.get_batch(0) if reader.num_record_batches else None
        return _arrow_table(reader.schema, batch, None)
    stream = pyarrow.ipc.open_stream(file)
    return _arrow_table(stream.schema, next(iter(stream), None), None)


def _arrow_table(schema: Any, batch: Any, total: int | None) -> Shown:
    columns = ((field.name, str(field.type)) for field in schema)
    rows: list[Sequence[Any]] = []
    if batch is not None:
        batch = batch.slice(0, MAX_ROWS + 1)
        rows = list(zip(*(column.to_pylist() for column in batch.columns[:MAX_COLUMNS]), strict=True))
    facts = (("rows", f"{total:,}"),) if total is not None else ()
    return _table(columns, rows, facts=(*facts, ("columns", f"{len(schema):,}")), total=total)


def _workbook(source: Source) -> Shown:
    import python_calamine

    book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(_whole(source)))
    first = book.get_sheet_by_index(0)
    rows = first.to_python(nrows=MAX_ROWS + 2)
    names = [str(name) for name in rows[0]] if rows else []
    facts = (("sheets", ", ".join(book.sheet_names[:20])), ("rows", f"{max(0, first.height - 1):,}"))
    return _table(((name, "") for name in names), rows[1:], facts=facts, total=max(0, first.height - 1))


def _whole(source: Source) -> bytes:
    data = source.head(WHOLE_BYTES + 1)
    if len(data) > WHOLE_BYTES:
        raise UnreadableError(f"it is larger than {WHOLE_BYTES:,} bytes")
    return data


def _notebook(source: Source) -> Shown:
    book = json.loads(_whole(source))
    cells = [cell for cell in book.get("cells", []) if cell.get("cell_type") in ("code", "markdown")]
    shown = tuple(
        PreviewCell(kind=cell["cell_type"], source="".join(cell.get("source", ""))[:MAX_CELL_SOURCE])
        for cell in cells[:MAX_CELLS]
    )
    language = book.get("metadata", {}).get("kernelspec", {}).get("display_name", "")
    facts = (("cells", f"{len(cells):,}"), *((("kernel", str(language)),) if language else ()))
    return Shown(facts=facts, cells=shown, is_cut=len(cells) > MAX_CELLS)


def _picture(source: Source) -> Shown:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # checked here, before anything is decoded
    # No others: for some formats Pillow starts a program of the machine.
    with Image.open(cast(BinaryIO, source.file()), formats=_PICTURES) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise UnreadableError(f"it has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are made smaller for a preview")
        facts = (("size", f"{width:,} x {height:,} pixels"), ("mode", picture.mode))
        picture.draft("RGB", (PICTURE_PIXELS, PICTURE_PIXELS))
        small = _eight_bits(picture) if picture.mode.startswith(("I", "F")) else picture.convert(_mode(picture))
        small.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
        out = io.BytesIO()
        small.save(out, "PNG")
    return Shown(facts=facts, picture=Picture(png=out.getvalue(), width=width, height=height))


def _mode(picture: Any) -> str:
    if picture.mode in ("1", "L"):
        return "L"
    return "RGBA" if "A" in picture.getbands() or "transparency" in picture.info else "RGB"


def _eight_bits(picture: Any) -> Any:
    """Return a picture of more than eight bits with its least value black and its greatest white."""
    import numpy
    from PIL import Image

    values = numpy.asarray(picture).astype("float64")
    low, high = float(numpy.nanmin(values)), float(numpy.nanmax(values))
    scaled = (values - low) / (high - low or 1.0) * 255
    return Image.fromarray(numpy.nan_to_num(scaled).astype("uint8"), "L")


def _fcs(source: Source) -> Shown:
    from epista.serializers import fcs

    head = fcs.read_head(cast(BinaryIO, source.file()))
    facts = [("events", f"{head.events:,}"), ("version", f"FCS {head.header.version}")]
    facts += [(title, value) for title, name in (("cytometer", "$CYT"), ("date", "$DATE")) if (value := head.keywords.get(name))]
    rows = ((channel.name, channel.label, f"{channel.range:g}") for channel in head.channels)
    columns = (("channel", ""), ("label", ""), ("range", ""))
    return _table(columns, rows, facts=(*facts, ("channels", f"{len(head.channels):,}")))


def _records(source: Source, format: str) -> Shown:
    from epista.serializers import sequences

    head = source.head(TEXT_BYTES)
    is_cut = len(head) >= TEXT_BYTES
    rows: list[tuple[str, str, str, str]] = []
    try:
        for record in itertools.islice(sequences.READERS[format](io.BytesIO(head)), MAX_ROWS + 1):
            rows.append((record.id, record.description, f"{len(record.seq):,}", record.seq[:60]))
    except EpistaError:
        if not is_cut:
            raise
    if is_cut and len(rows) <= MAX_ROWS:
        # Of the last one only the beginning was read.
        rows[-1:] = [(*rows[-1][:2], "", rows[-1][3])] if rows and format == "fasta" else rows[-1:]
    shown = _table((("record", ""), ("title", ""), ("letters", ""), ("sequence", "")), rows)
    return msgspec.structs.replace(shown, is_cut=shown.is_cut or is_cut)


def _fasta(source: Source) -> Shown:
    return _records(source, "fasta")


def _fastq(source: Source) -> Shown:
    return _records(source, "fastq")


def _npy(source: Source) -> Shown:
    import numpy.lib.format as npy

    file = io.BytesIO(source.head(TEXT_BYTES))
    version = npy.read_magic(file)
    shape, _, dtype = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    return Shown(facts=(("shape", " x ".join(map(str, shape)) or "one value"), ("type", str(dtype))))


def _archive(source: Source) -> Shown:
    with zipfile.ZipFile(cast(BinaryIO, source.file())) as archive:
        members = archive.infolist()
        rows = ((info.filename, f"{info.file_size:,}") for info in members)
        return _table((("file", ""), ("bytes", "")), rows, facts=(("files", f"{len(members):,}"),), total=len(members))


def _hdf5(source: Source) -> Shown:
    import h5py

    def rows() -> Iterator[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []

        def visit(name: str, item: Any) -> bool | None:
            if isinstance(item, h5py.Dataset):
                found.append((name, " x ".join(map(str, item.shape or ())), str(item.dtype)))
            return True if len(found) > MAX_ROWS else None

        with h5py.File(cast(Any, source.file()), "r") as file:
            file.visititems(visit)
        yield from found

    return _table((("array", ""), ("shape", ""), ("type", "")), rows())


_TEXTS = (
    *("text", "markdown", "rst", "html", "xml", "yaml", "code", "svg", "flowjo"),
    *("clustal", "gff", "bed", "vcf", "sam", "embl", "genbank"),
)

PREVIEWS: Mapping[str, Callable[[Source], Shown]] = {
    **dict.fromkeys(_TEXTS, _text),
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "arrow": _arrow,
    "xlsx": _workbook,
    "xls": _workbook,
    "ipynb": _notebook,
    **dict.fromkeys(("png", "jpg", "gif", "bmp", "webp"), _picture),
    "fcs": _fcs,
    "fasta": _fasta,
    "fastq": _fastq,
    "npy": _npy,
    **dict.fromkeys(("npz", "zip", "zarr"), _archive),
    **dict.fromkeys(("hdf5", "anndata"), _hdf5),
}
"""By the names of `epista.contract.formats`. Other images are shown by those who read them (`epista.server.imaging`)."""

FROM_THE_HEAD = frozenset((*_TEXTS, "json", "jsonl", "csv", "tsv", "npy", "fcs", "fasta", "fastq"))
"""Formats of which the first bytes are enough."""


def show(job: Job) -> Shown:
    """Show what *job* names. Whatever goes wrong with the file is a problem that is told."""
    try:
        with io.FileIO(job.path, "rb") as file:
            return _bounded(PREVIEWS[job.format](Source(job, file)))
    except EpistaError as error:
        return Shown(problem=error.message)
    except ImportError as error:
        return Shown(problem=f"the server has no package {error.name!r} to look into it", is_lasting=False)
    except MemoryError:
        return Shown(problem="it takes more memory than a preview may", is_lasting=False)
    except Exception:  # noqa: BLE001 - the loop of a worker process; parsers of others' files may raise anything
        return Shown(problem=f"it cannot be read as {job.format}")


def _bounded(shown: Shown) -> Shown:
    """Return what is shown as text of a bounded length that can be written down: a name or a type may be of any length."""
    return msgspec.structs.replace(
        shown,
        facts=tuple((short(name), short(value)) for name, value in shown.facts),
        columns=tuple(Column(name=short(one.name), type=short(one.type)) for one in shown.columns),
        rows=tuple(tuple(map(short, row)) for row in shown.rows),
        text=None if shown.text is None else _written(shown.text),
        cells=tuple(PreviewCell(kind=one.kind, source=_written(one.source)) for one in shown.cells),
    )


def _written(text: str) -> str:
    """Return text without halves of characters, which JSON may have and UTF-8 has not."""
    return text.encode("utf-8", "replace").decode()


def _work(job: bytes) -> bytes:
    return msgspec.msgpack.encode(show(msgspec.msgpack.decode(job, type=Job)))


if __name__ == "__main__":
    sandbox.serve(_work)
