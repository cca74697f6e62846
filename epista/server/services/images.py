"""Images: what is in one and its pixels, for whoever sits in a tile session."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import RowMapping

from epista.contract import images as wire
from epista.contract.errors import (
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    UnreadableError,
    UnreadableImageError,
)
from epista.server.access.actors import Actor, Request
from epista.server.engines import image_files
from epista.server.imaging import iiif, ngff, rendering
from epista.server.imaging.cache import Cache
from epista.server.imaging.index import VERSION, Scene
from epista.server.imaging.rendering import Suggestions
from epista.server.services.contents import Content, content_of
from epista.server.services.pixels import OpenImage, Pixels
from epista.server.services.resources import Resources
from epista.server.services.tile_sessions import Sitting, TileSessions
from epista.server.services.tokens import Tokens
from epista.server.stores import features

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

    def __init__(self, resources: Resources, tokens: Tokens, pixels: Pixels) -> None:
        self._all = resources
        self._pixels = pixels
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

    def info(self, actor: Actor, wanted: wire.DescribeImage) -> wire.ImageInfo:
        """Tell what is in an image."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        with self._pixels.open(sitting.content) as image:
            index = image.index
        return wire.ImageInfo(
            version=sitting.ticket.version,
            format=index.format,
            scenes=tuple(map(_scene, index.scenes)),
            hidden=index.hidden,
            properties=index.properties,
            warnings=index.warnings,
        )

    def view(self, actor: Actor, wanted: wire.DescribeImage) -> Shown:
        """Tell what a person sees first who follows the address of a session."""
        info = self.info(actor, wanted)
        sitting = self._sessions.sitting(wanted.token, actor.request)
        return Shown(sitting.content.name, info, sitting.ticket.ends - self._all.clock() // 1_000_000)

    def region(self, actor: Actor, wanted: wire.ReadRegion) -> Made:
        """Read pixels."""
        fields = {name: getattr(wanted, name) for name in image_files.Region.__struct_fields__}
        content = self._sessions.sitting(wanted.token, actor.request).content
        with self._pixels.open(content) as image:
            return self._made(image, image_files.Region(**fields), "application/x-npy")

    def annotations(self, actor: Actor, wanted: wire.FindAnnotations) -> Made:
        """Return what is drawn on an image in its file, and in the GeoJSON that its maker may read."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        with self._pixels.open(sitting.content) as image:
            told = [image.read(image_files.Annotations(scene=wanted.scene))]
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
        with self._pixels.open(content) as image:
            return image.features(origin, scene)

    def rendering(self, actor: Actor, wanted: wire.GetRendering) -> wire.ImageRendering:
        """Tell how an image is drawn if nobody says how."""
        content = self._sessions.sitting(wanted.token, actor.request).content
        with self._pixels.open(content) as image:
            found = image.suggestions(wanted.scene)
            names = [channel.name for channel in image.index.scenes[wanted.scene].channels]
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
        with self._pixels.open(content) as image:
            return self._made(image, image.thumbnail(wanted.max_px), "image/png")

    def iiif(self, actor: Actor, wanted: wire.OpenPicture) -> None:
        """Refuse an image that is not the session's; of all others there is an ``info.json``."""
        _spelt(self._sessions.sitting(wanted.token, actor.request), wanted.image)

    def iiif_picture(self, actor: Actor, wanted: wire.DrawPicture) -> Made:
        """Draw a part of an image."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        text = _spelt(sitting, wanted.image)
        quality, _, format = wanted.name.rpartition(".")
        with self._pixels.open(sitting.content) as image:
            ask = image_files.Picture(
                rendering=image.usual() if text is None else text,
                region=wanted.region,
                size=wanted.size,
                rotation=wanted.rotation,
                quality=quality,
                format=format,
            )
            return self._made(image, ask, iiif.MEDIA_TYPES.get(format, ""))

    def iiif_info(self, actor: Actor, wanted: wire.DescribePicture, address: str) -> Made:
        """Tell what pictures an image has that is served at *address*."""
        sitting = self._sessions.sitting(wanted.token, actor.request)
        text = _spelt(sitting, wanted.image)
        with self._pixels.open(sitting.content) as image:
            scenes = image.index.scenes
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
        with self._pixels.open(sitting.content) as image:
            scenes = image.index.scenes
            if number >= len(scenes):
                raise missing
            chunk = ngff.chunk(wanted.format, wanted.key, scenes[number])
            if chunk is not None:
                ask = image_files.Chunk(scene=number, place=chunk)
                return self._made(image, ask, "application/octet-stream")

            def suggest() -> Suggestions | None:
                try:
                    return image.suggestions(number)
                except UnreadableImageError:
                    # What is damaged is told where it is read; the rest still is.
                    return None

            document = ngff.document(wanted.format, wanted.key, scenes[number], suggest)
        if document is None:
            raise missing
        told = msgspec.json.encode(document)
        return Made(told, "application/json", hashlib.sha256(told).hexdigest()[:32])

    def _made(self, image: OpenImage, ask: image_files.Ask, media_type: str) -> Made:
        said = f"{image.source} {VERSION} {ask!r}"
        tag = hashlib.sha256(said.encode(errors="replace")).hexdigest()[:32]
        body = self._drawn.get(tag)
        if body is None:
            body = image.read(ask)
            if isinstance(ask, image_files.Picture) and len(body) <= MAX_DRAWN_BYTES:
                self._drawn.put(tag, body)
        return Made(body, media_type, tag)


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


def _spelt(sitting: Sitting, image: str) -> str | None:
    """Return the rendering that an address spells out, if it does."""
    version, tilde, text = image.partition("~")
    if version != sitting.ticket.version:
        raise NotFoundError(f"there is no image {version!r} in this session", hint=f"it is for {sitting.ticket.version}")
    return text if tilde else None


def _scene(scene: Scene) -> wire.ImageScene:
    first = scene.levels[0]
    return wire.ImageScene(
        name=scene.name,
        dtype=scene.type_name,
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
