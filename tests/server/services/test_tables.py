"""A version becomes files that an engine can read, once, and what is known of it is kept."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epista.contract.errors import IntegrityError, LinkedFileChangedError, TooLargeError, UnreadableError
from epista.server.access.policy import Access
from epista.server.app import resources_of
from epista.server.config import Config, LinkRoot
from epista.server.services import table_names
from epista.server.services.resources import Resources
from epista.server.services.table_names import Pinned
from epista.server.services.tables import Opened, Tables
from epista.server.stores import moments, people
from epista.server.stores.table_cache import TableCache
from tests.makers import Api, Server
from tests.server.services.test_table_names import name

LARGE = 20_000
"""Rows of a table that is no small object any more."""


def parquet(rows: int, **columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(rows)), **columns}), out, compression="none", use_dictionary=False)
    return out.getvalue()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "linked").mkdir()
    root = LinkRoot(url=str(tmp_path / "linked"), workspaces=("*",))
    return Config(lab=str(tmp_path / "lab-of-the-server"), link_roots={"data": root})


@pytest.fixture
def resources(placed: Config) -> Iterator[Resources]:
    made = resources_of(placed, moments.now)
    made.catalog.open()
    yield made
    made.table_files.close()
    made.catalog.close()


@pytest.fixture
def tables(resources: Resources) -> Tables:
    return Tables(resources)


@pytest.fixture
def api(server: Server) -> Api:
    return server.api()


def pinned(resources: Resources, said: str) -> Pinned:
    with resources.catalog.read() as tx:
        found = people.workspace(tx, "lab")
        assert found is not None
        access = Access(workspace_id=found["id"], workspace_uid=found["uid"], workspace="lab", role="editor", experiments=None)
        return table_names.find(tx, access, name(f'"{said}"'), experiment=None, as_of=None)


def read(opened: Opened) -> list[dict[str, Any]]:
    found = []
    for file in opened.files:
        if file.startswith("http"):
            with urllib.request.urlopen(file) as answer:
                found += pq.read_table(io.BytesIO(answer.read())).to_pylist()
        else:
            assert Path(file).stat().st_mode & 0o777 == 0o444
            found += pq.read_table(file).to_pylist()
    return found


def cached(resources: Resources) -> list[str]:
    folder = Path(resources.config.lab) / "tables" / "files"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("setting", ["here", "elsewhere"])
@pytest.mark.parametrize("rows", [3, LARGE], ids=["small", "large"])
def test_parquet_is_read_where_it_lies_or_brought_here(
    api: Api, resources: Resources, tables: Tables, rows: int, setting: str
) -> None:
    data = parquet(rows)
    api.put("EXP-1/counts.parquet", data)
    counts = pinned(resources, "counts")

    for reach in ("files", "links", "files"):
        with tables.opened(counts, reach=reach, seconds=60) as opened:
            assert [(column.name, column.type) for column in opened.schema] == [("n", "int64")]
            assert len(read(opened)) == rows

    # Sent by itself, it is an object of its own, however small.
    assert len(cached(resources)) == (0 if setting == "here" else 1)
    facts = tables.known(counts)
    assert facts is not None
    assert facts.rows == rows
    assert facts.files[0].columns["n"].max == rows - 1


@pytest.mark.parametrize("setting", ["here", "elsewhere"])
def test_text_is_converted_once(api: Api, resources: Resources, tables: Tables, setting: str) -> None:
    api.put("EXP-1/counts.csv", b"well,value\nA1,1.5\nA2,\n")
    counts = pinned(resources, "counts")

    with tables.opened(counts, reach="links", seconds=60) as opened:
        first = opened.files
        assert read(opened) == [{"well": "A1", "value": 1.5}, {"well": "A2", "value": None}]
    made = cached(resources)
    stamp = (Path(resources.config.lab) / "tables" / "files" / made[0]).stat()
    with tables.opened(counts, reach="links", seconds=60) as opened:
        assert opened.files != first
        assert len(read(opened)) == 2

    assert cached(resources) == made
    assert (Path(resources.config.lab) / "tables" / "files" / made[0]).stat().st_ino == stamp.st_ino
    assert not any(Path(file).exists() for file in first)
    known = tables.known(counts)
    assert known is not None
    assert known.rows == 2


def test_what_another_server_purged_goes_from_the_cache_of_this_one(
    api: Api, resources: Resources, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("EXP-1/secret.csv", "EXP-1/counts.csv"):
        api.put(key, f"a\n{key}\n".encode())
        with tables.opened(pinned(resources, key), reach="files", seconds=60):
            pass
    monkeypatch.setattr(TableCache, "drop", lambda self, sources: None)
    api.ok(api.post("~/delete", key="EXP-1/secret.csv"))
    api.ok(api.call("POST", "~/purge", json={"path": "EXP-1/secret.csv"}))
    monkeypatch.undo()
    assert len(cached(resources)) == 2

    with Tables(resources).opened(pinned(resources, "EXP-1/counts.csv"), reach="files", seconds=60):
        assert len(cached(resources)) == 1


def test_other_options_are_another_table(api: Api, resources: Resources, tables: Tables) -> None:
    data = b"code,value\n001,1\n"
    api.put("EXP-1/counts.csv", data)
    with tables.opened(pinned(resources, "counts"), reach="files", seconds=60) as opened:
        assert [column.type for column in opened.schema] == ["string", "int64"]
    api.put("EXP-1/counts.csv", data, options={"dtype": {"code": "int64", "value": "double"}})
    with tables.opened(pinned(resources, "counts"), reach="files", seconds=60) as opened:
        assert read(opened) == [{"code": 1, "value": 1.0}]
    with tables.opened(pinned(resources, "counts@1"), reach="files", seconds=60) as opened:
        assert read(opened) == [{"code": "001", "value": 1}]
    api.put("EXP-1/counts.csv", data, options={"dtype": {"code": "date"}})
    with (
        pytest.raises(UnreadableError, match="line 2, column 'code': '001' is no date32") as caught,
        tables.opened(pinned(resources, "counts"), reach="files", seconds=60),
    ):
        pass
    assert caught.value.details == {"line": 2, "column": "code"}
    assert len(cached(resources)) == 2


def test_a_type_is_corrected_by_putting_the_file_again_without_moving_bytes(
    http_ws: Any, resources: Resources, tables: Tables, tmp_path: Path
) -> None:
    file = tmp_path / "plate.csv"
    file.write_text("well,count\n1,7\n2,8\n")
    first = http_ws.put_file("EXP-1/plate.csv", file)
    with tables.opened(pinned(resources, "plate"), reach="files", seconds=60) as opened:
        assert [column.type for column in opened.schema] == ["int64", "int64"]
    assert [column.type for column in http_ws.get("EXP-1/plate.csv").table.columns] == ["int64", "int64"]

    again = http_ws.put_file("EXP-1/plate.csv", file, dtype={"well": "string"})

    assert (again.number, again.sha256) == (2, first.sha256)
    assert again.version != first.version
    assert http_ws.get("EXP-1/plate.csv").table is None
    with tables.opened(pinned(resources, "plate"), reach="files", seconds=60) as opened:
        assert read(opened) == [{"well": "1", "count": 7}, {"well": "2", "count": 8}]
    assert http_ws("EXP-1/plate.csv")["well"].tolist() == ["1", "2"]
    assert http_ws.get("EXP-1/plate.csv").table.columns[0].type == "string"
    assert len({blob.object for blob in resources.blobs.objects()}) == 1


def test_packed_and_odd_parquet_is_made_readable(http_ws: Any, resources: Resources, tables: Tables) -> None:
    http_ws.put_file("EXP-1/", _written(resources, "odd.parquet", pa.table([[1], [2]], names=["a", "A"])))
    http_ws.put_file("EXP-1/", _written(resources, "packed.parquet", pa.table([[1], [2]], names=["a", "b"])))

    with tables.opened(pinned(resources, "odd"), reach="files", seconds=60) as opened:
        assert read(opened) == [{"a": 1, "A_1": 2}]
    with tables.opened(pinned(resources, "packed"), reach="files", seconds=60) as opened:
        assert read(opened) == [{"a": 1, "b": 2}]
    facts = tables.known(pinned(resources, "odd"))
    assert facts is not None
    assert facts.notes == ["column 2, 'A', is called 'A_1' in queries"]


def _written(resources: Resources, file: str, table: pa.Table) -> Path:
    path = Path(resources.config.lab).parent / file
    pq.write_table(table, path)
    return path


def test_what_is_damaged_is_not_read(api: Api, resources: Resources, tables: Tables) -> None:
    api.put("EXP-1/counts.csv", b"a\n" + b"1\n" * 10)
    counts = pinned(resources, "counts")
    path = resources.blobs.path(counts.blob.object)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"a\n" + b"2\n" * 10)

    with pytest.raises(IntegrityError), tables.opened(counts, reach="files", seconds=60):
        pass
    assert cached(resources) == []


def test_linked_files_are_checked_for_drift(http_ws: Any, resources: Resources, tables: Tables, tmp_path: Path) -> None:
    file, text_file = tmp_path / "linked" / "counts.parquet", tmp_path / "linked" / "wells.csv"
    file.write_bytes(parquet(5))
    text_file.write_bytes(b"a\n1\n")
    http_ws.link_dir("data", "EXP-1/")

    for said, rows in (("counts", 5), ("wells", 1)):
        with tables.opened(pinned(resources, said), reach="links", seconds=60) as opened:
            assert str(file) not in opened.files
            assert len(read(opened)) == rows
    shutil.rmtree(Path(resources.config.lab) / "tables")
    for path in (file, text_file):
        path.write_bytes(path.read_bytes() + b"\n")
    for said in ("counts", "wells"):
        with pytest.raises(LinkedFileChangedError), tables.opened(pinned(resources, said), reach="files", seconds=60):
            pass


def test_many_at_once_convert_it_once(api: Api, resources: Resources, tables: Tables) -> None:
    api.put("EXP-1/counts.csv", b"a,b\n" + b"1,2\n" * 50_000)
    counts = pinned(resources, "counts")
    asked: list[object] = []
    convert = resources.table_files.convert

    def counted(*args: Any, **given: Any) -> Any:
        asked.append(given)
        return convert(*args, **given)

    class Counting:
        def __getattr__(self, wanted: str) -> Any:
            return counted if wanted == "convert" else getattr(resources.table_files, wanted)

    counting = Tables(_replaced(resources, table_files=Counting()))

    def rows(_: int) -> int:
        with counting.opened(counts, reach="files", seconds=60) as opened:
            return len(read(opened))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(rows, range(8))) == {50_000}
    assert len(asked) == 1


def _replaced(resources: Resources, **changed: Any) -> Resources:
    import dataclasses

    return dataclasses.replace(resources, **changed)


# --- The cache


def filled(size: int) -> Any:
    return lambda path: path.write_bytes(b"x" * size)


def test_the_oldest_files_make_room_and_those_in_use_stay_readable(tmp_path: Path) -> None:
    cache = TableCache(tmp_path, 250)
    with cache.use() as use:
        used = use.file("a-1.parquet", filled(100))
        for number in range(5):
            os.utime(tmp_path / "files" / "a-1.parquet", (number, number))
            with cache.use() as other:
                other.file(f"b{number}-1.parquet", filled(100))
        assert used.read_bytes() == b"x" * 100
        there = {path.name for path in (tmp_path / "files").iterdir()}
        assert {"a-1.parquet", "b4-1.parquet"} <= there
        assert len(there) <= 3
    with cache.use() as use:
        use.file("c-1.parquet", filled(100))
    assert len(list((tmp_path / "files").iterdir())) == 2
    assert list((tmp_path / "uses").iterdir()) == []


def test_a_file_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    cache = TableCache(tmp_path, 1000)

    def broken(path: Path) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), cache.use() as use:
        use.file("a-1.parquet", broken)
    with cache.use() as use:
        assert use.file("a-1.parquet", filled(3)).read_bytes() == b"xxx"
        with pytest.raises(TooLargeError, match="table_cache_bytes"):
            use.require_room(1001)


def test_the_folder_of_a_process_that_was_killed_goes(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from epista.server.stores.table_cache import TableCache\n"
        "with TableCache(Path(sys.argv[1]), 1000).use() as use:\n"
        "    use.file('a-1.parquet', lambda path: path.write_bytes(b'x'))\n"
        "    print('using', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"using\n"
    cache = TableCache(tmp_path, 1000)

    with cache.use() as use:
        use.file("b-1.parquet", filled(1))
        assert len(list((tmp_path / "uses").iterdir())) == 2
        child.kill()
        child.wait()
        child.stdout.close()
        use.file("c-1.parquet", filled(1))
        assert len(list((tmp_path / "uses").iterdir())) == 1


def test_what_was_made_of_a_content_goes_with_it(tmp_path: Path) -> None:
    cache = TableCache(tmp_path, 1000)
    with cache.use() as use:
        for file in ("a-1.parquet", "a-2.parquet", "b-1.parquet"):
            use.file(file, filled(1))
    cache.drop({"a"})

    assert [path.name for path in (tmp_path / "files").iterdir()] == ["b-1.parquet"]
    cache.drop(lambda found: set(found))
    assert list((tmp_path / "files").iterdir()) == []


def test_several_threads_and_a_small_cache(tmp_path: Path) -> None:
    cache = TableCache(tmp_path, 300)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(30):
                with cache.use() as use:
                    file = use.file(f"{(number + step) % 7}-1.parquet", filled(100))
                    assert file.stat().st_size == 100
        except (OSError, AssertionError) as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
