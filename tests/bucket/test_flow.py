"""``ws.flow`` on every kind of lab: events, channels and keywords of what lies in the bucket."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest

import epista
from epista.client.flow import Flow
from tests.serializers.test_fcs import EVENTS, made

FILE = made(EVENTS, P1S="size", CYT="FACSAria of room 12", SPILLOVER="2,FSC-A,Time,1,0,0,1")


@pytest.fixture
def flow(ws: epista.Workspace) -> Flow:
    ws.put("EXP-12/cells.fcs", FILE)
    return ws.flow


def test_events_channels_and_keywords(ws: epista.Workspace, flow: Flow) -> None:
    assert ws.get("EXP-12/cells.fcs").kind == "FLOW"
    assert np.allclose(flow.events("EXP-12/cells.fcs").to_numpy(), EVENTS)
    assert flow.events(ws.get("EXP-12/cells.fcs"), channels=["Time"]).columns.tolist() == ["Time"]
    assert flow.channels("cells.fcs") == ["FSC-A", "Time"]
    assert [channel.label for channel in flow.channels("cells.fcs")] == ["size", ""]
    assert flow.keywords("EXP-12/cells.fcs")["$CYT"] == "FACSAria of room 12"
    assert flow.spill("EXP-12/cells.fcs").loc["FSC-A", "Time"] == 0  # type: ignore[union-attr]


def test_deserialize_gives_the_same_table_also_of_a_packed_file(ws: epista.Workspace, flow: Flow) -> None:
    ws.put("EXP-12/packed.fcs.gz", gzip.compress(FILE))

    assert ws("EXP-12/cells.fcs").equals(flow.events("EXP-12/cells.fcs"))
    assert ws("EXP-12/packed.fcs.gz").equals(ws("EXP-12/cells.fcs"))
    assert flow.channels("EXP-12/packed.fcs.gz") == ["FSC-A", "Time"]
    assert ws.deserialize("EXP-12/cells.fcs", as_type="arrow").column_names == ["FSC-A", "Time"]


@pytest.mark.singlecell
def test_events_as_anndata_have_channels_as_variables(flow: Flow) -> None:
    found: Any = flow.events("EXP-12/cells.fcs", as_type="anndata")

    assert found.shape == (3, 2)
    assert found.var["label"].to_dict() == {"FSC-A": "size", "Time": ""}
    assert found.uns["keywords"]["$TOT"] == "3"


def test_older_versions_can_be_read(ws: epista.Workspace, flow: Flow) -> None:
    ws.put("EXP-12/cells.fcs", made(EVENTS, names=("SSC-A", "Time")))

    assert flow.channels("EXP-12/cells.fcs") == ["SSC-A", "Time"]
    assert flow.channels("EXP-12/cells.fcs", version=1) == ["FSC-A", "Time"]


def test_channels_labels_and_what_is_said_of_the_sample_are_found(ws: epista.Workspace, flow: Flow) -> None:
    assert [hit.key for hit in ws.search('kind:FLOW "room 12"')] == ["EXP-12/cells.fcs"]
    assert [hit.key for hit in ws.search("FSC-A size")] == ["EXP-12/cells.fcs"]


def test_what_is_no_fcs_file_is_stored_and_refused_when_it_is_read(ws: epista.Workspace, flow: Flow) -> None:
    ws.put("EXP-12/noise.fcs", b"0123456789")

    for read in (flow.events, flow.channels, flow.keywords, ws):
        with pytest.raises(epista.UnreadableError, match="not an FCS file: no header"):
            read("EXP-12/noise.fcs")
    with pytest.raises(epista.FormatError, match="only read"):
        ws.put("EXP-12/table.fcs", flow.events("EXP-12/cells.fcs"))
    with pytest.raises(epista.ValidationError, match="no channel 'FL9'"):
        flow.events("EXP-12/cells.fcs", channels=["FL9"])
