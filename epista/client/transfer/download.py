"""
Bytes from the lab: to files, to memory, by range.

Content is pinned before it moves: a version's id, size and sha256. What arrives is hashed on the way and counts only when
the hash agrees. A transfer that breaks is taken up again where it stopped, in this run or the next one.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import itertools
import os
import queue
import random
import re
import secrets
import stat
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from epista.client.transfer import destinations, disk, frames
from epista.client.transfer.hashing import PIECE_BYTES, Digest
from epista.client.transfer.threads import AT_A_TIME, FRAMES_AT_A_TIME, Lane
from epista.client.transfer.threads import lanes as in_lanes
from epista.contract.errors import EpistaError, IntegrityError, ServerError, UnreachableError
from epista.contract.frames import MAX_BODY_BYTES, MAX_OBJECTS, SMALL_BYTES
from epista.contract.objects import LocateBlob, Location, ReadContent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from epista.client.session import Session
    from epista.client.transfer.cache import Cache
    from epista.client.transfer.progress import Progress

T = TypeVar("T")

PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""How long to wait before each retry in a row; a byte that arrives starts the row again."""

GONE_AFTER = 10
"""After how many files in a row without an answer the others are no longer tried, for each waits for its retries."""

_FRUITLESS = 2
"""After how many frames in a row that brought nothing each content is asked for by itself."""

STALL_SECONDS = 60.0
"""How long a connection may be silent before it counts as broken."""

DISK_FROM_BYTES = 256 * 1024
"""From this size on, an embedded lab's bytes go from disk to disk; smaller ones share files, and are asked for sooner."""


FAR_SECONDS = 0.005
"""From this round trip on, one connection cannot fill the way, and a large version comes in ranges over several."""

RANGE_BYTES = 16 * 1024 * 1024
"""The size of such a range."""

RANGES_AT_ONCE = 4
"""How many of them are under way; so many may be in memory, for they are handed on in order."""

_in_ranges = threading.BoundedSemaphore(1)


class Pinned(NamedTuple):
    """A version whose bytes are wanted; immutable, whatever happens to its key meanwhile."""

    key: str
    """Where its asset stands."""
    version: str
    """The id of the version."""
    size_bytes: int
    """Of its bytes."""
    sha256: str | None
    """Of its bytes; None for a linked file that nobody has read whole yet."""
    format: str
    """The name of its format."""
    options: Mapping[str, Any] | None
    """The serializer's options; None where the listing did not tell them."""


class Job(NamedTuple):
    """A version that belongs in a file."""

    wanted: Pinned
    """Which version."""
    target: Path
    """The file."""
    root: Path | None
    """The folder below which no link is followed; None if the user named the file itself."""


Result = dict[str, Any]
"""One line of `TransferError.results`."""


def to_file(here: Session, job: Job, progress: Progress) -> Literal["written", "unchanged"]:
    """
    Bring one version into its file, unless the file has these bytes already.

    Raises:
        IntegrityError: what arrives is not what was listed, twice.
        StorageFullError: the disk is full; what has arrived is kept for the next time.
        TransferError: the file cannot be written.
    """
    wanted, target, root = job
    if progress.unanswered >= GONE_AFTER:
        raise UnreachableError(f"{wanted.key!r} was not asked for, because the server no longer answers")
    try:
        # Before folders are made: one made behind a link would already be outside.
        if root is not None:
            destinations.refuse_links(root, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if _has(target, wanted, progress):
            progress.advance(wanted.size_bytes)
            return "unchanged"
        _replace(here, wanted, target, progress)
    except EpistaError:
        raise
    except OSError as error:
        raise disk.explain(error, target) from error
    return "written"


def to_files(here: Session, jobs: Sequence[Job], progress: Progress) -> list[Result]:
    """Bring many versions into their files, small ones in frames; the failure of one never stops the others."""
    results: dict[str, Result] = {}
    small = _Small(here, progress)
    grouped, single = _split(jobs, lambda job: job.wanted)
    lanes = [Lane(small.to_files, grouped, FRAMES_AT_A_TIME), Lane(lambda job: [_one(here, job, progress)], single, AT_A_TIME)]
    with contextlib.closing(in_lanes(lanes, progress)) as outcomes:
        for _, outcome in outcomes:
            results.update((line["key"], line) for line in outcome.result())
    return [results[job.wanted.key] for job in jobs]


def to_memories(here: Session, wanted: Sequence[Pinned], progress: Progress) -> Generator[tuple[Pinned, bytes]]:
    """Give many versions with their bytes, verified, as they come; a failure ends it."""

    def framed(group: Sequence[Pinned]) -> list[tuple[Pinned, bytes]]:
        found = dict(_framed(here, group, progress))
        have = {sha256: data for sha256, data in found.items() if sha256}
        return [(one, have[one.sha256] if one.sha256 in have else to_memory(here, one, progress)) for one in group]

    grouped, single = _split(wanted, lambda one: one)
    lanes = [
        Lane(framed, grouped, FRAMES_AT_A_TIME),
        Lane(lambda one: [(one, to_memory(here, one, progress))], single, AT_A_TIME),
    ]
    with contextlib.closing(in_lanes(lanes, progress)) as outcomes:
        for _, outcome in outcomes:
            yield from outcome.result()


def to_memory(here: Session, wanted: Pinned, progress: Progress) -> bytes:
    """
    Return the bytes of one version, verified.

    Raises:
        IntegrityError: what arrives is not what was listed, twice.
    """
    # BytesIO grows in place and gives its buffer away without a copy, so the bytes are in memory once.
    sink = io.BytesIO()
    _bring(here, wanted, sink, progress)
    return sink.getvalue()


def stream(
    here: Session, wanted: Pinned, start: int, stop: int, progress: Progress, *, is_begun: bool = False
) -> Generator[bytes]:
    """
    Give the bytes of a version from *start* up to *stop*, in pieces, not verified.

    Timeouts, resets, short bodies and 5xx are taken up again where they broke, as long as something arrives in between. A lab
    that does not answer at all is given up at once, unless the transfer *is_begun*: then it may have been started again.
    """
    at, tries = start, 0
    while at < stop:
        try:
            # One break is bad luck; of two in a row without a byte between them the way may be the reason.
            response = _ask(here, wanted, at, stop, may_detour=tries < 2)
        except ServerError as error:
            broken: EpistaError = error
        except UnreachableError as error:
            if at == start and not is_begun:
                progress.unanswered += 1
                raise
            broken = error
        else:
            progress.unanswered = 0
            with response:
                try:
                    for piece in _pieces(here, wanted, response, at, stop):
                        at += len(piece)
                        tries = 0
                        yield piece
                    continue
                except UnreachableError as error:
                    broken = error
        if tries == len(PAUSES_SECONDS):
            raise broken
        progress.wait(PAUSES_SECONDS[tries] * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
        tries += 1


def stream_in_ranges(here: Session, wanted: Pinned, start: int, stop: int, progress: Progress) -> Generator[bytes]:
    """
    Do as `stream`, over several connections at once.

    What comes too early waits in memory, so that a file only ever grows at its end: whatever stops a transfer, what is there
    is a good beginning.
    """
    stopped = threading.Event()

    def bring(span: tuple[int, int], pieces: queue.SimpleQueue[bytes | None]) -> None:
        try:
            with contextlib.closing(stream(here, wanted, *span, progress, is_begun=span[0] > start)) as arriving:
                for piece in arriving:
                    if stopped.is_set():
                        return
                    pieces.put(piece)
        finally:
            pieces.put(None)

    def begun(span: tuple[int, int]) -> tuple[queue.SimpleQueue[bytes | None], Future[None]]:
        pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        return pieces, pool.submit(bring, span, pieces)

    spans = ((at, min(at + RANGE_BYTES, stop)) for at in range(start, stop, RANGE_BYTES))
    with ThreadPoolExecutor(RANGES_AT_ONCE, thread_name_prefix="epista-range") as pool:
        try:
            waiting = deque(map(begun, itertools.islice(spans, RANGES_AT_ONCE)))
            while waiting:
                pieces, outcome = waiting.popleft()
                while (piece := pieces.get()) is not None:
                    yield piece
                outcome.result()
                waiting.extend(map(begun, itertools.islice(spans, 1)))
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def result(key: str, status: Literal["written", "unchanged", "skipped", "failed"], error: EpistaError | None = None) -> Result:
    """Return one line of `TransferError.results`; *error* is told as its text and its code."""
    return {"key": key, "status": status, "error": str(error) if error else None, "code": error.code if error else None}


def _one(here: Session, job: Job, progress: Progress) -> Result:
    try:
        return result(job.wanted.key, to_file(here, job, progress))
    except EpistaError as error:
        return result(job.wanted.key, "failed", error)


def _split(items: Sequence[T], pinned: Callable[[T], Pinned]) -> tuple[list[list[T]], list[T]]:
    """Return groups of small items, each for one frame, and the items that travel alone."""
    groups: list[list[T]] = []
    single: list[T] = []
    size = 0
    for item in items:
        item_bytes = pinned(item).size_bytes
        if item_bytes >= SMALL_BYTES or pinned(item).sha256 is None:
            single.append(item)
        elif not groups or len(groups[-1]) == MAX_OBJECTS or size + item_bytes > MAX_BODY_BYTES:
            groups.append([item])
            size = item_bytes
        else:
            groups[-1].append(item)
            size += item_bytes
    return groups, single


def _framed(here: Session, wanted: Iterable[Pinned], progress: Progress) -> Generator[tuple[str, bytes]]:
    """
    Give contents from the cache, and those that arrive in frames, by their sha256.

    An answer that breaks off is asked for again while more arrives.
    """
    pinned = list(wanted)
    lacking = {one.sha256: one for one in pinned if one.sha256 is not None}
    if here.cache:
        for sha256, known in list(lacking.items()):
            kept = io.BytesIO()
            if _recalled(here.cache, known, kept, progress):
                del lacking[sha256]
                yield sha256, kept.getvalue()
    fruitless = 0
    # What stands at one key alone is as well asked for by itself.
    while sum(one.sha256 in lacking for one in pinned) > 1 and fruitless < _FRUITLESS:
        before = len(lacking)
        try:
            with contextlib.closing(frames.read(here, [one.version for one in lacking.values()], STALL_SECONDS)) as arriving:
                for sha256, data in arriving:
                    if (one := lacking.pop(sha256, None)) is not None:
                        progress.advance(one.size_bytes)
                        if here.cache:
                            here.cache.keep(sha256, len(data), functools.partial(_pour, io.BytesIO(data)))
                        yield sha256, data
            return
        except EpistaError:
            fruitless = fruitless + 1 if len(lacking) == before else 0


class _Small:
    """Small files of one fetch: what a frame brings is written by one thread."""

    def __init__(self, here: Session, progress: Progress) -> None:
        self._here = here
        self._progress = progress
        self._folders: set[Path] = set()

    def to_files(self, jobs: Sequence[Job]) -> list[Result]:
        results: list[Result] = []
        waiting: dict[str | None, list[Job]] = {}
        for job in jobs:
            try:
                if self._is_there(job):
                    self._progress.advance(job.wanted.size_bytes)
                    results.append(result(job.wanted.key, "unchanged"))
                else:
                    waiting.setdefault(job.wanted.sha256, []).append(job)
            except EpistaError as error:
                results.append(result(job.wanted.key, "failed", error))
            except OSError as error:
                results.append(result(job.wanted.key, "failed", disk.explain(error, job.target)))
        if self._progress.unanswered < GONE_AFTER:
            framed = _framed(self._here, [job.wanted for twins in waiting.values() for job in twins], self._progress)
            with contextlib.closing(framed) as arriving:
                for sha256, data in arriving:
                    results += [self._write(job, data) for job in waiting.pop(sha256)]
        # What no frame had, for whatever reason, is asked for by itself, with all the retries and errors of that.
        results += [_one(self._here, job, self._progress) for twins in waiting.values() for job in twins]
        return results

    def _is_there(self, job: Job) -> bool:
        """Make way for the file, unless it has its bytes already."""
        folder = job.target.parent
        if folder not in self._folders:
            # Before folders are made: one made behind a link would already be outside. A fetch itself makes no links.
            if job.root is not None:
                destinations.refuse_links(job.root, folder)
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        try:
            found = os.lstat(job.target)
        except FileNotFoundError:
            return False
        if stat.S_ISLNK(found.st_mode) and job.root is not None:
            destinations.refuse_links(job.root, job.target)
        return _has(job.target, job.wanted, self._progress)

    def _write(self, job: Job, data: bytes) -> Result:
        # Too short to be worth continuing, so the file is no part that the next run looks for.
        part = f"{job.target.parent}{os.sep}.epista-{secrets.token_hex(8)}{destinations.PART_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            fd = os.open(part, flags, 0o666)
            try:
                try:
                    disk.write_all(fd, data)
                finally:
                    os.close(fd)
                os.replace(part, job.target)  # noqa: PTH105 - a Path each is a tenth of the time
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part)  # noqa: PTH108 - as above
                raise
        except OSError as error:
            return result(job.wanted.key, "failed", disk.explain(error, job.target))
        return result(job.wanted.key, "written")


def _replace(here: Session, wanted: Pinned, target: Path, progress: Progress) -> None:
    agreed = destinations.part_of(target, wanted.sha256 or wanted.version)
    part, sink = _open_part(agreed)
    try:
        _bring(here, wanted, sink, progress)
        progress.advance(0)
        if destinations.ON_WINDOWS:
            sink.close()  # an open file cannot be renamed there
        part.replace(target)
    except BaseException as error:
        # Only a good beginning under the agreed name is of use to the next run.
        if isinstance(error, IntegrityError) or part != agreed or sink.closed or not sink.tell():
            sink.close()
            part.unlink(missing_ok=True)
        raise
    finally:
        sink.close()


def _open_part(part: Path) -> tuple[Path, io.FileIO]:
    """Open *part* to be continued, or another one if somebody else is at it or something else stands there."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        sink = io.FileIO(os.open(part, flags, 0o666), "r+b")
        # Whoever held it before may have renamed it to its target just now.
        opened, named = os.fstat(sink.fileno()), part.lstat()
        if disk.lock(sink) and stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, named):
            return part, sink
        sink.close()
    part = part.with_name(f".epista-{secrets.token_hex(8)}{destinations.PART_SUFFIX}")
    return part, io.FileIO(os.open(part, flags | os.O_EXCL, 0o666), "r+b")


def _bring(here: Session, wanted: Pinned, sink: io.FileIO | io.BytesIO, progress: Progress) -> None:
    """Complete *sink*, which may hold a beginning, and verify it; start again once if it is not what was wanted."""
    if here.is_embedded and wanted.size_bytes >= DISK_FROM_BYTES:
        _empty(sink)
        try:
            if _copy(here, wanted, sink, progress):
                return
        except BaseException:
            # A copy from disk to disk always begins anew; what there is of it would only take room.
            _empty(sink)
            raise
        _empty(sink)
    if here.cache and _recalled(here.cache, wanted, sink, progress):
        return
    for _ in range(2):
        with Digest(wanted.size_bytes) as digest:
            _rehash(sink, wanted, digest, progress)
            with _arriving(here, wanted, digest.size_bytes, progress) as pieces:
                for piece in pieces:
                    # First, because it goes on while the disk is written to.
                    digest.update(piece)
                    disk.write(sink, piece)
                    progress.advance(len(piece))
            found = digest.hexdigest()
            if found == expected(here, wanted, found):
                if here.cache:
                    here.cache.keep(found, wanted.size_bytes, functools.partial(_pour, sink))
                return
        progress.advance(-digest.size_bytes)
        _empty(sink)
    raise IntegrityError(
        f"the bytes that arrive for {wanted.key!r} do not have the sha256 that was recorded; nothing was replaced",
        hint="'epista verify' checks the lab's own copy; an earlier version may be whole (ws.versions)",
        details={"key": wanted.key, "version": wanted.version, "sha256": wanted.sha256},
    )


def expected(here: Session, wanted: Pinned, found: str) -> str:
    """
    Return the sha256 that a version has: as it was listed, or of a linked file as the lab took it when it read it just now.

    Who got it in parts has read it whole, and the lab has not: then there is none but the one that was *found*.
    """
    if wanted.sha256 is not None or not wanted.size_bytes:
        return wanted.sha256 or found
    try:
        with _ask(here, wanted, 0, 1, may_detour=False) as response:
            told = response.headers.get("Repr-Digest", "")
    except EpistaError:
        return found
    known = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", told)
    return base64.b64decode(known[1]).hex() if known else found


def _recalled(cache: Cache, wanted: Pinned, sink: io.FileIO | io.BytesIO, progress: Progress) -> bool:
    """Fill *sink* from the cache and verify it; else leave it as it was, and drop what is not what it should be."""
    if wanted.sha256 is None:
        return False
    with cache.content(wanted.sha256) as source:
        if source is None:
            return False
        _empty(sink)
        if os.fstat(source.fileno()).st_size == wanted.size_bytes and _filled(source, wanted, sink, progress):
            return True
    cache.drop(wanted.sha256)
    _empty(sink)
    return False


def _filled(source: io.FileIO, wanted: Pinned, sink: io.FileIO | io.BytesIO, progress: Progress) -> bool:
    """Copy the bytes of *source* from where it stands, and verify them."""
    with Digest(wanted.size_bytes) as digest:
        whole = source.tell() == 0 and os.fstat(source.fileno()).st_size == wanted.size_bytes
        if whole and isinstance(sink, io.FileIO) and disk.clone(source, sink):
            _rehash(sink, wanted, digest, progress)
        else:
            while piece := source.read(min(PIECE_BYTES, wanted.size_bytes - digest.size_bytes)):
                digest.update(piece)
                disk.write(sink, piece)
                progress.advance(len(piece))
        if digest.hexdigest() == wanted.sha256:
            return True
    progress.advance(-digest.size_bytes)
    return False


def _pour(source: io.FileIO | io.BytesIO, sink: io.FileIO) -> None:
    """Copy all of *source*, which stays at its end."""
    if isinstance(source, io.FileIO) and disk.clone(source, sink):
        return
    source.seek(0)
    while piece := source.read(PIECE_BYTES):
        disk.write(sink, piece)


@contextlib.contextmanager
def _arriving(here: Session, wanted: Pinned, start: int, progress: Progress) -> Iterator[Iterator[bytes]]:
    """Give the bytes from *start* on, in ranges if the lab is far and there are enough of them."""
    is_far = here.wire.round_trip_seconds >= FAR_SECONDS and wanted.size_bytes - start >= RANGES_AT_ONCE * RANGE_BYTES
    # One version at a time: what waits in memory is bounded, and others have one connection each.
    in_ranges = is_far and _in_ranges.acquire(blocking=False)
    try:
        way = stream_in_ranges if in_ranges else stream
        with contextlib.closing(way(here, wanted, start, wanted.size_bytes, progress)) as pieces:
            yield pieces
    finally:
        if in_ranges:
            _in_ranges.release()


def _empty(sink: io.FileIO | io.BytesIO) -> None:
    sink.seek(0)
    sink.truncate()


def _rehash(sink: io.FileIO | io.BytesIO, wanted: Pinned, digest: Digest, progress: Progress) -> None:
    if sink.seek(0, os.SEEK_END) > wanted.size_bytes:
        _empty(sink)
    sink.seek(0)
    while piece := sink.read(PIECE_BYTES):
        digest.update(piece)
        progress.advance(len(piece))


def _copy(here: Session, wanted: Pinned, sink: io.FileIO | io.BytesIO, progress: Progress) -> bool:
    """Fill *sink* from the lab's own file on this machine and verify it; False if that cannot be, for HTTP to try."""
    try:
        place = here.wire.call("objects.locate", LocateBlob(workspace=here.name, version=wanted.version), reply=Location)
        source = io.FileIO(place.path)
    except (EpistaError, OSError):
        return False
    with source:
        source.seek(place.offset)
        return _filled(source, wanted, sink, progress)


def _has(target: Path, wanted: Pinned, progress: Progress) -> bool:
    """Whether *target* holds the wanted bytes already."""
    try:
        found = target.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != wanted.size_bytes:
            return False
        with io.FileIO(target) as file, Digest(wanted.size_bytes) as digest:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                progress.advance(0)
            return digest.hexdigest() == wanted.sha256
    except OSError:
        # What cannot be read cannot be compared; it may still be replaced.
        return False


def _ask(here: Session, wanted: Pinned, start: int, stop: int, *, may_detour: bool) -> BaseHTTPResponse:
    """
    Ask for the bytes from *start* up to *stop*; the wire itself asks again while there is no answer.

    Each time anew, also if they come from the lab's store: a link to it that has ended is followed by another.
    """
    partial = start > 0 or stop < wanted.size_bytes
    headers = {"Range": f"bytes={start}-{stop - 1}"} if partial else None
    request = ReadContent(workspace=here.name, version=wanted.version)
    return here.wire.open("objects.content", request, headers=headers, read_seconds=STALL_SECONDS, may_detour=may_detour)


def _pieces(here: Session, wanted: Pinned, response: BaseHTTPResponse, start: int, stop: int) -> Iterator[bytes]:
    """Give what an answer has of the bytes from *start* up to *stop*."""
    at = 0  # where a server begins that ignores ranges, or something on the way to it
    if response.status == 206:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise UnreachableError(f"another range of {wanted.key!r} arrives than was asked for")
        at = start
    while at < stop:
        with here.wire.reading():
            piece = response.read(min(PIECE_BYTES, stop - at), decode_content=False)
        if not piece:
            raise UnreachableError(f"the connection ended after {at:,} of {wanted.size_bytes:,} bytes of {wanted.key!r}")
        skipped = max(0, min(len(piece), start - at))
        at += len(piece)
        if skipped < len(piece):
            yield piece[skipped:]
