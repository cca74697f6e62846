"""A scientist's day, as it is typed: from the instrument's folder in the morning to a figure that says where it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import pandas as pd
import pytest

import epista


@pytest.fixture
def instrument(tmp_path: Path) -> Path:
    """What the plate reader left overnight."""
    run = tmp_path / "instrument" / "run-7"
    run.mkdir(parents=True)
    for plate, warm in enumerate((12, 18, 3), start=1):
        (run / f"plate{plate}.csv").write_text(f"well,barcode,count\nA1,001,{warm}\nA2,NA,{warm + 5}\n")
    (run / "protocol.md").write_text("# Staining\n\nCD3-FITC, then propidium iodide.\n")
    (run / ".DS_Store").write_bytes(b"left by a file manager")
    return run


def test_a_day_in_the_lab(open_workspace: Callable[..., epista.Workspace], instrument: Path, tmp_path: Path) -> None:
    ws = open_workspace(experiment="EXP-12")

    # Morning: the whole run goes in at once, described.
    receipts = ws.put_dir("EXP-12/run-7", instrument, meta={"temp": 37, "operator": "ada"}, tags=["raw"])
    assert [asset.name for asset in receipts] == ["plate1.csv", "plate2.csv", "plate3.csv", "protocol.md"]
    assert list(ws.ls("EXP-12").folders) == ["EXP-12/run-7/"]

    # A plate is a table, and a barcode is no number.
    plate = ws("EXP-12/run-7/plate1.csv")
    assert plate["barcode"].tolist() == ["001", "NA"]
    assert ws.get_meta("EXP-12/run-7/plate1.csv") == {"temp": 37, "operator": "ada"}

    # Plate 3 was cold: say so, and nothing else changes.
    ws.set_meta("EXP-12/run-7/plate3.csv", {"temp": 21, "operator": "ada"})
    warm = ws.search("kind:table tags:raw user_meta.temp:>30")
    assert sorted(hit.name for hit in warm) == ["plate1.csv", "plate2.csv"]
    assert [hit.name for hit in ws.search("FITC")] == ["protocol.md"]

    # Noon: a result from the warm plates, which remembers what it was made from.
    counts = pd.concat([ws(hit).assign(plate=hit.name) for hit in warm], ignore_index=True)
    table = ws.put("counts.parquet", counts, inputs=warm, tags=["qc"])
    assert table.key == "EXP-12/counts.parquet"
    assert [source.key for source in table.lineage.inputs] == ["EXP-12/run-7/plate1.csv", "EXP-12/run-7/plate2.csv"]
    pd.testing.assert_frame_equal(ws("counts.parquet"), counts)

    # And a figure of it. Drawn again, it is the same one.
    figure = matplotlib.figure.Figure(figsize=(3, 2))
    figure.subplots().bar(counts["plate"] + counts["well"], counts["count"])
    shown = ws.put("counts.svg", figure, inputs=[table])
    assert (shown.kind, ws.put("counts.svg", figure, inputs=[table]).number) == ("FIGURE", 1)
    assert ws("counts.svg").media_type == "image/svg+xml"

    # Afternoon: a colleague looks at the same key, and is faster.
    colleague = open_workspace()
    colleague.put("EXP-12/counts.parquet", counts.assign(checked=True), expect=table.version)
    with pytest.raises(epista.ConflictError):
        ws.put("counts.parquet", counts.head(1), expect=table.version)
    assert [version.number for version in ws.versions("counts.parquet")] == [2, 1]
    assert "checked" not in ws("counts.parquet", version=1)

    # A folder too many is deleted, missed, and brought back.
    assert len(ws.delete_dir("EXP-12/run-7", dry_run=True)) == 4
    gone = ws.delete_dir("EXP-12/run-7")
    with pytest.raises(KeyError, match="restore"):
        ws("EXP-12/run-7/plate1.csv")
    for key in gone:
        ws.restore(key)
    assert ws.get_meta("EXP-12/run-7/plate3.csv")["temp"] == 21

    # Evening: everything to the laptop, every byte verified; a second time there is nothing to do.
    home = ws.fetch("EXP-12/", tmp_path / "laptop")
    assert (home / "run-7" / "plate1.csv").read_bytes() == (instrument / "plate1.csv").read_bytes()
    assert sorted(path.name for path in home.iterdir()) == ["counts.parquet", "counts.svg", "run-7"]
    ws.fetch("EXP-12/", tmp_path / "laptop")
    with ws.open("EXP-12/run-7/plate1.csv", byte_range=(0, 3)) as stream:
        assert stream.read() == b"well"
