"""The libraries that people use, on ``epista://``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars
import pyarrow.dataset
import pyarrow.parquet
import pytest
import zarr

import epista
from epista.client.filesystem import EpistaFileSystem
from tests.client.test_filesystem import Counting
from tests.conftest import Thread
from tests.makers import Server

FRAME = pd.DataFrame({"well": ["A1", "B2", "001"], "count": [17, 23, 5]})

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def current(http_ws: epista.Workspace) -> Iterator[epista.Workspace]:
    fsspec.register_implementation("epista", EpistaFileSystem, clobber=True)
    epista.use(http_ws)
    yield http_ws
    epista.use(None)
    EpistaFileSystem.clear_instance_cache()


@pytest.fixture
def counting(server: Server, server_thread: Thread) -> Counting:
    counting = Counting(server_thread.delegate.app)
    server_thread.delegate.app = counting
    return counting


def test_pandas(current: epista.Workspace) -> None:
    FRAME.to_parquet("epista://EXP-1/a.parquet")
    FRAME.to_csv("epista://EXP-1/a.csv", index=False)
    FRAME.to_csv("epista://EXP-1/a.csv.gz", index=False)
    FRAME.to_json("epista://EXP-1/a.json")
    FRAME.to_pickle("epista://EXP-1/a.pkl")

    pd.testing.assert_frame_equal(pd.read_parquet("epista://EXP-1/a.parquet"), FRAME)
    for name in ("a.csv", "a.csv.gz"):
        pd.testing.assert_frame_equal(pd.read_csv(f"epista://EXP-1/{name}", dtype={"well": str}), FRAME)
    pd.testing.assert_frame_equal(pd.read_json("epista://EXP-1/a.json", dtype={"well": str}), FRAME)
    pd.testing.assert_frame_equal(pd.read_pickle("epista://EXP-1/a.pkl"), FRAME)
    pd.testing.assert_frame_equal(current("EXP-1/a.parquet"), FRAME)
    with pytest.raises(FileNotFoundError):
        pd.read_csv("epista://EXP-1/no.csv")


def test_pandas_with_options(server: Server) -> None:
    epista.use(None)
    options = {"location": server.url, "token": server.manager, "workspace": "lab"}

    FRAME.to_parquet("epista://EXP-1/a.parquet", storage_options=options)

    pd.testing.assert_frame_equal(pd.read_parquet("epista://EXP-1/a.parquet", storage_options=options), FRAME)


def test_two_columns_of_a_large_file_are_less_than_the_file(current: epista.Workspace, counting: Counting) -> None:
    numbers = np.random.default_rng(1).random((200_000, 30))
    table = pd.DataFrame(numbers, columns=[f"c{number}" for number in range(30)])
    current.put("EXP-1/large.parquet", table, compression="none")
    size = current.get("EXP-1/large.parquet").size_bytes or 0
    counting.asked.clear()

    read = pd.read_parquet("epista://EXP-1/large.parquet", columns=["c3", "c20"])

    assert (read["c20"].to_numpy() == numbers[:, 20]).all()
    assert size > 40_000_000
    assert counting.content_bytes < size / 2
    assert counting.asked.total() < 20


def test_a_partitioned_dataset_of_arrow() -> None:
    fs = fsspec.filesystem("epista")
    table = pyarrow.table({"plate": ["p1", "p1", "p2"], "count": [1, 2, 3]})

    pyarrow.parquet.write_to_dataset(table, "EXP-1/set", partition_cols=["plate"], filesystem=fs)
    read = pyarrow.dataset.dataset("EXP-1/set", filesystem=fs, partitioning="hive")

    assert read.count_rows() == 3
    assert read.to_table(filter=pyarrow.dataset.field("plate") == "p2")["count"].to_pylist() == [3]


# dask says to pandas what pandas no longer wants to hear.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_dask(scheduler: str) -> None:
    import dask
    import dask.dataframe as dd

    with dask.config.set(scheduler=scheduler):
        frame = dd.from_pandas(pd.DataFrame({"a": range(1000), "b": range(1000)}), npartitions=4)  # type: ignore[no-untyped-call]
        frame.to_parquet("epista://EXP-1/parts.parquet")
        frame.to_csv("epista://EXP-1/parts/*.csv", index=False)

        assert dd.read_parquet("epista://EXP-1/parts.parquet", columns=["b"]).b.sum().compute() == 499500
        assert dd.read_csv("epista://EXP-1/parts/*.csv").a.sum().compute() == 499500


DASK = """
import sys
import dask, dask.dataframe as dd
import fsspec, epista
from epista.client.filesystem import EpistaFileSystem
fsspec.register_implementation("epista", EpistaFileSystem, clobber=True)
if __name__ == "__main__":
    epista.use(epista.Workspace(sys.argv[1]))
    with dask.config.set(scheduler="processes", num_workers=2):
        print(dd.read_csv("epista://parts/*.csv").a.sum().compute())
"""


def test_dask_in_processes_of_their_own(tmp_path: Path) -> None:
    with epista.Workspace(tmp_path / "lab") as ws:
        for part in range(3):
            ws.put(f"parts/{part}.csv", pd.DataFrame({"a": [1, 2, 3]}))
    (tmp_path / "work.py").write_text(DASK)

    done = subprocess.run([sys.executable, "work.py", "lab"], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.stdout == "18\n", done.stderr


def test_zarr(current: epista.Workspace, counting: Counting) -> None:
    values = np.arange(10_000, dtype="int32").reshape(100, 100)

    group = zarr.open_group("epista://EXP-1/a.zarr", mode="w")
    array = group.create_array("well", shape=(100, 100), chunks=(10, 10), dtype="int32")
    array[:] = values
    group.attrs["temp"] = 37

    again = zarr.open_group("epista://EXP-1/a.zarr", mode="r")
    assert np.array_equal(np.asarray(again["well"][:]), values)  # type: ignore[index]
    assert again.attrs["temp"] == 37
    assert list(again.array_keys()) == ["well"]
    assert len(current.keys("EXP-1/a.zarr/")) == 102
    counting.asked.clear()
    assert again["well"][5, 5] == 505  # type: ignore[index]
    assert counting.asked["content"] <= 2

    fresh = zarr.open_group("epista://EXP-1/a.zarr", mode="w")
    assert list(fresh.array_keys()) == []
    assert current.keys("EXP-1/a.zarr/") == ["EXP-1/a.zarr/zarr.json"]


def test_zarr_with_options_and_a_store(server: Server) -> None:
    epista.use(None)
    options = {"location": server.url, "token": server.manager}
    array = zarr.create_array("epista://EXP-1/b.zarr", shape=(50,), chunks=(10,), dtype="f8", storage_options=options)
    array[:] = 1.5

    read = zarr.open_array("epista://EXP-1/b.zarr", mode="r", storage_options=options)

    assert float(np.asarray(read[:]).sum()) == 75.0

    zarr.create_array("epista://EXP-1/c.zarr/x", shape=(5,), dtype="f8", storage_options=options)
    zarr.create_group("epista://EXP-1/c.zarr", storage_options=options)
    group = zarr.open_group("epista://EXP-1/c.zarr", storage_options=options)
    assert list(group.array_keys()) == ["x"]


def test_polars(current: epista.Workspace) -> None:
    frame = polars.DataFrame({"well": ["A1", "B2"], "count": [17, 23]})
    with fsspec.open("epista://EXP-1/a.parquet", "wb") as sink:
        frame.write_parquet(sink)
    with fsspec.open("epista://EXP-1/a.csv", "wb") as sink:
        frame.write_csv(sink)

    with fsspec.open("epista://EXP-1/a.parquet") as source:
        assert polars.read_parquet(source, columns=["count"])["count"].to_list() == [17, 23]
    with fsspec.open("epista://EXP-1/a.csv") as source:
        assert polars.read_csv(source).equals(frame)
    dataset = pyarrow.dataset.dataset("EXP-1/a.parquet", filesystem=fsspec.filesystem("epista"))
    assert polars.scan_pyarrow_dataset(dataset).filter(polars.col("count") > 20).collect()["well"].to_list() == ["B2"]


def test_duckdb(current: epista.Workspace) -> None:
    current.put("EXP-1/a.parquet", FRAME)
    current.put("EXP-2/a.parquet", FRAME)
    connection = duckdb.connect()
    connection.register_filesystem(fsspec.filesystem("epista"))

    assert connection.sql("SELECT sum(count) FROM 'epista://EXP-1/a.parquet'").fetchall() == [(45,)]
    assert connection.sql("SELECT sum(count) FROM 'epista://EXP-*/a.parquet'").fetchall() == [(90,)]
    connection.sql("COPY (SELECT 1 AS one) TO 'epista://EXP-1/out.csv'")
    assert current("EXP-1/out.csv")["one"].to_list() == [1]
    assert connection.sql("SELECT one FROM read_csv('epista://EXP-1/out.csv')").fetchall() == [(1,)]
    connection.close()


def test_local_caches_of_fsspec(current: epista.Workspace, tmp_path: Path) -> None:
    current.put("EXP-1/a.txt", "hello")

    with fsspec.open("simplecache::epista://EXP-1/a.txt", simplecache={"cache_storage": str(tmp_path)}) as file:
        assert file.read() == b"hello"


INSTALLED = """
import sys, fsspec
with fsspec.open("epista://EXP-1/a.txt", "rt", location=sys.argv[1], token=sys.argv[2]) as file:
    print(file.read())
"""


def test_fsspec_finds_it_when_epista_is_installed(current: epista.Workspace, server: Server, tmp_path: Path) -> None:
    current.put("EXP-1/a.txt", "hello")
    # What pip writes about the package, without the package.
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

    done = subprocess.run(
        [sys.executable, "-c", INSTALLED, server.url, server.manager],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.stdout == "hello\n", done.stderr
