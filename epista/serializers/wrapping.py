"""
The gzip wrapping of keys that end in ``.gz`` or ``.bgz``.

Written without time and file name, alike on every system. ``.bgz`` is written as BGZF (gzip in blocks of at most 64 KiB, SAM
specification v1, section 4.1), as the tools that read that ending expect.
"""

from __future__ import annotations

import struct
import zlib

from epista.contract.errors import TooLargeError, UnreadableError

MAX_BYTES = 4 * 1024**3
"""The most that is unpacked, however large the packed file."""

MIN_BYTES = 256 * 1024**2
"""What is always unpacked."""

MAX_RATIO = 200
"""Between the two: how many times its packed size a file may become. Tables seldom reach 50, a bomb 1,000."""

_BGZF_BLOCK_BYTES = 65280
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_PIECE_BYTES = 128 * 1024


def wrap(data: bytes, *, blocks: bool = False) -> bytes:
    """Return *data* as gzip, or as BGZF *blocks*."""
    if not blocks:
        return _member(data, b"\x1f\x8b\x08\x00\0\0\0\0\x02\xff", b"")
    parts = []
    for start in range(0, len(data), _BGZF_BLOCK_BYTES):
        piece = data[start : start + _BGZF_BLOCK_BYTES]
        packed = _deflate(piece)
        # BSIZE: the whole block's length less one; 26 bytes stand around the packed data.
        extra = b"\x06\x00BC\x02\x00" + struct.pack("<H", len(packed) + 25)
        parts.append(_member(piece, b"\x1f\x8b\x08\x04\0\0\0\0\x00\xff", extra, packed))
    return b"".join(parts) + _BGZF_END


def unwrap(data: bytes, *, limit_bytes: int | None = None) -> bytes:
    """
    Return what gzip *data* holds, all members of it.

    Raises:
        TooLargeError: more than *limit_bytes*; nothing beyond it was unpacked.
        UnreadableError: no gzip, or cut off.
    """
    if limit_bytes is None:
        limit_bytes = min(MAX_BYTES, max(MIN_BYTES, MAX_RATIO * len(data)))
    out = bytearray()
    start = 0
    while start < len(data):
        member = zlib.decompressobj(wbits=31)
        pending = b""
        while not member.eof:
            if not pending:
                pending = data[start : start + _PIECE_BYTES]
                start += len(pending)
            if not pending:
                raise UnreadableError("the gzip data ends too early")
            try:
                out += member.decompress(pending, limit_bytes + 1 - len(out))
            except zlib.error as error:
                raise UnreadableError(f"no gzip data: {error}") from error
            if len(out) > limit_bytes:
                raise TooLargeError(
                    f"unpacks to more than {limit_bytes:,} bytes",
                    hint="fetch the file, or read it with format='bytes'",
                    details={"limit_bytes": limit_bytes},
                )
            pending = member.unconsumed_tail
        start -= len(member.unused_data)
        # Zeros after the last member are padding, as of tapes.
        if not any(data[start : start + 2]) and not any(data[start:]):
            break
    if not data:
        raise UnreadableError("no gzip data: the file is empty")
    return bytes(out)


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _member(data: bytes, header: bytes, extra: bytes, packed: bytes | None = None) -> bytes:
    packed = _deflate(data) if packed is None else packed
    return header + extra + packed + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
