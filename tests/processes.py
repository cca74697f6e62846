"""Server processes of our own, started, killed and looked at from outside; only where the process is the subject."""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from tests.makers import Api

START_SECONDS = 60.0
"""How long a process may take until it serves; only a hang takes that long."""

STOP_SECONDS = 45.0
"""How long a process may take to end; only a hang takes that long."""

_SERVE = """
import json, os, sys
from epista.contract.errors import EpistaError
from epista.server.config import read
from epista.server.serve import run
if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    how = {name: given.pop(name) for name in ("new_link", "migrate_only")}
    try:
        run(read(file=None, environ=os.environ, **given), say=lambda line: print(line, flush=True), **how)
    except EpistaError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
"""


class Server:
    """A server process: where it listens, and what it said."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self.process = process
        self.folder = folder
        self.log = log
        self.url = ""
        self.token: str | None = None
        self.link: str | None = None
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    def api(self, workspace: str = "lab") -> Api:
        return Api(self.url, self.token, workspace)

    def workers(self) -> list[psutil.Process]:
        """Return the children of a granian main process that serve."""
        return [child for child in psutil.Process(self.pid).children() if is_alive(child.pid) and _serves(child)]

    def family(self) -> list[psutil.Process]:
        """Return the process and everything below it."""
        try:
            main = psutil.Process(self.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill the process and everything below it, as a power cut would."""
        family = self.family()
        for member in family:
            _kill(member.pid)
        self._reap()
        wait_until(lambda: not any(is_alive(member.pid) for member in family), "the killed processes are gone")

    def terminate(self) -> int:
        """Ask the process to stop and return how it ended."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(STOP_SECONDS)
        self._reap()
        return code

    def end(self) -> None:
        """Whatever state it is in, leave nothing of it behind."""
        self.kill()

    def limit_file_size(self, size_bytes: int) -> None:
        """Let the disk seem full: no file may grow beyond *size_bytes*; -1 makes room again."""
        for member in self.family():
            resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _reap(self) -> None:
        self.process.wait(STOP_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


@contextmanager
def embedded(folder: Path, log: Path | None = None) -> Iterator[Server]:
    """Run the child of an embedded lab."""
    server = start_embedded(folder, log)
    try:
        yield server
    finally:
        server.end()


def start_embedded(folder: Path, log: Path | None = None) -> Server:
    server = spawn_embedded(folder, log)
    try:
        answer = greeting(server)
        assert "port" in answer, (answer, server.said())
        server.url = f"http://127.0.0.1:{answer['port']}"
    except BaseException:
        server.end()
        raise
    return server


def spawn_embedded(folder: Path, log: Path | None = None) -> Server:
    """Start the child without waiting for its line."""
    log = log or folder.with_name(f"{folder.name}-{secrets.token_hex(4)}.log")
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "epista.server.embedded", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,
        )
    server = Server(process, folder, log)
    server.token = secrets.token_urlsafe(16)
    assert process.stdin
    process.stdin.write(server.token.encode() + b"\n")
    return server


def greeting(server: Server) -> dict[str, Any]:
    """Return the line that the child of an embedded lab writes."""
    assert server.process.stdout
    found: dict[str, Any] = json.loads(read_line(server.process.stdout))
    return found


@contextmanager
def served(folder: Path, *, token: str | None = None, **settings: Any) -> Iterator[Server]:
    """Run what `epista serve` runs."""
    server = start_served(folder, token=token, **settings)
    try:
        yield server
    finally:
        server.end()


def start_served(folder: Path, *, token: str | None = None, **settings: Any) -> Server:
    """Start what `epista serve` runs, wait until it answers, and sign in if it gives a link and no *token* is known."""
    server = spawn_served(folder, **settings)
    try:
        assert server.process.stdout
        first = read_line(server.process.stdout)
        assert first, server.said()
        server.lines = [first.rstrip()]
        server.url = first.split()[-1]
        wait_until(lambda: answers(server.url) or server.process.poll() is not None, "the server answers")
        assert server.process.poll() is None, server.said()
        # A link is printed before the server serves, so it is there by now or there is none.
        os.set_blocking(server.process.stdout.fileno(), False)
        rest = server.process.stdout.read() or b""
        os.set_blocking(server.process.stdout.fileno(), True)
        server.lines += rest.decode().splitlines()
        server.link = next((line.split("'")[1] for line in server.lines if "epista auth login" in line), None)
        server.token = token
        if token is None and server.link:
            server.token = sign_in(server.url, server.link)
    except BaseException:
        server.end()
        raise
    return server


def spawn_served(folder: Path, *, environ: Mapping[str, str] | None = None, **settings: Any) -> Server:
    """Start what `epista serve` runs, and return at once."""
    given = {"lab": str(folder), "port": 0, "new_link": False, "migrate_only": False, "log_level": "warning"} | settings
    log = folder.with_name(f"{folder.name}-{secrets.token_hex(4)}.log")
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE, json.dumps(given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, **(environ or {})},
        )
    return Server(process, folder, log)


def sign_in(url: str, link: str) -> str:
    """Use a sign-in link; return the token."""
    api = Api(url, None)
    secret: str = api.ok(api.post("/sign-in", code=link.partition("#")[2]))["secret"]
    return secret


def answers(url: str) -> bool:
    import requests

    try:
        return requests.get(url + "/health/ready", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def read_line(pipe: IO[bytes], seconds: float = START_SECONDS) -> str:
    """Return the next line, empty at the end of the stream."""
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.append(pipe.readline()), daemon=True)
    reader.start()
    reader.join(seconds)
    assert lines, f"no line in {seconds:.0f} s"
    return lines[0].decode()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie counts as dead."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = STOP_SECONDS) -> None:
    """Wait until *is_so*; the limit is only there to show a hang."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not so after {seconds:.0f} s: {what}"
        time.sleep(0.02)


def _serves(child: psutil.Process) -> bool:
    try:
        return not any("resource_tracker" in part for part in child.cmdline())
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
