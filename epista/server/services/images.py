"""Images: what is in one and its pixels, for whoever sits in a tile session."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import RowMapping

from epista.contract import images as wire
from epista.contract.errors import (
    InvalidRequestError,
    MissingExtraError,
    NotFoundError,
    TooLargeError,
    UnreadableError,
    UnreadableImageError,
)
from epista.server.access.actors import Actor, Request
from epista.server.engines import image_files
from epista.server.engines.image_files import Levels, Place
from epista.server.engines.images import ImageReader
from epista.server.imaging import iiif, ngff, pyramids, rendering
from epista.server.imaging.cache import Cache
from epista.server.imaging.index import VERSION, Index, Scene
from epista.server.imaging.rendering import Suggestions
from epista.server.services import spans
from epista.server.services.contents import Content, content_of
from epista.server.services.resources import Resources
from epista.server.services.tile_sessions import Sitting, TileSessions
from epista.server.services.tokens import Tokens
from epista.server.stores import features, linked
from epista.server.stores.table_cache import Use
from epista.server.stores.table_facts import linked_source

LINK_SECONDS = 300
"""How long a link to an object works that a child is given; longer than it may take."""


MOST_ANNOTATIONS = 50
"""Of how many assets the features are shown on an image."""

MAX_ANNOTATION_BYTES = 64 * 1024**2
"""How much is drawn on an image, in GeoJSON."""

DRAWN_BYTES = 32 * 1024**2
"""How much of what was drawn is kept: many who look at one image at once ask for the same tiles."""

MAX_DRAWN_BYTES = 512 * 1024
"""A larger picture is no tile of a viewer, and is not kept."""


class Made(NamedTuple):
    """What a session gets, and the tag of its bytes: the same for the same question."""

    body: bytes
    media_type: str
    tag: str
    is_lasting: bool = True
    """Whether the same question has the same answer at any time."""


class Shown(NamedTuple):
    """What the viewer's page says before any script runs."""

    name: str
    """Of the file, without its folders."""
    info: wire.ImageInfo
    seconds: int
    """How long the session works."""


class Images:
    """Whoever has a session may look at its version, as long as its maker may."""

    def __init__(self, resources: Resources, tokens: Tokens) -> None:
        self._all = resources
        self._sessions = TileSessions(resources, tokens)
        self._drawn: Cache[bytes] = Cache(DRAWN_BYTES, len)

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
            index = self._described(sitting.content, place)
        return wire.ImageInfo(
            version=sitting.ticket.version,
            format=index.format,
            scenes=tuple(map(_scene, index.scenes)),
            hidden=index.hidden,
            properties=index.properties,
            warnings=index.warnings,
        )

    def view(self, wanted: wire.DescribeImage, request: Request) -> Shown:
        """Tell what a person sees first who follows the address of a session."""
        info = self.info(None, wanted, request)
        sitting = self._sessions.sitting(wanted.token, request)
        return Shown(sitting.content.name, info, sitting.ticket.ends - self._all.clock() // 1_000_000)

    def region(self, actor: Actor, wanted: wire.ReadRegion) -> Made:
        """Read pixels."""
        fields = {name: getattr(wanted, name) for name in image_files.Region.__struct_fields__}
        content = self._sessions.sitting(wanted.token, actor.request).content
        with self._place(content) as place:
            return self._made(content, place, image_files.Region(**fields), "application/x-npy")

    def annotations(self, actor: Actor, wanted: wire.FindAnnotations) -> Made:
        """Return what is drawn on an image in its file, and in the GeoJSON that its maker may read."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        with self._place(sitting.content) as place:
            told = [self._read(sitting.content, place, image_files.Annotations(scene=wanted.scene))]
        with self._all.read(sitting.actor, "read", sitting.ticket.workspace) as (tx, access):
            ours = access.workspace_id, access.experiments
            rows = features.of_version(tx, *ours, sitting.content.version_id, MOST_ANNOTATIONS + 1)
            fitting = [(row, content_of(tx, access, row["uid"])) for row in rows[:MOST_ANNOTATIONS] if row["fits"]]
        warnings = [
            f"{row['key']!r} is left out: it was drawn on version {row['on_number']}, which has other bytes"
            for row in rows[:MOST_ANNOTATIONS]
            if not row["fits"]
        ]
        if len(rows) > MOST_ANNOTATIONS:
            warnings.append(f"more than {MOST_ANNOTATIONS} assets were drawn on the image; the newest are here")
        for row, content in fitting:
            try:
                told.append(self._features(row, content, wanted.scene))
            except (UnreadableError, TooLargeError) as error:
                warnings.append(f"{row['key']!r} is left out: {error.message}")
        body = _collection(told, warnings)
        if fitting:
            details = {"annotations": [row["uid"] for row, _ in fitting]}
            self._all.note(sitting.actor, access.workspace_id, sitting.content.name, details)
        return Made(body, "application/geo+json", hashlib.sha256(body).hexdigest()[:32], is_lasting=False)

    def _features(self, row: RowMapping, content: Content, scene: int) -> bytes:
        origin = {name: row[name] for name in ("key", "number")} | {
            "version": row["uid"],
            "drawn_on": {"version": row["on_uid"], "number": row["on_number"]},
        }
        if content.size > image_files.MAX_FEATURES_BYTES:
            raise TooLargeError(f"it has {content.size:,} bytes, and {image_files.MAX_FEATURES_BYTES:,} are the most")
        with self._place(content) as place:
            return self._reader.features(place, image_files.Features(origin=origin, scene=scene))

    def rendering(self, secret: str | None, wanted: wire.GetRendering, request: Request) -> wire.ImageRendering:
        """Tell how an image is drawn if nobody says how; no other token is needed, and none counts."""
        content = self._sessions.sitting(wanted.token, request).content
        with self._place(content) as place:
            found = self._suggested(content, place, wanted.scene)
            names = [channel.name for channel in self._described(content, place).scenes[wanted.scene].channels]
        shown = rendering.usual(found, wanted.scene)
        return wire.ImageRendering(
            text=rendering.spell(shown),
            z=shown.z,
            channels=tuple(
                wire.ChannelRendering(
                    **one.look._asdict(),
                    name=names[one.look.channel],
                    is_shown=one.is_shown,
                    lowest=one.lowest,
                    highest=one.highest,
                )
                for one in found.channels
            ),
        )

    def thumbnail(self, actor: Actor, wanted: wire.DrawThumbnail) -> Made:
        """Draw a small picture."""
        content = self._sessions.sitting(wanted.token, actor.request).content
        with self._place(content) as place:
            ask = image_files.Thumbnail(max_px=wanted.max_px, rendering=self._usual(content, place))
            return self._made(content, place, ask, "image/png")

    def overview(self, content: Content, max_px: int) -> tuple[Index, bytes]:
        """Return what is in an image and a small picture of it, as PNG, for whoever was found to be allowed to read it."""
        with self._place(content) as place:
            index = self._described(content, place)
            ask = image_files.Thumbnail(max_px=max_px, rendering=self._usual(content, place))
            return index, self._read(content, place, ask)

    def iiif(self, actor: Actor, wanted: wire.OpenPicture) -> None:
        """Refuse an image that is not the session's; of all others there is an ``info.json``."""
        _spelt(self._sessions.sitting(wanted.token, actor.request), wanted.image)

    def iiif_picture(self, actor: Actor, wanted: wire.DrawPicture) -> Made:
        """Draw a part of an image."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        text = _spelt(sitting, wanted.image)
        quality, _, format = wanted.name.rpartition(".")
        with self._place(sitting.content) as place:
            ask = image_files.Picture(
                rendering=self._usual(sitting.content, place) if text is None else text,
                region=wanted.region,
                size=wanted.size,
                rotation=wanted.rotation,
                quality=quality,
                format=format,
            )
            return self._made(sitting.content, place, ask, iiif.MEDIA_TYPES.get(format, ""))

    def iiif_info(self, actor: Actor, wanted: wire.DescribePicture, address: str) -> Made:
        """Tell what pictures an image has that is served at *address*."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        text = _spelt(sitting, wanted.image)
        with self._place(sitting.content) as place:
            scenes = self._described(sitting.content, place).scenes
        scene = 0 if text is None else rendering.parse(text).scene
        if scene >= len(scenes):
            raise InvalidRequestError(f"there is no scene {scene}; there are {len(scenes)}, from 0")
        whole = scenes[scene].levels[0]
        told = msgspec.json.encode(iiif.info(address, whole.width, whole.height, (whole.tile_width, whole.tile_height)))
        return Made(told, "application/json", hashlib.sha256(told).hexdigest()[:32])

    def zarr(self, actor: Actor, wanted: wire.ReadZarr) -> Made:
        """Read a document or a chunk of the view as OME-Zarr."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        text = _spelt(sitting, wanted.image)
        found = _SCENE.fullmatch("s0" if text is None else text)
        missing = NotFoundError(f"there is no {wanted.key[:100]!r} in this view of the image")
        if found is None or wanted.format not in ngff.VERSIONS:
            raise missing
        number = int(found[1])
        with self._place(sitting.content) as place:
            scenes = self._described(sitting.content, place).scenes
            if number >= len(scenes):
                raise missing
            chunk = ngff.chunk(wanted.format, wanted.key, scenes[number])
            if chunk is not None:
                ask = image_files.Chunk(scene=number, place=chunk)
                return self._made(sitting.content, place, ask, "application/octet-stream")

            def suggest() -> Suggestions | None:
                try:
                    return self._suggested(sitting.content, place, number)
                except UnreadableImageError:
                    # What is damaged is told where it is read; the rest still is.
                    return None

            document = ngff.document(wanted.format, wanted.key, scenes[number], suggest)
        if document is None:
            raise missing
        told = msgspec.json.encode(document)
        return Made(told, "application/json", hashlib.sha256(told).hexdigest()[:32])

    def _made(self, content: Content, place: Place, ask: image_files.Ask, media_type: str) -> Made:
        said = f"{_source(content)} {VERSION} {ask!r}"
        tag = hashlib.sha256(said.encode(errors="replace")).hexdigest()[:32]
        body = self._drawn.get(tag)
        if body is None:
            body = self._read(content, place, ask)
            if isinstance(ask, image_files.Picture) and len(body) <= MAX_DRAWN_BYTES:
                self._drawn.put(tag, body)
        return Made(body, media_type, tag)

    def _read(self, content: Content, place: Place, ask: image_files.Ask) -> bytes:
        with ExitStack() as stack:

            def levels(plane: tuple[int, int, int]) -> Levels:
                return self._levels(stack.enter_context(self._all.table_cache.use()), content, place, plane)

            def whole() -> Place:
                return self._copied(stack.enter_context(self._all.table_cache.use()), content)

            return self._reader.read(place, _source(content), ask, lambda: self._index(content, place), levels, whole)

    def _levels(self, use: Use, content: Content, place: Place, plane: tuple[int, int, int]) -> Levels:
        """Return the levels of a plane that the image has not itself; made at first, and kept by content."""
        name = "-".join([_source(content), "levels", str(VERSION), *map(str, plane)])

        def make(into: Path) -> None:
            index = self._index(content, place)
            scene = msgspec.msgpack.decode(index, type=Index).scenes[plane[0]]
            use.require_room(pyramids.most_bytes(scene))
            self._reader.make_levels(place, _source(content), index, plane, into)

        path = use.file(name, make, wait_seconds=_MADE_SECONDS)
        with path.open("rb") as file:
            return Levels(
                place=Place(path=os.fsencode(path), size=path.stat().st_size), levels=pyramids.levels_in(file), plane=plane
            )

    def _usual(self, content: Content, place: Place) -> str:
        """Return how an image is drawn if nobody says how."""
        return rendering.spell(rendering.usual(self._suggested(content, place, 0)))

    def _suggested(self, content: Content, place: Place, scene: int) -> Suggestions:
        """Return how the channels of a scene may be shown; worked out once, so that all tiles agree."""
        with self._all.table_cache.use() as use:
            name = f"{_source(content)}-rendering-{VERSION}-{scene}"
            ask = image_files.Suggest(scene=scene)
            kept = use.file(name, lambda into: _write(into, self._read(content, place, ask))).read_bytes()
        return msgspec.msgpack.decode(kept, type=Suggestions)

    def _described(self, content: Content, place: Place) -> Index:
        return msgspec.msgpack.decode(self._index(content, place), type=Index)

    def _index(self, content: Content, place: Place) -> bytes:
        """Return what is known of an image; found out at first, and kept by content."""
        with self._all.table_cache.use() as use:
            name = f"{_source(content)}-image-{VERSION}"

            def read(into: Path) -> None:
                _write(into, self._reader.index(place, name, lambda: self._copied(use, content)))

            return use.file(name, read).read_bytes()

    @contextmanager
    def _place(self, content: Content) -> Iterator[Place]:
        """Give where a child can read the bytes, until the context ends."""
        if content.is_in_parts:
            raise UnreadableImageError("this is a table, and no image")
        if content.name.lower().endswith(".mrxs"):
            # Of itself it is a JPEG, which may show the label of the slide.
            raise UnreadableImageError(
                "the pixels of a MRXS slide lie in a folder of files beside it", hint="convert it, to OME-TIFF or OME-Zarr"
            )
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
            yield self._copied(use, content)

    def _copied(self, use: Use, content: Content) -> Place:
        """Bring the bytes here, as a file of their own."""
        use.require_room(content.size)
        [span] = spans.looked_up(self._all, [content.span(0, content.size)])
        path = use.file(f"{_source(content)}-bytes.image", lambda into: _write(into, *spans.read(self._all, [span])))
        return Place(path=os.fsencode(path), size=content.size)

    @property
    def _reader(self) -> ImageReader:
        if self._all.images is None:
            raise MissingExtraError("this server reads no images: a package is missing", hint='pip install "epista[image]"')
        return self._all.images


_MADE_SECONDS = 10.0
"""How long one waits for levels that are made for somebody else: threads that wait help nobody."""

_SCENE = re.compile(r"s(0|[1-9]\d{0,5})", re.ASCII)


class _Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What a child tells; see `epista.server.imaging.features.Drawn`, of which nothing is looked into here."""

    features: list[msgspec.Raw]
    warnings: list[str]


def _collection(told: Iterable[bytes], warnings: Iterable[str]) -> bytes:
    """Return as one collection what several files have."""
    found: list[msgspec.Raw] = []
    said: list[str] = []
    size = 0
    for one in told:
        drawn = msgspec.json.decode(one, type=_Drawn)
        size += len(one)
        said += drawn.warnings
        if size <= MAX_ANNOTATION_BYTES:
            found += drawn.features
    if size > MAX_ANNOTATION_BYTES:
        said.append(f"more than {MAX_ANNOTATION_BYTES // 1024**2} MiB were drawn on the image; a part of it is left out")
    return msgspec.json.encode({"type": "FeatureCollection", "features": found, "warnings": [*said, *warnings]})


def _source(content: Content) -> str:
    return content.sha256 or linked_source(content.object)


def _spelt(sitting: Sitting, image: str) -> str | None:
    """Return the rendering that an address spells out, if it does."""
    version, tilde, text = image.partition("~")
    if version != sitting.ticket.version:
        raise NotFoundError(f"there is no image {version!r} in this session", hint=f"it is for {sitting.ticket.version}")
    return text if tilde else None


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
