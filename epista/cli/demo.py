"""`epista demo`: the main job on real data, start to end."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import Any

import click

from epista.cli import options, output
from epista.client import settings
from epista.client.assets import Asset
from epista.client.embedded import WORKSPACE
from epista.client.workspace import Workspace
from epista.contract.errors import SettingsError, TransferError

DATA = Path(__file__).parent.parent / "demo_data"
"""Real data sets, small ones; SOURCES.md says where they come from."""

PENGUINS = "DEMO/data/penguins.csv"
"""The table that the demo reads."""

SUMMARY = "DEMO/species.parquet"
"""The table that the demo makes."""

_FOLDER = "epista-demo"
_MARK = ".epista-demo"

_ABOUT: dict[str, dict[str, Any]] = {
    "penguins.csv": {"organism": "Pygoscelis", "year": 2014, "licence": "CC0"},
    "antibiotics.json": {"organism": "bacteria", "year": 1951},
    "barley.json": {"organism": "Hordeum vulgare", "year": 1934},
    "NC_005816.gb": {"organism": "Yersinia pestis", "accession": "NC_005816"},
    "NC_005816.fna": {"organism": "Yersinia pestis", "accession": "NC_005816"},
    "opuntia.fasta": {"organism": "Opuntia"},
    "microaneurysms.png": {"organism": "Homo sapiens", "year": 2013, "licence": "CC0"},
}


@click.command()
@click.option(
    "--from",
    "source",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Put every file below DIR, in place of the data that come with Epista.",
)
@options.lab
@click.pass_context
def demo(ctx: click.Context, source: Path | None) -> None:
    """
    Do the main job on real data, start to end.

    Opens a lab (./epista-demo, or the one that --lab names), puts files and a DataFrame in, lists, searches, fetches
    everything back, and compares every sha256. May be run again. Exits with 1 if anything differs.
    """
    began = time.monotonic()
    below = f"DEMO/{source.resolve().name or 'files'}/" if source else "DEMO/data/"
    source = source or DATA
    where = options.location(ctx) or _FOLDER
    folder = None if settings.is_url(where) else Path(where).expanduser()
    if folder is not None:
        _refuse_a_lab_in_use(folder)
        if folder.resolve().is_relative_to(source.resolve()):
            raise click.UsageError(
                f"the lab in '{where}' would be put into itself: with --lab, name a folder outside of '{source}'"
            )
    with Workspace(where, workspace=options.workspace_name(ctx) or (WORKSPACE if folder else None)) as ws:
        if folder is not None:
            (folder / _MARK).write_text("made by epista demo\n", encoding="utf-8")
        _say("open", f"the lab in the folder {where}" if folder else f"the lab at {where}")
        made = _put(ws, source, below)
        tables = _make_a_table(ws) if source == DATA else []
        _look(ws)
        differing = _fetch(ws, source, below, made, near=folder)
    equal = len(made) - len(differing)
    differing += tables
    output.line("")
    output.line(f"Everything is in {where}; it took {time.monotonic() - began:.1f} s. What to try next:")
    _next(where, made[0].key)
    output.line("")
    for problem in differing:
        output.line(f"differs: {problem}")
    output.line(f"{output.count(len(made), 'file')}, {equal} equal")
    ctx.exit(1 if differing else 0)


def _put(ws: Workspace, source: Path, below: str) -> list[Asset]:
    # Everything: what is compared in the end is every file there is.
    made = ws.put_dir(below, source, meta=_ABOUT.get if source == DATA else None, tags=["demo"], ignore=(), links="follow")
    if not made:
        raise TransferError(f"there are no files below {str(source)!r}", hint="name a folder with some")
    size = output.size(sum(one.size_bytes or 0 for one in made))
    _say("put", f"{output.count(len(made), 'file')}, {size}, below {below}")
    return made


def _make_a_table(ws: Workspace) -> list[str]:
    """Make a DataFrame of a table in the lab, put two versions of it, read them back, and return what differs."""
    import pandas as pd

    penguins = ws(PENGUINS)
    _say("read", f"{PENGUINS}, a DataFrame of {len(penguins)} rows")
    first = penguins.groupby("species").size().rename("penguins").reset_index()
    second = penguins.groupby("species", as_index=False)[["bill_length_mm", "body_mass_g"]].mean()
    ws.put(SUMMARY, first, tags=["demo"], inputs=[PENGUINS])
    asset = ws.put(SUMMARY, second, tags=["demo"], inputs=[PENGUINS], meta={"n": len(penguins)})
    _say("put", f"a DataFrame as {SUMMARY}, and then another")
    versions = ws.versions(SUMMARY)
    _say("history", f"{SUMMARY} has {output.count(len(versions), 'version')}, the newest by {versions[0].created_by}")
    source = asset.lineage.inputs[0]
    _say("lineage", f"{SUMMARY} was made from {source.key}, version {source.number}")
    problems = []
    for wanted, version in ((second, versions[0]), (first, versions[1])):
        try:
            pd.testing.assert_frame_equal(ws(SUMMARY, version=version.id), wanted)
        except AssertionError as error:
            problems.append(f"{SUMMARY}, version {version.number}: {str(error).splitlines()[0]}")
    _say("compare", f"{2 - len(problems)} of 2 DataFrames read back as they were")
    return problems


def _look(ws: Workspace) -> None:
    level = ws.ls("DEMO/")
    _say("list", f"DEMO/ has {output.count(len(level.folders), 'folder')} and {output.count(len(level.assets), 'asset')}")
    hits = ws.search("kind:TABLE")
    _say("search", f"kind:TABLE finds {hits.total:,}" + (f", such as {hits[0].key}" if hits else ""))


def _fetch(ws: Workspace, source: Path, below: str, made: list[Asset], *, near: Path | None) -> list[str]:
    """Fetch what was put into a folder that is thrown away, and return the keys whose bytes differ in any of three places."""
    # A name may be stored in another spelling (NFC) than the disk's.
    files = {unicodedata.normalize("NFC", path.relative_to(source).as_posix()): path for path in source.rglob("*")}
    # Beside the lab, where there is room for as much again; the system's folder may be small.
    with tempfile.TemporaryDirectory(prefix="epista-demo-", dir=near.resolve().parent if near else None) as there:
        ws.fetch(below, there)
        _say("fetch", f"{below}, every file verified on its way")
        differing = []
        for asset in made:
            name = asset.key.removeprefix(below)
            if not _sha256(files.get(name, source / name)) == _sha256(Path(there, name)) == asset.sha256:
                differing.append(asset.key)
    _say("compare", f"{len(made) - len(differing)} of {len(made)} sha256 alike: on disk, in the lab, and fetched back")
    return differing


def _refuse_a_lab_in_use(folder: Path) -> None:
    if folder.exists() and not (folder / _MARK).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(
            f"{str(folder)!r} is there already, and was not made by epista demo",
            hint="name another folder: epista demo --lab FOLDER",
        )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "missing"


def _say(step: str, outcome: str) -> None:
    output.line(f"{step:<8} {outcome}")


def _next(where: str, key: str) -> None:
    for words in ("ls DEMO/", f"get {shlex.quote(key)}", "search tags:demo"):
        output.line(f"  epista --lab {shlex.quote(where)} {words}")
    output.line(f"  python -ic \"import epista; ws = epista.Workspace('{where}')\"")
