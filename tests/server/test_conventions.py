"""Naming conventions of a workspace: declared by admins, versioned, audited, and the same on both ends."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

import epista
from epista import naming
from epista.client import conventions
from epista.contract.errors import ConflictError, NotFoundError, ValidationError
from epista.naming import registry
from epista.server.app import create_app
from epista.server.config import Config
from epista.server.services import conventions as service
from tests.makers import Api, Server

MICE = """
description = "mice of the Smith lab"
tokens = [
    {field = "date", form = "YYYYMMDD"},
    {field = "subject_id", lead = "m", form = "digits", length = [1, 4]},
    {field = "rig", values = ["north", "south"]},
    {field = "label", optional = true},
]
"""
NAME = "20240501_m12_north_sorted"


@pytest.fixture
def plates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a class, as a package on the server does."""

    class Plates:
        def parse(self, component: str) -> dict[str, Any]:
            word, _, number = component.partition(" ")
            if word != "Plate":
                raise ValueError("it is no plate")
            return {"subject_id": f"plate{number}", "date": date(2024, 1, 1)}

        def format(self, fields: Any) -> str:
            return f"Plate {fields['subject_id'].removeprefix('plate')}"

    monkeypatch.setattr(registry, "_registered", registry.registered())
    monkeypatch.setattr(registry, "_current", None)
    naming.register_convention("plates", Plates)


def explained(api: Api, text: str) -> dict[str, Any]:
    return {one["convention"]: one for one in api.ok(api.get("~/conventions/explain", text=text))["readings"]}


def test_what_a_workspace_declares_is_read_first_and_on_both_ends(ws: epista.Workspace) -> None:
    before = ws.conventions()

    conventions.add(ws, "mice", MICE)

    here = ws.conventions().parse(f"EXP-1/{NAME}/data.bin")
    (there, *_) = conventions.explain(ws, f"EXP-1/{NAME}/data.bin")
    assert "mice" not in before
    assert next(iter(ws.conventions())) == "mice"
    assert (here.subject_id, here.date, here.label, here.tokens) == ("12", date(2024, 5, 1), "sorted", (("rig", "north"),))
    assert (there.convention, there.canonical, there.kind) == ("mice", here.canonical, here.kind)
    assert there.fields == {"subject_id": "12", "date": "2024-05-01", "label": "sorted", "tokens": {"rig": "north"}}
    conventions.remove(ws, "mice")


def test_names_that_are_there_already_say_something_by_a_convention_that_is_declared_later(http_ws: epista.Workspace) -> None:
    http_ws.put(f"{NAME}/data.bin", b"spikes")
    before = [experiment.name for experiment in http_ws.experiments(subject="12")]

    conventions.add(http_ws, "mice", MICE)
    after = [experiment.name for experiment in http_ws.experiments(subject="12")]
    http_ws.put("20240502_m12_south/data.bin", b"spikes")
    later = [experiment.name for experiment in http_ws.experiments(subject="12", convention="mice")]
    conventions.remove(http_ws, "mice")

    assert (before, after, later) == ([], [NAME], [NAME, "20240502_m12_south"])
    assert [experiment.name for experiment in http_ws.experiments(subject="12")] == []


def test_the_server_explains_names_of_every_convention(server: Server, plates: None) -> None:
    api = server.api()

    readings = explained(api, "Plate 7")

    assert list(readings) == ["plates", *registry.PACKAGED]
    assert (readings["plates"]["canonical"], readings["plates"]["reason"]) == ("Plate 7", None)
    assert all(readings[name]["reason"] and readings[name]["canonical"] is None for name in registry.PACKAGED)
    assert api.ok(api.get("~/conventions"))["installed"] == ["plates"]


def test_what_is_installed_only_on_the_server_is_warned_about(
    http_ws: epista.Workspace, plates: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = conventions.get(http_ws)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(conventions, "get", lambda here: found)

    with pytest.warns(RuntimeWarning, match="plates, not installed here"):
        http_ws.conventions()


def test_every_change_is_a_version_and_is_in_the_audit_log(http_ws: epista.Workspace) -> None:
    conventions.add(http_ws, "mice", MICE)
    conventions.add(http_ws, "rats", {"tokens": [{"text": "rat"}, {"field": "subject_id"}]})
    last = conventions.remove(http_ws, "mice")

    assert [one.name for one in last.conventions] == ["rats"]
    assert [one.name for one in conventions.get(http_ws, version=2).conventions] == ["mice", "rats"]
    assert conventions.get(http_ws, version=1).conventions[0].declaration == naming.declaration(MICE)
    with pytest.raises(NotFoundError, match="no version 4"):
        conventions.get(http_ws, version=4)
    with pytest.raises(NotFoundError, match="there are: rats"):
        conventions.remove(http_ws, "mice")


def test_the_audit_log_names_them(server: Server) -> None:
    api = server.api()
    rows = [{"name": "mice", "declaration": {"tokens": [{"field": "subject_id"}]}}]
    api.ok(api.call("PUT", "~/conventions", json={"conventions": rows}))

    (entry,) = api.ok(api.get("~/audit", action="conventions.set"))["rows"]

    assert (entry["target"], entry["details"]) == ("version 1", {"conventions": ["mice"]})


def test_another_version_in_between_is_a_conflict(http_ws: epista.Workspace) -> None:
    conventions.add(http_ws, "mice", MICE)

    with pytest.raises(ConflictError) as caught:
        conventions.set_all(http_ws, {}, expect=0)

    assert caught.value.details["found"] == 1


def test_every_fault_of_every_declaration_is_reported_at_once(server: Server) -> None:
    api = server.api()
    rows = [
        {"name": "aind-subject", "declaration": {"tokens": [{"field": "subject_id"}]}},
        {"name": "mice", "declaration": {"tokens": [{"field": "subject_id", "pattern": "(a+)+"}], "separator": "/"}},
        {"name": "mice", "declaration": {}},
    ]

    answer = api.call("PUT", "~/conventions", json={"conventions": rows})

    assert (answer.status_code, answer.json()["code"]) == (422, "validation")
    assert [one["path"] for one in answer.json()["details"]["violations"]] == [
        "conventions[0] (aind-subject)",
        "conventions[1] (mice).separator",
        "conventions[1] (mice).tokens[0].pattern",
        "conventions[2] (mice).tokens",
    ]
    assert api.ok(api.get("~/conventions"))["version"] == 0


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 5_000 + b"]" * 5_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b"1e999",
        b"1" * 5_000,
        b'"\\u0000"',
        b"null",
        b'["\\ud800"]',
    ],
    ids=["lists", "objects", "infinite", "long", "null character", "null", "surrogate"],
)
def test_hostile_declarations_are_refused(server: Server, value: bytes) -> None:
    api = server.api()
    for key in (b"field", b"values", b"length", b"separator", b"form", b"lead"):
        token = b'{"field":"subject_id","%s":%s}' % (key, value) if key != b"field" else b'{"field":%s}' % value
        body = b'{"conventions":[{"name":"mice","declaration":{"tokens":[%s]}}]}' % token

        answer = api.call("PUT", "~/conventions", data=body, headers={"Content-Type": "application/json"})

        assert answer.status_code in (400, 422) or value == b"null", (key, answer.text)


def test_only_admins_declare(server: Server) -> None:
    editor = server.member("ada", "editor")

    assert editor.call("PUT", "~/conventions", json={"conventions": []}).status_code == 403
    assert editor.ok(editor.get("~/conventions"))["version"] == 0


def test_a_server_started_anew_reads_by_the_same_conventions(server: Server, placed: Config) -> None:
    api = server.api()
    rows = [{"name": "mice", "declaration": naming.declaration(MICE)}]
    api.ok(api.call("PUT", "~/conventions", json={"conventions": rows}))

    assert explained(api, NAME)["mice"]["canonical"] == NAME
    assert create_app(placed)


def test_a_digest_is_another_one_whenever_names_may_say_something_else(http_ws: epista.Workspace, app: Any, plates: None) -> None:
    assert service._known("[]", ()).packaged_only
    digests = {
        service._known("[]", ()).digest,
        service._known("[]", ("plates a.Plates",)).digest,
        service._known('[{"name": "rats", "declaration": {"tokens": [{"field": "subject_id"}]}}]', ()).digest,
    }

    assert len(digests) == 3


def test_a_declaration_that_is_no_text_of_any_kind_is_refused_here(http_ws: epista.Workspace) -> None:
    for given in ("tokens = [", '{"tokens": ', "[" * 100_000, "{" * 100_000):
        with pytest.raises(ValidationError):
            conventions.add(http_ws, "mice", given)
