"""
The child that reads and writes files of tables: what is in them, parquet out of other formats, and one file out of several.

What it writes has plain types (``string``, never a view or a dictionary) and column names that every engine tells apart: no two
alike in any case, none empty. Text is read by `text_tables`, as in notebooks. Runs as ``python -m``; the server imports it for
the messages only.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import errno
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from epista.contract import errors
from epista.contract.errors import EpistaError, FormatError, IntegrityError, StorageFullError, TooLargeError, UnreadableError
from epista.server.engines import sandbox

VERSION = 1
"""Rises when the same bytes give another table, so that what was converted before is not taken for it."""

STUCK_SECONDS = 24 * 3600.0
"""How long a child goes on that nobody is left to kill, as `sandbox.serve` says; the parent's limit is a setting."""

ROW_GROUP_ROWS = 512 * 1024
ROW_GROUP_BYTES = 64 * 1024**2
"""What a row group of a written file has at most, roughly: it is in memory at once."""

TOO_LARGE = "put it as Parquet; or whoever runs the server can allow more: table_memory_bytes, table_seconds, table_cache_bytes"
"""What to do about a table that cannot be converted."""

MAX_COLUMNS = 65_536
"""How many columns a table may have."""

_BATCH_ROWS = 64 * 1024
_MAX_TOLD_CHARACTERS = 100
_MOST_STATISTICS = 200_000
_MOST_COLUMNS_WITH_STATISTICS = 2000


class Inspect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say what is in a parquet file."""

    path: str


class Convert(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Write a table of another format as parquet."""

    path: str
    sha256: str | None
    """What the file must have, if that is known."""
    format: str
    gzipped: bool
    options: dict[str, Any]
    sheet: str | None
    into: str


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column, by the name and the Arrow type under which queries see it."""

    name: str
    type: str
    is_empty: bool = False
    """Whether the file gives it no type, since it has no value."""


class Join(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Write parquet files one after the other as one table of certain columns; those that a file has not are null."""

    paths: list[str]
    columns: list[Column]
    schemas: list[bytes]
    """In which types that are more than a name are found."""
    into: str


Job = Inspect | Convert | Join


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of one column; null where it does not say."""

    min: bool | int | float | str | None = None
    max: bool | int | float | str | None = None
    nulls: int | None = None


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One parquet file of a table."""

    rows: int
    columns: dict[str, Statistics] = {}
    """By name, those that are not nested; left out where there are very many."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a table."""

    columns: list[Column]
    rows: int
    notes: list[str] = []
    """What was assumed, in sentences."""
    files: list[File] = []
    """Each of them; all together as one, where they would be very many statistics."""
    file_count: int = 1
    schemas: list[bytes] = []
    """Those of its files, as Arrow writes them, each once."""
    is_plain: bool = True
    """Whether engines can read the file as it is; else it is to be converted."""
    is_renamed: bool = False
    """Whether columns of the file have other names in queries."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """It could not be done."""

    code: str
    """Of an `EpistaError`."""
    message: str
    hint: str | None
    details: dict[str, Any]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job."""

    facts: Facts | None = None
    failed: Failed | None = None


def work(job: Job) -> Facts:
    """Do a job."""
    if isinstance(job, Inspect):
        return _inspected(job.path)
    if isinstance(job, Join):
        return _joined(job)
    return _converted(job)


# --- Parquet


def _opened(path: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_columns > MAX_COLUMNS:
            raise UnreadableError(f"the table has {file.metadata.num_columns:,} columns; at most {MAX_COLUMNS:,} are read")
        return file
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, EpistaError):
            raise
        raise UnreadableError(f"no Parquet file: {_first_line(error)}") from error


def _inspected(path: str, notes: Iterable[str] = ()) -> Facts:
    import pyarrow as pa

    with _opened(path) as file:
        schema = file.schema_arrow
        plain, said = _plain_schema(schema)
        # Views, dictionaries and the like are only how Arrow would read it: in the file they are plain.
        is_plain = not said and all(_is_readable(field.type) for field in schema)
        empty = [pa.types.is_null(field.type) for field in schema]
        return Facts(
            columns=[Column(name=one.name, type=str(one.type), is_empty=no) for one, no in zip(plain, empty, strict=True)],
            rows=file.metadata.num_rows,
            notes=[*notes, *said],
            files=[_statistics(file)],
            schemas=[plain.serialize().to_pybytes()],
            is_plain=is_plain,
            is_renamed=bool(said),
        )


def _statistics(file: Any) -> File:
    metadata = file.metadata
    found: dict[str, Statistics] = {}
    flat = {field.name for field in file.schema_arrow if not field.type.num_fields}
    few = metadata.num_columns <= _MOST_COLUMNS_WITH_STATISTICS
    if few and metadata.num_row_groups * metadata.num_columns <= _MOST_STATISTICS:
        for position in range(metadata.num_columns):
            if (name := metadata.schema.column(position).path) in flat:
                groups = [metadata.row_group(group).column(position) for group in range(metadata.num_row_groups)]
                found[name] = _merged([column.statistics if column.is_stats_set else None for column in groups])
    return File(rows=metadata.num_rows, columns=found)


def _merged(groups: list[Any]) -> Statistics:
    if not groups or any(one is None for one in groups):
        return Statistics()
    nulls = sum(one.null_count for one in groups) if all(one.has_null_count for one in groups) else None
    known = [one for one in groups if one.num_values]
    if not known or not all(one.has_min_max for one in known):
        return Statistics(nulls=nulls)
    try:
        return Statistics(min=_told(min(one.min for one in known)), max=_told(max(one.max for one in known)), nulls=nulls)
    except (TypeError, ValueError, OverflowError):  # what Python has no value for
        return Statistics(nulls=nulls)


def _told(value: Any) -> bool | int | float | str | None:
    """Return a value as JSON has it; None if it has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, str | int | decimal.Decimal):
        text = str(value)
        return text if len(text) <= _MAX_TOLD_CHARACTERS else None
    return None


def _joined(job: Join) -> Facts:
    import pyarrow as pa

    schema = _schema_of(job)
    with _opened(job.paths[0]) as first:
        schema = schema.with_metadata(_pandas(first.schema_arrow.metadata or {}))

    def batches() -> Iterator[Any]:
        for path in job.paths:
            with _opened(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                    yield _fitted(pa.Table.from_batches([batch]), schema)

    return _write(batches(), schema, job.into)


def _schema_of(job: Join) -> Any:
    import pyarrow as pa

    known = [field for one in job.schemas for field in pa.ipc.read_schema(pa.BufferReader(one))]
    types = {str(field.type): field.type for field in known}
    named = [(one.name, types[one.type] if one.type in types else pa.type_for_alias(one.type)) for one in job.columns]
    return pa.schema(named)


def _pandas(metadata: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return what pandas noted of its dtypes and index, but for an index that counted the rows of one file."""
    try:
        noted = json.loads(metadata[b"pandas"])
        noted["index_columns"] = [one for one in noted["index_columns"] if isinstance(one, str)]
        return {b"pandas": json.dumps(noted).encode()}
    except (KeyError, ValueError, TypeError):
        return {}


def _fitted(table: Any, schema: Any) -> Any:
    """Return *table* with the columns of *schema*, by name."""
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(len(table), field.type))
            continue
        try:
            columns.append(_cast(table[field.name], field.type))
        except pa.ArrowException as error:
            raise FormatError(f"column {field.name!r} does not fit {field.type}: {_first_line(error)}") from error
    return pa.table(columns, schema=schema) if columns else table.select([])


# --- Other formats


def _converted(job: Convert) -> Facts:
    from epista import serializers

    with Path(job.path).open("rb", buffering=0) as file:
        if job.sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != job.sha256:
            raise IntegrityError("the bytes are not what was recorded", hint="the lab's manager can run: epista verify")
    # They came over the wire, from whatever client.
    job = msgspec.structs.replace(job, options=serializers.check_options(job.format, job.options))
    with _unpacked(job) as source:
        tables, schema, notes = _READERS[job.format](source, job)
        plain, said = _plain_schema(schema)
        facts = _write((_renamed(table, plain) for table in tables), plain, job.into)
    return msgspec.structs.replace(facts, notes=[*notes, *said])


@contextlib.contextmanager
def _unpacked(job: Convert) -> Iterator[str]:
    """Give the file, unpacked if it is gzip."""
    from epista.serializers import wrapping

    if not job.gzipped:
        yield job.path
        return
    path = Path(f"{job.into}.unpacked")
    try:
        path.write_bytes(wrapping.unwrap(Path(job.path).read_bytes()))
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _text(path: str, job: Convert) -> tuple[Iterable[Any], Any, list[str]]:
    from epista.serializers import text_tables

    options: dict[str, Any] = {"sep": "\t"} if job.format == "tsv" else {}
    options |= {name: job.options[name] for name in ("sep", "header", "dtype", "decimal", "encoding") if name in job.options}
    words = job.options.get("na", ())
    na = [word for word in ([words] if isinstance(words, str) else words) if word]
    table, notes = text_tables.read(Path(path).read_bytes(), na=na, **options)
    return [table], table.schema, notes


def _arrow(path: str, job: Convert) -> tuple[Iterable[Any], Any, list[str]]:
    import pyarrow as pa

    with Path(path).open("rb") as file:
        is_file = file.read(6) == b"ARROW1"
    try:
        source = pa.OSFile(path)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"no Arrow file: {_first_line(error)}") from error

    def batches() -> Iterator[Any]:
        try:
            found = (reader.get_batch(n) for n in range(reader.num_record_batches)) if is_file else iter(reader)
            for batch in found:
                batch.validate(full=True)
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise UnreadableError(f"no Arrow file: {_first_line(error)}") from error

    return batches(), reader.schema, []


def _lines(path: str, job: Convert) -> tuple[Iterable[Any], Any, list[str]]:
    """Read objects, one a line; a column of different kinds of values is text: strings as they are, all else as JSON."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not (line := line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UnreadableError(f"line {number} is no JSON: {_first_line(error)}", details={"line": number}) from error
            if not isinstance(row, dict):
                raise UnreadableError(f"line {number} is no JSON object, as a row is", details={"line": number})
            rows.append(row)
    notes: list[str] = []
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            column = pa.array(values)
            if not _is_writable(column.type):
                raise pa.ArrowInvalid("has no fields")
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            notes.append(f"column {name!r} has values of different kinds; they are given as text")
            column = pa.array([one if one is None or isinstance(one, str) else json.dumps(one) for one in values], pa.string())
        columns[name] = column.cast(pa.string()) if pa.types.is_null(column.type) else column
    table = pa.table(columns)
    return [table], table.schema, notes


def _workbook(path: str, job: Convert) -> tuple[Iterable[Any], Any, list[str]]:
    """Read a sheet as notebooks do; a column of different kinds of values is text."""
    import pyarrow as pa

    from epista.serializers import excel, tables

    recorded = job.options.get("sheet")
    sheet = job.sheet if job.sheet is not None else recorded[0] if isinstance(recorded, list) and recorded else recorded
    frame = excel.read(Path(path).read_bytes(), as_type="pandas", sheet=0 if sheet is None or sheet == [] else sheet)
    frame.columns = [str(name) for name in frame.columns]
    names, frame.columns = list(frame.columns), range(frame.shape[1])
    notes: list[str] = []
    columns = []
    for position, name in enumerate(names):
        try:
            column = tables.to_arrow(frame[[position]].rename(columns=str), index=False).column(0)
        except FormatError:
            notes.append(f"column {name!r} has values of different kinds; they are given as text")
            column = pa.array([None if one != one or one is None else str(one) for one in frame[position]], pa.string())
        columns.append(column)
    table = pa.table(columns, names=names)
    return [table], table.schema, notes


def _parquet(path: str, job: Convert) -> tuple[Iterable[Any], Any, list[str]]:
    import pyarrow as pa

    file = _opened(path)

    def batches() -> Iterator[Any]:
        with file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield pa.Table.from_batches([batch])

    return batches(), file.schema_arrow, []


_READERS: Mapping[str, Callable[[str, Convert], tuple[Iterable[Any], Any, list[str]]]] = {
    "csv": _text,
    "tsv": _text,
    "arrow": _arrow,
    "jsonl": _lines,
    "xlsx": _workbook,
    "xls": _workbook,
    "parquet": _parquet,
}


# --- Plain types and names


def _plain_schema(schema: Any) -> tuple[Any, list[str]]:
    """Return a schema as queries see it, and what was changed of its names."""
    import pyarrow as pa

    if len(schema) > MAX_COLUMNS:
        raise UnreadableError(f"the table has {len(schema):,} columns; at most {MAX_COLUMNS:,} are read")
    names: dict[str, str] = {}
    notes: list[str] = []
    for position, was in enumerate(schema.names):
        base = was.replace("\0", "") or f"column{position}"
        name, count = base, 0
        while name.casefold() in names:
            count += 1
            name = f"{base}_{count}"
        names[name.casefold()] = name
        if name != was:
            notes.append(f"column {position + 1}, {was!r}, is called {name!r} in queries")
    fields = [pa.field(name, _plain(field.type)) for name, field in zip(names.values(), schema, strict=True)]
    return pa.schema(fields), notes


def _plain(kind: Any) -> Any:
    """Return a type without the ways of Arrow to keep the same values otherwise."""
    import pyarrow as pa

    known = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if known.is_dictionary(kind) or known.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if known.is_string(kind) or known.is_large_string(kind) or known.is_string_view(kind):
        return pa.string()
    if known.is_large_binary(kind) or known.is_binary_view(kind):
        return pa.binary()
    if known.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if known.is_list(kind) or known.is_large_list(kind) or known.is_list_view(kind) or known.is_large_list_view(kind):
        return pa.list_(_plain(kind.value_type))
    if known.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if known.is_struct(kind):
        return pa.struct([pa.field(kind.field(n).name, _plain(kind.field(n).type)) for n in range(kind.num_fields)])
    if known.is_float16(kind):
        return pa.float32()
    if known.is_null(kind):
        return pa.string()
    # What Parquet has no place for, or another one.
    if kind == pa.timestamp("s") or (known.is_timestamp(kind) and kind.unit == "s"):
        return pa.timestamp("ms", kind.tz)
    if known.is_date64(kind):
        return pa.date32()
    return kind


def _is_readable(kind: Any) -> bool:
    """Whether engines read this type out of a parquet file as it is told."""
    import pyarrow as pa

    return not (pa.types.is_float16(kind) or pa.types.is_null(kind))


def _is_writable(kind: Any) -> bool:
    """Whether Parquet has a place for it: a group has at least one field."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_is_writable(kind.field(n).type) for n in range(kind.num_fields))
    return _is_writable(kind.value_type) if pa.types.is_list(kind) else True


def _renamed(table: Any, schema: Any) -> Any:
    """Return *table* with the names and types of *schema*, by position."""
    import pyarrow as pa

    columns = []
    for field, column in zip(schema, table.columns, strict=True):
        try:
            columns.append(_cast(column, field.type))
        except (pa.ArrowException, NotImplementedError) as error:
            raise UnreadableError(
                f"column {field.name!r} is {column.type}, which cannot be read: {_first_line(error)}"
            ) from error
    return pa.table(columns, schema=schema)


def _cast(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    if column.type == kind:
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type) or pa.types.is_run_end_encoded(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(kind)


def _write(tables: Iterable[Any], schema: Any, into: str) -> Facts:
    """Write tables as one parquet file, a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A dictionary of numbers that hardly repeat takes three times as long, to be dropped in the end.
    repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
    try:
        with pq.ParquetWriter(into, schema, compression="zstd", use_dictionary=repeating) as writer:
            waiting: list[Any] = []
            for table in tables:
                waiting.append(table)
                if sum(map(len, waiting)) >= ROW_GROUP_ROWS or sum(one.nbytes for one in waiting) >= ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP_ROWS)
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting), row_group_size=ROW_GROUP_ROWS)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise UnreadableError(f"Parquet has no place for this table: {_first_line(error)}") from error
    return _inspected(into)


def _first_line(error: BaseException) -> str:
    return "; ".join(str(part) for part in error.args).strip().partition("\n")[0]


def _too_large() -> TooLargeError:
    return TooLargeError("the table needs more memory than the server gives one", hint=TOO_LARGE)


def _work(data: bytes) -> bytes:
    import pyarrow as pa

    try:
        return msgspec.msgpack.encode(Reply(facts=work(msgspec.msgpack.decode(data, type=Job))))
    except EpistaError as error:
        problem: EpistaError = error
    except (MemoryError, pa.ArrowMemoryError):
        problem = _too_large()
    except OSError as error:
        if error.errno == errno.EFBIG:
            problem = TooLargeError("the table is larger than the server keeps for queries", hint=TOO_LARGE)
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = StorageFullError("there is no room on the server's disk to convert the table")
        else:
            problem = UnreadableError(f"the file cannot be read: {_first_line(error)}")
    except (pa.ArrowException, ValueError) as error:
        # The stack of a thread is memory, too; for that Arrow has no error of its own.
        is_short = _first_line(error).startswith("Unknown error: Failed to launch worker thread")
        problem = _too_large() if is_short else UnreadableError(f"the file cannot be read: {_first_line(error)}")
    except Exception as error:  # noqa: BLE001 - whatever a file of somebody else's leads a library to
        problem = UnreadableError(f"the file cannot be read: {type(error).__name__}")
    failed = Failed(code=problem.code, message=problem.message, hint=problem.hint, details=problem.details)
    return msgspec.msgpack.encode(Reply(failed=failed))


def raised(failed: Failed) -> EpistaError:
    """Return the error that a child told of."""
    return errors.ERRORS[failed.code](failed.message, hint=failed.hint, details=failed.details)


if __name__ == "__main__":
    with contextlib.suppress(ImportError):  # a timer of Python's own; what is written past the limit shall be an error
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sandbox.serve(_work, stuck_seconds=STUCK_SECONDS)
