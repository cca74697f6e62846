"""
A real Spark cluster on loopback, for tests that ask for one: a master, two workers, and a Connect server.

Spark comes out of the archive of `pyspark` on PyPI, of the version that the client has, and is kept in the user's cache: as a
package beside the client it would overwrite it. It needs Java 17, and ends with the run.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.processes import is_alive, wait_until

START_SECONDS = 120.0
"""How long it may take until it answers; only a hang takes that long."""

_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"

# Tests end before the second compiler pays.
_JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


class Spark:
    """A running cluster: where it is, and how to hurt it."""

    def __init__(self, folder: Path, *, is_local: bool = False) -> None:
        self.folder = folder
        self._is_local = is_local
        self.scratch = folder / "scratch"
        """A folder that the cluster shares with the tests."""
        self._home = home()
        self._master, self._port = _free_port(), _free_port()
        self._guards: dict[str, subprocess.Popen[bytes]] = {}
        self._pids: dict[str, int] = {}
        self.scratch.mkdir(parents=True)

    @property
    def url(self) -> str:
        """Its address, as Spark writes it."""
        return f"sc://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start all of it, and wait until it answers; a local one does the work in its Connect server."""
        if self._is_local:
            self.start_connect()
            return
        self._launch("master", "org.apache.spark.deploy.master.Master", "--port", str(self._master))
        for number in (1, 2):
            self.start_worker(number)
        self.start_connect()

    def start_worker(self, number: int) -> None:
        """Start a worker; it comes into play by itself."""
        work = self.folder / f"worker-{number}"
        self._launch(
            f"worker-{number}",
            "org.apache.spark.deploy.worker.Worker",
            *("--cores", "1", "--memory", "1g", "--work-dir", str(work)),
            f"spark://127.0.0.1:{self._master}",
        )

    def start_connect(self) -> None:
        """Start the server that clients speak with, and wait until it answers."""
        settings = {
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self._port),
            "spark.cores.max": "2",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": _JAVA,
            "spark.driver.host": "127.0.0.1",
            "spark.executor.cores": "1",
            "spark.executor.extraJavaOptions": _JAVA,
            "spark.executor.memory": "768m",
            "spark.sql.catalogImplementation": "in-memory",
            "spark.sql.shuffle.partitions": "4",
            "spark.sql.warehouse.dir": str(self.folder / "warehouse"),
            "spark.ui.enabled": "false",
        }
        self._launch(
            "connect",
            "org.apache.spark.deploy.SparkSubmit",
            *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
            *("--master", "local[2]" if self._is_local else f"spark://127.0.0.1:{self._master}"),
            *(part for name, value in settings.items() for part in ("--conf", f"{name}={value}")),
            "spark-internal",
        )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert is_alive(self._pids["connect"]), f"it ended:\n{self.said('connect')}"
            assert time.monotonic() < until, f"it does not answer:\n{self.said('connect')}"
            time.sleep(0.1)

    def kill(self, what: str) -> None:
        """Kill ``connect`` or ``worker-1`` and so on, with all that it started."""
        guard = self._guards.pop(what)
        guard.communicate()
        pid = self._pids.pop(what)
        wait_until(lambda: not is_alive(pid), f"{what} is gone")
        # Its port is freed a moment after that.
        wait_until(lambda: what != "connect" or not self._answers(), "nobody listens")

    def executors(self) -> list[psutil.Process]:
        """Return the processes that do the work."""
        found = []
        for name, pid in self._pids.items():
            if name.startswith("worker") and is_alive(pid):
                found += [child for child in psutil.Process(pid).children() if _is_executor(child)]
        return found

    def kill_executor(self) -> None:
        """Kill one of the processes that do the work; its worker starts another."""
        executor = self.executors()[0]
        executor.send_signal(signal.SIGKILL)
        wait_until(lambda: not is_alive(executor.pid), "the executor is gone")

    def repair(self) -> None:
        """Start again what was killed."""
        for number in (1, 2):
            if f"worker-{number}" not in self._guards:
                self.start_worker(number)
        if "connect" not in self._guards:
            self.start_connect()

    def close(self) -> None:
        """End all of it."""
        for name in list(self._guards):
            self.kill(name)

    def said(self, what: str) -> str:
        """Return the end of its log."""
        log = (self.folder / f"{what}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(log.splitlines()[-30:])

    def _launch(self, what: str, main: str, *arguments: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "SPARK_HOME": str(self._home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
            "SPARK_DAEMON_MEMORY": "1g" if what == "connect" else "256m",
            "SPARK_DAEMON_JAVA_OPTS": _JAVA,
            "SPARK_MASTER_OPTS": "-Dspark.deploy.maxExecutorRetries=-1",
        }
        listening = ["--host", "127.0.0.1", "--webui-port", "0"] if ".deploy.master." in main or ".deploy.worker." in main else []
        command = [str(self._home / "bin" / "spark-class"), main, *listening, *arguments]
        with (self.folder / f"{what}.log").open("ab") as log:
            # The shell ends its whole group also when this process is killed, for then its end of the pipe closes.
            guard = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" >&2 & echo $!; read -r _; kill -9 0', "sh", *command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert guard.stdout
        self._guards[what] = guard
        self._pids[what] = int(guard.stdout.readline())

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def running(folder: Path, *, is_local: bool = False) -> Iterator[Spark]:
    """Run a cluster with its files in *folder*."""
    assert shutil.which("java"), "Java is not installed; on Debian: apt-get install openjdk-17-jre-headless"
    cluster = Spark(folder, is_local=is_local)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def home() -> Path:
    """Return the folder of Spark itself, fetched when it is not there yet."""
    version = importlib.metadata.version("pyspark-client")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epista-tests"
    found = cache / f"spark-{version}"
    if found.is_dir():
        return found
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder]
        subprocess.run([*pip, f"pyspark=={version}"], check=True)
        (archive,) = Path(folder).glob("pyspark-*.tar.gz")
        with tarfile.open(archive) as packed:
            parts = (f"pyspark-{version}/deps/{name}/" for name in ("bin", "jars"))
            members = [member for part in parts for member in packed.getmembers() if member.name.startswith(part)]
            packed.extractall(folder, members=members, filter="data")
        try:
            (Path(folder) / f"pyspark-{version}" / "deps").rename(found)
        except OSError:
            assert found.is_dir()  # somebody else was faster
    return found


def _is_executor(process: psutil.Process) -> bool:
    try:
        return _EXECUTOR in process.cmdline()
    except psutil.Error:
        return False


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port
