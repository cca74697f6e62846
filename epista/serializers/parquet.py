"""Parquet files, zstd unless asked otherwise. pandas comes back with its dtypes and index (not a `DatetimeIndex.freq`)."""

from __future__ import annotations

from typing import Any

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import tables
from epista.serializers.serializer import Options, Serializer

COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")
"""What the option ``compression`` may say."""


def write(obj: Any, *, compression: str = "zstd", columns: list[str] | None = None) -> bytes:
    """Write a table, or some *columns* of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = select(tables.to_arrow(obj), columns)
    # A dictionary of numbers that hardly repeat takes three times as long, to be dropped in the end.
    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    out = pa.BufferOutputStream()
    try:
        pq.write_table(table, out, compression=compression, use_dictionary=repeating)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"Parquet has no place for this table: {error}") from error
    return bytes(out.getvalue())


def read(data: bytes, *, as_type: str, columns: list[str] | None = None, compression: str | None = None) -> Any:
    """Read a table, or some *columns* of it (and its index)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            if columns is not None:
                check_columns(columns, file.schema_arrow.names)
            table = file.read(columns, use_pandas_metadata=as_type == "pandas")
        return tables.from_arrow(table, as_type)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"no Parquet file: {error}") from error


def select(table: Any, columns: list[str] | None) -> Any:
    """Return *table* with some of its columns only."""
    if columns is None:
        return table
    check_columns(columns, table.column_names)
    return table.select(columns)


def check_columns(columns: list[str], known: list[str]) -> None:
    """Refuse columns that the table does not have."""
    if missing := [name for name in columns if name not in known]:
        raise FormatError(f"no column {', '.join(map(repr, missing))}; columns: {', '.join(map(str, known[:50]))}")


def check(options: Options, compressions: tuple[str, ...] = COMPRESSIONS) -> dict[str, Any]:
    """Check the options ``compression`` and ``columns``."""
    if "compression" in options and options["compression"] not in compressions:
        raise FormatError(f"option compression={options['compression']!r}: one of {', '.join(compressions)} is needed")
    columns = options.get("columns")
    if columns is not None and not (isinstance(columns, list | tuple) and all(isinstance(name, str) for name in columns)):
        raise FormatError(f"option columns={columns!r}: a list of column names is needed")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


SERIALIZERS = (
    Serializer(
        name="parquet",
        takes="a pandas, polars or Arrow table",
        accepts=tables.is_table_or_rows,
        write=write,
        read=read,
        options=("compression", "columns"),
        check=check,
        table=True,
        requires=("pyarrow",),
    ),
)
