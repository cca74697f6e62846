"""Notebooks: a real kernel, started with the variables that a hub would give it, and what it leaves in the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

import epista
from tests.makers import Clock, Server

ROOT = Path(__file__).parent.parent.parent

COUNTS = pd.DataFrame({"well": ["A1", "A2", "B1"], "count": [17, 4, 9]})

Run = Callable[..., list[Any]]

# Without types of their own.
new_notebook: Callable[..., Any] = nbformat.v4.new_notebook
new_cell: Callable[..., Any] = nbformat.v4.new_code_cell
written: Callable[..., str] = nbformat.writes


@pytest.fixture
def secret(server: Server) -> str:
    """A kernel token, as a hub makes one for a notebook that it starts."""
    made = server.api().post("/tokens", name="hub", kind="kernel", scopes=["read", "write"], workspace="lab")
    found: str = server.api().ok(made)["secret"]
    return found


@pytest.fixture
def run(server: Server, secret: str, tmp_path: Path) -> Run:
    """Run cells in a kernel of their own, and return them with their outputs; ``between`` is called after each."""

    def run(*sources: str, between: Callable[[], None] = lambda: None, **variables: str) -> list[Any]:
        notebook = new_notebook(cells=[new_cell(source) for source in sources])
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "PYTHONPATH": str(ROOT),
            "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
            "EPISTA_API_URL": server.url,
            "EPISTA_TOKEN": secret,
            "EPISTA_WORKSPACE_ID": "lab",
            "EPISTA_EXPERIMENT_ID": "EXP-12",
            "EPISTA_NOTEBOOK_ID": "notebooks/doses.ipynb",
            **variables,
        }
        client = NotebookClient(
            notebook,
            timeout=60,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(tmp_path)}},
            on_cell_executed=lambda **_: between(),
        )
        client.execute(env=environ)
        cells: list[Any] = notebook.cells
        return cells

    return run


def shown(cell: Any) -> str:
    """What a cell printed or showed, as text; of an error its traceback."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "error":
            parts.append("\n".join(output.traceback))
        else:
            parts.append(output.get("text") or output["data"].get("text/plain", ""))
    return "\n".join(parts).strip()


def test_a_notebook_runs_for_longer_than_its_token_lives(
    run: Run, http_ws: epista.Workspace, server: Server, secret: str, clock: Clock
) -> None:
    http_ws.put("EXP-12/counts.parquet", COUNTS)

    def an_hour_later_in_steps() -> None:
        clock.ahead_seconds += 20 * 60

    cells = run(
        "%load_ext epista\nimport epista\nfrom matplotlib.figure import Figure",
        "%%epista counts --params [5]\nSELECT well, count FROM counts WHERE count > ? ORDER BY well",
        "fig = Figure(); _ = fig.subplots().bar(counts.to_pandas()['well'], counts.to_pandas()['count'])",
        "figure = epista.publish_figure(fig, 'Counts by well')\nfigure",
        "epista.publish_table(counts, 'High counts').asset.key",
        between=an_hour_later_in_steps,
    )

    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert "<img src=" in cells[3].outputs[0]["data"]["text/html"]
    assert shown(cells[4]) == "'EXP-12/tables/high-counts.csv'"
    # The one that it was started with has long ended.
    assert server.api(secret).get("/me").status_code == 401
    figure, table = http_ws.get("EXP-12/figures/counts-by-well.svg"), http_ws.get("EXP-12/tables/high-counts.csv")
    for made in (figure, table):
        assert made.lineage.notebook == "notebooks/doses.ipynb"
        assert [source.key for source in made.lineage.inputs] == ["EXP-12/counts.parquet"]
        assert made.lineage.activity is not None
        assert [query.sql for query in made.lineage.activity.queries] == [
            "SELECT well, count FROM counts WHERE count > ? ORDER BY well\n"
        ]
    assert figure.lineage.activity is not None and figure.lineage.activity.told.cell is not None
    cell = figure.lineage.activity.told.cell
    assert (cell.number, cell.source) == (4, cells[3].source)
    (asked,) = http_ws.queries(everyone=True)
    assert asked.notebook == "notebooks/doses.ipynb"
    assert secret not in written(new_notebook(cells=cells))


def test_cells_of_sql(run: Run, http_ws: epista.Workspace) -> None:
    http_ws.put("EXP-12/counts.parquet", COUNTS)
    http_ws.put("EXP-12/counts.parquet", COUNTS[:1])
    http_ws.put("EXP-13/others.parquet", COUNTS)

    cells = run(
        "import epista\n%load_ext epista\nfloor, wells = 5, {'well': 'A2'}",
        "%epista SELECT max(count) AS most FROM counts",
        "%%epista\nSELECT count(*) AS rows FROM counts",
        "%%epista frame --as pandas --as-of counts=1\nSELECT * FROM counts ORDER BY count",
        "type(frame).__module__.partition('.')[0], frame['count'].tolist()",
        "%%epista --as polars --params [floor] --as-of counts=1 --as-of others=1\n"
        "SELECT well FROM counts JOIN others USING (well, count) WHERE count > ?",
        "%%epista --as arrow --params wells --as-of counts=1\nSELECT count FROM counts WHERE well = $well",
        "other = epista.Workspace(experiment='EXP-13')",
        "%%epista --on other\nSELECT count(*) AS rows FROM others",
        "%%epista --as-of '2020-01-01 12:00'\nSELECT * FROM counts",
        "%epista",
        "%%epista 3x\nSELECT 1",
        "%%epista --nonsense\nSELECT 1",
        "%%epista --params [nothing]\nSELECT 1",
        "%%epista --on floor\nSELECT 1",
        "%%epista --as-of '2020\nSELECT 1",
        "%%epista --as-of counts=1 --as-of 2020-01-01\nSELECT 1",
        "%%epista\nDROP TABLE counts",
        "'still ' + 'here'",
    )

    assert shown(cells[1]).split()[:3] == ["most", "0", "17"]
    assert shown(cells[2]).split()[:3] == ["rows", "0", "1"]
    assert "<table" in cells[2].outputs[0]["data"]["text/html"]
    assert cells[3].outputs == []
    assert shown(cells[4]) == "('pandas', [4, 9, 17])"
    assert "A1" in shown(cells[5]) and "B1" in shown(cells[5]) and "A2" not in shown(cells[5])
    assert "pyarrow.Table" in shown(cells[6]) and "[[4]]" in shown(cells[6])
    assert shown(cells[8]).split()[:3] == ["rows", "0", "3"]
    assert "KeyNotFoundError" in shown(cells[9])
    assert "--params PYTHON" in shown(cells[10]) and "Traceback" not in shown(cells[10])
    assert "'3x' is no name for a result" in shown(cells[11])
    assert "--nonsense" in shown(cells[12]) and "%epista lists the options" in shown(cells[12])
    assert "--params [nothing]: name 'nothing' is not defined" in shown(cells[13])
    assert "a int is no workspace" in shown(cells[14])
    assert "quote what has spaces" in shown(cells[15])
    assert "TABLE=VERSION" in shown(cells[16])
    assert shown(cells[17]).startswith("QueryRefusedError:") and "notebooks.py" not in shown(cells[17])
    assert shown(cells[18]) == "'still here'"


def test_older_names_of_the_variables_are_read_too(run: Run, server: Server, secret: str) -> None:
    older = {f"BIOLAKE_{name}": value for name, value in {"API_URL": server.url, "PAT": secret, "EXPERIMENT_ID": "EXP-9"}.items()}
    newer = dict.fromkeys(("EPISTA_API_URL", "EPISTA_TOKEN", "EPISTA_EXPERIMENT_ID"), "")

    cells = run("import epista\nepista.publish_table('n\\n1\\n', 'one').asset.key", **newer, **older)

    assert shown(cells[0]) == "'EXP-9/tables/one.csv'"
