"""Small objects, many in one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from epista.contract import frames
from epista.contract.objects import Framed, FrameHead, SendFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epista.client.session import Session

F = TypeVar("F", bound=Framed)


def send(here: Session, bodies: Mapping[str, bytes], head: FrameHead, reply: type[F]) -> F:
    """Send *bodies*, by their sha256, and have made of them what *head* says."""
    body = frames.joined(msgspec.json.encode(head), frames.frame(bodies.items()))
    return here.wire.send("frames.send", SendFrame(workspace=here.name), body=body, size=len(body), reply=reply)
