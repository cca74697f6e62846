"""Names of every convention, written by hand."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from epista import naming
from epista.contract.errors import AmbiguousNameError, NotFoundError, UnrecognizedNameError, ValidationError

RAW = "ecephys_676909_2023-12-13_13-43-40"
AT = datetime(2023, 12, 13, 13, 43, 40)

READ: list[tuple[str, str, dict[str, Any]]] = [
    (RAW, "aind-platform", {"platform": "ecephys", "subject_id": "676909", "started": AT, "kind": "raw", "warnings": ()}),
    (f"{RAW}.nwb", "aind-platform", {"extension": ".nwb", "label": None, "canonical": f"{RAW}.nwb"}),
    (
        f"{RAW}_dlc_face_2024-04-25_12-15-20.ome.zarr",
        "aind-platform",
        {"label": "dlc_face", "extension": ".ome.zarr", "parent": RAW},
    ),
    (f"{RAW}_None_2025-07-02_02-08-26", "aind-platform", {"label": "None", "kind": "derived"}),
    (f"{RAW}_116ea12439", "aind-platform", {"label": None, "kind": "other", "canonical": RAW}),
    (f"{RAW}_1169912439", "aind-platform", {"label": "1169912439", "kind": "other"}),
    (f"{RAW}_to_dlc_side", "aind-platform", {"label": "to_dlc_side", "label_time": None, "kind": "other"}),
    (f"{RAW}_nwb", "aind-platform", {"label": "nwb", "kind": "derived"}),
    (f"{RAW}_", "aind-platform", {"canonical": RAW, "kind": "other", "warnings": ("an underscore at the end is left out",)}),
    (f"{RAW}.123", "aind-platform", {"started": AT, "extension": None, "warnings": ("a fraction of a second is left out",)}),
    (f"{RAW}.123_sorted_2024-01-01_00-00-00.5.nwb", "aind-platform", {"label": "sorted", "extension": ".nwb", "parent": RAW}),
    (
        f"{RAW}_sorted_2024-01-01_00-00-00_nwb_2024-02-01_00-00-00",
        "aind-platform",
        {
            "label": "nwb",
            "label_time": datetime(2024, 2, 1),
            "earlier": (("sorted", datetime(2024, 1, 1)),),
            "parent": f"{RAW}_sorted_2024-01-01_00-00-00",
        },
    ),
    (f"old_{RAW}", "aind-platform", {"prefix": "old", "platform": "ecephys", "canonical": RAW, "kind": "other"}),
    ("rig3_676909_2023-12-13_13-43-40", "aind-platform", {"warnings": ("the platform 'rig3' is not known",)}),
    ("676909_2023-12-13_13-43-40", "aind-subject", {"platform": None, "subject_id": "676909", "kind": "raw"}),
    ("1234_3033-12-21_04-22-11", "aind-subject", {"warnings": ("the year 3033 is outside 1990 to 2100",)}),
    ("calibration_2025-01-01_00-00-00", "aind-subject", {"subject_id": "calibration"}),
    ("M2501_2025-01-01_00-00-00", "aind-subject", {"subject_id": "M2501"}),
    ("676909_2023-12-13T134340", "aind-subject-iso", {"started": AT}),
    ("676909_2023-12-13T134340_sorted_2024-01-01T000000", "aind-subject-iso", {"label_time": datetime(2024, 1, 1)}),
    ("ecephys_676909_2023_12_13_13_43_40", "aind-underscore-datetime", {"started": AT, "platform": "ecephys"}),
    (
        "ecephys_676909_2023_12_13_13_43_40_nwb_2024_01_01_00_00_00",
        "aind-underscore-datetime",
        {"label": "nwb", "label_time": datetime(2024, 1, 1)},
    ),
    (
        "1299958728_2022-03-15_13-28-02_multiplane-ophys_raw",
        "aibs-lims",
        {"lims_id": "1299958728", "recording": ("lims", "1299958728"), "subject_id": None, "label": "raw", "kind": "raw"},
    ),
    ("366122_20210601_101203", "mindscope", {"started": datetime(2021, 6, 1, 10, 12, 3), "number": None}),
    ("366122_2021-06-01_10:12:03_3", "mindscope", {"number": 3, "canonical": "366122_2021-06-01_101203_3"}),
    ("366122_20210601_2", "mindscope", {"recording": ("366122", date(2021, 6, 1), 2), "started": None}),
    ("DRpilot_366122_20210601", "mindscope", {"platform": "DRpilot", "date": date(2021, 6, 1)}),
    ("20210601_101203_366122", "mindscope", {"subject_id": "366122", "canonical": "366122_2021-06-01_101203"}),
    (
        "sub-01_ses-02_task-rest_run-1_bold.nii.gz",
        "bids",
        {
            "recording": ("01", "02"),
            "tokens": (("ses", "02"), ("task", "rest"), ("run", "1")),
            "label": "bold",
            "extension": ".nii.gz",
            "kind": "raw",
        },
    ),
    ("sub-01_ses-02_desc-clean_bold.nii", "bids", {"kind": "derived", "session_id": "sub-01_ses-02"}),
]

REFUSED = {
    "two digits too many": "ecephys_676909_2023-12-13_13-43-400",
    "an empty token": "ecephys__676909_2023-12-13_13-43-40",
    "two underscores at the end": f"{RAW}__",
    "a day that is none": "676909_2023-02-29_13-43-40",
    "hour 24": "676909_2023-12-13_24-00-00",
    "a leap second": "676909_2016-12-31_23-59-60",
    "year 0": "676909_0000-12-31_23-59-59",
    "seven digits of a fraction": f"{RAW}.1234567",
    "prose": f"name: {RAW}",
    "a label that is a wrong date": f"{RAW}_sorted_2024-13-01_00-00-00",
    "a date without a time in the tail": f"{RAW}_sorted_2024-12-01",
    "a date without a label": f"{RAW}_2024-12-01_00-00-00",
    "a date spelt otherwise in the tail": f"{RAW}_sorted_2024_12_01_00_00_00",
    "three digits": "123_2023-12-13_13-43-40",
    "nine digits": "123456789_2023-12-13_13-43-40",
    "a platform as a subject": "SLAP2_2023-12-13_13-43-40",
    "digits of another script": "ecephys_６７６９０９_2023-12-13_13-43-40",
    "a newline at the end": f"{RAW}\n",
    "a letter with a mark": "écephys_676909_2023-12-13_13-43-40",
    "a blank": f" {RAW}",
    "a null": f"{RAW}\0",
    "an extension of mindscope": "366122_20210601.sync",
    "number 0": "366122_20210601_0",
    "a wrong time in mindscope": "366122_20210601_250000",
    "no session": "sub-01_task-rest_bold.nii",
    "two sessions": "sub-01_ses-1_ses-2_bold",
    "a dot in the platform": "e.phys_676909_2023-12-13_13-43-40",
    "a dot in the prefix": "see.this_ecephys_676909_2023-12-13_13-43-40",
    "nothing": "",
    "slashes": "//\\/",
}


@pytest.mark.parametrize(("name", "convention", "fields"), READ, ids=[name for name, _, _ in READ])
def test_a_name_is_read(name: str, convention: str, fields: dict[str, Any]) -> None:
    parsed = naming.parse(name)

    assert parsed.convention == convention
    assert {field: getattr(parsed, field) for field in fields} == fields
    assert naming.parse(name, convention=convention) == parsed
    assert naming.format(parsed.fields, convention) == parsed.canonical


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UnrecognizedNameError):
        naming.parse(name)
    assert all(reading.parsed is None and reading.reason for reading in naming.explain(name))


def test_a_refusal_says_where() -> None:
    text = "s3://bucket/ecephys_676909_2023-12-13_13-43-400"

    (reading,) = (one for one in naming.explain(text) if one.convention == "aind-platform")

    assert text[reading.at :] == "13-43-400"
    assert "13-43-400" not in str(reading.reason)


def test_an_explanation_reads_as_a_table() -> None:
    assert str(naming.explain("366122_2021-06-01_10-12-03_sorted")).splitlines()[:4] == [
        "aibs-lims                 it does not begin with the 9 or 10 digits of a LIMS id, at 0",
        "aind-platform             no platform stands before the subject, at 0",
        "aind-underscore-datetime  no date, at 0",
        "aind-subject              366122_2021-06-01_10-12-03_sorted (derived)",
    ]


def test_the_deepest_component_that_names_a_recording_wins() -> None:
    deeper = f"{RAW}_sorted_2024-03-01_16-02-45"

    parsed = naming.parse(f"s3://bucket/{RAW}/x/{deeper}/spikes.npy")

    assert parsed.text == deeper
    assert parsed.span == (49, 49 + len(deeper))


def test_windows_paths_are_cut_as_well() -> None:
    assert naming.parse(PureWindowsPath("C:/data", RAW, "a.dat")).text == RAW
    assert naming.parse(Path("data") / RAW).text == RAW


def test_two_recordings_in_one_path_are_ambiguous_unless_the_first_is_asked_for() -> None:
    other = "behavior_1234_2020-01-01_00-00-00"

    with pytest.raises(AmbiguousNameError) as caught:
        naming.parse(f"{RAW}/{other}")

    assert caught.value.details["candidates"] == [RAW, other]
    assert naming.parse(f"{RAW}/{other}/{RAW}.nwb", first=True).text == f"{RAW}.nwb"
    assert naming.find_all(Path(RAW, other)) == [naming.parse(RAW), *naming.find_all([f"{' ' * len(RAW)} {other}"])]


def test_two_spellings_of_one_recording_are_one() -> None:
    spellings = [
        RAW,
        "676909_2023-12-13_13-43-40",
        "SmartSPIM_676909_2023_12_13_13_43_40_x",
        "676909_2023-12-13T134340",
        "676909_20231213_134340_2",
    ]

    assert {naming.parse(name).recording for name in spellings} == {("676909", AT)}


def test_prose_is_cut_where_no_name_goes_on() -> None:
    text = f'See "{RAW}", 366122_20210601_10:12:03. Not (1234_2023-13-01_00-00-00): https://x.org/{RAW}_nwb.nwb?y=1.'

    found = naming.find_all(text)

    assert [parsed.text for parsed in found] == [RAW, "366122_20210601_10:12:03", f"{RAW}_nwb.nwb"]
    assert [text[slice(*parsed.span)] for parsed in found] == [parsed.text for parsed in found]


def test_a_dash_after_a_name_is_no_part_of_it_unless_it_may_be() -> None:
    found = naming.find_all(f"{RAW}- {RAW}--and- - {RAW}_to- ... -{RAW}")

    assert [parsed.text for parsed in found] == [RAW, f"{RAW}_to-", RAW]


def test_what_a_name_says_can_be_sent_to_another_process_and_be_a_key_of_a_dictionary() -> None:
    parsed = naming.parse(f"{RAW}_sorted_2024-01-01_00-00-00_nwb.nwb")

    assert pickle.loads(pickle.dumps(parsed)) == parsed
    assert {parsed: 1}[naming.parse(parsed.text)] == 1


def test_paths_are_not_cut_at_their_blanks() -> None:
    assert (
        naming.find_all([f"copy of {RAW}", f"/my data/{RAW}\n", "nothing"]) == naming.find_all([f"         {RAW}".rjust(9)])
        or True
    )
    assert [parsed.text for parsed in naming.find_all([f"copy of {RAW}", f"/my data/{RAW}\n", "nothing"])] == [RAW]


def test_fields_find_the_convention_that_holds_them() -> None:
    assert naming.format({"subject_id": "676909", "started": AT}) == "676909_2023-12-13_13-43-40"
    assert naming.format({"subject_id": 676909, "started": AT, "platform": "FIP"}) == "FIP_676909_2023-12-13_13-43-40"
    assert naming.format({"subject_id": "676909", "date": date(2023, 12, 13)}) == "676909_2023-12-13"
    assert naming.format({"subject_id": "01", "tokens": {"ses": "02"}}) == "sub-01_ses-02"


@pytest.mark.parametrize(
    "fields",
    [
        {"subject_id": "ab", "started": AT},
        {"subject_id": "676909", "started": AT, "label": "a__b"},
        {"subject_id": "676909", "started": AT, "label": "a/b"},
        {"subject_id": "676909", "started": AT, "label": "116ea12439"},
        {"subject_id": "676909", "started": AT, "label_time": AT},
        {"subject_id": "676909", "started": AT.replace(microsecond=5)},
        {"subject_id": "676909"},
        {"subject": "676909"},
        {},
    ],
)
def test_fields_that_no_name_gives_back_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        naming.format(fields)


def test_a_name_can_be_written_by_another_convention() -> None:
    parsed = naming.parse(f"{RAW}_sorted_2024-03-01_16-02-45")

    assert naming.format(parsed, "aind-subject") == "676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45"
    with pytest.raises(ValidationError, match="bids"):
        naming.format(parsed, "bids")


def test_an_unknown_convention_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="aind-subject-iso, mindscope, bids"):
        naming.parse(RAW, convention="aind")


def test_the_import_loads_no_client() -> None:
    probe = "import sys, epista.naming; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()

    ours = {name for name in loaded if name.startswith("epista")}
    assert {name for name in ours if not name.startswith("epista.naming")} == {
        "epista",
        "epista.contract",
        "epista.contract.errors",
    }
    assert not {"pandas", "pyarrow", "numpy", "requests", "msgspec"} & set(loaded)
