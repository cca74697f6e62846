"""
TIFF and what is built on it: OME-TIFF, SVS, ImageJ, pyramids in SubIFDs or in pages (TIFF 6.0, BigTIFF and supplements).

tifffile reads the headers, once, and is dropped; what stays is the index, from which any thread reads tiles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec
import numpy as np
import tifffile
from numpy.typing import NDArray

from epista.contract.errors import EpistaError, UnreadableError, UnreadableImageError
from epista.serializers.tiff import check_pages
from epista.server.imaging import codecs, ome
from epista.server.imaging.cache import TileCache
from epista.server.imaging.codecs import DamagedTileError
from epista.server.imaging.index import (
    MAX_HEADER_BYTES,
    MAX_PAGES,
    MAX_PROPERTY_CHARACTERS,
    MAX_TILE_BYTES,
    MAX_TILES,
    Channel,
    Coding,
    Index,
    Level,
    Plane,
    Scene,
    Where,
)
from epista.server.imaging.sources import Blocks, Source

STRIP_BYTES = 256 * 1024
"""How many bytes of rows are read at once where a file has them uncompressed in longer strips."""

_BATCH_BYTES = 16 * 1024**2
_MINISWHITE, _RGB, _PALETTE, _YCBCR = 0, 2, 3, 6
_NAMES = {"ome": "OME-TIFF", "svs": "SVS", "imagej": "ImageJ TIFF"}
_MICROMETRES = ("micron", "microns", "um", "µm", "μm", "\\u00B5m")
_PROPERTIES = {"Make": 271, "Model": 272, "Software": 305, "DateTime": 306}
_ALPHA = (1, 2)
_NOWHERE = 2**63


def is_tiff(head: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF does."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_index(source: Source) -> Index:
    """
    Read the headers of a TIFF.

    Raises:
        UnreadableImageError: they are damaged, longer than they may be, or speak of other files.
    """
    try:
        check_pages(cast(BinaryIO, Blocks(source, budget=MAX_HEADER_BYTES)), MAX_PAGES)
    except UnreadableImageError:
        raise
    except UnreadableError as error:
        raise UnreadableImageError(error.message) from None
    file = Blocks(source, budget=MAX_HEADER_BYTES)
    try:
        with tifffile.TiffFile(file) as tiff:  # type: ignore[arg-type]
            document = ome.read(tiff.ome_metadata) if tiff.ome_metadata else None
            if document is None:
                return _index(tiff, None, source.size)
        # Again, with XML in which no file has a name; a TIFF begins where its file stands.
        file.seek(0)
        with tifffile.TiffFile(file, omexml=document.xml) as tiff:  # type: ignore[arg-type]
            return _index(tiff, document, source.size)
    except EpistaError:
        raise
    except MemoryError as error:
        raise UnreadableImageError("the headers of the image need more memory than they may") from error
    except Exception as error:
        message = "the image has more headers than may be read" if file.is_spent else "the headers of the image are damaged"
        raise UnreadableImageError(message) from error


def ome_xml(source: Source) -> str:
    """Return the OME-XML of a file whose index was read; empty if it has none."""
    with tifffile.TiffFile(Blocks(source, budget=MAX_HEADER_BYTES)) as tiff:  # type: ignore[arg-type]
        return tiff.ome_metadata or ""


def _index(tiff: tifffile.TiffFile, document: ome.Document | None, size: int) -> Index:
    series, warnings = tiff.series, []
    kind = series[0].kind if series else ""
    if (kind == "ome" and document is None) or (kind != "ome" and document is not None):
        warnings.append("the OME-XML does not fit the pages, which are read without it")
        document = None
    hidden: tuple[str, ...] = ()
    if kind == "svs":
        hidden = tuple(one.name for one in series[1:] if one.name != "Thumbnail")
        series = series[:1]
    scenes = [scene for one in series if (scene := _scene(tiff, one, document, size, warnings)) is not None]
    if not scenes:
        raise UnreadableImageError("the image has no pixels")
    return Index(
        reader="tiff",
        format=_NAMES.get(kind, "TIFF"),
        scenes=tuple(scenes),
        hidden=hidden,
        properties=_properties(tiff),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _scene(tiff: tifffile.TiffFile, series: Any, document: ome.Document | None, size: int, warnings: list[str]) -> Scene | None:
    key = series.keyframe
    number = int(series.name) if document else None
    described = document.images[number] if document and number is not None else None
    if 0 in key.shaped or not math.prod(series.get_shape(squeeze=False)):
        return None
    stack = _stack(series, warnings)
    levels = []
    for one in series.levels:
        try:
            found = stack if one is series else _stack(one, [])
        except UnreadableImageError:
            found = None
        if found is None or found.shape != stack.shape or one.dtype != series.dtype:
            warnings.append("a level that does not have the planes of the first is left out")
            continue
        levels.append(_level(one, found.ravel(), size, warnings))
    if series.transform is not None:
        warnings.append("the file says that its values stand for others; they are given as stored")
    samples = key.shaped[-1]
    size_t, size_z, groups = stack.shape
    width_um, distance_um = _pixel_size(tiff, series, described)
    return Scene(
        name=described.name if described else series.name,
        ome_image=number,
        dtype=np.dtype(series.dtype).newbyteorder("=").str,
        size_z=size_z,
        size_t=size_t,
        channels=_channels(tiff, key, groups, samples, described),
        samples=samples,
        levels=tuple(levels),
        pixel_size_um=width_um,
        plane_distance_um=distance_um,
        is_white_zero=key.photometric == _MINISWHITE,
        palette=b"" if key.photometric != _PALETTE or key.colormap is None else key.colormap.astype("<u2").tobytes(),
    )


def _stack(series: Any, warnings: list[str]) -> NDArray[np.int64]:
    """
    Return the numbers of a series' planes as (t, z, channel).

    A page holds one plane, or one for each sample if they are stored apart; pages go as the axes before Y and X do, the
    last of them fastest.
    """
    key, axes, shape = series.keyframe, series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    _, depth, height, width, samples = key.shaped
    if depth > 1:
        raise UnreadableImageError("the image has pages with a depth, which are not supported")
    if samples > 1 or (len(axes) > 2 and axes[-3:-1] == "YX"):
        shape, axes, last = shape[:-1], axes[:-1], shape[-1]
    else:
        last = 1
    if axes[-2:] != "YX" or shape[-2:] != (height, width) or last != samples:
        raise UnreadableImageError(f"the axes of the image ({axes}) are not supported")
    sizes = dict(zip(axes[:-2], shape[:-2], strict=True))
    if len(sizes) < len(axes) - 2:
        raise UnreadableImageError(f"the axes of the image ({axes}) are not supported")
    if math.prod(sizes.values()) > MAX_PAGES:
        raise UnreadableImageError(f"the image has more than {MAX_PAGES:,} planes")
    for axis, length in sizes.items():
        if axis not in "TZCS" and length > 1:
            unlabelled = axis in "IQ"
            warnings.append(f"the {'unlabelled axis' if unlabelled else f'axis {axis}'} of length {length} is counted as z")
    numbers = np.arange(math.prod(sizes.values())).reshape([*sizes.values()])
    order = {"T": 0, "C": 2, "S": 2}
    numbers = numbers.transpose(sorted(range(len(sizes)), key=lambda at: order.get([*sizes][at], 1)))
    size_t, groups = sizes.get("T", 1), sizes.get("C", 1) * sizes.get("S", 1)
    return numbers.reshape(size_t, -1, groups)


def _level(series: Any, order: NDArray[np.int64], size: int, warnings: list[str]) -> Level:
    key = series.keyframe
    apart, _, height, width, samples = key.shaped
    coding, problem = _coding(key)
    tile_height, tile_width = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, width)
    if not all(isinstance(length, int | np.integer) for length in (*key.shaped, tile_height, tile_width)):
        raise UnreadableImageError("the size of the image is no whole number")
    if not (tile_height > 0 and tile_width > 0):
        raise UnreadableImageError("the tiles of the image have no size")
    grid = math.ceil(height / tile_height) * math.ceil(width / tile_width)
    pages = _pages(series, len(order) // apart)
    planes = [_cut(pages[number // apart], slice(number % apart * grid, (number % apart + 1) * grid)) for number in order]
    row_bytes = width * samples * coding.bits // 8 if coding else 0
    if coding and coding.compression == 1 and not coding.bits % 8 and not key.is_tiled and all(map(_is_in_one_piece, planes)):
        # Rows that nothing compresses can be read by themselves, and strips that follow each other together.
        rows = min(height, max(1, STRIP_BYTES // row_bytes))
        pieces = math.ceil(height / rows)
        # A few bytes may tell of any height.
        if pieces * len(order) <= MAX_TILES:
            tile_height, grid = rows, pieces
            planes = [plane and _split(plane, row_bytes, rows, height) for plane in planes]
    missing, beyond = planes.count(None), 0
    for plane in planes:
        if plane:
            beyond += (
                grid - len(plane.offsets) + int(np.count_nonzero((plane.offsets > size) | (plane.offsets + plane.sizes > size)))
            )
    tile_bytes = tile_height * tile_width * samples * (coding.bits if coding else 8) // 8
    if tile_bytes > MAX_TILE_BYTES and not problem:
        problem = f"its tiles have {tile_bytes:,} bytes; {MAX_TILE_BYTES:,} are the most"
    if missing:
        warnings.append(f"{missing} of {len(order)} planes are not in the file")
    if beyond:
        warnings.append(f"the file is cut: {beyond} of {grid * (len(order) - missing)} tiles are not in it")
    if problem:
        warnings.append(f"pixels cannot be read: {problem}")
    return Level(
        width=width,
        height=height,
        tile_width=tile_width,
        tile_height=tile_height,
        coding=coding,
        planes=tuple(plane.packed() if plane else Plane() for plane in planes),
        problem=problem,
    )


class _Tiles(NamedTuple):
    """Where the tiles of a page lie, or of a plane of it."""

    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    tables: bytes

    def packed(self) -> Plane:
        return Plane(offsets=self.offsets.astype("<u8").tobytes(), sizes=self.sizes.astype("<u8").tobytes(), tables=self.tables)


def _pages(series: Any, count: int) -> list[_Tiles | None]:
    """Return the tiles of each page; None for one that is not there."""
    first = series.keyframe
    if len(series._pages) == 1 and count > 1 and series.dataoffset is not None:
        # One page speaks for all, whose pixels follow its own.
        if count * len(first.dataoffsets) > MAX_TILES:
            raise UnreadableImageError(f"the planes of the image have more than {MAX_TILES:,} strips")
        offsets, sizes = np.asarray(first.dataoffsets, np.uint64), np.asarray(first.databytecounts, np.uint64)
        return [_Tiles(offsets + np.uint64(number * first.nbytes), sizes, b"") for number in range(count)]
    found = [
        None
        if page is None
        else _Tiles(np.asarray(page.dataoffsets, np.uint64), np.asarray(page.databytecounts, np.uint64), page.jpegtables or b"")
        for page in series
    ]
    return (found + [None] * count)[:count]


def _cut(page: _Tiles | None, which: slice) -> _Tiles | None:
    if page is None:
        return None
    offsets, sizes = page.offsets[which], page.sizes[which]
    count = min(len(offsets), len(sizes))
    return _Tiles(offsets[:count], sizes[:count], page.tables)


def _is_in_one_piece(plane: _Tiles | None) -> bool:
    if plane is None:
        return True
    return len(plane.offsets) > 0 and bool(np.all(plane.offsets[1:] == plane.offsets[:-1] + plane.sizes[:-1]))


def _split(plane: _Tiles, row_bytes: int, rows: int, height: int) -> _Tiles:
    """Cut the rows of a plane anew; a piece beyond their end lies nowhere, so that it is not taken for empty."""
    starts = np.arange(0, height, rows).astype(np.uint64) * np.uint64(row_bytes)
    sizes = np.minimum(np.uint64(rows * row_bytes), np.uint64(height * row_bytes) - starts)
    there = plane.sizes.sum()
    if not there:
        return _Tiles(starts, np.zeros_like(starts), b"")
    return _Tiles(np.where(starts + sizes <= there, plane.offsets[0] + starts, np.uint64(_NOWHERE)), sizes, b"")


def _coding(key: tifffile.TiffPage) -> tuple[Coding | None, str]:
    """Return how the pixels of a page are coded; or None, and why they cannot be read."""
    compression, bits = int(key.compression), key.bitspersample
    formats = key.tags.valueof(339, default=())
    if key.dtype is None or key.dtype.kind not in "buif" or not isinstance(bits, int):
        return None, f"pixels of {bits} bits in format {key.sampleformat} are not supported"
    if isinstance(formats, tuple) and len(set(formats[: key.samplesperpixel])) > 1:
        return None, "samples of different formats are not supported"
    if not codecs.is_known(compression):
        return None, f"the compression {_called(tifffile.COMPRESSION, compression)} is not supported"
    is_own = compression in codecs.PICTURES or compression in codecs.JPEG
    if not is_own and int(key.predictor) not in codecs.PREDICTORS:
        return None, f"the predictor {_called(tifffile.PREDICTOR, key.predictor)} is not supported"
    if key.is_subsampled and (compression not in codecs.JPEG or key.planarconfig == 2):
        return None, "colours of a lower resolution are supported in JPEG only"
    if (not is_own and bits % 8 and key.dtype.kind == "f") or (bits == 24 and key.dtype.kind == "f"):
        return None, f"floats of {bits} bits are not supported"
    colorspace, out = _color_spaces(key) if compression in codecs.JPEG else (None, None)
    order = "=" if is_own or int(key.predictor) == 3 else key.parent.byteorder
    return (
        Coding(
            compression=compression,
            predictor=1 if is_own else int(key.predictor),
            bits=bits,
            dtype=key.dtype.newbyteorder(order).str,
            fill_order=1 if is_own else int(key.fillorder),
            colorspace=colorspace,
            out_colorspace=out,
            t4_options=int(key.tags.valueof(292, default=0)),
            empty=key.nodata,
        ),
        "",
    )


def _color_spaces(key: tifffile.TiffPage) -> tuple[int | None, int | str | None]:
    """Return what a JPEG's components are, where its own marks would mislead, and what they are to become."""
    if key.planarconfig != 1:
        return None, 1
    if key.extrasamples:
        return None, None
    match int(key.photometric):
        case 6:
            return None, _RGB
        case 2:
            # Without a JFIF mark a decoder would take it for YCbCr, as in SVS.
            return None if key.is_jfif else _RGB, _RGB
        case 5:
            return None, 4
        case other if other > 3:
            return None, _called(tifffile.PHOTOMETRIC, other)
    return None, None


def _called(names: Any, number: int) -> str:
    try:
        return str(names(number).name)
    except ValueError:
        return str(int(number))


def _channels(
    tiff: tifffile.TiffFile, key: tifffile.TiffPage, groups: int, samples: int, described: ome.Described | None
) -> tuple[Channel, ...]:
    """Return the channels of a scene, which has *groups* planes of *samples* each."""
    count, told = groups * samples, described.channels if described else ()
    if len(told) == count > 0:
        return tuple(
            msgspec.structs.replace(channel, name=channel.name or f"Channel {number}") for number, channel in enumerate(told)
        )
    letters = ["R", "G", "B", *("A" for kind in key.extrasamples[:1] if kind in _ALPHA)]
    each = int(key.samplesperpixel)
    if int(key.photometric) in (_RGB, _YCBCR) and each >= 3:
        of_group = [letters[sample] if sample < len(letters) else f"Channel {sample}" for sample in range(each)]
        if count == each:
            return tuple(Channel(name=name) for name in of_group)
        return tuple(Channel(name=f"{number // each} {of_group[number % each]}") for number in range(count))
    limits = _imagej_limits(tiff, count)
    return tuple(Channel(name=f"Channel {number}", limits=limits[number]) for number in range(count))


def _imagej_limits(tiff: tifffile.TiffFile, count: int) -> list[tuple[float, float] | None]:
    told = tiff.imagej_metadata or {}
    values: Any = told.get("Ranges") or (told.get("min"), told.get("max"))
    if len(values) != 2 * count or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return [None] * count
    return [(float(values[at]), float(values[at + 1])) for at in range(0, 2 * count, 2)]


def _pixel_size(
    tiff: tifffile.TiffFile, series: Any, described: ome.Described | None
) -> tuple[tuple[float, float] | None, float | None]:
    """Return width and height of a pixel and the distance of planes in µm, as far as the file says so; dots per inch do not."""
    if described:
        return described.pixel_size_um, described.plane_distance_um
    if series.kind == "svs":
        side = ome.micrometres(_aperio(series.keyframe).get("MPP"), "um")
        return (side, side) if side else None, None
    told = tiff.imagej_metadata or {}
    if series.kind == "imagej" and str(told.get("unit", "")) in _MICROMETRES:
        across, down = series.keyframe.get_resolution()
        is_told = 282 in series.keyframe.tags and across > 0 and down > 0
        return (1 / across, 1 / down) if is_told else None, ome.micrometres(str(told.get("spacing")), "um")
    return None, None


def _aperio(key: tifffile.TiffPage) -> dict[str, str]:
    """Return the fields of Aperio's description: ``heading|name = value|...``."""
    fields = (field.partition("=") for field in key.description.split("|")[1:])
    return {name.strip(): value.strip() for name, sign, value in fields if sign}


def _properties(tiff: tifffile.TiffFile) -> dict[str, str]:
    first = tiff.pages.first
    told = {name: str(first.tags.valueof(tag, default="")) for name, tag in _PROPERTIES.items()}
    if first.is_svs:
        told |= {f"Aperio.{name}": value for name, value in _aperio(first).items()}
    return {name: value[:MAX_PROPERTY_CHARACTERS] for name, value in told.items() if value}


class Tiff:
    """Reads pixels by an index; for any number of threads."""

    def __init__(self, source: Source, index: Index, cache: TileCache, name: Hashable) -> None:
        self._source = source
        self._index = index
        self._cache = cache
        self._name = name

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """Return the pixels of a region within its level, as (height, width, channels)."""
        scene = self._index.scenes[at.scene]
        level = scene.levels[at.level]
        if level.problem or level.coding is None:
            raise UnreadableImageError(f"level {at.level} cannot be read: {level.problem}", details={"level": at.level})
        groups = len(scene.channels) // scene.samples
        wanted: dict[int, list[tuple[int, int]]] = {}
        for place, channel in enumerate(channels):
            plane = (at.t * scene.size_z + at.z) * groups + channel // scene.samples
            wanted.setdefault(plane, []).append((place, channel % scene.samples))
        if scene.samples > 1:
            result = np.empty((at.height, at.width, len(channels)), scene.dtype)
        else:
            # One plane after the other, as the tiles are: so they are copied, and coloured, soonest.
            result = np.moveaxis(np.empty((len(channels), at.height, at.width), scene.dtype), 0, -1)
        columns = range(at.x // level.tile_width, (at.x + at.width - 1) // level.tile_width + 1)
        rows = range(at.y // level.tile_height, (at.y + at.height - 1) // level.tile_height + 1)
        tiles = [(plane, row, column) for plane in wanted for row in rows for column in columns]
        for (plane, row, column), tile in self._tiles(at, scene, level, tiles):
            top, left = row * level.tile_height, column * level.tile_width
            y, x = max(top, at.y), max(left, at.x)
            lower = min(top + level.tile_height, at.y + at.height)
            right = min(left + level.tile_width, at.x + at.width)
            cut = tile[y - top : lower - top, x - left : right - left]
            for place, sample in wanted[plane]:
                result[y - at.y : lower - at.y, x - at.x : right - at.x, place] = cut[..., sample]
        return result

    def _tiles(
        self, at: Where, scene: Scene, level: Level, tiles: Sequence[tuple[int, int, int]]
    ) -> Iterator[tuple[tuple[int, int, int], NDArray[Any]]]:
        """Yield tiles, those that are at hand first; the others are fetched together."""
        to_fetch: list[tuple[tuple[int, int, int], tuple[int, int]]] = []
        held = 0
        for tile in tiles:
            known = self._cache.get((self._name, at.scene, at.level, tile))
            if known is not None:
                yield tile, known
                continue
            span = self._span(at, level, tile)
            if held + span[1] > _BATCH_BYTES and to_fetch:
                yield from self._decoded(at, scene, level, to_fetch)
                to_fetch, held = [], 0
            to_fetch.append((tile, span))
            held += span[1]
        yield from self._decoded(at, scene, level, to_fetch)

    def _span(self, at: Where, level: Level, tile: tuple[int, int, int]) -> tuple[int, int]:
        """Return offset and size of a tile's bytes, which lie in the file."""
        plane, row, column = tile
        number = row * math.ceil(level.width / level.tile_width) + column
        offsets, sizes = level.planes[plane].offsets, level.planes[plane].sizes
        if 8 * number >= len(offsets):
            raise _unreadable(at, tile, "is not in the file")
        offset, size = struct.unpack_from("<Q", offsets, 8 * number)[0], struct.unpack_from("<Q", sizes, 8 * number)[0]
        if size and offset + size > self._source.size:
            raise _unreadable(at, tile, "lies beyond the end of the file, which is cut")
        if size > MAX_TILE_BYTES:
            raise _unreadable(at, tile, f"has {size:,} bytes; {MAX_TILE_BYTES:,} are the most")
        # An empty tile lies nowhere, whatever the file says.
        return (offset, size) if size else (0, 0)

    def _decoded(
        self, at: Where, scene: Scene, level: Level, tiles: Sequence[tuple[tuple[int, int, int], tuple[int, int]]]
    ) -> Iterator[tuple[tuple[int, int, int], NDArray[Any]]]:
        coding = level.coding
        assert coding is not None
        shape = (level.tile_height, level.tile_width, scene.samples)
        for (tile, _), data in zip(tiles, self._source.read([span for _, span in tiles]), strict=True):
            plane, row, column = tile
            needed = (
                min(level.tile_height, level.height - row * level.tile_height),
                min(level.tile_width, level.width - column * level.tile_width),
            )
            if not data:
                yield tile, np.broadcast_to(np.array(coding.empty, scene.dtype), shape)
                continue
            try:
                pixels = codecs.decode(coding, data, level.planes[plane].tables, shape, needed)
            except DamagedTileError as error:
                raise _unreadable(at, tile, str(error)) from error
            except (ImportError, AttributeError) as error:
                raise _unreadable(at, tile, f"needs a codec that is not installed ({coding.compression})") from error
            if coding.compression != 1:
                self._cache.put((self._name, at.scene, at.level, tile), pixels)
            yield tile, pixels


def _unreadable(at: Where, tile: tuple[int, int, int], problem: str) -> UnreadableImageError:
    plane, row, column = tile
    return UnreadableImageError(
        f"the tile in row {row}, column {column} of plane {plane}, level {at.level} {problem}",
        hint="other parts of the image may be readable",
        details={"scene": at.scene, "level": at.level, "plane": plane, "tile": [row, column]},
    )
