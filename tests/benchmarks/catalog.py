"""Listings and search among a million assets, over HTTP, beside the same rows and the same search in one process."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from epista import Workspace
from epista.server.stores import assets as rows
from epista.server.stores.search import grammar
from epista.server.stores.search.sqlite import SqliteSearch
from epista.server.stores.sqlite import SqliteCatalog
from epista.server.stores.tables import assets, workspaces
from tests.benchmarks import lab, peers, population
from tests.benchmarks.peers import Bucket
from tests.benchmarks.rounds import Absent, Contestant, Figures, clock, middle
from tests.benchmarks.scales import Scale

_PAGE = 1000

_QUERIES = {
    "rare word": population.RARE_WORD,
    "metadata": population.METADATA,
    "ranked pair": population.RANKED_PAIR,
}


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return the listings and the searches; a lab at `BENCH_CATALOG` is made there once, and kept for other runs."""
    home = Path(os.environ.get("BENCH_CATALOG") or folder / "lab")
    if not (home / "lab.db").exists():
        population.populate(home, scale.assets)
    _, ws = stack.enter_context(lab.serving(home, new_link=True))
    catalog = SqliteCatalog(home / "lab.db")
    catalog.open()
    stack.callback(catalog.close)

    def keys() -> Figures:
        with clock() as found:
            listed = ws.keys()
        return _per_million(found, len(listed), scale.assets)

    def all_rows() -> Figures:
        with clock() as found:
            count = len(list(ws.assets()))
        return _per_million(found, count, scale.assets)

    def in_process() -> Figures:
        with clock() as found:
            count = _rows(catalog)
        return _per_million(found, count, scale.assets)

    found: dict[str, Contestant | Absent] = {
        "epista keys": keys,
        "epista rows": all_rows,
        "rows in process": in_process,
        "boto3 listing": _boto3(stack, folder, scale),
    }
    for name, query in _QUERIES.items():
        found[f"epista search, {name}"] = _repeated(functools.partial(_searched, ws, query), scale)
        found[f"{name} in process"] = _repeated(functools.partial(_search, catalog, query), scale)
    return found


def _per_million(found: Figures, count: int, wanted: int) -> Figures:
    assert count == wanted, "everything is listed"
    return found | {"seconds_per_million": found["seconds"] / count * 1_000_000}


def _repeated(act: Callable[[], Any], scale: Scale) -> Contestant:
    return lambda: middle(act, scale.repeats)


def _searched(ws: Workspace, query: str) -> None:
    assert len(ws.search(query)[:1]) == 1


def _rows(catalog: SqliteCatalog) -> int:
    """Read every row in pages, and encode and decode each page, as the two ends do."""
    count, after = 0, None
    with catalog.read() as tx:
        workspace_id: int = tx.execute(select(workspaces.c.id)).scalar_one()
        while True:
            wanted = rows.listed(workspace_id, None)
            if after is not None:
                wanted = wanted.where(assets.c.key > after)
            page = tx.execute(wanted.order_by(assets.c.key).limit(_PAGE)).all()
            count += len(msgspec.json.decode(msgspec.json.encode([tuple(row) for row in page])))
            if len(page) < _PAGE:
                return count
            after = page[-1].key


def _search(catalog: SqliteCatalog, query: str) -> None:
    tree = grammar.parse(query)
    with catalog.read() as tx:
        where: Any = {"workspace_id": tx.execute(select(workspaces.c.id)).scalar_one(), "experiments": None}
        found, _ = SqliteSearch().first(tx, tree, **where, limit=100)
        SqliteSearch().notes(tx, tree, **where)
        assert rows.by_ids(tx, [hit.asset_id for hit in found.hits])


def _boto3(stack: ExitStack, folder: Path, scale: Scale) -> Contestant | Absent:
    if reason := peers.s3_is_missing():
        return Absent(reason)
    bucket = Bucket(stack.enter_context(peers.seaweedfs(folder / "seaweed")), "listed")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: bucket.s3.put_object(Bucket="listed", Key=population.key(n), Body=b"x"), range(scale.s3_keys)))

    def turn() -> Figures:
        with clock() as found:
            pages = bucket.s3.get_paginator("list_objects_v2").paginate(Bucket="listed", Prefix="EXP-")
            count = sum(len(page["Contents"]) for page in pages)
        return _per_million(found, count, scale.s3_keys)

    return turn
