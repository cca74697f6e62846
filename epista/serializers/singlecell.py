"""
AnnData: ``.h5ad``, zipped Zarr (``.zarr.zip``) and the count matrices of 10x Genomics (``.h5``).

Sources: the on-disk format of AnnData 0.12 (its page "fileformat-prose"), and 10x Genomics' "HDF5 Feature-Barcode Matrix Format".
All of it needs ``anndata``. Nothing is pickled: anndata refuses to write what only a pickle could hold.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from epista.contract.errors import FormatError, UnreadableError
from epista.serializers import zarr_stores
from epista.serializers.numpy import check_unpacked_size
from epista.serializers.serializer import Serializer, is_a, require

EXTRA = "epista[singlecell]"

_FEATURES = ("id", "name", "feature_type", "genome")


def write(obj: Any, *, compression: str | None = "gzip") -> bytes:
    """Write an AnnData as HDF5."""
    with tempfile.TemporaryDirectory(prefix="epista-") as folder:
        path = Path(folder) / "data.h5ad"
        obj.write_h5ad(path, compression=None if compression == "none" else compression)
        return path.read_bytes()


def read(data: bytes, *, compression: str | None = None) -> Any:
    """Read an AnnData from HDF5."""
    anndata = require("anndata", EXTRA)
    try:
        return anndata.read_h5ad(io.BytesIO(data))
    except _FAULTS as error:
        raise UnreadableError(f"no AnnData: {_first_line(error)}") from error


def read_zarr(data: bytes) -> Any:
    """Read an AnnData from a zip of Zarr; any other Zarr is refused."""
    anndata, storage = require("anndata", EXTRA), require("zarr.storage", EXTRA)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_unpacked_size(archive)
        with tempfile.NamedTemporaryFile(prefix="epista-", suffix=".zip") as file:
            file.write(data)
            file.flush()
            store = storage.ZipStore(file.name, mode="r")
            try:
                return anndata.read_zarr(zarr_stores.guarded(store))
            finally:
                store.close()
    except (zipfile.BadZipFile, *_FAULTS) as error:
        raise UnreadableError(f"no zip with an AnnData in Zarr: {_first_line(error)}") from error


def read_10x(data: bytes) -> Any:
    """Read the count matrix of a 10x Genomics file: cells in rows, features in columns."""
    anndata, h5py, sparse = require("anndata", EXTRA), require("h5py", EXTRA), require("scipy.sparse", EXTRA)
    import pandas as pd

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            if not isinstance(file.get("matrix/features"), h5py.Group):
                hint = "h5py.File(ws.open(ref)) reads any HDF5 file"
                raise FormatError("this HDF5 file is no matrix of 10x Genomics", hint=hint)
            matrix = file["matrix"]
            parts = tuple(matrix[name][:] for name in ("data", "indices", "indptr"))
            features, cells = int(matrix["shape"][0]), int(matrix["shape"][1])
            counts = sparse.csr_matrix(parts, shape=(cells, features))
            told = {
                name: _texts(matrix["features"][name])
                for name in ("id", "name", "feature_type", "genome")
                if name in matrix["features"]
            }
            barcodes = _texts(matrix["barcodes"])
    except FormatError:
        raise
    except _FAULTS as error:
        raise UnreadableError(f"no matrix of 10x Genomics: {_first_line(error)}") from error
    var = pd.DataFrame(told, index=told.get("id")).drop(columns="id", errors="ignore")
    return anndata.AnnData(X=counts, obs=pd.DataFrame(index=barcodes), var=var)


_FAULTS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, NotImplementedError)


def _texts(dataset: Any) -> list[str]:
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in dataset[:]]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _check(options: Any) -> dict[str, Any]:
    if options.get("compression", "gzip") not in ("gzip", "lzf", "none"):
        raise FormatError(f"option compression={options['compression']!r}: one of gzip, lzf, none is needed")
    return dict(options)


def _accepts(obj: object) -> bool:
    return is_a(obj, ("anndata.AnnData",))


_READ_ONLY: dict[str, Any] = {"takes": "nothing (it is only read; put AnnData as .h5ad)", "accepts": lambda obj: False}
SERIALIZERS = (
    Serializer(
        name="anndata",
        takes="an AnnData",
        accepts=_accepts,
        write=write,
        read=read,
        options=("compression",),
        check=_check,
        requires=("anndata",),
        extra="singlecell",
    ),
    Serializer(name="zarr", read=read_zarr, requires=("anndata",), extra="singlecell", **_READ_ONLY),
    Serializer(name="hdf5", read=read_10x, requires=("anndata",), extra="singlecell", **_READ_ONLY),
)
