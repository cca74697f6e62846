"""The server's side of files of tables: limited children (`table_files`) read and write them, and it waits only so long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epista.contract.errors import TooLargeError, UnavailableError
from epista.server.engines import table_files
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.table_files import Column, Convert, Facts, Inspect, Job, Join, Reply

# Few arenas of the allocator, for each takes address space, which is limited.
_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

_INSPECT_SECONDS = 20.0
_MAX_REPLY_BYTES = 64 * 1024**2
_JOBS_PER_CHILD = 50


class TableFiles:
    """Reads and writes files of tables in limited children; for any number of threads. Close it when done."""

    def __init__(self, *, memory_bytes: int, file_bytes: int, seconds: float, children: int = 2) -> None:
        self._seconds = seconds
        # What takes long must not keep others from knowing what is in a file.
        self._quick = self._sandbox(Limits(), 1)
        self._slow = self._sandbox(Limits(memory_bytes=memory_bytes, file_bytes=file_bytes), children)

    def _sandbox(self, limits: Limits, children: int) -> Sandbox:
        return Sandbox(
            table_files.__name__,
            max_reply_bytes=_MAX_REPLY_BYTES,
            limits=limits,
            environment=_ENVIRONMENT,
            children=children,
            jobs_per_child=_JOBS_PER_CHILD,
        )

    def inspect(self, path: Path) -> Facts:
        """
        Return what is in a parquet file, of which only the end needs to be there.

        Raises:
            UnreadableError: it is none.
        """
        return _asked(self._quick, Inspect(path=str(path)), _INSPECT_SECONDS)

    def convert(
        self,
        path: Path,
        *,
        sha256: str | None,
        format: str,
        gzipped: bool,
        options: Mapping[str, Any],
        sheet: str | None,
        into: Path,
    ) -> Facts:
        """
        Write a table as parquet to the new file *into*.

        Raises:
            UnreadableError: the file is no such table, or a value does not fit its declared type; ``details`` says where.
            FormatError: the options do not fit the file.
            TooLargeError: it takes more time or memory than one may.
        """
        job = Convert(
            path=str(path), sha256=sha256, format=format, gzipped=gzipped, options=dict(options), sheet=sheet, into=str(into)
        )
        return _asked(self._slow, job, self._seconds)

    def join(self, paths: Sequence[Path], *, columns: Sequence[Column], schemas: Sequence[bytes], into: Path) -> Facts:
        """
        Write parquet files as one, with certain columns, to the new file *into*; their types stand in *schemas*, or have names.

        Raises:
            FormatError: a value does not fit.
        """
        job = Join(paths=[str(path) for path in paths], columns=list(columns), schemas=list(schemas), into=str(into))
        return _asked(self._slow, job, self._seconds)

    def close(self) -> None:
        """End the children."""
        self._quick.close()
        self._slow.close()


def _asked(sandbox: Sandbox, job: Job, seconds: float) -> Facts:
    try:
        reply = sandbox.run(msgspec.msgpack.encode(job), timeout_seconds=seconds, wait_seconds=seconds)
        said = msgspec.msgpack.decode(reply, type=Reply)
    except NoReplyError as problem:
        if problem.reason == "timeout":
            raise TooLargeError(f"the table could not be read within {seconds:g} s", hint=table_files.TOO_LARGE) from problem
        if problem.reason == "crash":
            raise TooLargeError(
                "the table could not be read: it needs more memory than the server gives one, or is damaged",
                hint=table_files.TOO_LARGE,
            ) from problem
        raise UnavailableError("too many tables are being read just now", hint="try again in a moment") from problem
    if said.failed is not None:
        raise table_files.raised(said.failed)
    assert said.facts is not None, "a reply says either"
    return said.facts
