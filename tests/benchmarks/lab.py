"""A lab of our own on the same file system as the peers' files, served as anybody would serve it, and looked at from outside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epista import Workspace
from tests import processes
from tests.benchmarks.scales import MIB


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[tuple[processes.Server, Workspace]]:
    """
    Run what `epista serve` runs, and sign in.

    Everything is as by default, save how many requests a token may make in a minute: nobody waits here on purpose.
    """
    with (
        processes.served(folder, requests_per_minute=0, **settings) as server,
        Workspace(server.url, token=server.token, workspace="lab", progress=False) as ws,
    ):
        yield server, ws


def cpu_seconds(server: processes.Server) -> float:
    """Return user and system time of the server's processes so far."""
    times = [member.cpu_times() for member in server.family()]
    return sum(one.user + one.system for one in times)


def forget_peaks(server: processes.Server) -> None:
    """Let the kernel measure the peak memory of the server's processes from now on (Linux, proc(5): clear_refs)."""
    for member in server.family():
        Path(f"/proc/{member.pid}/clear_refs").write_text("5", encoding="ascii")


def peaks_mib(server: processes.Server) -> list[float]:
    """Return the peak memory of each of the server's processes."""
    return [peak_mib(member.pid) for member in server.family()]


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process, as the kernel has it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def fill(path: Path, size_bytes: int) -> None:
    """Write random bytes, which then are in memory too."""
    with path.open("wb") as file:
        left = size_bytes
        while left:
            piece = os.urandom(min(16 * MIB, left))
            file.write(piece)
            left -= len(piece)


def renew(path: Path) -> None:
    """Make the content of a file one that no lab has seen: what is known would not be sent again."""
    with path.open("r+b") as file:
        file.write(os.urandom(32))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def objects(folder: Path) -> set[Path]:
    """Return the files in which a lab keeps contents."""
    return {path for path in (folder / "blobs").rglob("*") if path.is_file()}


@contextmanager
def room_given_back(folder: Path) -> Iterator[None]:
    """Remove the contents that come into a lab meanwhile: outside the clock, so that the disk holds all rounds."""
    before = objects(folder)
    yield
    for path in objects(folder) - before:
        path.unlink()


@contextmanager
def unverified(sha256: str) -> Iterator[None]:
    """
    Let the client believe that everything it hashes has this sha256, without hashing.

    Only for rows that compare the transfer function with peers that verify nothing; what it yields is not a measurement
    of `fetch`, which always verifies.
    """
    real = hashlib.sha256

    class Believed:
        def update(self, data: object) -> None:
            pass

        def hexdigest(self) -> str:
            return sha256

    hashlib.sha256 = lambda *_, **__: Believed()  # type: ignore[assignment]
    try:
        yield
    finally:
        hashlib.sha256 = real
