"""Bytes from a lab that fails on demand."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from epista.client import objects
from epista.client.session import Session
from epista.client.transfer import destinations, disk, download
from epista.client.transfer.download import Job
from epista.client.transfer.progress import Progress, Stopped
from epista.contract.errors import (
    IntegrityError,
    KeyNotFoundError,
    ServerError,
    StorageFullError,
    TransferError,
    UnreachableError,
)
from tests.client.transfer.faulty import Fault, Lab

SIZE = 5 * 1024 * 1024 + 17


@pytest.fixture
def content(lab: Lab) -> bytes:
    lab.contents["d/big.bin"] = os.urandom(SIZE)
    return lab.contents["d/big.bin"]


@pytest.fixture(params=["near", "far"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Over one connection, and in ranges over several."""
    if request.param == "far":
        monkeypatch.setattr(download, "FAR_SECONDS", 0.0)
        monkeypatch.setattr(download, "RANGE_BYTES", 1024 * 1024)
    else:
        monkeypatch.setattr(download, "FAR_SECONDS", 1e9)
    found: str = request.param
    return found


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(destinations.PART_SUFFIX)]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("cut", 0)],
        [Fault("cut", 1_500_000), Fault("cut", 1_500_001), Fault("reset", 4_000_000)],
        [Fault("reset", 2_000_000)],
        [Fault("stall", 3_000_000)],
        [Fault("status", 503), Fault("cut", 2_000_000), Fault("status", 503)],
        [Fault("status", 500), Fault("status", 500)],
        [Fault("cut", 2_000_000), Fault("no_range")],
        [Fault("flip", 4_000_000)],
    ],
    ids=lambda faults: "+".join(fault.kind for fault in faults),
)
def test_a_transfer_that_breaks_is_taken_up_again(
    lab: Lab, here: Session, content: bytes, tmp_path: Path, faults: list[Fault], way: str
) -> None:
    lab.faults["d/big.bin"] = list(faults)
    assert objects.fetch(here, "d/big.bin", tmp_path).read_bytes() == content
    assert not lab.faults["d/big.bin"]
    assert not parts(tmp_path)


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
@pytest.mark.parametrize("mebibytes", [pytest.param(20, id="20 MiB"), pytest.param(200, id="200 MiB", marks=pytest.mark.soak)])
def test_a_transfer_that_is_cut_at_every_quarter_arrives(
    lab: Lab,
    here: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Literal["cut", "reset", "stall"],
    mebibytes: int,
    way: str,
) -> None:
    size = mebibytes * 1024 * 1024
    monkeypatch.setattr(download, "RANGE_BYTES", size // 20)
    # In ranges, all five may hit the same one.
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.01,) * 6)
    lab.contents["d/big.bin"] = os.urandom(size)
    lab.faults["d/big.bin"] = [Fault(kind, size * quarter // 4) for quarter in (0, 1, 2, 3)] + [Fault(kind, size - 1)]

    objects.fetch(here, "d/big.bin", tmp_path)

    assert (tmp_path / "big.bin").read_bytes() == lab.contents["d/big.bin"]
    assert not lab.faults["d/big.bin"]
    assert not parts(tmp_path)
    # A reset overtakes what was sent just before it, and with a stall up to one piece is lost.
    if way == "near" and kind == "cut":
        starts = [0 if wanted is None else int(wanted[6:].partition("-")[0]) for _, wanted in lab.asked]
        assert starts == [0, 0, *(size * quarter // 4 for quarter in (1, 2, 3)), size - 1]


def test_a_far_lab_is_asked_for_ranges_over_several_connections(
    lab: Lab, here: Session, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RANGE_BYTES", 1024 * 1024)
    monkeypatch.setattr(download, "FAR_SECONDS", 0.0)

    objects.fetch(here, "d/big.bin", tmp_path)

    mebibyte = 1024 * 1024
    spans = [(start, min(start + mebibyte, SIZE) - 1) for start in range(0, SIZE, mebibyte)]
    assert sorted(lab.asked) == sorted(("d/big.bin", f"bytes={first}-{last}") for first, last in spans)
    assert here.wire.round_trip_seconds > 0


def test_what_arrived_in_ranges_is_a_good_beginning(
    lab: Lab, here: Session, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RANGE_BYTES", 1024 * 1024)
    monkeypatch.setattr(download, "FAR_SECONDS", 0.0)
    target = tmp_path / "big.bin"
    # The second range breaks for good; what of the others has come is given up, as nothing stands before it.
    lab.failing = ("d/big.bin", 1024 * 1024 + 500_000, 2 * 1024 * 1024)
    with pytest.raises(UnreachableError):
        objects.fetch(here, "d/big.bin", target)
    (part,) = parts(tmp_path)
    have = part.stat().st_size
    assert part.read_bytes() == content[:have]
    assert have == 1024 * 1024 + 500_000

    lab.failing = None
    lab.asked.clear()
    objects.fetch(here, "d/big.bin", target)

    assert target.read_bytes() == content
    assert min(int(str(wanted)[6:].partition("-")[0]) for _, wanted in lab.asked) == have


def test_what_arrived_is_not_transferred_again(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    lab.faults["d/big.bin"] = [Fault("cut", 3_000_000)]
    objects.fetch(here, "d/big.bin", tmp_path)
    assert lab.asked == [("d/big.bin", None), ("d/big.bin", f"bytes=3000000-{SIZE - 1}")]


def test_a_failed_fetch_leaves_the_old_file_and_the_next_run_brings_only_the_rest(
    lab: Lab, here: Session, content: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "big.bin"
    target.write_bytes(b"old")
    lab.faults["d/big.bin"] = [Fault("cut", 3_000_000), *[Fault("cut", 0)] * 4]
    with pytest.raises(UnreachableError):
        objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == b"old"
    (part,) = parts(tmp_path)
    assert part == destinations.part_of(target, hashlib.sha256(content).hexdigest())
    lab.faults.clear()
    lab.asked.clear()
    objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == content
    assert lab.asked == [("d/big.bin", f"bytes=3000000-{SIZE - 1}")]
    assert not parts(tmp_path)


def test_a_fetch_that_was_killed_is_continued_by_the_next(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    target = tmp_path / "big.bin"
    lab.faults["d/big.bin"] = [Fault("stall", 3_000_000)]
    code = (
        "import epista; from epista.client import objects\n"
        f"objects.fetch(epista.Session({here.url!r}, token='faulty', workspace='lab'), 'd/big.bin', {str(target)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 30
        while not parts(tmp_path) or parts(tmp_path)[0].stat().st_size < 2_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not target.exists()
    have = parts(tmp_path)[0].stat().st_size
    lab.asked.clear()
    objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == content
    assert lab.asked == [("d/big.bin", f"bytes={have}-{SIZE - 1}")]


@pytest.mark.parametrize("left", [b"garbage", b"g" * SIZE, b"g" * (SIZE + 1)], ids=["short", "whole", "long"])
def test_a_bad_part_starts_again_once(lab: Lab, here: Session, content: bytes, tmp_path: Path, left: bytes) -> None:
    target = tmp_path / "big.bin"
    destinations.part_of(target, hashlib.sha256(content).hexdigest()).write_bytes(left)
    objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == content
    assert not parts(tmp_path)


def test_bytes_that_stay_wrong_never_reach_the_target(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    target = tmp_path / "big.bin"
    target.write_bytes(b"old")
    lab.faults["d/big.bin"] = [Fault("flip", SIZE - 1)] * 2
    with pytest.raises(IntegrityError, match="nothing was replaced"):
        objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == b"old"
    assert not parts(tmp_path)
    lab.faults["d/big.bin"] = [Fault("flip", 0)] * 2
    with pytest.raises(IntegrityError):
        objects.deserialize(here, "d/big.bin", format="bytes")


def test_a_part_that_somebody_else_is_at_is_left_to_them(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    target = tmp_path / "big.bin"
    part = destinations.part_of(target, hashlib.sha256(content).hexdigest())
    with io.FileIO(part, "w") as theirs:
        assert disk.lock(theirs)
        objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == content
    assert parts(tmp_path) == [part]


def test_a_link_planted_as_a_part_is_not_written_through(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    target, precious = tmp_path / "big.bin", tmp_path / "precious"
    precious.write_text("precious")
    destinations.part_of(target, hashlib.sha256(content).hexdigest()).symlink_to(precious)
    objects.fetch(here, "d/big.bin", target)
    assert target.read_bytes() == content
    assert precious.read_text() == "precious"


def test_two_fetches_of_one_file_at_once_both_succeed(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    threads = [threading.Thread(target=objects.fetch, args=(here, "d/big.bin", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "big.bin").read_bytes() == content
    assert not parts(tmp_path)


def test_a_second_run_writes_nothing_and_keeps_times(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents |= {f"d/{n}": bytes([n]) * 100 for n in range(5)}
    objects.fetch(here, "d", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    lab.asked.clear()
    objects.fetch(here, "d/", tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert not lab.asked


def test_an_empty_file_is_created(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents["d/empty"] = b""
    assert objects.fetch(here, "d/empty", tmp_path).read_bytes() == b""


def test_one_failure_in_ten_is_named_and_nine_arrive(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents |= {f"d/{n}": os.urandom(1000) for n in range(10)}
    lab.contents["d/marker/"] = b""
    lab.faults["d/3"] = [Fault("status", 500)] * 9
    with pytest.raises(TransferError, match=r"1 of 11 files did not arrive: 'd/3'") as caught:
        objects.fetch(here, "d", tmp_path)
    results = {line["key"]: line for line in caught.value.results}
    assert [line["status"] for line in results.values()].count("written") == 9
    assert (results["d/3"]["status"], results["d/3"]["code"]) == ("failed", ServerError.code)
    assert results["d/marker/"]["status"] == "skipped"
    assert len(list(tmp_path.iterdir())) == 9


def test_one_timeout_in_many_files_is_made_good(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents |= {f"d/{n:03}": os.urandom(1000) for n in range(200)}
    lab.faults["d/117"] = [Fault("stall", 500)]
    objects.fetch(here, "d", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        key.removeprefix("d/"): content for key, content in lab.contents.items()
    }


def test_a_hostile_listing_writes_nothing_outside(lab: Lab, here: Session, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "link").symlink_to(tmp_path)
    evil = ["d/../x", "d//etc/x", "/etc/epista-x", "../x?", "d/link/x", "d/link/new/x", "d/./x", "d/a/../../x", "d/\x00", "e/x?"]
    lab.contents |= dict.fromkeys([*evil, "d/good"], b"evil")
    with pytest.raises(TransferError) as caught:
        objects.fetch(here, "d", dest)
    status = {line["key"]: line["status"] for line in caught.value.results}
    assert status.pop("d/good") == "written"
    assert set(status.values()) == {"failed"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dest", "good", "link"]


def test_a_hostile_hash_is_refused(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents["d/x"] = b"evil"
    lab.listed_sha256["d/x"] = "../../x"
    with pytest.raises(IntegrityError, match="sha256"):
        objects.fetch(here, "d", tmp_path)


def test_nothing_is_asked_for_when_a_file_is_in_the_way(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents |= {"d/a": b"a", "d/sub/b": b"b"}
    (tmp_path / "sub").touch()
    with pytest.raises(TransferError, match="where a folder must be"):
        objects.fetch(here, "d", tmp_path)
    assert not lab.asked
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_a_server_that_is_gone_is_not_waited_for_file_by_file(here: Session, tmp_path: Path) -> None:
    progress = Progress()
    progress.unanswered = download.GONE_AFTER
    wanted = download.Pinned("x", "ve_", 1, "ab" * 32, "bytes", None)
    with pytest.raises(UnreachableError, match="was not asked for"):
        download.to_file(here, download.Job(wanted, tmp_path / "x", tmp_path), progress)


def test_stopping_leaves_no_half_target(lab: Lab, here: Session, content: bytes, tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, moved_bytes: int) -> None:
            super().advance(moved_bytes)
            self.stop()

    wanted = download.Pinned(
        "d/big.bin", lab.asset("d/big.bin", content).version, SIZE, hashlib.sha256(content).hexdigest(), "bytes", None
    )
    with pytest.raises(Stopped):
        download.to_files(here, [download.Job(wanted, tmp_path / "big.bin", tmp_path)], Impatient())
    assert not (tmp_path / "big.bin").exists()


def test_ctrl_c_leaves_no_half_target(
    lab: Lab, here: Session, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        objects.fetch(here, "d/big.bin", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_says_so(lab: Lab, here: Session, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(StorageFullError, match="no room left"):
        objects.fetch(here, "d/big.bin", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(
    lab: Lab, here: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "hidden")

    lab.contents["d/x"] = b"x"
    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(TransferError, match=r"new/x': Permission denied"):
        objects.fetch(here, "d/x", tmp_path / "new" / "x")


def test_a_missing_key_has_a_readable_error(here: Session, tmp_path: Path) -> None:
    for key in ("d/none", "d/none/"):
        with pytest.raises(KeyNotFoundError, match="d/none") as caught:
            objects.fetch(here, key, tmp_path)
        assert not str(caught.value).startswith(("'", '"'))


def test_a_stream_reads_by_range_and_verifies_what_it_reads_whole(lab: Lab, here: Session, content: bytes) -> None:
    with objects.open(here, "d/big.bin") as stream:
        stream.seek(-10, os.SEEK_END)
        assert stream.read() == content[-10:]
        assert stream.seek(2_000_000) == 2_000_000
        assert stream.read(100) == content[2_000_000:2_000_100]
        assert stream.tell() == 2_000_100
    assert lab.asked[0] == ("d/big.bin", f"bytes={SIZE - 10}-{SIZE - 1}")
    lab.faults["d/big.bin"] = [Fault("cut", 1_000_000)]
    with objects.open(here, "d/big.bin") as stream:
        assert stream.read() == content
    lab.faults["d/big.bin"] = [Fault("flip", 5)]
    with objects.open(here, "d/big.bin") as stream, pytest.raises(IntegrityError):
        stream.read()


def small_files(lab: Lab, here: Session, tmp_path: Path) -> list[Job]:
    lab.contents = {f"d/{number}": f"content {number}".encode() for number in range(10)}
    return [
        Job(objects.pinned(here, asset, asset.version, None), tmp_path / asset.key, tmp_path)
        for asset in (lab.asset(key, content) for key, content in lab.contents.items())
    ]


@pytest.mark.parametrize("at", [0, 3, 400, 450])
@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_frame_that_breaks_or_lies_costs_no_file(lab: Lab, here: Session, tmp_path: Path, kind: Any, at: int) -> None:
    jobs = small_files(lab, here, tmp_path)
    lab.faults["frame"] = [Fault(kind, at)]
    lines = download.to_files(here, jobs, Progress())
    assert [line["status"] for line in lines] == ["written"] * 10
    assert {job.wanted.key: job.target.read_bytes() for job in jobs} == lab.contents
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {str(number) for number in range(10)}


def test_what_a_frame_does_not_have_is_asked_for_by_itself(lab: Lab, here: Session, tmp_path: Path) -> None:
    jobs = small_files(lab, here, tmp_path)
    lab.faults["d/3"] = [Fault("flip", 1), Fault("flip", 1)]
    lines = download.to_files(here, jobs, Progress())
    assert {line["key"]: line["code"] for line in lines if line["status"] == "failed"} == {"d/3": "integrity"}
    assert lab.asked == [("frame", "9"), ("d/3", None), ("d/3", None)]


def test_one_content_at_many_keys_is_asked_for_once(lab: Lab, here: Session, tmp_path: Path) -> None:
    lab.contents = {f"d/{number}": b"all alike" for number in range(10)}
    wanted = [objects.pinned(here, asset, asset.version, None) for asset in (lab.asset(*one) for one in lab.contents.items())]
    download.to_files(here, [Job(one, tmp_path / one.key, tmp_path) for one in wanted], Progress())
    assert {path.read_bytes() for path in (tmp_path / "d").iterdir()} == {b"all alike"}
    assert len(dict(download.to_memories(here, wanted, Progress()))) == 10
    assert lab.asked == [("frame", "1"), ("frame", "1")]
