"""
The child that reads images: what is in one, the pixels of a region, a thumbnail.

It keeps the indexes of the images that it read last, and their tiles. Runs as ``python -m``; the server imports it for the
messages only.
"""

from __future__ import annotations

import gc
import io
import os
from collections import OrderedDict
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import msgspec

from epista.contract.errors import EpistaError, LinkedFileChangedError, TooLargeError, UnreadableImageError
from epista.server.engines import sandbox

if TYPE_CHECKING:
    from epista.server.imaging.image import Image
    from epista.server.imaging.index import Index
    from epista.server.imaging.pyramids import Piece
    from epista.server.imaging.sources import Source

MAX_INDEX_BYTES = 64 * 1024**2
"""How many bytes of indexes are kept."""


MAX_FEATURES_BYTES = 32 * 1024**2
"""How large a GeoJSON file may be."""

MAX_PICTURE_BYTES = 64 * 1024**2
"""How many bytes a picture may have, as a file."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of an image lie: in a file of this machine, or behind a link."""

    size: int
    """How many bytes there are."""
    path: bytes = b""
    """The file."""
    offset: int = 0
    """Where in the file they begin."""
    stamp: tuple[int, int, int] | None = None
    """Of a file that others may write: its inode, size and time of change, in nanoseconds."""
    url: str = ""
    """The link; a secret."""


class Describe(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say what is in the image: an `epista.server.imaging.index.Index`."""


class Region(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read a region, as `.npy`."""

    x: int
    y: int
    width: int
    height: int
    level: int = 0
    channels: tuple[str, ...] = ()
    """Names, or numbers in digits; none for all of them."""
    z: int = 0
    t: int = 0
    scene: int = 0


class Suggest(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Say how each channel may be shown: `epista.server.imaging.rendering.Suggestions`."""

    scene: int = 0


class Thumbnail(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Draw a small picture, as PNG."""

    max_px: int
    rendering: str
    """As `epista.server.imaging.rendering.parse` reads it."""


class Picture(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Draw a picture; the parts of its address are as `epista.server.imaging.iiif.parse` reads them."""

    rendering: str
    region: str
    size: str
    rotation: str
    quality: str
    format: str


class Chunk(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read a chunk of the view as OME-Zarr, packed; *place* is an `epista.server.imaging.ngff.Chunk`."""

    scene: int
    place: tuple[int, int, int, int, int, int]


class Annotations(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Return what the file says was drawn on a scene: `epista.server.imaging.features.Drawn`, as JSON."""

    scene: int = 0


class Features(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Return the features of a GeoJSON file that are for a scene, as for `Annotations`."""

    origin: dict[str, Any]
    """What is told of each."""
    scene: int = 0


class Reduce(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make smaller levels of a part of a plane: a list of `epista.server.imaging.pyramids.Piece`."""

    plane: tuple[int, int, int]
    """Scene, z and t."""
    block: tuple[int, int, int, int, int]
    """An `epista.server.imaging.pyramids.Block`."""


Ask = Region | Suggest | Thumbnail | Picture | Chunk | Annotations | Reduce
"""What is asked of an image whose index is known."""


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Levels that were made of one plane."""

    place: Place
    levels: bytes
    """As `epista.server.imaging.pyramids.Writer` tells them."""
    plane: tuple[int, int, int]
    """Scene, z and t."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is asked."""

    place: Place
    name: str
    """By which the image is known again: another one for other bytes."""
    ask: Describe | Features | Ask
    index: bytes = b""
    """What `Describe` gave; needed where the child does not know it, which it says."""
    made: Levels | None = None
    """Levels that the image has not itself; needed where they are read, which the child says."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It is read."""

    body: bytes


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """This child does not know the index."""


class Wanting(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Levels are needed that have first to be made."""

    plane: tuple[int, int, int]
    """Scene, z and t."""


class WantingFile(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It can only be read where it is a file of its own on this machine."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It cannot be read; an error of ours."""

    code: str
    message: str
    hint: str | None = None
    details: dict[str, Any] = {}


class _Reader:
    """What one child knows."""

    def __init__(self) -> None:
        # Heavy, and for the child alone.
        from epista.server.imaging.cache import TileCache

        self._indexes: OrderedDict[str, tuple[Index, int]] = OrderedDict()
        self._tiles = TileCache()

    def work(self, job: Job) -> Done | Unknown | Wanting:
        """Do what is asked."""
        from epista.server.imaging import features, image
        from epista.server.imaging.index import Index
        from epista.server.imaging.pyramids import LevelsWantedError

        if isinstance(job.ask, Describe):
            with closing(_Opened(job.place)) as opened:
                body = msgspec.msgpack.encode(image.read_index(opened.source))
            # A tag may be of another type than it should, and tifffile hands it on: told here, and not where it is used.
            msgspec.msgpack.decode(body, type=Index)
            return Done(body=body)
        if isinstance(job.ask, Features):
            with closing(_Opened(job.place)) as opened:
                return Done(body=_features(opened.source, job.ask))
        if job.index:
            self._keep(job.name, msgspec.msgpack.decode(job.index, type=Index), len(job.index))
        if job.name not in self._indexes:
            return Unknown()
        self._indexes.move_to_end(job.name)
        index, _ = self._indexes[job.name]
        with ExitStack() as stack:
            source = stack.enter_context(closing(_Opened(job.place))).source
            if isinstance(job.ask, Annotations):
                return Done(body=msgspec.json.encode(features.of_file(source, index, job.ask.scene)))
            made = None
            if job.made is not None:
                beside = stack.enter_context(closing(_Opened(job.made.place))).source
                made = image.Levels(beside, job.made.levels, job.made.plane)
            found = image.open_image(source, index=index, cache=self._tiles, name=job.name, made=made)
            try:
                return Done(body=_answered(found, job.ask))
            except LevelsWantedError as wanted:
                return Wanting(plane=wanted.plane)

    def _keep(self, name: str, index: Index, size_bytes: int) -> None:
        # Unpacked, since that of a large slide has megabytes, and a tile of it hundreds of kilobytes.
        self._indexes[name] = index, size_bytes
        self._indexes.move_to_end(name)
        while len(self._indexes) > 1 and sum(size for _, size in self._indexes.values()) > MAX_INDEX_BYTES:
            self._indexes.popitem(last=False)


class _Opened:
    """The bytes at a place. Close it when done."""

    def __init__(self, place: Place) -> None:
        from epista.server.imaging import sources

        if place.url:
            self._whole: sources.File | sources.Link = sources.Link(place.url, place.size)
        else:
            self._whole = sources.File(os.fsdecode(place.path))
            if place.stamp is not None and self._whole.stamp != place.stamp:
                self._whole.close()
                raise LinkedFileChangedError(
                    "the file changed since it was linked", hint="link it again: epista link SOURCE PREFIX"
                )
        self.source = sources.Part(self._whole, place.offset, place.size)

    def close(self) -> None:
        self._whole.close()


def _features(source: Source, ask: Features) -> bytes:
    from epista.server.imaging import features

    [data] = source.read([(0, source.size)])
    # Millions of lists, none of which refers to itself: looked at again and again they take ten times as long.
    gc.disable()
    try:
        return msgspec.json.encode(features.of_geojson(data, ask.origin, ask.scene))
    finally:
        gc.enable()


def _answered(image: Image, ask: Region | Suggest | Thumbnail | Picture | Chunk | Reduce) -> bytes:
    from epista.server.imaging import chunks, drawing, iiif, ngff, rendering

    if isinstance(ask, Region):
        return _region(image, ask)
    if isinstance(ask, Suggest):
        return msgspec.msgpack.encode(drawing.suggest(image, ask.scene))
    if isinstance(ask, Reduce):
        return msgspec.msgpack.encode(_reduced(image, ask))
    if isinstance(ask, Chunk):
        return chunks.read(image, ask.scene, ngff.Chunk(*ask.place))
    shown = rendering.parse(ask.rendering)
    if isinstance(ask, Thumbnail):
        return drawing.thumbnail(image, shown, ask.max_px)
    whole = drawing.scene_of(image, shown).levels[0]
    asked = iiif.parse(
        whole.width,
        whole.height,
        region=ask.region,
        size=ask.size,
        rotation=ask.rotation,
        quality=ask.quality,
        format=ask.format,
    )
    made = drawing.picture(image, shown, asked)
    if len(made) > MAX_PICTURE_BYTES:
        raise TooLargeError(
            f"the picture has {len(made):,} bytes, and {MAX_PICTURE_BYTES:,} are the most", hint="ask for a smaller one"
        )
    return made


def _channel(asked: str, names: list[str]) -> str | int:
    """Return what a text stands for: a name, where there is such a one, else a number."""
    number = asked.removeprefix("#")
    is_number = asked not in names and number.isascii() and number.isdigit() and len(number) < 6
    return int(number) if is_number else asked


def _region(image: Image, ask: Region) -> bytes:
    import numpy as np

    scenes = image.index.scenes
    names = [channel.name for channel in scenes[ask.scene].channels] if 0 <= ask.scene < len(scenes) else []
    channels = [_channel(one, names) for one in ask.channels]
    pixels = image.read_region(
        ask.x, ask.y, ask.width, ask.height, level=ask.level, channels=channels or None, z=ask.z, t=ask.t, scene=ask.scene
    )
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(pixels), allow_pickle=False)
    return out.getvalue()


def _reduced(image: Image, ask: Reduce) -> list[Piece]:
    from epista.server.imaging import pyramids

    scene, z, t = ask.plane
    block = pyramids.Block(*ask.block)
    one = image.index.scenes[scene]
    x, y, width, height = pyramids.region_of(one, block)
    channels = range(block.group * one.samples, (block.group + 1) * one.samples)
    at = one.start_of(block.level, x, y)
    pixels = image.read_region(*at, width, height, level=block.level, channels=channels, z=z, t=t, scene=scene)
    return pyramids.make(one, block, pixels.reshape(height, width, one.samples))


_readers: list[_Reader] = []


def _work(job: bytes) -> bytes:
    if not _readers:
        _readers.append(_Reader())
    from epista.server.imaging.sources import FileWantedError

    reply: Done | Unknown | Wanting | WantingFile | Failed
    try:
        reply = _readers[0].work(msgspec.msgpack.decode(job, type=Job))
    except EpistaError as error:
        reply = _failed(error)
    except FileWantedError:
        reply = WantingFile()
    except MemoryError:
        # What was half unpacked is not all given back, and the next image would be short of it: this child ends.
        raise
    except FileNotFoundError:
        reply = _failed(UnreadableImageError("the image is not there any more", hint="try again in a moment"))
    except Exception:  # noqa: BLE001 - the loop of a worker process; parsers of others' files may raise anything
        reply = _failed(UnreadableImageError("the image cannot be read"))
    return msgspec.msgpack.encode(reply)


def _failed(error: EpistaError) -> Failed:
    return Failed(code=error.code, message=error.message, hint=error.hint, details=dict(error.details or {}))


if __name__ == "__main__":
    sandbox.serve(_work)
