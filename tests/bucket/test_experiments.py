"""Experiments: described, renamed, archived, in projects; and recordings, by what names say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import date, datetime, timedelta

import pandas as pd
import pytest

import epista
from epista.client.listings import Listing

RAW = "ecephys_676909_2023-12-13_13-43-40"
SORTED = f"{RAW}_sorted_2024-03-01_16-02-45"
RESORTED = f"{RAW}_sorted_2024-06-01_08-00-00"
NEW = "676909_2023-12-13_13-43-40"
OTHER = "behavior_668755_2023-08-28_12-46-54"


@pytest.fixture
def recorded(ws: epista.Workspace) -> epista.Workspace:
    """A workspace with one recording under four names, in three places, and another."""
    ws.put(f"{RAW}/ecephys/probe.dat", b"spikes", format="bytes")
    ws.put(f"{SORTED}/units.json", [1])
    ws.put(f"EXP-12/{RESORTED}/units.json", [1, 2])
    ws.put(f"EXP-12/{NEW}.json", {"note": "new spelling"})
    ws.put(f"{OTHER}/a.json", [2])
    ws.put("EXP-12/plain.json", [3])
    return ws


def names(found: object) -> list[str]:
    assert isinstance(found, Listing)
    return [one.name for one in found]


def test_the_active_experiment_may_be_named_by_its_number(ws: epista.Workspace) -> None:
    ws.create_experiment("Dose response", number="EXP-2026-0001")
    with epista.Workspace(ws.location, token=_token(ws), workspace=ws.name, experiment="EXP-2026-0001") as there:
        made = there.put("b.txt", "x")
        published = there.publish_table(pd.DataFrame({"a": [1]}), "Summary")

        assert (made.key, published.asset.experiment) == ("Dose response/b.txt", "Dose response")
        assert there("b.txt") == "x"
    assert ws.publish_table(pd.DataFrame({"a": [1]}), "T", experiment="EXP-2026-0001").asset.experiment == "Dose response"


def _token(ws: epista.Workspace) -> str | None:
    return None if ws.is_embedded else ws.wire._token.current()  # type: ignore[union-attr]


def test_an_experiment_is_described_and_found_by_name_number_id_and_path(ws: epista.Workspace) -> None:
    made = ws.create_experiment(
        "EXP-12", number="12", title="Dose", description="At length.", meta={"grant": "G"}, tags=["mouse", "2026"]
    )
    asset = ws.put("EXP-12/raw/a.json", [1])

    assert (made.name, made.number, made.title, made.description, made.status) == ("EXP-12", "12", "Dose", "At length.", "active")
    assert (made.meta, made.tags, made.project, made.parsed) == ({"grant": "G"}, ("mouse", "2026"), None, None)
    for ref in ("EXP-12", "12", made.id, "EXP-12/raw/a.json", "EXP-12/raw/", asset, asset.id, made):
        assert ws.experiment(ref) == made, ref
    assert asset.experiment_number == "EXP-12" or ws.get(asset).experiment_number == "12"
    assert [one.key for one in ws.assets(experiment="12")] == ["EXP-12/raw/a.json"]
    with pytest.raises(epista.ConflictError):
        ws.put("12/a.json", [1])
    with pytest.raises(epista.ConflictError):
        ws.create_experiment("12")


def test_it_cannot_be_changed_in_place_and_is_copied_as_it_is(ws: epista.Workspace) -> None:
    made = ws.create_experiment("EXP-12")

    for name in ("title", "anything"):
        with pytest.raises(AttributeError):
            setattr(made, name, "x")
    assert made.update(title="later").title == "later"
    assert made.title is None
    assert copy.copy(made) == made


def test_what_is_not_given_stays_and_what_is_empty_clears(ws: epista.Workspace) -> None:
    ws.create_project("atlas", title="All of it")
    made = ws.create_experiment("EXP-12", title="Dose", project="atlas", tags=["a"])

    changed = made.update(description="more").update(number="12")
    cleared = changed.update(title="", project="", tags=())

    assert (changed.title, changed.description, changed.project, changed.tags) == ("Dose", "more", "atlas", ("a",))
    assert (cleared.title, cleared.description, cleared.project, cleared.tags) == (None, "more", None, ())
    assert names(ws.experiments(project="atlas")) == []
    assert [(one.name, one.experiments) for one in ws.projects()] == [("atlas", 0)]


def test_it_moves_between_projects_without_its_keys(ws: epista.Workspace) -> None:
    ws.create_project("one")
    ws.create_project("two")
    ws.put("EXP-12/a.json", [1])

    ws.experiment("EXP-12").update(project="one")
    ws.experiment("EXP-12").update(project="two")

    assert ws.keys() == ["EXP-12/a.json"]
    assert names(ws.experiments(project="two")) == ["EXP-12"]
    with pytest.raises(epista.NotFoundError):
        ws.experiment("EXP-12").update(project="three")


def test_in_an_archived_experiment_all_is_read_and_nothing_written(ws: epista.Workspace) -> None:
    asset = ws.put("EXP-12/a.json", [1])
    ws.put("EXP-12/gone.json", [1])
    ws.delete("EXP-12/gone.json")
    archived = ws.experiment("EXP-12").update(status="archived")

    assert ws("EXP-12/a.json") == [1]
    writes: list[Callable[[], object]] = [
        lambda: ws.put("EXP-12/b.json", [1]),
        lambda: ws.set_meta(asset, {"a": 1}),
        lambda: ws.delete(asset),
        lambda: ws.delete_dir("EXP-12/"),
        lambda: ws.restore("EXP-12/gone.json"),
        lambda: ws.move("EXP-12/a.json", "EXP-13/a.json"),
        lambda: archived.update(title="x"),
        lambda: archived.rename("EXP-13"),
    ]
    for write in writes:
        with pytest.raises(epista.ConflictError, match="archived"):
            write()
    assert names(ws.experiments(status="archived")) == ["EXP-12"]
    archived.update(status="active")
    ws.put("EXP-12/b.json", [1])


def test_a_rename_moves_all_keys_and_keeps_ids_versions_and_lineage(ws: epista.Workspace) -> None:
    source = ws.put("EXP-1/raw/a.json", ["needle"], tags=["qc"], meta={"donor": "D1"})
    ws.put("EXP-1/raw/a.json", ["needle", 2])
    derived = ws.put("EXP-1/derived.json", [2], inputs=[source.version])
    ws.put("EXP-1/gone.json", [1])
    ws.delete("EXP-1/gone.json")
    ws.put("EXP-10/b.json", [1])
    before = ws.experiment("EXP-1").update(number="one", meta={"roles": {"raw": "EXP-1/raw"}})

    renamed = before.rename("Dose #1 é")

    assert (renamed.id, renamed.number, renamed.name) == (before.id, "one", "Dose #1 é")
    assert ws.keys() == ["Dose #1 é/derived.json", "Dose #1 é/raw/a.json", "EXP-10/b.json"]
    moved = ws.get("Dose #1 é/raw/a.json")
    assert (moved.id, moved.number, moved.experiment) == (source.id, 2, "Dose #1 é")
    assert [one.number for one in ws.versions(moved)] == [2, 1]
    assert [one.key for one in ws.get("Dose #1 é/derived.json").lineage.inputs] == ["Dose #1 é/raw/a.json"]
    assert ws.get(derived.id).key == "Dose #1 é/derived.json"
    assert ws("Dose #1 é/raw/a.json", version=1) == ["needle"]
    assert [hit.key for hit in ws.search("dose needle")] == ["Dose #1 é/raw/a.json"]
    assert [hit.key for hit in ws.search("experiment:'Dose #1 é' tags:qc")] == ["Dose #1 é/raw/a.json"]
    assert not ws.search("key:'EXP-1/raw'")
    assert renamed.raw.key == "Dose #1 é/raw"
    assert ws.restore("Dose #1 é/gone.json").key == "Dose #1 é/gone.json"
    assert names(ws.experiments()) == ["Dose #1 é", "EXP-10"]


def test_the_old_name_says_the_new_one_and_is_never_anothers(ws: epista.Workspace) -> None:
    ws.put("EXP-1/a.json", [1])
    ws.put("EXP-2/a.json", [1])
    ws.experiment("EXP-1").rename("EXP-3")

    with pytest.raises(epista.KeyNotFoundError, match="EXP-3"):
        ws("EXP-1/a.json")
    with pytest.raises(epista.NotFoundError, match="EXP-3"):
        ws.experiment("EXP-1")
    with pytest.raises(epista.ConflictError, match="EXP-3"):
        ws.put("EXP-1/b.json", [1])
    for take in (ws.experiment("EXP-2").rename, ws.create_experiment):
        with pytest.raises(epista.ConflictError):
            take("EXP-1")
    with pytest.raises(epista.ConflictError):
        ws.experiment("EXP-3").rename("EXP-2")
    assert ws.experiment("EXP-3").rename("EXP-1").name == "EXP-1"
    assert ws.keys() == ["EXP-1/a.json", "EXP-2/a.json"]


def test_a_name_that_is_not_free_or_too_long_is_refused_and_changes_nothing(ws: epista.Workspace) -> None:
    ws.put("EXP-1/" + "x" * 1000 + ".json", [1])
    ws.put("file", b"", format="bytes")
    ws.put("EXP-2/a.json", [1])
    ws.delete("EXP-2/a.json")

    for name in ("file", "EXP-2"):
        with pytest.raises(epista.ConflictError):
            ws.experiment("EXP-1").rename(name)
    with pytest.raises(epista.InvalidKeyError):
        ws.experiment("EXP-1").rename("y" * 30)
    assert sorted(map(len, ws.keys())) == [4, 1011]


def test_10_a_recording_is_one_row_however_many_names_it_has(recorded: epista.Workspace) -> None:
    found = list(recorded.experiments(subject="676909"))

    assert [one.name for one in found] == [RAW]
    assert [one.name for one in recorded.experiments()] == [OTHER, RAW, "EXP-12"]
    spellings = [recorded.experiment(ref) for ref in (RAW, SORTED, NEW, f"EXP-12/{RESORTED}/units.json", f"EXP-12/{NEW}.json")]
    assert all(one == found[0] for one in spellings)
    assert len({*spellings, *found}) == 1
    assert {one.key for one in found[0].members} == {RAW, SORTED, f"EXP-12/{RESORTED}", f"EXP-12/{NEW}.json"}
    assert not found[0].same_name(recorded.experiment("EXP-12"))


def test_what_its_name_says_is_there_at_once(recorded: epista.Workspace) -> None:
    found = recorded.experiment(NEW)

    assert found.parsed == epista.naming.parse(RAW)
    assert (found.subject_id, found.platform, found.started) == ("676909", "ecephys", datetime(2023, 12, 13, 13, 43, 40))
    assert found.date == date(2023, 12, 13)
    assert sorted([recorded.experiment("EXP-12"), found, recorded.experiment(OTHER)])[0].name == OTHER
    assert recorded.experiment("EXP-12").started is None


def test_raw_and_derived_are_told_apart_by_name(recorded: epista.Workspace) -> None:
    found = recorded.experiment(SORTED)

    assert found.raw.key == f"EXP-12/{NEW}.json" or found.raw.key == RAW
    assert [one.key for one in found.derived] == [SORTED, f"EXP-12/{RESORTED}"]
    assert found.derived("SORTED").latest.name == RESORTED
    with pytest.raises(epista.RoleNotFoundError, match="sorted"):
        found.derived("dlc")


def test_11_a_dead_role_falls_through_and_why_says_so(recorded: epista.Workspace) -> None:
    recorded.delete(f"EXP-12/{NEW}.json")
    recorded.experiment(RAW).update(meta={"roles": {"raw": "nowhere/at-all"}})

    found = recorded.experiment(RAW)
    assert found.raw.key == RAW
    steps = found.why("raw")
    assert [step.answer for step in steps] == ["miss", "miss", "miss", "hit"]
    assert "nowhere/at-all" in str(steps)


def test_a_role_that_is_named_comes_before_levels_tags_and_names(ws: epista.Workspace) -> None:
    ws.put(f"{RAW}/a.json", [1])
    tagged = ws.put(f"EXP-12/{NEW}.json", [1], tags=["raw-derived"])
    assert ws.experiment(RAW).update(tags=["raw"]).raw.key == RAW
    declared = ws.set_meta(tagged, {"data_level": "raw data"})
    assert ws.experiment(RAW).raw.id == declared.id
    ws.put("EXP-12/elsewhere/b.json", [1])

    named = ws.experiment(RAW).update(meta={"roles": {"raw": "EXP-12/elsewhere/"}})

    assert named.raw.key == "EXP-12/elsewhere"


def test_what_declares_another_level_is_never_raw_and_nothing_raw_is_an_attribute_error(ws: epista.Workspace) -> None:
    ws.put(f"{RAW}/a.json", [1])
    found = ws.experiment(RAW).update(meta={"data_level": "derived"}, tags=["raw"])

    with pytest.raises(epista.RoleNotFoundError, match="data_level") as raised:
        _ = found.raw
    assert isinstance(raised.value, LookupError)
    assert getattr(found, "raw", None) is None


def test_without_a_name_that_says_anything_raw_is_the_folder_raw(ws: epista.Workspace) -> None:
    ws.put("EXP-12/raw/a.json", [1])
    ws.put("EXP-12/b.json", [1])
    found = ws.experiment("EXP-12")

    assert found.raw.key == "EXP-12/raw"
    assert [one.key for one in found.members] == ["EXP-12/b.json", "EXP-12/raw"]
    assert [one.key for one in found.assets] == ["EXP-12/b.json", "EXP-12/raw/a.json"]


def test_a_deleted_member_is_none_and_comes_back_when_it_is_restored(recorded: epista.Workspace) -> None:
    recorded.delete_dir(f"{OTHER}/")
    assert names(recorded.experiments(subject=668755)) == []
    with pytest.raises(epista.NotFoundError):
        recorded.experiment(OTHER)

    recorded.restore(f"{OTHER}/a.json")

    assert names(recorded.experiments(subject=668755)) == [OTHER]


def test_names_are_of_members_again_after_a_rename_and_a_move(recorded: epista.Workspace) -> None:
    recorded.experiment("EXP-12").rename("EXP-13")
    recorded.move_dir(f"{OTHER}/", "EXP-14/x/")

    found = recorded.experiment(RAW)
    assert found.derived.latest.key == f"EXP-13/{RESORTED}"
    assert names(recorded.experiments(subject=668755)) == []
    renamed = recorded.experiment("EXP-14").rename("668755_2024-01-01_00-00-00")
    assert (renamed.name, renamed.subject_id) == ("668755_2024-01-01_00-00-00", "668755")
    assert names(recorded.experiments(subject=668755)) == ["668755_2024-01-01_00-00-00"]


SPELLINGS = ["2023-12-13 13:43:40", "2023-12-13_13-43-40", "2023/12/13T13:43:40", "20231213134340", 20231213134340]


@pytest.mark.parametrize(
    "bound", [*SPELLINGS, datetime(2023, 12, 13, 13, 43, 40), "2023-12-13 13:43", "2023-12", date(2023, 12, 13)]
)
def test_09_bounds_are_included_and_mean_all_that_they_name(recorded: epista.Workspace, bound: str) -> None:
    assert names(recorded.experiments(since=bound, until=bound)) == [RAW]
    assert names(recorded.experiments(date=bound)) == [RAW]


def test_every_hit_satisfies_every_filter(recorded: epista.Workspace) -> None:
    find = recorded.experiments
    assert names(find(platform="ECEPHYS")) == [RAW]
    assert names(find(label="Sorted", subject=676909)) == [RAW]
    assert names(find(platform="behavior", label="sorted")) == []
    assert names(find(convention="aind-subject")) == [RAW]
    assert names(find(near=("2023-12-13 13:43:41", 1))) == [RAW]
    assert names(find(near=("2023-12-13 13:43:42", timedelta(seconds=1)))) == []
    assert names(find(until="2023-12-12")) == [OTHER]
    assert names(find(prefix="EXP")) == ["EXP-12"]
    assert names(find(limit=1)) == [OTHER, RAW, "EXP-12"]
    unknown = find(platform="ecepys")
    assert list(unknown) == []
    assert "'ecephys'" in unknown.notes[0]
    for wrong in (
        {"date": "2023", "since": "2023"},
        {"date": "2023-12", "since": "2023-12"},
        {"since": "2024-01", "until": "2023-01"},
    ):
        with pytest.raises(epista.ValidationError):
            find(**wrong)  # type: ignore[arg-type]
    for wrong_time in ("13.12.2023", "2023-13", datetime.fromisoformat("2023-12-13T13:43:40+00:00"), "2023-12-13T13:43:40Z"):
        with pytest.raises(epista.ValidationError):
            find(since=wrong_time)


def test_related_recordings_are_of_the_same_subject_and_near(recorded: epista.Workspace) -> None:
    recorded.put("behavior_676909_2023-12-13_13-44-40/a.json", [1])
    recorded.put("behavior_676909_2023-12-13_13-44-41/a.json", [1])

    assert [one.name for one in recorded.experiment(RAW).related()] == ["behavior_676909_2023-12-13_13-44-40"]
    assert recorded.experiment("EXP-12").related() == []
