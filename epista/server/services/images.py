"""Images: what is in one and its pixels, for whoever sits in a tile session."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from epista.contract import images as wire
from epista.contract.errors import MissingExtraError, UnreadableImageError
from epista.server.access.actors import Actor, Request
from epista.server.engines import image_files
from epista.server.engines.image_files import Place
from epista.server.engines.images import ImageReader
from epista.server.imaging.index import VERSION, Index, Scene
from epista.server.services import spans
from epista.server.services.contents import Content
from epista.server.services.resources import Resources
from epista.server.services.tile_sessions import TileSessions
from epista.server.services.tokens import Tokens
from epista.server.stores import linked
from epista.server.stores.table_facts import linked_source

LINK_SECONDS = 300
"""How long a link to an object works that a child is given; longer than it may take."""


class Made(NamedTuple):
    """What a session gets, and the tag of its bytes: the same for the same question."""

    body: bytes
    media_type: str
    tag: str


class Images:
    """Whoever has a session may look at its version, as long as its maker may."""

    def __init__(self, resources: Resources, tokens: Tokens) -> None:
        self._all = resources
        self._sessions = TileSessions(resources, tokens)

    def open(self, actor: Actor, wanted: wire.OpenTiles) -> wire.TileSession:
        """Open a session; see `TileSessions.open`."""
        return self._sessions.open(actor, wanted)

    def renew(self, secret: str | None, wanted: wire.RenewTiles, request: Request) -> wire.TileSession:
        """Renew a session; see `TileSessions.renew`."""
        return self._sessions.renew(wanted, request)

    def maker(self, token: str, request: Request) -> Actor:
        """Return on whose behalf a session looks; see `TileSessions.sitting`."""
        return self._sessions.sitting(token, request).actor

    def info(self, secret: str | None, wanted: wire.DescribeImage, request: Request) -> wire.ImageInfo:
        """Tell what is in an image; no other token is needed, and none counts."""
        sitting = self._sessions.sitting(wanted.token, request)
        with self._place(sitting.content) as place:
            index = msgspec.msgpack.decode(self._index(sitting.content, place), type=Index)
        return wire.ImageInfo(
            version=sitting.ticket.version,
            format=index.format,
            scenes=tuple(map(_scene, index.scenes)),
            hidden=index.hidden,
            properties=index.properties,
            warnings=index.warnings,
        )

    def region(self, actor: Actor, wanted: wire.ReadRegion) -> Made:
        """Read pixels."""
        fields = {name: getattr(wanted, name) for name in image_files.Region.__struct_fields__}
        return self._read(actor, wanted.token, image_files.Region(**fields), "application/x-npy")

    def thumbnail(self, actor: Actor, wanted: wire.DrawThumbnail) -> Made:
        """Draw a small picture."""
        return self._read(actor, wanted.token, image_files.Thumbnail(max_px=wanted.max_px), "image/png")

    def _read(self, actor: Actor, token: str, ask: image_files.Region | image_files.Thumbnail, media_type: str) -> Made:
        content = self._sessions.sitting(token, actor.request).content
        with self._place(content) as place:
            body = self._reader.read(place, _source(content), ask, lambda: self._index(content, place))
        return _made(content, body, media_type, repr(ask))

    def _index(self, content: Content, place: Place) -> bytes:
        """Return what is known of an image; found out at first, and kept by content."""
        with self._all.table_cache.use() as use:
            name = f"{_source(content)}-image-{VERSION}"
            return use.file(name, lambda into: _write(into, self._reader.index(place, name))).read_bytes()

    @contextmanager
    def _place(self, content: Content) -> Iterator[Place]:
        """Give where a child can read the bytes, until the context ends."""
        if content.is_in_parts:
            raise UnreadableImageError("this is a table, and no image")
        if content.is_linked and (path := self._all.roots.path(content.object)) is not None:
            yield Place(path=os.fsencode(path), size=content.size, stamp=linked.stamp_of(content.object))
            return
        span = content.span(0, content.size)
        if not content.is_linked and self._all.blobs.size(span.object) is None:
            # A collection may have moved it since the session was checked.
            [span] = spans.looked_up(self._all, [span])
        if (path := self._all.file_of(span.object)) is not None:
            yield Place(path=os.fsencode(path), offset=span.offset, size=content.size)
            return
        url = None
        if not content.is_linked and not span.offset:
            url = self._all.blobs.link(span.object, name="image", media_type="image/*", seconds=LINK_SECONDS)
        if url is not None:
            yield Place(url=url, size=content.size)
            return
        # What shares an object with others, or lies below a root elsewhere, is brought here.
        with self._all.table_cache.use() as use:
            use.require_room(content.size)
            path = use.file(f"{_source(content)}-bytes.image", lambda into: _write(into, *spans.read(self._all, [span])))
            yield Place(path=os.fsencode(path), size=content.size)

    @property
    def _reader(self) -> ImageReader:
        if self._all.images is None:
            raise MissingExtraError("this server reads no images: a package is missing", hint='pip install "epista[image]"')
        return self._all.images


def _source(content: Content) -> str:
    return content.sha256 or linked_source(content.object)


def _made(content: Content, body: bytes, media_type: str, question: str) -> Made:
    said = f"{_source(content)} {VERSION} {question}"
    return Made(body, media_type, hashlib.sha256(said.encode()).hexdigest()[:32])


def _write(into: Path, *pieces: bytes) -> None:
    with into.open("xb") as file:
        file.writelines(pieces)


def _scene(scene: Scene) -> wire.ImageScene:
    first = scene.levels[0]
    return wire.ImageScene(
        name=scene.name,
        dtype=scene.dtype,
        width=first.width,
        height=first.height,
        size_z=scene.size_z,
        size_t=scene.size_t,
        channels=tuple(wire.ImageChannel(name=one.name, color=one.color, limits=one.limits) for one in scene.channels),
        levels=tuple(
            wire.ImageLevel(
                width=one.width,
                height=one.height,
                tile_width=one.tile_width,
                tile_height=one.tile_height,
                downsample=scene.downsample(number),
                problem=one.problem,
            )
            for number, one in enumerate(scene.levels)
        ),
        pixel_size_um=scene.pixel_size_um,
        plane_distance_um=scene.plane_distance_um,
    )
