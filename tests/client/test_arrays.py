"""``ws.array``: arrays opened where they lie; a part of one costs the bytes of the part."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
import zarr.storage
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import epista
from epista.client.arrays import BLOCK_BYTES, NpyArray
from tests.client.test_filesystem import Counting
from tests.conftest import Thread
from tests.makers import Server

BIG = np.arange(3_000_000, dtype="int32").reshape(3000, 1000)


@pytest.fixture
def counting(server: Server, server_thread: Thread) -> Counting:
    counting = Counting(server_thread.delegate.app)
    server_thread.delegate.app = counting
    return counting


def saved(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def written(ws: epista.Workspace, folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return ws.put_file(f"EXP-1/{name}", folder / name).key


def zipped(folder: Path) -> bytes:
    store = zarr.storage.ZipStore(folder / "made.zip", mode="w")
    group = zarr.open_group(store, mode="w")
    group.create_array("counts", shape=BIG.shape, chunks=(100, 1000), dtype="int32", compressors=None)[:] = BIG
    store.close()
    return (folder / "made.zip").read_bytes()


def hdf5() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["counts"] = BIG
    return out.getvalue()


@pytest.mark.parametrize("name", ["big.npy", "big.h5", "big.h5ad", "big.zarr.zip"])
def test_a_part_costs_its_bytes(http_ws: epista.Workspace, counting: Counting, tmp_path: Path, name: str) -> None:
    make: dict[str, Callable[[], bytes]] = {"npy": lambda: saved(BIG), "zip": lambda: zipped(tmp_path)}
    data = make.get(name.rpartition(".")[2], hdf5)()
    key = written(http_ws, tmp_path, name, data)
    counting.content_bytes = 0

    found = http_ws.array.open(key)
    part = (found if name == "big.npy" else found["counts"])[2000:2010]

    assert np.array_equal(part, BIG[2000:2010])
    assert counting.content_bytes < 700_000 < len(data) / 15


def test_a_folder_of_zarr_is_opened_chunk_by_chunk(http_ws: epista.Workspace, counting: Counting, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("counts", shape=BIG.shape, chunks=(100, 1000), dtype="int32")[:] = BIG
    http_ws.put_dir("EXP-1/a.zarr", tmp_path / "a.zarr")
    counting.content_bytes = 0

    found = http_ws.array.open("EXP-1/a.zarr")["counts"]

    assert found[2999, 999] == BIG[2999, 999]
    assert counting.content_bytes < BIG.nbytes / 20
    assert "EXP-1/a.zarr/counts/c/29/0" in {one.key for one in http_ws.put("EXP-1/n.json", {}).lineage.inputs}


def test_arrays_of_one_file_are_opened_by_name(http_ws: epista.Workspace) -> None:
    http_ws.put("EXP-1/two.npz", {"a": np.arange(3), "b": np.zeros((2, 2))})

    found = http_ws.array.open("EXP-1/two.npz")

    assert found.files == ["a", "b"]
    assert found["a"].tolist() == [0, 1, 2]


def test_an_older_version_is_opened_as_it_was(http_ws: epista.Workspace) -> None:
    http_ws.put("EXP-1/a.npy", np.arange(3))
    http_ws.put("EXP-1/a.npy", np.arange(9))

    assert np.asarray(http_ws.array.open("EXP-1/a.npy", version=1)).tolist() == [0, 1, 2]
    assert repr(http_ws.array.open("EXP-1/a.npy")) == "<NpyArray 9 int64>"


SLICES = st.slices(5) | st.slices(20)
INDICES = st.integers(-6, 6) | SLICES | st.just(...)


@given(
    array=arrays.arrays(st.sampled_from(["<i4", ">f8", "|u1", "<U3"]), arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)),
    is_fortran=st.booleans(),
    key=INDICES | st.lists(INDICES, max_size=4).map(tuple) | st.lists(st.integers(0, 3), max_size=3) | st.none(),
)
def test_indexing_is_that_of_numpy(array: Any, is_fortran: bool, key: Any) -> None:
    array = np.asfortranarray(array) if is_fortran else array
    lazy = NpyArray(io.BytesIO(saved(array)))
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(IndexError):
            lazy[key]
        return

    found = lazy[key]

    assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_an_array_without_axes_is_one_value() -> None:
    lazy = NpyArray(io.BytesIO(saved(np.float32(1.5))))

    assert (lazy.shape, float(lazy[()]), float(np.asarray(lazy))) == ((), 1.5, 1.5)
    with pytest.raises(TypeError):
        len(lazy)


class Pickled:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def header(descr: str, shape: str, *, version: int = 1) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([Pickled()], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (OBJECTS.getvalue(), "never read"),
        (header("'<f8'", "(1000000000000000,)") + b"x" * 100, "values"),
        (header("'<f8'", "(10**9,)"), "header"),
        (header("'<f8'", "(-1,)") + b"x" * 8, "no shape"),
        (header("'<f8'", "[1]") + b"x" * 8, "no shape"),
        (header("'<f8'", "(True,)") + b"x" * 8, "no shape"),
        (header("'|O'", "(1,)"), "never read"),
        (header("('<f8', 'x')", "(1,)"), "header"),
        (header("'<f8'", "(1,)")[:-20], "header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "a header of"),
        (b"\x93NUMPY\x09\x00", "does not begin"),
        (b"", "does not begin"),
        (header("'<f8'", "(2,)") + b"x" * 9, "values"),
        (header("'<f8'", "(2,)") + b"x" * 17, "values"),
        (header("'|u1'", str((1,) * 100)) + b"x", "no array"),
    ],
    ids=lambda one: None if isinstance(one, bytes) else str(one),
)
def test_a_header_is_not_believed(http_ws: epista.Workspace, tmp_path: Path, data: bytes, message: str) -> None:
    key = written(http_ws, tmp_path, "a.npy", data)

    with pytest.raises(epista.UnreadableError, match=message):
        http_ws(key)
    with pytest.raises(epista.UnreadableError, match=message):
        http_ws.array.open(key)[...]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_format_is_read(version: int) -> None:
    data = header("[('n', '<i2'), ('x', '<f4', (2,))]", "(1,)", version=version) + bytes(10)

    assert NpyArray(io.BytesIO(data))[0]["x"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("place", ["compressor", "filters", "codecs"])
def test_zarr_that_would_be_unpickled_is_refused(http_ws: epista.Workspace, tmp_path: Path, place: str) -> None:
    told: dict[str, Any] = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C"}
    told |= {"compressor": None, "filters": None} | {place: [{"id": "pickle", "protocol": 5}]}
    told["compressor"] = {"id": "pickle"} if place == "compressor" else None
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr(".zgroup", '{"zarr_format": 2}')
        archive.writestr("x/.zattrs", '{"name": "pickle"}')
        archive.writestr("x/.zarray", json.dumps(told))
    key = written(http_ws, tmp_path, "a.zarr.zip", (tmp_path / "made.zip").read_bytes())

    with pytest.raises(epista.UnreadableError, match="never read"):
        http_ws.array.open(key)["x"]


@pytest.mark.parametrize("name", ["a.h5", "a.zarr.zip", "a.npz", "a.npy"])
@pytest.mark.parametrize("data", [b"", b"no such thing"], ids=["empty", "noise"])
def test_what_is_none_is_unreadable(http_ws: epista.Workspace, tmp_path: Path, name: str, data: bytes) -> None:
    key = written(http_ws, tmp_path, name, data)

    with pytest.raises(epista.UnreadableError):
        http_ws.array.open(key)


@pytest.mark.parametrize("metadata", ["[", "[]", '{"zarr_format": 3, "node_type": "array", "shape": [-1]}'])
def test_zarr_with_metadata_that_is_none_is_unreadable(http_ws: epista.Workspace, tmp_path: Path, metadata: str) -> None:
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("zarr.json", metadata)
    key = written(http_ws, tmp_path, "a.zarr.zip", (tmp_path / "made.zip").read_bytes())

    with pytest.raises(epista.UnreadableError, match="no Zarr"):
        http_ws.array.open(key)


def test_another_format_and_nothing_at_all_are_said_to_be_so(http_ws: epista.Workspace) -> None:
    http_ws.put("EXP-1/a.txt", "x")

    with pytest.raises(epista.FormatError, match=r"is text; opened are npy"):
        http_ws.array.open("EXP-1/a.txt")
    with pytest.raises(epista.KeyNotFoundError):
        http_ws.array.open("EXP-1/b.zarr")
    with pytest.raises(epista.UnreadableError, match="no Zarr"):
        http_ws.array.open("EXP-1")


def test_small_reads_are_of_blocks_and_large_ones_of_what_is_wanted(
    http_ws: epista.Workspace, counting: Counting, tmp_path: Path
) -> None:
    key = written(http_ws, tmp_path, "big.npy", saved(BIG))
    counting.asked.clear()
    counting.content_bytes = 0

    lazy = http_ws.array.open(key)
    values = [lazy[0, column] for column in range(50)]

    assert values == list(range(50))
    assert counting.asked["content"] == 1
    assert counting.content_bytes == BLOCK_BYTES
