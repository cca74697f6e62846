"""Tables on their way into a file of this machine, batch by batch, so that they may be larger than memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from epista.client.transfer import disk
from epista.contract.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".xlsx": "xlsx",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".jsonl": "jsonl",
}
"""What the extension of a file says about its format."""

STDOUT = "-"
"""The name of no file: the standard output."""

_CSV_ROWS = 65_536


def format_of(dest: str) -> str:
    """
    Return the format that the name of a file asks for; CSV for the standard output.

    Raises:
        FormatError: no table is written in such a file.
    """
    if dest == STDOUT:
        return "csv"
    suffix = Path(dest).suffix.lower()
    if (found := FORMATS.get(suffix)) is None:
        raise FormatError(f"no table is written as {suffix or 'a file without extension'!r}", hint=f"one of {', '.join(FORMATS)}")
    return found


def save(batches: Iterable[pa.RecordBatch], schema: pa.Schema, dest: str, *, format: str | None = None) -> int:
    """
    Write a table to the file *dest*, whole or not at all, or to the standard output (``-``); return how many rows it has.

    Raises:
        FormatError: the format has no place for the table.
    """
    pour = _WRITERS[format or format_of(dest)]
    if dest == STDOUT:
        return pour(batches, schema, sys.stdout.buffer)
    target = Path(dest)
    with disk.replacing(target) as file:
        return pour(batches, schema, file)


def _parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    try:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
    except pa.ArrowException as error:
        raise FormatError(f"Parquet has no place for this table: {error}") from error
    return rows


def _arrow(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> int:
    import pyarrow as pa

    rows = 0
    with pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _text(sep: str) -> Callable[[Iterable[pa.RecordBatch], pa.Schema, IO[bytes]], int]:
    def pour(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> int:
        from epista.serializers import csv

        head = csv.write(schema.empty_table(), sep=sep).data
        file.write(head)
        rows = 0
        for table in _tables(batches, _CSV_ROWS):
            file.write(memoryview(csv.write(table, sep=sep).data)[len(head) :])
            rows += table.num_rows
        return rows

    return pour


def _lines(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> int:
    from epista.serializers import json

    rows = 0
    for table in _tables(batches, 10_000):
        file.write(json.write_lines(table.to_pylist()))
        rows += table.num_rows
    return rows


def _excel(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> int:
    import pyarrow as pa

    from epista.serializers import excel

    # A workbook is made whole; it holds a million rows at most.
    table = pa.Table.from_batches(batches, schema)
    file.write(excel.write(table).data)
    return int(table.num_rows)


def _tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[Any]:
    """Give *batches* as tables of so many rows at most."""
    import pyarrow as pa

    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield pa.Table.from_batches([batch.slice(start, rows)])


_WRITERS: dict[str, Callable[[Iterable[pa.RecordBatch], pa.Schema, IO[bytes]], int]] = {
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": _text(","),
    "tsv": _text("\t"),
    "jsonl": _lines,
    "xlsx": _excel,
}
