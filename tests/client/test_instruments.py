"""``ws.instruments``: exports read by allotropy, which lives in an environment of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest

import epista
from epista.client import instruments

EXPORTS = Path(__file__).parents[3] / "shared" / "data" / "vendor"

ALLOTROPY = os.environ.get("EPISTA_INSTRUMENTS_PYTHON", "")
"""Read before the tests' environment is emptied."""

DOCUMENT = {
    "qpcr aggregate document": {
        "qpcr document": [{"measurement aggregate document": {"measurement document": [{"dye": "ROX"}, {"dye": "FAM"}]}}]
    }
}


@pytest.fixture
def ws(http_ws: epista.Workspace) -> epista.Workspace:
    http_ws.put("EXP-1/plate.csv", pd.DataFrame({"a": [1]}))
    return http_ws


def interpreter(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a program that does *says* in place of reading an export; the reply belongs in the file ``$3``."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    monkeypatch.setenv("EPISTA_INSTRUMENTS_PYTHON", str(path))


def test_without_allotropy_the_error_says_how_to_install_it(
    ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(epista.MissingExtraError, match=r"there is no .*instruments") as caught:
        ws.instruments.table("EXP-1/plate.csv")
    assert "~/.epista/instruments/bin/pip install allotropy" in str(caught.value)

    monkeypatch.setenv("EPISTA_INSTRUMENTS_PYTHON", sys.executable)
    with pytest.raises(epista.MissingExtraError, match="No module named 'allotropy'"):
        epista.Workspace(ws.url, token=ws.wire._token.current(), workspace=ws.name).instruments.vendors()  # type: ignore[union-attr]


def test_the_environment_at_home_is_found(ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ".epista" / "instruments" / "bin"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    interpreter(home, f"""echo '{json.dumps({"vendors": {"LAB": "A lab"}})}' >$3""", monkeypatch)
    monkeypatch.delenv("EPISTA_INSTRUMENTS_PYTHON")

    assert ws.instruments.vendors() == {"LAB": "A lab"}


def test_the_file_is_given_under_its_own_name_and_what_was_read_is_lineage(
    ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = json.dumps({"vendor": "LAB", "document": DOCUMENT})
    interpreter(tmp_path, f"""case "$4" in */plate.csv) test "$5" = LAB && echo '{reply}' >$3 ;; esac""", monkeypatch)

    table = ws.instruments.table("EXP-1/plate.csv", vendor="lab")

    assert table["dye"].tolist() == ["ROX", "FAM"]
    assert table.attrs["vendor"] == "LAB"
    assert ws.instruments.document("EXP-1/plate.csv", vendor="lab") == DOCUMENT
    assert [one.key for one in ws.put("EXP-1/made.csv", table).lineage.inputs] == ["EXP-1/plate.csv"]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("""echo '{"error": "no vendor"}' >$3""", "no vendor"),
        ("echo 'Killed: out of memory' >&2; exit 137", "out of memory"),
        ("echo '{' >$3", "ended with 0"),
        ("exit 3", "ended with 3"),
    ],
    ids=["refused", "killed", "cut", "silent"],
)
def test_what_cannot_be_read_is_unreadable(
    ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, message: str
) -> None:
    interpreter(tmp_path, says, monkeypatch)

    with pytest.raises(epista.UnreadableError, match=message):
        ws.instruments.table("EXP-1/plate.csv")


def test_a_file_that_takes_for_ever_is_given_up(ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(instruments, "SECONDS", 0.2)

    with pytest.raises(epista.TooLargeError, match="longer than"):
        ws.instruments.table("EXP-1/plate.csv")


@pytest.fixture
def lab(ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch) -> epista.Workspace:
    """A workspace whose client has allotropy."""
    monkeypatch.setenv("EPISTA_INSTRUMENTS_PYTHON", ALLOTROPY)
    return ws


QUBIT = {
    "Run ID": "2023-12-12",
    "Assay Name": "1x dsDNA High Sensitivity",
    "Test Name": "Sample_#1",
    "Test Date": "12/12/2023 6:40:54 AM",
    "Original sample conc.": 6.08,
    "Units": "ng/uL",
    "Sample Volume (uL)": 1,
    "Dilution Factor": 200,
    "Std 1 RFU": 49.43,
    "Std 2 RFU": 21133.11,
    "Excitation": "Blue",
    "Emission": "Green",
    "Green RFU": 1303.11,
}


@pytest.mark.instruments
class TestAllotropy:
    def test_an_export_is_a_table(self, lab: epista.Workspace) -> None:
        lab.put("EXP-1/qubit.csv", pd.DataFrame([QUBIT]))

        table = lab.instruments.table("EXP-1/qubit.csv")

        assert table.attrs["vendor"] == "THERMO_FISHER_QUBIT4"
        assert table["fluorescence (RFU)"].tolist() == [1303.11]
        assert lab.instruments.vendors()["THERMO_FISHER_QUBIT4"] == "Thermo Fisher Scientific Qubit 4"

    def test_what_no_vendor_exports_is_refused(self, lab: epista.Workspace) -> None:
        with pytest.raises(epista.UnreadableError, match="nothing was measured"):
            lab.instruments.document("EXP-1/plate.csv")
        with pytest.raises(epista.UnreadableError, match="No vendor could be identified"):
            lab.instruments.table(lab.put("EXP-1/notes.txt", "no export of any instrument"))
        with pytest.raises(epista.UnreadableError, match="no vendor is called 'NOBODY'"):
            lab.instruments.table("EXP-1/plate.csv", vendor="nobody")
        with pytest.raises(epista.UnreadableError, match="allotropy cannot read it"):
            lab.instruments.table("EXP-1/plate.csv", vendor="thermo_fisher_qubit4")

    @pytest.mark.real_data
    @pytest.mark.parametrize("path", sorted(EXPORTS.glob("*__*")), ids=lambda path: path.name)
    def test_real_exports_are_tables(self, lab: epista.Workspace, path: Path) -> None:
        lab.put_file(f"EXP-1/{path.name}", path)

        table = lab.instruments.table(f"EXP-1/{path.name}")

        assert table.attrs["vendor"].split("_")[0].lower() == path.name.split("_")[0]
        assert len(table) > 0
        assert any("(" in name for name in table.columns)
        # And it can be put as it is.
        assert len(lab(lab.put("EXP-1/table.parquet", table))) == len(table)

    @pytest.mark.real_data
    @pytest.mark.parametrize(
        ("begin", "theirs", "column"),
        [
            ("beckman_vi_cell_blu", "Viability (%)", "viability (cell counter) (%)"),
            ("thermo_fisher_qubit4__thermo_fisher_qubit4_example_1", "Green RFU", "fluorescence (RFU)"),
        ],
        ids=["cells", "qubit"],
    )
    def test_values_are_those_of_the_file(self, lab: epista.Workspace, begin: str, theirs: str, column: str) -> None:
        for path in EXPORTS.glob(f"{begin}*"):
            lab.put_file(f"EXP-1/{path.name}", path)

            table = lab.instruments.table(f"EXP-1/{path.name}")

            assert table[column].tolist() == pd.read_csv(path)[theirs].tolist()
