"""Files that are catalogued where they lie: what people see of them, and what becomes of them when others touch them."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

import epista
from epista.client import audit
from epista.client.filesystem import EpistaFileSystem
from epista.contract.errors import (
    ConflictError,
    IntegrityError,
    LinkedFileChangedError,
    NotFoundError,
    SettingsError,
)
from epista.server import config as settings
from epista.server.config import Config
from tests.linking import FolderFiles, RemoteFiles, in_bucket
from tests.makers import Server, sha256
from tests.seaweed import Seaweed

LARGE = bytes(range(256)) * 8192


@pytest.fixture(params=["here", "elsewhere"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FolderFiles | RemoteFiles:
    """A folder for a lab in a folder; a bucket for a lab in PostgreSQL and S3."""
    if request.param == "elsewhere":
        seaweed: Seaweed = request.getfixturevalue("seaweed")
        return in_bucket(seaweed.new_place())
    return FolderFiles(tmp_path / "archive")


@pytest.fixture
def config(config: Config, files: FolderFiles | RemoteFiles, tmp_path: Path) -> Config:
    root: dict[str, Any] = files.settings() if isinstance(files, FolderFiles) else files.settings(tmp_path)
    other = tmp_path / "of others"
    other.mkdir()
    (other / "a.csv").write_bytes(b"of others")
    roots = {
        "archive": msgspec.convert(root | {"workspaces": ["lab"]}, settings.LinkRoot),
        "others": settings.LinkRoot(url=str(other), workspaces=("other",)),
    }
    return msgspec.structs.replace(config, link_roots=roots, backup_root=str(tmp_path / "backups"))


@pytest.fixture
def ws(http_ws: epista.Workspace, files: FolderFiles | RemoteFiles) -> epista.Workspace:
    """A workspace in which a folder is linked."""
    files.write("run7/plate.csv", b"well,count\nA1,17\n")
    files.write("run7/raw/large.bin", LARGE)
    files.write("run7/raw/empty.bin", b"")
    made = http_ws.link_dir("archive/run7", "EXP-7")
    assert (made.files, made.size_bytes, made.left_out_count) == (3, 17 + len(LARGE), 0)
    return http_ws


def test_linked_files_are_read_like_others(ws: epista.Workspace, tmp_path: Path) -> None:
    assert ws.keys() == ["EXP-7/plate.csv", "EXP-7/raw/empty.bin", "EXP-7/raw/large.bin"]
    asset = ws.get("EXP-7/plate.csv")
    assert (asset.sha256, asset.size_bytes, asset.kind, asset.linked) == (None, 17, "TABLE", "archive/run7/plate.csv")
    with ws.open("EXP-7/raw/large.bin", byte_range=(1000, 1299)) as part:
        assert part.read() == LARGE[1000:1300]
    assert ws.get("EXP-7/raw/large.bin").sha256 is None

    fetched = ws.fetch("EXP-7/", tmp_path / "fetched")

    assert (tmp_path / "fetched" / "raw" / "large.bin").read_bytes() == LARGE
    assert (tmp_path / "fetched" / "plate.csv").read_bytes() == b"well,count\nA1,17\n"
    assert fetched
    assert ws("EXP-7/plate.csv")["count"].tolist() == [17]
    with ws.open("EXP-7/raw/large.bin") as stream:
        assert stream.read() == LARGE


def test_who_reads_a_file_whole_takes_its_sha256(ws: epista.Workspace, tmp_path: Path) -> None:
    ws.fetch("EXP-7/raw/large.bin", tmp_path / "large.bin")

    assert ws.get("EXP-7/raw/large.bin").sha256 == sha256(LARGE)
    assert ws.versions("EXP-7/raw/large.bin")[0].sha256 == sha256(LARGE)
    assert [hit.key for hit in ws.search(f"sha256:{sha256(LARGE)}")] == ["EXP-7/raw/large.bin"]
    assert ws.get("EXP-7/plate.csv").sha256 is None
    assert ws.fetch("EXP-7/raw/large.bin", tmp_path / "large.bin").read_bytes() == LARGE


def test_verify_takes_what_nobody_has_read(ws: epista.Workspace) -> None:
    (step,) = audit.verify_blobs(ws)

    assert step.problems == ()
    assert {one.sha256 for one in map(ws.get, ws.keys())} == {
        sha256(LARGE),
        sha256(b""),
        sha256(b"well,count\nA1,17\n"),
    }


def test_equal_files_linked_and_stored_stand_beside_each_other(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server, tmp_path: Path
) -> None:
    files.write("run7/twin.bin", LARGE)
    ws.link_dir("archive/run7", "EXP-7")
    list(audit.verify_blobs(ws))

    (tmp_path / "own.bin").write_bytes(LARGE)
    ws.put_file("EXP-8/own.bin", tmp_path / "own.bin")
    server.api().put("EXP-8/own-small.csv", b"well,count\nA1,17\n")

    assert len(ws.search(f"sha256:{sha256(LARGE)}")) == 3
    files.remove("run7/raw/large.bin")
    files.remove("run7/twin.bin")
    files.remove("run7/plate.csv")
    # What was put is the lab's own copy, whatever becomes of the linked ones.
    assert ws.fetch("EXP-8/own.bin", tmp_path / "again.bin").read_bytes() == LARGE
    assert ws("EXP-8/own-small.csv")["count"].tolist() == [17]


def test_a_file_that_changed_is_never_given_for_what_was_linked(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server, tmp_path: Path
) -> None:
    files.write("run7/plate.csv", b"well,count\nA1,18\n")
    version = ws.get("EXP-7/plate.csv").version

    with pytest.raises(LinkedFileChangedError, match=r"^archive/run7/plate\.csv changed since it was linked") as found:
        ws("EXP-7/plate.csv")
    assert "epista link" in str(found.value)
    with pytest.raises(LinkedFileChangedError), ws.open("EXP-7/plate.csv", byte_range=(0, 4)) as part:
        part.read()
    assert server.api().call("HEAD", f"~/versions/{version}/content").status_code == 409
    rows = server.api().ok(server.api().get("~/audit", action="objects.content"))["rows"]
    assert any(row["outcome"] == "linked_file_changed" for row in rows)

    again = ws.link_dir("archive/run7", "EXP-7")
    assert again.files == 3
    assert ws("EXP-7/plate.csv")["count"].tolist() == [18]
    assert [one.number for one in ws.versions("EXP-7/plate.csv")] == [2, 1]
    assert len(ws.versions("EXP-7/raw/large.bin")) == 1
    with pytest.raises(LinkedFileChangedError):
        ws.fetch("EXP-7/plate.csv", tmp_path / "old.csv", version=1)


def test_verify_tells_what_changed_and_what_is_gone_of_the_current_versions(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles
) -> None:
    files.write("run7/plate.csv", b"changed")
    files.remove("run7/raw/large.bin")

    (step,) = audit.verify_blobs(ws)
    assert {one.keys: one.problem for one in step.problems} == {
        ("lab:EXP-7/plate.csv@1",): "archive/run7/plate.csv changed since it was linked",
        ("lab:EXP-7/raw/large.bin@1",): "archive/run7/raw/large.bin is gone since it was linked",
    }

    ws.link_dir("archive/run7", "EXP-7")
    ws.delete("EXP-7/raw/large.bin")
    (step,) = audit.verify_blobs(ws)
    assert step.problems == ()


def test_what_is_new_is_added_and_what_is_gone_stays_in_the_catalog(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles
) -> None:
    files.write("run7/new.csv", b"new")
    files.remove("run7/plate.csv")

    assert ws.link_dir("archive/run7", "EXP-7").files == 3
    assert ws.keys() == ["EXP-7/new.csv", "EXP-7/plate.csv", "EXP-7/raw/empty.bin", "EXP-7/raw/large.bin"]
    with pytest.raises(LinkedFileChangedError, match="is gone"):
        ws("EXP-7/plate.csv")


def test_linked_assets_are_described_copied_moved_and_restored(ws: epista.Workspace) -> None:
    ws.set_meta("EXP-7/plate.csv", {"temp": 37})
    ws.copy("EXP-7/plate.csv", "EXP-8/plate.csv")
    ws.copy("EXP-7/plate.csv", "EXP-8/plate.txt")
    ws.move("EXP-7/raw/large.bin", "EXP-8/large.bin")
    ws.delete("EXP-7/plate.csv")
    ws.restore("EXP-7/plate.csv")
    ws.restore("EXP-7/plate.csv", version=1)

    assert ws.get("EXP-8/plate.csv").linked == "archive/run7/plate.csv"
    assert ws("EXP-8/plate.csv")["count"].tolist() == [17]
    assert ws("EXP-8/large.bin", format="bytes") == LARGE
    assert ws.get_meta("EXP-7/plate.csv") == {}
    assert ws.get_meta("EXP-8/plate.csv") == {"temp": 37}


def test_a_put_over_a_linked_key_leaves_the_file_alone(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_bytes(b"well,count\nB2,3\n")
    made = ws.put_file("EXP-7/plate.csv", tmp_path / "own.csv", expect=ws.get("EXP-7/plate.csv").version)

    assert (made.number, made.linked, made.sha256) == (2, None, sha256(b"well,count\nB2,3\n"))
    seen = files.origin.look("run7/plate.csv")
    assert seen is not None
    assert ws.open("EXP-7/plate.csv").read() == b"well,count\nB2,3\n"
    ws.restore("EXP-7/plate.csv", version=1)
    assert ws("EXP-7/plate.csv")["count"].tolist() == [17]


def test_purge_and_collection_forget_the_row_and_leave_the_file_alone(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server
) -> None:
    ws.delete("EXP-7/plate.csv")
    ws.purge("EXP-7/plate.csv")
    files.write("run7/raw/large.bin", b"other")
    ws.link_dir("archive/run7/raw", "EXP-7/raw")
    ws.purge("EXP-7/raw/large.bin", version=1)
    audit.gc(ws, grace_seconds=0)
    audit.gc(ws, grace_seconds=0)

    assert files.origin.look("run7/plate.csv") is not None
    assert files.origin.look("run7/raw/large.bin") is not None
    assert ws.keys() == ["EXP-7/raw/empty.bin", "EXP-7/raw/large.bin"]
    ws.link_dir("archive/run7", "EXP-7")
    assert ws("EXP-7/plate.csv")["count"].tolist() == [17]


def test_linked_bytes_take_no_room(ws: epista.Workspace, server: Server) -> None:
    usage = ws.usage()
    assert (usage.stored_bytes, usage.assets, usage.versions) == (0, 3, 3)

    ws.put("EXP-8/own.txt", "text")
    ws.copy_dir("EXP-7/", "EXP-9/")
    assert ws.usage().stored_bytes == 4


def test_a_hash_of_a_linked_file_stands_for_no_upload(ws: epista.Workspace, server: Server) -> None:
    list(audit.verify_blobs(ws))

    asked = server.api().ok(server.api().post("~/blobs/missing", sha256=[sha256(LARGE)]))
    assert asked["sha256"] == [sha256(LARGE)]
    taken = server.api().post("~/objects", objects=[{"key": "EXP-8/a.bin", "sha256": sha256(LARGE)}])
    assert taken.status_code == 404


def test_conditions_hold_on_linked_files(ws: epista.Workspace, server: Server) -> None:
    api, asset = server.api(), ws.get("EXP-7/raw/large.bin")
    path = f"~/versions/{asset.version}/content"
    tag = api.call("HEAD", path).headers["ETag"]
    assert "Repr-Digest" not in api.call("HEAD", path).headers

    whole = api.call("GET", path, headers={"Prefer": "redirect"})
    after = api.call("HEAD", path)
    assert whole.content == LARGE
    # The tag stays, so that what was begun before can be gone on with.
    assert tag == whole.headers["ETag"] == after.headers["ETag"]
    assert after.headers["Repr-Digest"].startswith("sha-256=:")
    assert api.call("GET", path, headers={"If-None-Match": tag}).status_code == 304
    part = api.call("GET", path, headers={"Range": "bytes=5-9", "If-Range": tag})
    assert (part.status_code, part.content) == (206, LARGE[5:10])


def test_a_signed_link_opens_a_linked_file_and_nothing_else_of_it(ws: epista.Workspace, files: FolderFiles | RemoteFiles) -> None:
    link = ws.link("EXP-7/raw/large.bin")

    with urllib.request.urlopen(str(link)) as response:
        assert response.read() == LARGE
    files.write("run7/raw/large.bin", b"other")
    with pytest.raises(urllib.error.HTTPError, match="409"):
        urllib.request.urlopen(str(link))


def test_file_systems_read_linked_files(ws: epista.Workspace) -> None:
    fs = EpistaFileSystem(session=ws.session, skip_instance_cache=True)
    before = fs.ukey("EXP-7/raw/large.bin")

    with fs.open("EXP-7/raw/large.bin") as file:
        file.seek(4000)
        assert file.read(100) == LARGE[4000:4100]
    assert fs.info("EXP-7/raw/large.bin")["sha256"] is None
    assert before == ws.get("EXP-7/raw/large.bin").version
    assert isinstance(fs.checksum("EXP-7/raw/large.bin"), int)
    assert fs.cat(["EXP-7/raw/large.bin", "EXP-7/plate.csv"])["EXP-7/raw/large.bin"] == LARGE
    assert fs.cat_file("EXP-7/plate.csv") == b"well,count\nA1,17\n"


# What may be linked, and by whom


@pytest.mark.parametrize(
    "source",
    ["others/a.csv", "/etc", "s3://elsewhere/x", "archive-2/run7", "arch", ""],
    ids=["reserved", "path", "s3", "near", "start", "nothing"],
)
def test_only_what_the_settings_name_for_the_workspace_is_linked(http_ws: epista.Workspace, source: str) -> None:
    with pytest.raises(NotFoundError, match="lies below no root that the workspace 'lab' may link from") as found:
        http_ws.link_dir(source, "EXP-7")
    assert found.value.hint == "its roots: archive"


def test_only_admins_link(ws: epista.Workspace, server: Server) -> None:
    editor = server.member("editor", "editor")

    assert editor.post("~/linked", source="archive/run7").status_code == 403
    assert editor.get("~/asset", ref="EXP-7/plate.csv").status_code == 200


@pytest.mark.parametrize("path", ["archive/../lab", "archive/run7/../..", "archive/./run7", "archive/a\0b"])
def test_no_path_leads_out_of_a_root(http_ws: epista.Workspace, path: str) -> None:
    with pytest.raises(epista.InvalidRequestError, match="is no plain path"):
        http_ws.link_dir(path, "EXP-7")


def test_one_file_is_linked_by_its_whole_address(
    http_ws: epista.Workspace, files: FolderFiles | RemoteFiles, config: Config
) -> None:
    files.write("run7/plate.csv", b"well,count\nA1,17\n")

    made = http_ws.link_dir(f"{config.link_roots['archive'].url}/run7/plate.csv", "EXP-7")
    assert made.files == 1
    assert http_ws.keys() == ["EXP-7/plate.csv"]
    with pytest.raises(NotFoundError, match="no file at or below"):
        http_ws.link_dir("archive/run8", "EXP-7")


def test_a_dry_run_links_nothing(http_ws: epista.Workspace, files: FolderFiles | RemoteFiles) -> None:
    files.write("run7/plate.csv", b"well,count\nA1,17\n")

    assert http_ws.link_dir("archive/run7", "EXP-7", dry_run=True).files == 1
    assert http_ws.keys() == []


def test_many_files_become_visible_together(
    http_ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        files.write(f"run7/{number:03}.csv", b"%d" % number)
    monkeypatch.setattr("epista.server.services.linked.STEP_FILES", 10)
    monkeypatch.setattr("epista.server.services.linked.MAX_OBJECTS", 4)

    api, batch = server.api(), "1" * 32
    step = api.ok(api.post("~/linked", source="archive/run7", prefix="EXP-7", batch=batch))
    assert step["files"] == 12
    assert step["parts"] == 3
    assert step["next"]
    assert http_ws.keys() == []

    assert http_ws.link_dir("archive/run7", "EXP-7").files == 25
    assert len(http_ws.keys()) == 25


def test_rules_and_conflicts_hold_for_linked_files(
    http_ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server
) -> None:
    files.write("run7/plate.csv", b"well,count\nA1,17\n")
    files.write("run7/a/b.csv", b"b")
    http_ws.put("EXP-7/a", b"in the way")
    with pytest.raises(ConflictError, match="'EXP-7/a' is in the way"):
        http_ws.link_dir("archive/run7", "EXP-7")
    assert http_ws.keys() == ["EXP-7/a"]

    rules = [{"name": "r", "schema": {"required": ["operator"]}}]
    server.api().ok(server.api().call("PUT", "~/rules", json={"rules": rules}))
    with pytest.raises(epista.ValidationError, match="operator"):
        http_ws.link_dir("archive/run7", "EXP-8")
    assert http_ws.keys() == ["EXP-7/a"]


def test_nothing_told_to_a_user_has_the_address_of_a_root(
    ws: epista.Workspace, files: FolderFiles | RemoteFiles, server: Server, config: Config
) -> None:
    files.write("run7/plate.csv", b"changed")
    api = server.api()
    version = ws.get("EXP-7/plate.csv").version

    told = [
        api.get("~/asset", ref="EXP-7/plate.csv"),
        api.get("~/versions", key="EXP-7/plate.csv"),
        api.call("GET", f"~/versions/{version}/content"),
        api.get("~/audit"),
        api.get("/lab/audit"),
        api.get("/lab/verify"),
        api.post("~/linked", source="archive/nowhere"),
        api.post("~/linked", source="archive/run7"),
    ]
    root = config.link_roots["archive"]
    for response in told:
        assert root.url not in response.text
        assert (root.s3_endpoint or "no endpoint") not in response.text
        assert (root.s3_access_key or "no key") not in response.text


# Folders alone


@pytest.fixture
def archive(tmp_path: Path) -> FolderFiles:
    return FolderFiles(tmp_path / "archive of an embedded lab")


def embedded(lab: Path, archive: FolderFiles) -> epista.Workspace:
    lab.mkdir(exist_ok=True)
    (lab / "lab.toml").write_text(f'[link_roots.archive]\nurl = "{archive.root}"\nworkspaces = ["*"]\n')
    return epista.Workspace(lab)


def test_an_embedded_lab_links_what_its_own_settings_name(tmp_path: Path, archive: FolderFiles) -> None:
    archive.write("run7/large.bin", LARGE)
    archive.write("run7/plate.csv", b"well,count\nA1,17\n")

    with embedded(tmp_path / "lab", archive) as ws:
        assert ws.link_dir(str(archive.root / "run7"), "EXP-7").files == 2
        for _ in range(2):  # the second time from disk to disk
            assert ws.fetch("EXP-7/large.bin", tmp_path / "large.bin").read_bytes() == LARGE
            (tmp_path / "large.bin").unlink()
        # Written past the clock: what the tag cannot show, the sha256 does.
        stat = (archive.root / "run7/large.bin").stat()
        with (archive.root / "run7/large.bin").open("r+b") as file:
            file.write(b"x")
        os.utime(archive.root / "run7/large.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(IntegrityError):
            ws.fetch("EXP-7/large.bin", tmp_path / "large.bin")
        assert not (tmp_path / "large.bin").exists()


def test_what_cannot_have_a_key_is_left_out_and_told(tmp_path: Path, archive: FolderFiles) -> None:
    archive.write("run7/plate.csv", b"a")
    archive.write("run7/a\nb.csv", b"a")
    archive.write("run7/e\u0301.csv", b"decomposed")
    archive.write("run7/\u00e9.csv", b"composed")
    archive.write("run7/o\u0308.csv", b"alone")
    (archive.root / "run7" / "link").symlink_to("/etc/passwd")
    with open(bytes(archive.root / "run7") + b"/\xff.csv", "wb") as file:
        file.write(b"no text")

    with embedded(tmp_path / "lab", archive) as ws:
        made = ws.link_dir("archive/run7", "EXP-7")

        assert made.files == 3
        assert sorted(ws.keys()) == sorted(["EXP-7/plate.csv", "EXP-7/\u00e9.csv", "EXP-7/\u00f6.csv"])
        assert ws("EXP-7/\u00e9.csv", format="bytes") == b"composed"
        assert ws("EXP-7/\u00f6.csv", format="bytes") == b"alone"
        left = {one.path: one.reason for one in made.left_out}
        assert set(left) == {"a\nb.csv", "e\u0301.csv", "link", "\\udcff.csv"}
        assert left["link"] == "is a symbolic link"
        assert "of another file" in left["e\u0301.csv"]


@pytest.mark.parametrize("place", ["lab/inside", ".", "backups/x", "relative"])
def test_a_root_that_would_show_the_labs_own_bytes_stops_the_start(tmp_path: Path, place: str) -> None:
    url = place if place == "relative" else str(tmp_path / place)
    file = tmp_path / "server.toml"
    file.write_text(f'lab = "{tmp_path}/lab"\nbackup_root = "{tmp_path}/backups"\n[link_roots.archive]\nurl = "{url}"\n')

    with pytest.raises(SettingsError, match=r"link_roots\.archive"):
        settings.read(file=file, environ={})


def test_a_backup_has_the_rows_of_linked_files_and_says_so(tmp_path: Path, archive: FolderFiles) -> None:
    archive.write("run7/plate.csv", b"a")
    with embedded(tmp_path / "lab", archive) as ws:
        ws.link_dir("archive/run7", "EXP-7")
        ws.put("EXP-7/own.txt", "own")

        made = audit.backup(ws, tmp_path / "backup")

        assert (made.blobs, made.linked_blobs) == (1, 1)
    assert [one.name for one in (tmp_path / "backup" / "blobs").rglob("*") if one.is_file()] != []
