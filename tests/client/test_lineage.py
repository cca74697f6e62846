"""Graphs of lineage as text, as a drawing, and as documents that others read."""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prov.model import ProvDocument

import epista
from epista.client import drawings
from epista.client.lineage import LINES, Lineage
from epista.contract.lineage import Activity, AskedQuery, Cell, Edge, GraphVersion, RecordedActivity, Restricted

AT = datetime(2026, 11, 23, 13, 40, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def version(id: str, key: str, number: int = 1, **wanted: Any) -> GraphVersion:
    return GraphVersion(id=id, key=key, number=number, kind="TABLE", format="csv", at=AT, by="anna", **wanted)


def activity(id: str, *sql: str, **told: Any) -> RecordedActivity:
    asked = tuple(AskedQuery(id=f"qu_{number}", sql=text) for number, text in enumerate(sql))
    return RecordedActivity(id=id, by="anna", at=AT, told=Activity(**told), queries=asked)


def edges(*pairs: str) -> tuple[Edge, ...]:
    return tuple(Edge(source=source, target=target) for source, target in (pair.split(">") for pair in pairs))


FIGURE = Lineage(
    workspace="lab",
    roots=("ve_figure",),
    versions=(
        version("ve_raw", "EXP-12/raw.fcs"),
        version("ve_counts", "EXP-12/counts.parquet", 3),
        version("ve_figure", "EXP-12/figures/Dose response.svg", 2, notebook="dose.ipynb"),
        version("ve_report", "EXP-13/report.pdf", deleted=True),
    ),
    activities=(
        activity("ac_gate", title="gate cells", started_at=datetime(2026, 11, 23, 13, 30, tzinfo=UTC)),
        activity(
            "ac_draw",
            "SELECT dose, avg(value)\nFROM counts GROUP BY ALL",
            cell=Cell(number=7, id="c7", source="fig = plot(df)\nepista.publish_figure(fig)"),
            git_commit="0123456789abcdef0123456789abcdef01234567",
            is_dirty=True,
        ),
    ),
    restricted=(Restricted(id="restricted:ac_draw"),),
    edges=edges(
        "ve_raw>ac_gate",
        "ac_gate>ve_counts",
        "ve_counts>ac_draw",
        "restricted:ac_draw>ac_draw",
        "ac_draw>ve_figure",
        "ve_figure>ve_report",
    ),
)
"""What a person would see of a published figure."""

HOSTILE = "<script>alert(1)</script>&amp;\"'>]]>\x00\x1b[31m\u202e\ud800 日本語"
"""Nothing of it may do anything."""


def written(svg: str) -> list[str]:
    """Return the texts of a drawing, which has to be well-formed."""
    return [one.text or "" for one in ET.fromstring(svg).iter(f"{SVG}text")]


def test_as_text_it_tells_what_a_version_was_made_from_and_what_it_went_into() -> None:
    assert repr(FIGURE) == FIGURE.text()
    assert FIGURE.text() == (
        "EXP-12/figures/Dose response.svg  version 2\n"
        "made from:\n"
        "└─ a notebook cell  2026-11-23 13:40 UTC, anna\n"
        "   │  cell 7 of dose.ipynb\n"
        "   │  git 0123456789 and changes\n"
        "   │  SQL: SELECT dose, avg(value) FROM counts GROUP BY ALL\n"
        "   │  fig = plot(df) epista.publish_figure(fig)\n"
        "   ├─ restricted\n"
        "   └─ EXP-12/counts.parquet  version 3\n"
        "      └─ gate cells  2026-11-23 13:40 UTC, anna\n"
        "         └─ EXP-12/raw.fcs  version 1\n"
        "went into:\n"
        "└─ EXP-13/report.pdf  version 1, deleted"
    )


def test_what_many_ways_lead_to_is_told_once() -> None:
    found = Lineage(
        workspace="lab",
        roots=("d",),
        versions=tuple(version(id, f"{id}.csv") for id in "abcd"),
        edges=edges("a>b", "b>d", "b>c", "c>d"),
    )

    assert found.text().split("\n")[1:] == [
        "made from:",
        "├─ b.csv  version 1",
        "│  └─ a.csv  version 1",
        "└─ c.csv  version 1",
        "   └─ b.csv  version 1  (see above)",
    ]


def test_alone_it_says_that_nothing_is_recorded() -> None:
    found = Lineage(workspace="lab", roots=("a",), versions=(version("a", "a.csv"),))

    assert found.text() == "a.csv  version 1\nnothing is recorded of where it came from, and nothing came of it"
    assert written(found._repr_svg_()) == ["a.csv", "version 1"]


def test_of_a_long_text_a_session_shows_the_beginning() -> None:
    many = [f"p{number}" for number in range(500)]
    found = Lineage(
        workspace="lab",
        roots=("a",),
        versions=(version("a", "a.csv"), *(version(one, one) for one in many)),
        edges=edges(*(f"{one}>a" for one in many)),
        is_cut=True,
    )

    assert repr(found).split("\n")[LINES:] == ["and more: .text()"]
    assert len(found.text().split("\n")) == 503
    assert written(found._repr_svg_())[-1] == "and 301 more that are not drawn"


def test_the_drawing_has_every_node_and_edge_from_left_to_right() -> None:
    svg = ET.fromstring(FIGURE._repr_svg_())

    boxes = {group.findtext(f"{SVG}text"): float(group.find(f"{SVG}rect").get("x", "")) for group in svg.iter(f"{SVG}g")}  # type: ignore[union-attr]
    assert [name for name, _ in sorted(boxes.items(), key=lambda box: (box[1], box[0]))] == [
        "raw.fcs",
        "gate cells",
        "counts.parquet",
        "restricted",
        "a notebook cell",
        "Dose response.svg",
        "report.pdf",
    ]
    assert len([path for path in svg.iter(f"{SVG}path") if path.get("marker-end")]) == len(FIGURE.edges)
    assert any("avg(value)" in (title.text or "") for title in svg.iter(f"{SVG}title"))


@pytest.mark.parametrize("text", [HOSTILE, "a" * 500, "", "\n", "]]>", "日" * 40, "<svg onload=alert(1)>"])
def test_a_hostile_name_is_text_and_nothing_else(text: str) -> None:
    found = Lineage(
        workspace="lab",
        roots=("a",),
        versions=(version("a", text, notebook=text),),
        activities=(activity("b", text, title=text, cell=Cell(source=text)),),
        edges=edges("b>a"),
    )

    svg = ET.fromstring(found._repr_svg_())

    known = {"svg", "title", "defs", "marker", "path", "rect", "g", "text"}
    assert {one.tag for one in svg.iter()} == {f"{SVG}{tag}" for tag in known}
    assert not [name for one in svg.iter() for name in one.attrib if name.startswith("on") or "href" in name]
    assert all(len(one) <= drawings.SMALL_COLUMNS for one in written(found._repr_svg_()))
    for shown in found.text(), found._repr_svg_():
        assert not {"\x00", "\x1b", "\u202e", "\ud800"} & set(shown)
    json.dumps([found.to_prov(), found.to_openlineage()])


def test_what_no_lab_would_send_is_drawn_too() -> None:
    circle = Lineage(
        workspace="lab",
        roots=("a",),
        versions=tuple(version(id, id) for id in "abc"),
        edges=edges("a>b", "b>c", "c>a", "a>a"),
    )

    assert "a" in written(circle._repr_svg_())
    assert "(see above)" in circle.text()
    ProvDocument.deserialize(content=json.dumps(circle.to_prov()), format="json")


def test_a_large_graph_is_drawn_in_part_and_told_whole() -> None:
    ids = [f"v{number}" for number in range(1000)]
    pairs = [f"{ids[number - step]}>{ids[number]}" for number in range(1, 1000) for step in range(1, 11) if step <= number]
    found = Lineage(
        workspace="lab", roots=(ids[500],), versions=tuple(version(one, one) for one in ids), edges=edges(*pairs), is_cut=True
    )

    drawn = found._repr_svg_()
    told = found.text()

    assert len(written(drawn)) == 2 * drawings.MOST_BOXES + 1
    assert told.count("\n") < 2 * len(pairs)


def test_prov_json_is_read_by_another_implementation() -> None:
    read = ProvDocument.deserialize(content=json.dumps(FIGURE.to_prov()), format="json")

    said = read.get_provn()
    assert "entity(epista:ve_counts" in said
    assert "wasGeneratedBy(epista:ve_figure, epista:ac_draw, -)" in said
    assert "used(epista:ac_draw, epista:restricted%3Aac_draw, -)" in said
    assert "wasDerivedFrom(epista:ve_report, epista:ve_figure, -, -, -)" in said
    assert "wasAssociatedWith(epista:ac_gate, epista:user-anna, -)" in said
    assert "activity(epista:ac_gate, 2026-11-23T13:30:00+00:00, 2026-11-23T13:40:00+00:00" in said
    assert "avg(value)" in said
    kinds = [type(record).__name__ for record in read.get_records()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "ProvEntity": 5,
        "ProvActivity": 2,
        "ProvAgent": 1,
        "ProvUsage": 3,
        "ProvGeneration": 2,
        "ProvDerivation": 1,
        "ProvAttribution": 4,
        "ProvAssociation": 2,
    }


def test_openlineage_has_two_events_of_each_run() -> None:
    events = FIGURE.to_openlineage()

    said = [
        (
            one["eventType"],
            one["job"]["name"],
            [data["name"] for data in one["inputs"]],
            [data["name"] for data in one["outputs"]],
        )
        for one in events
    ]
    figure, report = "EXP-12/figures/Dose response.svg", "EXP-13/report.pdf"
    assert said == [
        ("START", "gate cells", ["EXP-12/raw.fcs"], []),
        ("COMPLETE", "gate cells", ["EXP-12/raw.fcs"], ["EXP-12/counts.parquet"]),
        ("START", "a notebook cell", ["EXP-12/counts.parquet", "restricted:ac_draw"], []),
        ("COMPLETE", "a notebook cell", ["EXP-12/counts.parquet", "restricted:ac_draw"], [figure]),
        ("START", f"make {report}", [figure], []),
        ("COMPLETE", f"make {report}", [figure], [report]),
    ]
    assert [one["eventTime"] for one in events[:2]] == ["2026-11-23T13:30:00.000000Z", "2026-11-23T13:40:00.000000Z"]
    assert events[3]["job"]["facets"]["sql"]["query"].startswith("SELECT dose")
    assert events[3]["run"]["facets"]["epista_activity"]["notebook"] == "dose.ipynb"
    assert events[1]["outputs"][0]["facets"]["version"]["datasetVersion"] == "ve_counts"
    for event in events:
        jsonschema.validate(event, RUN_EVENT, cls=jsonschema.Draft202012Validator)
        uuid.UUID(event["run"]["runId"])


_FACETED = {
    "type": "object",
    "additionalProperties": {"type": "object", "required": ["_producer", "_schemaURL"]},
}
_NAMED = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}, "facets": _FACETED},
}
RUN_EVENT = {
    "type": "object",
    "required": ["eventType", "eventTime", "run", "job", "producer", "schemaURL"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": {"type": "object", "required": ["runId"], "properties": {"facets": _FACETED}},
        "job": _NAMED,
        "inputs": {"type": "array", "items": _NAMED},
        "outputs": {"type": "array", "items": _NAMED},
        "schemaURL": {"const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
    },
}
"""What OpenLineage 2-0-2 asks of an event, in our words."""


def test_a_published_figure_tells_after_a_restart_what_made_it(tmp_path: Path) -> None:
    with epista.Workspace(tmp_path / "lab", experiment="EXP-12", notebook="analysis/doses.ipynb") as ws:
        ws.put("counts.csv", b"dose,value\n1,2\n")
        ws.put("plate.csv", b"well\nA1\n")
    with epista.Workspace(tmp_path / "lab", experiment="EXP-12", notebook="analysis/doses.ipynb") as ws:
        result = ws.query("SELECT dose, value FROM counts")
        with ws.run("draw doses"):
            ws("plate.csv")
            ws.publish_table(result, "Summary")
            figure = ws.publish_figure("<svg xmlns='http://www.w3.org/2000/svg'/>", "Dose response", inputs=[result, "plate.csv"])

    with epista.Workspace(tmp_path / "lab") as ws:
        found = ws.lineage(figure.asset, direction="up", depth=1)

    assert [(one.key, one.number) for one in found.versions] == [
        ("EXP-12/counts.csv", 1),
        ("EXP-12/plate.csv", 1),
        ("EXP-12/figures/dose-response.svg", 1),
    ]
    [activity] = found.activities
    assert [query.sql for query in activity.queries] == ["SELECT dose, value FROM counts"]
    assert activity.told.title == "draw doses"
    assert "analysis/doses.ipynb" in found.text()
    assert "SQL: SELECT dose, value FROM counts" in found.text()
    assert len({edge.source for edge in found.edges}) == 3
