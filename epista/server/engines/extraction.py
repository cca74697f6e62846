"""
Words worth indexing, from blobs of any origin.

The server's side: it asks a limited child (`extractors.py`) and never parses a byte itself. A file that cannot be read has no
words; that is logged, and no reason to fail a put.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from epista.server.engines import extractors, sources
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.sources import Job

_log = logging.getLogger("epista.extraction")

# One thread each: on a machine of many cores, their pools alone would not fit into the memory limit.
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_OPTIONS = ("sep", "encoding")

_TAIL_BYTES = 16 * 1024**2

_READ_FROM_THE_END = ("parquet", "arrow")


_MOST_TIMEOUTS = 4


def job_of(
    path: str | os.PathLike[str], *, offset: int, size: int, format: str, gzipped: bool, options: Mapping[str, Any]
) -> Job:
    """Return what is asked of a child about the *size* bytes at *offset* in the file *path*."""
    return Job(
        path=os.fsencode(os.path.abspath(path)),  # noqa: PTH100 - pathlib would keep "..", and is slower
        offset=offset,
        size=size,
        format=format,
        gzipped=gzipped,
        options={name: value for name in _OPTIONS if isinstance(value := options.get(name), str) and value.isascii()},
    )


def needed(format: str, size: int) -> list[tuple[int, int]]:
    """Return the parts of a file of *size* bytes that its extractor reads, so that no more need be at hand."""
    if format not in extractors.EXTRACTORS or not size:
        return []
    head = min(size, extractors.NOTEBOOK_BYTES if format == "ipynb" else sources.HEAD_BYTES)
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
            max_reply_bytes=extractors.MAX_BATCH_BYTES + extractors.MAX_TEXT_BYTES + 1024 * 1024,
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
        return self.texts([job_of(path, offset=offset, size=size, format=format, gzipped=gzipped, options=options)])[0]

    def texts(self, jobs: Sequence[Job]) -> list[str]:
        """
        Return the words of many files, each as `text` does; small ones are read together.

        Where files that are read together give no reply, they are read one by one up to the one that is to blame. All of it takes
        a few times as long as one file may take; what is left then has no words.
        """
        texts: list[str] = []
        together = len(jobs)
        until = time.monotonic() + _MOST_TIMEOUTS * self._timeout_seconds
        while len(texts) < len(jobs):
            some = jobs[len(texts) : len(texts) + together]
            if time.monotonic() > until and len(jobs) > 1:
                _log.warning("extraction left out: files=%d", len(jobs) - len(texts))
                return texts + [""] * (len(jobs) - len(texts))
            found = self._extracted(some)
            if not found:
                together = 1
                continue
            # The one to blame is behind us.
            if together == 1 and found[0].error:
                together = len(jobs)
            texts += [one.text for one in found]
        return texts

    def _extracted(self, jobs: Sequence[Job]) -> list[extractors.Extracted]:
        """Return what was read of the first files, of one at least; nothing if that failed and there are several."""
        started = time.monotonic()
        level, said = logging.WARNING, ""
        try:
            reply = self._sandbox.run(
                msgspec.msgpack.encode(jobs), timeout_seconds=self._timeout_seconds, wait_seconds=self._wait_seconds
            )
            found = msgspec.msgpack.decode(reply, type=list[extractors.Extracted])[: len(jobs)]
            level = logging.INFO
        except NoReplyError as problem:
            found = [extractors.Extracted(text="", error=problem.reason)]
            if problem.reason == "start":
                # A child that never started has seen no content: its last words may be told.
                said = str(problem)
        except msgspec.DecodeError:
            found = [extractors.Extracted(text="", error="crash")]
        if level == logging.WARNING and len(jobs) > 1:
            return []
        for job, one in zip(jobs, found, strict=False):
            if one.error:
                _log.log(
                    level,
                    "extraction failed: reason=%s format=%s gzipped=%s size_bytes=%d text_chars=%d seconds=%.3f said=%r",
                    one.error,
                    job.format,
                    job.gzipped,
                    job.size,
                    len(one.text),
                    time.monotonic() - started,
                    said,
                )
        return found

    def close(self) -> None:
        """End the children. Whatever is asked afterwards has no words."""
        self._sandbox.close()
