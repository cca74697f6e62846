"""Large contents in parts: whatever breaks, only what is missing is sent again."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import epista
from epista.client import uploads
from epista.client.transfer import parts
from epista.contract.errors import EpistaError, TransferError
from epista.contract.uploads import GetUpload, UploadParts
from epista.server.config import Config
from tests.makers import Api, Server, sha256

PART = 64 * 1024
COUNT = 24
CONTENT = random.Random(5).randbytes(COUNT * PART - 1234)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(lab=str(tmp_path / "lab-of-the-server"), part_bytes=PART, max_incomplete_uploads=4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PARTS_FROM_BYTES", PART)
    monkeypatch.setattr(parts, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "large.bin"
    file.write_bytes(CONTENT)
    return file


class Seen:
    """What goes over the wire, and what is to go wrong there."""

    def __init__(self, ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts: list[int] = []
        self.before: Callable[[int], object] = lambda number: None
        self._send = ws.wire.send
        monkeypatch.setattr(ws.wire, "send", self)

    def __call__(self, name: str, request: Any, **given: Any) -> Any:
        if name == "uploads.put_part":
            self.before(request.number)
            self.parts.append(request.number)
        return self._send(name, request, **given)


@pytest.fixture
def seen(http_ws: epista.Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    yield Seen(http_ws, monkeypatch)


class Killed(BaseException):
    """The client is no more."""


def break_at(seen: Seen, count: int) -> None:
    """Let the client die when it has sent so many parts."""

    def before(number: int) -> None:
        if len(seen.parts) >= count:
            raise Killed

    seen.before = before


def interrupted(ws: epista.Workspace, seen: Seen, file: Path, count: int) -> set[int]:
    """Send a part of *file*; return what is there."""
    break_at(seen, count)
    with pytest.raises(Killed):
        ws.put_file("large.bin", file)
    seen.before = lambda number: None
    seen.parts.clear()
    (upload,) = uploads.find(ws)
    found = ws.wire.call("uploads.get", GetUpload(workspace=ws.name, upload=upload.id), reply=UploadParts)
    return {part.number for part in found.parts}


def test_a_large_file_goes_in_parts(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    assert http_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)

    assert sorted(seen.parts) == list(range(1, COUNT + 1))
    assert http_ws("large.bin", format="bytes") == CONTENT
    assert uploads.find(http_ws) == ()


def test_large_bytes_go_in_parts(http_ws: epista.Workspace, seen: Seen) -> None:
    assert http_ws.put("large.bin", CONTENT).sha256 == sha256(CONTENT)

    assert len(seen.parts) == COUNT
    assert http_ws("large.bin", format="bytes") == CONTENT


@pytest.mark.parametrize("where", ["same", "copied"])
def test_a_second_run_sends_only_what_is_missing(
    http_ws: epista.Workspace, seen: Seen, file: Path, tmp_path: Path, where: str
) -> None:
    there = interrupted(http_ws, seen, file, 10)
    if where == "copied":
        file = Path(shutil.move(file, tmp_path / "renamed.bin"))
        os.utime(file)

    asset = http_ws.put_file("large.bin", file)

    assert asset.sha256 == sha256(CONTENT)
    assert 6 <= len(there) <= 14
    assert sorted(seen.parts) == sorted(set(range(1, COUNT + 1)) - there)


def test_bytes_from_memory_go_on_too(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    there = interrupted(http_ws, seen, file, 10)

    assert http_ws.put("large.bin", CONTENT).sha256 == sha256(CONTENT)
    assert sorted(seen.parts) == sorted(set(range(1, COUNT + 1)) - there)


def test_a_file_that_has_changed_since_is_sent_anew(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    there = interrupted(http_ws, seen, file, 10)
    changed = bytearray(CONTENT)
    changed[(min(there) - 1) * PART] ^= 1
    file.write_bytes(changed)

    assert http_ws.put_file("large.bin", file).sha256 == sha256(bytes(changed))
    assert sorted(seen.parts) == list(range(1, COUNT + 1))


def test_a_file_that_has_changed_where_nothing_was_sent_yet_goes_on(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    there = interrupted(http_ws, seen, file, 10)
    changed = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    file.write_bytes(changed)

    assert http_ws.put_file("large.bin", file).sha256 == sha256(changed)
    assert len(seen.parts) == COUNT - len(there)


def test_whoever_meets_another_in_one_upload_begins_their_own(
    http_ws: epista.Workspace, seen: Seen, file: Path, server: Server
) -> None:
    there = interrupted(http_ws, seen, file, 6)
    (upload,) = uploads.find(http_ws)
    free = next(number for number in range(COUNT, 0, -1) if number not in there)
    done: list[int] = []

    def meddle(number: int) -> None:
        if not done:
            done.append(number)
            size = min(PART, len(CONTENT) - (free - 1) * PART)
            answer = server.api().call("PUT", f"~/uploads/{upload.id}/parts/{free}", data=bytes(size))
            assert answer.status_code == 200, answer.text

    seen.before = meddle

    assert http_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)
    assert http_ws("large.bin", format="bytes") == CONTENT


def test_an_upload_that_is_given_up_meanwhile_is_begun_again(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    def give_up(number: int) -> None:
        if number == 12 and (found := uploads.find(http_ws)) and len(seen.parts) < COUNT:
            uploads.abort(http_ws, found[0].id)

    seen.before = give_up

    assert http_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)


def test_what_the_lab_has_already_is_not_sent_to_the_end(
    http_ws: epista.Workspace, seen: Seen, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http_ws.put_file("large.bin", file)
    seen.parts.clear()
    hashed = parts._Transfer._hash
    known: list[parts._Transfer] = []

    def note(transfer: parts._Transfer) -> None:
        hashed(transfer)
        known.append(transfer)

    monkeypatch.setattr(parts._Transfer, "_hash", note)
    # To a far lab, hashing is faster than sending.
    seen.before = lambda number: None if known else time.sleep(0.2)

    assert http_ws.put_file("again.bin", file).sha256 == sha256(CONTENT)
    assert len(seen.parts) <= parts.AT_ONCE
    assert uploads.find(http_ws) == ()


def test_with_no_more_uploads_allowed_it_goes_in_one_piece(
    http_ws: epista.Workspace, seen: Seen, file: Path, server: Server
) -> None:
    for size in range(1, 5):
        server.api().ok(server.api().post("~/uploads", size_bytes=size))

    assert http_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)
    assert seen.parts == []


@pytest.mark.parametrize("how", ["grows", "shrinks", "is replaced"])
def test_a_file_that_changes_while_it_is_sent_is_never_recorded_torn(
    http_ws: epista.Workspace, seen: Seen, file: Path, how: str
) -> None:
    times: list[int] = []

    def change(number: int) -> None:
        if number == COUNT // 2 and len(times) < 1:
            times.append(number)
            if how == "grows":
                with file.open("ab") as end:
                    end.write(b"more")
            elif how == "shrinks":
                os.truncate(file, PART * 3)
            else:
                other = file.with_name("other")
                other.write_bytes(CONTENT[::-1])
                other.replace(file)

    seen.before = change

    assert http_ws.put_file("large.bin", file).sha256 == sha256(file.read_bytes())
    assert http_ws("large.bin", format="bytes") == file.read_bytes()


def test_a_file_that_changes_all_the_time_is_an_error(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    def change(number: int) -> None:
        with file.open("ab") as end:
            end.write(b"more")

    seen.before = change

    with pytest.raises(TransferError, match="changed while it was read, twice"):
        http_ws.put_file("large.bin", file)
    assert list(http_ws.keys()) == []


def test_bytes_that_are_damaged_on_the_way_are_sent_again(
    http_ws: epista.Workspace, seen: Seen, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = parts._Body.read
    damaged: list[int] = []

    def damage(body: parts._Body, size: int = -1) -> bytes:
        piece = read(body, size)
        if len(damaged) < 2 and piece:
            damaged.append(1)
            return bytes([piece[0] ^ 1]) + piece[1:]
        return piece

    monkeypatch.setattr(parts._Body, "read", damage)

    assert http_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)
    assert len(seen.parts) == COUNT + 2


def test_a_lab_that_does_not_come_back_is_given_up(
    http_ws: epista.Workspace, seen: Seen, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PATIENCE_SECONDS", 0.1)

    def fail(number: int) -> None:
        raise epista.UnreachableError("no answer")

    seen.before = fail

    with pytest.raises(EpistaError, match="no answer"):
        http_ws.put_file("large.bin", file)
    assert [upload.received_bytes for upload in uploads.find(http_ws)] == [0]


def test_the_progress_counts_what_was_there_and_never_more_than_all(http_ws: epista.Workspace, seen: Seen, file: Path) -> None:
    from epista.client.transfer import upload
    from epista.client.transfer.progress import Progress

    class Counted(Progress):
        def __init__(self) -> None:
            super().__init__()
            self.moved = self.most = 0
            self.notes: list[str] = []

        def advance(self, moved_bytes: int) -> None:
            super().advance(moved_bytes)
            with self._lock:
                self.moved += moved_bytes
                self.most = max(self.most, self.moved)

        def note(self, text: str) -> None:
            self.notes.append(text)

    interrupted(http_ws, seen, file, 10)
    progress = Counted()

    upload.send_file(http_ws, file, progress)

    assert (progress.moved, progress.most) == (len(CONTENT), len(CONTENT))
    assert "continues an upload of which" in progress.notes[0]


def test_an_embedded_lab_takes_large_files_from_disk_to_disk(embedded_ws: epista.Workspace, file: Path) -> None:
    assert embedded_ws.put_file("large.bin", file).sha256 == sha256(CONTENT)
    assert uploads.find(embedded_ws) == ()


def test_an_api_of_ones_own_can_abort(server: Server, http_ws: epista.Workspace) -> None:
    api: Api = server.api()
    made = api.ok(api.post("~/uploads", size_bytes=10))["id"]

    uploads.abort(http_ws, made)

    assert uploads.find(http_ws, everyone=True) == ()
