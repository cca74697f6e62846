"""Ten thousand small files in and out, and one small object at a time."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from epista import Workspace
from tests.benchmarks import lab, machine, peers
from tests.benchmarks.peers import Bucket
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock, middle
from tests.benchmarks.scales import Scale

_count = itertools.count()


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return everybody who moves small files."""
    source = folder / "source"
    source.mkdir()
    files = [source / f"{number:05}.bin" for number in range(scale.files)]
    for file in files:
        lab.fill(file, scale.file_bytes)
    _, ws = stack.enter_context(lab.serving(folder / "lab"))
    ws.put_dir("fetch/", source)

    def put_dir() -> Figures:
        for file in files:
            lab.renew(file)
        with clock() as found:
            made = ws.put_dir(f"put-{next(_count)}/", source)
        assert len(made) == len(files)
        return found

    def copy() -> Figures:
        target = folder / f"copied-{next(_count)}"
        return _arrived(lambda: subprocess.run(["cp", "-r", str(source), str(target)], check=True), target, len(files))

    def fetch() -> Figures:
        target = folder / f"fetched-{next(_count)}"
        return _arrived(lambda: ws.fetch("fetch/", target), target, len(files))

    return {
        "epista put_dir": put_dir,
        "epista fetch": fetch,
        "cp -r": copy,
        "epista put + get": lambda: _one_object(ws, scale),
        "4 KiB append + fdatasync": lambda: machine.append_and_sync(folder / "appended", scale.repeats),
        **_seaweed(stack, folder, source, files, scale),
    }


def _arrived(act: Callable[[], object], target: Path, count: int) -> Figures:
    with clock() as found:
        act()
    assert sum(1 for _ in target.iterdir()) == count, "every file has arrived"
    shutil.rmtree(target)
    return found


def _one_object(ws: Workspace, scale: Scale) -> Figures:
    def put_and_get() -> None:
        data = os.urandom(scale.file_bytes)
        ws.put("one/object.bin", data)
        assert ws("one/object.bin", format="bytes") == data

    return middle(put_and_get, scale.repeats)


def _seaweed(stack: ExitStack, folder: Path, source: Path, files: list[Path], scale: Scale) -> dict[str, Contestant | Absent]:
    by_boto3 = ["boto3 put", "boto3 put, 16 threads", "boto3 put, fsync", "boto3 get", "boto3 get, 16 threads"]
    by_s5cmd = ["s5cmd put", "s5cmd put, fsync", "s5cmd get"]
    if reason := peers.s3_is_missing():
        return dict.fromkeys([*by_boto3, *by_s5cmd], Absent(reason))
    server = stack.enter_context(peers.seaweedfs(folder / "seaweed"))
    fetched = Bucket(server, "fetched")
    fetched.put_all(files, "files/", threads=16)
    # One after the other takes boto3 minutes; a part of the files tells as much, and its time is scaled to all of them.
    some = files[: scale.boto3_files]
    scaled = len(files) / len(some)

    def getting(threads: int, count: int) -> Contestant:
        def turn() -> Figures:
            target = folder / f"fetched-{next(_count)}"
            return _arrived(lambda: fetched.get_all("files/", target, count, threads=threads), target, count)

        return _scaled(turn, len(files) / count)

    def s5cmd_get() -> Figures:
        target = folder / f"fetched-{next(_count)}"
        return _arrived(lambda: fetched.run_s5cmd("cp", "s3:files/*", f"{target}/"), target, len(files))

    found: dict[str, Contestant | Absent] = {
        "boto3 put": _scaled(peers.putting(server, "plain", lambda into: into.put_all(some, "files/")), scaled),
        "boto3 put, 16 threads": peers.putting(server, "plain", lambda into: into.put_all(files, "files/", threads=16)),
        "boto3 put, fsync": _scaled(peers.putting(server, peers.DURABLE, lambda into: into.put_all(some, "files/")), scaled),
        "boto3 get": getting(1, len(some)),
        "boto3 get, 16 threads": getting(16, len(files)),
    }
    if not peers.s5cmd():
        return found | dict.fromkeys(by_s5cmd, Absent("s5cmd is not installed"))
    return found | {
        "s5cmd put": peers.putting(server, "plain", lambda into: into.run_s5cmd("cp", f"{source}/", "s3:files/")),
        "s5cmd put, fsync": peers.putting(server, peers.DURABLE, lambda into: into.run_s5cmd("cp", f"{source}/", "s3:files/")),
        "s5cmd get": s5cmd_get,
    }


def _scaled(turn: Contestant, by: float) -> Contestant:
    def scaled() -> Figures:
        return {figure: value * by for figure, value in turn().items()}

    return scaled
