"""
Embedded labs: the server of a lab in a folder, as a child process.

It listens on loopback and takes a token that only the two processes know: written to its standard input, never to a command
line or the environment, where others could read it. Standard input stays open as long as the child shall live.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import msgspec

from epista.client.settings import SECRETS
from epista.contract.errors import ERRORS, UnreachableError

WORKSPACE = "lab"
"""The workspace of an embedded lab, unless another is named."""

START_SECONDS = 30.0
"""How long the child may take until it listens."""

STOP_SECONDS = 10.0
"""How long the child may take to end by itself, and then again after it was told to."""

MODULE = "epista.server.embedded"
"""What the child runs."""


class Lab:
    """A running child, and the way to it."""

    def __init__(self, folder: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.folder = folder
        self.secret = secrets.token_urlsafe(32)
        self.url = ""
        self._process = process
        self._log = log
        self._pid = os.getpid()
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<Lab {self.folder!r} pid={self._process.pid}>"

    def check(self) -> None:
        """
        Refuse to go on with a child that has ended.

        Raises:
            UnreachableError: it has; the message has its last words.
        """
        if os.getpid() == self._pid and self._process.poll() is not None:
            raise UnreachableError(
                f"the server of the lab in {self.folder!r} ended with status {self._process.returncode}{_last_words(self._log)}",
                hint="open the workspace again",
            )

    def stop(self) -> None:
        """End the child, if this process started it. Twice is fine."""
        if os.getpid() != self._pid or self._is_stopped:
            return
        self._is_stopped = True
        for tell in (self._hang_up, self._process.terminate, self._process.kill):
            tell()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
                break
        if self._process.stdout:
            self._process.stdout.close()
        self._log.unlink(missing_ok=True)

    def hang_up_after_fork(self) -> None:
        """Let go of the child's standard input in a forked process, or the child would outlive the one that started it."""
        self._hang_up()

    def _hang_up(self) -> None:
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def start(folder: str, environ: Mapping[str, str]) -> Lab:
    """
    Start the server of the lab in *folder* and wait until it listens.

    Raises:
        EpistaError: what the server gives as its reason not to start, such as a lab of a newer version.
        UnreachableError: it ended, or did not listen in time; the message has its last words.
    """
    handle, name = tempfile.mkstemp(prefix="epista-lab-", suffix=".log")
    log = Path(name)
    try:
        process = subprocess.Popen(
            # -P: a file beside the notebook that is called like one of our modules is not ours.
            [sys.executable, "-P", "-m", MODULE, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
            bufsize=0,
            env={name: value for name, value in environ.items() if name not in SECRETS},
            # Ctrl-C in a notebook is for the notebook.
            start_new_session=True,
        )
    finally:
        os.close(handle)
    lab = Lab(folder, process, log)
    _let_go_after_fork()
    _labs.add(lab)
    try:
        # The libraries that the first call needs, while the child loads its own.
        importlib.import_module("epista.client.wire")
        lab.url = _listening(lab, process, log)
    except BaseException:
        lab.stop()
        raise
    return lab


class _Greeting(msgspec.Struct):
    """The child's one line: a port, or why there is none."""

    port: int | None = None
    code: str | None = None
    message: str = ""
    hint: str | None = None


def _listening(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(lab.secret.encode() + b"\n")
    lines: list[bytes] = []
    # A thread, because Windows cannot wait for a pipe with a limit.
    reader = threading.Thread(target=lambda: lines.append(_line(process)), daemon=True)
    reader.start()
    reader.join(START_SECONDS)
    if not lines:
        raise UnreachableError(
            f"the server of the lab in {lab.folder!r} does not listen after {START_SECONDS:.0f} s{_last_words(log)}",
            hint="is the disk very slow, or the machine busy? Try again",
        )
    try:
        greeting = msgspec.json.decode(lines[0], type=_Greeting)
    except (msgspec.DecodeError, UnicodeDecodeError):
        greeting = _Greeting()
    if greeting.port is not None:
        return f"http://127.0.0.1:{greeting.port}"
    if greeting.code is not None:
        raise ERRORS.get(greeting.code, UnreachableError)(greeting.message, hint=greeting.hint)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    raise UnreachableError(f"the server of the lab in {lab.folder!r} did not start{_last_words(log)}")


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    with contextlib.suppress(OSError, ValueError):
        return process.stdout.readline()
    return b""


def _last_words(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = text.strip().splitlines()[-5:]
    return ":\n" + "\n".join(lines) if lines else " without a word"


_labs: weakref.WeakSet[Lab] = weakref.WeakSet()


@functools.cache
def _let_go_after_fork() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_hang_up_all)


def _hang_up_all() -> None:
    for lab in list(_labs):
        lab.hang_up_after_fork()
