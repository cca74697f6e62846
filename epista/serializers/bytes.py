"""Bytes as they are: what every key can be read as."""

from __future__ import annotations

from typing import Any

from epista.serializers.serializer import Serializer, is_a


def is_bytes(obj: object) -> bool:
    """Whether *obj* is bytes-like. Arrays are not, though they have buffers: their shape would be lost."""
    return isinstance(obj, bytes | bytearray | memoryview) or is_a(obj, ("pyarrow.Buffer",))


def write(obj: Any) -> bytes:
    """Return the bytes of anything bytes-like, as plain `bytes`."""
    return obj.tobytes() if isinstance(obj, memoryview) else bytes(obj)


def read(data: bytes) -> bytes:
    """Return the bytes."""
    return data


SERIALIZERS = (Serializer(name="bytes", takes="anything bytes-like", accepts=is_bytes, write=write, read=read),)
