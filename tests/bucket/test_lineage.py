"""What came of what, as people ask for it: over HTTP, in an embedded lab, and over HTTP in a lab in PostgreSQL and S3."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import epista
from epista.client.lineage import Lineage


def keys(found: Lineage) -> list[str]:
    return sorted(one.key for one in found.versions)


@pytest.fixture
def figure(ws: epista.Workspace) -> epista.Asset:
    """A figure made from a table that was made from raw data, and a report of it."""
    raw = ws.put("EXP-12/raw.txt", "1 2 3")
    counts = ws.put("EXP-12/counts.csv", b"dose,value\n1,2\n", inputs=[raw])
    figure = ws.put("EXP-12/figure.svg", b"<svg/>", inputs=[counts])
    ws.put("EXP-12/report.txt", "as one sees", inputs=[figure])
    return figure


def test_lineage_is_of_an_asset_a_key_an_id_a_name_or_a_version(ws: epista.Workspace, figure: epista.Asset) -> None:
    found = [ws.lineage(ref) for ref in (figure, "EXP-12/figure.svg", figure.id, "figure.svg", ws.versions(figure)[0])]

    assert keys(found[0]) == ["EXP-12/counts.csv", "EXP-12/figure.svg", "EXP-12/raw.txt", "EXP-12/report.txt"]
    assert all(one.edges == found[0].edges and one.roots == (figure.version,) for one in found)


def test_a_direction_and_a_depth_narrow_it(ws: epista.Workspace, figure: epista.Asset) -> None:
    assert keys(ws.lineage(figure, direction="up")) == ["EXP-12/counts.csv", "EXP-12/figure.svg", "EXP-12/raw.txt"]
    assert keys(ws.lineage(figure, direction="down")) == ["EXP-12/figure.svg", "EXP-12/report.txt"]
    assert keys(ws.lineage(figure, depth=1)) == ["EXP-12/counts.csv", "EXP-12/figure.svg", "EXP-12/report.txt"]


def test_an_older_version_has_a_lineage_of_its_own(ws: epista.Workspace, figure: epista.Asset) -> None:
    new = ws.put("EXP-12/figure.svg", b"<svg></svg>", inputs=[ws.get("EXP-12/raw.txt")])

    assert keys(ws.lineage(figure, direction="up")) == ["EXP-12/counts.csv", "EXP-12/figure.svg", "EXP-12/raw.txt"]
    assert keys(ws.lineage("EXP-12/figure.svg", version=1)) == keys(ws.lineage(figure))
    assert ws.lineage("EXP-12/figure.svg", version=1).roots == (figure.version,)
    assert ws.lineage("EXP-12/figure.svg", direction="up").roots == (new.version,)


def test_a_key_without_a_folder_is_of_the_active_experiment(
    open_workspace: Callable[..., epista.Workspace], figure: epista.Asset
) -> None:
    ws = open_workspace(experiment="EXP-12")
    ws.put("EXP-13/figure.svg", b"<svg/>")

    assert ws.lineage("figure.svg").roots == (figure.version,)


def test_what_is_not_there_is_said(ws: epista.Workspace, figure: epista.Asset) -> None:
    ws.put("EXP-13/figure.svg", b"<svg/>")

    with pytest.raises(epista.KeyNotFoundError):
        ws.lineage("EXP-12/none.svg")
    with pytest.raises(epista.AmbiguousNameError):
        ws.lineage("figure.svg")
    with pytest.raises(epista.NotFoundError):
        ws.lineage("EXP-12/figure.svg", version=7)
    with pytest.raises(epista.InvalidRequestError):
        ws.lineage(figure, direction="sideways")  # type: ignore[arg-type]
    with pytest.raises(epista.InvalidRequestError):
        ws.lineage(figure, depth=0)


def test_of_a_deleted_asset_lineage_is_there_and_after_a_purge_it_is_marked(ws: epista.Workspace, figure: epista.Asset) -> None:
    ws.delete("EXP-12/counts.csv")

    found = ws.lineage(figure, direction="up")
    ws.purge("EXP-12/counts.csv")
    purged = ws.lineage(figure, direction="up")

    assert [one.key for one in found.versions if one.deleted] == ["EXP-12/counts.csv"]
    assert keys(purged) == ["EXP-12/figure.svg"]
    assert [one.erased for one in purged.restricted] == [True]
    assert purged.text().endswith("└─ erased")
