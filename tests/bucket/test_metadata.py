"""Metadata: items 22 to 29 of the acceptance list."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import pytest

import epista
from epista.client import workspaces
from epista.contract.workspaces import Rule
from tests.makers import Server

NESTED: dict[str, Any] = {
    "temp": 37,
    "ratio": 0.1,
    "big": 2**200 + 1,
    "negative": -(2**63) - 1,
    "none": None,
    "yes": True,
    "empty": {"list": [], "object": {}, "text": ""},
    "list": [1, [2.5, ["three", {"four": [None, False]}]]],
    "Zellen µ 细胞 🧬": {"a.b": "x\u2028y\t\n", "": "no name"},
}


def test_22_nested_metadata_returns_equal(ws: epista.Workspace) -> None:
    put = ws.put("x.txt", "x", meta=NESTED)

    assert put.meta == NESTED
    assert ws.get_meta("x.txt") == NESTED
    assert type(ws.get_meta("x.txt")["big"]) is int
    assert ws.get("x.txt").meta == NESTED
    assert ws.versions("x.txt")[0].meta == NESTED
    assert ws.set_meta("x.txt", {"again": NESTED}).meta == {"again": NESTED}
    assert ws.get_meta("x.txt") == {"again": NESTED}


def test_22_tuples_numpy_numbers_and_dates_become_json(ws: epista.Workspace) -> None:
    ws.put("x.txt", "x", meta={"t": (1, 2), "n": np.int64(3), "f": np.float64(0.5), "d": date(2026, 1, 31), "b": np.bool_(True)})

    assert ws.get_meta("x.txt") == {"t": [1, 2], "n": 3, "f": 0.5, "d": "2026-01-31", "b": True}


def test_23_metadata_over_two_kibibytes_works(ws: epista.Workspace) -> None:
    meta = {f"note {number}": "long" * 100 for number in range(2000)}

    ws.put("x.txt", "x", meta=meta)

    assert ws.get_meta("x.txt") == meta


def test_23_metadata_over_one_mebibyte_is_refused(ws: epista.Workspace) -> None:
    with pytest.raises(epista.TooLargeError) as failure:
        ws.put("x.txt", "x", meta={"note": "x" * 1024 * 1024})

    assert failure.value.details["limit_bytes"] == 1_048_576
    assert ws.keys() == []


def test_24_none_keeps_an_empty_dict_clears_and_a_dict_replaces(ws: epista.Workspace) -> None:
    ws.put("x.txt", "1", meta={"a": 1, "b": 2}, tags=["qc", "old"])

    kept = ws.put("x.txt", "2")
    assert (kept.meta, kept.tags) == ({"a": 1, "b": 2}, ("qc", "old"))
    replaced = ws.put("x.txt", "3", meta={"c": 3}, tags=["new"])
    assert (replaced.meta, replaced.tags) == ({"c": 3}, ("new",))
    cleared = ws.put("x.txt", "4", meta={}, tags=[])
    assert (cleared.meta, cleared.tags) == ({}, ())
    assert ws.get_meta("x.txt") == {}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_25_nan_at_any_depth_is_refused(ws: epista.Workspace, number: float) -> None:
    ws.put("x.txt", "x", meta={"n": 1})

    with pytest.raises(epista.ValidationError, match=r"a\[1\]\.b"):
        ws.put("y.txt", "y", meta={"a": [0, {"b": number}]})
    with pytest.raises(epista.ValidationError, match=r"a\[1\]\.b"):
        ws.set_meta("x.txt", {"a": [0, {"b": number}]})

    assert ws.keys() == ["x.txt"]
    assert ws.get_meta("x.txt") == {"n": 1}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("around", ["{}", '{{"a": [0, {{"b": {}}}]}}'])
def test_25_nan_at_any_depth_is_refused_by_raw_http_too(server: Server, text: str, around: str) -> None:
    api = server.api()
    api.put("x.txt", b"x", meta={"n": 1})
    sha256 = api.upload(b"y")
    meta = around.format(text) if around != "{}" else f'{{"a": {text}}}'
    json = {"Content-Type": "application/json"}

    put = api.call(
        "POST", "~/objects", data=f'{{"objects": [{{"key": "y.txt", "sha256": "{sha256}", "meta": {meta}}}]}}', headers=json
    )
    described = api.call("POST", "~/metadata", data=f'{{"key": "x.txt", "meta": {meta}}}', headers=json)

    assert (put.status_code, described.status_code) == (400, 400)
    assert api.keys() == ["x.txt"]
    assert api.ok(api.get_asset("x.txt"))["meta"] == {"n": 1}


def test_26_set_meta_moves_no_bytes_keeps_format_and_tags_and_adds_a_version(
    ws: epista.Workspace, stored: Callable[[], set[str]]
) -> None:
    first = ws.put("x.csv", [{"n": 1}], tags=["qc"], meta={"a": 1}, sep="|")
    before = stored()

    second = ws.set_meta("x.csv", {"b": 2})

    assert stored() == before
    assert (second.id, second.number, second.meta) == (first.id, 2, {"b": 2})
    assert (second.sha256, second.format, second.kind) == (first.sha256, "csv", "TABLE")
    assert (second.tags, second.options) == (("qc",), first.options)
    assert [version.number for version in ws.versions("x.csv")] == [2, 1]
    assert ws("x.csv")["n"].tolist() == [1]


def test_26_set_meta_takes_no_none(ws: epista.Workspace) -> None:
    ws.put("x.txt", "x", meta={"a": 1})

    with pytest.raises(epista.ValidationError):
        ws.set_meta("x.txt", None)  # type: ignore[arg-type]

    assert ws.get_meta("x.txt") == {"a": 1}


def test_27_of_two_set_metas_that_expect_the_same_version_one_wins(open_workspace: Callable[..., epista.Workspace]) -> None:
    sessions = [open_workspace(), open_workspace()]
    version = sessions[0].put("x.txt", "x").version

    def describe(session: epista.Workspace, name: str) -> str | None:
        try:
            return str(session.set_meta("x.txt", {"by": name}, expect=version).meta["by"])
        except epista.ConflictError as conflict:
            assert conflict.details["found"] != version
            return None

    with ThreadPoolExecutor(2) as pool:
        done = [name for name in pool.map(describe, sessions, ["ada", "bob"]) if name]

    assert len(done) == 1
    assert sessions[0].get_meta("x.txt") == {"by": done[0]}
    assert len(sessions[0].versions("x.txt")) == 2


@pytest.mark.parametrize("spelling", ["d", "d/"])
def test_28_the_metadata_of_a_folder_is_refused_with_that_reason(ws: epista.Workspace, spelling: str) -> None:
    ws.put("d/x.txt", "x")

    for attempt in (lambda: ws.get_meta(spelling), lambda: ws.set_meta(spelling, {"a": 1})):
        with pytest.raises((epista.InvalidKeyError, epista.KeyNotFoundError), match="folder"):
            attempt()


def test_29_schema_failures_list_every_path(ws: epista.Workspace) -> None:
    schema = {
        "type": "object",
        "required": ["operator"],
        "properties": {
            "temp": {"type": "number"},
            "wells": {"type": "array", "items": {"type": "object", "properties": {"dose": {"minimum": 0}}}},
        },
    }
    workspaces.set_rules(ws, [Rule(name="plates", schema=schema, kind="TABLE")])

    with pytest.raises(epista.ValidationError) as failure:
        ws.put("x.csv", [{"n": 1}], meta={"temp": "warm", "wells": [{"dose": 1}, {"dose": -1}, {"dose": -2}]})

    assert sorted(violation["path"] for violation in failure.value.violations) == ["", "temp", "wells[1].dose", "wells[2].dose"]
    assert {violation["rule"] for violation in failure.value.violations} == {"plates"}
    assert "operator" in str(failure.value)
    assert ws.keys() == []
    ws.put("x.txt", "not a table")
    ws.put("x.csv", [{"n": 1}], meta={"operator": "ada"})
    with pytest.raises(epista.ValidationError, match="operator"):
        ws.set_meta("x.csv", {})
    assert ws.get_meta("x.csv") == {"operator": "ada"}


def test_29_the_failures_of_all_files_of_a_folder_are_listed(ws: epista.Workspace, folder: Any) -> None:
    for name in ("a.csv", "b.csv", "c.csv"):
        (folder / name).write_bytes(b"n\n1\n")
    workspaces.set_rules(ws, [Rule(name="temp", schema={"required": ["temp"]})])

    with pytest.raises(epista.ValidationError) as failure:
        ws.put_dir("d", folder, meta=lambda name: {"temp": 37} if name == "b.csv" else {})

    assert [violation["key"] for violation in failure.value.violations] == ["d/a.csv", "d/c.csv"]
    assert ws.keys() == []
