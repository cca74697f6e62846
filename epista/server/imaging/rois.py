"""
The regions of interest in OME-XML, as features of GeoJSON (OME data model, schemas 2010 to 2016-06).

A ROI is made of shapes; each is a feature, in pixels of level 0, after its affine transform.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from epista.server.imaging import ome

CORNERS = 64
"""Of the polygon that stands for an ellipse: GeoJSON knows no curves. It is inside, by at most 0.13 % of a radius."""

_MOST_CHARACTERS = 4096

Points = list[tuple[float, float]]


def read(xml: str, image: int) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return the shapes on one image, as features, and what was left out.

    A ROI is on the images that refer to it. One that none refers to is on the only image there is; of several, on none.

    Raises:
        UnreadableImageError: it is no XML that may be read.
    """
    root = ome.parse(xml)
    referred = [{one.get("ID", "") for one in ome.children(each, "ROIRef")} for each in ome.children(root, "Image")]
    if not 0 <= image < len(referred):
        return [], []
    features: list[dict[str, Any]] = []
    masks, unreadable, lost = 0, 0, 0
    for roi in ome.children(root, "ROI"):
        name = roi.get("ID", "")
        if not any(name in one for one in referred) and len(referred) > 1:
            lost += 1
        elif name in referred[image] or len(referred) == 1:
            for shape in _shapes(roi):
                kind = ome.tag_of(shape)
                if kind == "Mask":
                    masks += 1
                elif (feature := _feature(roi, shape, kind)) is not None:
                    features.append(feature)
                else:
                    unreadable += 1
    warnings = []
    if masks:
        warnings.append(f"{_count(masks, 'mask')} left out: pixels, and no outlines")
    if unreadable:
        warnings.append(f"{_count(unreadable, 'shape')} left out, whose kind or numbers cannot be read")
    if lost:
        warnings.append(f"{_count(lost, 'ROI')} left out, which no image refers to")
    return features, warnings


def _count(number: int, noun: str) -> str:
    return f"1 {noun} of the file is" if number == 1 else f"{number:,} {noun}s of the file are"


def _shapes(roi: Element) -> list[Element]:
    """Return the shapes of a ROI; until 2013 the attributes that all have stood in an element around them."""
    found = []
    for union in ome.children(roi, "Union"):
        for shape in union:
            inner = [one for one in shape if ome.tag_of(one) in _KINDS or ome.tag_of(one) == "Mask"]
            if ome.tag_of(shape) != "Shape" or not inner:
                found.append(shape)
                continue
            one = inner[0]
            one.attrib = {**shape.attrib, **one.attrib}
            one.extend(ome.children(shape, "Transform"))
            found.append(one)
    return found


def _feature(roi: Element, shape: Element, kind: str) -> dict[str, Any] | None:
    if kind not in _KINDS:
        return None
    try:
        geometry, points = _KINDS[kind](shape.attrib)
        points = [_moved(point, shape) for point in points]
    except (ValueError, KeyError):
        return None
    if not points or not all(math.isfinite(number) and abs(number) < 1e15 for point in points for number in point):
        return None
    coordinates: Any = [list(point) for point in points]
    if geometry == "Polygon":
        coordinates = [[*coordinates, coordinates[0]]]
    elif geometry == "Point":
        coordinates = coordinates[0]
    return {
        "type": "Feature",
        "id": shape.get("ID", "")[:_MOST_CHARACTERS],
        "geometry": {"type": geometry, "coordinates": coordinates},
        "properties": _properties(roi, shape, kind),
    }


def _properties(roi: Element, shape: Element, kind: str) -> dict[str, Any]:
    name = roi.get("Name") or shape.get("Text") or shape.get("Label") or shape.get("Name")
    found: dict[str, Any] = {
        "objectType": "annotation",
        "name": name,
        "text": shape.get("Text") or shape.get("Label"),
        "description": next((one.text for one in ome.children(roi, "Description")), None),
        "color": _rgb(shape.get("StrokeColor")),
    }
    found |= {axis.lower(): _whole(shape.get(f"The{axis}")) for axis in "CZT"}
    kept = {key: value[:_MOST_CHARACTERS] if isinstance(value, str) else value for key, value in found.items()}
    told = {"roi": roi.get("ID", "")[:_MOST_CHARACTERS], "shape": kind}
    return {key: value for key, value in kept.items() if value is not None} | {"epista": told}


def _rgb(text: str | None) -> list[int] | None:
    color = ome.color(text)
    return None if color is None else list(bytes.fromhex(color))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else None


def _moved(point: tuple[float, float], shape: Element) -> tuple[float, float]:
    x, y = point
    if shape.get("Transform"):
        # Of the older schemas, in words of SVG.
        a, b, c, d, e, f = _matrix(shape.attrib["Transform"])
        x, y = a * x + c * y + e, b * x + d * y + f
    for transform in ome.children(shape, "Transform"):
        m = {name: float(transform.attrib[name]) for name in ("A00", "A01", "A02", "A10", "A11", "A12")}
        x, y = m["A00"] * x + m["A01"] * y + m["A02"], m["A10"] * x + m["A11"] * y + m["A12"]
    return x, y


def _matrix(text: str) -> tuple[float, ...]:
    found = re.fullmatch(r"\s*(?:matrix\s*\(([^()]*)\)|\[([^\[\]]*)\])\s*", text)
    numbers = tuple(map(float, re.split(r"[\s,]+", (found[1] or found[2] or "").strip()))) if found else ()
    if len(numbers) != 6:
        raise ValueError("no matrix")
    return numbers


def _numbers(shape: Mapping[str, str], *names: str) -> list[float]:
    return [float(shape[name]) for name in names]


def _rectangle(shape: Mapping[str, str]) -> tuple[str, Points]:
    x, y, width, height = _numbers(shape, "X", "Y", "Width", "Height")
    return "Polygon", [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _ellipse(shape: Mapping[str, str]) -> tuple[str, Points]:
    x, y, across, down = _numbers(shape, "X", "Y", "RadiusX", "RadiusY")
    turns = [2 * math.pi * number / CORNERS for number in range(CORNERS)]
    return "Polygon", [(x + across * math.cos(turn), y + down * math.sin(turn)) for turn in turns]


def _point(shape: Mapping[str, str]) -> tuple[str, Points]:
    x, y = _numbers(shape, "X", "Y")
    return "Point", [(x, y)]


def _line(shape: Mapping[str, str]) -> tuple[str, Points]:
    x1, y1, x2, y2 = _numbers(shape, "X1", "Y1", "X2", "Y2")
    return "LineString", [(x1, y1), (x2, y2)]


def _polyline(shape: Mapping[str, str]) -> tuple[str, Points]:
    points = _points(shape)
    if len(points) < 2:
        raise ValueError("no line")
    return ("Polygon" if shape.get("Closed") in ("true", "1") else "LineString"), points


def _polygon(shape: Mapping[str, str]) -> tuple[str, Points]:
    points = _points(shape)
    if len(points) < 3:
        raise ValueError("no polygon")
    return "Polygon", points


def _points(shape: Mapping[str, str]) -> Points:
    numbers = list(map(float, re.split(r"[\s,]+", shape["Points"].strip())))
    if len(numbers) % 2:
        raise ValueError("a point without y")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


_KINDS: Mapping[str, Callable[[Mapping[str, str]], tuple[str, Points]]] = {
    "Rectangle": _rectangle,
    "Ellipse": _ellipse,
    "Point": _point,
    "Label": _point,
    "Line": _line,
    "Polyline": _polyline,
    "Polygon": _polygon,
}
