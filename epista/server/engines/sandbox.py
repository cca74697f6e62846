"""
Limited child processes, for work on files that somebody else wrote.

A sandbox keeps a few warm children of one module and hands each a job at a time; jobs and replies are bytes, sent through
pipes as frames (length, then bytes). A child that crashes or passes its time is killed with its process group and replaced.
The child's module calls `serve`, which limits the process first. This module knows processes, never what a job means.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Literal

import msgspec

if sys.platform != "win32":
    import resource

# Without these some interpreters cannot start; nothing else of the server's environment reaches a child.
_INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")

STUCK_SECONDS = 60.0
"""How long a child may work on one job if nobody is left to kill it; longer than any job is given."""

_HEADER_BYTES = 4
_STDERR_BYTES = 4096
_PARENT_CHECK_SECONDS = 0.5
_DEADLINE_CHECK_SECONDS = 0.25
_END_SECONDS = 5.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one child may use. Where the platform cannot limit something, the child runs without that limit."""

    memory_bytes: int = 1024**3
    """Address space."""
    file_bytes: int = 0
    """The largest file it may write."""
    open_files: int = 64
    """File descriptors, the standard three included."""


class NoReplyError(Exception):
    """
    A job got no reply; `reason` says why.

    ``busy``: no child was free in time; ``start``: a child did not start; ``timeout``: the job took too long; ``crash``: the
    child ended, or sent no proper frame; ``closed``: the sandbox is closed.
    """

    def __init__(self, reason: Literal["busy", "start", "timeout", "crash", "closed"], message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class Sandbox:
    """Up to *children* warm children of *module*, for any number of threads."""

    def __init__(
        self,
        module: str,
        *,
        max_reply_bytes: int,
        limits: Limits | None = None,
        environment: Mapping[str, str] | None = None,
        children: int = 2,
        jobs_per_child: int = 10_000,
        start_timeout_seconds: float = 30.0,
    ) -> None:
        self._module = module
        self._max_reply_bytes = max_reply_bytes
        self._limits = limits or Limits()
        self._environment = dict(environment or {})
        self._jobs_per_child = jobs_per_child
        self._start_timeout_seconds = start_timeout_seconds
        self._turns = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._open = True

    def run(self, job: bytes, *, timeout_seconds: float, wait_seconds: float) -> bytes:
        """
        Give *job* to a child and return its reply.

        Waits up to *wait_seconds* for a free child, then up to *timeout_seconds* for the reply; a child that has to be
        started first gets time of its own. A job is tried once.

        Raises:
            NoReplyError: for the reason that it names.
        """
        if not self._turns.acquire(timeout=wait_seconds):
            raise NoReplyError("busy")
        try:
            child = self._take()
            reply = self._ask(child, job, timeout_seconds)
            self._put_back(child)
            return reply
        except NoReplyError as problem:
            if not self._open:
                raise NoReplyError("closed") from problem
            raise
        finally:
            self._turns.release()

    def close(self) -> None:
        """End all children, busy ones too; their callers, and all later ones, get `NoReplyError`."""
        with self._lock:
            self._open = False
            self._idle.clear()
            children = list(self._children)
            self._children.clear()
        for child in children:
            child.kill()
        for child in children:
            child.join()

    def _take(self) -> _Child:
        while True:
            with self._lock:
                if not self._open:
                    raise NoReplyError("closed")
                if not self._idle:
                    child = self._start()
                    break
                child = self._idle.pop()
            if child.is_alive():
                return child
            self._discard(child)
        try:
            self._ask(child, msgspec.msgpack.encode(self._limits), self._start_timeout_seconds)
        except NoReplyError as problem:
            raise NoReplyError("start", child.last_words()) from problem
        return child

    def _ask(self, child: _Child, job: bytes, timeout_seconds: float) -> bytes:
        try:
            return child.run(job, timeout_seconds)
        except BaseException:
            # An interrupt too: a child in the middle of a job must not get another.
            self._discard(child)
            raise

    def _start(self) -> _Child:
        try:
            child = _Child(self._module, self._environment, self._max_reply_bytes)
        except (OSError, RuntimeError) as problem:
            # No process, or no thread, to be had; a process without threads ends with its pipes.
            raise NoReplyError("start", str(problem)) from problem
        self._children.add(child)
        return child

    def _put_back(self, child: _Child) -> None:
        # Its first job was the limits.
        if child.jobs > self._jobs_per_child:
            self._discard(child)
            return
        with self._lock:
            if self._open:
                self._idle.append(child)

    def _discard(self, child: _Child) -> None:
        child.kill()
        with self._lock:
            self._children.discard(child)


class _Child:
    """
    One process and two threads: one ends it when a job is late, and reaps it; the other keeps the end of stderr, whose end
    means that the process is gone. The caller's own thread moves the frames, as handing them over would cost more than most jobs.
    """

    def __init__(self, module: str, environment: Mapping[str, str], max_reply_bytes: int) -> None:
        self.jobs = 0
        self._max_reply_bytes = max_reply_bytes
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=os.sep,
            env={**bare_environment(), **environment},
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._is_late = False
        self._killed = threading.Event()
        self._stderr = b""
        self._drain = threading.Thread(target=self._keep_stderr, name="sandbox-stderr", daemon=True)
        self._watch = threading.Thread(target=self._end_when_late, name="sandbox-watch", daemon=True)
        self._drain.start()
        self._watch.start()

    def run(self, job: bytes, timeout_seconds: float) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        self.jobs += 1
        with self._lock:
            self._deadline = time.monotonic() + timeout_seconds
        try:
            _write_frame(stdin, job)
            return _read_frame(stdout, self._max_reply_bytes)
        except (OSError, EOFError, ValueError) as problem:
            raise NoReplyError("timeout" if self._is_late else "crash") from problem
        finally:
            with self._lock:
                self._deadline = None

    def is_alive(self) -> bool:
        return self._drain.is_alive() and not self._killed.is_set()

    def last_words(self) -> str:
        self._drain.join(_END_SECONDS)
        return self._stderr.decode("utf-8", "replace").strip()

    def kill(self) -> None:
        with self._lock:
            self._kill()

    def join(self) -> None:
        self._watch.join(_END_SECONDS)
        self._drain.join(_END_SECONDS)

    def _kill(self) -> None:
        if self._killed.is_set():
            return
        # Reaped only after this: until then the id is still this child's.
        try:
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:
            pass  # nothing left but a zombie, which macOS lets nobody signal
        self._killed.set()

    def _end_when_late(self) -> None:
        while not self._killed.wait(_DEADLINE_CHECK_SECONDS):
            with self._lock:
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._is_late = True
                    self._kill()
        self._process.wait()
        assert self._process.stdin and self._process.stdout
        self._process.stdout.close()
        try:
            self._process.stdin.close()
        except OSError:
            pass  # a job that it never read

    def _keep_stderr(self) -> None:
        assert self._process.stderr
        with self._process.stderr as stderr:
            while chunk := os.read(stderr.fileno(), _STDERR_BYTES):
                self._stderr = (self._stderr + chunk)[-_STDERR_BYTES:]


def bare_environment() -> dict[str, str]:
    """Return the variables that a child is started with."""
    # The child finds modules where its parent does, but never in the folder where the parent happens to stand.
    path = [entry for entry in sys.path if Path(entry).is_absolute()]
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"} | kept


def serve(work: Callable[[bytes], bytes], *, stuck_seconds: float = STUCK_SECONDS) -> None:
    """
    Be a child: take the limits, then answer jobs with *work* until the parent closes the pipe or dies.

    An exception that escapes *work* ends the process, and so does the parent's death during a job.
    """
    jobs = sys.stdin.buffer
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints must not get between the frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        restrict(msgspec.msgpack.decode(_read_frame(jobs), type=Limits))
        _write_frame(replies, b"")
        while True:
            job = _read_frame(jobs)
            # The parent kills a child that passes its time. Should the parent be gone, and the job hold the interpreter's
            # lock, as a regular expression does, then no thread of ours can see it; this timer needs no lock.
            _set_timer(stuck_seconds)
            reply = work(job)
            _set_timer(0)
            _write_frame(replies, reply)
    except (EOFError, BrokenPipeError):
        # Past the interpreter's own end, which would flush into the broken pipe.
        os._exit(0)


def _set_timer(seconds: float) -> None:
    """Let the system end this process after *seconds*; 0 lets it live."""
    if sys.platform != "win32":
        # By SIGALRM, which nobody handles: faulthandler would start a thread for each job, and wait for its end.
        signal.setitimer(signal.ITIMER_REAL, seconds)
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


def restrict(limits: Limits) -> None:
    """Limit this process, for good."""
    if sys.platform == "win32":
        return
    wanted = {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CORE": 0,
    }
    for name, value in wanted.items():
        which = getattr(resource, name, None)
        if which is None:
            continue
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(which, (value, value))
        except (OSError, ValueError):
            continue  # macOS names limits that it does not keep


def _write_frame(pipe: IO[bytes], body: bytes) -> None:
    pipe.write(len(body).to_bytes(_HEADER_BYTES, "big") + body)
    pipe.flush()


def _read_frame(pipe: IO[bytes], max_bytes: int | None = None) -> bytes:
    size = int.from_bytes(_read_exactly(pipe, _HEADER_BYTES), "big")
    if max_bytes is not None and size > max_bytes:
        raise ValueError(f"a frame of {size} bytes, where at most {max_bytes} are allowed")
    return _read_exactly(pipe, size)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    body = pipe.read(size)
    if len(body) < size:
        raise EOFError
    return body
