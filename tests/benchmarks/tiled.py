"""Metadata, pages, arrays and tables, beside Tiled on its SQLite catalog and its files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy
import pandas
import psutil
import requests

from tests.benchmarks import lab
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale

_SMALL = 120
"""How many small arrays with metadata lie there, of which a page shows 100."""

_META = {"sample": "S-17", "operator": "anna", "temperature": 21.5, "treatment": ["fixed", "stained"]}

_count = itertools.count()


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return both, for each act."""
    array = numpy.random.default_rng(1).random((scale.array_bytes // 8 // 1024, 1024))
    table = pandas.DataFrame({f"c{n}": numpy.random.default_rng(n).random(scale.table_rows) for n in range(8)})
    numpy.save(folder / "array.npy", array)
    table.to_parquet(folder / "table.parquet")
    return _epista(stack, folder, scale, array, table) | _tiled(stack, folder, scale)


def _epista(stack: ExitStack, folder: Path, scale: Scale, array: Any, table: pandas.DataFrame) -> dict[str, Contestant | Absent]:
    server, ws = stack.enter_context(lab.serving(folder / "lab"))
    small = folder / "small"
    small.mkdir()
    for number in range(_SMALL):
        numpy.save(small / f"{number:05}.npy", numpy.arange(2.0) + number)
    ws.put_dir("small/", small, meta=lambda name: {**_META, "number": name})
    ws.put("read/array.npy", array)
    ws.put("read/table.parquet", table)

    def written(key: str, value: Any) -> Contestant:
        def turn() -> Figures:
            # What is there already would not be sent again.
            fresh = value + next(_count)
            with clock() as found:
                ws.put(key, fresh)
            return found

        return turn

    def read(key: str, count: int) -> Contestant:
        def turn() -> Figures:
            with clock() as found:
                assert len(ws(key)) == count
            return found

        return turn

    return {
        "epista metadata": _cpu(lambda: ws.get("small/00017.npy"), lambda: lab.cpu_seconds(server), scale),
        "epista page of 100": _cpu(lambda: ws.assets(limit=100)[:100], lambda: lab.cpu_seconds(server), scale),
        "epista write array": written("write/array.npy", array),
        "epista read array": read("read/array.npy", len(array)),
        "epista write table": written("write/table.parquet", table),
        "epista read table": read("read/table.parquet", len(table)),
    }


def _cpu(act: Callable[[], Any], cpu_seconds: Callable[[], float], scale: Scale) -> Contestant:
    """Take what the server's processes spend on one *act*, which is short, so over many."""

    def turn() -> Figures:
        before = cpu_seconds()
        with clock() as found:
            for _ in range(scale.repeats):
                act()
        spent = cpu_seconds() - before
        return {"cpu_ms": max(spent, 0.001) / scale.repeats * 1000, "ms": found["seconds"] / scale.repeats * 1000}

    return turn


def _tiled(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    names = ["metadata", "page of 100", "write array", "read array", "write table", "read table"]
    python = Path(os.environ.get("TILED_PYTHON") or sys.executable)
    check = subprocess.run([python, "-c", "import tiled.client, tiled.server.app"], capture_output=True, check=False)
    if check.returncode:
        reason = "Tiled is not installed, or not in the interpreter that TILED_PYTHON names"
        return dict.fromkeys([f"tiled {name}" for name in names], Absent(reason))
    key = secrets.token_hex(16)
    url, server = stack.enter_context(_served(python.parent / "tiled", folder / "tiled", key))
    ask = stack.enter_context(_client(python, url, key))
    ask("make array", str(folder / "array.npy"))
    ask("make table", str(folder / "table.parquet"))
    ask("populate", _SMALL, _META)
    ask("write array", "array")
    ask("write table", "table")
    session = stack.enter_context(requests.Session())
    session.headers["Authorization"] = f"Apikey {key}"

    def get(path: str) -> Callable[[], None]:
        return lambda: session.get(f"{url}{path}", timeout=60).raise_for_status()

    def written(what: str) -> Contestant:
        def turn() -> Figures:
            name = f"{what}-{next(_count)}"
            found = ask(f"write {what}", name)
            ask("delete", name)
            return found

        return turn

    def spent() -> float:
        members = [server, *server.children(recursive=True)]
        return sum(times.user + times.system for times in (one.cpu_times() for one in members))

    return {
        "tiled metadata": _cpu(get("metadata/small-00017"), spent, scale),
        "tiled page of 100": _cpu(get("search/?page[limit]=100"), spent, scale),
        "tiled write array": written("array"),
        "tiled read array": lambda: ask("read", "array"),
        "tiled write table": written("table"),
        "tiled read table": lambda: ask("read", "table"),
    }


@contextmanager
def _served(command: Path, folder: Path, key: str) -> Iterator[tuple[str, psutil.Process]]:
    folder.mkdir()
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = ["serve", "catalog", str(folder / "catalog.db"), "--init", "--write", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([command, *given, "--api-key", key, "--port", str(port)], stdout=log, stderr=log)
    try:
        url, until = f"http://127.0.0.1:{port}/api/v1/", time.monotonic() + 120
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(url, timeout=5).ok:
                    break
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _client(python: Path, url: str, key: str) -> Iterator[Callable[..., Figures]]:
    """Run Tiled's own client in a process of its own; give what asks it to act, and gives the seconds that it took."""
    script = Path(__file__).with_name("tiled_client.py")
    with subprocess.Popen(
        [python, "-P", script, url, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin and process.stdout
        talk_to, answers = process.stdin, process.stdout

        def answer() -> Any:
            line = answers.readline()
            if not line:
                raise RuntimeError("Tiled's client ended")
            return json.loads(line)

        def ask(*said: Any) -> Figures:
            talk_to.write(json.dumps(said) + "\n")
            talk_to.flush()
            return {"seconds": answer()["seconds"]}

        assert answer() == "ready"
        yield ask
        talk_to.close()
