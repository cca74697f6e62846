"""The server's side of indexes of sequences: limited children (`sequence_files`) make them, and it waits only so long."""

from __future__ import annotations

import bisect
import struct

import msgspec

from epista.contract import sequences as wire
from epista.contract.errors import NotFoundError, TooLargeError, UnavailableError, ValidationError
from epista.serializers.sequences import Entry, region
from epista.server.engines import sequence_files
from epista.server.engines.sandbox import NoReplyError, Sandbox
from epista.server.engines.sequence_files import Index
from epista.server.engines.sources import Job

_MAX_REPLY_BYTES = 2 * sequence_files.MAX_INDEX_BYTES + 1024**2
_WAIT_SECONDS = 60.0

MAX_BLOCK_BYTES = 65_536
"""How large a block of bgzip is at most, stored and unpacked."""


class Indexer:
    """Indexes sequences in limited children; for any number of threads. Close it when done."""

    def __init__(self, *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._sandbox = Sandbox(sequence_files.__name__, max_reply_bytes=_MAX_REPLY_BYTES, jobs_per_child=100)

    def index(self, job: Job) -> Index:
        """
        Return the index of a file, or why it has none.

        Raises:
            TooLargeError: it takes too long, or more memory than one may.
            UnavailableError: too many are made at once.
        """
        try:
            reply = self._sandbox.run(
                msgspec.msgpack.encode(job), timeout_seconds=self._timeout_seconds, wait_seconds=_WAIT_SECONDS
            )
            return msgspec.msgpack.decode(reply, type=Index)
        except NoReplyError as problem:
            if problem.reason in ("timeout", "crash"):
                raise TooLargeError("the file could not be indexed: it takes more time or memory than one may") from problem
            raise UnavailableError("too many files are being indexed just now", hint="try again in a moment") from problem

    def close(self) -> None:
        """End the children."""
        self._sandbox.close()


def located(index: Index, text: str, version: str, key: str) -> wire.Region:
    """
    Return where the letters of a region lie: a whole name wins, since names hold colons, and an end beyond the record is cut.

    Raises:
        NotFoundError: no record has that name.
        ValidationError: it begins outside the record.
    """
    entry, start, stop = _entry(index.fai, text), 1, None
    if entry is None and (parts := region(text)) is not None:
        entry, (_, start, stop) = _entry(index.fai, parts[0]), parts
    if entry is None:
        raise NotFoundError(f"no record of {key!r} is called {text!r}", hint="ws.sequence.info(ref) lists the records")
    stop = entry.length if stop is None else min(stop, entry.length)
    if start < 1 or start > max(entry.length, 1) or stop < start - 1:
        raise ValidationError(f"{text!r}: {entry.name!r} has letters 1 to {entry.length:,}")
    first, end = entry.at(start - 1), entry.at(stop - 1) + 1 if stop >= start else entry.at(start - 1)
    told = wire.Region(
        version=version, name=entry.name, length=entry.length, start=start, stop=stop, first=first, size=end - first
    )
    return _packed(told, index.gzi) if index.gzi else told


def _entry(fai: bytes, name: str) -> Entry | None:
    mark = name.encode() + b"\t"
    at = 0 if fai.startswith(mark) else fai.find(b"\n" + mark) + 1
    # A name is one word; of several, the first could be the name of a line and the next its numbers.
    if mark.split() != [mark[:-1]] or (at == 0 and not fai.startswith(mark)):
        return None
    found, *numbers = fai[at : fai.index(b"\n", at)].decode().split("\t")
    length, offset, bases, width = map(int, numbers)
    return Entry(found, length, offset, bases, width)


def _packed(told: wire.Region, gzi: bytes) -> wire.Region:
    """Return the same in blocks of bgzip: from the one with the first letter to the one with the last."""

    def block(number: int) -> tuple[int, int]:
        stored, unpacked = struct.unpack_from("<QQ", gzi, 16 * number)
        return stored, unpacked

    blocks = range(len(gzi) // 16)
    begin = bisect.bisect_right(blocks, told.first, key=lambda number: block(number)[1]) - 1
    end = bisect.bisect_left(blocks, told.first + told.size, begin + 1, key=lambda number: block(number)[1])
    stored, unpacked = block(begin)
    size = (block(end)[0] if end < len(blocks) else block(len(blocks) - 1)[0] + MAX_BLOCK_BYTES) - stored
    return msgspec.structs.replace(told, first=stored, size=size, skip=told.first - unpacked, is_packed=True)
