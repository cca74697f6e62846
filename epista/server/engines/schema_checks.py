"""The server's side of JSON Schema checks: it asks a limited child (`schemas`), and waits only so long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from epista.contract.errors import UnavailableError, ValidationError
from epista.server.engines import schemas
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.schemas import Job, Violation

_DOCUMENTS_PER_JOB = 200


class SchemaChecks:
    """Checks documents and schemas in limited children; for any number of threads. Close it when done."""

    # Both short: whoever waits here holds one of the threads that all requests share.
    def __init__(self, *, timeout_seconds: float = 3.0, wait_seconds: float = 3.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._wait_seconds = wait_seconds
        self._sandbox = Sandbox(schemas.__name__, max_reply_bytes=8 * 1024 * 1024, limits=Limits(), children=1)

    def faults(self, texts: Sequence[str]) -> list[Violation]:
        """Return what is wrong with schemas themselves."""
        return self._ask(Job(schemas=list(texts), documents=[]))

    def violations(self, texts: Sequence[str], documents: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[Violation]:
        """
        Yield what is wrong with *documents*, each given with the position of its schema.

        Raises:
            ValidationError: it takes too long to find out.
        """
        for start in range(0, len(documents), _DOCUMENTS_PER_JOB):
            some = documents[start : start + _DOCUMENTS_PER_JOB]
            for one in self._ask(Job(schemas=list(texts), documents=list(some))):
                yield msgspec.structs.replace(one, position=one.position + start)

    def close(self) -> None:
        """End the child."""
        self._sandbox.close()

    def _ask(self, job: Job) -> list[Violation]:
        try:
            reply = self._sandbox.run(
                msgspec.json.encode(job), timeout_seconds=self._timeout_seconds, wait_seconds=self._wait_seconds
            )
        except NoReplyError as problem:
            if problem.reason in ("timeout", "crash"):
                raise ValidationError(
                    f"the metadata rules could not be checked within {self._timeout_seconds:g} s and the memory they may use",
                    hint="an admin can make their patterns simpler: epista rules show",
                ) from problem
            raise UnavailableError("the metadata rules cannot be checked now", hint="try again in a moment") from problem
        return msgspec.json.decode(reply, type=list[Violation])
