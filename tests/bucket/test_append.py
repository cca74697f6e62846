"""Rows are added to a table as a new version, and read as one file, wherever the lab is."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import epista
from epista.contract.errors import ConflictError, FormatError, IntegrityError, NotFoundError, UnreadableError

Opened = Callable[..., epista.Workspace]


def frame(start: int, stop: int, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"n": range(start, stop), "well": [f"A{n}" for n in range(start, stop)], **more})


def test_rows_are_added_as_a_new_version_and_read_as_one_table(ws: epista.Workspace) -> None:
    first = ws.append("EXP-1/counts.parquet", frame(0, 3), inputs=None)
    second = ws.append("EXP-1/counts.parquet", frame(3, 5))
    third = ws.append("EXP-1/counts.parquet", pl.DataFrame({"n": [5], "well": ["A5"]}))

    assert [one.number for one in (first, second, third)] == [1, 2, 3]
    assert [one.note for one in ws.versions("EXP-1/counts.parquet")] == ["appended 1 row", "appended 2 rows", "put"]
    assert (third.sha256, third.size_bytes) == (None, None)
    pd.testing.assert_frame_equal(ws("EXP-1/counts.parquet"), frame(0, 6))
    pd.testing.assert_frame_equal(ws.deserialize("EXP-1/counts.parquet", version=2), frame(0, 5))
    pd.testing.assert_frame_equal(ws.deserialize("EXP-1/counts.parquet", version=1), frame(0, 3))


def test_the_bytes_are_one_file_with_the_size_and_sha256_that_are_told(ws: epista.Workspace, tmp_path: Path) -> None:
    import hashlib

    for start in range(0, 9, 3):
        ws.append("EXP-1/counts.parquet", frame(start, start + 3))
    before = ws.get("EXP-1/counts.parquet")

    path = ws.fetch("EXP-1/counts.parquet", tmp_path)
    data = path.read_bytes()
    told = ws.get("EXP-1/counts.parquet")

    assert before.sha256 is None
    assert before.size_bytes is None
    assert (told.sha256, told.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert told.version == before.version
    assert pq.read_table(path).num_rows == 9
    with ws.open("EXP-1/counts.parquet") as stream:
        assert stream.read() == data
    with ws.open("EXP-1/counts.parquet", byte_range=(0, 3)) as stream:
        assert stream.read() == b"PAR1"
    assert {asset.key: asset.sha256 for asset in ws.assets()} == {"EXP-1/counts.parquet": told.sha256}


@pytest.mark.parametrize("way", ["fetch folder", "open", "link", "fsspec", "copy", "download", "dict"])
def test_every_way_to_the_bytes_makes_one_file(ws: epista.Workspace, tmp_path: Path, way: str) -> None:
    ws.append("EXP-1/counts.parquet", frame(0, 2))
    ws.append("EXP-1/counts.parquet", frame(2, 4))
    ws.put("EXP-1/other.txt", "other")

    if way == "fetch folder":
        ws.fetch("EXP-1/", tmp_path / "here")
        data = (tmp_path / "here" / "counts.parquet").read_bytes()
    elif way == "open":
        with ws.open("EXP-1/counts.parquet", version=2) as stream:
            data = stream.read()
    elif way == "link":
        import urllib.request

        with urllib.request.urlopen(ws.link("EXP-1/counts.parquet")) as answer:
            data = answer.read()
    elif way == "fsspec":
        from epista.client.filesystem import EpistaFileSystem

        fs = EpistaFileSystem(session=ws.session)
        assert {info["name"]: info["size"] for info in fs.ls("EXP-1", detail=True)}["EXP-1/counts.parquet"] is None
        assert fs.du("EXP-1") == 5
        with fs.open("EXP-1/counts.parquet") as file:
            data = file.read()
        assert fs.cat_file("EXP-1/counts.parquet") == data
        assert fs.info("EXP-1/counts.parquet")["size"] == len(data)
    elif way == "copy":
        copied = ws.copy("EXP-1/counts.parquet", "EXP-2/counts.parquet")
        assert copied.sha256 is None
        with ws.open("EXP-2/counts.parquet") as stream:
            data = stream.read()
        assert ws.get("EXP-1/counts.parquet").sha256 == ws.get("EXP-2/counts.parquet").sha256 is not None
    elif way == "download":
        with ws.open("EXP-1/counts.parquet", download=True) as path:
            data = path.read_bytes()
    else:
        found = ws("EXP-1/")
        pd.testing.assert_frame_equal(found["counts.parquet"], frame(0, 4))
        return
    assert pq.read_table(io.BytesIO(data)).num_rows == 4


def test_columns_go_by_name_and_types_widen(ws: epista.Workspace) -> None:
    key = "EXP-1/counts.parquet"
    ws.put(key, pa.table({"a": pa.array([1], pa.int32()), "b": pa.array([1.5], pa.float32()), "c": ["x"]}))
    ws.append(key, pa.table({"c": ["y"], "new": [True], "a": pa.array([2**40], pa.int64())}))
    ws.append(key, pa.table({"a": pa.array([3], pa.int8()), "b": pa.array([2], pa.int64()), "c": pa.nulls(1)}))

    found = ws.deserialize(key, as_type="arrow")

    assert found.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.bool_()]
    assert found.to_pylist() == [
        {"a": 1, "b": 1.5, "c": "x", "new": None},
        {"a": 2**40, "b": None, "c": "y", "new": True},
        {"a": 3, "b": 2.0, "c": None, "new": None},
    ]
    assert ws.deserialize(key, version=1, as_type="arrow").schema.types == [pa.int32(), pa.float32(), pa.string()]
    assert ws.search("new").total == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": ["x"]}, "column 'a' is int64, and string in the new rows"),
        ({"a": [1], "when": pd.to_datetime(["2026-01-01T00:00Z"])}, "column 'when' is timestamp"),
        ({"A": [1], "when": pd.to_datetime(["2026-01-01"])}, "only case tells the column 'A' from 'a'"),
        ({"other": [1]}, "the new rows have none of the columns of the table: a, when"),
        ({"a": [2**63]}, "column 'a' is int64, and uint64"),
    ],
    ids=["text", "time zone", "case", "others", "unsigned"],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(http_ws: epista.Workspace, rows: dict[str, Any], said: str) -> None:
    key = "EXP-1/counts.parquet"
    before = http_ws.put(key, pd.DataFrame({"a": [1], "when": pd.to_datetime(["2026-01-01"])}))

    with pytest.raises(FormatError, match=said):
        http_ws.append(key, pd.DataFrame(rows))

    assert http_ws.get(key).version == before.version


def test_only_parquet_is_appended_to(http_ws: epista.Workspace) -> None:
    http_ws.put("EXP-1/counts.csv", frame(0, 1))
    http_ws.put_file("EXP-1/plain", __file__, format="text")

    for key in ("EXP-1/counts.csv", "EXP-1/new.csv", "EXP-1/new.parquet.gz"):
        with pytest.raises(FormatError, match="Parquet"):
            http_ws.append(key, frame(1, 2))
    with pytest.raises(FormatError, match="is text"):
        http_ws.append("EXP-1/plain", frame(1, 2))
    with pytest.raises(FormatError, match="parquet takes a pandas"):
        http_ws.append("EXP-1/counts.parquet", 7)
    assert sorted(http_ws.keys()) == ["EXP-1/counts.csv", "EXP-1/plain"]


def test_an_append_may_be_conditional(ws: epista.Workspace) -> None:
    first = ws.append("EXP-1/counts.parquet", frame(0, 1), expect="absent")
    second = ws.append("EXP-1/counts.parquet", frame(1, 2), expect=first.version)

    for stale in ("absent", first.version):
        with pytest.raises(ConflictError) as caught:
            ws.append("EXP-1/counts.parquet", frame(2, 3), expect=stale)
        assert caught.value.details["found"] == second.version
    assert len(ws("EXP-1/counts.parquet")) == 2


def test_no_rows_make_no_version_and_what_is_kept_is_kept(ws: epista.Workspace) -> None:
    first = ws.put("EXP-1/counts.parquet", frame(0, 2), meta={"cell": "HeLa"}, tags=["qc"])

    same = ws.append("EXP-1/counts.parquet", frame(0, 0).astype({"n": "int64", "well": "str"}))
    more = ws.append("EXP-1/counts.parquet", frame(2, 3), inputs=["EXP-1/counts.parquet"])

    assert same.version == first.version
    assert (more.meta, more.tags, more.kind) == ({"cell": "HeLa"}, ("qc",), "TABLE")
    assert [source.number for source in more.lineage.inputs] == [1]
    assert ws.search("HeLa").total == ws.search("text:well").total == 1


def test_those_who_append_at_once_all_succeed(open_workspace: Opened) -> None:
    first = open_workspace()
    first.append("EXP-1/counts.parquet", frame(0, 1))

    def append(number: int) -> int:
        return open_workspace().append("EXP-1/counts.parquet", frame(number, number + 1)).number

    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(append, range(1, 13)))

    assert sorted(numbers) == list(range(2, 14))
    assert sorted(first("EXP-1/counts.parquet")["n"]) == list(range(13))


def test_the_first_rows_of_all_who_append_at_once_are_kept(open_workspace: Opened) -> None:
    def append(number: int) -> int:
        return open_workspace().append("EXP-1/counts.parquet", frame(number, number + 1)).number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(append, range(4))) == [1, 2, 3, 4]
    assert sorted(open_workspace()("EXP-1/counts.parquet")["n"]) == [0, 1, 2, 3]


def test_who_reads_and_who_appends_at_once_do_not_disturb_each_other(open_workspace: Opened) -> None:
    first = open_workspace()
    first.append("EXP-1/counts.parquet", frame(0, 1))

    def append(number: int) -> list[int]:
        open_workspace().append("EXP-1/counts.parquet", frame(number, number + 1))
        return []

    def read(_: int) -> list[int]:
        found: list[int] = open_workspace()("EXP-1/counts.parquet")["n"].tolist()
        return found

    with ThreadPoolExecutor(4) as pool:
        works = [pool.submit(read if number % 2 else append, number) for number in range(1, 17)]
        found = [one.result() for one in works]

    assert sorted(first("EXP-1/counts.parquet")["n"]) == [0, *range(2, 17, 2)]
    assert all(0 in rows for rows in found if rows)
    assert [len(first.deserialize("EXP-1/counts.parquet", version=number)) for number in range(1, 10)] == list(range(1, 10))


def test_what_is_known_of_the_columns_is_told(ws: epista.Workspace) -> None:
    ws.append("EXP-1/counts.parquet", frame(0, 3))
    ws.append("EXP-1/counts.parquet", frame(3, 5, value=[1.5, None]))

    table = ws.get("EXP-1/counts.parquet").table

    assert table is not None
    assert (table.rows, table.files) == (5, 2)
    assert [(one.name, one.type) for one in table.columns] == [("n", "int64"), ("well", "string"), ("value", "double")]
    assert (table.columns[0].min, table.columns[0].max, table.columns[0].nulls) == (0, 4, 0)
    html = ws.get("EXP-1/counts.parquet")._repr_html_()
    assert "5 rows, 3 columns, in 2 files" in html
    assert "A0 to A4" in html


def test_pandas_keeps_its_index_and_dtypes(ws: epista.Workspace) -> None:
    def part(start: int) -> pd.DataFrame:
        index = pd.Index([f"s{start}", f"s{start + 1}"], name="sample")
        data = {"value": pd.array([start, None], "Int64"), "when": pd.to_datetime(["2026-01-01", "2026-01-02"])}
        return pd.DataFrame(data, index=index)

    for start in (0, 2, 4):
        ws.append("EXP-1/counts.parquet", part(start))

    pd.testing.assert_frame_equal(ws("EXP-1/counts.parquet"), pd.concat([part(0), part(2), part(4)]))
    filtered = frame(0, 10)
    ws.append("EXP-1/filtered.parquet", filtered[filtered["n"] > 7])
    ws.append("EXP-1/filtered.parquet", filtered[filtered["n"] < 2])
    assert list(ws("EXP-1/filtered.parquet").columns) == ["n", "well"]
    assert ws("EXP-1/filtered.parquet")["n"].tolist() == [8, 9, 0, 1]


def test_a_table_can_be_deleted_restored_moved_and_put_anew(ws: epista.Workspace) -> None:
    for start in range(3):
        ws.append("EXP-1/counts.parquet", frame(start, start + 1))
    ws.delete("EXP-1/counts.parquet")
    ws.restore("EXP-1/counts.parquet")
    ws.move("EXP-1/counts.parquet", "EXP-2/moved.parquet")
    assert ws("EXP-2/moved.parquet")["n"].tolist() == [0, 1, 2]
    ws.restore("EXP-1/counts.parquet", version=2)
    assert ws("EXP-1/counts.parquet")["n"].tolist() == [0, 1]
    ws.append("EXP-1/counts.parquet", frame(7, 8))
    assert ws("EXP-1/counts.parquet")["n"].tolist() == [0, 1, 7]
    ws.put("EXP-1/counts.parquet", frame(9, 10))
    ws.append("EXP-1/counts.parquet", frame(10, 11))
    assert ws("EXP-1/counts.parquet")["n"].tolist() == [9, 10]
    ws.set_meta("EXP-1/counts.parquet", {"a": 1})
    assert ws("EXP-1/counts.parquet")["n"].tolist() == [9, 10]


def test_a_document_that_looks_like_a_list_of_files_is_a_document(ws: epista.Workspace, stored: Any) -> None:
    import hashlib

    from epista.server.stores import table_parts

    other = ws.put("SECRET/salaries.parquet", frame(0, 3))
    assert other.sha256
    forged = table_parts.manifest([other.sha256])
    ws.put("EXP-1/forged.parquet", forged)
    ws.put("EXP-1/forged.json", forged)

    assert ws.deserialize("EXP-1/forged.parquet", format="bytes") == forged
    assert ws.get("EXP-1/forged.parquet").sha256 == hashlib.sha256(forged).hexdigest()
    with pytest.raises(UnreadableError):
        ws.append("EXP-1/forged.parquet", frame(3, 4))
    # Also where just these bytes are the list of a table.
    ws.append("EXP-2/counts.parquet", frame(0, 1))
    ws.append("EXP-2/counts.parquet", frame(1, 2))
    parts = [one.sha256 for one in ws.versions("EXP-2/counts.parquet")]
    assert parts[0] is None
    ws.put("EXP-1/forged.json", table_parts.manifest([one or "" for one in parts]))
    assert ws.get("EXP-1/forged.json").table is None
    assert len(ws("EXP-2/counts.parquet")) == 2


def test_bytes_that_are_no_parquet_are_not_appended(http_ws: epista.Workspace) -> None:
    from epista.client.transfer import upload
    from epista.client.transfer.progress import Progress
    from epista.contract.tables import AppendRows

    http_ws.put("EXP-1/counts.parquet", frame(0, 1))
    for key in ("EXP-1/counts.parquet", "EXP-1/new.parquet"):
        sha256 = upload.send_bytes(http_ws, b"no parquet", Progress())
        with pytest.raises(UnreadableError):
            http_ws.wire.call("tables.append", AppendRows(workspace=http_ws.name, key=key, sha256=sha256), reply=epista.Asset)
        unknown = AppendRows(workspace=http_ws.name, key=key, sha256="0" * 64)
        with pytest.raises((NotFoundError, IntegrityError)):
            http_ws.wire.call("tables.append", unknown, reply=epista.Asset)
    assert http_ws.keys() == ["EXP-1/counts.parquet"]
