"""
OME-XML, as far as a reader of pixels needs it (OME data model, schemas 2003 to 2016-06).

Read before anybody else reads it: a document type is refused, so that entities cannot grow, and so are other files' names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import msgspec

from epista.contract.errors import UnreadableImageError
from epista.server.imaging.index import MAX_PAGES, MAX_XML_BYTES, Channel

_UM = {
    "µm": 1.0,  # the micro sign, which is the default unit
    "μm": 1.0,  # the Greek letter
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25_400.0,
    # As OME-Zarr spells them.
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "nanometer": 1e-3,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "inch": 25_400.0,
}
"""Micrometres in a unit; `pixel` and `reference frame` are none."""

_MOST_NAMES = 20


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What OME-XML says of one image."""

    name: str
    channels: tuple[Channel, ...]
    """One for each channel, or for each group of samples of a colour channel."""
    pixel_size_um: tuple[float, float] | None
    plane_distance_um: float | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """OME-XML that was looked at."""

    images: tuple[Described, ...]
    xml: str
    """The same, without names of files, each image named by its number in `images`."""


def read(text: str) -> Document:
    """
    Read the OME-XML of a file.

    Raises:
        UnreadableImageError: it is none, is too long, has a document type, or says that pixels are in other files, which
            ``details["files"]`` lists.
    """
    root = parse(text)
    _refuse_other_files(root)
    images = []
    for number, image in enumerate(children(root, "Image")):
        pixels = next(children(image, "Pixels"), None)
        if pixels is None:
            raise UnreadableImageError("the OME-XML has an image without pixels")
        images.append(_described(image, pixels))
        image.set("Name", str(number))
    return Document(images=tuple(images), xml=ElementTree.tostring(root, encoding="unicode"))


def parse(text: str) -> ElementTree.Element:
    """
    Return the root of OME-XML.

    Raises:
        UnreadableImageError: it is none, is too long, or has a document type.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_XML_BYTES:
        raise UnreadableImageError(f"the OME-XML is longer than {MAX_XML_BYTES // 1024**2} MiB")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableImageError("the OME-XML has a document type, which no image needs")
    try:
        # Entities need a document type, and there is none.
        return ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise UnreadableImageError("the OME-XML is damaged") from error


def micrometres(value: str | None, unit: str | None) -> float | None:
    """Return a length in µm, or None if it is none."""
    try:
        length = float(value or "nan") * _UM.get(unit or "µm", math.nan)
    except ValueError:
        return None
    return length if 0 < length < math.inf else None


def _refuse_other_files(root: ElementTree.Element) -> None:
    """Refuse XML that names other files; one name throughout means the file itself, and is taken out."""
    names = {metadata.get("MetadataFile", "") for metadata in children(root, "BinaryOnly")}
    own = set()
    for data in root.iter():
        if tag_of(data) == "TiffData":
            for uuid in list(children(data, "UUID")):
                own.add(uuid.get("FileName") or (uuid.text or "").strip())
                data.remove(uuid)
    if len(own) > 1:
        names |= own
    if names:
        listed = sorted(names)
        raise UnreadableImageError(
            f"the pixels of this OME-TIFF are in {len(listed)} file{'s' if len(listed) > 1 else ''}: "
            + ", ".join(f"{name[:100]!r}" for name in listed[:_MOST_NAMES])
            + (", ..." if len(listed) > _MOST_NAMES else ""),
            hint="write it as one file, for instance with bfconvert",
            details={"files": [name[:1000] for name in listed[:1000]]},
        )


def _described(image: ElementTree.Element, pixels: ElementTree.Element) -> Described:
    sizes = [pixels.get(f"Size{axis}", "") for axis in "XYZCT"]
    if not all(re.fullmatch("[0-9]{1,9}", size) and int(size) for size in sizes):
        raise UnreadableImageError("the OME-XML does not say how large its image is")
    if int(sizes[2]) * int(sizes[3]) * int(sizes[4]) > MAX_PAGES:
        raise UnreadableImageError(f"the OME-XML speaks of more than {MAX_PAGES:,} planes")
    order = pixels.get("DimensionOrder", "")
    if sorted(order) != sorted("XYZCT") or not order.startswith("XY"):
        raise UnreadableImageError(f"the OME-XML has an order of dimensions that does not exist: {order[:20]!r}")
    width, height = (micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit")) for axis in "XY")
    return Described(
        name=image.get("Name", ""),
        channels=tuple(
            Channel(name=channel.get("Name", ""), color=color(channel.get("Color"))) for channel in children(pixels, "Channel")
        ),
        pixel_size_um=(width, height) if width and height else None,
        plane_distance_um=micrometres(pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit")),
    )


def color(text: str | None) -> str | None:
    """Return RGBA as a signed 32-bit number in hexadecimal, without A."""
    if text is None or not re.fullmatch("-?[0-9]{1,10}", text):
        return None
    return f"{(int(text) & 0xFFFFFFFF) >> 8:06x}"


def children(parent: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Yield the elements directly below *parent* that are called *tag*, whatever the schema."""
    return (child for child in parent if tag_of(child) == tag)


def tag_of(element: ElementTree.Element) -> str:
    """Return what an element is called, without its namespace."""
    return str(element.tag).rpartition("}")[2]
