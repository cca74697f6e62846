"""
How a lab behaves as it grows: ``python -m tests.benchmarks.growth --out docs/reference/growth.json``.

Not a comparison with others: the same things are timed in labs of ten times the size, and with more and more writers at
once, so that one sees where a curve bends. What a figure costs in bytes comes from the files themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epista import Workspace
from epista.client import audit
from tests import processes
from tests.benchmarks import lab, machine, population
from tests.postgres import Postgres

RESULTS = Path(__file__).parents[2] / "docs" / "reference" / "growth.json"
"""What the page is made from."""

ASSETS = (10_000, 100_000, 1_000_000)
ON_POSTGRES = (1_000_000,)
WRITERS = (1, 2, 4, 8, 16, 32)

_PUTS = 200
_FOLDER_FILES = 1_000

_ABOUT = """\
# Growth

The same acts in labs of different sizes, on one machine: to see which of them grow with the lab, and how. To measure anew:
`python -m tests.benchmarks.growth --out docs/reference/growth.json`, then `python -m docs.generate`. Every asset has five fields
of metadata and a tag; times are medians, over HTTP, by `epista serve` with one worker, and mean something only side by side.
[Past one machine](../guides/scaling.md) says what follows.
"""

_TOLD: dict[str, tuple[str, str]] = {
    "catalog_bytes_per_asset": ("catalog, bytes for an asset", ",.0f"),
    "start_ms": ("a stopped lab to its first answer, ms", ",.0f"),
    "put_ms": ("put of 4 KiB, ms", ",.1f"),
    "put_dir_s": ("put_dir of 1,000 files of 4 KiB, s", ",.2f"),
    "get_ms": ("get by key, ms", ",.1f"),
    "level_ms": ("ls of a folder of 100, ms", ",.1f"),
    "word_ms": ("search of a rare word, ms", ",.1f"),
    "pair_ms": ("search of two common words, ranked, ms", ",.1f"),
    "meta_ms": ("search of one value of metadata, ms", ",.1f"),
    "keys_s": ("all keys, s", ",.2f"),
    "rows_s": ("all assets, s", ",.1f"),
    "gc_s": ("gc --dry-run, s", ",.2f"),
    "audit_s": ("audit --verify, s", ",.2f"),
    "server_mib": ("peak memory of the server's largest process, MiB, the mapped catalog included", ",.0f"),
}
"""Each figure, and how it is told."""


def main() -> None:
    """Measure, print, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, nargs="*", default=ASSETS)
    parser.add_argument("--postgres", type=int, nargs="*", default=ON_POSTGRES, help="sizes of labs with their catalog there")
    parser.add_argument("--writers", type=int, nargs="*", default=WRITERS)
    parser.add_argument("--out", type=Path, help="write this JSON file")
    parser.add_argument("--folder", type=Path, help="where the labs are, on the disk to be measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="epista-growth-", dir=given.folder) as made:
        found: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine.line(Path(made)),
            "sizes": {str(count): _told(str(count), of_size(Path(made), count)) for count in given.assets},
            "postgres": {str(count): _told(f"{count} on PostgreSQL", on_postgres(Path(made), count)) for count in given.postgres},
            "writers": {str(count): _told(f"{count} writers", of_writers(Path(made), count)) for count in given.writers},
        }
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def of_size(folder: Path, count: int) -> dict[str, float]:
    """Return what the acts cost in a lab of *count* assets."""
    here = folder / f"lab-{count}"
    population.populate(here, count)
    return {"catalog_bytes_per_asset": (here / "lab.db").stat().st_size / count} | acts(here, count)


def on_postgres(folder: Path, count: int) -> dict[str, float]:
    """Return the same for a lab with its catalog in PostgreSQL."""
    with closing(Postgres()) as postgres:
        postgres.start()
        name = postgres.create()
        here = folder / f"lab-{count}-on-postgres"
        population.populate(here, count, database=postgres.url(name))
        ((size,),) = postgres.sql(f"SELECT pg_database_size('{name}')")
        return {"catalog_bytes_per_asset": size / count} | acts(here, count, database=postgres.url(name))


def acts(here: Path, count: int, **settings: Any) -> dict[str, float]:
    """Return what the acts cost in the lab of *count* assets that lies *here*."""
    figures: dict[str, float] = {}
    link_of = processes.start_served(here, requests_per_minute=0, new_link=True, **settings)
    token = link_of.token
    link_of.terminate()
    began = time.perf_counter()
    server = processes.start_served(here, token=token, requests_per_minute=0, **settings)
    figures["start_ms"] = (time.perf_counter() - began) * 1000
    try:
        with Workspace(server.url, token=token, workspace="lab", progress=False) as ws:
            lab.forget_peaks(server)
            files = here.with_name(f"{here.name}-files")
            files.mkdir()
            for number in range(_FOLDER_FILES):
                (files / f"{number:04}.bin").write_bytes(secrets.token_bytes(4096))
            somewhere = population.key(count // 2)
            figures |= {
                "put_ms": _middle(lambda: ws.put(f"new/{secrets.token_hex(8)}.bin", secrets.token_bytes(4096)), 50),
                "put_dir_s": _once(lambda: ws.put_dir("many/", files)),
                "get_ms": _middle(lambda: ws.get(somewhere), 50),
                "level_ms": _middle(lambda: list(ws.ls(somewhere.rpartition("/")[0]).assets), 20),
                "word_ms": _middle(lambda: ws.search(population.RARE_WORD).total, 20),
                "pair_ms": _middle(lambda: ws.search(population.RANKED_PAIR).total, 10),
                "meta_ms": _middle(lambda: ws.search(population.METADATA).total, 20),
                "keys_s": _once(lambda: ws.keys()),
                "rows_s": _once(lambda: len(ws.assets())),
                "gc_s": _once(lambda: audit.gc(ws, dry_run=True)),
                "audit_s": _once(lambda: audit.verify(ws)),
            }
            figures["server_mib"] = max(lab.peaks_mib(server))
    finally:
        server.end()
    return figures


def of_writers(folder: Path, count: int) -> dict[str, float]:
    """Return how many puts of 4 KiB a second *count* writers get acknowledged together."""
    with lab.serving(folder / f"writers-{count}", workers=1) as (server, first):
        sessions = [Workspace(server.url, token=server.token, workspace="lab", progress=False) for _ in range(count)]
        taken: list[float] = []

        def write(number: int, ws: Workspace) -> None:
            for _ in range(max(20, _PUTS // count)):
                began = time.perf_counter()
                ws.put(f"W{number}/{secrets.token_hex(8)}.bin", secrets.token_bytes(4096))
                taken.append(time.perf_counter() - began)

        first.put("warm.bin", b"up")
        threads = [threading.Thread(target=write, args=one) for one in enumerate(sessions)]
        seconds = _once(lambda: _run(threads))
        for ws in sessions:
            ws.close()
    return {"puts_per_s": len(taken) / seconds, "p50_ms": statistics.median(taken) * 1000, "worst_ms": max(taken) * 1000}


def page() -> str:
    """Return the page `docs/reference/growth.md`."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    labs = {f"{int(size):,} assets": figures for size, figures in found["sizes"].items()}
    labs |= {f"{int(size):,} on PostgreSQL": figures for size, figures in found.get("postgres", {}).items()}
    lines = [_ABOUT, f"| | {' | '.join(labs)} |", f"|---|{'--:|' * len(labs)}"]
    for figure, (what, form) in _TOLD.items():
        values = [figures.get(figure) for figures in labs.values()]
        lines.append(f"| {what} | {' | '.join('' if value is None else format(value, form) for value in values)} |")
    lines += ["\n| writers at once | puts of 4 KiB a second | median, ms | worst, ms |\n|--:|--:|--:|--:|"]
    for writers, one in found["writers"].items():
        lines.append(f"| {writers} | {one['puts_per_s']:,.0f} | {one['p50_ms']:,.0f} | {one['worst_ms']:,.0f} |")
    lines.append(
        "\nClients, server and disk shared these cores, and other programs were at work: the writers' curve is flat because the "
        "cores are busy, not because the disk is."
    )
    lines += [f"\n{remark}" for remark in found.get("remarks", [])]
    lines.append(f"\nMeasured {found['at'][:10]} on {found['machine']['cpu']}, {found['machine']['cores']} cores.")
    return "\n".join(lines) + "\n"


def _told(name: str, figures: dict[str, float]) -> dict[str, float]:
    print(f"{name}: {', '.join(f'{figure} {value:.5g}' for figure, value in figures.items())}", flush=True)
    return figures


def _run(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _once(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _middle(act: Callable[[], Any], times: int) -> float:
    return statistics.median(_once(act) for _ in range(times)) * 1000


if __name__ == "__main__":
    os.environ.pop("EPISTA_CACHE_DIR", None)  # a cache would answer instead of the server
    main()
