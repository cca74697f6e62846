"""
What anybody may upload, damaged: every parser that reads users' bytes on the server answers, in time and within its memory.

Files of each format are mutated (bytes changed, pieces cut out or doubled, lengths blown up) and read by the real children. A
child that ends is replaced, and what it was asked for has a reason; no damage may reach the process that asks.
"""

from __future__ import annotations

import io
import json
import random
import resource
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from epista.serializers.conversion import serialize
from epista.server.engines import extractors, preview_files
from epista.server.engines.extraction import Extractor, job_of
from epista.server.engines.previews import Previewer
from epista.server.engines.sequences import Indexer
from tests.serializers.test_fcs import EVENTS, made

REAL = Path(__file__).parents[3] / "shared" / "data"

TIMEOUT_SECONDS = 20.0
SHORT, LONG = 6, 400
"""How many mutations of each file."""

TABLE = pd.DataFrame({"gene": ["BRCA1", "TP53"], "n": [12, 7]})


def seeds() -> dict[str, bytes]:
    """Return a small file of each format."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    tiff = io.BytesIO()
    Image.new("I;16", (40, 30)).save(tiff, "TIFF")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a/b.txt", "12345" * 50)
    array = io.BytesIO()
    np.save(array, np.zeros((3, 4)))
    notebook = {"cells": [{"cell_type": "code", "source": ["x = 1"], "outputs": []}], "metadata": {}}
    made_by = {name: serialize(f"x.{name}", TABLE).data for name in ("csv", "tsv", "parquet", "arrow", "xlsx")}
    return made_by | {
        "jsonl": b'{"gene": "BRCA1", "n": 12}\n{"gene": "TP53"}\n',
        "fcs": made(EVENTS, P1S="CD4", SPILLOVER="2,FSC-A,Time,1,0,0,1"),
        "fasta": b">one title\nACGTACGT\nACGT\n>two\nAC\n",
        "fastq": b"@one x\nACGT\n+\nIIII\n@two\nA\n+\nI\n",
        "genbank": b"LOCUS       X 12 bp DNA\nDEFINITION  a plasmid\nORIGIN\n        1 acgtacgtac gt\n//\n",
        "ipynb": json.dumps(notebook).encode(),
        "json": b'{"a": [1, {"b": "c"}]}',
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><text x='1'>dose</text></svg>",
        "html": b"<html><body><p>dose</p></body></html>",
        "text": "words and Wörter\n".encode() * 20,
        "png": picture.getvalue(),
        "tiff": tiff.getvalue(),
        "zip": archive.getvalue(),
        "npy": array.getvalue(),
    }


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return *data* with a few damages."""
    done = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(done) or 1)
        length = chance.choice((1, 2, 4, 8, 64))
        match chance.randrange(6):
            case 0:
                done[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del done[at : at + length]
            case 2:
                done[at:at] = done[at : at + length] * chance.choice((1, 3, 200))
            case 3:
                done[at : at + length] = chance.choice((b"\xff", b"\x00", b"\x7f")) * length
            case 4:
                done[at : at + 4] = chance.choice((2**31 - 1, 2**32 - 1, 10**9)).to_bytes(4, chance.choice(("little", "big")))
            case _:
                done = done[: max(1, at)]
        done = done or bytearray(b"\x00")
    return bytes(done)


@pytest.fixture(scope="module")
def parsers() -> Iterator[tuple[Extractor, Previewer, Indexer]]:
    parsers = Extractor(), Previewer(), Indexer(timeout_seconds=10)
    yield parsers
    for one in parsers:
        one.close()


def attack(parsers: tuple[Extractor, Previewer, Indexer], folder: Path, format: str, data: bytes, count: int, seed: int) -> int:
    """Have mutations of a file read; return how many children ended over them."""
    extractor, previewer, indexer = parsers
    chance = random.Random(f"{format} {seed}")
    path, ended = folder / "file", 0
    for _ in range(count):
        path.write_bytes(mutated(data, chance))
        size, gzipped = path.stat().st_size, chance.random() < 0.1
        started = time.monotonic()
        if format in extractors.EXTRACTORS:
            text = extractor.text(path, offset=0, size=size, format=format, gzipped=gzipped, options={})
            assert len(text.encode()) <= extractors.MAX_TEXT_BYTES
        job = job_of(path, offset=0, size=size, format=format, gzipped=gzipped, options={})
        if format in preview_files.PREVIEWS:
            shown = previewer.show(job)
            ended += "is damaged" in (shown.problem or "")
            assert len(shown.rows) <= preview_files.MAX_ROWS
        if format == "fasta":
            indexer.index(job)
        assert time.monotonic() - started < 3 * TIMEOUT_SECONDS
    return ended


@pytest.mark.parametrize("format", sorted(seeds()))
def test_damaged_files_are_answered(parsers: tuple[Extractor, Previewer, Indexer], tmp_path: Path, format: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    ended = attack(parsers, tmp_path, format, seeds()[format], SHORT, 1)

    assert ended == 0
    # Kilobytes: what the children read never comes here.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("format", sorted(seeds()))
def test_many_damaged_files_are_answered(parsers: tuple[Extractor, Previewer, Indexer], tmp_path: Path, format: str) -> None:
    ended = attack(parsers, tmp_path, format, seeds()[format], LONG, random.randrange(2**32))

    print(f"{format}: {ended} of {LONG} files ended the child that read them")


@pytest.mark.fuzz
@pytest.mark.real_data
@pytest.mark.timeout(1800)
def test_many_damaged_real_files_are_answered(parsers: tuple[Extractor, Previewer, Indexer], tmp_path: Path) -> None:
    from epista.contract import formats

    for path in sorted(path for path in REAL.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000):
        row = formats.of_key(path.name)
        if row is not None:
            ended = attack(parsers, tmp_path, row.name, path.read_bytes(), LONG // 10, random.randrange(2**32))
            print(f"{path.name}: {ended} of {LONG // 10} files ended the child that read them")
