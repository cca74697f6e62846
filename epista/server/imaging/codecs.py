"""
One tile of a TIFF: from its bytes to its pixels, by imagecodecs.

Nothing is unpacked beyond the size that the file declares, and what comes out smaller than the image needs is an error.
"""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from epista.server.imaging.index import Coding

BYTES = {
    5: "lzw",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34925: "lzma",
    34926: "zstd",
    50000: "zstd",
    50013: "deflate",
}
"""Compressions of bytes, by their number in TIFF, and the codec of each."""

JPEG = {6: "jpeg", 7: "jpeg", 33007: "jpeg", 34892: "jpeg8"}
"""JPEG, in its variants."""

PICTURES = {
    22610: "jpegxr",
    33003: "jpeg2k",
    33004: "jpeg2k",
    33005: "jpeg2k",
    34712: "jpeg2k",
    34927: "webp",
    34933: "png",
    34934: "jpegxr",
    50001: "webp",
    50002: "jpegxl",
    52546: "jpegxl",
}
"""Other compressions of pixels, which know their own shape."""

FAX = {2: "ccittrle", 3: "ccittfax3", 4: "ccittfax4"}

PREDICTORS = {1: "none", 2: "delta", 3: "floatpred"}

ERRORS = (RuntimeError, ValueError, TypeError, IndexError, struct.error)
"""What a codec raises for data that it cannot read; its own classes are all RuntimeError."""


class DamagedTileError(ValueError):
    """A tile is not what the file declares; the message completes "the tile ..."."""


def is_known(compression: int) -> bool:
    """Whether there is a codec."""
    return compression == 1 or any(compression in known for known in (BYTES, JPEG, PICTURES, FAX))


def decode(coding: Coding, data: bytes, tables: bytes, shape: tuple[int, int, int], needed: tuple[int, int]) -> NDArray[Any]:
    """
    Return the pixels of a tile as (height, width, samples), at least as high and wide as *needed* and at most as *shape*.

    Raises:
        DamagedTileError: it is damaged, or of another size.
        ImportError: this build of imagecodecs lacks the codec.
    """
    compression = coding.compression
    try:
        if compression in JPEG:
            tile = _jpeg(coding, data, tables, shape, needed)
        elif compression in PICTURES:
            tile = _picture(coding, data, shape)
        elif compression in FAX:
            tile = _fax(coding, data, shape)
        else:
            return _plain(coding, data, shape, needed)
    except ERRORS as error:
        if isinstance(error, DamagedTileError):
            raise
        raise DamagedTileError("cannot be decoded") from error
    if tile.dtype != np.dtype(coding.dtype).newbyteorder("="):
        raise DamagedTileError(f"has pixels of {tile.dtype}, not of {coding.dtype}")
    return tile


def _jpeg(coding: Coding, data: bytes, tables: bytes, shape: tuple[int, int, int], needed: tuple[int, int]) -> NDArray[Any]:
    frame = jpeg_frame(data)
    if not (needed[0] <= frame[0] <= shape[0] and needed[1] <= frame[1] <= shape[1] and frame[2] == shape[2]):
        raise DamagedTileError(f"says itself that it is {frame[1]} x {frame[0]} x {frame[2]}")
    # A decoder would fill what is missing with grey.
    if b"\xff\xd9" not in data[-4096:]:
        raise DamagedTileError("is cut")
    decode = getattr(imagecodecs, JPEG[coding.compression] + "_decode")
    options = {"bitspersample": coding.bits} if JPEG[coding.compression] == "jpeg" else {}
    pixels: NDArray[Any] = decode(
        data, tables=tables or None, colorspace=coding.colorspace, outcolorspace=coding.out_colorspace, **options
    )
    return pixels.reshape(frame)


def jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """Return height, width and number of components as the first frame of a JPEG declares them (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HHB", data, at + 5)
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise DamagedTileError("is no JPEG")


def _picture(coding: Coding, data: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    codec = PICTURES[coding.compression]
    if codec == "jpeg2k":
        # Its decoder takes memory for all that the codestream declares before it looks at what there is room for.
        start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
        right, lower, left, upper = struct.unpack_from(">IIII", data, start + 8) if start >= 0 else (0, 0, 0, 0)
        if (lower - upper, right - left) != shape[:2]:
            raise DamagedTileError("is of another size than the file declares")
    options = {"hasalpha": True} if codec == "webp" and shape[2] == 4 else {}
    out = np.empty(shape if shape[2] > 1 else shape[:2], np.dtype(coding.dtype).newbyteorder("="))
    pixels: NDArray[Any] = getattr(imagecodecs, f"{codec}_decode")(data, out=out, **options)
    return pixels.reshape(shape)


def _fax(coding: Coding, data: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    if coding.fill_order == 2:
        data = bytes(imagecodecs.bitorder_decode(data))
    options = {"t4options": coding.t4_options} if coding.compression == 3 else {}
    pixels: NDArray[Any] = getattr(imagecodecs, f"{FAX[coding.compression]}_decode")(data, shape[0], shape[1], **options)
    return pixels.reshape(shape).astype(coding.dtype, copy=False)


def _plain(coding: Coding, data: bytes, shape: tuple[int, int, int], needed: tuple[int, int]) -> NDArray[Any]:
    height, width, samples = shape
    dtype = np.dtype(coding.dtype)
    if coding.fill_order == 2:
        data = bytes(imagecodecs.bitorder_decode(data))
    if coding.compression != 1:
        size = height * width * samples * dtype.itemsize
        unpack = _lzw if coding.compression == 5 else getattr(imagecodecs, f"{BYTES[coding.compression]}_decode")
        data = unpack(data, out=size)
    pixels: NDArray[Any]
    if coding.bits == 8 * dtype.itemsize:
        pixels = np.frombuffer(data, dtype, count=min(len(data) // dtype.itemsize, height * width * samples))
    else:
        pixels = imagecodecs.packints_decode(data, dtype, coding.bits, runlen=width * samples)[: height * width * samples]
    # Some writers cut the last tiles of rows and columns to the image.
    for rows, columns in ((height, width), (needed[0], width), needed):
        if pixels.size == rows * columns * samples:
            pixels = pixels.reshape(rows, columns, samples)
            break
    else:
        if pixels.size < needed[0] * width * samples:
            raise DamagedTileError("has fewer pixels than the file declares")
        pixels = pixels[: pixels.size // (width * samples) * width * samples].reshape(-1, width, samples)
    if coding.predictor == 2:
        return np.asarray(imagecodecs.delta_decode(pixels.astype(dtype.newbyteorder("="), copy=False), axis=-2))
    if coding.predictor == 3:
        return np.asarray(imagecodecs.floatpred_decode(pixels, axis=-2))
    return pixels


def _lzw(data: bytes, out: int) -> Any:
    """Return at most *out* bytes; by libtiff, which takes two thirds of the time that imagecodecs' own decoder takes."""
    # As a picture of bytes in one row: ImageWidth, ImageLength, BitsPerSample, Compression, PhotometricInterpretation,
    # StripOffsets, SamplesPerPixel, RowsPerStrip, StripByteCounts.
    start = 8 + 2 + 9 * 12 + 4
    tags = ((256, out), (257, 1), (258, 8), (259, 5), (262, 1), (273, start), (277, 1), (278, 1), (279, len(data)))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    try:
        return imagecodecs.tiff_decode(b"".join((head, bytes(4), data))).reshape(-1)
    except (*ERRORS, ImportError):
        # It knows no tile that has fewer bytes than it should, of which the needed ones may be there.
        return imagecodecs.lzw_decode(data, out=out)
