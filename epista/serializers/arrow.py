"""Arrow IPC files (Feather version 2); streams are read too."""

from __future__ import annotations

from typing import Any

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import parquet, tables
from epista.serializers.serializer import Options, Serializer

COMPRESSIONS = ("lz4", "zstd", "none")
"""What the option ``compression`` may say."""


def write(obj: Any, *, compression: str = "lz4", columns: list[str] | None = None) -> bytes:
    """Write a table, or some *columns* of it."""
    import pyarrow as pa

    table = parquet.select(tables.to_arrow(obj), columns)
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    out = pa.BufferOutputStream()
    try:
        with pa.ipc.new_file(out, table.schema, options=options) as writer:
            writer.write_table(table)
    except pa.ArrowException as error:
        raise FormatError(f"an Arrow file has no place for this table: {error}") from error
    return bytes(out.getvalue())


def read(data: bytes, *, as_type: str, columns: list[str] | None = None, compression: str | None = None) -> Any:
    """Read a table, or some *columns* of it."""
    import pyarrow as pa

    opened = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    try:
        with opened(pa.BufferReader(data)) as reader:
            table = reader.read_all()
        table.validate()
        return tables.from_arrow(parquet.select(table, columns), as_type)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"no Arrow file: {error}") from error


def _check(options: Options) -> dict[str, Any]:
    return parquet.check(options, COMPRESSIONS)


SERIALIZERS = (
    Serializer(
        name="arrow",
        takes="a pandas, polars or Arrow table",
        accepts=tables.is_table_or_rows,
        write=write,
        read=read,
        options=("compression", "columns"),
        check=_check,
        table=True,
        requires=("pyarrow",),
    ),
)
