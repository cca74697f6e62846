"""Blobs in a folder: what the life of one object leaves behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from epista.server.stores.local import LocalBlobs


def test_a_write_that_goes_on_after_a_discard_reaches_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = LocalBlobs(tmp_path).create()
    begun, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(fd: int, data: memoryview) -> int:
        begun.set()
        go_on.wait(10)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    writing = threading.Thread(target=incoming.write, args=(b"cells",))
    writing.start()
    begun.wait(10)
    discarding = threading.Thread(target=incoming.discard)
    discarding.start()
    discarding.join(0.1)
    with (tmp_path / "other").open("wb"):
        go_on.set()
        writing.join(10)
        discarding.join(10)

    assert (tmp_path / "other").read_bytes() == b""
    assert list((tmp_path / "staging").iterdir()) == []
    incoming.write(b"more")


def test_the_entry_of_a_folder_is_durable_before_the_first_object_in_it_whoever_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path)
    incoming = blobs.create()
    (blobs.root / incoming.name[:2]).mkdir()
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    incoming.write(b"cells")
    incoming.finish()

    assert synced == [str(tmp_path / place) for place in (f"staging/{incoming.name}", "blobs", f"blobs/{incoming.name[:2]}")]
