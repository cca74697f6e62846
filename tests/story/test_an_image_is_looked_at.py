"""An image is read as the lab's notebook reads it, with what was drawn on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import epista
import epista as bl

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "images"


@pytest.fixture
def current(ws: epista.Workspace) -> Iterator[epista.Workspace]:
    bl.use(ws)
    yield ws
    bl.use(None)


def slide(path: Path) -> Path:
    """Write a slide of two channels and four levels, of cells brighter than what is around them."""
    down, across = np.mgrid[:1600, :2400]
    cells = (((down % 200 - 100) ** 2 + (across % 200 - 100) ** 2) < 60**2).astype(np.uint16) * 3000
    pixels = np.stack([cells + across.astype(np.uint16) // 8, down.astype(np.uint16)])
    options: dict[str, Any] = {"tile": (256, 256), "compression": "zlib", "photometric": "minisblack"}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(pixels, subifds=3, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}, **options)
        for level in (1, 2, 3):
            tiff.write(pixels[:, :: 2**level, :: 2**level], subfiletype=1, **options)
    return path


def test_the_lines_of_a_notebook_run_as_they_stand(current: epista.Workspace, tmp_path: Path) -> None:
    path = slide(tmp_path / "slide.ome.tif")
    stored = current.put_file("EXP-2026-0001/slide.ome.tif", path)
    ring = [[100, 100], [300, 100], [300, 300], [100, 300], [100, 100]]
    cell = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"name": "first"}}
    current.put("EXP-2026-0001/rois.geojson", {"type": "FeatureCollection", "features": [cell]}, inputs=[stored])

    img = bl.assets(experiment="EXP-2026-0001", kind="IMAGE")[0]
    info = bl.image.info(img)
    region = bl.image.read_region(img, 0, 0, 2048, 2048, level=2, channels=["DAPI"])
    small = bl.image.thumbnail(img, max_px=1024)
    drawn = bl.image.annotations(img)

    assert (info.width, info.height, len(info.levels)) == (2400, 1600, 4)
    assert np.array_equal(region, tifffile.imread(path, level=2)[0])
    assert small.to_pil().size == (1024, 683)
    assert [one["geometry"]["coordinates"] for one in drawn["features"]] == [[ring]]
    assert drawn["features"][0]["properties"]["name"] == "first"


@pytest.mark.real_data
def test_outlines_of_a_label_mask_come_back_as_they_were_drawn(current: epista.Workspace) -> None:
    if not SAMPLES.is_dir():
        return
    stored = current.put_file("EXP-2026-0001/nuclei.tif", SAMPLES / "nuclei-dsb2018.tif")
    labels = tifffile.imread(SAMPLES / "nuclei-dsb2018-mask.tif")
    features = []
    for label in np.unique(labels[labels > 0]):
        rows, columns = np.nonzero(labels == label)
        left, top, right, bottom = map(int, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        properties = {"objectType": "detection", "classification": {"name": "Nucleus", "color": [0, 120, 255]}}
        features.append({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties})
    current.put("EXP-2026-0001/nuclei.geojson", features, inputs=[stored])

    found = bl.image.annotations(stored)

    assert len(found["features"]) == len(features) > 50
    assert [one["geometry"] for one in found["features"]] == [one["geometry"] for one in features]
    assert found["features"][0]["properties"]["classification"] == {"name": "Nucleus", "color": [0, 120, 255]}
    # Each box, read as a region, holds its nucleus.
    (left, top), _, (right, bottom), *_ = found["features"][0]["geometry"]["coordinates"][0]
    box = bl.image.read_region(stored, left, top, right - left, bottom - top)
    assert np.array_equal(box, tifffile.imread(SAMPLES / "nuclei-dsb2018.tif")[top:bottom, left:right])
