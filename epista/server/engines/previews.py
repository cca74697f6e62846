"""The server's side of previews: limited children (`preview_files`) look into files, and it waits only so long."""

from __future__ import annotations

import msgspec

from epista.contract.errors import UnavailableError
from epista.server.engines import preview_files
from epista.server.engines.preview_files import Shown
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.sources import HEAD_BYTES, Job

# One thread each: on a machine of many cores, their pools alone would not fit into the memory limit.
_ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

_MAX_REPLY_BYTES = 4 * 1024**2
_WAIT_SECONDS = 30.0


def needed(format: str, size: int) -> list[tuple[int, int]] | None:
    """Return the parts of a file of *size* bytes that its preview reads; None if that would be too much to bring here."""
    if format in preview_files.FROM_THE_HEAD:
        return [(0, min(size, HEAD_BYTES))]
    return [(0, size)] if size <= preview_files.WHOLE_BYTES else None


class Previewer:
    """Looks into files in limited children; for any number of threads. Close it when done."""

    def __init__(self, *, limits: Limits | None = None, children: int = 2, timeout_seconds: float = 10.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._sandbox = Sandbox(
            preview_files.__name__,
            max_reply_bytes=_MAX_REPLY_BYTES,
            limits=limits or Limits(memory_bytes=2 * 1024**3),
            environment=_ENVIRONMENT,
            children=children,
            jobs_per_child=1000,
        )

    def show(self, job: Job) -> Shown:
        """
        Return what is shown of a file; what is wrong with it is a problem that is told.

        Raises:
            UnavailableError: too many are asked for at once, or no child can be started.
        """
        try:
            reply = self._sandbox.run(
                msgspec.msgpack.encode(job), timeout_seconds=self._timeout_seconds, wait_seconds=_WAIT_SECONDS
            )
            return msgspec.msgpack.decode(reply, type=Shown)
        except NoReplyError as problem:
            if problem.reason == "timeout":
                return Shown(problem=f"it takes longer than {self._timeout_seconds:g} s to look into it", is_lasting=False)
            if problem.reason == "crash":
                return Shown(problem="it takes more memory than a preview may, or is damaged", is_lasting=False)
            raise UnavailableError("too many previews are being made just now", hint="try again in a moment") from problem

    def close(self) -> None:
        """End the children."""
        self._sandbox.close()
