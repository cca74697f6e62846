"""
TIFF and OME-TIFF: one array, as programs for images expect it. Sources: TIFF 6.0, and the OME data model of 2016-06.

Written with Deflate, in tiles where it is large; reduced levels are not written, since the lab makes them. Read is the first
image of a file at its full size, never another file that it names.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
import struct
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO

from epista.contract.errors import EpistaError, FormatError, TooLargeError, UnreadableError
from epista.serializers import wrapping
from epista.serializers.serializer import Options, Serializer, is_a, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA = "epista[image]"

TILED_PX = 1024
"""What is wider or higher than that is written in tiles, so that a region of it costs no more."""

TILE_PX = 512

MAX_PAGES = 65_536
"""How many pages a file may have that is read here."""

_MOST_TAGS = 4096
_SUB_IFDS = 330
_SILENT = logging.NullHandler()
_OME_TYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


def write(obj: Any) -> bytes:
    """Write an array ``(height, width)``, ``(height, width, 3 or 4)`` of 8 or 16 bits in colour, or a stack of planes."""
    array = _native(obj)
    if array.size == 1 and array.ndim > 4:
        # tifffile writes it, and fails when it looks for its axes: reshape_axes, in all versions until 2026.11.8 at least.
        raise FormatError(f"a single pixel with {array.ndim} dimensions cannot be read back; .npy takes it")
    is_colored = array.ndim > 2 and array.shape[-1] in (3, 4) and array.dtype.name in ("uint8", "uint16")
    return _written(array, is_colored=is_colored, metadata={})


def write_ome(
    obj: Any,
    *,
    axes: str | None = None,
    channels: list[str] | None = None,
    pixel_size_um: list[float] | float | None = None,
) -> bytes:
    """
    Write an array as OME-TIFF.

    *axes* says in letters what each of its dimensions is, of ``TCZYXS`` (S are the samples of a colour); of two dimensions they
    are ``YX``. *channels* are names, *pixel_size_um* the width and height of a pixel, or both in one number.
    """
    array = _native(obj)
    axes = _axes(array, axes)
    if array.dtype.name not in _OME_TYPES or (axes.endswith("S") and array.dtype.kind == "b"):
        raise FormatError(f"OME knows no pixels of {array.dtype}; .tif takes them", hint=f"it knows {', '.join(_OME_TYPES)}")
    if channels is not None and len(channels) != (count := array.shape[axes.index("C")] if "C" in axes else 1):
        raise FormatError(f"{len(channels)} names for {count} channel{'s' if count > 1 else ''}")
    told: dict[str, Any] = {"axes": axes}
    if channels:
        told["Channel"] = {"Name": channels} if "C" in axes else {"Name": channels[0]}
    if pixel_size_um is not None:
        across, down = pixel_size_um if isinstance(pixel_size_um, list) else (pixel_size_um,) * 2
        told |= {"PhysicalSizeX": across, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": down, "PhysicalSizeYUnit": "µm"}
    # Not one by chance: the same array twice is the same file.
    said = hashlib.sha256(f"{array.dtype} {array.shape} {told}".encode())
    said.update(array.data)
    told["UUID"] = f"urn:uuid:{uuid.UUID(bytes=said.digest()[:16], version=5)}"
    return _written(array, is_colored=axes.endswith("S"), metadata=told, ome=True)


def read(data: bytes, *, axes: str | None = None, **_: Any) -> Any:
    """
    Read the first image of a TIFF as an array, whatever kind of TIFF it is; with *axes*, with these dimensions in this order.

    Raises:
        UnreadableError: it is no TIFF, is cut or damaged, or has pixels in other files.
        TooLargeError: it says that it has more pixels than fit.
    """
    tifffile = _tifffile()
    try:
        check_pages(io.BytesIO(data))
        # Neither has a name: there is no folder in which other files could be looked for.
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False) as file:
            _refuse_other_files(file.ome_metadata or "")
            if not file.series:
                raise UnreadableError("the TIFF has no image")
            series = file.series[0]
            _check(series, len(data))
            if axes is None:
                return series.asarray(maxworkers=1)
            return _turned(series, axes)
    except EpistaError:
        raise
    except MemoryError as error:
        raise TooLargeError("the image takes more memory than there is", hint="ws.image.read_region reads a part") from error
    except Exception as error:
        raise UnreadableError(f"no TIFF that can be read: {str(error)[:200]}") from error


def check_pages(file: BinaryIO, most: int = MAX_PAGES) -> None:
    """
    Refuse a TIFF whose pages form a circle, in which tifffile would walk, and one with too many.

    Raises:
        UnreadableError: it has such pages.
    """
    import numpy as np

    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    count, offset = ("H", "I") if 42 in head[2:4] else ("Q", "Q")
    entry = np.dtype([("code", order + "u2"), ("type", order + "u2"), ("count", order + offset), ("value", order + offset)])
    at, pages, seen = 4 if offset == "I" else 8, 0, set[int]()
    while next_page := _number(file, at, order + offset):
        if next_page in seen:
            raise UnreadableError("the pages of the image form a circle")
        seen.add(next_page)
        tags = _number(file, next_page, order + count)
        if tags > _MOST_TAGS:
            return  # tifffile ends here too: what came before counts
        found = file.read(tags * entry.itemsize)
        entries = np.frombuffer(found[: len(found) // entry.itemsize * entry.itemsize], entry)
        pages += 1 + int(entries["count"][entries["code"] == _SUB_IFDS].clip(max=most).sum())
        if pages > most:
            raise UnreadableError(f"the image has more than {most:,} pages")
        at = file.tell()


def _tifffile() -> Any:
    # What it says of odd files is no error, or is one that is raised here.
    logging.getLogger("tifffile").addHandler(_SILENT)
    return require("tifffile", EXTRA)


def _number(file: BinaryIO, at: int, form: str) -> int:
    file.seek(at)
    data = file.read(struct.calcsize(form))
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0


def _refuse_other_files(xml: str) -> None:
    names = set(re.findall(r"""FileName\s*=\s*["']([^"']*)""", xml[: wrapping.MIN_BYTES]))
    if len(names) > 1 or "BinaryOnly" in xml:
        raise UnreadableError(
            "the pixels of this OME-TIFF are in several files", hint="write it as one file, for instance with bfconvert"
        )


def _check(series: Any, size: int) -> None:
    """Refuse an image that is not all there: tifffile would fill it with zeros."""
    if series.nbytes > wrapping.MAX_BYTES:
        raise TooLargeError(
            f"the image has {series.nbytes:,} bytes of pixels, and {wrapping.MAX_BYTES:,} are read whole",
            hint="ws.image.read_region reads a part",
        )
    if series.dataoffset is not None and series.dataoffset + series.nbytes > size:
        raise UnreadableError("the file is cut: pixels of the image are not in it")
    for page in series.pages:
        if page is None:
            raise UnreadableError("planes of the image are not in the file")
        segments = zip(page.dataoffsets, page.databytecounts, strict=False)
        wanted = math.prod(page.keyframe.chunked) if page.keyframe is not None else 0
        if len(series.pages) > 1 and len(page.dataoffsets) < wanted:
            raise UnreadableError("tiles of the image are not in the file")
        if any(offset + count > size for offset, count in segments):
            raise UnreadableError("the file is cut: pixels of the image are not in it")


def _turned(series: Any, axes: str) -> Any:
    """Return an image with all axes that were written, also those of length 1."""
    array, found = series.asarray(squeeze=False, maxworkers=1), series.get_axes(squeeze=False)
    if not set(axes) <= set(found):
        return series.asarray(maxworkers=1)
    rest = [at for at, axis in enumerate(found) if axis not in axes]
    if any(array.shape[at] != 1 for at in rest):
        return series.asarray(maxworkers=1)
    array = array.squeeze(tuple(rest))
    kept = [axis for axis in found if axis in axes]
    return array.transpose([kept.index(axis) for axis in axes])


def _native(obj: Any) -> NDArray[Any]:
    import numpy as np

    array = np.ascontiguousarray(obj)
    if is_a(obj, ("numpy.ma.MaskedArray",)):
        raise FormatError("the array is masked, and its mask would be lost; put .data and .mask as .npz")
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise FormatError(f"an image has numbers, and this array {array.dtype}; .npy takes it")
    if np.ndim(obj) < 2 or not array.size:
        raise FormatError(f"an image has a height and a width, and this array the shape {np.shape(obj)}; .npy takes it")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _axes(array: NDArray[Any], axes: str | None) -> str:
    if axes is None:
        if array.ndim != 2:
            raise FormatError(
                f"what are the {array.ndim} dimensions of this array? Say axes=, one letter for each",
                hint='axes="CYX" for channels, "ZYX" for a stack, "TYX" for a film, "YXS" for a picture in colours',
            )
        return "YX"
    if len(axes) != array.ndim or axes.removesuffix("S")[-2:] != "YX":
        raise FormatError(
            f"axes={axes!r} does not fit {array.ndim} dimensions: one letter for each, and Y and X last, or S after them"
        )
    if axes.endswith("S") and array.shape[-1] not in (3, 4):
        raise FormatError(f"a colour has 3 or 4 samples, not {array.shape[-1]}")
    return axes


def _written(array: NDArray[Any], *, is_colored: bool, metadata: dict[str, Any], ome: bool = False) -> bytes:
    tifffile = _tifffile()
    height, width = array.shape[-3:-1] if is_colored else array.shape[-2:]
    is_large = max(height, width) > TILED_PX
    out = io.BytesIO()
    with tifffile.TiffWriter(out, ome=ome, bigtiff=array.nbytes > 2**32 - 2**25) as file:
        file.write(
            array,
            photometric="rgb" if is_colored else "minisblack",
            planarconfig="contig" if is_colored else None,
            extrasamples=("unassalpha",) if is_colored and array.shape[-1] == 4 else None,
            compression="zlib",
            # Older programs know it for small numbers only.
            predictor=array.dtype.kind in "ui" and array.dtype.itemsize <= 2,
            tile=(TILE_PX, TILE_PX) if is_large else None,
            metadata=metadata,
        )
    return out.getvalue()


def _accepts(obj: object) -> bool:
    return is_a(obj, ("numpy.ndarray",))


def _check_options(options: Options) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name == "axes":
            letters = value.upper() if isinstance(value, str) else ""
            if not letters or len(set(letters)) < len(letters) or not set(letters) <= set("TCZYXS"):
                raise FormatError(f"option axes={value!r}: letters of TCZYXS, each once, are needed")
            checked[name] = letters
        elif name == "channels":
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
                raise FormatError(f"option channels={value!r}: a list of names is needed")
            checked[name] = list(names)
        else:
            sizes = list(value) if isinstance(value, list | tuple) else [value, value]
            are_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in sizes)
            if len(sizes) != 2 or not are_numbers or not all(0 < one < math.inf for one in sizes):
                raise FormatError(f"option {name}={value!r}: a length in micrometres, or a width and a height, is needed")
            checked[name] = [float(one) for one in sizes]
    return checked


_NEEDS = ("numpy", "tifffile", "imagecodecs")

SERIALIZERS = (
    Serializer(name="tiff", takes="a numpy array", accepts=_accepts, write=write, read=read, requires=_NEEDS, extra="image"),
    Serializer(
        name="ome-tiff",
        takes="a numpy array",
        accepts=_accepts,
        write=write_ome,
        read=read,
        options=("axes", "channels", "pixel_size_um"),
        check=_check_options,
        requires=_NEEDS,
        extra="image",
    ),
)
