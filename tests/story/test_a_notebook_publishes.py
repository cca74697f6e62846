"""A notebook as people write it, line by line: against a lab in a folder, and against a server."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import epista
import epista as bl
from epista.client import current
from tests import processes

RETINA = Path(epista.__file__).parent / "demo_data" / "microaneurysms.png"

Lab = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["embedded", "served"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Start a kernel on the lab, with the variables that a hub sets; again for after a restart of all there is."""
    folder = tmp_path / "lab"
    monkeypatch.setenv("EPISTA_API_URL", str(folder))
    monkeypatch.setenv("EPISTA_EXPERIMENT_ID", "EXP-2026-0001")
    monkeypatch.setenv("EPISTA_NOTEBOOK_ID", "analysis/doses.ipynb")

    @contextmanager
    def kernel() -> Iterator[None]:
        try:
            yield
        finally:
            current.current().close()
            bl.use(None)

    token: str | None = None

    @contextmanager
    def served() -> Iterator[None]:
        nonlocal token
        with processes.served(folder, token=token) as server:
            token = server.token
            assert token
            monkeypatch.setenv("EPISTA_API_URL", server.url)
            monkeypatch.setenv("EPISTA_TOKEN", token)
            with kernel():
                yield

    return kernel if request.param == "embedded" else served


def test_a_notebook_publishes_and_a_restart_later_it_is_known_from_what(lab: Lab) -> None:
    with lab():
        with bl.Workspace() as ws:
            ws.put("current_table.parquet", pd.DataFrame({"dose": range(20), "od": [n / 20 for n in range(20)]}))
            ws.put_file("retina.png", RETINA)
            ws.put("not_used.csv", [{"n": 1}])

        rows = bl.query("select * from current_table limit 10")
        assert (len(rows), rows.columns) == (10, ["dose", "od"])

        image = bl.get(bl.assets(experiment="EXP-2026-0001", kind="IMAGE")[0].id)
        assert (image.key, image.sha256) == ("EXP-2026-0001/retina.png", hashlib.sha256(RETINA.read_bytes()).hexdigest())

        with bl.open(image.id) as stream:
            assert stream.read() == RETINA.read_bytes()
        with bl.open(image.id, byte_range=(0, 1023)) as stream:
            assert stream.read() == RETINA.read_bytes()[:1024]
        with bl.open(image.id, download=True) as path:
            assert path.read_bytes() == RETINA.read_bytes()

        df = rows.to_pandas()
        fig = Figure()
        fig.subplots().plot(df["dose"], df["od"])
        figure = bl.publish_figure(fig, name="Dose response", format="svg")
        with urllib.request.urlopen(figure.download_url) as response:
            assert b"<svg" in response.read()
        table = bl.publish_table(df, name="Summary table")
        made = [figure.catalog_asset_id, table.catalog_asset_id]

    with lab():
        found = [bl.get(id) for id in made]
        assert [asset.key for asset in found] == [
            "EXP-2026-0001/figures/dose-response.svg",
            "EXP-2026-0001/tables/summary-table.csv",
        ]
        for asset in found:
            assert [(one.key, one.number) for one in asset.lineage.inputs] == [
                ("EXP-2026-0001/current_table.parquet", 1),
                ("EXP-2026-0001/retina.png", 1),
            ]
            assert asset.lineage.notebook == "analysis/doses.ipynb"
            assert asset.lineage.activity is not None
            assert [query.sql for query in asset.lineage.activity.queries] == ["select * from current_table limit 10"]
        assert bl.query('select count(*) as rows from "summary-table"').to_pandas()["rows"].tolist() == [10]
