"""
Words worth indexing, from blobs of any origin.

The server's side: it asks a limited child (`extractors.py`) and never parses a byte itself. A file that cannot be read has no
words; that is logged, and no reason to fail a put.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from epista.server.engines import extractors
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox

_log = logging.getLogger("epista.extraction")

# One thread each: on a machine of many cores, their pools alone would not fit into the memory limit.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_OPTIONS = ("sep", "encoding")

_TAIL_BYTES = 16 * 1024**2

_READ_FROM_THE_END = ("parquet", "arrow")


def needed(format: str, size: int) -> list[tuple[int, int]]:
    """Return the parts of a file of *size* bytes that its extractor reads, so that no more need be at hand."""
    if format not in extractors.EXTRACTORS or not size:
        return []
    head = min(size, extractors.NOTEBOOK_BYTES if format == "ipynb" else extractors.HEAD_BYTES)
    tail = max(head, size - _TAIL_BYTES) if format in _READ_FROM_THE_END else size
    return [(start, stop) for start, stop in ((0, head), (tail, size)) if start < stop]


class Extractor:
    """Extracts text in limited children; for any number of threads. Close it when done."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        children: int = 2,
        jobs_per_child: int = 10_000,
        timeout_seconds: float = 10.0,
        wait_seconds: float = 30.0,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._wait_seconds = wait_seconds
        self._sandbox = Sandbox(
            extractors.__name__,
            max_reply_bytes=extractors.MAX_TEXT_BYTES + 1024,
            limits=limits,
            environment=_ENVIRONMENT,
            children=children,
            jobs_per_child=jobs_per_child,
        )

    def text(
        self,
        path: str | os.PathLike[str],
        *,
        offset: int,
        size: int,
        format: str,
        gzipped: bool,
        options: Mapping[str, Any],
    ) -> str:
        """
        Return the words worth indexing of the *size* bytes at *offset* in the file *path*.

        At most 256 KiB of UTF-8, without NUL characters; empty for formats without words, and for all that goes wrong, which
        is logged without any content. Never raises. *options* are those recorded with the version; of them ``sep`` and
        ``encoding`` matter.
        """
        if format not in extractors.EXTRACTORS or size <= 0:
            return ""
        job = extractors.Job(
            path=os.fsencode(os.path.abspath(path)),  # noqa: PTH100 - pathlib would keep "..", and is slower
            offset=offset,
            size=size,
            format=format,
            gzipped=gzipped,
            options={name: value for name in _OPTIONS if isinstance(value := options.get(name), str) and value.isascii()},
        )
        started = time.monotonic()
        level, said = logging.WARNING, ""
        try:
            reply = self._sandbox.run(
                msgspec.msgpack.encode(job), timeout_seconds=self._timeout_seconds, wait_seconds=self._wait_seconds
            )
            found = msgspec.msgpack.decode(reply, type=extractors.Extracted)
            level = logging.INFO
        except NoReplyError as problem:
            found = extractors.Extracted(text="", error=problem.reason)
            if problem.reason == "start":
                # A child that never started has seen no content: its last words may be told.
                said = str(problem)
        except msgspec.DecodeError:
            found = extractors.Extracted(text="", error="crash")
        if found.error:
            _log.log(
                level,
                "extraction failed: reason=%s format=%s gzipped=%s size_bytes=%d text_chars=%d seconds=%.3f said=%r",
                found.error,
                format,
                gzipped,
                size,
                len(found.text),
                time.monotonic() - started,
                said,
            )
        return found.text

    def close(self) -> None:
        """End the children. Whatever is asked afterwards has no words."""
        self._sandbox.close()
