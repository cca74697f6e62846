"""
Names seen in public, with what another implementation makes of them.

The oracle is `aind_session` 0.3.27, whose answers stand in the sample file beside the checkout; where that is absent, a few of
its rows, written down here, stand for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epista import naming
from epista.contract.errors import UnrecognizedNameError

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "names" / "session_names.json"


def _row(name: str, *answer: str | None, convention: str | None = "aind-platform", **more: Any) -> dict[str, Any]:
    platform, subject, dt, suffix, suffix_dt = answer or (None,) * 5
    session = f"{platform}_{subject}_{str(dt).replace('T', '_').replace(':', '-')}"
    return {
        "name": name,
        "valid": bool(answer),
        "platform": platform,
        "subject_id": subject,
        "dt": dt,
        "id": session,
        "suffix": suffix,
        "suffix_dt": suffix_dt,
        "is_raw_by_name": name == session,
        "is_sorted_by_name": name.startswith(f"{session}_sorted"),
        "basis": "public",
        "convention": convention,
        "note": None,
        **more,
    }


SOME = [
    _row("ecephys_676909_2023-12-11_14-24-35", "ecephys", "676909", "2023-12-11T14:24:35", None, None),
    _row(
        "s3://b/SmartSPIM_717381_2024-05-20_15-19-15_stitched_2024-06-23_02-34-02/x.ome.zarr/",
        "SmartSPIM",
        "717381",
        "2024-05-20T15:19:15",
        "stitched",
        "2024-06-23T02:34:02",
    ),
    _row(
        "ecephys_676909_2023-12-11_14-24-35_sorted_2024-03-29_11-29-39",
        "ecephys",
        "676909",
        "2023-12-11T14:24:35",
        "sorted",
        "2024-03-29T11:29:39",
    ),
    _row(
        "/stage/HCR_813864_2025-09-04_13-30-00_eff09af431",
        "HCR",
        "813864",
        "2025-09-04T13:30:00",
        "eff09af431",
        None,
        note="transfer staging folder: 10-hex suffix is not a process label",
    ),
    _row(
        "366122_2021-06-01_10-12-03_sorted",
        convention="aind-subject",
        published_rule={
            "subject_id": "366122",
            "dt": "2021-06-01T10:12:03",
            "kind": "sorted",
            "suffix": "sorted",
            "suffix_dt": None,
        },
    ),
    _row("366122_20210601_1", convention="mindscope", mindscope_session="366122_2021-06-01_1"),
    _row("717381_data_converter_manifest", convention="none"),
    _row("ecephys_676909_2023-12-13_13-43-400", convention=None, basis="parser-run", note="DEFECT: no right boundary"),
]

WHOLE = CORPUS.is_file()
ROWS: list[dict[str, Any]] = json.loads(CORPUS.read_text(encoding="utf-8"))["names"] if WHOLE else SOME
ACCEPTED = [row for row in ROWS if row["valid"] and row["basis"] == "public"]
PUBLISHED = [row for row in ROWS if row.get("published_rule")]
MINDSCOPE = [row for row in ROWS if row["convention"] == "mindscope"]
REFUSED = [row for row in ROWS if row["convention"] == "none"]
DEFECTS = [row for row in ROWS if (row["note"] or "").startswith("DEFECT")]

pytestmark = pytest.mark.real_data


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment else None


def test_the_corpus_is_the_one_that_was_counted() -> None:
    counts = [len(rows) for rows in (ACCEPTED, PUBLISHED, MINDSCOPE, REFUSED, DEFECTS)]

    assert counts == ([125, 19, 6, 10, 3] if WHOLE else [4, 1, 1, 1, 1])


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row["name"])
def test_a_public_name_reads_as_upstream_reads_it(row: dict[str, Any]) -> None:
    parsed = naming.parse(row["name"])

    staging = (row["note"] or "").startswith("transfer staging folder")
    assert (parsed.platform, parsed.subject_id, _iso(parsed.started)) == (row["platform"], row["subject_id"], row["dt"])
    assert parsed.session_id == row["id"]
    assert (parsed.label, _iso(parsed.label_time)) == (None if staging else row["suffix"], row["suffix_dt"])
    assert (row["name"] == parsed.session_id) is row["is_raw_by_name"]
    assert row["name"].startswith(f"{parsed.session_id}_sorted") is row["is_sorted_by_name"]


@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row["name"])
def test_what_is_raw_by_name_is_raw(row: dict[str, Any]) -> None:
    parsed = naming.parse(row["name"])

    if row["is_raw_by_name"]:
        assert parsed.kind == "raw"
    if row["is_sorted_by_name"]:
        assert parsed.kind == "derived"


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row["name"])
def test_a_name_that_a_published_rule_allows_reads_as_the_rule_says(row: dict[str, Any]) -> None:
    rule = row["published_rule"]

    parsed = naming.parse(row["name"])

    assert parsed.convention == row["convention"]
    assert (parsed.platform, parsed.subject_id, _iso(parsed.started)) == (rule.get("platform"), rule["subject_id"], rule["dt"])
    assert (parsed.label, _iso(parsed.label_time)) == (rule["suffix"], rule["suffix_dt"])
    assert parsed.kind == ("raw" if rule["kind"] == "raw" else "derived")


@pytest.mark.parametrize("row", MINDSCOPE, ids=lambda row: row["name"])
def test_a_name_of_mindscope_gives_its_session(row: dict[str, Any]) -> None:
    parsed = naming.parse(row["name"])

    assert (parsed.convention, parsed.session_id) == ("mindscope", row["mindscope_session"])


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["name"])
def test_what_is_no_name_is_refused_with_a_reason_of_every_convention(row: dict[str, Any]) -> None:
    with pytest.raises(UnrecognizedNameError) as caught:
        naming.parse(row["name"])

    reasons = caught.value.details["reasons"]
    assert set(reasons) == set(naming.conventions())
    assert all(reasons.values())
    assert [(reading.convention, reading.reason) for reading in naming.explain(row["name"])] == list(reasons.items())


@pytest.mark.parametrize("row", DEFECTS, ids=lambda row: row["name"])
def test_a_name_that_upstream_misreads_is_refused_or_read_without_what_surrounds_it(row: dict[str, Any]) -> None:
    try:
        parsed = naming.parse(row["name"])
    except UnrecognizedNameError:
        return

    assert parsed.platform is None
    assert parsed.subject_id == "822683"
    assert parsed.canonical == "822683_2026-02-26_16-59-38"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_canonical_name_is_the_same_recording_and_canonical_itself(row: dict[str, Any]) -> None:
    for parsed in naming.find_all([row["name"]]):
        again = naming.parse(parsed.canonical)

        assert naming.format(parsed) == parsed.canonical == again.canonical
        assert (again.recording, again.fields) == (parsed.recording, parsed.fields)
