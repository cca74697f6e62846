"""Whatever is done in whatever order, a lab has what a dict would have, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import epista
from epista.contract.assets import Asset
from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from epista.server.services import lab
from epista.server.stores.blobs import BlobStore
from epista.server.stores.local import LocalBlobs
from epista.server.stores.memory import MemoryBlobs
from tests.conftest import Thread
from tests.makers import Server

KEYS = st.sampled_from(["a.bin", "d/a.bin", "d/b.bin", "d/e/c.bin", "f/a.bin"])

CONTENTS = {"empty": b"", "one": b"<one>" * 8, "two": b"<two>" * 30, "three": b"<three>" * 300, "large": b"<large>" * 50_000}
"""By name; the last one is too large for a pack."""

NAMED = st.sampled_from(sorted(CONTENTS))

FOLDERS = st.dictionaries(st.sampled_from(["a.bin", "b.bin", "e/c.bin"]), NAMED, min_size=1)

_numbers = count(1)


class Lab(RuleBasedStateMachine):
    """One lab, and for each key what versions it must have."""

    thread: Thread
    founded: Path
    below: Path
    use: Callable[[BlobStore], None]
    in_memory: bool

    def __init__(self) -> None:
        super().__init__()
        self.folder = self.below / f"lab-{next(_numbers)}"
        shutil.copytree(self.founded, self.folder)
        self.store: BlobStore = MemoryBlobs() if self.in_memory else LocalBlobs(self.folder)
        type(self).use(self.store)
        self.versions: dict[str, dict[int, tuple[str, bytes]]] = {}
        self.live: set[str] = set()
        self._start()
        link = founding.new_link(self.folder, address=self.thread.url, seconds=3600, only_if_locked_out=False)
        assert link
        self.server = Server(self.thread.url, self.folder, link.partition("#")[2])
        self.api = self.server.api()
        self.ws = epista.Workspace(self.thread.url, token=self.server.manager, workspace="lab")

    def _start(self) -> None:
        self.stop = self.thread.start(create_app(Config(lab=str(self.folder))))

    def _made(self, asset: Asset, data: bytes) -> None:
        versions = self.versions.setdefault(asset.key, {})
        assert versions.setdefault(asset.number, (asset.version, data)) == (asset.version, data)
        assert asset.number == max(versions)
        self.live.add(asset.key)

    def _current(self, key: str) -> bytes:
        return self.versions[key][max(self.versions[key])][1]

    @rule(key=KEYS, content=NAMED)
    def put(self, key: str, content: str) -> None:
        self._made(self.ws.put(key, CONTENTS[content]), CONTENTS[content])

    @rule(files=FOLDERS)
    def put_folder(self, files: dict[str, str]) -> None:
        source = self.below / f"source-{next(_numbers)}"
        for name, content in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(CONTENTS[content])
        made = self.ws.put_dir("d", source)
        assert sorted(asset.key for asset in made) == sorted(f"d/{name}" for name in files)
        for asset in made:
            self._made(asset, CONTENTS[files[asset.key.removeprefix("d/")]])

    @rule(content=NAMED)
    def send_and_forget(self, content: str) -> None:
        self.api.upload(CONTENTS[content])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.live)))
        self.ws.delete(key)
        self.live.discard(key)

    @precondition(lambda self: set(self.versions) - self.live)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(set(self.versions) - self.live)))
        self._made(self.ws.restore(key), self._current(key))

    @precondition(lambda self: self.versions)
    @rule(data=st.data())
    def restore_version(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.versions)))
        number = data.draw(st.sampled_from(sorted(self.versions[key])))
        self._made(self.ws.restore(key, version=number), self.versions[key][number][1])

    @precondition(lambda self: self.live)
    @rule(data=st.data(), to=KEYS.filter(lambda key: "/" in key), is_move=st.booleans())
    def relocate(self, data: st.DataObject, to: str, is_move: bool) -> None:
        source = data.draw(st.sampled_from(sorted(self.live)))
        if source == to:
            return
        content = self._current(source)
        self._made((self.ws.move if is_move else self.ws.copy)(source, to), content)
        if is_move:
            self.live.discard(source)

    @precondition(lambda self: set(self.versions) - self.live)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(set(self.versions) - self.live)))
        assert self.ws.purge(key) == [f"{key}@{number}" for number in sorted(self.versions.pop(key))]

    @precondition(lambda self: any(len(versions) > 1 for versions in self.versions.values()))
    @rule(data=st.data())
    def purge_version(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, versions in self.versions.items() if len(versions) > 1)))
        number = data.draw(st.sampled_from(sorted(self.versions[key])[:-1]))
        self.ws.purge(key, version=number)
        del self.versions[key][number]

    @rule()
    def collect(self) -> None:
        self.api.ok(self.api.post("/lab/gc", grace_seconds=0))
        with closing(sqlite3.connect(self.folder / "lab.db")) as catalog:
            known = {name for (name,) in catalog.execute("SELECT DISTINCT object FROM blobs")}
        assert {one.object for one in self.store.objects()} == known

    @rule()
    def restart(self) -> None:
        self.stop()
        self._start()

    @rule()
    def compare(self) -> None:
        assert set(self.ws.keys()) == self.live
        for key, versions in self.versions.items():
            there = {one.number: one.id for one in self.ws.versions(key)}
            assert there == {number: id for number, (id, _) in versions.items()}
            for id, data in versions.values():
                assert self.api.get(f"~/versions/{id}/content").content == data
        assert self.api.ok(self.api.get("/lab/verify"))["problems"] == []

    def teardown(self) -> None:
        try:
            self.compare()
            self.collect()
            self.compare()
            needed = {data for versions in self.versions.values() for _, data in versions.values()}
            lying = b"".join(b"".join(self.store.read(one.object, 0, one.size)) for one in self.store.objects())
            assert {name for name, data in CONTENTS.items() if data and data in lying and data not in needed} == set()
        finally:
            self.ws.close()
            self.stop()


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "folder"])
@pytest.mark.parametrize("examples", [5, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_lab_is_a_dict_with_a_history(
    server_thread: Thread, founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool, examples: int
) -> None:
    monkeypatch.setattr(lab, "FILE_GRACE_SECONDS", 0)

    class Mine(Lab):
        thread, below = server_thread, tmp_path

    Mine.founded, Mine.in_memory = founded, in_memory
    Mine.use = staticmethod(lambda store: monkeypatch.setattr("epista.server.app.blob_store", lambda config: store))
    how = settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Mine, settings=how)
