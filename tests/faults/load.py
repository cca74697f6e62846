"""
Writers that remember what the server acknowledged, and a check that it kept its word.

Each writer owns its keys, so what must stand there is known: what was acknowledged last or, if a request was cut off, what
that request would have made. A batch that was cut off is there whole or not at all.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from epista.contract import frames
from epista.server.stores import audit
from epista.server.stores.sqlite import SqliteCatalog
from tests import processes
from tests.makers import Api, sha256

KEYS = 6
"""How many keys of each sort one writer owns: few, so that they are overwritten and deleted often."""

BATCH = 12


@dataclass
class Counts:
    """What was done over all rounds."""

    puts: int = 0
    batches: int = 0
    deletes: int = 0
    cut_off: int = 0

    @property
    def acts(self) -> int:
        return self.puts + self.batches + self.deletes

    def __str__(self) -> str:
        return f"{self.puts} puts, {self.batches} batches, {self.deletes} deletes acknowledged; {self.cut_off} cut off"


@dataclass
class Writer:
    """One thread's requests, and what is known of its keys."""

    name: str
    chance: random.Random
    counts: Counts
    known: dict[str, bytes | None] = field(default_factory=dict)
    """What was acknowledged at each key; None if it was deleted."""
    in_doubt: Mapping[str, bytes | None] = field(default_factory=dict)
    """What a request that was cut off would have made, all of it or nothing."""
    faults: list[str] = field(default_factory=list)

    def work(self, api: Api, stop: threading.Event) -> None:
        """Write until told to stop or until the server is gone."""
        self.in_doubt = {}
        try:
            while not stop.is_set():
                self.chance.choice([self._put, self._put, self._batch, self._delete])(api)
        except requests.RequestException:
            self.counts.cut_off += 1
        except AssertionError as error:
            self.faults.append(str(error))

    def _put(self, api: Api) -> None:
        key = f"{self.name}/single-{self.chance.randrange(KEYS)}.bin"
        data = self._bytes()
        self.in_doubt = {key: data}
        api.put(key, data)
        self._done()
        self.counts.puts += 1

    def _batch(self, api: Api) -> None:
        folder = f"{self.name}/batch-{self.chance.randrange(2)}"
        files = {f"{folder}/{number:02}.bin": self._bytes() for number in range(BATCH)}
        self.chance.choice([self._commit, self._send_frame, self._send_parts])(api, files)
        self._done()
        self.counts.batches += 1

    def _commit(self, api: Api, files: Mapping[str, bytes]) -> None:
        objects = [{"key": key, "sha256": api.upload(data)} for key, data in files.items()]
        self.in_doubt = files
        api.ok(api.post("~/objects", objects=objects))

    def _send_frame(self, api: Api, files: Mapping[str, bytes]) -> None:
        self.in_doubt = files
        _frame(api, files)

    def _send_parts(self, api: Api, files: Mapping[str, bytes]) -> None:
        batch, keys = self.chance.randbytes(16).hex(), sorted(files)
        for part in range(3):
            _frame(api, {key: files[key] for key in keys[part * BATCH // 3 : (part + 1) * BATCH // 3]}, batch=batch, part=part)
        self.in_doubt = files
        # Nothing shows before this, and with its first byte all of it does.
        response = api.post("~/batches/commit", batch=batch, parts=3)
        assert response.status_code == 200, response.text
        made = [asset["key"] for line in response.text.splitlines() for asset in json.loads(line)["assets"]]
        assert made == keys

    def _delete(self, api: Api) -> None:
        live = [key for key, data in self.known.items() if data is not None]
        if not live:
            return
        key = self.chance.choice(live)
        self.in_doubt = {key: None}
        api.ok(api.post("~/delete", key=key))
        self._done()
        self.counts.deletes += 1

    def _bytes(self) -> bytes:
        return self.chance.randbytes(self.chance.choice([0, 10, 4096, 200_000]))

    def _done(self) -> None:
        self.known.update(self.in_doubt)
        self.in_doubt = {}

    def settle(self, found: Mapping[str, bytes]) -> None:
        """Compare what is there with what must be, and take it for what is known from now on."""
        before = {key: data for key, data in self.known.items() if data is not None}
        after = {key: data for key, data in (self.known | dict(self.in_doubt)).items() if data is not None}
        assert found in (before, after), _difference(self.name, found, before, after)
        self.known = {key: found.get(key) for key in {*self.known, *self.in_doubt}}
        self.in_doubt = {}


def _frame(api: Api, files: Mapping[str, bytes], **head: Any) -> None:
    """Send small files with their keys in one frame."""
    bodies = {sha256(data): data for data in files.values()}
    objects = [{"key": key, "sha256": sha256(data)} for key, data in files.items()]
    message = json.dumps({"objects": objects} | head).encode()
    api.ok(api.call("POST", "~/frames", data=frames.joined(message, frames.frame(bodies.items()))))


def run(writers: Sequence[Writer], api: Api) -> tuple[threading.Event, list[threading.Thread]]:
    """Start all writers against a server."""
    stop = threading.Event()
    threads = [threading.Thread(target=writer.work, args=(api, stop), name=writer.name) for writer in writers]
    for thread in threads:
        thread.start()
    return stop, threads


def wait_for_acts(counts: Counts, more: int, threads: Sequence[threading.Thread]) -> None:
    """Wait until so many more acts were acknowledged, or until no thread is left to make any."""
    acts = counts.acts + more
    processes.wait_until(lambda: counts.acts >= acts or not any(thread.is_alive() for thread in threads), f"{more} acts", 90)


def join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive(), f"{thread.name} still waits for an answer"


def check(writers: Sequence[Writer], api: Api) -> None:
    """Hold the server to everything it acknowledged."""
    faults = [fault for writer in writers for fault in writer.faults]
    assert not faults, faults
    contents = read_all(api)
    for writer in writers:
        writer.settle({key: data for key, data in contents.items() if key.startswith(f"{writer.name}/")})


def read_all(api: Api) -> dict[str, bytes]:
    """Return every key of the workspace with its bytes, as the server gives them."""
    found: dict[str, bytes] = {}
    keys = api.keys()
    for key in keys:
        asset = api.ok(api.get("~/asset", ref=key, exact=True))
        content = api.get(f"~/versions/{asset['version']}/content")
        assert content.status_code == 200, (key, content.text)
        assert sha256(content.content) == asset["sha256"], key
        found[key] = content.content
    return found


def verify(api: Api, folder: Path) -> int:
    """Let the lab verify itself; return how many blobs it has."""
    count, after = 0, None
    while True:
        verdict: dict[str, Any] = api.ok(api.get("/lab/verify", **({"after": after} if after else {})))
        assert verdict["problems"] == []
        count, after = count + int(verdict["blobs"]), verdict["next"]
        if after is None:
            break
    assert api.ok(api.get("~/audit/verify"))["problems"] == []
    # The chain of the lab itself has no endpoint.
    catalog = SqliteCatalog(folder / "lab.db")
    try:
        with catalog.read() as tx:
            assert audit.verify(tx, audit.LAB)[2] == []
    finally:
        catalog.close()
    return count


def _difference(
    name: str, found: Mapping[str, bytes], before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> str:  # pragma: no cover - only when a test fails
    lines = [f"{name}: neither what was acknowledged nor what the request that was cut off would have made"]
    for key in sorted({*found, *before, *after}):
        shown = [_short(where.get(key)) for where in (found, before, after)]
        if not shown[0] == shown[1] == shown[2]:
            lines.append(f"  {key}: found {shown[0]}, acknowledged {shown[1]}, in doubt {shown[2]}")
    return "\n".join(lines)


def _short(data: bytes | None) -> str:
    return "nothing" if data is None else f"{sha256(data)[:8]} ({len(data)})"
