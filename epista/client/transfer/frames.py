"""Small objects, many in one request."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

import msgspec

from epista.client.transfer.hashing import PIECE_BYTES
from epista.contract import frames
from epista.contract.errors import UnreachableError
from epista.contract.objects import Framed, FrameHead, ReadFrames, SendFrame

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from epista.client.session import Session

F = TypeVar("F", bound=Framed)


def send(here: Session, bodies: Mapping[str, bytes], head: FrameHead, reply: type[F]) -> F:
    """Send *bodies*, by their sha256, and have made of them what *head* says."""
    body = frames.joined(msgspec.json.encode(head), frames.frame(bodies.items()))
    return here.wire.send("frames.send", SendFrame(workspace=here.name), body=body, size=len(body), reply=reply)


def read(here: Session, versions: Sequence[str], stall_seconds: float) -> Generator[tuple[str, bytes]]:
    """
    Give the small contents of *versions* that arrive whole, each once, with the sha256 that it has.

    Some may be left out, whatever the reason: ask for them by themselves, which tells what is wrong.

    Raises:
        EpistaError: the answer did not come, or broke off; what was given before is good.
    """
    request = ReadFrames(workspace=here.name, versions=tuple(versions))
    with here.wire.open("frames.read", request, read_seconds=stall_seconds) as response:
        arriving = _Arriving(here, response)
        prefix = arriving.take(frames.PREFIX_BYTES)
        head = prefix + arriving.take(frames.header_bytes(prefix) - len(prefix))
        for sha256, size in frames.entries(head):
            data = arriving.take(size)
            if hashlib.sha256(data).hexdigest() == sha256:
                yield sha256, data
        # To its end, so that the connection can be used again.
        with here.wire.reading():
            response.drain_conn()
        response.release_conn()


class _Arriving:
    """The body of an answer, to be taken in runs of any length."""

    def __init__(self, here: Session, response: BaseHTTPResponse) -> None:
        self._here = here
        self._response = response
        self._piece = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        stop = self._at + size
        if stop <= len(self._piece):
            found, self._at = self._piece[self._at : stop], stop
            return found
        parts = [self._piece[self._at :]]
        size -= len(parts[0])
        while size:
            with self._here.wire.reading():
                self._piece = self._response.read(PIECE_BYTES, decode_content=False)
            if not self._piece:
                raise UnreachableError("the connection ended within a frame")
            parts.append(self._piece[:size])
            self._at = len(parts[-1])
            size -= self._at
        return b"".join(parts)
