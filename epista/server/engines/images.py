"""The server's side of images: limited children (`image_files`) read them, and it waits only so long."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from epista.contract import errors
from epista.contract.errors import TooLargeError, UnavailableError
from epista.server.engines import image_files
from epista.server.engines.image_files import (
    Ask,
    Describe,
    Done,
    Failed,
    Features,
    Job,
    Levels,
    Place,
    Unknown,
    Wanting,
    WantingFile,
)
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.imaging import pyramids
from epista.server.imaging.index import Index
from epista.server.imaging.pyramids import Piece

ENVIRONMENT = {
    # One thread each: there is a child for each core. Arenas of malloc would be kept for good.
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Room for a tile that was given back to the system costs a third of what decoding the next one does, to get it again.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024**2),
}
"""Of the children."""

CHILDREN = max(2, os.cpu_count() or 2) + 1
"""One for each core, and one more, so that who has as much of the machine as there is does not keep others from looking."""

_MAX_REPLY_BYTES = 300 * 1024**2
_WAIT_SECONDS = 20.0

PACKAGES = ("numpy", "PIL", "tifffile", "imagecodecs")
"""What the children need."""


class ImageReader:
    """Reads images in limited children; for any number of threads. Close it when done."""

    def __init__(self, *, limits: Limits | None = None, children: int = CHILDREN, timeout_seconds: float = 30.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._sandbox = Sandbox(
            image_files.__name__,
            max_reply_bytes=_MAX_REPLY_BYTES,
            limits=limits or Limits(memory_bytes=3 * 1024**3),
            environment=ENVIRONMENT,
            children=children,
            jobs_per_child=10_000,
        )

    def index(self, place: Place, name: str, whole: Callable[[], Place] | None = None) -> bytes:
        """
        Find out what is in an image: an `epista.server.imaging.index.Index`, in MessagePack.

        *whole* gives the image as a file of its own, and is called if it can only be read so.

        Raises:
            UnreadableImageError: no reader knows it, or it is damaged.
            TooLargeError: it takes more time or memory than one may.
            UnavailableError: too many are read at once.
        """
        return self._body(Job(place=place, name=name, ask=Describe()), whole)

    def read(
        self,
        place: Place,
        name: str,
        ask: Ask,
        index: Callable[[], bytes],
        levels: Callable[[tuple[int, int, int]], Levels] | None = None,
        whole: Callable[[], Place] | None = None,
    ) -> bytes:
        """
        Read or draw.

        *index* gives what `index` gave, *levels* those that `make_levels` made of a plane (scene, z and t), and *whole* the image
        as a file of its own; they are called where a child needs them.

        Raises:
            InvalidRequestError, ValidationError: the image has no such thing.
            UnreadableImageError, TooLargeError, UnavailableError: as for `index`.
        """
        job = Job(place=place, name=name, ask=ask)
        reply = self._asked(job, whole)
        if isinstance(reply, Unknown):
            job = msgspec.structs.replace(job, index=index())
            reply = self._asked(job, whole)
        if isinstance(reply, Wanting) and levels is not None:
            # It may be another child that hears it.
            reply = self._asked(msgspec.structs.replace(job, index=index(), made=levels(reply.plane)))
        assert isinstance(reply, Done), "it was given all that it asked for"
        return reply.body

    def make_levels(self, place: Place, name: str, index: bytes, plane: tuple[int, int, int], into: Path) -> None:
        """
        Make the levels of a plane (scene, z and t) that an image has not itself, and write them.

        Raises:
            UnreadableImageError, TooLargeError, UnavailableError: as for `index`.
        """
        scene = msgspec.msgpack.decode(index, type=Index).scenes[plane[0]]
        with into.open("xb") as file:
            writer = pyramids.Writer(scene, file)
            for blocks in pyramids.blocks(scene):
                made = Levels(place=Place(path=os.fsencode(into), size=writer.size), levels=writer.levels(), plane=plane)
                for block in blocks:
                    ask = image_files.Reduce(plane=plane, block=block)
                    reply = self._body(Job(place=place, name=name, ask=ask, index=index, made=made))
                    writer.add(block, msgspec.msgpack.decode(reply, type=list[Piece]))
            writer.end()

    def features(self, place: Place, ask: Features) -> bytes:
        """
        Read a GeoJSON file, as `epista.server.imaging.features.Drawn` in JSON.

        Raises:
            UnreadableError: it is none.
            TooLargeError, UnavailableError: as for `index`, or larger than it may be.
        """
        return self._body(Job(place=place, name="", ask=ask))

    def close(self) -> None:
        """End the children."""
        self._sandbox.close()

    def _body(self, job: Job, whole: Callable[[], Place] | None = None) -> bytes:
        reply = self._asked(job, whole)
        assert isinstance(reply, Done), "it was given the index, or needs none"
        return reply.body

    def _asked(self, job: Job, whole: Callable[[], Place] | None = None) -> Done | Unknown | Wanting:
        try:
            told = self._sandbox.run(
                msgspec.msgpack.encode(job), timeout_seconds=self._timeout_seconds, wait_seconds=_WAIT_SECONDS
            )
        except NoReplyError as problem:
            if problem.reason in ("timeout", "crash"):
                raise TooLargeError("the image could not be read: it takes more time or memory than one may") from problem
            raise UnavailableError("too many images are being read just now", hint="try again in a moment") from problem
        reply = msgspec.msgpack.decode(told, type=Done | Unknown | Wanting | WantingFile | Failed)
        if isinstance(reply, Failed):
            raise errors.ERRORS[reply.code](reply.message, hint=reply.hint, details=reply.details)
        if isinstance(reply, WantingFile):
            assert whole is not None, "a file of its own was not enough"
            return self._asked(msgspec.structs.replace(job, place=whole()))
        return reply
