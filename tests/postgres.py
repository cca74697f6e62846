"""
A throw-away PostgreSQL from the binaries of Debian's package, for tests that ask for one.

It listens on a socket in a folder of its own, syncs as in earnest, and ends with the run.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_numbers = itertools.count(1)

# Also where the run is killed, which can say nothing any more: the kernel tells the server, as if told to stop at once.
_ENDING_WITH_US = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []

# What the kernel watches is the thread that started the server, so it is one that stays.
_starter = ThreadPoolExecutor(1, "postgres")


def binaries() -> Path:
    """Return the folder of `initdb` and `postgres`."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if installed:
        return installed[-1]
    found = shutil.which("initdb")
    assert found, "PostgreSQL is not installed; on Debian: apt-get install postgresql"
    return Path(found).parent


class Postgres:
    """A server that can be stopped and started."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="epista-postgres-"))
        self._binaries = binaries()
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self._process: subprocess.Popen[bytes] | None = None
        self._dropped: list[str] = []
        self._run("initdb", "-D", "data", "-U", "epista", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on",
            "max_connections": "200",
            "log_min_messages": "warning",
            "autovacuum_naptime": "5s",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

        def launch() -> subprocess.Popen[bytes]:
            with (self.folder / "log").open("ab") as log:
                return subprocess.Popen(
                    [*_ENDING_WITH_US, self._binaries / "postgres", "-D", "data", *options],
                    cwd=self.folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **self._as,
                )

        process = self._process = _starter.submit(launch).result()
        until = time.monotonic() + 60
        while self._run("pg_isready", "-q", "-h", str(self.folder), check=False) != 0:
            assert time.monotonic() < until and process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: str = "fast") -> None:
        """Stop it: ``fast`` cuts connections, ``immediate`` is a crash."""
        assert self._process
        self._process.send_signal({"fast": 2, "immediate": 3}[how])
        self._process.wait(60)

    def close(self) -> None:
        """End it and remove everything of it."""
        if self._process and self._process.poll() is None:
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://epista@/{database}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """Make a database, as a copy of *template*; return its name."""
        name = f"lab{next(_numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, some time: each takes a checkpoint, which is cheap for several in a row."""
        self._dropped.append(name)
        if len(self._dropped) == 16:
            for each in self._dropped:
                self.sql(f"DROP DATABASE {each} WITH (FORCE)")
            self._dropped.clear()

    def sql(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser, outside of a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            done = connection.execute(statement)
            return list(done.fetchall()) if done.description else []

    def _run(self, command: str, *arguments: str, check: bool = True) -> int:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [self._binaries / command, *arguments],
            cwd=self.folder,
            capture_output=True,
            check=False,
            **self._as,
        )
        assert done.returncode == 0 or not check, done.stderr.decode()
        return done.returncode
