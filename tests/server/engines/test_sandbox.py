"""What a sandbox promises whatever its children do; the rest is seen through extraction."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest

from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.sources import Job

EXTRACTORS = "epista.server.engines.extractors"

MakeSandbox = Callable[[str, int], Sandbox]


@pytest.fixture
def make_sandbox() -> Iterator[MakeSandbox]:
    made: list[Sandbox] = []

    def make(module: str, max_reply_bytes: int) -> Sandbox:
        made.append(Sandbox(module, max_reply_bytes=max_reply_bytes))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.close()


def job(size: int) -> bytes:
    wanted = Job(path=__file__.encode(), offset=0, size=size, format="text", gzipped=False, options={})
    return msgspec.msgpack.encode([wanted])


def test_a_child_that_does_not_start_leaves_its_last_words(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("epista.no_such_room", 1024)

    with pytest.raises(NoReplyError, match="No module named") as caught:
        sandbox.run(b"", timeout_seconds=10, wait_seconds=10)

    assert caught.value.reason == "start"


def test_an_interpreter_that_is_not_there_is_a_child_that_does_not_start(
    make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")

    with pytest.raises(NoReplyError, match="/nowhere/python") as caught:
        make_sandbox(EXTRACTORS, 1024).run(b"", timeout_seconds=10, wait_seconds=10)

    assert caught.value.reason == "start"


def test_a_reply_over_the_bound_is_not_read(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(EXTRACTORS, 100)

    with pytest.raises(NoReplyError) as caught:
        sandbox.run(job(500), timeout_seconds=10, wait_seconds=10)

    assert caught.value.reason == "crash"
    assert b"What a sandbox" in sandbox.run(job(50), timeout_seconds=10, wait_seconds=10)


def test_a_job_that_the_child_cannot_read_ends_the_child_and_no_other(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(EXTRACTORS, 1024)

    with pytest.raises(NoReplyError) as caught:
        sandbox.run(b"no job", timeout_seconds=10, wait_seconds=10)

    assert caught.value.reason == "crash"
    assert b"What a sandbox" in sandbox.run(job(50), timeout_seconds=10, wait_seconds=10)


def test_a_job_far_larger_than_a_pipe_holds_arrives(make_sandbox: MakeSandbox) -> None:
    wanted = Job(path=__file__.encode(), offset=0, size=50, format="text", gzipped=False, options={"pad": "x" * 2_000_000})

    reply = make_sandbox(EXTRACTORS, 1024).run(msgspec.msgpack.encode([wanted]), timeout_seconds=10, wait_seconds=10)

    assert b"What a sandbox" in reply


def test_a_closed_sandbox_says_so_and_closes_twice(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(EXTRACTORS, 1024)
    sandbox.close()
    sandbox.close()

    with pytest.raises(NoReplyError) as caught:
        sandbox.run(job(50), timeout_seconds=10, wait_seconds=10)

    assert caught.value.reason == "closed"


def test_a_job_that_holds_the_lock_ends_although_nobody_is_left_to_kill_it() -> None:
    source = """
import re, sys
from epista.server.engines import sandbox
sandbox.serve(lambda job: bytes(str(re.match("^(a+)+$", "a" * 80 + "!")), "ascii"), stuck_seconds=1)
"""
    limits = msgspec.msgpack.encode(Limits())
    child = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdin
        for frame in (limits, b"job"):
            child.stdin.write(len(frame).to_bytes(4, "big") + frame)
        child.stdin.flush()

        assert child.wait(60) == -signal.SIGALRM
    finally:
        child.kill()
        child.communicate()
