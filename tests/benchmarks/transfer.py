"""One large object: over HTTP and into an embedded lab, beside nginx with curl, SeaweedFS, and `cp`."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from epista import Workspace
from tests.benchmarks import lab, machine, peers
from tests.benchmarks.peers import Bucket
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return everybody who moves the large object."""
    site = folder / "site"
    site.mkdir()
    source = site / "large.bin"
    lab.fill(source, scale.object_bytes)
    target = folder / "fetched.bin"
    found: dict[str, Contestant | Absent] = {}
    found |= _served(stack, folder, source, target)
    found |= _nginx(stack, folder, source, target)
    found |= _seaweed(stack, folder, source, target)
    found |= _embedded(stack, folder, source, target)
    return found


def _downloaded(act: Callable[[], object], target: Path) -> Figures:
    """Time *act*, which makes *target*: a new file, because to overwrite one is cheaper."""
    target.unlink(missing_ok=True)
    with clock() as found:
        act()
    assert target.stat().st_size, "something has arrived"
    target.unlink()
    return found


def _served(stack: ExitStack, folder: Path, source: Path, target: Path) -> dict[str, Contestant | Absent]:
    server, ws = stack.enter_context(lab.serving(folder / "lab"))
    ws.put_file("fetch/large.bin", source)
    sha256 = ws.get("fetch/large.bin").sha256 or ""
    fresh = _copy_of(source, folder / "to-put.bin")

    def fetch() -> Figures:
        return _downloaded(lambda: ws.fetch("fetch/large.bin", target), target)

    def fetch_unverified() -> Figures:
        with lab.unverified(sha256):
            return fetch()

    return {
        "epista fetch": fetch,
        "epista fetch, unverified": fetch_unverified,
        "epista put_file": lambda: put(ws, server.folder, fresh),
    }


def put(ws: Workspace, folder: Path, source: Path) -> Figures:
    """Time the put of content that the lab in *folder* has not seen."""
    lab.renew(source)
    with lab.room_given_back(folder):
        with clock() as found:
            made = ws.put_file("put/large.bin", source)
        assert made.sha256 == lab.sha256_of(source)
    return found


def _copy_of(source: Path, path: Path) -> Path:
    subprocess.run(["cp", str(source), str(path)], check=True)
    return path


def _embedded(stack: ExitStack, folder: Path, source: Path, target: Path) -> dict[str, Contestant | Absent]:
    home = folder / "embedded"
    ws = stack.enter_context(Workspace(str(home), progress=False))
    ws.put_file("fetch/large.bin", source)
    fresh = _copy_of(source, folder / "to-put-embedded.bin")

    def copy() -> None:
        subprocess.run(["cp", "--reflink=auto", str(source), str(target)], check=True)
        machine.sync(target)
        with source.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    return {
        "epista embedded fetch": lambda: _downloaded(lambda: ws.fetch("fetch/large.bin", target), target),
        "epista embedded put_file": lambda: put(ws, home, fresh),
        "cp + fsync + hashlib": lambda: _downloaded(copy, target),
    }


def _nginx(stack: ExitStack, folder: Path, source: Path, target: Path) -> dict[str, Contestant | Absent]:
    then = {
        "nginx + curl": (),
        "nginx + curl + sha256sum": ("sha256sum",),
        "nginx + curl + openssl": ("openssl", "dgst", "-sha256"),
    }
    missing = next((name for name in ("nginx", "curl") if not peers.command(name)), None)
    if missing:
        return dict.fromkeys(then, Absent(f"{missing} is not installed"))
    url = f"{stack.enter_context(peers.nginx(folder / 'nginx', source.parent))}/{source.name}"

    def contestant(check: tuple[str, ...]) -> Contestant | Absent:
        if check and not peers.command(check[0]):
            return Absent(f"{check[0]} is not installed")

        def act() -> None:
            subprocess.run(["curl", "-sf", "-o", str(target), url], check=True)
            if check:
                subprocess.run([*check, str(target)], check=True, stdout=subprocess.DEVNULL)

        return lambda: _downloaded(act, target)

    return {name: contestant(check) for name, check in then.items()}


def _seaweed(stack: ExitStack, folder: Path, source: Path, target: Path) -> dict[str, Contestant | Absent]:
    names = ["boto3 get", "s5cmd get", "boto3 put", "s5cmd put", "boto3 put, fsync", "s5cmd put, fsync"]
    if reason := peers.s3_is_missing():
        return dict.fromkeys(names, Absent(reason))
    server = stack.enter_context(peers.seaweedfs(folder / "seaweed"))
    bucket = Bucket(server, "fetched")
    bucket.put(source, "large.bin")
    found: dict[str, Contestant | Absent] = {
        "boto3 get": lambda: _downloaded(lambda: bucket.get("large.bin", target), target),
        "boto3 put": peers.putting(server, "plain", lambda into: into.put(source, "large.bin")),
        "boto3 put, fsync": peers.putting(server, peers.DURABLE, lambda into: into.put(source, "large.bin")),
    }
    if not peers.s5cmd():
        return found | dict.fromkeys([name for name in names if name.startswith("s5cmd")], Absent("s5cmd is not installed"))
    return found | {
        "s5cmd get": lambda: _downloaded(lambda: bucket.run_s5cmd("cp", "s3:large.bin", str(target)), target),
        "s5cmd put": peers.putting(server, "plain", lambda into: into.run_s5cmd("cp", str(source), "s3:large.bin")),
        "s5cmd put, fsync": peers.putting(server, peers.DURABLE, lambda into: into.run_s5cmd("cp", str(source), "s3:large.bin")),
    }
