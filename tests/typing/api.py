"""The public types as type checkers see them: checked, never run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import Any, assert_type

import epista
from epista.client.arrays import Arrays
from epista.client.assets import Hits, Level
from epista.client.flow import Flow
from epista.client.image import Images
from epista.client.instruments import Instruments
from epista.client.lineage import Lineage
from epista.client.links import Link
from epista.client.listings import Listing

ws = epista.Workspace("https://lab.example", token="t", workspace="lab", experiment="EXP-12", notebook="nb", progress=True)

with epista.Workspace(Path("lab")) as opened:
    assert_type(opened, epista.Workspace)

assert_type(ws.url, str)
assert_type(ws.name, str)
assert_type(ws.session, epista.Session)
assert_type(ws.experiment_name, str | None)

assert_type(ws.keys("EXP-12/"), list[str])
assert_type(ws.ls(), Level)
assert_type(ws.ls("EXP-12").folders, Sequence[str])
assert_type(ws.ls("EXP-12").assets, Sequence[epista.AssetRef])
assert_type(ws.get_meta("a"), dict[str, Any])
assert_type(ws.set_meta("a", {"temp": 37}, expect="ve_1"), epista.Asset)
assert_type(ws.copy("a", "b", version=2), epista.Asset)
assert_type(ws.copy_dir("EXP-12", "EXP-13", expect="absent"), list[epista.Asset])
assert_type(ws.move("a", "b", expect="ve_1"), epista.Asset)
assert_type(ws.move_dir("EXP-12", "EXP-13"), list[epista.Asset])
assert_type(ws.delete("a"), epista.Asset)
assert_type(ws.delete_dir("EXP-12", dry_run=True), list[str])
assert_type(ws.purge("EXP-12/", dry_run=True), list[str])
assert_type(ws.append("a.parquet", [{"well": "A1"}], expect="absent"), epista.Asset)
assert_type(ws.get("a").size_bytes, int | None)
assert_type(ws.restore("a", version=3), epista.Asset)
assert_type(ws.conventions().parse("a").subject_id, str | None)
assert_type(ws.versions("a"), Listing[epista.Version])
assert_type(ws.versions("a")[0], epista.Version)
assert_type(ws.search("cells", limit=10), Hits)
assert_type(ws.search("cells")[0].snippet, str | None)
assert_type(ws.search("cells").total, int)
assert_type(ws.assets(kind="FLOW", tags=["qc"])[:2], list[epista.AssetRef])
assert_type(ws.get("a"), epista.Asset)
assert_type(ws.get("a").workspace, epista.Session)
assert_type(ws.array, Arrays)
assert_type(ws.flow, Flow)
assert_type(ws.image, Images)
assert_type(epista.image, Images)
assert_type(ws.image.annotations("EXP-1/a.tif"), dict[str, Any])
assert_type(ws.instruments, Instruments)
assert_type(ws.get(ws.get("a")).meta, dict[str, Any])
assert_type(ws.link("a", seconds=60), Link)
assert_type(ws.lineage("a", direction="up", depth=2), Lineage)
assert_type(ws.lineage(ws.get("a")).to_openlineage(), list[dict[str, Any]])
assert_type(ws.publish_figure(object(), "Doses", format="png", inputs=["a", ws.query("SELECT 1")]), epista.Published)
assert_type(ws.publish_table([{"n": 1}], experiment_id="EXP-12").download_url, Link)
assert_type(ws.link_dir("archive/run7", "EXP-7").files, int)
assert_type(ws.open("a"), BufferedReader)
assert_type(ws.open("a", download=True), AbstractContextManager[Path])

for hit in ws.search("cells"):
    assert_type(hit, epista.Hit)
    ws.get_meta(hit)
for asset in ws.ls().assets:
    ws.delete(asset)

epista.use(ws)
assert_type(epista.assets(prefix="EXP", session=ws), Listing[epista.AssetRef])
assert_type(epista.get("a", session=ws.session), epista.Asset)
assert_type(epista.search("cells"), Hits)
assert_type(epista.publish_figure(object(), session=ws).asset, epista.Asset)
assert_type(epista.publish_table([]).catalog_asset_id, str)
assert_type(epista.open("a"), BufferedReader)
assert_type(epista.open("a", download=True), AbstractContextManager[Path])

try:
    ws.get("a")
except epista.AmbiguousNameError as error:
    assert_type(error.details, dict[str, Any])
except KeyError:
    pass

epista.Workspce("lab")  # type: ignore[attr-defined]
ws.fetsh("a")  # type: ignore[attr-defined]
ws.keys(prefx="a")  # type: ignore[call-arg]
ws.delete(1)  # type: ignore[arg-type]
ws.assets(experiment_id="EXP-12")  # type: ignore[call-arg]
