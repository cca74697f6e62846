"""The bucket as a file system: what a user of pandas and its like would notice beyond fsspec's own suite."""

from __future__ import annotations

import errno
import gc
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import epista
from epista.client import filesystem
from epista.client.filesystem import EpistaFileSystem
from tests.conftest import Thread
from tests.makers import Server

ODD = "EXP-1/a #?%41 é\\x [1] *.csv"


class Counting:
    """Counts the requests on their way to the test's server, by what they ask, and the bytes of contents that come back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.asked: Counter[str] = Counter()
        self.content_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        self.asked[name] += 1

        async def counted(message: Message) -> None:
            if name == "content" and message["type"] == "http.response.body":
                self.content_bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)


@pytest.fixture
def counting(server: Server, server_thread: Thread) -> Counting:
    counting = Counting(server_thread.delegate.app)
    server_thread.delegate.app = counting
    return counting


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    fsspec.register_implementation("epista", EpistaFileSystem, clobber=True)
    yield
    EpistaFileSystem.clear_instance_cache()


@pytest.fixture
def fs(http_ws: epista.Workspace) -> EpistaFileSystem:
    return EpistaFileSystem(session=http_ws)


@pytest.fixture
def current(http_ws: epista.Workspace) -> Iterator[epista.Workspace]:
    epista.use(http_ws)
    yield http_ws
    epista.use(None)


# Where


def test_without_options_it_is_the_current_workspace(current: epista.Workspace) -> None:
    current.put("EXP-1/a.txt", "hello")

    with fsspec.open("epista://EXP-1/a.txt", "rt") as file:
        assert file.read() == "hello"


def test_with_options_it_is_the_place_they_name(server: Server, http_ws: epista.Workspace) -> None:
    server.api().create_workspace("other")
    options = {"location": server.url, "token": server.manager, "workspace": "other", "experiment": "EXP-9"}

    with fsspec.open("epista://a.txt", "wb", **options) as file:
        file.write(b"hello")

    fs = fsspec.filesystem("epista", **options)
    assert fs.find("") == ["EXP-9/a.txt"]
    assert fs.cat("a.txt") == fs.cat("EXP-9/a.txt") == b"hello"
    assert fs.info("a.txt")["name"] == "EXP-9/a.txt"
    assert http_ws.keys() == []


def test_a_lab_in_a_folder_is_opened_once_for_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sessions = set()

    def work(number: int) -> None:
        fs = fsspec.filesystem("epista", location="./lab")
        fs.pipe(f"{number}.txt", b"x")
        sessions.add(fs._here())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(sessions) == 1
    assert fsspec.filesystem("epista", location="lab").find("") == ["0.txt", "1.txt", "2.txt", "3.txt"]
    monkeypatch.chdir("/")
    assert fsspec.filesystem("epista", location=str(tmp_path / "lab"))._here() in sessions
    for session in sessions:
        session.close()


def test_no_token_is_shown_or_pickled(server: Server) -> None:
    fs = EpistaFileSystem(server.url, token=server.manager, workspace="lab")
    fs.pipe("a.txt", b"hello")

    with fs.open("a.txt") as file:
        shown = [repr(fs), str(fs.storage_options), fs.to_json(), str(fs.to_dict()), repr(file), str(fs.__dask_tokenize__())]
        pickled = [pickle.dumps(fs), pickle.dumps(file), pickle.dumps(fsspec.core.OpenFile(fs, "a.txt"))]

    assert server.url in repr(fs)
    assert not [text for text in shown if server.manager in text]
    assert not [data for data in pickled if server.manager.encode() in data]


def test_a_copy_made_in_this_process_is_the_same_place_and_needs_no_credentials(server: Server) -> None:
    fs = EpistaFileSystem(server.url, token=server.manager)
    fs.pipe("a.txt", b"hello")

    copy = pickle.loads(pickle.dumps(fs))

    assert (copy, hash(copy), copy.fsid) == (fs, hash(fs), fs.fsid)
    assert copy.cat("a.txt") == b"hello"


READ = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).cat('a.txt').decode())"


def test_another_process_finds_its_own_credentials(server: Server) -> None:
    fs = EpistaFileSystem(server.url, token=server.manager)
    fs.pipe("a.txt", b"hello")
    command = [sys.executable, "-c", READ, pickle.dumps(fs).hex()]

    without = subprocess.run(command, capture_output=True, text=True)
    with_token = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"EPISTA_TOKEN": server.manager})

    assert f"no token for {server.url}" in without.stderr
    assert with_token.stdout == "hello\n", with_token.stderr


def test_another_process_opens_the_same_folder(tmp_path: Path) -> None:
    with epista.Workspace(tmp_path / "lab") as ws:
        ws.put("a.txt", "hello")
        command = [sys.executable, "-c", READ, pickle.dumps(EpistaFileSystem(session=ws)).hex()]

        done = subprocess.run(command, capture_output=True, text=True)

    assert done.stdout == "hello\n", done.stderr


def test_importing_epista_loads_no_fsspec() -> None:
    probe = "import sys, epista; epista.Workspace, epista.use; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()

    assert "fsspec" not in loaded


def test_a_workspace_that_only_the_file_system_holds_stays_open(server: Server) -> None:
    fs = EpistaFileSystem(session=epista.Workspace(server.url, token=server.manager))
    gc.collect()

    fs.pipe("a.txt", b"hello")

    assert fs.cat("a.txt") == b"hello"


def test_a_forked_process_reads_on(server: Server) -> None:
    program = """
import multiprocessing, sys
from epista.client.filesystem import EpistaFileSystem
fs = EpistaFileSystem(sys.argv[1], token=sys.argv[2], workspace="lab")
fs.pipe({f"{number}.txt": b"x" * number for number in range(20)})
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(sum(map(len, pool.map(fs.cat_file, fs.find("")))))
"""
    command = [sys.executable, "-c", program, server.url, server.manager]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert done.stdout == "190\n", done.stderr


# Looking


def test_odd_names_are_taken_as_they_are(fs: EpistaFileSystem, http_ws: epista.Workspace) -> None:
    fs.pipe_file(ODD, b"odd")
    fs.pipe_file("EXP-1/a b.csv", b"sibling")

    assert http_ws.keys() == ["EXP-1/a #?%41 é\\x [1] *.csv", "EXP-1/a b.csv"]
    assert fs.ls("EXP-1", detail=False) == fs.find("EXP-1") == http_ws.keys()
    assert fs.cat_file(f"epista://{ODD}") == fs.cat(ODD) == b"odd"
    assert fs.cat_file("EXP-1/a #?%41 e\u0301\\x [1] *.csv") == b"odd"
    with fsspec.open(f"epista://{ODD}", session=http_ws) as file:
        assert file.read() == b"odd"


def test_a_file_of_exactly_that_name_wins_over_a_pattern(fs: EpistaFileSystem, tmp_path: Path) -> None:
    fs.pipe({"d/a?.csv": b"meant", "d/ab.csv": b"not meant", "d/a*": b"neither"})

    fs.get("d/a?.csv", str(tmp_path / "got.csv"))
    fs.cp("d/a?.csv", "e/b.csv")
    fs.mv("d/a?.csv", "e/")
    fs.rm("d/a*")

    assert (tmp_path / "got.csv").read_bytes() == b"meant"
    assert fs.find("") == ["d/ab.csv", "e/a?.csv", "e/b.csv"]


def test_info_tells_what_stands_there(fs: EpistaFileSystem, http_ws: epista.Workspace) -> None:
    asset = http_ws.put("EXP-1/raw/a.csv", b"a,b\n1,2\n")

    info = fs.info("epista://EXP-1/raw/a.csv")

    assert info == {
        "name": "EXP-1/raw/a.csv",
        "size": 8,
        "type": "file",
        "sha256": asset.sha256,
        "version": asset.version,
        "number": 1,
        "created": asset.created_at,
        "kind": "TABLE",
        "format": "csv",
    }
    assert fs.info("EXP-1") == fs.info("/EXP-1/") == {"name": "EXP-1", "size": 0, "type": "directory"}
    assert fs.info("")["type"] == "directory"
    assert fs.ukey("EXP-1/raw/a.csv") == asset.sha256
    assert fs.created("EXP-1/raw/a.csv") == fs.modified("EXP-1/raw/a.csv") == asset.created_at
    assert fs.ls("EXP-1/raw/a.csv") == [info]


def test_what_is_absent_is_so_in_both_languages(fs: EpistaFileSystem) -> None:
    fs.pipe("d/x", b"x")

    for look in (
        fs.info,
        fs.ls,
        fs.cat,
        fs.open,
        fs.rm,
        fs.ukey,
        lambda path: fs.get(path, "nowhere"),
        lambda path: fs.cp(path, "y"),
    ):
        with pytest.raises(FileNotFoundError) as caught:
            look("d/y")
        assert isinstance(caught.value, epista.KeyNotFoundError)
        assert caught.value.errno == errno.ENOENT
    assert not fs.exists("d/y")
    assert not fs.exists("d//x")
    assert fs.find("d/y") == fs.glob("d/y*") == []
    assert pickle.loads(pickle.dumps(caught.value)).hint


def test_a_server_that_does_not_answer_is_no_absent_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epista.client.wire.ATTEMPTS", 1)
    fs = EpistaFileSystem("http://127.0.0.1:9", token="t", workspace="lab")

    for look in (fs.exists, fs.isfile, fs.isdir, fs.info):
        with pytest.raises(epista.UnreachableError):
            look("a")


def test_who_may_not_is_told_so_and_what_is_hidden_is_absent(server: Server) -> None:
    server.api().put("EXP-1/secret.txt")
    server.api().put("EXP-2/mine.txt")
    ada = server.member("ada", "viewer", experiments=["EXP-2"])
    fs = EpistaFileSystem(server.url, token=ada.token, workspace="lab")

    assert fs.find("") == ["EXP-2/mine.txt"]
    assert not fs.exists("EXP-1")
    with pytest.raises(PermissionError):
        fs.pipe("EXP-2/a.txt", b"x")
    with pytest.raises(PermissionError):
        fs.rm("EXP-2/mine.txt")


def test_two_thousand_files_are_found_with_few_requests(fs: EpistaFileSystem, counting: Counting, tmp_path: Path) -> None:
    fs.pipe({f"many/{number // 100:02}/{number:04}.txt": b"%04d" % number for number in range(2000)})
    assert counting.asked.total() <= 4
    counting.asked.clear()

    def cost(call: Callable[[], Any]) -> tuple[Any, int]:
        before = counting.asked.total()
        return call(), counting.asked.total() - before

    assert len(fs.find("many", detail=True)) == 2000
    assert counting.asked.total() == 3
    assert cost(lambda: fs.du("many")) == (8000, 3)
    assert cost(lambda: len(fs.glob("many/**/*7.txt"))) == (200, 3)
    assert cost(lambda: len(fs.glob("many/*/*7.txt"))) == (200, 21)
    assert cost(lambda: len(fs.ls("many"))) == (20, 1)
    assert cost(lambda: sum(len(files) for _, _, files in fs.walk("many"))) == (2000, 21)
    assert cost(lambda: fs.exists("many/07/0750.txt")) == (True, 1)
    assert cost(lambda: fs.exists("many/07/nosuch.txt")) == (False, 1)
    assert cost(lambda: fs.cp("many/07", "copy", recursive=True))[1] <= 4
    assert cost(lambda: fs.mv("copy", "moved", recursive=True))[1] <= 4
    assert cost(lambda: fs.rm("moved", recursive=True))[1] <= 3
    assert cost(lambda: fs.get("many/07", str(tmp_path / "got"), recursive=True))[1] <= 5
    assert cost(lambda: len(fs.cat("many/07", recursive=True))) == (100, 2)
    assert cost(lambda: fs.put(str(tmp_path / "got"), "put", recursive=True))[1] <= 4
    assert len(fs.find("put")) == 100


def test_removing_says_first_what_it_cannot_remove(fs: EpistaFileSystem, counting: Counting) -> None:
    fs.pipe({f"d/{name}": b"x" for name in ("a", "b", "sub/c", "sub/deep/d")})

    with pytest.raises(IsADirectoryError):
        fs.rm("d/*")
    with pytest.raises(FileNotFoundError):
        fs.rm(["d/a", "d/no"], recursive=True)
    assert len(fs.find("d")) == 4
    fs.rm("d", recursive=True, maxdepth=2)
    assert fs.find("d") == ["d/sub/deep/d"]
    fs.rm(["d/sub", "d/sub/deep", "d/sub/deep/d"], recursive=True)
    assert fs.find("") == []
    with pytest.raises(epista.InvalidKeyError):
        fs.rm("", recursive=True)


def test_a_download_follows_no_link_below_the_folder_it_goes_to(fs: EpistaFileSystem, tmp_path: Path) -> None:
    fs.pipe({"d/link/a": b"x", "d/b": b"y"})
    (tmp_path / "outside").mkdir()
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "link").symlink_to(tmp_path / "outside")

    with pytest.raises(epista.TransferError):
        fs.get("d/", str(tmp_path / "got"), recursive=True)

    assert list((tmp_path / "outside").iterdir()) == []


# Reading


def test_what_is_read_is_one_version_whatever_is_written_meanwhile(fs: EpistaFileSystem) -> None:
    old, new = b"old" * 100_000, b"new!" * 100_000
    fs.pipe("a.bin", old)

    with fs.open("a.bin", block_size=1000) as file:
        first = file.read(1000)
        fs.pipe("a.bin", new)
        rest = file.read()
        again = pickle.loads(pickle.dumps(file))
    fs.rm("a.bin")

    assert first + rest == old
    assert again.read() == b""
    again.seek(0)
    assert again.read(9) == b"oldoldold"


def test_an_old_version_can_be_read(fs: EpistaFileSystem) -> None:
    fs.pipe("a.txt", b"one")
    fs.pipe("a.txt", b"two")

    assert fs.cat_file("a.txt", version=1) == b"one"
    with fs.open("a.txt", version=1) as file:
        assert file.read() == b"one"


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (0, 3), (4, None), (-3, None), (None, -2), (-4, -1), (5, 5), (7, 3), (8, 100), (100, 200)]
)
def test_ranges_are_those_of_python(fs: EpistaFileSystem, start: int | None, end: int | None) -> None:
    fs.pipe("a.txt", b"0123456789")

    assert fs.cat_file("a.txt", start, end) == b"0123456789"[start:end]


def test_many_are_read_at_once_and_failures_stay_with_their_own(fs: EpistaFileSystem) -> None:
    fs.pipe({f"d/{number}": str(number).encode() for number in range(20)})
    fs.pipe("d/sub/20", b"20")

    assert fs.cat([f"d/{number}" for number in range(20)]) == {f"d/{number}": str(number).encode() for number in range(20)}
    assert len(fs.cat("d", recursive=True)) == 21
    assert fs.cat(["d/1", "d/no"], on_error="omit") == {"d/1": b"1"}
    assert isinstance(fs.cat(["d/1", "d/no"], on_error="return")["d/no"], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat(["d/1", "d/no"])

    ranges = fs.cat_ranges(["d/12", "d/12", "d/no", "d/13"], [0, 1, 0, -1], [1, 2, 1, None])
    assert [one for one in ranges if isinstance(one, bytes)] == [b"1", b"2", b"3"]
    assert isinstance(ranges[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["d/no"], 0, 1, on_error="raise")


def test_all_ranges_of_one_file_cost_one_look(fs: EpistaFileSystem, counting: Counting) -> None:
    fs.pipe("a.bin", bytes(1000))
    counting.asked.clear()

    fs.cat_ranges(["a.bin"] * 8, list(range(0, 800, 100)), list(range(100, 900, 100)))

    assert counting.asked == {"level": 1, "content": 8}


def test_a_file_read_in_order_is_verified(fs: EpistaFileSystem, server: Server) -> None:
    fs.pipe("a.bin", os.urandom(300_000))
    (blob,) = [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]
    blob.chmod(0o644)
    with blob.open("r+b") as stored:
        stored.seek(200_000)
        stored.write(b"flipped")

    with fs.open("a.bin", block_size=10_000) as file, pytest.raises(epista.IntegrityError):
        while file.read(50_000):
            pass
    with pytest.raises(epista.IntegrityError):
        fs.cat("a.bin")


def test_a_folder_is_no_file(fs: EpistaFileSystem) -> None:
    fs.pipe("d/x", b"x")

    for use in (fs.open, fs.cat_file, fs.rm, fs.ukey, lambda path: fs.mv(path, "e")):
        with pytest.raises(IsADirectoryError):
            use("d")
    with pytest.raises(IsADirectoryError):
        fs.pipe("d", b"y")
    with pytest.raises(NotADirectoryError):
        fs.pipe("d/x/y", b"y")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("d")
    assert fs.find("") == ["d/x"]


# Writing


def test_what_is_written_appears_when_the_file_is_closed(fs: EpistaFileSystem) -> None:
    fs.pipe("a.txt", b"old")

    with fs.open("a.txt", "wb") as file:
        file.write(b"new")
        assert fs.cat("a.txt") == b"old"

    assert fs.cat("a.txt") == b"new"
    assert fs.info("a.txt")["number"] == 2
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")


@pytest.mark.parametrize("size", [10, filesystem.SPOOL_BYTES + 1])
def test_an_error_in_the_block_leaves_nothing(fs: EpistaFileSystem, size: int) -> None:
    with pytest.raises(RuntimeError, match="mine"), fs.open("a.bin", "wb") as file:
        file.write(bytes(size))
        raise RuntimeError("mine")

    assert fs.find("") == []


def test_an_error_in_the_block_leaves_nothing_however_the_file_is_wrapped(
    fs: EpistaFileSystem, current: epista.Workspace
) -> None:
    for url, mode, options in (("a.txt", "w", {}), ("a.bin", "wb", {}), ("a.gz", "wb", {"compression": "gzip"})):
        with (
            pytest.warns(RuntimeWarning, match="nothing was stored"),
            pytest.raises(RuntimeError, match="mine"),
            fsspec.open(f"epista://{url}", mode, **options) as file,
        ):
            file.write("text" if mode == "w" else b"bytes")
            raise RuntimeError("mine")

    assert fs.find("") == []


def test_a_file_may_be_written_while_an_error_is_handled(fs: EpistaFileSystem) -> None:
    try:
        fs.cat("a.txt")
    except FileNotFoundError:
        with fs.open("a.txt", "w") as file:
            file.write("made")

    assert fs.cat("a.txt") == b"made"


def test_a_file_that_is_written_can_be_sought_in(fs: EpistaFileSystem) -> None:
    with fs.open("a.zip", "wb") as sink, zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("inside.txt", "hello")
    with fs.open("big.bin", "wb") as sink:
        sink.write(b"first")
        sink.write(bytes(filesystem.SPOOL_BYTES))
        sink.seek(0)
        sink.write(b"FIRST")

    with fs.open("a.zip") as source:
        assert zipfile.ZipFile(source).read("inside.txt") == b"hello"
    assert fs.cat_file("big.bin", 0, 6) == b"FIRST\0"
    assert fs.size("big.bin") == filesystem.SPOOL_BYTES + 5


def test_of_two_who_create_one_file_one_succeeds(fs: EpistaFileSystem) -> None:
    one, other = fs.open("a.txt", "xb"), fs.open("a.txt", "xb")
    one.write(b"one")
    other.write(b"other")
    one.close()

    with pytest.raises(FileExistsError) as caught:
        other.close()

    assert isinstance(caught.value, epista.ConflictError)
    assert fs.cat("a.txt") == b"one"
    assert other.closed


def test_appending_adds_and_the_slower_of_two_is_told(fs: EpistaFileSystem) -> None:
    for line in (b"one\n", b"two\n"):
        with fs.open("a.txt", "ab") as file:
            file.write(line)
    one, other = fs.open("a.txt", "ab"), fs.open("a.txt", "ab")
    one.write(b"three\n")
    other.write(b"four\n")
    one.close()

    with pytest.raises(epista.ConflictError):
        other.close()

    assert fs.cat("a.txt") == b"one\ntwo\nthree\n"


def test_what_is_described_stays_described(fs: EpistaFileSystem, http_ws: epista.Workspace) -> None:
    http_ws.put("a.csv", b"a\n1\n", meta={"temp": 37}, tags=["qc"])

    fs.pipe("a.csv", b"a\n2\n")
    fs.cp("a.csv", "b.csv")
    fs.mv("b.csv", "c.csv")

    moved = http_ws.get("c.csv")
    assert (moved.meta, moved.tags, moved.format) == ({"temp": 37}, ("qc",), "csv")
    assert http_ws.restore("b.csv").meta == {"temp": 37}


def test_files_are_put_all_or_none(fs: EpistaFileSystem, tmp_path: Path) -> None:
    fs.pipe("d/b/inside", b"x")
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)

    with pytest.raises(IsADirectoryError):
        fs.put([str(tmp_path / name) for name in "abc"], ["d/a", "d/b", "d/c"])
    with pytest.raises(IsADirectoryError):
        fs.pipe({"d/a": b"a", "d/b": b"b"})
    with pytest.raises(FileExistsError):
        fs.pipe({"d/a": b"a", "d/b/inside": b"b"}, mode="create")

    assert fs.find("") == ["d/b/inside"]


def test_a_transaction_makes_everything_appear_together(fs: EpistaFileSystem, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("c")

    with fs.transaction:
        fs.pipe("a", b"first")
        fs.pipe("a", b"a")
        with fs.open("b", "wb") as file:
            file.write(bytes(filesystem.SPOOL_BYTES + 1))
        fs.put(str(tmp_path / "c"), "c")
        assert fs.find("") == []

    assert fs.du("", total=False) == {"a": 1, "b": filesystem.SPOOL_BYTES + 1, "c": 1}
    assert len({fs.created(path) for path in fs.find("")}) == 1
    fs.pipe("d", b"at once")
    assert fs.exists("d")


def test_a_transaction_that_fails_leaves_nothing(fs: EpistaFileSystem) -> None:
    fs.pipe("taken/inside", b"x")

    with pytest.raises(RuntimeError, match="mine"), fs.transaction:
        fs.pipe("a", b"a")
        raise RuntimeError("mine")
    with pytest.raises(IsADirectoryError), fs.transaction:
        fs.pipe("b", b"b")
        fs.pipe("taken", b"t")

    assert fs.find("") == ["taken/inside"]
    fs.pipe("d", b"at once")
    assert fs.exists("d")


def test_a_large_file_takes_little_memory(server: Server, tmp_path: Path) -> None:
    program = """
import resource, sys, fsspec
from epista.client.filesystem import EpistaFileSystem
fs = EpistaFileSystem(sys.argv[1], token=sys.argv[2], workspace="lab")
fs.pipe("warm", b"x")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with fs.open("big.bin", "wb") as sink:
    for number in range(300):
        sink.write(number.to_bytes(4, "big") * 262144)
with fs.open("big.bin") as source:
    number = 0
    while piece := source.read(1048576):
        assert piece == number.to_bytes(4, "big") * 262144
        number += 1
assert number == 300
fs.get("big.bin", sys.argv[3])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    command = [sys.executable, "-c", program, server.url, server.manager, str(tmp_path / "got")]

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64  # MiB, of a file of 300
    assert (tmp_path / "got").stat().st_size == 300 * 1024**2


def test_a_writer_that_is_killed_leaves_nothing(server: Server, http_ws: epista.Workspace) -> None:
    program = """
import os, signal, sys
from epista.client.filesystem import EpistaFileSystem
fs = EpistaFileSystem(sys.argv[1], token=sys.argv[2], workspace="lab")
sink = fs.open("a.bin", "wb")
sink.write(bytes(20_000_000))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, server.url, server.manager], check=False)

    assert http_ws.keys() == []


def test_a_link_is_signed_for_a_path(fs: EpistaFileSystem) -> None:
    import requests

    fs.pipe("a b.txt", b"hello")

    assert requests.get(fs.sign("a b.txt", expiration=60), timeout=60).content == b"hello"


def test_a_mapping_stands_on_it(fs: EpistaFileSystem) -> None:
    mapping = fs.get_mapper("EXP-1/map", create=True)

    mapping["x/y"] = b"1"
    mapping.setitems({"z": b"2"})

    assert sorted(mapping) == ["x/y", "z"]
    assert mapping.getitems(["x/y", "z", "no"], on_error="omit") == {"x/y": b"1", "z": b"2"}
    del mapping["z"]
    assert list(mapping) == ["x/y"]
    mapping.clear()
    assert fs.find("") == []


def test_text_is_read_line_by_line(fs: EpistaFileSystem) -> None:
    fs.write_text("a.txt", "one\ntwo\n", encoding="utf-8")

    with fs.open("a.txt", "r") as file:
        assert list(file) == ["one\n", "two\n"]
    with fs.open("a.txt") as file:
        assert io.BytesIO(file.read()).readlines() == [b"one\n", b"two\n"]
    assert fs.head("a.txt", 3) == b"one"
    assert fs.tail("a.txt", 4) == b"two\n"
