"""``epista.compat.aind``: the public page of ``aind_session`` as written, and what differs on purpose."""

from __future__ import annotations

import datetime
import doctest
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

import epista
import epista.compat.aind as aind_session
from epista.client import namespaces
from epista.client.filesystem import EpistaFileSystem
from tests.makers import Server
from tests.naming.test_corpus import ACCEPTED, REFUSED

RAW = "ecephys_676909_2023-12-13_13-43-40"
SORTED = f"{RAW}_sorted_2024-03-01_16-02-45"
GENOTYPE = "Pvalb-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt"

PAGE = """
>>> import epista.compat.aind as aind_session

# Common attributes available for all sessions:
>>> session = aind_session.Session('ecephys_676909_2023-12-13_13-43-40')
>>> session.platform
'ecephys'
>>> session.subject_id
'676909'
>>> session.dt
datetime.datetime(2023, 12, 13, 13, 43, 40)
>>> len(session.data_assets)            # doctest: +SKIP
42
>>> session.is_uploaded
True
>>> session.raw_data_asset.id
'RAW_ID'
>>> session.raw_data_dir.as_posix()
'epista://ecephys_676909_2023-12-13_13-43-40'
>>> session.modalities
('behavior', 'behavior_videos', 'ecephys')
>>> session.docdb.keys()
dict_keys(['data_description', 'processing', 'session', 'subject'])
>>> session.docdb['subject']['genotype']
'Pvalb-IRES-Cre/wt;Ai32(RCL-ChR2(H134R)_EYFP)/wt'

# Additional functionality in namespace extensions:
>>> session.ecephys.is_sorted
True
>>> latest_asset = session.ecephys.sorter.kilosort2_5.sorted_data_assets[-1]
>>> latest_asset.name
'ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45'

# Objects refer to the original session, regardless of how they were created:
>>> a = aind_session.Session('ecephys_676909_2023-12-13_13-43-40')
>>> b = aind_session.Session('ecephys_676909_2023-12-13_13-43-40_sorted_2024-03-01_16-02-45')
>>> assert a == b, "Objects are equal if they refer to the same session ID"

>>> import epista.compat.aind as aind_session

>>> sessions: tuple[aind_session.Session, ...] = aind_session.get_sessions(subject_id=676909)
>>> sessions[0].platform
'behavior'
>>> sessions[0].date
'2023-10-24'

# Filter sessions by platform:
>>> aind_session.get_sessions(subject_id=676909, platform='ecephys')[0].platform
'ecephys'

# Filter sessions by date (most common formats accepted):
>>> a = aind_session.get_sessions(subject_id=676909, date='2023-12-13')
>>> b = aind_session.get_sessions(subject_id=676909, date='2023-12-13_13-43-40')
>>> c = aind_session.get_sessions(subject_id=676909, date='2023-12-13 13:43:40')
>>> d = aind_session.get_sessions(subject_id=676909, date='20231213')
>>> e = aind_session.get_sessions(subject_id=676909, date='20231213_134340')
>>> a == b == c == d == e
True

# Filter sessions by start or end date (can be open on either side):
>>> aind_session.get_sessions(subject_id=676909, start_date='2023-12-13')
(Session('ecephys_676909_2023-12-13_13-43-40'), Session('ecephys_676909_2023-12-14_12-43-11'))
>>> aind_session.get_sessions(subject_id=676909, start_date='2023-12-13', end_date='2023-12-14_10-00-00')
(Session('ecephys_676909_2023-12-13_13-43-40'),)

>>> @aind_session.register_namespace("my_extension") # The name here is how the extension will be accessed
... class MyExtension(aind_session.ExtensionBaseClass):
...    # ...the name of the class itself is unimportant
...
...    constant = 42
...
...    @classmethod
...    def add(cls, value) -> int:
...        return cls.constant + value
...
...    # Access the underlying Session object with self._base
...    @property
...    def oldest_data_asset_id(self) -> str:
...        return min(self._base.data_assets, key=lambda x: x.created).id

# Create a session object and access the new namespace:
>>> session = aind_session.Session("ecephys_676909_2023-12-13_13-43-40")
>>> session.my_extension.constant
42
>>> session.my_extension.add(10)
52
>>> session.my_extension.oldest_data_asset_id
'RAW_ID'
"""
"""The examples of the public page and of its page on extensions; only the import, ids and the place of the bytes are ours."""


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for host in (aind_session.Session, aind_session.Subject):
        for name in [name for name, one in vars(host).items() if isinstance(one, namespaces.Namespace)]:
            delattr(host, name)


SORTED_BY = {"data_processes": [{"name": "Spike sorting", "parameters": {"sorter_name": "kilosort2_5"}}]}

FILES: dict[str, Any] = {
    f"{RAW}/subject.json": {"genotype": GENOTYPE},
    **{f"{RAW}/{stem}.json": {"of": stem} for stem in ("data_description", "session", "processing")},
    **{
        f"{RAW}/{folder}/a.txt": folder
        for folder in ("ecephys_clipped", "ecephys_compressed", "behavior", "behavior_videos", "original_metadata")
    },
    f"{RAW}_sorted_2023-12-17_03-16-51/processing.json": {"processing_pipeline": SORTED_BY},
    f"{SORTED}/processing.json": SORTED_BY,
    f"{SORTED}/units.txt": "17",
    f"{RAW}_videoprocessed_2024-05-01_00-00-00/a.txt": "x",
    "behavior_676909_2023-10-24_15-15-50/behavior/a.txt": "x",
    "ecephys_676909_2023-12-14_12-43-11/ecephys/a.txt": "x",
    "ecephys_668755_2023-12-13_12-46-54/ecephys/a.txt": "x",
}


@pytest.fixture
def lab(http_ws: epista.Workspace, tmp_path: Path) -> Iterator[epista.Workspace]:
    """A workspace with the sessions of subject 676909 that the page speaks of, and one of another; the current one."""
    source = tmp_path / "sessions"
    for key, content in FILES.items():
        (source / key).parent.mkdir(parents=True, exist_ok=True)
        (source / key).write_text(content if isinstance(content, str) else json.dumps(content))
    http_ws.put_dir("", source)
    epista.use(http_ws)
    yield http_ws
    epista.use(None)


def test_the_public_page_runs_as_written(lab: epista.Workspace) -> None:
    page = PAGE.replace("RAW_ID", lab.experiment(RAW).raw.id)
    test = doctest.DocTestParser().get_doctest(page, {"__name__": "page"}, "page", None, None)
    told: list[str] = []

    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=told.append)

    assert results.failed == 0, "".join(told)
    assert results.attempted > 30


def test_the_first_example_of_the_design(lab: epista.Workspace) -> None:
    session = aind_session.Session(RAW)

    assert (session.platform, session.subject_id) == ("ecephys", "676909")
    assert session.dt == datetime.datetime(2023, 12, 13, 13, 43, 40)
    assert session.raw_data_asset.id == lab.experiment(RAW).raw.id
    assert session.raw_data_asset.name == RAW
    assert session.raw_data_dir.as_posix() == f"epista://{RAW}"
    assert session.metadata.subject["genotype"] == GENOTYPE
    assert session.ecephys.sorted_data_asset.name == SORTED
    assert [one.name for one in session.data_assets] == [one.name for one in session.assets]
    assert len(session.data_assets) == 4


# --- Without a workspace


@pytest.mark.parametrize(
    "given",
    [
        RAW,
        SORTED,
        f"/root/capsule/data/{RAW}",
        f"s3://aind-ephys-data/{RAW}/ecephys_clipped",
        RAW.replace("-", "_", 5),
        f"{RAW}.123",
    ],
)
def test_a_session_is_made_of_any_spelling_without_a_workspace(given: str) -> None:
    session = aind_session.Session(given)

    assert session.id == RAW
    assert (session.date, session.time, session.datetime) == ("2023-12-13", "13:43:40", "2023-12-13 13:43:40")
    assert (session.date.dt, session.time.dt, session.datetime.dt) == (session.dt.date(), session.dt.time(), session.dt)
    assert repr(session) == f"Session('{RAW}')"
    assert session == aind_session.Session(RAW)
    assert hash(session) == hash(aind_session.Session(RAW))


@pytest.mark.real_data
@pytest.mark.parametrize("row", ACCEPTED, ids=lambda row: row["name"])
def test_a_public_name_is_the_session_that_it_is_upstream(row: dict[str, Any]) -> None:
    session = aind_session.Session(row["name"])

    assert (session.platform, session.subject_id, session.dt.isoformat(), session.id) == (
        row["platform"],
        row["subject_id"],
        row["dt"],
        row["id"],
    )


@pytest.mark.real_data
@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row["name"])
def test_what_no_convention_reads_is_no_session(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="recording"):
        aind_session.Session(row["name"])


def test_a_name_of_today_has_no_platform() -> None:
    session = aind_session.Session("676909_2023-12-13_13-43-40")

    assert (session.id, session.platform) == ("676909_2023-12-13_13-43-40", None)
    assert session == aind_session.Session(RAW)


@pytest.mark.parametrize(
    "given", ["", "plate7", f"name: {RAW}", f"{RAW}0", f"{RAW}/behavior_1234567_2023-12-13_13-43-40", "366122_20210601"]
)
def test_what_names_no_session_is_a_value_error(given: str) -> None:
    with pytest.raises(ValueError, match=r"recording|names no session"):
        aind_session.Session(given)


def test_sessions_are_ordered_by_time_and_travel_without_a_workspace(lab: epista.Workspace, server: Server) -> None:
    session = aind_session.Session(RAW, workspace=lab)
    later = aind_session.Session("behavior_676909_2023-12-14_12-43-11")

    assert session < later
    assert max(session, later) is later
    again = pickle.loads(pickle.dumps(session))
    assert (again, again.raw_data_asset) == (session, session.raw_data_asset)
    assert pickle.loads(pickle.dumps(session.raw_data_asset)).path.exists()
    assert server.manager.encode() not in pickle.dumps([session, session.raw_data_asset])


# --- Lookups


def test_an_experiment_is_a_session_and_brings_its_workspace(lab: epista.Workspace) -> None:
    epista.use(None)

    session = aind_session.Session(lab.experiment(RAW))

    assert session.id == RAW
    assert session.is_uploaded
    assert aind_session.Session(session).raw_data_asset.name == RAW
    assert session.subject.sessions[0].id == "behavior_676909_2023-10-24_15-15-50"


def test_nothing_is_found_where_nothing_is(lab: epista.Workspace) -> None:
    session = aind_session.Session("ecephys_676909_2023-12-13_13-43-39")

    assert session.data_assets == ()
    assert not session.is_uploaded
    assert session.modalities == ()
    assert session.docdb == {}
    assert not session.ecephys.is_sorted
    assert session.ecephys.sorted_data_assets == ()
    assert getattr(session, "raw_data_asset", None) is None
    assert getattr(session.ecephys, "sorted_data_asset", None) is None
    with pytest.raises(AttributeError, match="has nothing of"):
        _ = session.raw_data_asset
    with pytest.raises(FileNotFoundError, match="has nothing of") as caught:
        _ = session.raw_data_dir
    assert isinstance(caught.value, epista.NotFoundError)


def test_old_and_new_spelling_are_one_session(lab: epista.Workspace) -> None:
    lab.put("676909_2023-12-13_13-43-40/new.json", {"a": 1})

    found = aind_session.get_sessions(676909, date="2023-12-13")

    assert len(found) == 1
    assert aind_session.Session("676909_2023-12-13_13-43-40").data_assets == found[0].data_assets


def test_bounds_are_included_and_other_subjects_are_not(lab: epista.Workspace) -> None:
    at = datetime.datetime(2023, 12, 13, 13, 43, 40)

    assert [one.id for one in aind_session.get_sessions("676909", start_date=at, end_date=at)] == [RAW]
    assert [one.id for one in aind_session.get_sessions("676909", end_date="2023-12-13")][-1] == RAW
    assert [one.id for one in aind_session.get_sessions("676909", platform="ECEPHYS", date=at.date())] == [RAW]
    assert {one.subject_id for one in aind_session.get_sessions("676909")} == {"676909"}
    assert aind_session.get_sessions("676900") == ()
    with pytest.raises(ValueError, match="date"):
        aind_session.get_sessions("676909", date="2023-12-13", start_date="2023-12-13")
    with pytest.raises(ValueError, match=r"13\.12\.2023"):
        aind_session.get_sessions("676909", date="13.12.2023")


def test_a_subject_has_its_sessions_and_assets(lab: epista.Workspace) -> None:
    subject = aind_session.Subject(676909)

    assert subject == aind_session.Subject(f"/root/capsule/{RAW}") == pickle.loads(pickle.dumps(subject))
    assert repr(subject) == "Subject('676909')"
    assert subject < aind_session.Subject("676910")
    assert [one.id for one in subject.sessions] == [one.id for one in aind_session.get_sessions(676909)]
    assert len(subject.sessions) == 3
    assert len(subject.data_assets) == 6
    assert [one.created for one in subject.data_assets] == sorted(one.created for one in subject.data_assets)
    assert subject.docdb[1]["subject"]["genotype"] == GENOTYPE


def test_a_folder_is_a_path(lab: epista.Workspace) -> None:
    folder = aind_session.Session(RAW).raw_data_dir
    file = folder / "behavior" / "a.txt"

    assert (folder.name, folder.exists(), folder.is_dir(), folder.is_file()) == (RAW, True, True, False)
    assert (file.name, file.stem, file.suffix) == ("a.txt", "a", ".txt")
    assert (file.exists(), file.is_dir(), file.is_file()) == (True, False, True)
    assert file.parent.parent == folder
    assert not (folder / "nothing").exists()
    assert file.read_text() == "behavior"
    with file.open("r") as stream:
        assert stream.read() == "behavior"
    with pytest.raises(OSError, match="reading"):
        file.open("w")
    assert {one.name for one in folder.iterdir()} > {"ecephys_clipped", "subject.json"}
    assert sorted(one.name for one in folder.glob("*.json")) == [
        "data_description.json",
        "processing.json",
        "session.json",
        "subject.json",
    ]
    assert len(list(folder.glob("**/a.txt"))) == 5
    assert list(folder.glob("/".join(["**"] * 40) + "/nothing")) == []
    assert [one.as_posix() for one in folder.glob("behavior/*")] == [f"epista://{RAW}/behavior/a.txt"]
    assert list(folder.glob("*.nothing")) == []
    assert len({folder, folder / "a", file.parent.parent}) == 2


def test_pandas_takes_a_path(lab: epista.Workspace, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.put(f"{RAW}/trials.csv", b"a,b\n1,2\n")
    for name, value in (("API_URL", server.url), ("TOKEN", server.manager), ("WORKSPACE_ID", "lab")):
        monkeypatch.setenv(f"EPISTA_{name}", value)
    fsspec.register_implementation("epista", EpistaFileSystem, clobber=True)

    assert pd.read_csv(aind_session.Session(RAW).raw_data_dir / "trials.csv").to_dict("list") == {"a": [1], "b": [2]}


def test_metadata_come_from_files_then_from_the_experiment(lab: epista.Workspace) -> None:
    exp = lab.experiment(RAW).update(meta={"subject": {"genotype": "other"}, "rig": {"id": 3}})
    lab.put(f"{RAW}/rig.calibration.json", [1, 2])

    assert exp.metadata.subject == {"genotype": GENOTYPE}
    assert exp.metadata.rig == {"id": 3}
    assert getattr(exp.metadata, "rig.calibration") == [1, 2]
    assert {"subject", "rig", "rig.calibration"} <= set(dir(exp.metadata))
    assert aind_session.Session(RAW).docdb["subject"] == {"genotype": "other"}
    assert not hasattr(exp.metadata, "nothing")
    with pytest.raises(AttributeError, match=r"no nothing\.json .*there are: data_description, processing, rig") as caught:
        _ = exp.metadata.nothing
    assert isinstance(caught.value, epista.NotFoundError)


def test_sorted_assets_by_sorter(lab: epista.Workspace) -> None:
    lab.put(f"{RAW}_sorted-curated_2024-09-01_00-00-00/a.txt", "x")
    session, exp = aind_session.Session(RAW), lab.experiment(RAW)

    assert [one.name.removeprefix(RAW) for one in session.ecephys.sorted_data_assets] == [
        "_sorted_2023-12-17_03-16-51",
        "_sorted_2024-03-01_16-02-45",
        "_sorted-curated_2024-09-01_00-00-00",
    ]
    assert exp.ecephys.is_sorted
    assert exp.ecephys.sorted_data_asset.name == f"{RAW}_sorted-curated_2024-09-01_00-00-00"
    assert session.ecephys.sorter.names == ("kilosort2_5",)
    assert session.ecephys.sorter.kilosort2_5.is_sorted
    assert not session.ecephys.sorter.kilosort4.is_sorted
    assert {"metadata", "ecephys", "raw"} <= set(dir(exp))


def test_namespaces_of_sessions_follow_the_policy(lab: epista.Workspace) -> None:
    @aind_session.register_namespace("mine", aind_session.Subject)
    class Mine(aind_session.ExtensionBaseClass):
        pass

    subject: Any = aind_session.Subject(676909)
    assert subject.mine._base is subject.mine._session is subject
    assert repr(subject.mine) == "Mine(Subject('676909'))"
    assert not hasattr(aind_session.Session(RAW), "mine")
    assert pickle.loads(pickle.dumps(subject)) == subject
    assert ("mine", "aind subject") in [row[:2] for row in epista.namespaces()]

    for name in ("id", "dt", "raw_data_asset", "ecephys", "platform"):
        with pytest.raises(epista.ConflictError, match="is an attribute of every"):
            aind_session.register_namespace(name)(Mine)
    with pytest.raises(epista.ConflictError, match="taken"):
        aind_session.register_namespace("mine", aind_session.Subject)(aind_session.ExtensionBaseClass)
    with pytest.raises(TypeError, match="Session or Subject"):
        aind_session.register_namespace("mine", str)


def test_what_one_may_not_read_is_not_there(lab: epista.Workspace, server: Server) -> None:
    guest_api = server.member("guest", "viewer", experiments=["behavior_676909_2023-10-24_15-15-50"])
    with epista.Workspace(server.url, token=guest_api.token, workspace="lab") as guest:
        session = aind_session.Session(RAW, workspace=guest)

        assert session.data_assets == ()
        assert not session.is_uploaded
        assert [one.id for one in aind_session.get_sessions(676909, workspace=guest)] == ["behavior_676909_2023-10-24_15-15-50"]
