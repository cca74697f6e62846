"""
Zarr (versions 2 and 3) in any file system of fsspec, for reading.

numcodecs, with which Zarr unpacks, has a codec that unpickles. Whatever names it is refused, in every document of metadata that
is read, before an array is made of it.
"""

from __future__ import annotations

import json
from typing import Any

from epista.contract.errors import EpistaError, UnreadableError
from epista.serializers.numpy import PICKLES
from epista.serializers.serializer import require

EXTRA = "epista[fs]"

_METADATA = (".zarray", ".zmetadata", "zarr.json")

_FAULTS = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    IndexError,
    NotImplementedError,
    RecursionError,
)


def opened(filesystem: Any, path: str) -> Any:
    """
    Open a group or an array.

    Raises:
        UnreadableError: there is none, or one that only unpickling could read.
        MissingExtraError: zarr or fsspec is not installed.
    """
    zarr, wrapper = require("zarr", "zarr"), require("fsspec.implementations.asyn_wrapper", EXTRA)
    store = zarr.storage.FsspecStore(wrapper.AsyncFileSystemWrapper(filesystem, asynchronous=True), read_only=True, path=path)
    try:
        return zarr.open(guarded(store), mode="r")
    except EpistaError:
        raise
    except _FAULTS as error:
        raise UnreadableError(f"no Zarr: {(str(error).splitlines() or [type(error).__name__])[0][:200]}") from error


def guarded(store: Any) -> Any:
    """Return a store of zarr that gives no metadata by which something would be unpickled."""
    zarr = require("zarr", "zarr")

    class Guarded(zarr.storage.WrapperStore):  # type: ignore[misc,name-defined]
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            found = await self._store.get(key, prototype, byte_range)
            if found is not None and key.rpartition("/")[2] in _METADATA:
                refuse_pickles(found.to_bytes())
            return found

    return Guarded(store)


def refuse_pickles(metadata: bytes) -> None:
    """
    Refuse metadata that names the codec which unpickles.

    Raises:
        UnreadableError: it does.
    """
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("no Zarr: its metadata is no JSON") from error
    left = [found]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            if any(node.get(name) in ("pickle", "numcodecs.pickle") for name in ("id", "name")):
                raise UnreadableError(f"its values are pickled: {PICKLES}")
            # What people say of an array is theirs.
            left += (value for name, value in node.items() if name != "attributes" and not name.endswith(".zattrs"))
