"""AnnData, in the environment that has it: real files, and what is put."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import epista
from epista.serializers import singlecell
from epista.serializers.conversion import deserialize, serialize
from tests.makers import Server

REAL = Path(__file__).parents[3] / "shared" / "data" / "singlecell"

pytestmark = pytest.mark.singlecell


@pytest.fixture
def data() -> Any:
    import anndata

    return anndata.AnnData(
        X=np.arange(6, dtype="float32").reshape(3, 2),
        obs=pd.DataFrame({"cluster": ["T", "B", "T"]}, index=["c1", "c2", "c3"]),
        var=pd.DataFrame(index=["CD3", "CD19"]),
    )


def test_anndata_survives(data: Any) -> None:
    done = serialize("EXP-1/cells.h5ad", data)

    back: Any = deserialize("EXP-1/cells.h5ad", done.data, recorded_format=done.format, recorded_options=done.options)

    assert done.format == "anndata"
    assert np.array_equal(back.X, data.X)
    assert back.obs["cluster"].tolist() == ["T", "B", "T"]
    assert list(back.var_names) == ["CD3", "CD19"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of what will be the default in a next release
def test_a_zip_of_zarr_is_read(data: Any, tmp_path: Path) -> None:
    import anndata

    with anndata.settings.override(zarr_write_format=3):
        data.write_zarr(tmp_path / "cells.zarr")
    packed = shutil.make_archive(str(tmp_path / "cells.zarr"), "zip", tmp_path / "cells.zarr")

    cells = singlecell.read_zarr(Path(packed).read_bytes())

    assert np.array_equal(cells.X, data.X)
    assert list(cells.obs_names) == ["c1", "c2", "c3"]


@pytest.mark.real_data
def test_a_matrix_of_10x_is_read() -> None:
    if not REAL.is_dir():
        return

    matrix = singlecell.read_10x((REAL / "filtered_feature_bc_matrix.h5").read_bytes())

    assert matrix.shape == (1107, 507)
    assert matrix.X.nnz == 23866
    assert set(matrix.var["feature_type"]) >= {"Gene Expression"}


@pytest.mark.parametrize("read", [singlecell.read, singlecell.read_zarr, singlecell.read_10x])
def test_what_is_none_is_refused(read: Any) -> None:
    with pytest.raises(epista.UnreadableError):
        read(b"no such file" * 100)


def test_other_hdf5_files_are_refused_with_a_way_to_read_them() -> None:
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["a"] = [1, 2, 3]

    with pytest.raises(epista.FormatError, match="no matrix of 10x"):
        singlecell.read_10x(out.getvalue())


def test_a_part_of_a_large_file_is_read_by_range(data: Any, server: Server) -> None:
    import h5py

    with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
        ws.put("EXP-1/cells.h5ad", data)

        with h5py.File(ws.open("EXP-1/cells.h5ad"), "r") as file:
            assert file["X"][1].tolist() == [2, 3]
        assert list(ws("EXP-1/cells.h5ad").obs_names) == ["c1", "c2", "c3"]
