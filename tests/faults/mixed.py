"""
Clients that do everything the bucket can do at once, and check every byte they get.

Each client owns a folder, of which it knows what must stand there; one more folder is everybody's, where contents vouch for
themselves: they begin with the sha256 of the rest.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

import epista
from epista.contract.errors import ConflictError, KeyNotFoundError
from tests import processes

SIZES = (0, 10, 4_000, 60_000, 300_000, 2_000_000)

_SHARED = 8


@dataclass
class Client:
    """One person at work."""

    name: str
    ws: epista.Workspace
    chance: random.Random
    desk: Path
    """A local folder of its own."""
    known: dict[str, bytes] = field(default_factory=dict)
    """What stands in its folder, by key."""
    deleted: dict[str, bytes] = field(default_factory=dict)
    acts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def work(self, stop: threading.Event) -> None:
        """Act until told to stop, or until something is not as it must be."""
        verbs: list[Callable[[], object]] = [
            *(self.put, self.put, self.put_file, self.put_dir, self.read, self.read, self.fetch, self.fetch_folder, self.open),
            *(
                self.read_folder,
                self.list,
                self.search,
                self.describe,
                self.history,
                self.delete,
                self.restore,
                self.delete_folder,
            ),
            *(self.delete_folder, self.put_shared, self.read_shared, self.race_for_a_key),
        ]
        while not stop.is_set():
            verb = self.chance.choice(verbs)
            try:
                verb()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self.faults.append(f"{self.name}.{verb.__name__}: {type(error).__name__}: {error}")
                return
            self.acts[verb.__name__] += 1

    def put(self) -> None:
        key, data = self._key(), self._bytes()
        receipt = self.ws.put(key, data, meta={"round": self.acts["put"]}, tags=["soak"])
        assert (receipt.sha256, receipt.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data)), key
        self._stands({key: data})

    def put_file(self) -> None:
        key, path = self._key(), self.desk / "one.bin"
        path.write_bytes(data := self._bytes())
        self.ws.put_file(key, path)
        self._stands({key: data})

    def put_dir(self) -> None:
        folder = self.desk / "many"
        shutil.rmtree(folder, ignore_errors=True)
        made = {f"{number // 5}/{number:02}.bin": self._bytes(4) for number in range(self.chance.randrange(1, 40))}
        for name, data in made.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        receipts = self.ws.put_dir(f"{self.name}/batch", folder)
        assert [one.key for one in receipts] == [f"{self.name}/batch/{name}" for name in sorted(made)]
        self._stands({f"{self.name}/batch/{name}": data for name, data in made.items()})

    def read(self) -> None:
        if key := self._some(self.known):
            assert self.ws.deserialize(key, format="bytes") == self.known[key], key

    def fetch(self) -> None:
        if key := self._some(self.known):
            path = self.ws.fetch(key, self.desk / "fetched.bin")
            assert path.read_bytes() == self.known[key], key

    def fetch_folder(self) -> None:
        if wanted := {key: data for key, data in self.known.items() if key.startswith(f"{self.name}/batch/")}:
            root = self.desk / "folder"
            shutil.rmtree(root, ignore_errors=True)
            self.ws.fetch(f"{self.name}/batch/", root)
            found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            assert found == {key.removeprefix(f"{self.name}/batch/"): data for key, data in wanted.items()}

    def read_folder(self) -> None:
        if wanted := {key: data for key, data in self.known.items() if key.startswith(f"{self.name}/batch/")}:
            found = self.ws.deserialize(f"{self.name}/batch/", format="bytes")
            assert found == {key.removeprefix(f"{self.name}/batch/"): data for key, data in wanted.items()}

    def open(self) -> None:
        if key := self._some({key: data for key, data in self.known.items() if data}):
            data = self.known[key]
            first = self.chance.randrange(len(data))
            last = self.chance.randrange(first, len(data))
            with self.ws.open(key, byte_range=(first, last)) as stream:
                assert stream.read() == data[first : last + 1], key

    def list(self) -> None:
        assert self.ws.keys(f"{self.name}/") == sorted(self.known)
        level = self.ws.ls(self.name)
        assert [one.key for one in level.assets] == sorted(key for key in self.known if key.count("/") == 1)

    def search(self) -> None:
        hits = self.ws.search(f"key:{self.name}/")
        assert hits.total == len(self.known), (hits.total, len(self.known))

    def describe(self) -> None:
        if key := self._some(self.known):
            said = {"note": self.chance.choice(["good", "bad"]), "nested": {"value": self.chance.random()}}
            self.ws.set_meta(key, said)
            assert self.ws.get_meta(key) == said

    def history(self) -> None:
        if key := self._some(self.known):
            newest = self.ws.versions(key)[0]
            assert newest.sha256 == hashlib.sha256(self.known[key]).hexdigest(), key

    def delete(self) -> None:
        if key := self._some(self.known):
            self.ws.delete(key)
            self.deleted[key] = self.known.pop(key)

    def restore(self) -> None:
        if key := self._some(self.deleted):
            self.ws.restore(key)
            self._stands({key: self.deleted.pop(key)})

    def delete_folder(self) -> None:
        if wanted := [key for key in self.known if key.startswith(f"{self.name}/batch/")]:
            assert sorted(self.ws.delete_dir(f"{self.name}/batch/")) == sorted(wanted)
            for key in wanted:
                del self.known[key]

    def put_shared(self) -> None:
        self.ws.put(f"shared/{self.chance.randrange(_SHARED)}.bin", _vouching(self.chance.randbytes(self.chance.choice(SIZES))))

    def read_shared(self) -> None:
        try:
            data = self.ws.deserialize(f"shared/{self.chance.randrange(_SHARED)}.bin", format="bytes")
        except KeyNotFoundError:
            return
        assert data == _vouching(data[32:])

    def race_for_a_key(self) -> None:
        try:
            self.ws.put(f"shared/once-{self.chance.randrange(1000)}.txt", self.name, expect="absent")
        except ConflictError:
            self.acts["lost races"] += 1

    def check(self) -> None:
        """Hold the lab to everything it acknowledged."""
        assert not self.faults, self.faults
        self.list()
        for key, data in self.known.items():
            assert self.ws.deserialize(key, format="bytes") == data, key

    def _key(self) -> str:
        return f"{self.name}/single-{self.chance.randrange(12)}.bin"

    def _some(self, from_: dict[str, bytes]) -> str | None:
        return self.chance.choice(sorted(from_)) if from_ else None

    def _bytes(self, sizes: int = len(SIZES)) -> bytes:
        return self.chance.randbytes(self.chance.choice(SIZES[:sizes]))

    def _stands(self, made: dict[str, bytes]) -> None:
        self.known |= made
        for key in made:
            self.deleted.pop(key, None)


@dataclass
class Memory:
    """How much the processes of a server held, over time."""

    of: Callable[[], Sequence[psutil.Process]]
    samples: list[int] = field(default_factory=list)

    def sample(self) -> None:
        held = 0
        for process in self.of():
            try:
                held += process.memory_info().rss
            except psutil.Error:
                continue
        self.samples.append(held)

    def quarters(self) -> list[float]:
        """Return the median of each quarter of the time, in MiB."""
        size = max(1, len(self.samples) // 4)
        return [statistics.median(self.samples[start : start + size]) / 2**20 for start in range(0, 4 * size, size)]


def run(clients: Sequence[Client], seconds: float, memory: Memory, enough: threading.Event | None = None) -> Counter[str]:
    """Let all clients work for some seconds, or until that is *enough*, and return what they did."""
    stop = threading.Event()
    threads = [threading.Thread(target=client.work, args=(stop,), name=client.name) for client in clients]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until and all(thread.is_alive() for thread in threads) and not (enough and enough.is_set()):
        memory.sample()
        time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(processes.STOP_SECONDS * 4)
        assert not thread.is_alive(), f"{thread.name} still waits for an answer"
    return sum((client.acts for client in clients), Counter())


def faults_of(url: str, token: str) -> dict[str, float]:
    """Return how often the server answered 5xx, by endpoint and status."""
    answer = requests.get(url + "/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, float] = {}
    for line in answer.text.splitlines():
        if line.startswith("epista_requests_total{") and 'status="5' in line:
            labels, _, count = line.rpartition(" ")
            found[labels] = float(count)
    return found


def _vouching(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + data
