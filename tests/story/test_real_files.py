"""Real instrument files, images and sequences go in and come back, byte for byte."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import epista

DATA = Path(__file__).parents[3] / "shared" / "data"
"""The sample files beside the checkout, and SOURCES.md with the beginning of each one's sha256."""

_LINE = re.compile(r"^\| (?P<name>\S.*?) \| (?P<size>\d+) \| (?P<sha256>[0-9a-f]{16}) \|", re.M)


def _some_files(folder: Path) -> Path:
    """Make a few files like the sample files, where those are not."""
    files = {
        "fcs/cells.fcs": b"FCS3.1" + bytes(range(256)) * 2000,
        "images/cells.ome.tif": b"II*\0" + bytes(300_000),
        "sequences/a b.fna": b">chr1\nACGT\n",
        "vendor/reader.csv": "Zeit;µM\r\n1,5;2\r\n".encode("cp1252"),
        "empty.txt": b"",
    }
    lines = []
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        lines.append(f"| {name} | {len(data)} | {hashlib.sha256(data).hexdigest()[:16]} |")
    (folder / "SOURCES.md").write_text("\n".join(lines))
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return DATA if DATA.is_dir() else _some_files(tmp_path / "files")


@pytest.mark.real_data
def test_real_files_come_back_byte_for_byte(ws: epista.Workspace, files: Path, tmp_path: Path) -> None:
    originals = {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in originals.items()}

    receipts = ws.put_dir("samples", files)
    back = ws.fetch("samples", tmp_path / "back")

    assert {asset.key.removeprefix("samples/"): asset.sha256 for asset in receipts} == hashes
    assert ws.keys() == sorted(f"samples/{name}" for name in originals)
    assert {
        path.relative_to(back).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in back.rglob("*")
        if path.is_file()
    } == hashes
    for asset in receipts:
        assert ws(asset, format="bytes") == originals[asset.key.removeprefix("samples/")]


@pytest.mark.real_data
def test_the_receipts_of_real_files_agree_with_their_list_of_sources(ws: epista.Workspace, files: Path) -> None:
    listed = {line["name"]: (int(line["size"]), line["sha256"]) for line in _LINE.finditer((files / "SOURCES.md").read_text())}

    receipts = {asset.key.removeprefix("samples/"): asset for asset in ws.put_dir("samples", files)}

    assert len(listed) >= 5
    assert {name: (receipts[name].size_bytes, (receipts[name].sha256 or "")[:16]) for name in listed} == listed


READ_AS = {
    "agilent_gen5": "Experiment File Path",
    "appbio_quantstudio__": "* Block Type = 96-Well Block (0.2mL)",
    "appbio_quantstudio_designandanalysis": {"Results", "Amplification Data"},
    "beckman_vi_cell_blu": (10, 33),
    "beckman_vi_cell_xr": (38, 27),
    # A table below a preamble, at which nothing is guessed: text it is.
    "luminex_xponent": epista.UnreadableError,
    # In UTF-16.
    "moldev_softmax_pro": "##BLOCKS= 4",
    "thermo_fisher_nanodrop_eight": "Serial Number:",
    "thermo_fisher_qubit4__thermo_fisher_qubit4_example_1": (2, 17),
    "thermo_fisher_qubit4__thermo_fisher_qubit4_example_2": (2, 17),
}
"""What exports of instruments are read as: text with these words, sheets of these names, a table of this shape, or nothing."""


@pytest.mark.real_data
def test_real_exports_of_instruments_are_text_or_tables_or_refused(ws: epista.Workspace, files: Path) -> None:
    for path in sorted((files / "vendor").glob("*__*")):
        [expected] = [found for begin, found in READ_AS.items() if path.name.startswith(begin)]
        asset = ws.put_file(f"EXP-1/{path.name}", path)
        if expected is epista.UnreadableError:
            with pytest.raises(epista.UnreadableError, match="line 2 has 2 cells, the first has 4"):
                ws(asset)
            expected = "xPONENT"
            found = ws(asset, format="text")
        else:
            found = ws(asset)
        match expected:
            case str():
                assert expected in found
            case set():
                assert expected <= set(found)
            case _:
                assert found.shape == expected
