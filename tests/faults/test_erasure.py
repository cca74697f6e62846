"""
Collections, compactions, purges and batches that are killed at any moment: what was acknowledged holds, no rest stays for ever.

Writers remember every version that was acknowledged, and every one that was purged; keepers collect garbage with no grace at all.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from epista.contract import frames
from tests import processes
from tests.faults import load
from tests.faults.test_kill import kill_some, seed_of_the_run
from tests.makers import Api, sha256

WRITERS = 3

KEYS = 8

PLACES = ("blobs", "staging", "parts")

REFUSALS: dict[str, set[str]] = {
    # A collection without grace took what was sent but not made yet.
    "batches": {"not_found"},
    "puts": {"not_found"},
    # Others changed the same packs again and again.
    "purges": {"conflict"},
    "frames": set(),
}
"""What a writer may hear."""


@dataclass
class Version:
    """A version that was acknowledged."""

    id: str
    number: int
    data: bytes


@dataclass
class Eraser:
    """One thread that puts, deletes and purges, and knows what must be there."""

    name: str
    chance: random.Random
    counts: Counter[str]
    known: dict[str, list[Version]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    purged: list[Version] = field(default_factory=list)
    coming: Mapping[str, bytes] = field(default_factory=dict)
    """What a request that was cut off would have made, all of it or nothing."""
    act: str = ""
    """What tells its versions from others of the same bytes."""
    going: list[tuple[str, Version]] = field(default_factory=list)
    """What it would have purged, all of it or nothing."""
    hiding: str | None = None
    """What it would have hidden."""
    faults: list[str] = field(default_factory=list)

    def work(self, api: Api, stop: threading.Event) -> None:
        """Go on until told to stop or until the server is gone."""
        acts = [self._frame, self._parts, self._leftovers, self._delete, self._purge, self._purge]
        try:
            while not stop.is_set():
                self.chance.choice(acts)(api)
        except requests.RequestException:
            self.counts["cut off"] += 1
        except AssertionError as error:
            self.faults.append(str(error))

    def _files(self) -> dict[str, bytes]:
        some = sorted(self.chance.sample(range(KEYS), self.chance.randrange(1, KEYS)))
        return {f"{self.name}/{number}.bin": self._bytes() for number in some}

    def _bytes(self) -> bytes:
        # Some contents are everybody's.
        if self.chance.random() < 0.2:
            return b"common content %d" % self.chance.randrange(5) * 10
        return self.chance.randbytes(self.chance.choice([40, 400, 4000, 40_000]))

    def _objects(self, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
        return [{"key": key, "sha256": sha256(data), "meta": {"act": self.act}} for key, data in files.items()]

    def _begin(self) -> dict[str, bytes]:
        self.act = self.chance.randbytes(8).hex()
        return self._files()

    def _frame(self, api: Api) -> None:
        self.coming = self._begin()
        self._made("frames", _send(api, self._objects(self.coming), list(self.coming.values())))

    def _parts(self, api: Api) -> None:
        batch, files = secrets.token_hex(16), self._begin()
        for part, (key, data) in enumerate(files.items()):
            api.ok(_send(api, self._objects({key: data}), [data], batch=batch, part=part))
        self.coming = files
        self._made("batches", api.post("~/batches/commit", batch=batch, parts=len(files)))

    def _leftovers(self, api: Api) -> None:
        """Send a pack of which most will never be needed."""
        files = self._begin()
        api.ok(_send(api, [], [*files.values(), *(self.chance.randbytes(3000) for _ in range(20))]))
        self.coming = files
        self._made("puts", api.post("~/objects", objects=self._objects(files)))

    def _delete(self, api: Api) -> None:
        if live := [key for key in self.known if key not in self.hidden]:
            self.hiding = self.chance.choice(live)
            api.ok(api.post("~/delete", key=self.hiding))
            self.hidden.add(self.hiding)
            self.hiding = None
            self.counts["deletes"] += 1

    def _purge(self, api: Api) -> None:
        if not self.known:
            return
        key = self.chance.choice(sorted(self.known))
        if key in self.hidden:
            wanted, self.going = {"path": key}, [(key, one) for one in self.known[key]]
        elif old := sorted(self.known[key], key=lambda one: one.number)[:-1]:
            one = self.chance.choice(old)
            wanted, self.going = {"path": key, "version": str(one.number)}, [(key, one)]
        else:
            return
        answer = api.call("POST", "~/purge", json=wanted)
        if self._is_done("purges", answer):
            self._gone()
        self.going = []

    def _made(self, what: str, answer: requests.Response) -> None:
        if self._is_done(what, answer):
            for line in answer.text.splitlines():
                for asset in json.loads(line)["assets"]:
                    self._add(asset["key"], Version(asset["version"], asset["number"], self.coming[asset["key"]]))
        self.coming = {}

    def _is_done(self, what: str, answer: requests.Response) -> bool:
        if answer.status_code == 200:
            self.counts[what] += 1
        else:
            problem = answer.json()
            assert problem["code"] in REFUSALS[what], answer.text
            self.counts[f"{what} refused"] += 1
        return answer.status_code == 200

    def _add(self, key: str, version: Version) -> None:
        there = self.known.setdefault(key, [])
        assert version.id not in [one.id for one in there]
        there.append(version)
        self.hidden.discard(key)

    def _gone(self) -> None:
        for key, version in self.going:
            self.known[key].remove(version)
            self.purged.append(version)
            if not self.known[key]:
                del self.known[key]
                self.hidden.discard(key)

    def settle(self, api: Api) -> None:
        """Hold the server to what was acknowledged, and take for known what a request that was cut off did."""
        assert self.faults == []
        if self.going:
            answers = {_read(api, one) == one.data for _, one in self.going}
            assert len(answers) == 1, f"a part of {self.going[0][0]} is purged"
            if answers == {False}:
                self._gone()
        if self.coming:
            new = {key: found for key in self.coming if (found := self._newest(api, key)) is not None}
            assert len(new) in (0, len(self.coming)), f"of {list(self.coming)} there is only {list(new)}"
            for key, (id, number) in new.items():
                self._add(key, Version(id, number, self.coming[key]))
        if self.hiding is not None and api.get("~/asset", ref=self.hiding, exact=True).status_code == 404:
            self.hidden.add(self.hiding)
        self.coming, self.going, self.hiding = {}, [], None
        for key, versions in self.known.items():
            for version in versions:
                assert _read(api, version) == version.data, f"{key}@{version.number}"
            is_live = api.get("~/asset", ref=key, exact=True).status_code == 200
            assert is_live == (key not in self.hidden), key
        for version in self.purged:
            assert _read(api, version) is None

    def _newest(self, api: Api, key: str) -> tuple[str, int] | None:
        """Return the version that the request that was cut off made at *key*."""
        answer = api.get("~/asset", ref=key, exact=True)
        if answer.status_code == 404 or answer.json()["meta"] != {"act": self.act}:
            return None
        return answer.json()["version"], answer.json()["number"]


def _send(api: Api, objects: list[dict[str, Any]], contents: list[bytes], **head: Any) -> requests.Response:
    bodies = {sha256(data): data for data in contents}
    message = json.dumps({"objects": objects} | head).encode()
    return api.call("POST", "~/frames", data=frames.joined(message, frames.frame(bodies.items())))


def _read(api: Api, version: Version) -> bytes | None:
    answer = api.get(f"~/versions/{version.id}/content")
    assert answer.status_code in (200, 404), answer.text
    return answer.content if answer.status_code == 200 else None


def keep(api: Api, counts: Counter[str], stop: threading.Event) -> None:
    """Collect garbage, again and again, until the server is gone."""
    try:
        while not stop.is_set():
            found = api.ok(api.post("/lab/gc", grace_seconds=0))
            counts["collections"] += 1
            counts["packs rewritten"] += found["packs"]
            counts["contents collected"] += found["blobs"]
    except requests.RequestException:
        counts["cut off"] += 1


def survive(folder: Path, rounds: int) -> Counter[str]:
    seed = seed_of_the_run()
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    writers = [Eraser(f"W{number}", random.Random(f"{seed}-{number}"), counts) for number in range(WRITERS)]
    token: str | None = None
    for number in range(rounds + 1):
        if number == rounds:
            age(folder)
        server = processes.start_served(folder, token=token, workers=2)
        try:
            token, api = server.token, server.api()
            for writer in writers:
                writer.settle(api)
            load.verify(api, folder)
            if number == rounds:
                api.ok(api.post("/lab/gc", grace_seconds=0))
                for writer in writers:
                    writer.settle(api)
                load.verify(api, folder)
                break
            stop = threading.Event()
            threads = [threading.Thread(target=writer.work, args=(api, stop), name=writer.name) for writer in writers]
            threads.append(threading.Thread(target=keep, args=(api, counts, stop), name="keeper"))
            for thread in threads:
                thread.start()
            wait_for_acts(counts, chance.choice([3, 10, 10, 20]), threads)
            time.sleep(chance.random() * 0.05)
            kill_some(server, chance)
            load.join(threads)
        finally:
            server.end()
    print(f"{rounds} kills: {dict(counts)}")
    needed = {one.data for writer in writers for versions in writer.known.values() for one in versions}
    gone = {one.data for writer in writers for one in writer.purged} - needed
    there = b"\n".join(path.read_bytes() for path in (folder / "blobs").rglob("*") if path.is_file())
    assert [data for data in gone if data in there] == []
    assert left(folder) == objects_of(folder)
    return counts


def acts(counts: Counter[str]) -> int:
    return sum(counts[what] for what in (*REFUSALS, "deletes"))


def wait_for_acts(counts: Counter[str], more: int, threads: list[threading.Thread]) -> None:
    """Wait until so many more acts were acknowledged, or until no thread is left to make any."""
    enough = acts(counts) + more
    processes.wait_until(lambda: acts(counts) >= enough or not any(thread.is_alive() for thread in threads), f"{more} acts", 90)


def age(folder: Path) -> None:
    """Let all that lies there look as if it had come long ago: a collection spares files that are new."""
    for place in PLACES:
        for path in (folder / place).rglob("*"):
            if path.is_file():
                os.utime(path, (0, 0))


def left(folder: Path) -> set[str]:
    """Return the names of all files of contents, also of those that are on their way."""
    return {path.name for place in PLACES for path in (folder / place).rglob("*") if path.is_file()}


def objects_of(folder: Path) -> set[str]:
    """Return the names of those that the catalog knows."""
    with closing(sqlite3.connect(folder / "lab.db")) as catalog:
        return {name for (name,) in catalog.execute("SELECT DISTINCT object FROM blobs")}


def test_collections_and_purges_survive_kill_9(tmp_path: Path) -> None:
    counts = survive(tmp_path / "lab", rounds=4)

    assert min(acts(counts), counts["cut off"]) > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_collections_and_purges_survive_many_kills(tmp_path: Path) -> None:
    counts = survive(tmp_path / "lab", rounds=50)

    assert min(counts["purges"], counts["batches"], counts["packs rewritten"], counts["cut off"]) > 20
