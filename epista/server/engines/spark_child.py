"""
The child of the Spark engine: speaks Spark Connect, and turns what the cluster wrote into an Arrow stream.

It takes one job from its standard input and ends with it. Only few rows ever come through Connect; of a large result, the cluster
writes parquet files, whose addresses the parent then tells. Runs as ``python -m``; the server imports it for the messages only.
"""

from __future__ import annotations

import os
import queue
import re
import struct
import sys
import tempfile
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from epista.server.engines import sandbox

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

HEADER = struct.Struct(">cQQ")
"""Of each frame to the parent: its kind, how many rows it has, and how many bytes follow."""

READY, WRITTEN, DATA, OVER, FAILED = b"R", b"W", b"D", b"O", b"E"

SIZE = struct.Struct(">I")
"""Of each message to the child: how many bytes follow."""

USER = "epista"
"""Whose sessions these are, to Spark."""

BATCH_BYTES = 8 * 1024**2
"""About how large the batches of a result are."""

BATCH_ROWS = 65_536

_ROW_GROUP_BYTES = 32 * 1024**2

_RETRIES = 4
"""How often a request is made again that the cluster did not answer; some four seconds in all."""


class Table(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A table of the job."""

    internal: str
    files: tuple[str, ...]
    """As the cluster reaches them."""
    columns: tuple[tuple[str, str, str], ...]
    """Of each its name, the type that it is read as, and what is made of it, as `spark_types` says."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One query."""

    url: str
    token: str | None
    query_id: str
    sql: str
    params: dict[str, Any]
    tables: tuple[Table, ...]
    scratch: str | None
    """Where the cluster writes the result; null for a result that is small enough to come through Connect."""
    is_read_back: bool
    """Whether what was written is then read, and sent."""
    rows: int | None
    bytes: int | None
    memory_bytes: int
    """Of this process."""


class Files(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the cluster wrote, as this process reaches it: paths, or addresses."""

    files: tuple[str, ...]


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End the query."""


Message = Files | Cancel


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no result, or no more of it."""

    reason: str
    """Spark's condition, or a word of ours: ``lost``, ``cancelled``, ``memory``, ``rows``, ``bytes``, ``type``, ``crash``."""
    message: str = ""
    parameters: dict[str, str] = {}
    state: str = ""
    """The SQLSTATE."""


class _Failed(Exception):
    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.failure = Failure(reason=reason, message=message)


_LOST = ("INVALID_HANDLE.", "RESPONSE_ALREADY_RECEIVED", "NO_ACTIVE_SESSION")
"""What conditions begin with that say: the other side is not the one that was there before."""

_SETTINGS = {
    "spark.sql.runSQLOnFiles": "false",
    # Or "${...}" in a text would show settings of the cluster.
    "spark.sql.variable.substitute": "false",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.caseSensitive": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.cteRecursionLevelLimit": "10000",
    "spark.sql.connect.serverStacktrace.enabled": "false",
    "spark.sql.pyspark.jvmStacktrace.enabled": "false",
}


def main() -> None:
    """Be a child: say that all is loaded, take a job, answer it."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # It warns of what it does with pandas, which is not used here.
    warnings.simplefilter("ignore")
    import pyarrow.parquet  # noqa: F401
    import pyspark.sql.connect.session  # noqa: F401

    _send(replies, READY)
    first = _receive()
    if first is None:
        os._exit(0)
    job = msgspec.msgpack.decode(first, type=Job)
    sandbox.restrict(sandbox.Limits(memory_bytes=job.memory_bytes, file_bytes=2 * 1024**3, open_files=256))
    # Past the interpreter's own end, which would wait for threads of a channel whose other side may be gone.
    os._exit(_Query(job, replies).answer())


class _Query:
    """One job, its session, and whoever may end it early."""

    def __init__(self, job: Job, replies: Any) -> None:
        self._job = job
        self._replies = replies
        self._files: queue.Queue[tuple[str, ...]] = queue.Queue()
        self._is_cancelled = False
        self._session: SparkSession | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def answer(self) -> int:
        from pyspark.errors import PySparkException

        try:
            try:
                self._session = _connect(self._job)
                self._run(self._session)
                _send(self._replies, OVER)
            except _Failed as problem:
                self._fail(problem.failure)
            except PySparkException as problem:
                self._fail(_failure(problem))
            except MemoryError:
                self._fail(Failure(reason="memory"))
            if self._session:
                self._session.stop()
        except BrokenPipeError:
            self._end()
        return 0

    def _run(self, session: SparkSession) -> None:
        from pyspark.sql.types import StructType

        job = self._job
        session.addTag(job.query_id)
        for table in job.tables:
            _view(session, table)
        result: Any = session.sql(job.sql, args=job.params)
        spark_schema: StructType = result.schema
        schema = _arrow_schema(spark_schema)
        result = _renamed(result, spark_schema)
        if job.scratch is None:
            self._send_stream(schema, _fetched(session, result, schema, job.bytes))
            return
        # Small row groups, so that whoever reads them needs little memory.
        result.write.option("parquet.block.size", str(_ROW_GROUP_BYTES)).parquet(job.scratch)
        _send(self._replies, WRITTEN)
        if job.is_read_back:
            self._send_stream(schema, _written(self._files.get(), schema, job.rows))

    def _send_stream(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        import pyarrow as pa

        sink = _Sink(self._replies, self._job.rows, self._job.bytes)
        with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_stream(file, schema) as stream:
            sink.flush_frame()
            for batch in batches:
                stream.write_batch(batch)
                sink.rows += batch.num_rows
                sink.flush_frame()
        sink.flush_frame()

    def _fail(self, failure: Failure) -> None:
        if self._is_cancelled:
            failure = Failure(reason="cancelled")
        _send(self._replies, FAILED, msgspec.msgpack.encode(failure))

    def _listen(self) -> None:
        """Take what the parent says while the query runs; its end ends the query."""
        while (message := _receive()) is not None:
            said = msgspec.msgpack.decode(message, type=Message)
            if isinstance(said, Files):
                self._files.put(said.files)
            else:
                self._is_cancelled = True
                self._interrupt()
        self._end()

    def _interrupt(self) -> None:
        from pyspark.errors import PySparkException

        try:
            if self._session:
                self._session.interruptTag(self._job.query_id)
        except PySparkException:
            pass  # what has ended, or is gone, needs no end

    def _end(self) -> NoReturn:
        """The parent is gone, or wants nothing more."""
        self._interrupt()
        if self._session:
            self._session.stop()
        os._exit(0)


class _Sink:
    """Where the Arrow stream is written: bytes are held until they make a frame."""

    closed = False

    def __init__(self, replies: Any, max_rows: int | None, max_bytes: int | None) -> None:
        self._replies = replies
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._sent_rows = 0
        self._bytes = 0
        self.rows = 0

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Frames go when they are whole."""

    def close(self) -> None:
        """The pipe stays open."""

    def flush_frame(self) -> None:
        self._bytes += len(self._held)
        if self._max_rows is not None and self.rows > self._max_rows:
            raise _Failed("rows")
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise _Failed("bytes")
        if self._held:
            _send(self._replies, DATA, self._held, self.rows - self._sent_rows)
        self._sent_rows = self.rows
        self._held = bytearray()


def _connect(job: Job) -> SparkSession:
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    builder = DefaultChannelBuilder(job.url)
    if job.token is not None:
        builder.set("token", job.token)
    session = SparkSession(connection=builder, userId=USER)
    session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES)])
    for name, value in _SETTINGS.items():
        session.conf.set(name, value)
    return session


def _view(session: SparkSession, table: Table) -> None:
    """Make a view of the table's columns, and of nothing else that its files could tell."""
    from pyspark.sql.connect.functions import builtin as functions

    ddl = ", ".join(f"{_quoted(name)} {kind}" for name, kind, _ in table.columns)
    # Otherwise folders called "a=b" would become columns.
    frame = session.read.schema(ddl).option("recursiveFileLookup", "true").parquet(*table.files)
    columns = [functions.expr(read.replace("{}", _quoted(name))).alias(name) for name, _, read in table.columns]
    frame.select(*columns).createOrReplaceTempView(table.internal)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _arrow_schema(found: Any) -> pa.Schema:
    """Return the types in which a result goes out, whichever way it comes."""
    import pyarrow as pa
    from pyspark.errors import PySparkException
    from pyspark.sql.pandas.types import to_arrow_type
    from pyspark.sql.types import NullType, TimeType

    fields = []
    for field in found.fields:
        try:
            kind = pa.int32() if isinstance(field.dataType, NullType) else to_arrow_type(field.dataType, timezone="UTC")
        except PySparkException as problem:
            raise _Failed("type", field.name) from problem
        fields.append(pa.field(field.name, pa.time64("us") if isinstance(field.dataType, TimeType) else kind))
    return pa.schema(fields)


def _renamed(result: DataFrame, found: Any) -> Any:
    """Return the result with names that any file can have; two columns may be called alike in a result."""
    from pyspark.sql.connect.functions import builtin as functions
    from pyspark.sql.types import NullType

    names = [f"c{number}" for number in range(len(found.fields))]
    plain = result.toDF(*names)
    columns = [
        functions.col(name).cast("int").alias(name) if isinstance(field.dataType, NullType) else functions.col(name)
        for name, field in zip(names, found.fields, strict=True)
    ]
    return plain.select(*columns)


def _fetched(session: SparkSession, result: Any, schema: pa.Schema, max_bytes: int | None) -> Iterator[pa.RecordBatch]:
    """Yield a small result, when all of it has come: what was sent cannot be begun again."""
    import pyarrow as pa

    plan = result._plan.to_proto(session.client)
    tables = []
    size = 0
    for piece in session.client.to_table_as_iterator(plan, {}):
        if isinstance(piece, pa.Table):
            tables.append(piece)
            size += piece.nbytes
            if max_bytes is not None and size > max_bytes:
                raise _Failed("bytes")
    for table in tables:
        yield from _shaped(table, schema)


def _written(files: tuple[str, ...], schema: pa.Schema, max_rows: int | None) -> Iterator[pa.RecordBatch]:
    """Yield what the cluster wrote, in its order, holding a few batches at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    for address in files:
        with _local(address) as path, parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            metadata = file.metadata
            if not metadata.num_rows:
                continue
            rows += metadata.num_rows
            if max_rows is not None and rows > max_rows:
                raise _Failed("rows")
            size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
            batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * metadata.num_rows // max(1, size)))
            for batch in file.iter_batches(batch_size=batch_rows):
                yield from _shaped(pa.Table.from_batches([batch]), schema)


def _shaped(table: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    named = table.rename_columns(schema.names)
    if named.schema != schema:
        try:
            named = named.cast(schema)
        except pa.ArrowInvalid as problem:
            raise _Failed("type") from problem
    yield from named.to_batches()


@contextmanager
def _local(address: str) -> Iterator[Path]:
    """Give a file's path; an address is fetched first."""
    if not address.startswith(("http://", "https://")):
        yield Path(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        with urllib.request.urlopen(address, timeout=60) as body, path.open("wb") as file:  # noqa: S310 - the parent's own
            while chunk := body.read(1024**2):
                file.write(chunk)
        yield path


def _failure(problem: Any) -> Failure:
    """Say what Spark said, in its parts; the parent says it to people."""
    condition = problem.getCondition() or ""
    message = problem.getMessage() or ""
    status = getattr(problem, "getGrpcStatusCode", lambda: None)()
    if getattr(status, "name", "") == "UNAVAILABLE" or condition.startswith(_LOST):
        return Failure(reason="lost", message=condition)
    if condition == "OPERATION_CANCELED" or "OPERATION_CANCELED" in message:
        return Failure(reason="cancelled")
    if "SparkContext was shut down" in message or "stopped SparkContext" in message:
        return Failure(reason="lost")
    if _MEMORY.search(message):
        return Failure(reason="memory")
    parameters = {str(name): str(value) for name, value in (problem.getMessageParameters() or {}).items()}
    return Failure(reason=condition or "unknown", message=message, parameters=parameters, state=problem.getSqlState() or "")


_MEMORY = re.compile(
    r"OutOfMemory|UNABLE_TO_ACQUIRE_MEMORY|maxResultSize|Not enough memory|exit code 137|Cannot grow BufferHolder"
)


def _send(pipe: Any, kind: bytes, body: bytes | bytearray = b"", rows: int = 0) -> None:
    pipe.write(HEADER.pack(kind, rows, len(body)))
    pipe.write(body)
    pipe.flush()


def _receive() -> bytes | None:
    """Return the next message of the parent, None after the last."""
    head = sys.stdin.buffer.read(SIZE.size)
    if len(head) < SIZE.size:
        return None
    return sys.stdin.buffer.read(SIZE.unpack(head)[0])


if __name__ == "__main__":
    main()
