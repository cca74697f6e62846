"""Conventions of one's own: registered, and those of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import epista
from epista import naming
from epista.contract.errors import ConflictError, UnrecognizedNameError, ValidationError
from epista.naming import registry

RAW = "ecephys_676909_2023-12-13_13-43-40"


class Plates:
    """A convention as a plug-in brings one."""

    def parse(self, component: str) -> dict[str, Any]:
        word, _, number = component.partition(" ")
        if word != "Plate" or not number.isdecimal():
            raise ValueError("it is not Plate and a number")
        return {"tokens": (("plate", number),)}

    def format(self, fields: Any) -> str:
        return f"Plate {dict(fields['tokens'])['plate']}"


class Everything(Plates):
    """A convention that reads whatever it is given."""

    def parse(self, component: str) -> dict[str, Any]:
        return {"subject_id": component, "lims_id": "1"}

    def format(self, fields: Any) -> str:
        return str(fields["subject_id"])


class Broken(Plates):
    """A convention with a fault."""

    def parse(self, component: str) -> dict[str, Any]:
        raise KeyError(component)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone with it."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_current", None)
    monkeypatch.setattr(registry, "_loaded", True)
    yield


def test_a_class_is_asked_before_the_packaged_conventions() -> None:
    epista.register_convention("everything", Everything)

    parsed = naming.parse(RAW)

    assert (parsed.convention, parsed.recording, parsed.kind) == ("everything", ("lims", "1"), "raw")
    assert naming.parse(RAW, convention="aind-platform").subject_id == "676909"


def test_a_decorated_class_stays_itself_and_replaces_itself_when_its_cell_is_run_again() -> None:
    assert epista.register_convention("plates")(Plates) is Plates
    epista.register_convention("plates", type("Plates", (Plates,), {"__module__": __name__}))

    assert naming.parse("x/Plate 7").recording == ("plates", "Plate 7")
    assert naming.format({"tokens": {"plate": 7}}) == "Plate 7"


def test_a_declaration_replaces_itself_but_no_other() -> None:
    epista.register_convention("mice", 'tokens = [{field = "subject_id", lead = "m"}]')
    epista.register_convention("mice", {"tokens": [{"field": "subject_id", "lead": "m"}]})

    with pytest.raises(ConflictError):
        epista.register_convention("mice", {"tokens": [{"field": "subject_id", "lead": "n"}]})
    with pytest.raises(ConflictError):
        epista.register_convention("mice", Plates)


@pytest.mark.parametrize("name", ["aind-subject", "plates"])
def test_a_taken_name_is_refused_unless_it_is_to_be_taken_over(name: str) -> None:
    epista.register_convention("plates", Plates)

    with pytest.raises(ConflictError, match=name):
        epista.register_convention(name, Everything)
    epista.register_convention(name, Everything, override=True)

    assert naming.parse("anything").convention == name
    assert list(naming.conventions()).count(name) == 1


@pytest.mark.parametrize("name", ["", "Plates", "a_b", "a--b", "-a", "é", "a\n", "a" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        epista.register_convention(name, Plates)


def test_a_convention_without_its_two_functions_is_refused() -> None:
    with pytest.raises(ValidationError, match="format"):
        epista.register_convention("plates", object())


def test_a_convention_with_a_fault_refuses_and_leaves_the_others_alone() -> None:
    epista.register_convention("broken", Broken)

    assert naming.parse(RAW).convention == "aind-platform"
    with pytest.raises(UnrecognizedNameError) as caught:
        naming.parse("nothing")
    assert caught.value.details["reasons"]["broken"] == "it failed: KeyError('nothing')"


@pytest.mark.parametrize("given", [{"colour": "red"}, None, {"started": "today"}, 5], ids=["unknown", "none", "text", "number"])
def test_fields_that_nobody_knows_are_a_refusal(given: Any) -> None:
    class Odd(Plates):
        def parse(self, component: str) -> dict[str, Any]:
            return given  # type: ignore[no-any-return]

    epista.register_convention("odd", Odd)

    assert naming.parse(RAW).convention == "aind-platform"


def test_plug_ins_are_loaded_and_a_broken_one_is_left_out_with_a_warning() -> None:
    points = [
        EntryPoint("plates", f"{__name__}:Plates", registry.ENTRY_POINTS),
        EntryPoint("missing", "a_package_that_is_not_there:Names", registry.ENTRY_POINTS),
        EntryPoint("bids", f"{__name__}:Everything", registry.ENTRY_POINTS),
        EntryPoint("No Name", f"{__name__}:Everything", registry.ENTRY_POINTS),
    ]

    with pytest.warns(RuntimeWarning) as warned:
        registry.load(points)

    assert len(warned) == 3
    assert list(naming.registered()) == ["plates"]
    assert naming.parse("Plate 7").convention == "plates"
