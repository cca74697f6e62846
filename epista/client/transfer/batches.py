"""
Whole folders to the lab, as one commit.

A pipeline: small files are read once, hashed, and sent in frames while the next ones are read; large ones go beside them. What
the lab has is not sent. Memory holds two or three frames, and for each file its names and its hash. What fits one frame is one
request; otherwise the keys are set aside with their frames, and a last request makes all of them visible.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from epista.client.transfer import frames, upload
from epista.client.transfer.hashing import PIECE_BYTES
from epista.client.transfer.threads import FRAMES_AT_A_TIME
from epista.contract.errors import EpistaError, ServerError, UnreachableError
from epista.contract.frames import MAX_BODY_BYTES, MAX_OBJECTS, SMALL_BYTES
from epista.contract.lineage import Origin, said
from epista.contract.objects import Assets, CommitBatch, Framed, FrameHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

    from epista.client.session import Session
    from epista.client.transfer.progress import Progress
    from epista.contract.objects import PutObject

HEAD_BYTES = 4 * 1024 * 1024
"""How much the keys and metadata of one part come to, about."""

COMMIT_SECONDS = 3600.0
"""How long the commit of a large batch may take before the connection counts as broken."""

_ASK_FROM_BYTES = 1024 * 1024
_KEY_BYTES = 250


class File(NamedTuple):
    """One file on its way."""

    name: str
    """Relative to the folder."""
    path: Path
    """Where it is."""
    size_bytes: int
    """When it was found."""
    meta_bytes: int
    """How much metadata it has, about."""


class Receipts(NamedTuple):
    """The replies to expect, with the caller's own class of assets."""

    framed: type[Framed]
    assets: type[Assets]


class _Load(NamedTuple):
    """One part of the batch: its files, and the contents of the small ones."""

    number: int
    names: list[str]
    hashes: dict[str, str]
    """By name, of the small files."""
    bodies: dict[str, bytes]
    """By sha256."""


class _Sender:
    def __init__(self, here: Session, files: Sequence[File], progress: Progress) -> None:
        self.here = here
        self.files = files
        self.progress = progress
        self.problems: dict[str, str] = {}
        self.large = {file.name: file.path for file in files if file.size_bytes >= SMALL_BYTES}
        self._arrived: set[str] = set()

    def loads(self) -> Iterator[_Load]:
        """Read the small files, each once, and cut the files into parts."""
        load, room, head = _Load(0, [], {}, {}), MAX_BODY_BYTES, HEAD_BYTES
        for file in self.files:
            data = None if file.name in self.large else self._read(file)
            cost = _KEY_BYTES + len(file.name) + file.meta_bytes
            if load.names and (len(load.names) == MAX_OBJECTS or len(data or b"") > room or cost > head):
                yield load
                load, room, head = _Load(load.number + 1, [], {}, {}), MAX_BODY_BYTES, HEAD_BYTES
            load.names.append(file.name)
            head -= cost
            if data is not None:
                sha256 = load.hashes[file.name] = hashlib.sha256(data).hexdigest()
                self.progress.advance(len(data))
                # What is wrong with any file is told of all of them, so reading goes on; but nothing more is sent.
                if sha256 not in load.bodies and not self.problems:
                    load.bodies[sha256] = data
                    room -= len(data)
        yield load

    def _read(self, file: File) -> bytes | None:
        try:
            data = upload.read_small(file.path)
            if data is None:
                # It has grown since the walk.
                self.large[file.name] = file.path
            return data
        except EpistaError as error:
            self.problems[file.name] = error.message
            return b""

    def lacking(self, load: _Load) -> dict[str, bytes]:
        """Return the contents of a part that have to be sent."""
        bodies = {sha256: data for sha256, data in load.bodies.items() if sha256 not in self._arrived}
        # For little, the question costs as much as the answer saves.
        if sum(map(len, bodies.values())) < _ASK_FROM_BYTES:
            return bodies
        return {sha256: bodies[sha256] for sha256 in upload.missing(self.here, list(bodies))}

    def send(self, load: _Load, head: FrameHead) -> None:
        """Send a part, or only its contents if *head* has no keys yet."""
        bodies = self.lacking(load)
        if bodies or head.objects:
            frames.send(self.here, bodies, head, Framed)
            self._arrived.update(bodies)

    def send_large(self, names: Sequence[str]) -> dict[str, str]:
        """Send the large files, and return their hashes as they are now in the lab."""
        paths = {name: self.large[name] for name in names}
        hashes = upload.hash_files(paths, self.progress)
        lacking = upload.missing(self.here, sorted(set(hashes.values())))
        return upload.send_files(self.here, paths, hashes, lacking, self.progress)


def put(
    here: Session,
    files: Sequence[File],
    describe: Callable[[str, str], PutObject],
    origin: Origin,
    receipts: Receipts,
    progress: Progress,
) -> list[Any]:
    """
    Send *files*, whose keys ascend, and commit them as one; return the assets in this order.

    *describe* gives what is to be made of a file, by its name and its sha256.
    """
    sender = _Sender(here, files, progress)
    with ThreadPoolExecutor(FRAMES_AT_A_TIME + 1, thread_name_prefix="epista-transfer") as pool:
        try:
            known = list(sender.large)
            large = pool.submit(sender.send_large, known) if known else None
            loads = sender.loads()
            first, second = next(loads), next(loads, None)
            if second is None:
                upload.refuse(sender.problems)
                hashes = first.hashes | (large.result() if large else {}) | _grown(sender, known)
                made = tuple(describe(name, hashes[name]) for name in first.names)
                head = FrameHead(objects=made, **said(origin))
                return list(frames.send(here, sender.lacking(first), head, receipts.framed).assets)
            return _in_parts(sender, pool, chain([first, second], loads), large, describe, origin, receipts)
        except BaseException:
            progress.stop()
            raise


def _in_parts(
    sender: _Sender,
    pool: ThreadPoolExecutor,
    loads: Iterator[_Load],
    large: Future[dict[str, str]] | None,
    describe: Callable[[str, str], PutObject],
    origin: Origin,
    receipts: Receipts,
) -> list[Any]:
    batch = uuid.uuid4().hex
    known = list(sender.large)
    pending: deque[Future[None]] = deque()
    later: list[_Load] = []
    parts = 0

    def told(load: _Load, hashes: Mapping[str, str]) -> FrameHead:
        return FrameHead(objects=tuple(describe(name, hashes[name]) for name in load.names), batch=batch, part=load.number)

    for load in loads:
        parts += 1
        if sender.problems:
            continue
        is_whole = len(load.hashes) == len(load.names)
        if not is_whole:
            # Its keys are set aside when the large files among them have arrived.
            later.append(load._replace(bodies={}))
        while len(pending) >= FRAMES_AT_A_TIME:
            pending.popleft().result()
        pending.append(pool.submit(sender.send, load, told(load, load.hashes) if is_whole else FrameHead()))
    for future in pending:
        future.result()
    upload.refuse(sender.problems)
    arrived = (large.result() if large else {}) | _grown(sender, known)
    for load in later:
        sender.send(load, told(load, load.hashes | arrived))
    here = sender.here
    request = CommitBatch(workspace=here.name, batch=batch, parts=parts, **said(origin))
    return committed(here, request, receipts.assets)


def _grown(sender: _Sender, known: Sequence[str]) -> dict[str, str]:
    """Send the files that were small when they were found."""
    before = set(known)
    names = [name for name in sender.large if name not in before]
    return sender.send_large(names) if names else {}


def committed(here: Session, request: CommitBatch, page: type[Assets], *, keep: bool = True) -> list[Any]:
    """Commit, and read the receipts, to *keep* them or not; asked again, as after a lost answer, the lab gives the same."""
    tries = 3
    while True:
        made: list[Any] = []
        try:
            with here.wire.open("batches.commit", request, read_seconds=COMMIT_SECONDS) as response:
                for line in _lines(here, response):
                    receipts = msgspec.json.decode(line, type=page).assets
                    made += receipts if keep else ()
                response.release_conn()
            return made
        except msgspec.DecodeError:
            raise ServerError("the lab's answer to a commit is no receipt", hint="it may be done: look with ws.ls") from None
        except UnreachableError:
            tries -= 1
            if not tries:
                raise


def _lines(here: Session, response: BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    while True:
        with here.wire.reading():
            piece = response.read(PIECE_BYTES, decode_content=False)
        if not piece:
            if rest:
                raise UnreachableError("the connection ended within a receipt")
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
