"""Bytes to a lab that fails on demand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from epista.client import objects
from epista.client.session import Session
from epista.client.transfer import folders, upload
from epista.client.transfer.progress import Progress
from epista.contract.errors import EpistaError, IntegrityError, TransferError, ValidationError
from tests.client.transfer.faulty import Fault, Lab

SIZE = 5 * 1024 * 1024 + 17


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "big.bin"
    file.write_bytes(os.urandom(SIZE))
    return file


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Meddler(Progress):
    """Changes a file while it is read, so many times."""

    def __init__(self, file: Path, times: int) -> None:
        super().__init__()
        self.file = file
        self.times = times

    def advance(self, moved_bytes: int) -> None:
        if self.times:
            self.times -= 1
            self.meddle()

    def meddle(self) -> None:
        with self.file.open("ab") as file:
            file.write(b"more")


class Shrinker(Meddler):
    """Cuts a file while it is read."""

    def meddle(self) -> None:
        os.truncate(self.file, 10)


class Replacer(Meddler):
    """Puts another file of the same size in its place."""

    def meddle(self) -> None:
        other = self.file.with_name("other")
        other.write_bytes(b"x" * self.file.stat().st_size)
        other.replace(self.file)


@pytest.mark.parametrize("fault", [Fault("status", 503), Fault("cut", 2_000_000)], ids=lambda fault: fault.kind)
def test_an_upload_that_breaks_is_made_again(lab: Lab, here: Session, file: Path, fault: Fault) -> None:
    lab.faults["upload"] = [fault]
    objects.put_file(here, "d/big.bin", file)
    assert lab.blobs == {sha256(file)}
    assert lab.asked == [("upload", str(SIZE))] * 2


def test_a_lab_that_received_something_else_is_not_asked_to_record_it(lab: Lab, here: Session, file: Path) -> None:
    lab.faults["upload"] = [Fault("lie")]
    with pytest.raises(IntegrityError, match="nothing was recorded"):
        objects.put_file(here, "d/big.bin", file)
    assert not lab.commits


@pytest.mark.parametrize("meddler", [Meddler, Shrinker, Replacer])
def test_a_file_that_changes_is_read_again_once(lab: Lab, here: Session, file: Path, meddler: type[Meddler]) -> None:
    assert upload.send_file(here, file, meddler(file, 1)) == sha256(file)
    with pytest.raises(TransferError, match="changed while it was read, twice"):
        upload.send_file(here, file, meddler(file, 99))
    with pytest.raises(TransferError, match="changed while it was read, twice"):
        upload.hash_file(file, meddler(file, 99))


def test_links_are_followed_and_empty_files_are_sent(lab: Lab, here: Session, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("empty")
    objects.put_file(here, "d/", tmp_path / "link")
    (commit,) = lab.commits
    assert [(wanted.key, wanted.sha256) for wanted in commit.objects] == [("d/link", hashlib.sha256().hexdigest())]


def test_folders_pipes_and_devices_are_refused_without_being_opened(here: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TransferError, match="is a folder"):
        objects.put_file(here, "d/x", tmp_path)
    with pytest.raises(TransferError, match="no regular file"):
        objects.put_file(here, "d/x", tmp_path / "pipe")
    with pytest.raises(TransferError, match="no regular file"):
        objects.put_file(here, "d/x", "/dev/null")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        objects.put_file(here, "d/x", tmp_path / "none")


def test_a_folder_sends_only_what_is_missing_and_each_content_once(lab: Lab, here: Session, tmp_path: Path) -> None:
    contents = {
        "a": b"known",
        "b": b"new",
        "c": b"new",
        "d": b"newer",
        "e": b"newest",
        "f": b"other",
        "large": b"large" * 300_000,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content.ljust(250_000))
    lab.blobs.add(sha256(tmp_path / "a"))
    objects.put_dir(here, "t", tmp_path)
    assert sorted(lab.asked) == [("frame", "4"), ("upload", "1500000")]
    (commit,) = lab.commits
    assert {wanted.key: wanted.sha256 for wanted in commit.objects} == {f"t/{name}": sha256(tmp_path / name) for name in contents}


def test_twins_of_a_file_that_changed_are_sent_too(lab: Lab, here: Session, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"same")
    files = folders.walk(tmp_path).files
    hashes = upload.hash_files(files, Progress())
    (tmp_path / "a").write_bytes(b"other")
    sent = upload.send_files(here, files, hashes, [hashes["a"]], Progress())
    assert sent == {name: sha256(tmp_path / name) for name in "abc"}
    assert lab.blobs == set(sent.values())


def test_a_folder_that_cannot_be_sent_records_nothing(lab: Lab, here: Session, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 300_000)
    lab.faults["upload"] = [Fault("lie")]
    with pytest.raises(EpistaError):
        objects.put_dir(here, "t", tmp_path)
    assert not lab.commits


def test_all_problems_of_a_folder_are_told_before_anything_is_sent(lab: Lab, here: Session, tmp_path: Path) -> None:
    (tmp_path / "good").touch()
    (tmp_path / "outside").symlink_to("/etc/passwd")
    (tmp_path / "bad\nname").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "é").touch()
    (tmp_path / "e\u0301").touch()
    with pytest.raises(ValidationError, match="because of 4 of the files") as caught:
        objects.put_dir(here, "t", tmp_path)
    found = {violation["path"]: violation["message"] for violation in caught.value.violations}
    assert "NFC" in found.pop("é", "") or "NFC" in found.pop("e\u0301")
    assert set(found) == {"outside", "bad\nname", "pipe"}
    assert not lab.asked
    assert not lab.commits


def test_many_hashes_are_asked_about_in_parts(lab: Lab, here: Session) -> None:
    hashes = [f"{number:064x}" for number in range(20_001)]
    lab.blobs = set(hashes[:5])
    assert upload.missing(here, hashes) == hashes[5:]


def test_files_that_vanish_after_the_walk_are_all_named(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    files = folders.walk(tmp_path).files
    (tmp_path / "a").unlink()
    (tmp_path / "c").unlink()
    with pytest.raises(ValidationError, match="because of 2 of the files") as caught:
        upload.hash_files(files, Progress())
    assert sorted(violation["path"] for violation in caught.value.violations) == ["a", "c"]
