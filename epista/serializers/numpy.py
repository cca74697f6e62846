"""
numpy arrays: ``.npy`` for one, ``.npz`` for a dict of them. Source: numpy's NEP 1, format versions 1 to 3.

Dtype, shape and memory order are kept. Object arrays are pickles, so they are neither written nor read.
"""

from __future__ import annotations

import ast
import io
import math
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from epista.contract.errors import EpistaError, FormatError, TooLargeError, UnreadableError
from epista.serializers import wrapping
from epista.serializers.serializer import Serializer, is_a

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\x93NUMPY"

PICKLES = "pickles run what their author wrote, and are never read"

MAX_HEADER_BYTES = 64 * 1024
"""How long the header of a file may be; one of a plain array has a hundred bytes."""


class Head(NamedTuple):
    """What stands before the values of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    """Whether the first index changes fastest."""
    start: int
    """Where the values begin, in bytes."""

    @property
    def size_bytes(self) -> int:
        """Of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_head(file: BinaryIO) -> Head:
    """
    Read what stands before the values.

    Raises:
        UnreadableError: it is no ``.npy``, or its values are Python objects, which are pickles.
    """
    import numpy as np

    magic = file.read(8)
    if magic[:6] != MAGIC or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise UnreadableError("no array: it does not begin as an .npy file does")
    width = 2 if magic[6] == 1 else 4
    size = int.from_bytes(file.read(width), "little")
    if size > MAX_HEADER_BYTES:
        raise UnreadableError(f"no array: a header of {size:,} bytes")
    try:
        told = ast.literal_eval(file.read(size).decode("utf-8" if magic[6] == 3 else "latin-1"))
        shape, is_fortran = told["shape"], told["fortran_order"]
        dtype = np.lib.format.descr_to_dtype(told["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise UnreadableError("no array: its header cannot be read") from error
    is_shape = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not is_shape or not isinstance(is_fortran, bool):
        raise UnreadableError("no array: its header tells of no shape")
    if dtype.hasobject:
        raise UnreadableError(
            "it holds Python objects, which are pickles, and those are never read: they run what their author wrote"
        )
    return Head(shape, dtype, is_fortran, 8 + width + size)


def write(obj: Any) -> bytes:
    """Write one array; a numpy scalar is an array without dimensions."""
    import numpy as np

    _refuse_lossy(obj, "the array")
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(obj), allow_pickle=False)
    return out.getvalue()


def read(data: bytes) -> Any:
    """Read one array."""
    import numpy as np

    head = read_head(io.BytesIO(data))
    # Before anything is set aside for it: a header may tell of any size.
    if head.size_bytes != len(data) - head.start:
        raise UnreadableError(
            f"its header tells of {head.size_bytes:,} bytes of values, and there are {len(data) - head.start:,}"
        )
    return shaped(np.frombuffer(bytearray(data[head.start :]), np.uint8), head)


def shaped(values: Any, head: Head) -> Any:
    """Return bytes as the array that *head* tells of."""
    import numpy as np

    try:
        # Not `view`, nor `frombuffer`: items may have no bytes.
        return np.ndarray(head.shape, head.dtype, values, order="F" if head.is_fortran else "C")
    except (ValueError, TypeError) as error:
        raise UnreadableError(f"no array: {error}") from error


def write_dict(obj: Any) -> bytes:
    """Write a dict of arrays as a zip of ``.npy`` files."""
    out = io.BytesIO()
    # Not numpy.savez: it takes the names "file" and "allow_pickle" for its own arguments.
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in obj.items():
            _refuse_lossy(array, f"{name!r}")
            # A ZipInfo of one's own is dated 1980, not now.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), write(array))
    return out.getvalue()


def read_dict(data: bytes) -> dict[str, Any]:
    """Read a dict of arrays."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            check_unpacked_size(archive)
            return {info.filename.removesuffix(".npy"): read(archive.read(info)) for info in archive.infolist()}
    except EpistaError:
        raise
    # Of a damaged directory zipfile says many things: a place before the file, a way of packing that nobody knows, a password.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, IndexError, struct.error) as error:
        raise UnreadableError(f"no zip of arrays: {error}") from error


def check_unpacked_size(archive: zipfile.ZipFile) -> None:
    """Refuse a zip that says it unpacks to more than any file may; zipfile reads no more than a member says."""
    if sum(info.file_size for info in archive.infolist()) > wrapping.MAX_BYTES:
        raise TooLargeError(f"unpacks to more than {wrapping.MAX_BYTES:,} bytes", details={"limit_bytes": wrapping.MAX_BYTES})


def _refuse_lossy(array: Any, what: str) -> None:
    if array.dtype.hasobject:
        raise FormatError(f"{what} holds Python objects (dtype {array.dtype}), which only pickle could write")
    if is_a(array, ("numpy.ma.MaskedArray",)):
        raise FormatError(f"{what} is a masked array, whose mask would be lost; put .data and .mask as .npz")


def _is_array(obj: object) -> bool:
    return is_a(obj, ("numpy.ndarray", "numpy.generic"))


def _is_dict(obj: object) -> bool:
    return isinstance(obj, dict) and all(isinstance(name, str) and _is_array(item) for name, item in obj.items())


SERIALIZERS = (
    Serializer(name="npy", takes="a numpy array", accepts=_is_array, write=write, read=read, requires=("numpy",)),
    Serializer(
        name="npz", takes="a dict of numpy arrays", accepts=_is_dict, write=write_dict, read=read_dict, requires=("numpy",)
    ),
)
