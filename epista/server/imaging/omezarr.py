"""
OME-Zarr in one zip file, of versions 0.1 to 0.5: the headers by us, the pixels by zarr.

Where the members of the archive lie is kept in the index, so a region is read by ranges: those of its chunks. Sources:
https://ngff.openmicroscopy.org/0.5/, RFC 9 of NGFF (one file), APPNOTE.TXT 6.3.10 of PKWARE (zip).
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from epista.contract.errors import EpistaError, MissingExtraError, UnreadableImageError
from epista.server.imaging import ome
from epista.server.imaging.cache import TileCache
from epista.server.imaging.index import (
    MAX_HEADER_BYTES,
    MAX_PAGES,
    MAX_TILE_BYTES,
    MAX_TILES,
    Channel,
    Index,
    Level,
    Scene,
    Where,
)
from epista.server.imaging.sources import Blocks, Source

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest, Store

MAX_MEMBERS = 256 * 1024
"""How many members an archive may have."""

MAX_DOCUMENT_BYTES = 4 * 1024**2
"""How long one of its documents may be."""

CODECS = (
    *("blosc", "bz2", "delta", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd"),
    *("bytes", "crc32c", "sharding_indexed", "transpose"),
)
"""How chunks may be coded, in Zarr 2 and 3; what unpickles is not among them."""

_AXES = "tczyx"
_LOCAL = struct.Struct("<4s22xHH")
_MORE_BYTES = 256
"""How much more of a member's header is read along than is known of."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """Where a member of the archive lies."""

    header: int
    """Where its header begins."""
    packed: int
    """How many bytes it has in the file."""
    size: int
    """How many it has."""
    is_packed: bool
    """Whether it is deflated; else it is stored as it is."""


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a zip does."""
    return head.startswith(b"PK\x03\x04")


def read_index(source: Source) -> Index:
    """
    Read the headers of an OME-Zarr.

    Raises:
        UnreadableImageError: it is none, is damaged, or has more than may be read.
        MissingExtraError: zarr is not installed.
    """
    file = Blocks(source, budget=MAX_HEADER_BYTES)
    try:
        members = _members(file)
    except EpistaError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise UnreadableImageError("the archive is cut or damaged") from error
    archive = _Archive(source, members)
    try:
        return _index(archive, members)
    except EpistaError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise UnreadableImageError("the OME-Zarr is damaged: its documents are not as the standard says") from error


def _members(file: Blocks) -> dict[str, Member]:
    with zipfile.ZipFile(file) as archive:
        if len(archive.filelist) > MAX_MEMBERS:
            raise UnreadableImageError(f"the archive has more than {MAX_MEMBERS:,} members", hint="put its chunks into shards")
        found = {}
        for one in archive.filelist:
            if one.is_dir():
                continue
            if one.flag_bits & 1 or one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UnreadableImageError("the archive is encrypted, or packed in a way that is not read: store or deflate it")
            is_packed = one.compress_type == zipfile.ZIP_DEFLATED
            found[one.filename] = Member(one.header_offset, one.compress_size, one.file_size, is_packed)
    return found


class _Archive:
    """The members of an archive, for any number of threads."""

    def __init__(self, source: Source, members: Mapping[str, Member]) -> None:
        self.members = members
        self._source = source

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return bytes of a member, from *start* up to *end*."""
        member = self.members[name]
        known = _LOCAL.size + len(name.encode()) + _MORE_BYTES
        length = min(known + (member.packed if member.is_packed else 0), self._source.size - member.header)
        if length < _LOCAL.size or member.header < 0 or member.packed > self._source.size:
            raise UnreadableImageError(f"the archive is cut: {name[:100]!r} lies beyond its end")
        [head] = self._source.read([(member.header, length)])
        magic, *more = _LOCAL.unpack_from(head)
        if magic != b"PK\x03\x04":
            raise UnreadableImageError(f"the archive is damaged where {name[:100]!r} should be")
        body = _LOCAL.size + sum(more)
        end = min(end, member.size)
        if end <= start:
            return b""
        if not member.is_packed:
            if member.header + body + end > self._source.size:
                raise UnreadableImageError(f"the archive is cut within {name[:100]!r}")
            return self._source.read([(member.header + body + start, end - start)])[0]
        if member.size > MAX_TILE_BYTES:
            raise UnreadableImageError(f"{name[:100]!r} has {member.size:,} bytes; {MAX_TILE_BYTES:,} are the most")
        packed = head[body : body + member.packed]
        if len(packed) < member.packed:
            if member.header + body + member.packed > self._source.size:
                raise UnreadableImageError(f"the archive is cut within {name[:100]!r}")
            [packed] = self._source.read([(member.header + body, member.packed)])
        try:
            # One byte more than is declared would tell that it lies.
            whole = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
        except zlib.error as error:
            raise UnreadableImageError(f"{name[:100]!r} is damaged") from error
        if len(whole) != member.size:
            raise UnreadableImageError(f"{name[:100]!r} has another size than the archive says")
        return whole[start:end]

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON document; None if there is none."""
        member = self.members.get(name)
        if member is None:
            return None
        if member.size > MAX_DOCUMENT_BYTES:
            raise UnreadableImageError(f"{name[:100]!r} has {member.size:,} bytes; {MAX_DOCUMENT_BYTES:,} are the most")
        found = json.loads(self.read(name, 0, member.size))
        return found if isinstance(found, dict) else None


def _index(archive: _Archive, members: Mapping[str, Member]) -> Index:
    root = _root(members)
    group = _group(archive, root)
    told = []
    if "plate" in group or "well" in group:
        raise UnreadableImageError("this is a plate or a well of many images", hint="put the images of its fields, each as a zip")
    if "bioformats2raw.layout" in group:
        series = (_group(archive, root + "OME/") or {}).get("series")
        names = series if isinstance(series, list) else [str(n) for n in range(MAX_PAGES) if _is_group(members, f"{root}{n}/")]
        paths = [f"{root}{name}/" for name in names[:MAX_PAGES]]
    else:
        paths = [root]
    scenes = []
    for path in paths:
        attributes = _group(archive, path)
        multiscales = attributes["multiscales"]
        if len(multiscales) > 1:
            told.append(f"{path or 'the image'} is stored in {len(multiscales)} ways; the first is read")
        scenes.append(_scene(archive, path, multiscales[0], attributes.get("omero") or {}))
    version = str(group.get("version") or _group(archive, paths[0])["multiscales"][0].get("version") or "")[:10]
    return Index(
        reader="zarr",
        format=f"OME-Zarr {version}".strip(),
        scenes=tuple(scenes),
        warnings=tuple(told),
        members=msgspec.msgpack.encode(members),
    )


def _root(members: Mapping[str, Member]) -> str:
    """Return where the group of the image begins: at the top, or in the one folder there."""
    documents = [name for name in members if name.rpartition("/")[2] in (".zgroup", "zarr.json", ".zattrs")]
    if not documents:
        raise UnreadableImageError("this is no image of a kind that can be read: an archive without a Zarr in it")
    shortest = min(documents, key=lambda name: (name.count("/"), name))
    return shortest[: shortest.rfind("/") + 1]


def _is_group(members: Mapping[str, Member], path: str) -> bool:
    return any(path + name in members for name in (".zattrs", "zarr.json"))


def _group(archive: _Archive, path: str) -> dict[str, Any]:
    """Return what OME says of a group."""
    if (found := archive.document(f"{path}zarr.json")) is not None:
        attributes = found.get("attributes") or {}
        return dict(attributes.get("ome") or {})
    return archive.document(f"{path}.zattrs") or {}


def _scene(archive: _Archive, path: str, multiscale: dict[str, Any], omero: dict[str, Any]) -> Scene:
    datasets = multiscale["datasets"]
    arrays = [_array(archive, path + str(dataset["path"]).strip("/")) for dataset in datasets[:64]]
    axes = [axis["name"] if isinstance(axis, dict) else str(axis) for axis in multiscale.get("axes") or _AXES]
    units = {axis["name"]: axis.get("unit") for axis in multiscale.get("axes") or () if isinstance(axis, dict)}
    shape, _, dtype = arrays[0]
    if len(axes) != len(shape) or not set(axes) <= set(_AXES) or not {"x", "y"} <= set(axes) or len(set(axes)) < len(axes):
        raise UnreadableImageError(f"the OME-Zarr has the axes {', '.join(axes)[:100]}, not some of t, c, z, y, x")
    sizes = dict(zip(axes, shape, strict=True))
    if sizes.get("t", 1) * sizes.get("c", 1) * sizes.get("z", 1) > MAX_PAGES:
        raise UnreadableImageError(f"the OME-Zarr has more than {MAX_PAGES:,} planes")
    scale = _scale(datasets[0], multiscale, axes)
    lengths = {axis: ome.micrometres(str(scale[axis]), units[axis]) for axis in "xyz" if axis in scale and units.get(axis)}
    across, down = lengths.get("x"), lengths.get("y")
    levels = tuple(
        _level(
            path + str(dataset["path"]).strip("/"),
            dict(zip(axes, size, strict=False)),
            dict(zip(axes, chunk, strict=False)),
            axes,
            sizes,
            kind,
            dtype,
        )
        for dataset, (size, chunk, kind) in zip(datasets, arrays, strict=False)
    )
    return Scene(
        name=str(multiscale.get("name") or "")[:200],
        dtype=np.dtype(dtype).newbyteorder("=").str,
        size_z=sizes.get("z", 1),
        size_t=sizes.get("t", 1),
        channels=_channels(sizes.get("c", 1), omero),
        levels=levels,
        pixel_size_um=(across, down) if across and down else None,
        plane_distance_um=lengths.get("z"),
        axes="".join(axes),
    )


def _level(
    path: str, size: dict[str, int], chunk: dict[str, int], axes: list[str], first: dict[str, int], kind: str, dtype: str
) -> Level:
    problem = ""
    if len(size) != len(axes) or any(size[axis] != first[axis] for axis in axes if axis in "tc"):
        problem = "it has other axes, times or channels than the first"
    elif np.dtype(kind).newbyteorder("=") != np.dtype(dtype).newbyteorder("="):
        problem = f"it has pixels of {kind}, not of {dtype}"
    elif math.prod(chunk.values()) * np.dtype(kind).itemsize > MAX_TILE_BYTES:
        problem = f"its chunks are larger than {MAX_TILE_BYTES:,} bytes"
    elif -(-size["x"] // chunk["x"]) * -(-size["y"] // chunk["y"]) > MAX_TILES:
        problem = f"it has more than {MAX_TILES:,} chunks"
    return Level(
        width=size.get("x", 1),
        height=size.get("y", 1),
        tile_width=min(chunk.get("x", 1), size.get("x", 1)),
        tile_height=min(chunk.get("y", 1), size.get("y", 1)),
        path=path,
        size_z=size.get("z", 1),
        problem=problem,
    )


def _array(archive: _Archive, path: str) -> tuple[list[int], list[int], str]:
    """Return shape, shape of the chunks and dtype of an array whose chunks can be read."""
    if (found := archive.document(f"{path}/zarr.json")) is not None:
        codecs = found["codecs"]
        chunk = found["chunk_grid"]["configuration"]["chunk_shape"]
        if codecs and codecs[0].get("name") == "sharding_indexed":
            inner = codecs[0]["configuration"]
            chunk, codecs = inner["chunk_shape"], [*codecs, *inner["codecs"], *inner["index_codecs"]]
        used, dtype = [codec["name"] if isinstance(codec, dict) else codec for codec in codecs], found["data_type"]
        if found.get("storage_transformers"):
            raise UnreadableImageError("the OME-Zarr is stored in a way that is not known")
    elif (found := archive.document(f"{path}/.zarray")) is not None:
        coders = [found.get("compressor"), *(found.get("filters") or ())]
        used, dtype, chunk = [codec["id"] for codec in coders if codec], found["dtype"], found["chunks"]
    else:
        raise UnreadableImageError(f"the OME-Zarr has no array {path[:100]!r}")
    unknown = [str(name) for name in used if name not in CODECS]
    if unknown:
        raise UnreadableImageError(f"the chunks of the OME-Zarr are coded in a way that is not read: {', '.join(unknown)[:100]}")
    shape = found["shape"]
    numbers = [*shape, *chunk]
    if len(shape) != len(chunk) or not all(isinstance(number, int) and 0 < number < 2**31 for number in numbers):
        raise UnreadableImageError("the OME-Zarr has no pixels, or says no sizes")
    if not isinstance(dtype, str) or np.dtype(dtype).kind not in "buif":
        raise UnreadableImageError(f"the OME-Zarr has pixels of {str(dtype)[:40]}, which are no numbers")
    return shape, chunk, dtype


def _scale(dataset: dict[str, Any], multiscale: dict[str, Any], axes: Sequence[str]) -> dict[str, float]:
    """Return how long a pixel of a level is along each axis."""
    found = dict.fromkeys(axes, 1.0)
    for transforms in (dataset.get("coordinateTransformations"), multiscale.get("coordinateTransformations")):
        for one in transforms or ():
            if one.get("type") == "scale" and isinstance(one.get("scale"), list):
                for axis, factor in zip(axes, one["scale"], strict=True):
                    found[axis] *= float(factor)
    return found


def _channels(count: int, omero: dict[str, Any]) -> tuple[Channel, ...]:
    told = omero.get("channels")
    told = told if isinstance(told, list) and len(told) == count else [{}] * count
    found = []
    for number, one in enumerate(told):
        one = one if isinstance(one, dict) else {}
        color, window = str(one.get("color") or ""), one.get("window") or {}
        low, high = window.get("start"), window.get("end")
        limits = (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else None
        found.append(
            Channel(
                name=str(one.get("label") or f"Channel {number}")[:200],
                color=color.lower() if len(color) == 6 and set(color.lower()) <= set("0123456789abcdef") else None,
                limits=limits,
            )
        )
    return tuple(found)


class Zarr:
    """Reads pixels by an index; for any number of threads."""

    def __init__(self, source: Source, index: Index, cache: TileCache, name: Hashable) -> None:
        self._archive = _Archive(source, msgspec.msgpack.decode(index.members, type=dict[str, Member]))
        self._index = index
        self._cache = cache
        self._name = name
        self._arrays: dict[str, Any] = {}

    def region(self, at: Where, channels: Sequence[int]) -> NDArray[Any]:
        """Return the pixels of a region within its level, as (height, width, channels)."""
        scene = self._index.scenes[at.scene]
        level = scene.levels[at.level]
        if level.problem:
            raise UnreadableImageError(f"level {at.level} cannot be read: {level.problem}", details={"level": at.level})
        result = np.empty((at.height, at.width, len(channels)), scene.dtype)
        columns = range(at.x // level.tile_width, (at.x + at.width - 1) // level.tile_width + 1)
        rows = range(at.y // level.tile_height, (at.y + at.height - 1) // level.tile_height + 1)
        for place, channel in enumerate(channels):
            for row in rows:
                for column in columns:
                    tile = self._tile(at, scene, level, channel, row, column)
                    top, left = row * level.tile_height, column * level.tile_width
                    y, x = max(top, at.y), max(left, at.x)
                    lower, right = min(top + tile.shape[0], at.y + at.height), min(left + tile.shape[1], at.x + at.width)
                    result[y - at.y : lower - at.y, x - at.x : right - at.x, place] = tile[
                        y - top : lower - top, x - left : right - left
                    ]
        return result

    def _tile(self, at: Where, scene: Scene, level: Level, channel: int, row: int, column: int) -> NDArray[Any]:
        key = self._name, at.scene, at.level, at.t, at.z, channel, row, column
        known: NDArray[Any] | None = self._cache.get(key)
        if known is not None:
            return known
        y, x = row * level.tile_height, column * level.tile_width
        # Levels may be smaller along z, too.
        z = min(at.z * level.size_z // scene.size_z, level.size_z - 1)
        wanted = {"t": at.t, "c": channel, "z": z, "y": slice(y, y + level.tile_height), "x": slice(x, x + level.tile_width)}
        try:
            found = np.asarray(self._array(level.path)[tuple(wanted[axis] for axis in scene.axes)])
            if scene.axes.index("x") < scene.axes.index("y"):
                found = found.T
            tile = found.astype(scene.dtype, copy=False)
        except EpistaError as error:
            raise _unreadable(at, channel, row, column, error.message) from error
        except MemoryError:
            raise
        except Exception as error:
            raise _unreadable(at, channel, row, column, "cannot be decoded") from error
        self._cache.put(key, tile)
        return tile

    def _array(self, path: str) -> Any:
        if path not in self._arrays:
            try:
                import zarr
            except ImportError as error:
                raise MissingExtraError("zarr is not installed here", hint='pip install "epista[image]"') from error
            # One thread: there is a child for each core.
            zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
            is_new = f"{path}/zarr.json" in self._archive.members
            self._arrays[path] = zarr.open_array(store=_store(self._archive, path), mode="r", zarr_format=3 if is_new else 2)
        return self._arrays[path]


def _unreadable(at: Where, channel: int, row: int, column: int, problem: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"the chunk in row {row}, column {column} of channel {channel}, z {at.z}, t {at.t}, level {at.level}: {problem}",
        hint="other parts of the image may be readable",
        details={"scene": at.scene, "level": at.level, "plane": [at.t, at.z, channel], "tile": [row, column]},
    )


def _store(archive: _Archive, path: str) -> Store:
    """Return the members below a path as a store of zarr."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    class Members(Store):
        supports_writes = supports_deletes = supports_partial_writes = False
        supports_listing = False

        def __init__(self) -> None:
            super().__init__(read_only=True)

        def __eq__(self, other: object) -> bool:
            return self is other

        async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
            name = f"{path}/{key}"
            member = archive.members.get(name)
            if member is None:
                return None
            start, end = 0, member.size
            if isinstance(byte_range, RangeByteRequest):
                start, end = byte_range.start, byte_range.end
            elif isinstance(byte_range, OffsetByteRequest):
                start = byte_range.offset
            elif isinstance(byte_range, SuffixByteRequest):
                start = max(0, member.size - byte_range.suffix)
            if min(end, member.size) - start > MAX_TILE_BYTES:
                raise UnreadableImageError(f"{name[:100]!r} has more than {MAX_TILE_BYTES:,} bytes")
            return prototype.buffer.from_bytes(archive.read(name, start, end))

        async def get_partial_values(
            self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
        ) -> list[Buffer | None]:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

        async def exists(self, key: str) -> bool:
            return f"{path}/{key}" in archive.members

        async def set(self, key: str, value: Buffer) -> None:
            raise io.UnsupportedOperation("not writable")

        async def delete(self, key: str) -> None:
            raise io.UnsupportedOperation("not writable")

        async def list(self) -> AsyncIterator[str]:
            for name in archive.members:
                if name.startswith(f"{path}/"):
                    yield name[len(path) + 1 :]

        async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
            async for name in self.list():
                if name.startswith(prefix):
                    yield name

        async def list_dir(self, prefix: str) -> AsyncIterator[str]:
            seen = set()
            async for name in self.list_prefix(prefix):
                first = name[len(prefix) :].lstrip("/").partition("/")[0]
                if first not in seen:
                    seen.add(first)
                    yield first

    return Members()
