"""``ws.instruments``: exports read by allotropy, which lives in an environment of its own."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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
    """Name a program that does *says* in place of reading an export; the reply belongs in the file ``$5``."""
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
    interpreter(home, f"""echo '{json.dumps({"vendors": {"LAB": "A lab"}})}' >$5""", monkeypatch)
    monkeypatch.delenv("EPISTA_INSTRUMENTS_PYTHON")

    assert ws.instruments.vendors() == {"LAB": "A lab"}


def test_the_file_is_given_under_its_own_name_and_what_was_read_is_lineage(
    ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = json.dumps({"vendor": "LAB", "document": DOCUMENT})
    interpreter(tmp_path, f"""case "$6" in */plate.csv) test "$7" = LAB && echo '{reply}' >$5 ;; esac""", monkeypatch)

    table = ws.instruments.table("EXP-1/plate.csv", vendor="lab")

    assert table["dye"].tolist() == ["ROX", "FAM"]
    assert table.attrs["vendor"] == "LAB"
    assert ws.instruments.document("EXP-1/plate.csv", vendor="lab") == DOCUMENT
    assert [one.key for one in ws.put("EXP-1/made.csv", table).lineage.inputs] == ["EXP-1/plate.csv"]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("""echo '{"error": "no vendor"}' >$5""", "no vendor"),
        ("""echo '{"several": ["A", "B"]}' >$5""", "an export of A and of B"),
        ("echo 'Killed: out of memory' >&2; exit 137", "out of memory"),
        ("echo '{' >$5", "ended with 0"),
        ("exit 3", "ended with 3"),
    ],
    ids=["refused", "several", "killed", "cut", "silent"],
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


def test_a_file_that_is_too_large_is_not_fetched(ws: epista.Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter(tmp_path, "exit 3", monkeypatch)
    monkeypatch.setattr(instruments, "FILE_BYTES", 3)

    with pytest.raises(epista.TooLargeError, match="exports of at most 3 are read"):
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


NO_NUMBER = ("Undetermined", "ERROR")
"""What instruments write in place of a number."""


def numbers(column: Iterable[Any]) -> list[Any]:
    """Return a column as numbers where it has some, None for what is missing, text for the rest."""
    found: list[Any] = []
    for one in column:
        try:
            found.append(None if pd.isna(one) or one in NO_NUMBER else float(one))
        except ValueError:
            found.append(one)
    return found


def gen5(path: Path, which: str = "630nmAbsRead:630") -> list[list[Any]]:
    """The lines of its results end with what they are."""
    lines = path.read_text().split("Results\n", 1)[1].splitlines()
    return [[float(cell) for line in lines if line.endswith(f"\t{which}") for cell in line.split("\t")[1:-1]]]


def quantstudio(path: Path) -> list[list[Any]]:
    text = path.read_text(errors="replace").split("[Results]\n", 1)[1]
    found = pd.read_csv(io.StringIO(text.split("\n\n", 1)[0]), sep="\t", na_values="Undetermined").iloc[:96]
    return [found[name].tolist() for name in ("Well Position", "Target Name", "Rn", "CT")]


def design_and_analysis(path: Path) -> list[list[Any]]:
    cells = pd.read_excel(path, sheet_name="Results", header=None, engine="calamine")
    head = cells.index[cells[0] == "Well"][0]
    found = cells.iloc[head + 1 :].set_axis(cells.iloc[head], axis=1)
    return [found[name].tolist() for name in ("Well Position", "Target", "Cq")]


def cells(path: Path) -> list[list[Any]]:
    found = pd.read_csv(path)
    return [found[name].tolist() for name in ("Sample ID", "Viability (%)", "Viable cells", "Total (x10^6) cells/mL")]


def cells_xr(path: Path) -> list[list[Any]]:
    found = pd.read_excel(path, header=None, engine="calamine")
    rows = found.iloc[5:].set_axis(found.iloc[3], axis=1)
    return [rows[name].tolist() for name in ("Sample ID", "Viability")]


def luminex(path: Path) -> list[list[Any]]:
    text = path.read_text(errors="replace").split('"DataType:","Median"\n', 1)[1]
    found = pd.read_csv(io.StringIO(text.split("\n\n", 1)[0]))
    return [[number for row in found[["alpha", "bravo"]].to_numpy().tolist() for number in row]]


def softmax(path: Path) -> list[list[Any]]:
    """Of two plates, eight lines of twelve each, below a line that begins the plate and one that numbers its columns."""
    lines = path.read_text(encoding="utf-16").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Plate:")]
    return [[float(cell) for start in starts for line in lines[start + 2 : start + 10] for cell in line.split("\t")[2:14]]]


def nanodrop(path: Path) -> list[list[Any]]:
    """Three measurements of a sample: at 260 and at 280 nm, and the spectrum."""
    found = pd.read_csv(path, sep="\t", skiprows=3)
    return [[one for row in found[["A260", "A280"]].to_numpy().tolist() for one in [*row, None]]]


def qubit(path: Path) -> list[list[Any]]:
    found = pd.read_csv(path) if path.suffix == ".csv" else pd.read_excel(path, engine="calamine")
    return [found[name].tolist() for name in ("Test Name", "Green RFU", "Original sample conc.")]


ORACLES: dict[str, tuple[str, list[str], Callable[[Path], list[list[Any]]]]] = {
    "agilent_gen5": ("AGILENT_GEN5", ["absorbance"], gen5),
    "appbio_quantstudio__": (
        "APPBIO_QUANTSTUDIO",
        ["well location identifier", "target DNA description", "normalized reporter result", "cycle threshold result (qPCR)"],
        quantstudio,
    ),
    "appbio_quantstudio_designandanalysis": (
        "APPBIO_QUANTSTUDIO_DESIGNANDANALYSIS",
        ["well location identifier", "target DNA description", "cycle threshold result (qPCR)"],
        design_and_analysis,
    ),
    "beckman_vi_cell_blu": (
        "BECKMAN_VI_CELL_BLU",
        [
            "sample identifier",
            "viability (cell counter) (%)",
            "viable cell count (cell)",
            "total cell density (cell counter) (10^6 cells/mL)",
        ],
        cells,
    ),
    "beckman_vi_cell_xr": ("BECKMAN_VI_CELL_XR", ["sample identifier", "viability (cell counter) (%)"], cells_xr),
    "luminex_xponent": ("LUMINEX_XPONENT", ["statistical value (RFU)"], luminex),
    "moldev_softmax_pro": ("MOLDEV_SOFTMAX_PRO", ["absorbance"], softmax),
    "thermo_fisher_nanodrop_eight": ("THERMO_FISHER_NANODROP_EIGHT", ["absorbance"], nanodrop),
    "thermo_fisher_qubit4": (
        "THERMO_FISHER_QUBIT4",
        ["sample identifier", "fluorescence (RFU)", "original sample concentration (ng/µL)"],
        qubit,
    ),
}
"""For exports whose names begin so: the vendor, columns, and a reader of our own that gives the same."""


@pytest.mark.instruments
class TestAllotropy:
    def test_an_export_is_a_table(self, lab: epista.Workspace) -> None:
        lab.put("EXP-1/qubit.csv", pd.DataFrame([QUBIT]))

        table = lab.instruments.table("EXP-1/qubit.csv")

        assert table.attrs["vendor"] == "THERMO_FISHER_QUBIT4"
        assert table["fluorescence (RFU)"].tolist() == [1303.11]
        assert lab.instruments.vendors()["THERMO_FISHER_QUBIT4"] == "Thermo Fisher Scientific Qubit 4"

    def test_what_no_vendor_exports_is_refused(self, lab: epista.Workspace, tmp_path: Path) -> None:
        for name, text in (("notes.txt", "no export of any instrument"), ("qpcr.csv", "Well,Sample,Cq\nA1,S1,22.1\n")):
            (tmp_path / name).write_text(text)
            with pytest.raises(epista.UnreadableError, match="an export of no vendor that allotropy knows"):
                lab.instruments.document(lab.put_file(f"EXP-1/{name}", tmp_path / name))
        with pytest.raises(epista.UnreadableError, match="nothing was measured, if it is an export of QIACUITY_DPCR at all"):
            lab.instruments.table("EXP-1/qpcr.csv", vendor="qiacuity_dpcr")
        with pytest.raises(epista.UnreadableError, match="as an export of THERMO_FISHER_QUBIT4: "):
            lab.instruments.table("EXP-1/plate.csv", vendor="thermo_fisher_qubit4")

    def test_names_that_nobody_has_are_the_callers_mistake(self, lab: epista.Workspace) -> None:
        with pytest.raises(epista.InvalidRequestError, match="called 'QUBIT4'; nearest: THERMO_FISHER_QUBIT4"):
            lab.instruments.table("EXP-1/plate.csv", vendor="qubit4")
        with pytest.raises(epista.InvalidRequestError, match="no time zone is called 'Mars'"):
            lab.instruments.table("EXP-1/plate.csv", timezone="Mars")

    def test_times_without_a_zone_are_of_the_clock_that_one_says(self, lab: epista.Workspace) -> None:
        lab.put("EXP-1/Fluoreszenz µ.csv", pd.DataFrame([QUBIT | {"Test Date": "03/04/2026 06:40"}]))

        taken = lab.instruments.table("EXP-1/Fluoreszenz µ.csv")
        said = lab.instruments.table("EXP-1/Fluoreszenz µ.csv", timezone="Europe/Berlin", day_first=True)

        assert (taken["measurement time"][0], taken.attrs["timezone"]) == (pd.Timestamp("2026-03-04T06:40Z"), "UTC")
        assert (said["measurement time"][0], said.attrs["timezone"]) == (pd.Timestamp("2026-04-03T04:40Z"), "Europe/Berlin")

    @pytest.mark.real_data
    @pytest.mark.parametrize("begin", sorted(ORACLES))
    def test_real_exports_are_tables_of_what_stands_in_them(self, lab: epista.Workspace, begin: str) -> None:
        vendor, columns, oracle = ORACLES[begin]
        for path in EXPORTS.glob(f"{begin}*"):
            lab.put_file(f"EXP-1/{path.name}", path)

            table = lab.instruments.table(f"EXP-1/{path.name}", vendor="luminex_xponent" if begin == "luminex_xponent" else None)

            assert table.attrs["vendor"] == vendor
            assert {name: numbers(table[name]) for name in columns} == {
                name: numbers(found) for name, found in zip(columns, oracle(path), strict=True)
            }
            # And it can be put as it is.
            assert len(lab(lab.put("EXP-1/table.parquet", table))) == len(table)

    @pytest.mark.real_data
    def test_of_two_vendors_whom_an_export_looks_like_none_is_taken(self, lab: epista.Workspace) -> None:
        for path in EXPORTS.glob("luminex_xponent*"):
            lab.put_file("EXP-1/luminex.csv", path)

            with pytest.raises(epista.UnreadableError, match="of LUMINEX_INTELLIFLEX and of LUMINEX_XPONENT") as caught:
                lab.instruments.table("EXP-1/luminex.csv")

            assert caught.value.details["candidates"] == ["LUMINEX_INTELLIFLEX", "LUMINEX_XPONENT"]

    @pytest.mark.real_data
    def test_real_calculated_values_name_the_rows_that_they_come_from(self, lab: epista.Workspace) -> None:
        for path in EXPORTS.glob("luminex_xponent*"):
            lab.put_file("EXP-1/luminex.csv", path)

            found = lab.instruments.calculated("EXP-1/luminex.csv", vendor="luminex_xponent")

            assert found["rows"].tolist() == [[row] for row in range(8)]
            assert found["value"].tolist() == luminex(path)[0]
        for path in EXPORTS.glob("agilent_gen5*"):
            lab.put_file("EXP-1/gen5.txt", path)

            found = lab.instruments.calculated("EXP-1/gen5.txt")

            made = found[found["name"] == "[Concentration]"]
            assert made["rows"].tolist() == [[row] for row in range(96)]
            assert made["value"].tolist() == gen5(path, "[Concentration]")[0]

    @pytest.mark.real_data
    @pytest.mark.parametrize("begin", ["agilent_gen5", "appbio_quantstudio_designandanalysis", "beckman_vi_cell_xr"])
    def test_half_of_a_real_export_is_unreadable(self, lab: epista.Workspace, tmp_path: Path, begin: str) -> None:
        for path in EXPORTS.glob(f"{begin}*"):
            half = tmp_path / path.name
            # Within a line: one that ends after a whole line is an export of fewer.
            half.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 3])
            lab.put_file(f"EXP-1/{path.name}", half)

            with pytest.raises(epista.UnreadableError, match="allotropy cannot read it"):
                lab.instruments.table(f"EXP-1/{path.name}", vendor=begin)
