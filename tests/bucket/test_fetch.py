"""fetch: items 10 to 21 of the acceptance list."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import epista
from epista.client.transfer import download
from epista.server.stores.blobs import BlobStore
from tests.bucket import faults as faulty
from tests.bucket.conftest import StartClient
from tests.bucket.faults import Faults
from tests.makers import Server

CONTENT = "/content"
FRAMES = "/frames/read"
"""How the path of a download ends."""

TREE = {"a.bin": b"a", "sub/b.bin": b"b" * 1000, "sub/deep/c.bin": b"c" * 300_000, "empty.bin": b""}


def put_tree(ws: epista.Workspace, prefix: str = "d") -> None:
    for name, data in TREE.items():
        ws.put(f"{prefix}/{name}", data)


def tree_at(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def noise(size: int) -> bytes:
    """Bytes that differ from one megabyte to the next."""
    return b"".join(number.to_bytes(8) for number in range(size // 8))


@pytest.mark.parametrize("spelling", ["d", "d/"])
@pytest.mark.parametrize("dest", ["new", "existing", "new/nested/deep"])
def test_10_a_folder_is_fetched_with_and_without_slash_into_any_destination(
    ws: epista.Workspace, folder: Path, spelling: str, dest: str
) -> None:
    put_tree(ws)
    ws.put("d2.bin", b"beside")
    (folder / "existing").mkdir()

    assert ws.fetch(spelling, folder / dest) == folder / dest

    assert tree_at(folder / dest) == TREE
    ws.fetch(spelling, folder / dest)
    assert tree_at(folder / dest) == TREE


def test_10_a_file_goes_into_a_folder_or_to_the_very_name(ws: epista.Workspace, folder: Path) -> None:
    ws.put("d/a.bin", b"a")

    assert ws.fetch("d/a.bin", folder) == folder / "a.bin"
    assert ws.fetch("d/a.bin", f"{folder}/new/") == folder / "new" / "a.bin"
    assert ws.fetch("d/a.bin", folder / "x" / "other.name") == folder / "x" / "other.name"
    assert tree_at(folder) == {"a.bin": b"a", "new/a.bin": b"a", "x/other.name": b"a"}
    with pytest.raises(epista.TransferError, match="is a file, where a folder must be"):
        ws.fetch("d/a.bin", folder / "a.bin" / "below")
    with pytest.raises(epista.InvalidKeyError):
        ws.fetch("", folder)


def test_11_a_second_run_writes_nothing_and_keeps_mtimes(ws: epista.Workspace, folder: Path) -> None:
    put_tree(ws)
    ws.fetch("d", folder)
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))

    ws.fetch("d", folder)
    ws.fetch("d/a.bin", folder)

    assert {path.stat().st_mtime_ns for path in folder.rglob("*")} == {10**18}


def test_12_a_failed_fetch_leaves_the_old_local_file_byte_identical(
    http_ws: epista.Workspace, faults: Faults, folder: Path
) -> None:
    http_ws.put("new.bin", noise(3_000_000))
    (folder / "new.bin").write_bytes(b"old")
    faults.next(CONTENT, faulty.cut(0), times=50)

    with pytest.raises(epista.UnreachableError):
        http_ws.fetch("new.bin", folder)

    assert (folder / "new.bin").read_bytes() == b"old"


def test_12_a_lab_whose_bytes_are_gone_leaves_the_old_local_file_byte_identical(
    ws: epista.Workspace, objects: BlobStore, stored: Callable[[], set[str]], folder: Path
) -> None:
    before = stored()
    ws.put("new.bin", b"twelve, and nothing else")
    (lost,) = stored() - before
    objects.delete(lost)
    (folder / "new.bin").write_bytes(b"old")

    with pytest.raises(epista.IntegrityError):
        ws.fetch("new.bin", folder)

    assert tree_at(folder) == {"new.bin": b"old"}


def test_13_after_a_kill_in_mid_file_only_the_rest_is_transferred(
    http_ws: epista.Workspace, faults: Faults, start_client: StartClient, folder: Path
) -> None:
    data = noise(8_000_000)
    http_ws.put("big.bin", data)
    released = threading.Event()
    faults.next(CONTENT, faulty.stall(5_000_000, released))

    client = start_client("fetch", "big.bin", folder / "big.bin")
    until = time.monotonic() + 30
    while sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000:
        assert time.monotonic() < until
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait(30)
    released.set()
    assert [path.name for path in folder.iterdir()] != ["big.bin"]
    (part,) = folder.iterdir()
    arrived_bytes = part.stat().st_size
    faults.clear()
    http_ws.fetch("big.bin", folder / "big.bin")

    assert tree_at(folder) == {"big.bin": data}
    (rest,) = faults.passed(CONTENT)
    assert rest.range == f"bytes={arrived_bytes}-7999999"
    assert rest.answered_bytes == 8_000_000 - arrived_bytes


def test_14_a_flipped_byte_never_reaches_the_target(http_ws: epista.Workspace, faults: Faults, folder: Path) -> None:
    data = noise(3_000_000)
    http_ws.put("x.bin", data)
    faults.next(CONTENT, faulty.flip(2_000_000))

    http_ws.fetch("x.bin", folder)

    assert tree_at(folder) == {"x.bin": data}
    assert len(faults.passed(CONTENT)) == 2


def test_14_a_byte_that_is_flipped_twice_is_an_error_and_leaves_nothing(
    http_ws: epista.Workspace, faults: Faults, folder: Path
) -> None:
    http_ws.put("x.bin", b"123456789")
    faults.next(CONTENT, faulty.flip(4), times=2)

    with pytest.raises(epista.IntegrityError, match=r"x\.bin"):
        http_ws.fetch("x.bin", folder)
    assert tree_at(folder) == {}

    faults.next(CONTENT, faulty.flip(4), times=2)
    with pytest.raises(epista.IntegrityError, match=r"x\.bin"):
        http_ws("x.bin")


def test_14_a_corrupted_part_of_an_earlier_run_never_reaches_the_target(
    http_ws: epista.Workspace, faults: Faults, folder: Path
) -> None:
    data = noise(3_000_000)
    http_ws.put("x.bin", data)
    faults.next(CONTENT, faulty.cut(2_000_000))
    faults.next(CONTENT, faulty.answer(404), times=10)
    with pytest.raises(epista.EpistaError):
        http_ws.fetch("x.bin", folder)
    (part,) = folder.iterdir()
    part.write_bytes(b"\0" * 1000 + part.read_bytes()[1000:])
    faults.clear()

    http_ws.fetch("x.bin", folder)

    assert tree_at(folder) == {"x.bin": data}


def test_15_overwriting_during_a_fetch_yields_all_old_bytes(http_ws: epista.Workspace, faults: Faults, folder: Path) -> None:
    old, new = {f"d/{n}.bin": bytes([n]) * 400_000 for n in range(8)}, {f"d/{n}.bin": b"new" for n in range(8)}
    for key, data in old.items():
        http_ws.put(key, data)

    def overwrite() -> None:
        for key, data in new.items():
            http_ws.put(key, data)
        http_ws.delete_dir("d")

    faults.next(CONTENT, faulty.meanwhile(overwrite))
    http_ws.fetch("d", folder)

    assert tree_at(folder) == {key.removeprefix("d/"): data for key, data in old.items()}
    assert http_ws.keys() == []


def test_16_of_a_thousand_files_one_that_times_out_is_retried_and_all_arrive(
    http_ws: epista.Workspace, faults: Faults, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_SECONDS", 2.0)
    source = folder / "source"
    source.mkdir()
    for number in range(1000):
        (source / f"{number}.bin").write_bytes(b"%d" % (number % 7) * 10)
    http_ws.put_dir("d", source)
    stalled = threading.Event()
    faults.next(FRAMES, faulty.stall(100, stalled))

    http_ws.fetch("d", folder / "dest")

    assert tree_at(folder / "dest") == tree_at(source)
    assert len(tree_at(folder / "dest")) == 1000
    # One frame has the seven different contents; the one that stalled is asked for again.
    assert (len(faults.passed(FRAMES)), len(faults.passed(CONTENT))) == (2, 0)


def test_17_of_ten_files_one_is_missing_nine_are_written_and_one_is_named(
    ws: epista.Workspace, objects: BlobStore, stored: Callable[[], set[str]], folder: Path
) -> None:
    for number in range(10):
        before = stored()
        ws.put(f"d/{number}.bin", f"seventeen {number} {ws.name}".encode())
        if number == 4:
            (lost,) = stored() - before
    objects.delete(lost)

    with pytest.raises(epista.TransferError, match=r"'d/4\.bin'") as failure:
        ws.fetch("d", folder)

    assert sorted(tree_at(folder)) == [f"{number}.bin" for number in (0, 1, 2, 3, 5, 6, 7, 8, 9)]
    statuses = {line["key"]: line["status"] for line in failure.value.results}
    assert statuses == {f"d/{number}.bin": "failed" if number == 4 else "written" for number in range(10)}
    assert [line["key"] for line in failure.value.results if line["error"]] == ["d/4.bin"]


def test_18_a_folder_marker_is_skipped_and_its_siblings_arrive(http_ws: epista.Workspace, faults: Faults, folder: Path) -> None:
    put_tree(http_ws)

    def add_marker(page: Any) -> Any:
        marker = {**page["assets"][0], "key": "d/sub/", "name": "", "size_bytes": 0}
        return {**page, "assets": [marker, *page["assets"]]}

    faults.next("/assets", faulty.rewrite(add_marker))

    http_ws.fetch("d", folder)

    assert tree_at(folder) == TREE


HOSTILE = ["d/../../x.bin", "/etc/x.bin", "d//x.bin", "d/sub/../../../x.bin", "elsewhere/x.bin", "d/./x.bin", "d/\0x.bin"]


@pytest.mark.parametrize("key", HOSTILE)
def test_19_a_hostile_listing_writes_nothing_outside_the_destination(
    http_ws: epista.Workspace, faults: Faults, folder: Path, key: str
) -> None:
    http_ws.put("d/x.bin", b"x")
    http_ws.put("d/y.bin", b"y")
    faults.next(
        "/assets", faulty.rewrite(lambda page: {**page, "assets": [{**page["assets"][0], "key": key}, *page["assets"][1:]]})
    )

    with pytest.raises(epista.TransferError) as failure:
        http_ws.fetch("d", folder / "in" / "dest")

    assert tree_at(folder) == {"in/dest/y.bin": b"y"}
    assert [line["key"] for line in failure.value.results if line["status"] == "failed"] == [key]


def test_19_no_symlink_below_the_destination_is_followed(ws: epista.Workspace, folder: Path) -> None:
    put_tree(ws)
    (folder / "outside").mkdir()
    (folder / "outside" / "b.bin").write_bytes(b"theirs")
    (folder / "dest").mkdir()
    (folder / "dest" / "sub").symlink_to(folder / "outside")
    (folder / "dest" / "a.bin").symlink_to(folder / "outside" / "b.bin")

    with pytest.raises(epista.TransferError) as failure:
        ws.fetch("d", folder / "dest")

    assert tree_at(folder / "outside") == {"b.bin": b"theirs"}
    failed = [line["key"] for line in failure.value.results if line["status"] == "failed"]
    assert failed == ["d/a.bin", "d/sub/b.bin", "d/sub/deep/c.bin"]
    assert (folder / "dest" / "empty.bin").read_bytes() == b""


def test_19_a_file_with_a_hostile_name_stays_in_its_folder(http_ws: epista.Workspace, faults: Faults, folder: Path) -> None:
    http_ws.put("x.bin", b"x")
    faults.next("/asset", faulty.rewrite(lambda asset: {**asset, "key": "..", "name": ".."}))

    with pytest.raises(epista.TransferError):
        http_ws.fetch("x.bin", folder)

    assert tree_at(folder.parent) == {
        name: data for name, data in tree_at(folder.parent).items() if name.startswith("lab-of-the-server/")
    }


def test_20_empty_files_are_created(ws: epista.Workspace, folder: Path) -> None:
    ws.put("d/empty.bin", b"")

    ws.fetch("d", folder)
    ws.fetch("d/empty.bin", folder / "alone")

    assert tree_at(folder) == {"empty.bin": b"", "alone": b""}


def test_20_ctrl_c_leaves_no_half_target(
    server: Server, http_ws: epista.Workspace, faults: Faults, start_client: StartClient, folder: Path
) -> None:
    for number in range(4):
        http_ws.put(f"d/{number}.bin", noise(3_000_000 + 8 * number))
    (folder / "0.bin").write_bytes(b"old")
    released = threading.Event()
    faults.next(CONTENT, faulty.stall(1_500_000, released), times=4)

    client = start_client("fetch", "d", folder)
    until = time.monotonic() + 30
    while sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000:
        assert time.monotonic() < until
        time.sleep(0.01)
    client.send_signal(signal.SIGINT)
    time.sleep(0.2)
    released.set()
    _, said = client.communicate(timeout=30)

    assert "KeyboardInterrupt" in said
    assert client.returncode != 0
    whole = {f"{number}.bin": noise(3_000_000 + 8 * number) for number in range(4)}
    for name, data in tree_at(folder).items():
        if not name.startswith("."):
            assert data in (whole[name], b"old")
    faults.clear()
    http_ws.fetch("d", folder)
    assert tree_at(folder) == whole


def test_21_a_missing_key_is_a_readable_key_error_with_the_nearest_key(ws: epista.Workspace, folder: Path) -> None:
    ws.put("EXP-12/cells.csv", [{"n": 1}])

    with pytest.raises(KeyError) as failure:
        ws.fetch("EXP-12/cells.cs", folder)

    assert isinstance(failure.value, epista.KeyNotFoundError)
    assert str(failure.value).startswith("no asset at 'EXP-12/cells.cs'; nearest: 'EXP-12/cells.csv'\n")
    assert failure.value.details["nearest"] == "EXP-12/cells.csv"
    for attempt in (ws.get_meta, ws, ws.get, ws.delete):
        with pytest.raises(epista.KeyNotFoundError, match=r"nearest: 'EXP-12/cells\.csv'"):
            attempt("EXP-12/cells.cs")
    with pytest.raises(epista.KeyNotFoundError):
        ws.fetch("nothing/", folder)
    assert tree_at(folder) == {}
