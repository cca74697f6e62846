"""
Measure side by side: ``python -m tests.benchmarks [GROUP ...] --rounds 5 --out results.json``.

Without a name, everything. A group that is in the file already is replaced, others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import (
    catalog,
    images,
    lab,
    machine,
    memory,
    naming,
    query,
    rounds,
    rows,
    small,
    start,
    tiled,
    transfer,
    viewers,
)
from tests.benchmarks.rounds import Absent, Contestant, Record
from tests.benchmarks.scales import SCALES, Scale

GROUPS: dict[str, Callable[[ExitStack, Path, Scale], dict[str, Contestant | Absent]]] = {
    "transfer": transfer.contestants,
    "small": small.contestants,
    "catalog": catalog.contestants,
    "memory": memory.contestants,
    "query": query.contestants,
    "stream": query.streams,
    "tiled": tiled.contestants,
    "start": start.contestants,
    "naming": naming.contestants,
    "images": images.contestants,
    "viewers": viewers.contestants,
    "crowds": viewers.crowds,
}
"""What gives the contestants of each, on files in a folder."""


def main() -> None:
    """Measure the groups that are named, print what was found, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join(GROUPS)}; all without one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write or update this JSON file")
    parser.add_argument("--scale", choices=SCALES, default="local", help="local: boto3 moves 1,000 small files, scaled to all")
    parser.add_argument("--folder", type=Path, help="where the files are, on the disk to be measured")
    given = parser.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    found: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8")) if given.out and given.out.exists() else {}
    for name in given.groups or GROUPS:
        print(f"{name}:", flush=True)
        found[name] = measure(name, given.rounds, given.scale, given.folder, loud=True)
        if given.out:
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(group: str, count: int, scale: str, folder: Path | None = None, *, loud: bool = False) -> dict[str, Any]:
    """Run one group, with the limits of the machine in the same rounds, and return everything that was seen."""

    def say(line: str) -> None:
        if loud:
            print(line, flush=True)

    size: Scale = SCALES[scale]
    with tempfile.TemporaryDirectory(prefix="epista-bench-", dir=folder) as made, ExitStack() as stack:
        here = Path(made)
        about = machine.line(here)
        source = here / "limits.bin"
        lab.fill(source, size.object_bytes)
        limits: Record = rounds.run(machine.limits(here, source, size), min(count, 3))
        source.unlink()
        (here / group).mkdir()
        record = rounds.run(GROUPS[group](stack, here / group, size), count, say)
    judged = [rows.judge(row, record) for row in rows.ROWS if row.group == group]
    for one in judged:
        say(told(one))
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "scale": {"name": scale, **size._asdict()},
        "rounds": count,
        "machine": about | {"load_before": record.load[0], "load_after": record.load[1]},
        "limits": limits.turns,
        "turns": record.turns,
        "missing": record.missing,
        "failed": sorted(record.failed),
        "rows": judged,
    }


def told(row: dict[str, Any]) -> str:
    """Return one judged row as a line for the terminal."""
    if row["median"] is None:
        return f"{row['number']:>3} {row['what']} | {row['against']}: {row['reason']}"
    verdict = "" if row["goal"] is None else f", goal {row['goal']:g}: {'met' if row['is_met'] else 'MISSED'}"
    spread = f"{row['median']:.4g} ({row['lowest']:.4g} to {row['highest']:.4g})"
    compared = f"{row['number']:>3} {row['what']} | {row['against']}"
    return f"{compared}: {row['reading']} {spread} {row['unit']}{verdict}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers end and files go
    os.environ.pop("EPISTA_CACHE_DIR", None)  # a cache would answer instead of the server
    main()
