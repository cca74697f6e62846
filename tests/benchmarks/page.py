"""The page `docs/reference/benchmarks.md`, from the turns in `docs/reference/benchmarks.json`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.rounds import Record
from tests.benchmarks.rows import NOTES, ROWS, Row, judge
from tests.benchmarks.scales import MIB

RESULTS = Path(__file__).parents[2] / "docs" / "reference" / "benchmarks.json"
"""The results that the page is made from."""

_SIZED = ("transfer", "small", "memory", "tiled")
"""The groups of which `quick` moves less than their goals ask for."""

_ABOUT = """\
# Benchmarks

What Epista takes, beside what others take for the same on the same machine. To measure anew:
`tox -e bench -- --out docs/reference/benchmarks.json`, then `python -m docs.generate`. `benchmarks.json` has every single turn.

In each round everybody takes a turn, in rotating order, with the same files on the same file system; only turns of one round are
compared. A first round is thrown away. The table has the median over all rounds, and the lowest and the highest. *x as fast* is
their time over ours, *of the time* is ours over theirs. The server is a process of `epista serve`, with a real token, policy and
audit log, and what it acknowledges is on disk. Peers run as they do by default: SeaweedFS and `cp -r` do **not** make anything
durable, so there are rows for SeaweedFS with fsync too. `curl`, `cp` and `s5cmd` are started inside the clock.

- *transfer alone*: `ws.fetch` always verifies what arrives. These rows are its transfer function with hashing off, for peers
  that verify nothing; the verified rows beside them have no goal.
- `sha256sum` of Debian does not use the processor's SHA instructions, which `openssl dgst` does; hence both.
- Images: four channels of uint16, 8,192 px wide, 512 px zlib tiles, seven levels, made of a micrograph (BBBC038, CC0) and its
  mirror images. Every reader is alone in a process, opened before the clock starts, without decoded tiles at hand, and its pixels
  are compared with those of the image first. Ours runs in the environment that a server gives its children. A
  tile of ours is asked for in a tile session; the others are behind the smallest server there can be, without any rights, in two
  processes. large_image shows the brightest of channels that meet in a colour, which is less to do than to add them. rio-tiler
  reads level 0 only.
- Fifty people: each looks at the whole image, zooms in at a place, pans, zooms out and does so once more, with three seconds on
  average for each screen, and asks for tiles as OpenSeadragon does, by six connections. What servers keep they have kept by then:
  large_image everything that it drew, ours 32 MiB of it.
- `cp -r` and everything else that waits for the disk swing with it: read the spread.
"""


def page() -> str:
    """Return the page."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    lines = [_ABOUT, "| # | what | against | goal | median | lowest to highest | |\n|-:|---|---|---|---|---|---|"]
    missed: dict[str, str] = {}
    for row in ROWS:
        judged = _judged(row, found.get(row.group))
        lines.append(_line(row, judged, found.get(row.group)))
        if judged["is_met"] is False:
            missed[row.number] = NOTES.get(row.number, "")
    if missed:
        lines += ["\n## Missed\n", "| # | why, and what comes next |\n|-:|---|"]
        lines += [f"| {number} | {text} |" for number, text in missed.items()]
    lines += _remarks(found)
    lines += _machines(found)
    return "\n".join(lines) + "\n"


def _judged(row: Row, group: Mapping[str, Any] | None) -> dict[str, Any]:
    if group is None:
        return judge(row, Record(missing={row.ours: "not measured"}))
    return judge(row, Record(turns=group["turns"], missing=group["missing"]))


def _line(row: Row, judged: Mapping[str, Any], group: Mapping[str, Any] | None) -> str:
    what = row.what if group is None else _at_scale(row.what, group["scale"])
    goal = "" if row.goal is None else _told(row, row.goal, limit=True)
    if judged["median"] is None:
        return f"| {row.number} | {what} | {row.against} | {goal} | | | {judged['reason']} |"
    beside = f" (beside {_told(row, judged['beside'])})" if judged["beside"] is not None else ""
    verdict = {None: "", True: "met", False: "**missed**"}[judged["is_met"]]
    spread = f"{_short(judged['lowest'])} to {_short(judged['highest'])}"
    against = row.against + beside
    return f"| {row.number} | {what} | {against} | {goal} | {_told(row, judged['median'])} | {spread} | {verdict} |"


def _told(row: Row, value: float, *, limit: bool = False) -> str:
    short = _short(value)
    match row.reading:
        case "speed":
            return f"{'≥ ' if limit else ''}{short}x as fast"
        case "time":
            return f"{'≤ ' if limit else ''}{short}x of the time"
    return f"{'< ' if limit else ''}{short} {row.unit}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _at_scale(what: str, scale: Mapping[str, Any]) -> str:
    """Say how much was really moved."""
    large, files = f"{scale['object_bytes'] // MIB} MiB", f"{scale['files']:,} x"
    return what.replace("1 GiB", "1 GiB" if large == "1024 MiB" else large).replace(
        "10k x", "10k x" if files == "10,000 x" else files
    )


def _remarks(found: Mapping[str, Any]) -> list[str]:
    missing = {f"{name}: {reason}" for group in found.values() for name, reason in group["missing"].items()}
    lines = ["\n## Who was missing\n", *(f"- {one}" for one in sorted(missing))] if missing else []
    scaled = {group["scale"]["boto3_files"]: group["scale"]["files"] for group in found.values()}
    reduced = [name for name, group in found.items() if name in _SIZED and group["scale"]["name"] not in ("local", "published")]
    if reduced:
        lines.append(
            f"\nMeasured with less than the goals ask for, as the rows say: {', '.join(reduced)}. What costs the same "
            "however much is moved weighs more there, so a goal that is met or missed so is only a hint."
        )
    cores = max((group["machine"]["cores"] for group in found.values()), default=0)
    load = max((group["machine"][when] for group in found.values() for when in ("load_before", "load_after")), default=0)
    if load > cores:
        lines.append(
            f"\nOthers worked on this machine meanwhile: its load was up to {load:.0f} on {cores} cores. Ratios of a "
            "round still compare alike with alike; seconds and milliseconds do not hold for a machine of one's own."
        )
    lines += [
        f"\nboto3 moved {some:,} of the {every:,} small files one after the other, and its time is scaled to all of them."
        for some, every in scaled.items()
        if some < every
    ]
    return lines


def _machines(found: Mapping[str, Any]) -> list[str]:
    lines = ["\n## The machine, and its limits in these runs\n"]
    lines += ["| group | at | rounds | load before, after | limits |\n|---|---|-:|---|---|"]
    for name, group in found.items():
        machine = group["machine"]
        load = f"{machine['load_before']:.1f}, {machine['load_after']:.1f}"
        limits = "; ".join(_limit(limit, turns) for limit, turns in group["limits"].items())
        lines.append(f"| {name} | {group['at']} | {group['rounds']} | {load} | {limits} |")
    for machine in {json.dumps(_lasting(group["machine"])): _lasting(group["machine"]) for group in found.values()}.values():
        lines.append("")
        lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in machine.items() if name != "versions"]
        lines += [f"- {name}: {version}" for name, version in machine["versions"].items()]
    return lines if found else []


def _limit(name: str, turns: list[dict[str, float]]) -> str:
    figure, unit = ("p50_ms", "ms") if "p50_ms" in turns[0] else ("mib_per_second", "MiB/s")
    value = statistics.median(turn[figure] for turn in turns)
    return f"{name} {value:,.0f} {unit}" if value >= 10 else f"{name} {value:.2g} {unit}"


def _lasting(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if not name.startswith("load")}
