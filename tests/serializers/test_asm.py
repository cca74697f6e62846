"""Documents of the Allotrope Simple Model as tables."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

from epista.contract.errors import UnreadableError
from epista.serializers import asm


def document(
    *measurements: dict[str, Any], calculated: list[dict[str, Any]] | None = None, run: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a document of one run of a plate reader."""
    return {
        "$asm.manifest": "http://purl.allotrope.org/manifests/plate-reader/REC/2025/03/plate-reader.manifest",
        "plate reader aggregate document": {
            "device system document": {"model number": "Gen5", "device document": [{"device type": "plate reader"}]},
            "data system document": {"software name": "Gen5", "UNC path": "/tmp/x", "file name": "x.txt"},
            "calculated data aggregate document": {"calculated data document": calculated or []},
            "plate reader document": [
                {"measurement aggregate document": {"measurement document": list(measurements), **(run or {})}, "analyst": "ada"}
            ],
        },
    }


def value(number: Any, unit: str = "mAU") -> dict[str, Any]:
    return {"value": number, "unit": unit}


def made(name: str, result: Any, *sources: str, identifier: str = "") -> dict[str, Any]:
    listed = [{"data source identifier": source} for source in sources]
    return {
        "calculated data name": name,
        "calculated result": result,
        "calculated data identifier": identifier,
        "data source aggregate document": {"data source document": listed},
    }


def test_a_measurement_is_a_row_with_units_and_what_is_said_of_the_run() -> None:
    well = {"sample document": {"sample identifier": "STD1", "location identifier": "A1"}, "measurement identifier": "by lot"}
    told = document(
        {**well, "absorbance": value(3.3), "height": value(4), "count": value(96, "#"), "ratio": value(0.5, "(unitless)")},
        run={"measurement time": "2022-10-10T21:00:04+02:00"},
    )

    table = asm.measurements(told, vendor="AGILENT_GEN5")

    assert table.to_dict("records") == [
        {
            "analyst": "ada",
            "measurement time": pd.Timestamp("2022-10-10T19:00:04Z"),
            "sample identifier": "STD1",
            "location identifier": "A1",
            "absorbance": 3.3,
            "height (mAU)": 4,
            "count": 96,
            "ratio": 0.5,
        }
    ]
    assert table.attrs == {
        "vendor": "AGILENT_GEN5",
        "manifest": "http://purl.allotrope.org/manifests/plate-reader/REC/2025/03/plate-reader.manifest",
        "left_out": [],
        "device": {"model number": "Gen5", "device type": "plate reader"},
        "software": {"software name": "Gen5"},
    }
    json.dumps(table.attrs)


def test_several_documents_of_one_measurement_are_rows_of_their_own() -> None:
    analytes = [{"analyte name": name, "fluorescence": value(number, "RFU")} for name, number in (("IL-2", 7), ("IL-6", 9))]
    sample = {"sample document": {"sample identifier": "S1"}}
    told = document({**sample, "analyte aggregate document": {"analyte document": analytes}})

    table = asm.measurements(told, vendor="LUMINEX_XPONENT")

    assert table[["sample identifier", "analyte name", "fluorescence (RFU)"]].to_numpy().tolist() == [
        ["S1", "IL-2", 7],
        ["S1", "IL-6", 9],
    ]


def test_lists_that_do_not_belong_together_are_not_multiplied() -> None:
    told = document({"a document": [{"x": 1}, {"x": 2}], "b document": [{"y": 3}, {"y": 4}]})

    table = asm.measurements(told, vendor="V")

    assert table[["x", "b document"]].to_numpy().tolist() == [[1, '[{"y": 3}, {"y": 4}]'], [2, '[{"y": 3}, {"y": 4}]']]


def test_a_name_that_is_taken_says_where_it_is_from() -> None:
    table = asm.measurements(document({"x": 1, "other document": {"x": 2}}), vendor="V")

    assert (table["x"][0], table["other document: x"][0]) == (1, 2)


def test_curves_are_left_out_and_said_to_be() -> None:
    table = asm.measurements(document({"x": 1, "reporter data cube": {"data": {"measures": [[1, 2]]}}}), vendor="V")

    assert list(table.columns) == ["analyst", "x"]
    assert table.attrs["left_out"] == ["reporter data cube"]


def test_values_that_json_cannot_say_are_numbers_all_the_same() -> None:
    table = asm.measurements(document({"a": value("NaN")}, {"a": value("-Infinity")}), vendor="V")

    assert math.isnan(table["a (mAU)"][0])
    assert table["a (mAU)"][1] == -math.inf


def test_calculated_values_name_the_rows_that_they_come_from() -> None:
    told = document(
        {"measurement identifier": "m0", "absorbance": value(1)},
        {"measurement identifier": "m1", "absorbance": value(3)},
        calculated=[
            made("mean", value(2), "m0", "m1", identifier="c0"),
            made("conc", value(9, "ng/mL"), "c0"),
            made("n", 4, "?"),
        ],
    )

    table = asm.calculated(told, vendor="V")

    assert table.to_dict("records") == [
        {"name": "mean", "value": 2, "unit": "mAU", "rows": [0, 1]},
        {"name": "conc", "value": 9, "unit": "ng/mL", "rows": [0, 1]},
        {"name": "n", "value": 4, "unit": "", "rows": []},
    ]


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"x": 1}
    for _ in range(depth):
        found = {"document": found}
    return found


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"plate reader aggregate document": []},
        {"plate reader aggregate document": {"plate reader document": [3]}},
        {"plate reader aggregate document": {"plate reader document": [{"measurement aggregate document": 3}]}},
        document(nested(500)),
        document(calculated=[made("a", 1, "b", identifier="a"), made("b", 1, "a", identifier="b")]),
        document(calculated=[3]),  # type: ignore[list-item]
    ],
    ids=["empty", "list", "number", "run", "deep", "circle", "calculated"],
)
def test_what_is_no_such_document_is_unreadable(told: dict[str, Any]) -> None:
    with pytest.raises(UnreadableError):
        asm.measurements(told, vendor="V")
        asm.calculated(told, vendor="V")
