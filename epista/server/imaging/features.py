"""
What people drew on images: GeoJSON (RFC 7946) in pixels of level 0, as QuPath writes it too, and the ROIs of OME-XML.

What is found is plain features. Each has ``properties["epista"]``, which says where it comes from; whatever else stands in its
properties is its author's.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from epista.contract.errors import InvalidRequestError, TooLargeError, UnreadableError
from epista.server.imaging import rois, tiff
from epista.server.imaging.index import Index
from epista.server.imaging.sources import Source

MAX_FEATURES = 100_000
"""How many features a file may have."""

MAX_DEPTH = 32
"""How deep geometries of geometries, and values of properties, may be nested."""

_Number = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
_Position = Annotated[list[_Number], msgspec.Meta(min_length=2, max_length=4)]
_GEOMETRIES = {
    kind: msgspec.defstruct(kind, [("coordinates", coordinates)])
    for kind, coordinates in {
        "Point": _Position,
        "MultiPoint": list[_Position],
        "LineString": list[_Position],
        "MultiLineString": list[list[_Position]],
        "Polygon": list[list[_Position]],
        "MultiPolygon": list[list[list[_Position]]],
    }.items()
}

_OWN = "epista"


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What was drawn on one scene."""

    features: tuple[msgspec.Raw, ...] = ()
    """Features of GeoJSON."""
    warnings: tuple[str, ...] = ()
    """What was left out."""


def of_file(source: Source, index: Index, scene: int) -> Drawn:
    """
    Return what the file of an image says was drawn on it.

    Raises:
        InvalidRequestError: there is no such scene.
        UnreadableImageError: its metadata cannot be read.
    """
    if not 0 <= scene < len(index.scenes):
        raise InvalidRequestError(f"there is no scene {scene}; there are {len(index.scenes)}, from 0")
    number = index.scenes[scene].ome_image
    if number is None:
        return Drawn()
    found, warnings = rois.read(tiff.ome_xml(source), number)
    if len(found) > MAX_FEATURES:
        warnings.append(f"of {len(found):,} shapes in the file the first {MAX_FEATURES:,} are here")
    return _drawn(found[:MAX_FEATURES], {"source": "file"}, warnings)


def of_geojson(data: bytes, origin: Mapping[str, Any], scene: int) -> Drawn:
    """
    Return the features of a GeoJSON file that are for a scene: by their property ``scene``, else for the first.

    A list of features, a single one and a bare geometry count too. Numbers that are no numbers are refused in coordinates, and
    null elsewhere: QuPath writes them among measurements. *origin* is told of each feature.

    Raises:
        UnreadableError: it is no GeoJSON; the message says at which feature.
        TooLargeError: it has more features than one may.
    """
    try:
        given = _parsed(data.removeprefix(codecs.BOM_UTF8))
    except RecursionError:
        raise UnreadableError("it nests too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"it is no JSON: {error}") from error
    found = []
    for number, one in enumerate(_features(given), start=1):
        if number > MAX_FEATURES:
            raise TooLargeError(f"it has more than {MAX_FEATURES:,} features")
        feature = _feature(one, number)
        if (feature["properties"].get("scene") or 0) == scene:
            found.append(feature)
    return _drawn(found, {"source": "asset", **origin}, [])


def _parsed(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        # Slower, and knows what is no JSON: NaN, and half characters.
        return json.loads(data.decode(), parse_constant=_nothing)


def _drawn(features: list[dict[str, Any]], origin: Mapping[str, Any], warnings: list[str]) -> Drawn:
    for feature in features:
        properties = feature["properties"]
        # Of an asset it may be there already: whoever changes what was fetched here, and puts it again, sends it along.
        own = properties.get(_OWN) if origin["source"] == "file" else None
        properties[_OWN] = {**origin, **(own or {})}
    return Drawn(features=tuple(msgspec.Raw(_encoded(feature)) for feature in features), warnings=tuple(warnings))


def _encoded(feature: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(feature)
    except UnicodeEncodeError:
        # Half characters, which JSON can spell and UTF-8 cannot.
        return json.dumps(feature).encode()


def _features(given: Any) -> Iterator[Any]:
    kind = given.get("type") if isinstance(given, dict) else None
    listed = given.get("features") if kind == "FeatureCollection" else given
    if isinstance(listed, list):
        yield from listed
    elif kind == "Feature":
        yield given
    elif kind in _GEOMETRIES or kind == "GeometryCollection":
        yield {"type": "Feature", "geometry": given}
    else:
        raise UnreadableError("it is no GeoJSON: neither a FeatureCollection, nor features, nor a geometry")


def _feature(given: Any, number: int) -> dict[str, Any]:
    where = f"feature {number}"
    if not isinstance(given, dict) or given.get("type") != "Feature":
        raise UnreadableError(f"{where} is no feature of GeoJSON")
    properties = given.get("properties")
    if not isinstance(properties, dict | None):
        raise UnreadableError(f"the properties of {where} are no object")
    geometry = given.get("geometry")
    if geometry is not None:
        _check_geometry(geometry, where, MAX_DEPTH)
    feature = {**given, "geometry": geometry, "properties": {**(properties or {})}}
    for name, value in feature.items():
        if name != "geometry":
            feature[name] = _finite(value, where, MAX_DEPTH)
    return feature


def _check_geometry(geometry: Any, where: str, left: int) -> None:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and isinstance(geometry.get("geometries"), list):
        if not left:
            raise UnreadableError(f"{where} nests too deeply")
        for one in geometry["geometries"]:
            _check_geometry(one, where, left - 1)
    elif isinstance(kind, str) and kind in _GEOMETRIES:
        try:
            # Millions of numbers: looked at without a step of Python for each.
            msgspec.convert(geometry, _GEOMETRIES[kind])
        except msgspec.ValidationError:
            raise UnreadableError(f"the coordinates of {where} are not those of a {kind}, in finite numbers") from None
    else:
        raise UnreadableError(f"{where} has no geometry of GeoJSON")
    for name, value in geometry.items():
        if name not in ("coordinates", "geometries"):
            geometry[name] = _finite(value, where, left)


def _finite(value: Any, where: str, left: int) -> Any:
    """Return *value* with null for numbers that are none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if not left:
        raise UnreadableError(f"{where} nests too deeply")
    if isinstance(value, list):
        return [_finite(one, where, left - 1) for one in value]
    return {name: _finite(one, where, left - 1) for name, one in value.items()}


def _nothing(name: str) -> None:
    """NaN and infinity are no JSON."""
