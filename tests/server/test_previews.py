"""Previews: what one sees of an asset without opening it, for whoever may read it, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import epista
from epista.server.engines.preview_files import Shown
from epista.server.engines.previews import Previewer
from tests.makers import Server
from tests.serializers.test_fcs import EVENTS, made

REAL = Path(__file__).parents[3] / "shared" / "data"


def png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/b.txt", "12345")
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((3, 4), "int16"))
    return out.getvalue()


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Dose ", "response"]},
        {"cell_type": "code", "source": "fit(x)", "outputs": []},
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3"}},
}


SHOWN: list[tuple[str, object, str]] = [
    ("t.csv", b"gene,count\nBRCA1,12\nTP53,7\n", "BRCA1  12"),
    ("t.tsv", "gene\tcount\nBRCA1\t12\n".encode("utf-16"), "BRCA1  12"),
    ("t.csv.gz", gzip.compress(b"gene,count\nBRCA1,12\n"), "BRCA1  12"),
    ("t.jsonl", b'{"gene": "BRCA1", "count": 12}\n{"gene": "TP53"}\n', "BRCA1  12"),
    ("t.parquet", pd.DataFrame({"gene": ["BRCA1"], "n": [12]}), "rows: 1, columns: 2\ngene   n\nBRCA1  12"),
    ("t.arrow", pd.DataFrame({"gene": ["BRCA1"], "n": [12]}), "BRCA1  12"),
    ("t.xlsx", {"one": pd.DataFrame({"gene": ["BRCA1"], "n": [12]}), "two": pd.DataFrame({"a": [1]})}, "sheets: one, two"),
    ("t.txt", b"first line\nsecond line\n", "first line\nsecond line"),
    ("t.json", {"a": [1, 2]}, '"a": ['),
    ("t.ipynb", json.dumps(NOTEBOOK).encode(), "[markdown]\n# Dose response\n[code]\nfit(x)"),
    ("t.png", png(900, 600), "size: 900 x 600 pixels"),
    ("t.fcs", made(EVENTS, P1S="CD4", CYT="Aria"), "events: 3"),
    ("t.fa", b">p53 tumour suppressor\nACGT\nAC\n>q\nA\n", "p53     tumour suppressor  6        ACGTAC"),
    ("t.fastq", b"@read1 lane 3\nACGT\n+\nIIII\n", "read1   lane 3  4        ACGT"),
    ("t.npy", npy(), "shape: 3 x 4, type: int16"),
    ("t.zip", zipped(), "a/b.txt  5"),
    ("t.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><text>dose</text></svg>", "dose"),
]


def test_the_beginning_of_a_file_is_shown_in_the_shape_that_fits(ws: epista.Workspace) -> None:
    for key, data, seen in SHOWN:
        ws.put(f"EXP-1/{key}", data)

        shown = ws.preview(f"EXP-1/{key}")

        assert (key, shown.problem) == (key, None)
        assert seen in repr(shown)
        assert shown == ws.preview(f"EXP-1/{key}")


def test_a_picture_is_small(ws: epista.Workspace) -> None:
    ws.put("EXP-1/large.png", png(3000, 1500))

    picture = ws.preview("EXP-1/large.png").picture

    assert picture is not None
    assert Image.open(io.BytesIO(picture.png)).size == (512, 256)
    assert (picture.width, picture.height) == (3000, 1500)


def test_an_image_of_channels_is_drawn_in_their_colours(ws: epista.Workspace) -> None:
    cells = np.zeros((2, 300, 400), np.uint16)
    cells[0, :, 100:200], cells[1, 100:200] = 4000, 900
    asset = ws.put("EXP-1/cells.ome.tif", cells, axes="CYX", channels=["DAPI", "GFP"], pixel_size_um=0.5)

    shown = ws.preview(asset)

    assert dict(shown.facts) == {
        "image": "OME-TIFF",
        "size": "400 x 300 pixels",
        "type": "uint16",
        "channels": "DAPI, GFP",
        "pixel size": "0.5 x 0.5 µm",
    }
    assert shown.picture is not None
    drawn = np.asarray(Image.open(io.BytesIO(shown.picture.png)))
    assert drawn.shape == (300, 400, 3)
    assert drawn[10, 150].argmax() == 2
    assert len({tuple(drawn[at]) for at in ((10, 10), (10, 150), (150, 10), (150, 150))}) == 4
    seen = asset._repr_html_()
    assert "data:image/png;base64," in seen
    assert "<code>ws.image.url(&#x27;EXP-1/cells.ome.tif&#x27;)</code>" in seen
    assert "/tiles/" not in seen


def test_more_than_is_shown_is_said(ws: epista.Workspace) -> None:
    ws.put("EXP-1/long.csv", pd.DataFrame({f"c{n}": range(100) for n in range(80)}))

    shown = ws.preview("EXP-1/long.csv")

    assert (len(shown.rows), len(shown.columns), shown.is_cut) == (20, 50, True)


def test_what_is_broken_is_stored_and_says_why_nothing_is_shown(ws: epista.Workspace) -> None:
    for extension in ("png", "tif", "ome.tif", "svs", "parquet", "xlsx", "xls", "fcs", "npy", "zip", "ipynb", "arrow", "csv.gz"):
        asset = ws.put(f"EXP-1/t.{extension}", b"\x00noise that is no such file\xff" * 10)

        shown = ws.preview(asset)

        assert shown.problem or extension == "csv.gz"  # which is nothing, unpacked
        assert "0x" not in (shown.problem or "")
        assert asset._repr_html_()


def test_bombs_end_at_a_limit(ws: epista.Workspace) -> None:
    # A picture of 60,000 x 60,000 pixels, in a few bytes.
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    ws.put("EXP-1/bomb.png", b"\x89PNG\r\n\x1a\n" + chunk + png(1, 1)[33:])
    ws.put("EXP-1/bomb.ipynb", gzip.compress(b"[" * 100_000_000), format="ipynb")
    ws.put("EXP-1/bomb.txt.gz", gzip.compress(b" " * 100_000_000))

    assert "60,000 x 60,000 pixels" in (ws.preview("EXP-1/bomb.png").problem or "")
    assert ws.preview("EXP-1/bomb.ipynb").problem
    assert ws.preview("EXP-1/bomb.txt.gz").is_cut


def test_names_and_values_of_any_length_are_shown_shortened(ws: epista.Workspace) -> None:
    ws.put("EXP-1/halves.json", b'{"a": "\\ud800 half"}')
    ws.put("EXP-1/long.ipynb", json.dumps(NOTEBOOK | {"metadata": {"kernelspec": {"display_name": "x" * 10_000_000}}}).encode())

    assert "half" in (ws.preview("EXP-1/halves.json").text or "")
    assert len(dict(ws.preview("EXP-1/long.ipynb").facts)["kernel"]) <= 200


def test_a_picture_of_another_kind_than_its_name_says_starts_no_program(ws: epista.Workspace) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    ws.put("EXP-1/script.png", script)

    shown = ws.preview("EXP-1/script.png")

    assert (shown.picture, bool(shown.problem)) == (None, True)


def test_nothing_of_a_file_becomes_markup_or_steers_a_terminal(ws: epista.Workspace) -> None:
    ws.put("EXP-1/evil.csv", b"<script>alert(1)</script>,b\n<img src=x onerror=alert(1)>,\x1b[2J\n")

    shown = ws.preview("EXP-1/evil.csv")

    assert "<script" not in shown.as_html()
    assert "<img" not in shown.as_html()
    assert "\x1b" not in repr(shown)


def test_older_versions_are_shown_as_they_were(ws: epista.Workspace) -> None:
    ws.put("EXP-1/notes.txt", "before")
    ws.put("EXP-1/notes.txt", "after")

    assert repr(ws.preview("EXP-1/notes.txt", version=1)) == "before"
    assert repr(ws.preview("EXP-1/notes.txt")) == "after"


def test_a_notebook_shows_an_asset_with_its_preview(ws: epista.Workspace) -> None:
    asset = ws.put("EXP-1/counts.csv", pd.DataFrame({"gene": ["BRCA1"], "n": [12]}))

    assert "<td>BRCA1</td>" in asset._repr_html_()


def test_what_one_may_not_read_has_no_preview_also_if_the_content_is_known(server: Server) -> None:
    api = server.api()
    api.put("EXP-1/shared.txt", b"the same words")
    api.put("EXP-2/secret.txt", b"the same words")
    bob = server.member("bob", "viewer", experiments=["EXP-1"])

    assert bob.ok(bob.get("~/preview", ref="EXP-1/shared.txt"))["text"] == "the same words"
    refused = bob.get("~/preview", ref="EXP-2/secret.txt")
    absent = bob.get("~/preview", ref="EXP-2/absent.txt")

    assert refused.status_code == absent.status_code == 404
    assert refused.json()["code"] == absent.json()["code"]


def test_a_preview_goes_with_a_purge(server: Server) -> None:
    api = server.api()
    api.put("EXP-1/secret.txt", b"nobody may know")
    api.ok(api.get("~/preview", ref="EXP-1/secret.txt"))
    kept = [path for path in (server.folder / "tables" / "files").iterdir() if b"nobody may know" in path.read_bytes()]

    api.ok(api.post("~/delete", key="EXP-1/secret.txt"))
    api.ok(api.call("POST", "~/purge", json={"path": "EXP-1/secret.txt"}))

    assert len(kept) == 1
    assert not kept[0].exists()


@pytest.mark.real_data
def test_real_files_are_shown(ws: epista.Workspace) -> None:
    refused = ("corrupted.fcs",)  # no FCS file

    for path in sorted(path for path in REAL.rglob("*") if path.is_file()):
        shown = ws.preview(ws.put_file("samples/", path))

        assert (path.name, bool(shown.problem)) == (path.name, path.name in refused)
        assert repr(shown)


def test_a_problem_that_may_pass_is_not_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    api = server.api()
    api.put("EXP-1/a.txt", b"some words")
    monkeypatch.setattr(Previewer, "show", lambda self, job: Shown(problem="it takes too long", is_lasting=False))
    assert api.ok(api.get("~/preview", ref="EXP-1/a.txt"))["problem"] == "it takes too long"

    monkeypatch.undo()

    assert api.ok(api.get("~/preview", ref="EXP-1/a.txt"))["text"] == "some words"
