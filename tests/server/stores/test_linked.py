"""What every origin of linked files must do, wherever the files lie."""

from __future__ import annotations

import os
from pathlib import Path

import obstore.store
import pytest

from epista.contract.errors import LinkedFileChangedError, UnavailableError
from epista.server.stores.blobs import CHUNK
from epista.server.stores.linked import Changed, FolderOrigin, LeftOut, Origin, Place, Roots, Seen, path_of, place_of
from tests.linking import Files, FolderFiles, RemoteFiles, in_bucket

LARGE = b"0123456789abcdef" * (3 * CHUNK // 16) + b"end"


@pytest.fixture(params=["folder", "memory", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    match request.param:
        case "folder":
            return FolderFiles(tmp_path / "root")
        case "s3":
            return in_bucket(request.getfixturevalue("bucket"))
    return RemoteFiles(obstore.store.MemoryStore())


def seen(origin: Origin, path: str) -> Seen:
    found = origin.look(path)
    assert isinstance(found, Seen), found
    return found


def read(origin: Origin, one: Seen, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(origin.read(one.path, one.tag, start, one.size if stop is None else stop))


def paths(origin: Origin, folder: str = "", after: str = "") -> list[str]:
    return [one.path for one in origin.walk(folder, after)]


def test_what_lies_there_is_read_whole_and_in_parts(files: Files) -> None:
    files.write("run7/large.bin", LARGE)
    files.write("run7/empty.bin", b"")

    one = seen(files.origin, "run7/large.bin")
    assert one.size == len(LARGE)
    assert read(files.origin, one) == LARGE
    assert read(files.origin, one, CHUNK - 3, CHUNK + 5) == LARGE[CHUNK - 3 : CHUNK + 5]
    assert read(files.origin, seen(files.origin, "run7/empty.bin")) == b""
    assert all(len(piece) <= CHUNK for piece in files.origin.read(one.path, one.tag, 0, one.size))


def test_everything_below_a_folder_is_walked_from_anywhere(files: Files) -> None:
    names = ["run7/a.csv", "run7/b/1.csv", "run7/b/c/2.csv", "run7/b.csv", "run7/é.csv"]
    for name in [*names, "run70/x.csv", "top.csv"]:
        files.write(name, name.encode())

    found = paths(files.origin, "run7")
    assert sorted(found) == sorted(names)
    assert sorted(paths(files.origin)) == sorted([*names, "run70/x.csv", "top.csv"])
    for count, name in enumerate(found, start=1):
        assert paths(files.origin, "run7", name) == found[count:]
    assert paths(files.origin, "nowhere") == []


def test_what_is_no_file_is_not_there(files: Files) -> None:
    files.write("run7/a.csv", b"a")

    assert files.origin.look("run7/b.csv") is None
    assert files.origin.look("run7") is None
    assert files.origin.look("run7/a.csv/b") is None


@pytest.mark.parametrize("data", [b"other", b"no longer of the same size"], ids=["same size", "longer"])
def test_another_file_is_never_taken_for_it(files: Files, data: bytes) -> None:
    files.write("a.csv", b"bytes")
    before = seen(files.origin, "a.csv")
    files.write("a.csv", data)

    for start, stop in ((0, 5), (2, 4), (0, 0)):
        with pytest.raises(Changed, match="changed"):
            list(files.origin.read("a.csv", before.tag, start, stop))
    assert seen(files.origin, "a.csv").tag != before.tag
    assert read(files.origin, seen(files.origin, "a.csv")) == data


def test_a_file_that_is_gone_is_not_read(files: Files) -> None:
    files.write("a.csv", b"bytes")
    before = seen(files.origin, "a.csv")
    files.remove("a.csv")

    for stop in (5, 0):
        with pytest.raises(Changed, match="is gone"):
            list(files.origin.read("a.csv", before.tag, 0, stop))


def test_a_file_that_is_as_it_was_has_the_same_tag(files: Files) -> None:
    files.write("a.csv", b"bytes")

    assert seen(files.origin, "a.csv") == seen(files.origin, "a.csv")
    assert [*files.origin.walk("", "")] == [seen(files.origin, "a.csv")]


# Folders alone


@pytest.fixture
def folder(tmp_path: Path) -> FolderFiles:
    return FolderFiles(tmp_path / "root")


def test_no_symbolic_link_is_followed(folder: FolderFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    folder.write("inside.txt", b"inside")
    (folder.root / "file").symlink_to(outside / "secret.txt")
    (folder.root / "folder").symlink_to(outside)
    (folder.root / "here").symlink_to("inside.txt")

    assert set(folder.origin.walk("", "")) == {
        LeftOut("file", "is a symbolic link"),
        LeftOut("folder", "is a symbolic link"),
        LeftOut("here", "is a symbolic link"),
        seen(folder.origin, "inside.txt"),
    }
    assert folder.origin.look("folder/secret.txt") is None
    assert paths(folder.origin, "folder") == []
    tag = seen(FolderOrigin("outside", outside), "secret.txt").tag
    for path in ("file", "folder/secret.txt", "../outside/secret.txt/.."):
        with pytest.raises(Changed):
            list(folder.origin.read(path, tag, 0, 6))


def test_a_link_that_took_the_place_of_a_folder_is_not_followed(folder: FolderFiles, tmp_path: Path) -> None:
    folder.write("run7/a.csv", b"bytes")
    before = seen(folder.origin, "run7/a.csv")
    (folder.root / "run7").rename(tmp_path / "moved")
    (folder.root / "run7").symlink_to(tmp_path / "moved")

    with pytest.raises(Changed):
        list(folder.origin.read("run7/a.csv", before.tag, 0, 5))


def test_pipes_and_unreadable_files_are_left_out_and_never_waited_for(folder: FolderFiles) -> None:
    os.mkfifo(folder.root / "pipe")
    folder.write("a.csv", b"bytes")
    tag = seen(folder.origin, "a.csv").tag

    assert folder.origin.look("pipe") == LeftOut("pipe", "is no ordinary file")
    with pytest.raises(Changed):
        list(folder.origin.read("pipe", tag, 0, 5))
    if os.geteuid():  # nothing is unreadable to root
        (folder.root / "a.csv").chmod(0)
        assert folder.origin.look("a.csv") == LeftOut("a.csv", "cannot be read by the server")
        with pytest.raises(Changed, match="can no longer be read"):
            list(folder.origin.read("a.csv", tag, 0, 5))


def test_a_file_that_changes_while_it_is_read_gives_no_byte_of_the_change(folder: FolderFiles) -> None:
    folder.write("large.bin", LARGE)
    one = seen(folder.origin, "large.bin")
    pieces = folder.origin.read(one.path, one.tag, 0, one.size)

    first = next(pieces)
    with (folder.root / "large.bin").open("r+b") as file:
        file.seek(CHUNK)
        file.write(b"x")
    os.utime(folder.root / "large.bin")

    assert first == LARGE[:CHUNK]
    with pytest.raises(Changed, match="changed"):
        next(pieces)


def test_a_root_that_is_not_mounted_is_not_a_root_without_files(tmp_path: Path) -> None:
    origin = FolderOrigin("archive", tmp_path / "nowhere")

    with pytest.raises(UnavailableError, match="'archive' is not there now"):
        list(origin.walk("", ""))
    with pytest.raises(UnavailableError):
        origin.look("a.csv")


def test_a_place_is_told_by_its_root_and_path_alone(folder: FolderFiles) -> None:
    folder.write("a:b.csv", b"bytes")
    one = seen(folder.origin, "a:b.csv")
    place = Place("archive", one.tag, one.path)
    roots = Roots({"archive": folder.origin})

    assert place_of(str(place)) == place
    assert path_of(str(place)) == "archive/a:b.csv"
    assert b"".join(roots.read(str(place), 0, 5)) == b"bytes"
    folder.remove("a:b.csv")
    with pytest.raises(LinkedFileChangedError, match=r"^archive/a:b\.csv is gone since it was linked") as found:
        list(roots.read(str(place), 0, 5))
    assert str(folder.root) not in str(found.value)
    with pytest.raises(UnavailableError, match="root 'archive'"):
        list(Roots({}).read(str(place), 0, 5))
