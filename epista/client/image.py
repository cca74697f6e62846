"""``ws.image``: what is in an image, pixels of a region, small pictures, and the address of a viewer."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from epista.client import assets
from epista.client.listings import printable
from epista.client.session import Session
from epista.contract import assets as asset_messages
from epista.contract import images as wire
from epista.contract.assets import AssetRef
from epista.contract.errors import ForbiddenError, ValidationError
from epista.serializers.picture import Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

RENEWED_BEFORE = timedelta(minutes=2)
"""How long before its end a session is exchanged for another one."""

_T = TypeVar("_T")


_of: weakref.WeakKeyDictionary[Session, Images] = weakref.WeakKeyDictionary()


def of(here: Session) -> Images:
    """Return the images of a session; the same object as long as the session lives, for it keeps tile sessions."""
    return _of.setdefault(here, Images(weakref.proxy(here)))


class ImageInfo(wire.ImageInfo, frozen=True, kw_only=True):
    """What is in an image. `width`, `height`, `levels`, `channels`, `dtype` and `pixel_size_um` are those of the first scene."""

    def __repr__(self) -> str:
        return "\n".join(described(self))

    @property
    def width(self) -> int:
        """Of level 0, in pixels."""
        return self.scenes[0].width

    @property
    def height(self) -> int:
        """Of level 0, in pixels."""
        return self.scenes[0].height

    @property
    def dtype(self) -> str:
        """Of the pixels, as numpy calls it: ``uint16``."""
        return self.scenes[0].dtype

    @property
    def levels(self) -> tuple[wire.ImageLevel, ...]:
        """From the finest to the coarsest."""
        return self.scenes[0].levels

    @property
    def channels(self) -> tuple[wire.ImageChannel, ...]:
        """In their order."""
        return self.scenes[0].channels

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Width and height of a pixel of level 0, in micrometres; None if the file does not say."""
        return self.scenes[0].pixel_size_um


class Images:
    """Images, read a window at a time by the lab's server: of a file of gigabytes, a region costs its pixels."""

    def __init__(self, host: Session) -> None:
        self._here = host
        self._sessions: dict[str, wire.TileSession] = {}
        self._lock = threading.Lock()

    def info(self, ref: str | AssetRef, *, version: str | int | None = None) -> ImageInfo:
        """
        Tell what is in an image: its size, levels, channels, the type of its pixels and their size, what the vendor wrote.

        Raises:
            KeyNotFoundError: nothing is there.
            UnreadableImageError: it is no image, or a damaged one.
        """

        def ask(token: str) -> ImageInfo:
            return self._here.wire.call("images.info", wire.DescribeImage(token=token), reply=ImageInfo)

        return self._sitting(ref, version, ask)

    def read_region(
        self,
        ref: str | AssetRef,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        level: int = 0,
        channels: Sequence[str | int] | None = None,
        z: int = 0,
        t: int = 0,
        scene: int = 0,
        version: str | int | None = None,
    ) -> NDArray[Any]:
        """
        Read a region of one plane.

        *x* and *y* are pixels of level 0, *width* and *height* pixels of *level*, as in OpenSlide: the origin is top left, and
        the region begins at ``floor(x / downsample)``. What lies beyond the right or the lower edge is cut off. *channels* are
        names (in any case, if only one fits) or numbers; None is all of them.

        Shape ``(height, width)`` for one channel, else ``(height, width, channels)`` in the order asked. The file's own dtype, in
        native byte order, not rescaled.

        Raises:
            ValidationError: there is no such place, level, plane or channel, or it is more than 16 megapixels; the hint names a
                level that fits.
            UnreadableImageError: a tile of it is damaged; never zeros instead.
        """
        import numpy as np

        wanted = wire.ReadRegion(
            token="",
            x=x,
            y=y,
            width=width,
            height=height,
            level=level,
            channels=() if channels is None else tuple(map(_spelt, [channels] if isinstance(channels, str) else channels)),
            z=z,
            t=t,
            scene=scene,
        )

        def ask(token: str) -> bytes:
            return self._here.wire.read("images.region", msgspec.structs.replace(wanted, token=token))

        data = self._sitting(ref, version, ask)
        found: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        return found

    def thumbnail(self, ref: str | AssetRef, *, max_px: int = 1024, version: str | int | None = None) -> Picture:
        """
        Return a small picture, of at most *max_px* by *max_px* pixels, which a notebook shows; ``to_pil()`` gives a Pillow image.

        Channels are drawn in the colours and between the limits of the file, else between percentiles.

        Raises:
            UnreadableImageError: it is no image, or a damaged one.
        """

        def ask(token: str) -> bytes:
            return self._here.wire.read("images.thumbnail", wire.DrawThumbnail(token=token, max_px=max_px))

        return Picture(self._sitting(ref, version, ask), "image/png")

    def picture(
        self,
        ref: str | AssetRef,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        level: int = 0,
        channels: Sequence[str | int] | None = None,
        z: int | None = None,
        t: int = 0,
        scene: int = 0,
        version: str | int | None = None,
    ) -> Picture:
        """
        Draw a region as one sees it, as PNG; the place is told as for `read_region`.

        Channels have the colours and limits of the viewer. *channels* None are those that the viewer shows at first, *z* None is
        the middle plane.

        Raises:
            ValidationError: there is no such place, level or channel.
            InvalidRequestError: there is no such plane or scene, or it is a picture of more than 64 megapixels.
            UnreadableImageError: a tile of it is damaged.
        """
        info = self.info(ref, version=version)

        def ask(token: str) -> bytes:
            usual = self._here.wire.call(
                "images.rendering", wire.GetRendering(token=token, scene=scene), reply=wire.ImageRendering
            )
            part, size = _part(info.scenes[scene], x, y, width, height, level)
            looks = [f"{one.channel}:{one.color}:{one.low!r}:{one.high!r}" for one in _chosen(usual.channels, channels)]
            rendering = f"{','.join(looks)};z{usual.z if z is None else z};t{t};s{scene}"
            wanted = wire.DrawPicture(
                token=token,
                image=f"{info.version}~{rendering}",
                region=",".join(map(str, part)),
                size=",".join(map(str, size)),
                rotation="0",
                name="default.png",
            )
            return self._here.wire.read("images.iiif_picture", wanted)

        return Picture(self._sitting(ref, info.version, ask), "image/png")

    def annotations(self, ref: str | AssetRef, *, scene: int = 0, version: str | int | None = None) -> dict[str, Any]:
        """
        Return what was drawn on a scene of an image: a GeoJSON ``FeatureCollection``, in pixels of level 0; y goes down.

        It has the ROIs of an OME-TIFF, and the features of every asset ``*.geojson`` that you may read and that was put with the
        image among its ``inputs``: ``ws.put("EXP-12/rois.geojson", features, inputs=[img])``. ``feature["properties"]["epista"]``
        says where a feature comes from, and on which version of the image it was drawn; all else in the properties is its
        author's. What is left out stands in ``["warnings"]``: masks, files that are no GeoJSON, and what was drawn on a version
        with other pixels.

        Raises:
            UnreadableImageError: it is no image, or a damaged one.
        """

        def ask(token: str) -> bytes:
            return self._here.wire.read("images.annotations", wire.FindAnnotations(token=token, scene=scene))

        found: dict[str, Any] = msgspec.json.decode(self._sitting(ref, version, ask))
        origins = (feature["properties"]["epista"] for feature in found["features"])
        self._here.provenance.read(dict.fromkeys(origin["version"] for origin in origins if "version" in origin))
        return found

    def url(self, ref: str | AssetRef, *, at: tuple[float, float, float] | None = None, version: str | int | None = None) -> str:
        """
        Return the address of a page that shows the image: pan, zoom, channels, contrast, annotations.

        *at* is what is seen first, ``(x, y, zoom)``: the middle in pixels of level 0, and how many pixels of the screen one of
        those is wide; None is the whole image. The address is a right to look at this version and nothing else: it works for a
        quarter of an hour, and a page that is open by then for up to twelve hours. That of an embedded lab works on this machine,
        as long as the workspace is open.

        Raises:
            KeyNotFoundError: nothing is there.
        """
        token = self._opened(self._version(ref, version), ref).token
        view = "" if at is None else "#{:.10g},{:.10g},{:.10g}".format(*at)
        return f"{self._here.url}{wire.TILES}/{token}/view{view}"

    def _sitting(self, ref: str | AssetRef, version: str | int | None, ask: Callable[[str], _T]) -> _T:
        """Ask within a session, which is opened or renewed before."""
        wanted = self._version(ref, version)
        session = self._session(wanted, ref)
        try:
            return ask(session.token)
        except ForbiddenError:
            # It may have ended before its time, with the key it was signed with. Whoever may not look hears so now.
            with self._lock:
                self._sessions.pop(wanted, None)
            return ask(self._session(wanted, ref).token)

    def _version(self, ref: str | AssetRef, version: str | int | None) -> str:
        found = ref if isinstance(ref, AssetRef) else assets.get(self._here, ref)
        if version is None:
            return found.version
        asked = asset_messages.GetVersion(workspace=self._here.name, key=found.key, version=str(version))
        return self._here.wire.call("assets.version", asked, reply=asset_messages.Version).id

    def _session(self, version: str, ref: str | AssetRef) -> wire.TileSession:
        now = datetime.now(UTC)
        with self._lock:
            known = self._sessions.get(version)
        if known is not None and now < known.expires_at - RENEWED_BEFORE:
            return known
        if known is not None and now < known.expires_at < known.renew_until:
            made = self._here.wire.call("images.renew", wire.RenewTiles(token=known.token), reply=wire.TileSession)
        else:
            made = self._opened(version, ref)
            self._here.provenance.read([version])
        with self._lock:
            self._sessions = {id: one for id, one in self._sessions.items() if one.expires_at > now} | {version: made}
        return made

    def _opened(self, version: str, ref: str | AssetRef) -> wire.TileSession:
        asked = wire.OpenTiles(
            workspace=self._here.name,
            ref=ref.id if isinstance(ref, AssetRef) else ref,
            experiment=self._here.experiment_name,
            version=version,
        )
        return self._here.wire.call("images.open", asked, reply=wire.TileSession)


def _part(
    scene: wire.ImageScene, x: int, y: int, width: int, height: int, level: int
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Return a region of a level in pixels of level 0, and how large it is in the level, cut at the edges."""
    if not 0 <= level < len(scene.levels):
        raise ValidationError(f"there is no level {level}; 0 to {len(scene.levels) - 1} exist")
    if not (0 <= x < scene.width and 0 <= y < scene.height):
        raise ValidationError(f"({x}, {y}) is not in the image, which has {scene.width} x {scene.height} pixels")
    if width <= 0 or height <= 0:
        raise ValidationError(f"a region of {width} x {height} pixels has none")
    chosen = scene.levels[level]
    across, down = chosen.downsample
    # In whole numbers, as the server: a float may lie just below one.
    left, top = x * chosen.width // scene.width, y * chosen.height // scene.height
    width, height = min(width, chosen.width - left), min(height, chosen.height - top)
    start = left * scene.width // chosen.width, top * scene.height // chosen.height
    end = min(scene.width, round((left + width) * across)), min(scene.height, round((top + height) * down))
    return (*start, max(end[0] - start[0], width), max(end[1] - start[1], height)), (width, height)


def _spelt(channel: str | int) -> str:
    # A channel may be called 1, and stand elsewhere.
    return channel if isinstance(channel, str) else f"#{channel}"


def _chosen(channels: Sequence[wire.ChannelRendering], wanted: Sequence[str | int] | str | None) -> list[wire.ChannelRendering]:
    """Return the channels that were asked for, by name or number."""
    if wanted is None:
        return [one for one in channels if one.is_shown]
    found = []
    for asked in [wanted] if isinstance(wanted, str) else wanted:
        fit = [one for one in channels if asked in (one.name, one.channel)]
        fit = fit or [one for one in channels if str(asked).casefold() in (one.name.casefold(), str(one.channel))]
        if len(fit) != 1:
            names = ", ".join(f"{one.channel} {one.name!r}" for one in channels)
            raise ValidationError(f"no channel {asked!r}{' (several)' if fit else ''}; there are {len(channels)}: {names}")
        found += fit
    return found


def described(info: ImageInfo) -> list[str]:
    """Return what is in an image as lines of text, without anything that would steer a terminal."""
    lines = []
    for number, scene in enumerate(info.scenes):
        if len(info.scenes) > 1:
            lines.append(f"scene {number}" + (f", {scene.name}" if scene.name else ""))
        planes = [(scene.size_z, "z"), (scene.size_t, "t")]
        told = [
            f"{scene.width:,} x {scene.height:,} pixels, {scene.dtype}",
            *(f"{count:,} planes in {axis}" for count, axis in planes if count > 1),
        ]
        if scene.pixel_size_um:
            told.append("{:.6g} x {:.6g} µm each".format(*scene.pixel_size_um))
        lines.append(", ".join(told))
        rows = [
            (f"level {at}", f"{one.width:,} x {one.height:,}", f"1/{round(max(one.downsample), 1):g}", one.problem)
            for at, one in enumerate(scene.levels)
        ]
        rows += [(f"channel {at}", one.name, f"#{one.color}" if one.color else "", "") for at, one in enumerate(scene.channels)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if info.hidden:
        lines.append(f"not served: {', '.join(info.hidden)}")
    return [printable(line) for line in (info.format, *lines, *(f"note: {warning}" for warning in info.warnings))]
