"""Whatever is done to tables in whatever order, each version has the rows it was given, for queries and as one file alike."""

from __future__ import annotations

import io
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

import epista
from epista.client import usage
from epista.contract.assets import Asset
from epista.server import founding
from epista.server.app import create_app, resources_of
from epista.server.config import Config
from epista.server.services import appends, lab
from epista.server.services.tables import Tables
from epista.server.stores import moments
from epista.server.stores.tables import blobs, versions
from tests.conftest import Thread
from tests.makers import Server
from tests.server.services.test_tables import pinned

KEYS = st.sampled_from(["a.parquet", "EXP-1/a.parquet", "EXP-1/b.parquet"])

_numbers = count(1)


class Lab(RuleBasedStateMachine):
    """One lab, and for each key what rows each version must have."""

    thread: Thread
    founded: Path
    below: Path

    def __init__(self) -> None:
        super().__init__()
        folder = self.below / f"lab-{next(_numbers)}"
        shutil.copytree(self.founded, folder)
        config = Config(lab=str(folder))
        self.stop = self.thread.start(create_app(config))
        link = founding.new_link(folder, address=self.thread.url, seconds=3600, only_if_locked_out=False)
        assert link
        self.server = Server(self.thread.url, folder, link.partition("#")[2])
        self.api = self.server.api()
        self.ws = epista.Workspace(self.thread.url, token=self.server.manager, workspace="lab")
        self.resources = resources_of(config, moments.now)
        self.resources.catalog.open()
        self.tables = Tables(self.resources)
        self.rows: dict[str, dict[int, list[int]]] = {}
        self.live: set[str] = set()
        self.next = 0

    def _new(self, rows: int) -> tuple[pa.Table, list[int]]:
        numbers = list(range(self.next, self.next + rows))
        self.next += rows
        return pa.table({"n": numbers}), numbers

    def _made(self, asset: Asset, rows: list[int]) -> None:
        known = self.rows.setdefault(asset.key, {})
        assert known.setdefault(asset.number, rows) == rows
        assert asset.number == max(known)
        self.live.add(asset.key)

    def _current(self, key: str) -> list[int]:
        return self.rows[key][max(self.rows[key])]

    @rule(key=KEYS, rows=st.integers(1, 3))
    def put(self, key: str, rows: int) -> None:
        table, numbers = self._new(rows)
        self._made(self.ws.put(key, table), numbers)

    @rule(key=KEYS, rows=st.integers(0, 3))
    def append(self, key: str, rows: int) -> None:
        table, numbers = self._new(rows)
        self._made(self.ws.append(key, table), (self._current(key) if key in self.live else []) + numbers)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def read_as_one(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.live)))
        number = data.draw(st.sampled_from(sorted(self.rows[key])))
        assert self.ws.deserialize(key, version=number)["n"].tolist() == self.rows[key][number]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), to=KEYS, is_move=st.booleans())
    def relocate(self, data: st.DataObject, to: str, is_move: bool) -> None:
        source = data.draw(st.sampled_from(sorted(self.live)))
        if source != to:
            rows = self._current(source)
            self._made((self.ws.move if is_move else self.ws.copy)(source, to), rows)
            self.live -= {source} if is_move else set()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.live)))
        self.ws.delete(key)
        self.live.discard(key)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.rows)))
        number = data.draw(st.sampled_from(sorted(self.rows[key])))
        self._made(self.ws.restore(key, version=number), self.rows[key][number])

    @precondition(lambda self: any(len(one) > 1 for one in self.rows.values()))
    @rule(data=st.data())
    def purge_version(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, one in self.rows.items() if len(one) > 1)))
        number = data.draw(st.sampled_from(sorted(self.rows[key])[:-1]))
        self.ws.purge(key, version=number)
        del self.rows[key][number]
        self._nothing_is_left()

    @precondition(lambda self: set(self.rows) - self.live)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(set(self.rows) - self.live)))
        self.ws.purge(key)
        del self.rows[key]
        self._nothing_is_left()

    @rule()
    def collect(self) -> None:
        self.api.ok(self.api.post("/lab/gc", grace_seconds=0))

    @rule()
    def query(self) -> None:
        """Read every version as engines do, which makes nothing of it one file."""
        for key in sorted(self.live):
            for number, rows in self.rows[key].items():
                with self.tables.opened(pinned(self.resources, f"{key}@{number}"), reach="files", seconds=60) as opened:
                    assert [one for file in opened.files for one in pq.read_table(file)["n"].to_pylist()] == rows
        assert self.api.ok(self.api.get("/lab/verify"))["problems"] == []

    @rule()
    def count(self) -> None:
        """What is counted is what a restricted member's recount would find, and what lies there is known."""
        with self.resources.catalog.read() as tx:
            known = set(tx.execute(select(blobs.c.object)).scalars())
            lists = tx.execute(select(versions.c.uid).join(blobs).where(blobs.c.sha256.is_(None))).all()
        assert {one.object for one in self.resources.blobs.objects()} == known
        if not lists and self.rows:
            sizes = {one.sha256: one.size_bytes or 0 for key in self.rows for one in self.ws.versions(key)}
            assert usage.get(self.ws).stored_bytes == sum(sizes.values())

    def _nothing_is_left(self) -> None:
        """No bytes of the lab have a row that no version has."""
        needed = {row for one in self.rows.values() for rows in one.values() for row in rows}
        for found in self.resources.blobs.objects():
            data = b"".join(self.resources.blobs.read(found.object, 0, found.size))
            if data.startswith(b"PAR1"):
                assert set(pq.read_table(io.BytesIO(data))["n"].to_pylist()) <= needed
        assert all(set(self._in(path)) <= needed for path in (self.server.folder / "tables").rglob("*.parquet"))

    def _in(self, path: Path) -> list[Any]:
        found: list[Any] = pq.read_table(path)["n"].to_pylist()
        return found

    def teardown(self) -> None:
        try:
            self.query()
            self.count()
            for key in sorted(self.live):
                for number, rows in self.rows[key].items():
                    assert self.ws.deserialize(key, version=number)["n"].tolist() == rows
            self.collect()
            self.query()
            self.count()
        finally:
            self.ws.close()
            self.stop()
            self.resources.table_files.close()
            self.resources.catalog.close()


@pytest.mark.parametrize("examples", [5, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_tables_have_the_rows_they_were_given(
    server_thread: Thread, founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    monkeypatch.setattr(lab, "FILE_GRACE_SECONDS", 0)
    monkeypatch.setattr(lab, "MANY_FILES", 2)
    monkeypatch.setattr(appends, "MOST_FILES", 4)

    class Mine(Lab):
        thread, below = server_thread, tmp_path

    Mine.founded = founded
    how = settings(max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Mine, settings=how)
