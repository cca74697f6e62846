"""
numpy arrays: ``.npy`` for one, ``.npz`` for a dict of them. Source: numpy's NEP 1.

Dtype, shape and memory order are kept. Object arrays are pickles, so they are neither written nor read.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from epista.contract.errors import FormatError, TooLargeError, UnreadableError
from epista.serializers import wrapping
from epista.serializers.serializer import Serializer, is_a


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

    stream = io.BytesIO(data)
    try:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, TypeError, OverflowError, MemoryError) as error:
        raise UnreadableError(f"no array: {error}") from error
    if stream.read(1):
        raise UnreadableError("there are bytes after the array")
    return array


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
    except zipfile.BadZipFile as error:
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
