"""Images: short sessions in whose addresses the right to look stands, since programs that show tiles send no headers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from epista.contract.messages import Instant, Reply, Request, Text

TILES = "/tiles"
"""Where the addresses of all sessions begin."""

IIIF = TILES + "/{token}/iiif"
"""Where those of the IIIF Image API do."""


class OpenTiles(Request, frozen=True, kw_only=True):
    """Open a session, in which the pixels of one version are read."""

    workspace: Text
    """The workspace."""
    ref: Text
    """An id, a key or a bare name."""
    experiment: Text | None = None
    """The active experiment, in which a key without a folder is looked up first."""
    version: Text | None = None
    """An older version, by id or number."""


class TileSession(Reply, frozen=True, kw_only=True):
    """A session. Whoever has its token may look at one version, and nothing else, until it ends."""

    token: str
    """What stands in the addresses, after ``/tiles/``."""
    version: str
    """The version."""
    expires_at: Instant
    """When it ends."""
    renew_until: Instant
    """Until when it can be exchanged for another one, while it works."""

    def __repr__(self) -> str:
        return f"TileSession(token=<hidden>, version={self.version!r}, expires_at={self.expires_at!r})"


class RenewTiles(Request, frozen=True, kw_only=True):
    """Exchange a session that still works for another one."""

    token: Text
    """The token of the session."""

    def __repr__(self) -> str:
        return "RenewTiles(token=<hidden>)"


class ImageChannel(Reply, frozen=True, kw_only=True):
    """One channel of an image."""

    name: str
    """As in the file, else ``Channel 0``, ...; a colour image has ``R``, ``G``, ``B`` and perhaps ``A``."""
    color: str | None = None
    """What the file says it is drawn in, as ``rrggbb`` in hexadecimal."""
    limits: tuple[float, float] | None = None
    """The values that the file says to draw darkest and brightest."""


class ImageLevel(Reply, frozen=True, kw_only=True):
    """One resolution of an image; level 0 is the finest."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    tile_width: int
    """In pixels; of an image without tiles, what is read at once."""
    tile_height: int
    """In pixels."""
    downsample: tuple[float, float]
    """How many pixels of level 0 one of this level is wide and high."""
    problem: str = ""
    """Why it cannot be read."""


class ImageScene(Reply, frozen=True, kw_only=True):
    """One of the images of a file; most files have one."""

    name: str = ""
    """As in the file."""
    dtype: str
    """Of the pixels, as numpy calls it: ``uint16``."""
    width: int
    """Of level 0, in pixels."""
    height: int
    """Of level 0, in pixels."""
    size_z: int = 1
    """How many planes lie above each other."""
    size_t: int = 1
    """How many follow each other in time."""
    channels: tuple[ImageChannel, ...]
    """In their order."""
    levels: tuple[ImageLevel, ...]
    """From the finest to the coarsest."""
    pixel_size_um: tuple[float, float] | None = None
    """Width and height of a pixel of level 0, in micrometres; null if the file does not say."""
    plane_distance_um: float | None = None
    """From one z to the next, in micrometres; null if the file does not say."""


class ImageInfo(Reply, frozen=True, kw_only=True):
    """What is in an image."""

    version: str
    """The version that was looked into."""
    format: str
    """What people call it, such as ``OME-TIFF``."""
    scenes: tuple[ImageScene, ...]
    """The images of the file."""
    hidden: tuple[str, ...] = ()
    """Images that may show whose slide it is (label, macro): named, and never served."""
    properties: dict[str, str] = {}
    """What the vendor wrote."""
    warnings: tuple[str, ...] = ()
    """What is odd about the file."""


class DescribeImage(Request, frozen=True, kw_only=True):
    """Look at what is in the image of a session."""

    token: Text
    """The token of the session."""

    def __repr__(self) -> str:
        return "DescribeImage(token=<hidden>)"


_Pixel = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]
_Number = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31)]


class ReadRegion(Request, frozen=True, kw_only=True):
    """Read a region of the image of a session, as a ``.npy`` file: ``(height, width)``, or ``(height, width, channels)``."""

    token: Text
    """The token of the session."""
    x: _Pixel
    """The left edge, in pixels of level 0."""
    y: _Pixel
    """The upper edge, in pixels of level 0."""
    width: _Pixel
    """In pixels of the level; what lies beyond the image is cut off."""
    height: _Pixel
    """In pixels of the level."""
    level: _Number = 0
    """Of the resolutions, from 0, the finest."""
    channels: tuple[Text, ...] = ()
    """Names, or numbers from 0 (``#1`` where a channel is called ``1``); none for all of them."""
    z: _Number = 0
    """Of the planes above each other, from 0."""
    t: _Number = 0
    """Of those that follow each other in time, from 0."""
    scene: _Number = 0
    """Of the images of the file, from 0."""

    def __repr__(self) -> str:
        return f"ReadRegion(token=<hidden>, x={self.x}, y={self.y}, width={self.width}, height={self.height}, level={self.level})"


class FindAnnotations(Request, frozen=True, kw_only=True):
    """Ask for what was drawn on the image of a session: a GeoJSON `FeatureCollection` in pixels of level 0."""

    token: Text
    """The token of the session."""
    scene: _Number = 0
    """Of the images of the file, from 0."""

    def __repr__(self) -> str:
        return f"FindAnnotations(token=<hidden>, scene={self.scene})"


class DrawThumbnail(Request, frozen=True, kw_only=True):
    """Draw a small picture of the image of a session, as PNG."""

    token: Text
    """The token of the session."""
    max_px: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1024
    """How wide and how high it is at most."""

    def __repr__(self) -> str:
        return f"DrawThumbnail(token=<hidden>, max_px={self.max_px})"


class GetRendering(Request, frozen=True, kw_only=True):
    """Look at how the image of a session is drawn if nobody says how."""

    token: Text
    """The token of the session."""
    scene: _Number = 0
    """Of the images of the file, from 0."""

    def __repr__(self) -> str:
        return f"GetRendering(token=<hidden>, scene={self.scene})"


class ChannelRendering(Reply, frozen=True, kw_only=True):
    """How one channel may be drawn."""

    channel: int
    """Its number, from 0."""
    name: str
    """As in the file, else ``Channel 0``, ..."""
    color: str
    """As ``rrggbb`` in hexadecimal."""
    low: float
    """The value that is drawn black."""
    high: float
    """The value that is drawn in the full colour."""
    is_shown: bool
    """Whether it is drawn if nobody says which channels are."""
    lowest: float
    """The smallest value among the pixels that were looked at: those of the smallest level, or of its middle."""
    highest: float
    """The largest value among them."""


class ImageRendering(Reply, frozen=True, kw_only=True):
    """
    How an image is drawn if nobody says how: between the limits that its file names, else between percentiles of its pixels.

    Worked out once for each image, so that all its tiles agree.
    """

    text: str
    """As it stands in addresses: ``0:0000ff:200:4000,2:ff0000:100:3000;z3``, number, colour, low and high of each channel."""
    z: int = 0
    """Which of the planes above each other is drawn: the middle one."""
    channels: tuple[ChannelRendering, ...]
    """All of them, in their order."""


class OpenPicture(Request, frozen=True, kw_only=True):
    """Follow the base address of an image to its ``info.json`` (IIIF Image API 3.0, section 2)."""

    token: Text
    """The token of the session."""
    image: Text
    """The version, and after ``~`` how it is drawn, as in `ImageRendering`; without that as usual."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(token=<hidden>, image={self.image!r})"


class DescribePicture(OpenPicture, frozen=True, kw_only=True):
    """Look at what pictures an image has (IIIF Image API 3.0, section 5); as ``application/ld+json``, if that is accepted."""


class DrawPicture(Request, frozen=True, kw_only=True):
    """Draw a part of the image of a session (IIIF Image API 3.0, section 4, level 2)."""

    token: Text
    """The token of the session."""
    image: Text
    """The version, and after ``~`` how it is drawn, as in `ImageRendering`; without that as usual."""
    region: Text
    """``full``, ``square``, ``x,y,w,h`` or ``pct:x,y,w,h``, in pixels of level 0."""
    size: Text
    """``max``, ``w,``, ``,h``, ``w,h``, ``!w,h`` or ``pct:n``; after ``^`` it may be larger than the region."""
    rotation: Text
    """0, 90, 180 or 270, clockwise; after ``!`` mirrored at first."""
    name: Text
    """``quality.format``: ``default``, ``color``, ``gray`` or ``bitonal``; ``jpg``, ``png`` or ``webp``."""

    def __repr__(self) -> str:
        return (
            f"DrawPicture(token=<hidden>, image={self.image!r}, region={self.region!r}, size={self.size!r}, "
            f"rotation={self.rotation!r}, name={self.name!r})"
        )


class ReadZarr(Request, frozen=True, kw_only=True):
    """Read a document or a chunk of the image of a session as if it were an OME-Zarr."""

    token: Text
    """The token of the session."""
    format: Text
    """The version of OME-Zarr: 0.4 or 0.5."""
    image: Text
    """The version of the asset, and after ``~s`` the number of the scene, from 0; without that the first."""
    key: Text
    """The name of the document or the chunk within the Zarr, such as ``zarr.json`` or ``0/c/0/0/0/2/3``."""

    def __repr__(self) -> str:
        return f"ReadZarr(token=<hidden>, format={self.format!r}, image={self.image!r}, key={self.key!r})"
