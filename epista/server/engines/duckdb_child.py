"""
The process of one query in DuckDB: it takes a job, locks itself up, and sends the result.

Started early and empty, so that the next query need not wait for it; it answers one job and ends. Everything that could be opened
is shut before the query is read: its SQL sees views over the files of the job, and nothing else. Runs as ``python -m``; the
server imports it for the messages only.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from epista.server.engines.sandbox import Limits, restrict

BATCH_ROWS = 16_384
"""How many rows are read at a time; a wide batch is held whole."""

HEADER_BYTES = 9
"""What stands before each frame: its kind, and the length of its body in 8 bytes; numbers are big-endian."""

READY = b"!"
"""The byte before all frames: from now on a job is worked on at once."""

ROWS = b"R"
"""A frame of 8 bytes: how many rows the bytes so far have."""

BYTES = b"B"
"""A frame of bytes of the Arrow stream."""

FAILED = b"F"
"""A frame of a `Failure`; nothing follows it."""

END = b"."
"""An empty frame: the stream was sent whole."""

_PARENT_CHECK_SECONDS = 0.5

_SPARE_BYTES = 2 * 1024**3
"""How much address space a child has besides DuckDB's own limit, for the interpreter, Arrow and threads."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of the query."""

    name: str
    files: tuple[str, ...]
    columns: tuple[str, ...]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One query."""

    sql: str
    """As printed from the plan's tree; its parameters are variables."""
    tables: tuple[Table, ...]
    variables: dict[str, Any]
    """Values of parameters, by the names of variables; what msgpack has not is tagged."""
    is_explain: bool
    memory_bytes: int
    spill_bytes: int
    cpu_seconds: int
    threads: int


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """How a query failed: the name of DuckDB's class, and what it said."""

    kind: str
    text: str


def main() -> None:
    """Serve one job."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints must not get between the frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import duckdb
    import pyarrow as pa

    # Loaded now, for the first reader would have to.
    import pyarrow.lib

    home = Path.cwd()
    connection = duckdb.connect(":memory:", config={"extension_directory": str(home), "home_directory": str(home)})
    replies.write(READY)
    replies.flush()
    size = int.from_bytes(_exactly(sys.stdin.buffer, 8), "big")
    job = msgspec.msgpack.decode(_exactly(sys.stdin.buffer, size), type=Job)
    try:
        _restrict(job)
        _lock_up(connection, job, home)
        _send(connection, job, replies, pa)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server says what may be told
        _frame(replies, FAILED, msgspec.json.encode(Failure(kind=type(error).__name__, text=str(error))))
    replies.flush()
    # Past the interpreter's own end, which would wait for DuckDB's threads.
    os._exit(0)


def _restrict(job: Job) -> None:
    restrict(Limits(memory_bytes=job.memory_bytes + _SPARE_BYTES, file_bytes=job.spill_bytes, open_files=1024))
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds, job.cpu_seconds))


def _lock_up(connection: Any, job: Job, home: Path) -> None:
    """Let the query see its views, and nothing else; the order matters: each step shuts what an earlier one needs."""
    files = [file for table in job.tables for file in table.files]
    if any(file.startswith(("http://", "https://")) for file in files):
        import duckdb_extension_httpfs

        (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
        connection.execute(f"LOAD {_text(str(extension))}")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    connection.execute("SET python_enable_replacements = false")
    connection.execute("SET allow_persistent_secrets = false")
    connection.execute(f"SET memory_limit = '{job.memory_bytes} bytes'")
    connection.execute(f"SET threads = {job.threads}")
    spill = home / "spill"
    connection.execute(f"SET temp_directory = {_text(str(spill))}")
    connection.execute(f"SET max_temp_directory_size = '{job.spill_bytes} bytes'")
    connection.execute("SET TimeZone = 'UTC'")
    for table in job.tables:
        columns = ", ".join(_name(column) for column in table.columns)
        paths = ", ".join(_text(file) for file in table.files)
        by_name = ", union_by_name = true" if len(table.files) > 1 else ""
        # Named columns: those that DuckDB adds, such as the path of the file, stay behind.
        source = f"read_parquet([{paths}]{by_name})"
        connection.execute(f"CREATE VIEW {_name(table.name)} AS SELECT {columns} FROM {source}")  # noqa: S608 - all quoted
    for name, value in job.variables.items():
        connection.execute(f"SET VARIABLE {_name(name)} = ?", [_python(value)])
    connection.execute(f"SET allowed_paths = [{', '.join(_text(file) for file in files)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _send(connection: Any, job: Job, replies: IO[bytes], pa: Any) -> None:
    if job.is_explain:
        ((_, plan),) = connection.execute(f"EXPLAIN {job.sql}").fetchall()
        lines = pa.table({"plan": plan.splitlines()})
        relation, reader = None, lines.to_reader()
    else:
        relation = connection.sql(job.sql)
        reader = relation.to_arrow_reader(BATCH_ROWS)
    wide = {n for n, kind in enumerate(relation.types) if str(kind) in ("HUGEINT", "UHUGEINT")} if relation is not None else set()
    schema = pa.schema([_plain(pa, field, n in wide) for n, field in enumerate(reader.schema)])
    rows = 0
    with pa.ipc.new_stream(_Frames(replies), schema) as writer:
        replies.flush()
        for batch in reader:
            # Rows before the bytes that have them, so that a limit stops in time.
            rows += batch.num_rows
            _frame(replies, ROWS, rows.to_bytes(8, "big"))
            try:
                writer.write_batch(batch.cast(schema) if batch.schema != schema else batch)
            except pa.ArrowInvalid as error:
                raise OverflowError(f"an integer does not fit into 64 bits: {error}") from error
            replies.flush()
    _frame(replies, END, b"")


def _plain(pa: Any, field: Any, is_wide: bool) -> Any:
    """Return a column as every library of Arrow takes it: integers of 64 bits, and strings that are strings."""
    if is_wide:
        return pa.field(field.name, pa.int64())
    if pa.types.is_dictionary(field.type):
        return pa.field(field.name, field.type.value_type)
    if pa.types.is_timestamp(field.type) and field.type.tz is not None:
        return pa.field(field.name, pa.timestamp(field.type.unit, "UTC"))
    return pa.field(field.name, field.type)


class _Frames:
    """A file for Arrow, whose bytes go out in frames."""

    closed = False

    def __init__(self, replies: IO[bytes]) -> None:
        self._replies = replies

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        _frame(self._replies, BYTES, view)
        return len(view)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """The frames are flushed batch by batch."""

    def close(self) -> None:
        """The pipe stays open for the frame of the end."""


def _frame(replies: IO[bytes], kind: bytes, body: bytes | memoryview) -> None:
    replies.write(kind + len(body).to_bytes(8, "big"))
    replies.write(body)


def _python(value: Any) -> Any:
    """Return a value as Python has it; see `duckdb.packed`."""
    if isinstance(value, list):
        return [_python(one) for one in value]
    if isinstance(value, dict):
        from datetime import date, datetime, time
        from decimal import Decimal

        ((tag, text),) = value.items()
        kinds: dict[str, Any] = {"timestamp": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat}
        return (kinds | {"decimal": Decimal})[tag](text)
    return value


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        os._exit(0)  # the server needs no query any more
    return data


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
