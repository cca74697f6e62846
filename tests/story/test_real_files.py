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
