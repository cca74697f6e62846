"""Statements that are put together once: which index answers in SQLite, which does not know how long a list it is given is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from epista.server.stores import assets as rows
from epista.server.stores import experiments, features, people, recordings, usage
from epista.server.stores.dialects import new_ids
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.tables import versions

ALL, SOME = None, frozenset({"EXP-1"})

ASKED: dict[str, Callable[[Connection], object]] = {
    "a key": lambda tx: rows.by_key(tx, 1, ALL, "a"),
    "a key of some experiments": lambda tx: rows.by_key(tx, 1, SOME, "a"),
    "keys": lambda tx: rows.by_keys(tx, 1, ["a", "b"]),
    "versions": lambda tx: rows.by_versions(tx, 1, ALL, [1, 2]),
    "versions of some experiments": lambda tx: rows.by_versions(tx, 1, SOME, [1, 2]),
    "small contents": lambda tx: rows.small_blobs(tx, 1, ALL, ["ve_1"], 9),
    "small contents of some experiments": lambda tx: rows.small_blobs(tx, 1, SOME, ["ve_1"], 9),
    "what is in the way": lambda tx: rows.in_the_way(tx, 1, ["a/b"], ["a"]),
    "known contents": lambda tx: rows.known_blobs(tx, workspace_id=1, allowed=ALL, user_id=1, sha256=["0"]),
    "known contents of some experiments": lambda tx: rows.known_blobs(tx, workspace_id=1, allowed=SOME, user_id=1, sha256=["0"]),
    "whole contents": lambda tx: rows.whole_blobs(tx, [1]),
    "the content of a version": lambda tx: rows.blob_of(tx, 1, ALL, "ve_1"),
    "the content of a version of some experiments": lambda tx: rows.blob_of(tx, 1, SOME, "ve_1"),
    "inputs": lambda tx: rows.inputs_of(tx, 1, ALL, [1, 2]),
    "inputs of some experiments": lambda tx: rows.inputs_of(tx, 1, SOME, [1, 2]),
    "ids of versions": lambda tx: rows.version_ids(tx, 1, ALL, ["ve_1"]),
    "ids of versions of some experiments": lambda tx: rows.version_ids(tx, 1, SOME, ["ve_1"]),
    "last numbers": lambda tx: rows.last_numbers(tx, [1, 2]),
    "contents that count": lambda tx: usage.fresh_bytes(tx, 1, [1, 2]),
    "new ids": lambda tx: new_ids(tx, versions, 2),
    "experiments": lambda tx: experiments.known(tx, 1, ["a"]),
    "what experiments were called": lambda tx: experiments.current(tx, 1, ["a"]),
    "what may not be a name": lambda tx: experiments.called(tx, 1, ["a"]),
    "a member with roles in experiments": lambda tx: people.membership(tx, 1, "lab"),
    "names of recordings": lambda tx: recordings.members(tx, 1, ALL, ["a"]),
    "what was drawn on an image": lambda tx: features.of_version(tx, 1, ALL, 1, 50),
    "what was drawn on an image, of some experiments": lambda tx: features.of_version(tx, 1, SOME, 1, 50),
}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqliteCatalog]:
    catalog = SqliteCatalog(tmp_path / "lab.db")
    catalog.open()
    yield catalog
    catalog.close()


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_what_is_asked_is_found_by_its_own_index(catalog: SqliteCatalog, ask: Callable[[Connection], object]) -> None:
    plans: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, context: object, executemany: bool) -> None:
        driver: Any = connection.connection.driver_connection
        plans.append("\n".join(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)))

    with catalog.read() as tx:
        event.listen(tx, "before_cursor_execute", explain)
        ask(tx)

    assert plans
    for plan in plans:
        lines = [line for line in plan.splitlines() if not re.match(r"SCAN (json_each|\(subquery-\d+\)|anon_\d+$)", line)]
        assert not [line for line in lines if line.startswith("SCAN")], plan
        # By the workspace alone, all of it would be looked through.
        assert "(workspace_id=?)" not in plan, plan
