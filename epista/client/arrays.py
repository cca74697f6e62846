"""``ws.array``: arrays that are opened where they lie, and of which parts are read by range."""

from __future__ import annotations

import io
import math
import operator
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from epista.client import assets, objects
from epista.client.session import Session
from epista.contract.assets import AssetRef
from epista.contract.errors import FormatError, KeyNotFoundError, UnreadableError
from epista.serializers import numpy as npy
from epista.serializers import zarr_stores
from epista.serializers.serializer import require

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 64 * 1024
"""How much is read at least: what a library asks for is often a few bytes here and a few there."""

_BUFFER_BYTES = 4096

KEPT_BLOCKS = 256
"""How many of those are kept."""


class Arrays:
    """Arrays of numpy, HDF5 (AnnData too) and Zarr, opened and not read."""

    def __init__(self, host: Session) -> None:
        self._here = host

    def open(self, ref: str | AssetRef, *, version: str | int | None = None) -> Any:
        """
        Open an array; what is asked of it is read by range, and nothing else.

        A ``.npy`` file gives a `NpyArray`, ``.npz`` the ``NpzFile`` of numpy, ``.h5`` and ``.h5ad`` an ``h5py.File``, and a zip
        or a folder of Zarr a ``zarr.Group`` or a ``zarr.Array``. Nothing is unpickled. *version* is an id or a number; a folder
        has none.

        Raises:
            KeyNotFoundError: nothing is there.
            UnreadableError: it is not what its name says.
            FormatError: it is of another format.
            MissingExtraError: a package is needed, and not installed.
        """
        try:
            found = assets.get(self._here, ref)
        except KeyNotFoundError:
            if not isinstance(ref, str) or version is not None or not _is_folder(self._here, ref):
                raise
            return zarr_stores.opened(_filesystem(self._here), ref.removesuffix("/"))
        opener = _OPENERS.get(found.format)
        if opener is None:
            raise FormatError(f"{found.key!r} is {found.format}; opened are {', '.join(_OPENERS)}", hint="ws(key) reads it whole")
        raw = cast("io.RawIOBase", objects.open(self._here, ref, version=version).raw)
        return opener(cast("BinaryIO", io.BufferedReader(_Blocks(raw), _BUFFER_BYTES)))


class NpyArray:
    """An array in an ``.npy`` file; slices of it are read as numpy arrays. ``dask.array.from_array`` takes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head = npy.read_head(file)
        if file.seek(0, io.SEEK_END) != self._head.start + self._head.size_bytes:
            raise UnreadableError("there are fewer or more values than its header tells of")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many there are along each axis."""
        return self._head.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what type the values are."""
        return self._head.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self._head.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """
        Read a part, as numpy's indexing means it.

        Of the axis whose steps are the longest (the first one, or the last of an array in Fortran's order) only the rows from
        the first to the last that are wanted are read.
        """
        parts = self._parts(key)
        if parts is None:
            return self._rows(0, self.shape[self._outer] if self.shape else 1)[key]
        wanted = parts[self._outer]
        rows = range(self.shape[self._outer])
        if isinstance(wanted, slice):
            found = rows[wanted]
            first, stop = (min(found[0], found[-1]), max(found[0], found[-1]) + 1) if found else (0, 0)
            parts[self._outer] = slice(None, None, found.step)
        else:
            if not -len(rows) <= wanted < len(rows):
                raise IndexError(f"index {wanted} is out of bounds for axis {self._outer} with size {len(rows)}")
            first, stop = rows[wanted], rows[wanted] + 1
            parts[self._outer] = 0
        return self._rows(first, stop)[tuple(parts)]

    def _parts(self, key: Any) -> list[Any] | None:
        """Return what is wanted of each axis, whole numbers and slices; None for anything else: numpy knows what it means."""
        given = list(key) if isinstance(key, tuple) else [key]
        for at, part in enumerate(given):
            if part is Ellipsis:
                given[at : at + 1] = [slice(None)] * (self.ndim - len(given) + 1)
                break
        parts = [*given, *[slice(None)] * (self.ndim - len(given))]
        try:
            parts = [part if isinstance(part, slice) else operator.index(part) for part in parts]
        except TypeError:
            return None
        return parts if 0 < self.ndim == len(parts) and not any(isinstance(part, bool) for part in given) else None

    @property
    def _outer(self) -> int:
        return self.ndim - 1 if self._head.is_fortran else 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        return np.asarray(self[...], dtype)

    def __repr__(self) -> str:
        return f"<NpyArray {' x '.join(map(str, self.shape)) or 'one value'} {self.dtype}>"

    def _rows(self, first: int, stop: int) -> Any:
        """Read rows of the outermost axis."""
        shape = self.shape
        outer = shape[-1:] if self._head.is_fortran else shape[:1]
        row_bytes = self._head.size_bytes // outer[0] if outer and outer[0] else self._head.size_bytes
        size = (stop - first) * row_bytes
        self._file.seek(self._head.start + first * row_bytes)
        values = bytearray(size)
        if self._file.readinto(values) != size:  # type: ignore[attr-defined]
            raise UnreadableError("the file ends before its values do")
        if outer:
            shape = (*shape[:-1], stop - first) if self._head.is_fortran else (stop - first, *shape[1:])
        return npy.shaped(values, self._head._replace(shape=shape))


class _Blocks(io.RawIOBase):
    """A stream whose small reads are of blocks, some of which are kept."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw
        self._size = raw.seek(0, io.SEEK_END)
        self._at = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        stop = min(self._at + len(view), self._size)
        if stop - self._at > BLOCK_BYTES:
            self._raw.seek(self._at)
            count = self._raw.readinto(view[: stop - self._at]) or 0
        else:
            piece = b"".join(self._block(number) for number in range(self._at // BLOCK_BYTES, math.ceil(stop / BLOCK_BYTES)))
            piece = piece[self._at % BLOCK_BYTES :][: max(0, stop - self._at)]
            view[: len(piece)] = piece
            count = len(piece)
        self._at += count
        return count

    def _block(self, number: int) -> bytes:
        if number not in self._kept:
            self._raw.seek(number * BLOCK_BYTES)
            self._kept[number] = self._raw.read(min(BLOCK_BYTES, self._size - number * BLOCK_BYTES)) or b""
            if len(self._kept) > KEPT_BLOCKS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


def _npz(file: BinaryIO) -> Any:
    import numpy as np

    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableError(f"no zip of arrays: {error}") from error


def _hdf5(file: BinaryIO) -> Any:
    h5py = require("h5py", "epista[hdf5]")
    try:
        return h5py.File(file, "r")
    except OSError as error:
        raise UnreadableError(f"no HDF5: {error}") from error


def _zipped(file: BinaryIO) -> Any:
    zips = require("fsspec.implementations.zip", "epista[fs]")
    try:
        return zarr_stores.opened(zips.ZipFileSystem(file), "")
    except (zipfile.BadZipFile, OSError) as error:
        raise UnreadableError(f"no zip of Zarr: {error}") from error


_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "npy": NpyArray,
    "npz": _npz,
    "hdf5": _hdf5,
    "anndata": _hdf5,
    "zarr": _zipped,
    "ome-zarr": _zipped,
}
"""By the names of formats."""


def _is_folder(here: Session, ref: str) -> bool:
    found = assets.ls(here, ref)
    return any(True for _ in found.assets) or any(True for _ in found.folders)


def _filesystem(here: Session) -> Any:
    return require("epista.client.filesystem", "epista[fs]").EpistaFileSystem(session=here)
