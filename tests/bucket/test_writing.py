"""Writing: items 30 to 49 of the acceptance list."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.figure
import psutil
import pytest

import epista
from epista.client import audit
from tests.bucket import faults as faulty
from tests.bucket.conftest import StartClient
from tests.bucket.faults import Faults
from tests.makers import Server, sha256

UPLOAD, FRAME = "/blobs", "/frames"
"""How the paths of an upload and of a frame end."""


def figure() -> matplotlib.figure.Figure:
    drawn = matplotlib.figure.Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 3, 2], label="µ")
    return drawn


def tree_at(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_30_the_hash_on_the_receipt_is_that_of_sha256sum(ws: epista.Workspace, folder: Path, size: int) -> None:
    (folder / "x.bin").write_bytes(os.urandom(size))
    expected = subprocess.run(["sha256sum", folder / "x.bin"], capture_output=True, text=True, check=True).stdout.split()[0]

    receipt = ws.put_file("d/x.bin", folder / "x.bin")

    assert receipt.sha256 == expected
    assert ws.put("d/y.bin", (folder / "x.bin").read_bytes()).sha256 == expected
    assert (receipt.key, receipt.size_bytes, receipt.number) == ("d/x.bin", size, 1)
    assert receipt.created_by
    assert receipt.created_at.utcoffset() is not None


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("x.bin", lambda: b"thirty-one"),
        ("x.csv", lambda: [{"n": 1, "name": "µ"}]),
        ("x.json", lambda: {"a": [1, 2.5, None]}),
        ("x.csv.gz", lambda: [{"n": 1}]),
        *((f"x.{ending}", figure) for ending in ("svg", "png", "pdf", "jpg")),
    ],
)
def test_31_an_identical_put_makes_no_version_and_stores_nothing(
    ws: epista.Workspace, stored: Callable[[], set[str]], key: str, make: Callable[[], Any]
) -> None:
    first = ws.put(key, make(), meta={"a": 1.0}, tags=["qc"])
    before = stored()

    again = ws.put(key, make(), meta={"a": 1.0}, tags=["qc"])
    kept = ws.put(key, make())

    assert (again.version, again.number, kept.version) == (first.version, 1, first.version)
    assert stored() == before
    assert len(ws.versions(key)) == 1


def test_31_the_act_is_audited_all_the_same(ws: epista.Workspace) -> None:
    for _ in range(2):
        ws.put("x.txt", "x")

    assert [row.target for row in audit.find(ws, action="objects.commit")] == ["x.txt", "x.txt"]


def test_31_other_metadata_on_the_same_bytes_is_a_new_version_without_new_bytes(
    ws: epista.Workspace, stored: Callable[[], set[str]]
) -> None:
    ws.put("x.bin", b"thirty-one, again")
    before = stored()

    assert ws.put("x.bin", b"thirty-one, again", meta={"a": 1}).number == 2
    assert ws.put("x.bin", b"thirty-one, again", tags=["qc"]).number == 3
    assert ws.put("x.bin", b"thirty-one, again", kind="image").number == 4
    assert stored() == before


def test_32_the_same_bytes_under_a_thousand_keys_are_stored_once(
    ws: epista.Workspace, stored: Callable[[], set[str]], folder: Path
) -> None:
    data = b"thirty-two " + ws.name.encode() + os.urandom(8)
    for number in range(998):
        (folder / f"{number}.bin").write_bytes(data)
    before = stored()

    ws.put_dir("d", folder)
    ws.put("one.bin", data)
    ws.put_file("two.bin", folder / "7.bin")

    assert len(ws.keys()) == 1000
    assert len(stored() - before) == 1


def test_33_a_known_hash_without_read_access_still_requires_the_bytes(server: Server) -> None:
    secret = b"the sequence nobody may know"
    server.api().put("EXP-2/secret.bin", secret)
    bob = server.member("bob", experiments=["EXP-1"])
    wanted = [{"key": "EXP-1/mine.bin", "sha256": sha256(secret)}]

    assert bob.ok(bob.post("~/blobs/missing", sha256=[sha256(secret)]))["sha256"] == [sha256(secret)]
    refused = bob.post("~/objects", objects=wanted)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert bob.keys() == []

    with epista.Workspace(server.url, token=bob.token, workspace="lab") as ws:
        assert ws.put("EXP-1/mine.bin", secret).sha256 == sha256(secret)
    assert bob.ok(bob.post("~/blobs/missing", sha256=[sha256(secret)]))["sha256"] == []


def test_34_acknowledged_puts_survive_the_kill_of_the_server(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    acknowledged: dict[str, bytes] = {}
    with epista.Workspace(tmp_path / "lab") as ws:
        (child,) = [child for child in psutil.Process().children() if child.pid not in before]

        def put(writer: int) -> None:
            for number in range(1000):
                data = os.urandom(1000 if number % 5 else 300_000)
                try:
                    key = ws.put(f"{writer}/{number}.bin", data, meta={"n": number}).key
                except epista.UnreachableError:
                    return
                acknowledged[key] = data

        with ThreadPoolExecutor(3) as pool:
            for writer in range(3):
                pool.submit(put, writer)
            until = time.monotonic() + 60
            while len(acknowledged) < 25:
                assert time.monotonic() < until
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)

    with epista.Workspace(tmp_path / "lab") as ws:
        keys = set(ws.keys())
        assert acknowledged.keys() <= keys
        # At most the put under way of each writer may have come through besides.
        assert len(keys - acknowledged.keys()) <= 3
        for key, data in acknowledged.items():
            assert ws(key) == data
            assert ws.get_meta(key) == {"n": int(key[2:-4])}
        assert ws.put("after.txt", "still works").number == 1
        assert audit.verify(ws).problems == ()
        assert [problem for step in audit.verify_blobs(ws) for problem in step.problems] == []


def test_35_a_serializer_failure_leaves_no_asset(ws: epista.Workspace, stored: Callable[[], set[str]]) -> None:
    before = stored()
    for key, obj in (("x.json", {"a": float("nan")}), ("x.json", {"a": object()}), ("x.csv", object()), ("x.npy", [object()])):
        with pytest.raises((epista.FormatError, epista.ValidationError)):
            ws.put(key, obj)

    assert ws.keys() == []
    assert ws.search("").total == 0
    assert stored() == before


def test_36_put_on_a_folder_is_refused_and_put_file_takes_the_name(ws: epista.Workspace, folder: Path) -> None:
    (folder / "cells.bin").write_bytes(b"x")

    with pytest.raises(epista.InvalidKeyError, match=r"put_file"):
        ws.put("d/", b"x")
    assert ws.keys() == []

    assert ws.put_file("d/", folder / "cells.bin").key == "d/cells.bin"
    for key in ("d/e/",):
        with pytest.raises(epista.TransferError):
            ws.put_file(key, folder)
    assert ws.keys() == ["d/cells.bin"]


@contextmanager
def _growing(path: Path) -> Any:
    """Append to a file until the end of the block, without a pause worth the name."""
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"more")
                time.sleep(0.0005)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_37_a_file_that_never_stops_growing_is_not_recorded(ws: epista.Workspace, folder: Path) -> None:
    path = folder / "run.bin"
    path.write_bytes(b"\0" * 8_000_000)

    with _growing(path), pytest.raises(epista.TransferError, match="changed while it was read, twice; nothing was recorded"):
        ws.put_file("run.bin", path)

    assert ws.keys() == []
    assert ws.put_file("run.bin", path).sha256 == sha256(path.read_bytes())


def test_37_a_file_that_grows_once_during_upload_is_read_again_and_recorded_whole(
    http_ws: epista.Workspace, faults: Faults, folder: Path
) -> None:
    path = folder / "run.bin"
    path.write_bytes(b"\0" * 4_000_000)

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    faults.next(UPLOAD, faulty.while_sending(append))

    receipt = http_ws.put_file("run.bin", path)

    assert (receipt.size_bytes, receipt.sha256) == (4_000_004, sha256(b"\0" * 4_000_000 + b"more"))
    assert len(http_ws.versions("run.bin")) == 1


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_38_editing_the_source_after_a_put_leaves_the_stored_version_intact(
    ws: epista.Workspace, folder: Path, size: int
) -> None:
    path = folder / "x.bin"
    path.write_bytes(b"a" * size)
    ws.put_file("x.bin", path)
    assert path.stat().st_nlink == 1

    with path.open("r+b") as file:
        file.write(b"edited in place")
    path.chmod(0o600)

    assert ws("x.bin") == b"a" * size
    ws.fetch("x.bin", folder / "y.bin")
    with (folder / "y.bin").open("r+b") as file:
        file.write(b"edited in place")
    assert ws("x.bin") == b"a" * size


def test_39_put_dir_is_the_same_with_and_without_slash(ws: epista.Workspace, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")

    first = ws.put_dir("t", folder)
    second = ws.put_dir("t/", f"{folder}/")

    assert [asset.key for asset in first] == ["t/a.txt", "t/sub/b.txt"]
    assert [asset.version for asset in second] == [asset.version for asset in first]
    assert ws.keys() == ["t/a.txt", "t/sub/b.txt"]


def test_39_an_empty_prefix_means_the_active_experiment(open_workspace: Callable[..., epista.Workspace], folder: Path) -> None:
    (folder / "a.txt").write_text("a")

    assert [asset.key for asset in open_workspace(experiment="EXP-1").put_dir("", folder)] == ["EXP-1/a.txt"]
    assert [asset.key for asset in open_workspace().put_dir("", folder)] == ["a.txt"]


def test_40_put_dir_metadata_reaches_every_file(ws: epista.Workspace, folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("a.txt", "sub/b.txt"):
        (folder / name).write_text(name)

    ws.put_dir("d", folder, meta={"run": 7}, tags=["qc"])
    assert [ws.get_meta(key) for key in ws.keys("")] == [{"run": 7}, {"run": 7}]
    assert [asset.tags for asset in ws.assets()] == [("qc",), ("qc",)]

    ws.put_dir("d", folder, meta=lambda name: {"name": name} if name.startswith("sub/") else None)
    assert {key: ws.get_meta(key) for key in ws.keys("")} == {"d/a.txt": {"run": 7}, "d/sub/b.txt": {"name": "sub/b.txt"}}


def test_41_what_tools_leave_behind_stays_out_at_any_depth_and_hidden_data_goes_in(ws: epista.Workspace, folder: Path) -> None:
    kept = [".zarray", "a/.zgroup", "a/b/data.bin", "a/.hidden"]
    left = [".DS_Store", "a/.DS_Store", "a/b/._data.bin", ".git/config", "a/b/.git/HEAD", "a/__pycache__/x.pyc", "a/Thumbs.db"]
    left += ["a/desktop.ini", ".svn/x", ".hg/x", "a/.ipynb_checkpoints/n.ipynb", "a/.data.bin.0123456789ab.epista-part"]
    for name in (*kept, *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "a" / "empty folder").mkdir()

    ws.put_dir("d", folder)

    assert ws.keys() == sorted(f"d/{name}" for name in kept)


def test_41_an_ignore_file_and_an_argument_say_more_and_an_empty_one_nothing(ws: epista.Workspace, folder: Path) -> None:
    for name in ("a.txt", "a.tmp", "sub/b.tmp", "sub/keep.tmp", ".DS_Store", "raw/big.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".epistaignore").write_text("*.tmp\n!keep.tmp\n")

    ws.put_dir("some", folder, ignore=["raw/"])
    ws.put_dir("all", folder, ignore=())

    assert ws.keys("some") == ["some/.epistaignore", "some/a.txt", "some/sub/keep.tmp"]
    assert len(ws.keys("all")) == 7


def test_42_a_link_that_leaves_the_folder_is_refused_with_its_name(ws: epista.Workspace, folder: Path) -> None:
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    (folder / "outside.txt").write_text("outside")
    (root / "a.txt").write_text("a")
    (root / "sub" / "inside.txt").symlink_to(root / "a.txt")
    (root / "sub" / "leaves.txt").symlink_to("../../outside.txt")
    (root / "nowhere.txt").symlink_to("gone.txt")

    with pytest.raises(epista.ValidationError) as failure:
        ws.put_dir("d", root)
    assert sorted(violation["path"] for violation in failure.value.violations) == ["nowhere.txt", "sub/leaves.txt"]
    assert "sub/leaves.txt" in str(failure.value)
    assert ws.keys() == []

    ws.put_dir("d", root, links="skip")
    assert ws.keys() == ["d/a.txt"]
    (root / "nowhere.txt").unlink()
    ws.put_dir("d", root, links="follow")
    assert {key: ws(key) for key in ws.keys("")} == {"d/a.txt": "a", "d/sub/inside.txt": "a", "d/sub/leaves.txt": "outside"}


def test_42_loops_end(ws: epista.Workspace, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("a")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self").symlink_to("self")

    with pytest.raises(epista.ValidationError) as failure:
        ws.put_dir("d", folder)
    assert sorted(violation["path"] for violation in failure.value.violations) == ["self", "sub/up"]
    (folder / "self").unlink()
    ws.put_dir("d", folder, links="follow")
    assert ws.keys() == ["d/sub/a.txt"]


def test_43_one_file_that_cannot_be_read_records_nothing_and_all_problems_are_listed(
    ws: epista.Workspace, stored: Callable[[], set[str]], folder: Path
) -> None:
    (folder / "good.txt").write_text("good")
    os.mkfifo(folder / "pipe")
    (folder / "bad\nkey.txt").write_text("bad")
    (folder / "Zu\u0308rich.txt").write_text("one")
    (folder / "Z\u00fcrich.txt").write_text("two")
    (folder / "link").symlink_to("/etc/hostname")
    before = stored()

    with pytest.raises(epista.ValidationError) as failure:
        ws.put_dir("d", folder)

    paths = {violation["path"] for violation in failure.value.violations}
    assert {"pipe", "bad\nkey.txt", "link"} < paths
    assert len(paths & {"Zu\u0308rich.txt", "Z\u00fcrich.txt"}) >= 1
    assert "good.txt" not in paths
    assert ws.keys() == []
    assert stored() == before


def _folder_of(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / f"{number:04d}.bin").write_bytes(b"forty-four %d" % number * 900)
    return folder


IN_A_FRAME = 600
"""How many of the files of `_folder_of` one frame has at least."""


def _killed_in_mid_folder(faults: Faults, start_client: StartClient, folder: Path) -> None:
    """Kill a put_dir of several frames when the first has arrived, while two are on their way."""
    released = threading.Event()

    def block() -> None:
        released.wait(30)

    faults.next(FRAME, faulty.while_sending(lambda: None))
    faults.next(FRAME, faulty.while_sending(block), times=20)
    client = start_client("put_dir", "d", folder)
    until = time.monotonic() + 30
    while len(faults.passed(FRAME)) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait(30)
    faults.clear()
    released.set()


def test_44_killed_in_put_dir_nothing_is_visible_and_a_rerun_sends_the_rest(
    server: Server, http_ws: epista.Workspace, faults: Faults, start_client: StartClient, folder: Path
) -> None:
    _folder_of(folder, 4 * IN_A_FRAME)
    _killed_in_mid_folder(faults, start_client, folder)

    assert http_ws.keys() == []
    assert http_ws.search("").total == 0
    http_ws.put_dir("d", folder)

    assert len(http_ws.keys()) == 4 * IN_A_FRAME
    # Nothing came twice, which would lie in two packs. What is beside the contents are the headers of the packs.
    content = sum(path.stat().st_size for path in folder.iterdir())
    stored = sum(path.stat().st_size for path in (server.folder / "blobs").rglob("*") if path.is_file())
    assert content < stored < content + 40 * 4 * IN_A_FRAME + 1000


def test_44_garbage_collection_clears_what_a_kill_left(
    server: Server, http_ws: epista.Workspace, faults: Faults, start_client: StartClient, folder: Path
) -> None:
    blobs = server.folder / "blobs"
    _folder_of(folder, 4 * IN_A_FRAME)
    _killed_in_mid_folder(faults, start_client, folder)
    http_ws.put("kept.bin", b"kept")
    assert len(tree_at(blobs)) >= 2

    assert audit.gc(http_ws).blobs == 0
    assert audit.gc(http_ws, grace_seconds=0).blobs >= IN_A_FRAME

    (kept,) = tree_at(blobs).values()
    assert kept.endswith(b"kept")
    assert list((server.folder / "staging").iterdir()) == []
    assert http_ws("kept.bin") == b"kept"


def test_44_ten_thousand_files_are_a_few_requests_and_commits_and_one_act(
    server: Server,
    http_ws: epista.Workspace,
    faults: Faults,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(10_000):
        (folder / f"{number:05d}").write_bytes(b"%d" % number)
    monkeypatch.setattr(epista.client.transfer.batches, "_ASK_FROM_BYTES", 0)
    synced: list[int] = []
    fsync = os.fsync

    def counted(fd: int) -> None:
        synced.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counted)

    receipts = http_ws.put_dir("d", folder, tags=["many"])

    assert [asset.key for asset in receipts] == [f"d/{number:05d}" for number in range(10_000)]
    # Asked about, sent and set aside in ten parts, then committed: eleven commits, of which one shows it all.
    assert len(faults.passed("/blobs/missing")) == 10
    assert len(faults.passed(FRAME)) == 10
    assert len(faults.passed("/batches/commit")) == 1
    assert len(faults.seen) == 21
    packs = [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]
    assert len(packs) == 10
    # Of each pack its file, its folder, and the folder above when that is new.
    assert len(synced) <= 3 * len(packs)
    faults.clear()
    http_ws.fetch("d", folder / "back")
    assert len(faults.passed("/frames/read")) == 10
    assert len(faults.passed("/content")) == 0
    assert len(list((folder / "back").iterdir())) == 10_000


def test_45_fetch_after_put_dir_gives_the_same_tree_and_hashes(ws: epista.Workspace, folder: Path) -> None:
    source = folder / "source"
    names = ["a.csv", "sub/b.fcs", "sub/deep er/c #?%41 é.bin", ".zarray", "empty", "sub/large.bin", "0/1/2/3"]
    for number, name in enumerate(names):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"" if name == "empty" else os.urandom(700_000 if "large" in name else 100 + number))

    receipts = ws.put_dir("EXP-1/run", source)
    ws.fetch("EXP-1/run", folder / "back")

    assert tree_at(folder / "back") == tree_at(source)
    assert {asset.key.removeprefix("EXP-1/run/"): asset.sha256 for asset in receipts} == {
        name: sha256(data) for name, data in tree_at(source).items()
    }


def test_46_of_twenty_racing_puts_that_expect_nothing_one_succeeds(open_workspace: Callable[..., epista.Workspace]) -> None:
    sessions = [open_workspace(), open_workspace()]
    together = threading.Barrier(20)

    def put(number: int) -> int | None:
        together.wait()
        try:
            return sessions[number % 2].put("x.txt", f"{number}", expect="absent").number
        except epista.ConflictError:
            return None

    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(put, range(20)))

    assert [number for number in done if number] == [1]
    assert sessions[0]("x.txt") == str(done.index(1))
    assert len(sessions[0].versions("x.txt")) == 1


def test_46_a_put_that_expects_a_version_replaces_that_one_only(ws: epista.Workspace) -> None:
    first = ws.put("x.txt", "1")
    second = ws.put("x.txt", "2", expect=first.version)

    for expected in (first.version, "absent"):
        with pytest.raises(epista.ConflictError) as conflict:
            ws.put("x.txt", "3", expect=expected)
        assert conflict.value.details["found"] == second.version
    ws.delete("x.txt")
    with pytest.raises(epista.ConflictError):
        ws.put("x.txt", "3", expect=second.version)
    assert ws.put("x.txt", "3", expect="absent").number == 3


def test_46_put_dir_expects_every_key_to_be_absent(ws: epista.Workspace, folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.txt").write_text(name)
    ws.put("d/b.txt", "there")

    with pytest.raises(epista.ConflictError, match=r"d/b\.txt"):
        ws.put_dir("d", folder, expect="absent")

    assert ws.keys() == ["d/b.txt"]
    assert len(ws.put_dir("e", folder, expect="absent")) == 3


def _act(verb: str) -> Callable[[epista.Workspace, str], epista.Asset]:
    verbs: dict[str, Callable[[epista.Workspace, str], epista.Asset]] = {
        "put": lambda ws, version: ws.put("x.txt", "2", expect=version),
        "set_meta": lambda ws, version: ws.set_meta("x.txt", {"a": 2}, expect=version),
    }
    return verbs[verb]


@pytest.mark.parametrize("fault", [faulty.lose_reply(), faulty.cut(10)], ids=["no reply", "half a reply"])
@pytest.mark.parametrize(("verb", "path"), [("put", FRAME), ("set_meta", "/metadata")])
def test_47_a_lost_reply_that_is_retried_gives_one_version_and_no_conflict_with_oneself(
    http_ws: epista.Workspace, faults: Faults, verb: str, path: str, fault: faulty.Fault
) -> None:
    version = http_ws.put("x.txt", "1", expect="absent").version
    faults.clear()
    faults.next(path, fault, times=2)

    receipt = _act(verb)(http_ws, version)

    assert receipt.number == 2
    assert [found.id for found in http_ws.versions("x.txt")] == [receipt.version, version]
    assert len(faults.passed(path)) == 3


def test_47_a_lost_reply_to_the_first_put_of_a_key_gives_one_version(http_ws: epista.Workspace, faults: Faults) -> None:
    faults.next(FRAME, faulty.lose_reply())

    receipt = http_ws.put("x.txt", "1", expect="absent")

    assert (receipt.number, len(http_ws.versions("x.txt"))) == (1, 1)
    faults.next("/delete", faulty.lose_reply())
    assert http_ws.delete("x.txt").key == "x.txt"
    faults.next("/restore", faulty.lose_reply())
    assert http_ws.restore("x.txt").version == receipt.version
    faults.next("/delete-folder", faulty.lose_reply())
    http_ws.put("d/y.txt", "y")
    assert http_ws.delete_dir("d") == ["d/y.txt"]


def test_47_nobody_conflicts_with_their_own_last_put(ws: epista.Workspace) -> None:
    receipt = ws.put("x.txt", "0", expect="absent")
    for number in range(1, 6):
        receipt = ws.put("x.txt", f"{number}", expect=receipt.version)
    assert receipt.number == 6
    # The same content once more is no conflict either, and the version stays.
    assert ws.put("x.txt", "5", expect=receipt.version).version == receipt.version


def test_48_the_conflict_message_names_the_version_found_and_the_safe_route(ws: epista.Workspace) -> None:
    first = ws.put("x.txt", "1")
    second = ws.put("x.txt", "2")

    with pytest.raises(epista.ConflictError) as conflict:
        ws.put("x.txt", "3", expect=first.version)

    assert f"'x.txt' is at version 2 ({second.version}) by {second.created_by}, " in conflict.value.message
    assert f"expect='{second.version}'" in str(conflict.value.hint)
    assert conflict.value.details["number"] == 2
    assert conflict.value.details["author"] == second.created_by


def test_49_versioning_cannot_be_turned_off(server: Server, ws: epista.Workspace) -> None:
    for number in range(1, 4):
        assert ws.put("x.txt", f"{number}").number == number
    ws.delete("x.txt")
    assert ws.put("x.txt", "4").number == 4
    assert [ws("x.txt", version=number) for number in (1, 2, 3, 4)] == ["1", "2", "3", "4"]

    api = server.api()
    api.put("x.txt", b"1")
    for option in ("versioning", "overwrite", "force", "version"):
        refused = api.try_put("x.txt", b"2", **{option: False})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert [version["number"] for version in api.ok(api.get("~/versions", key="x.txt"))["versions"]] == [1]
