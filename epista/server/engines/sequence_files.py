"""
The child that indexes FASTA files, as ``samtools faidx`` and ``bgzip -r`` do.

Runs as ``python -m``; the server imports it for the messages only.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from typing import Any

import msgspec

from epista.contract.errors import EpistaError
from epista.serializers import sequences
from epista.server.engines import sandbox
from epista.server.engines.sources import Job, Range

VERSION = 2
"""Rises when the same bytes give another index."""

MAX_INDEX_BYTES = 48 * 1024**2
"""How large an index may be; it has a line of some 60 bytes for each record."""

MIN_BLOCK_BYTES = 26
"""The head and the tail of a block of bgzip, without anything between them."""

STUCK_SECONDS = 24 * 3600.0


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file."""

    fai: bytes = b""
    """Lines of ``samtools faidx``."""
    gzi: bytes = b""
    """Of a file of bgzip: pairs of 64-bit numbers, where a block begins as stored and as unpacked."""
    problem: str = ""
    """Why there is no index."""
    is_scanned: bool = False
    """Whether the file can be read all the same, from its beginning."""


def make(job: Job) -> Index:
    """Index a file."""
    try:
        with io.FileIO(job.path, "rb") as file:
            stored: Any = io.BufferedReader(Range(file, job.offset, job.size), 1024 * 1024)
            if not job.gzipped:
                return Index(fai=_fai(stored))
            gzi = _gzi(stored)
            if gzi is None:
                return Index(problem="it is one gzip stream, in which nothing can be found by its place", is_scanned=True)
            stored.seek(0)
            with gzip.GzipFile(fileobj=stored) as unpacked:
                return Index(fai=_fai(io.BufferedReader(unpacked, 1024 * 1024)), gzi=gzi)
    except sequences.RaggedError as error:
        return Index(problem=error.message, is_scanned=True)
    except EpistaError as error:
        return Index(problem=error.message)
    except (OSError, EOFError, zlib.error):
        return Index(problem="the file is cut or damaged")


def _fai(file: Any) -> bytes:
    out = io.BytesIO()
    for entry in sequences.index(sequences.lines(file)):
        out.write(("\t".join(map(str, entry)) + "\n").encode())
        if out.tell() > MAX_INDEX_BYTES:
            raise sequences.RaggedError("it has too many records for an index")
    return out.getvalue()


def _gzi(file: Any) -> bytes | None:
    """Return where the blocks begin; None if the file is not of bgzip (SAM specification, 4.1)."""
    out, stored, unpacked = io.BytesIO(), 0, 0
    while True:
        file.seek(stored)
        head = file.read(18)
        if not head:
            return out.getvalue()
        if len(head) < 18 or head[:4] != b"\x1f\x8b\x08\x04" or head[12:16] != b"BC\x02\x00":
            return None
        size = int.from_bytes(head[16:18], "little") + 1
        if size < MIN_BLOCK_BYTES:
            return None
        file.seek(stored + size - 4)
        tail = file.read(4)
        if len(tail) < 4:
            raise EOFError
        out.write(struct.pack("<QQ", stored, unpacked))
        if out.tell() > MAX_INDEX_BYTES:
            return None
        stored += size
        unpacked += int.from_bytes(tail, "little")


def _work(job: bytes) -> bytes:
    return msgspec.msgpack.encode(make(msgspec.msgpack.decode(job, type=Job)))


if __name__ == "__main__":
    sandbox.serve(_work, stuck_seconds=STUCK_SECONDS)
