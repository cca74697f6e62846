"""What people drew: GeoJSON of several spellings, and the ROIs of OME-XML."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from epista.contract.errors import TooLargeError, UnreadableError
from epista.server.imaging import features, rois

ORIGIN = {"key": "EXP-1/rois.geojson", "number": 1}

TRIANGLE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [0, 10.5], [0, 0]]]}


def feature(geometry: Any = TRIANGLE, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def read(given: Any, scene: int = 0) -> list[Any]:
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    return [msgspec.json.decode(one) for one in features.of_geojson(data, ORIGIN, scene).features]


def ome(shapes: str, *, images: str = '<Image ID="Image:0"><ROIRef ID="ROI:0"/></Image>') -> str:
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<OME xmlns="{namespace}">{images}<ROI ID="ROI:0" Name="cell"><Union>{shapes}</Union></ROI></OME>'


class TestGeoJson:
    @pytest.mark.parametrize(
        "given",
        [{"type": "FeatureCollection", "features": [feature(a=1)]}, [feature(a=1)], feature(a=1)],
        ids=["collection", "list", "feature"],
    )
    def test_every_usual_spelling_is_read(self, given: Any) -> None:
        assert read(given) == [feature(a=1, epista={"source": "asset", **ORIGIN})]

    def test_a_bare_geometry_is_a_feature(self) -> None:
        [found] = read({"type": "Point", "coordinates": [1.5, 2]})

        assert found["geometry"] == {"type": "Point", "coordinates": [1.5, 2]}

    def test_what_qupath_writes_is_kept(self) -> None:
        given = feature(
            {**TRIANGLE, "plane": {"c": -1, "z": 2, "t": 0}},
            objectType="annotation",
            classification={"name": "Tumor", "color": [200, 0, 0]},
        ) | {"id": "0a7c"}

        [found] = read([given])

        assert found["properties"].pop("epista") == {"source": "asset", **ORIGIN}
        assert found == given

    def test_numbers_that_are_none_are_null_among_measurements(self) -> None:
        data = b'{"type": "Feature", "geometry": null, "properties": {"m": {"area": NaN, "p": [Infinity, 1e999, 2]}}}'

        [found] = read(data)

        assert found["properties"]["m"] == {"area": None, "p": [None, None, 2]}

    @pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "null", '"1"', "true", "1e300", "[1]"])
    def test_coordinates_that_are_no_finite_numbers_are_refused(self, number: str) -> None:
        data = f'{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": [1, {number}]}}, "properties": {{}}}}'

        with pytest.raises(UnreadableError, match="coordinates of feature 1 are not those of a Point, in finite numbers"):
            read(data.encode())

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (b"\xff", "no JSON"),
            (b"[1", "no JSON"),
            ({"a": 1}, "no GeoJSON"),
            (7, "no GeoJSON"),
            ({"type": "FeatureCollection", "features": {}}, "no GeoJSON"),
            ([feature(), 7], "feature 2 is no feature"),
            ([{**feature(), "properties": []}], "properties of feature 1"),
            ([feature({"type": "Circle", "coordinates": [1, 2]})], "feature 1 has no geometry"),
            ([feature({"type": ["Point"], "coordinates": [1, 2]})], "feature 1 has no geometry"),
            ([feature({"type": "Polygon", "coordinates": [[1, 2]]})], "coordinates of feature 1"),
            ([feature({"type": "LineString", "coordinates": 3})], "coordinates of feature 1"),
            (b"[" * 100_000, "nests too deeply"),
            ([feature(a=json.loads("[" * 40 + "]" * 40))], "nests too deeply"),
        ],
        ids=lambda one: one if isinstance(one, str) else None,
    )
    def test_what_is_no_geojson_is_told_with_its_place(self, given: Any, message: str) -> None:
        with pytest.raises(UnreadableError, match=message):
            read(given)

    def test_geometries_of_geometries_end(self) -> None:
        nested: Any = {"type": "Point", "coordinates": [1, 2]}
        for _ in range(features.MAX_DEPTH + 1):
            nested = {"type": "GeometryCollection", "geometries": [nested]}

        with pytest.raises(UnreadableError, match="nests too deeply"):
            read(feature(nested))

    def test_more_features_than_one_may_have_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(features, "MAX_FEATURES", 2)

        with pytest.raises(TooLargeError, match="more than 2 features"):
            read([feature()] * 3)

    def test_half_characters_are_kept_as_they_were_spelt(self) -> None:
        drawn = features.of_geojson(json.dumps(feature(name="\ud800")).encode(), ORIGIN, 0)

        assert json.loads(bytes(drawn.features[0]))["properties"]["name"] == "\ud800"

    def test_a_feature_may_be_for_another_scene(self) -> None:
        both = [feature(name="a"), feature(name="b", scene=1)]

        assert [one["properties"]["name"] for one in read(both)] == ["a"]
        assert [one["properties"]["name"] for one in read(both, scene=1)] == ["b"]

    def test_an_origin_of_before_is_not_believed(self) -> None:
        [found] = read(feature(epista={"source": "file", "key": "elsewhere"}))

        assert found["properties"]["epista"] == {"source": "asset", **ORIGIN}


class TestRois:
    @pytest.mark.parametrize(
        ("shape", "geometry"),
        [
            (
                '<Rectangle X="1" Y="2" Width="10" Height="5"/>',
                {"type": "Polygon", "coordinates": [[[1, 2], [11, 2], [11, 7], [1, 7], [1, 2]]]},
            ),
            ('<Point X="1.5" Y="2"/>', {"type": "Point", "coordinates": [1.5, 2]}),
            ('<Label X="3" Y="4" Text="here"/>', {"type": "Point", "coordinates": [3, 4]}),
            ('<Line X1="1" Y1="2" X2="3" Y2="4"/>', {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
            ('<Polyline Points="0,0 1,1 2,0"/>', {"type": "LineString", "coordinates": [[0, 0], [1, 1], [2, 0]]}),
            (
                '<Polygon Points="0,0 4,0 0,3"/>',
                {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [0, 3], [0, 0]]]},
            ),
        ],
        ids=["rectangle", "point", "label", "line", "polyline", "polygon"],
    )
    def test_shapes_become_geometries(self, shape: str, geometry: Any) -> None:
        [found], warnings = rois.read(ome(shape), 0)

        assert found["geometry"] == geometry
        assert warnings == []

    def test_an_ellipse_is_a_polygon_near_to_it(self) -> None:
        [found], _ = rois.read(ome('<Ellipse X="50" Y="40" RadiusX="20" RadiusY="10"/>'), 0)

        [ring] = found["geometry"]["coordinates"]
        assert len(ring) == rois.CORNERS + 1
        assert ring[0] == ring[-1]
        assert all(abs(((x - 50) / 20) ** 2 + ((y - 40) / 10) ** 2 - 1) < 1e-9 for x, y in ring)

    def test_a_transform_is_applied(self) -> None:
        turned = '<Transform A00="0" A01="-1" A02="100" A10="2" A11="0" A12="7"/>'
        [found], _ = rois.read(ome(f'<Point X="3" Y="4">{turned}</Point>'), 0)

        assert found["geometry"]["coordinates"] == [96, 13]

    def test_what_is_said_of_a_shape_is_kept(self) -> None:
        xml = ome('<Point ID="Shape:1" X="1" Y="2" TheC="1" TheZ="0" TheT="3" StrokeColor="-16776961" Text="nucleus"/>')
        [found], _ = rois.read(xml, 0)

        assert found["id"] == "Shape:1"
        assert found["properties"] == {
            "objectType": "annotation",
            "name": "cell",
            "text": "nucleus",
            "color": [255, 0, 0],
            "c": 1,
            "z": 0,
            "t": 3,
            "epista": {"roi": "ROI:0", "shape": "Point"},
        }

    def test_masks_and_nonsense_are_left_out_and_counted(self) -> None:
        good = '<Point X="1" Y="2"/>'
        bad = '<Point X="nan" Y="2"/><Polygon Points="points[1,2]"/><Ellipse X="1"/><Blob/><Point X="1" Y="2">{}</Point>'
        xml = ome(good + '<Mask X="0" Y="0" Width="4" Height="4"/>' + bad.format("<Transform/>"))

        found, warnings = rois.read(xml, 0)

        assert len(found) == 1
        assert warnings == [
            "1 mask of the file is left out: pixels, and no outlines",
            "5 shapes of the file are left out, whose kind or numbers cannot be read",
        ]

    def test_a_roi_is_on_the_images_that_refer_to_it(self) -> None:
        two = '<Image ID="a"/><Image ID="b"><ROIRef ID="ROI:0"/></Image>'

        assert rois.read(ome('<Point X="1" Y="2"/>', images=two), 0) == ([], [])
        assert len(rois.read(ome('<Point X="1" Y="2"/>', images=two), 1)[0]) == 1

    def test_a_roi_that_no_image_refers_to_is_on_the_only_one(self) -> None:
        assert len(rois.read(ome('<Point X="1" Y="2"/>', images="<Image/>"), 0)[0]) == 1
        assert rois.read(ome('<Point X="1" Y="2"/>', images="<Image/><Image/>"), 0) == (
            [],
            ["1 ROI of the file is left out, which no image refers to"],
        )

    def test_shapes_of_the_older_schemas_are_read(self) -> None:
        xml = ome(
            '<Shape ID="s" TheZ="2" Transform="matrix(1 0 0 1 10 20)"><Polyline Points="0,0 1,1 2,0" Closed="true"/></Shape>'
        )
        [found], warnings = rois.read(xml, 0)

        assert found["geometry"] == {"type": "Polygon", "coordinates": [[[10, 20], [11, 21], [12, 20], [10, 20]]]}
        assert (found["id"], found["properties"]["z"]) == ("s", 2)
        assert warnings == []
