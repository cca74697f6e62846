"""Words from files, honest and hostile, through real children."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psutil
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epista.contract import formats
from epista.server.engines import extraction, extractors
from epista.server.engines.extraction import Extractor
from epista.server.engines.extractors import EXTRACTORS, MAX_TEXT_BYTES
from epista.server.engines.sandbox import Limits, NoReplyError, Sandbox
from epista.server.engines.sources import HEAD_BYTES, Job

# Far above what anything here takes: it shows that nothing hangs, not how fast it is.
NO_HANG_SECONDS = 60.0

Words = Callable[..., str]


class MakeExtractor(Protocol):
    def __call__(self, **settings: Any) -> Extractor: ...


@pytest.fixture(scope="module")
def shared() -> Iterator[Extractor]:
    extractor = Extractor()
    yield extractor
    extractor.close()


@pytest.fixture
def make_extractor() -> Iterator[MakeExtractor]:
    made: list[Extractor] = []

    def make(**settings: Any) -> Extractor:
        made.append(Extractor(**settings))
        return made[-1]

    yield make
    for extractor in made:
        extractor.close()


@pytest.fixture
def words(shared: Extractor, tmp_path: Path) -> Words:
    """The words of some bytes that stand in the middle of a pack."""

    def of(body: bytes, format: str, *, gzipped: bool = False, **options: Any) -> str:
        return read(shared, tmp_path / "pack", body, format, gzipped=gzipped, **options)

    return of


def read(extractor: Extractor, path: Path, body: bytes, format: str, *, gzipped: bool = False, **options: Any) -> str:
    path.write_bytes(b"before" + body + b"after")
    return extractor.text(path, offset=6, size=len(body), format=format, gzipped=gzipped, options=options)


def children(pid: int | None = None) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children():
        try:
            if "epista.server.engines.extractors" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + NO_HANG_SECONDS
    while not fact():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


TABLE = pa.table(
    {
        "FITC-A": [1.0],
        "donor": [{"age": 30, "visits": [{"when": "x"}]}],
        "marks": pa.array([[("k", {"weight": 1})]], pa.map_(pa.string(), pa.struct([("weight", pa.int64())]))),
    }
)
TABLE_WORDS = ["FITC-A", "donor", "age", "visits", "when", "marks", "weight"]


def arrow(*, stream: bool) -> bytes:
    file = io.BytesIO()
    with (pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file)(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return file.getvalue()


# Formats


@pytest.mark.parametrize("format", ["text", "markdown", "rst", "xml", "yaml", "code"])
def test_plain_text_is_taken_as_it_is(words: Words, format: str) -> None:
    assert words("CD3-FITC: 5′-UTR\n".encode(), format) == "CD3-FITC: 5′-UTR\n"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("naïve T".encode(), id="utf-8"),
        pytest.param("naïve T".encode("utf-8-sig"), id="utf-8 with mark"),
        pytest.param("naïve T".encode("utf-16"), id="utf-16 with mark"),
        pytest.param("naïve T".encode("utf-16-le"), id="utf-16-le"),
        pytest.param("naïve T".encode("utf-16-be"), id="utf-16-be"),
        pytest.param("naïve T".encode("utf-32"), id="utf-32 with mark"),
        pytest.param("naïve T".encode("cp1252"), id="cp1252"),
    ],
)
def test_the_encoding_of_text_is_found(words: Words, body: bytes) -> None:
    assert words(body, "text") == "naïve T"


def test_a_recorded_encoding_decides(words: Words) -> None:
    assert words("имя".encode("koi8-r"), "csv", encoding="koi8-r") == "имя\n"


@pytest.mark.parametrize("encoding", ["no such", "zlib", "idna", "", 7, None, "\ud800"])
def test_a_recorded_encoding_without_sense_is_passed_over(words: Words, encoding: object) -> None:
    assert words(b"name\n", "csv", encoding=encoding) == "name\n"


def test_html_gives_its_text_without_scripts_and_styles(words: Words) -> None:
    page = b"<title>Run 7</title><style>p {hidden: 1}</style><p>CO<sub>2</sub> &amp; cells<p>more<script>var secret</script>"

    assert words(page, "html").split() == ["Run", "7", "CO2", "&", "cells", "more"]


def test_json_gives_keys_and_strings(words: Words) -> None:
    body = json.dumps({"panel": ["CD3", "Zürich", 'a "quote"'], "count": 12, "deep": {"key": "line\nbreak"}}).encode()

    assert words(body, "json") == 'panel\nCD3\nZürich\na "quote"\ncount\ndeep\nkey\nline\nbreak\n'


def test_what_repeats_in_every_line_of_jsonl_is_taken_once(words: Words) -> None:
    assert words(b'{"well": "A1"}\n{"well": "A2"}\n', "jsonl") == "well\nA1\nA2\n"


def test_csv_gives_header_and_cells(words: Words) -> None:
    assert words(b'gene,note\nTP53,"two, words"\nTP53,\n', "csv") == "gene\nnote\nTP53\ntwo, words\n\n"


def test_tsv_gives_header_and_cells(words: Words) -> None:
    assert words(b"gene\tnote\r\nTP53\ta,b\r\n", "tsv") == "gene\nnote\nTP53\na,b\n"


def test_a_recorded_separator_parts_the_cells(words: Words) -> None:
    assert words(b"a;b,c\n", "csv", sep=";") == "a\nb,c\n"


@pytest.mark.parametrize("sep", ["", "::", '"', "\n", 5, None, "\ud800"])
def test_a_recorded_separator_without_sense_is_passed_over(words: Words, sep: object) -> None:
    assert words(b"a,b\n", "csv", sep=sep) == "a\nb\n"


def test_a_notebook_gives_the_sources_of_code_and_prose_but_no_outputs(words: Words) -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Gating\n", "of T cells"]},
            {"cell_type": "code", "source": "gate(df)", "outputs": [{"text": "an output"}], "metadata": {"deep": [1]}},
            {"cell_type": "raw", "source": "raw"},
        ],
        "nbformat": 4,
    }

    assert words(json.dumps(notebook).encode(), "ipynb").split() == ["#", "Gating", "of", "T", "cells", "gate(df)"]


def test_svg_gives_title_description_and_text(words: Words) -> None:
    svg = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
    <!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd" [<!ENTITY ns "http://www.w3.org/2000/svg">]>
    <svg xmlns="&ns;"><title>Dose</title><desc>by day</desc><style>text {fill: red}</style>
    <script>secret</script><path d="M 0 0"/><text x="1">na\xefve C<tspan>D3</tspan></text></svg>"""

    assert words(svg, "svg").split() == ["Dose", "by", "day", "naïve", "CD3"]


def test_parquet_gives_the_names_of_columns_and_of_fields_within(words: Words) -> None:
    assert words(parquet(TABLE), "parquet").split() == TABLE_WORDS


@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
def test_arrow_gives_the_names_of_columns_and_of_fields_within(words: Words, stream: bool) -> None:
    assert words(arrow(stream=stream), "arrow").split() == TABLE_WORDS


def test_gzip_is_looked_through(words: Words) -> None:
    assert words(gzip.compress(b"gene,") + gzip.compress(b"TP53\n"), "csv", gzipped=True) == "gene\nTP53\n"
    assert words(gzip.compress(parquet(TABLE)), "parquet", gzipped=True).split() == TABLE_WORDS


def test_formats_without_words_are_left_alone(words: Words) -> None:
    assert words(b"words", "bytes") == ""
    assert words(b"words", "no such format") == ""


def test_every_extractor_is_of_a_known_format() -> None:
    assert set(EXTRACTORS) <= set(formats.BY_NAME)


def test_an_empty_blob_has_no_words(words: Words) -> None:
    assert words(b"", "text") == ""


def test_a_relative_path_means_the_folder_of_the_server(
    shared: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blob").write_bytes(b"here")
    monkeypatch.chdir(tmp_path)

    assert shared.text("blob", offset=0, size=4, format="text", gzipped=False, options={}) == "here"


# Bad files


def test_text_is_cut_at_the_bound_between_characters(words: Words) -> None:
    text = words("€".encode() * MAX_TEXT_BYTES, "text")

    assert text == "€" * (MAX_TEXT_BYTES // 3)


def test_a_cut_within_a_character_does_not_spoil_what_came_before(words: Words) -> None:
    assert words("5 µg".encode() + "µ".encode()[:1], "text") == "5 µg"


def test_no_nul_and_no_lone_surrogate_comes_out(words: Words) -> None:
    assert words(b"a\x00b, some more text", "text") == "a b, some more text"
    assert words(rb'{"a\u0000b": "\ud800x"}', "json") == "a b\n?x\n"


def test_a_broken_svg_gives_what_came_before(words: Words) -> None:
    assert words(b"<svg><title>Dose</title><g></svg>", "svg").split() == ["Dose"]
    assert words(b"<svg><title>Dose</title><text>by d", "svg").split() == ["Dose", "by", "d"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_cut_json_gives_what_is_there(words: Words, cut: int) -> None:
    body = rb'{"name": "v\"\\"}'

    assert words(body[: len(body) - cut], "json").startswith("name\n")


def test_a_gzip_that_is_cut_or_damaged_gives_what_came_before(words: Words) -> None:
    whole = gzip.compress(b"gene,TP53\n" + os.urandom(100_000).hex().encode())

    assert words(whole[:-50_000], "text", gzipped=True).startswith("gene,TP53")
    assert words(gzip.compress(b"gene") + b"garbage", "text", gzipped=True) == "gene"
    assert words(b"not gzip", "text", gzipped=True) == ""


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b"[" * HEAD_BYTES) for _ in range(64)) + packer.flush()


@pytest.mark.parametrize("format", sorted(EXTRACTORS))
def test_a_gzip_bomb_is_harmless(words: Words, bomb: bytes, format: str) -> None:
    assert len(words(bomb, format, gzipped=True).encode()) <= MAX_TEXT_BYTES


def test_gzip_members_without_content_end(words: Words) -> None:
    assert words(gzip.compress(b"") * 500_000, "text", gzipped=True) == ""


MIB = 1024**2

HOSTILE = {
    "nested json": ("json", b"[" * 4 * MIB, ""),
    "nested notebook": ("ipynb", b'{"x":' + b"[" * MIB, ""),
    "escaped quotes": ("json", b'"' + rb"\"" * MIB, '"' * MAX_TEXT_BYTES),
    "one long line": ("csv", b"x" * 16 * MIB, "x" * MAX_TEXT_BYTES),
    "one long cell": ("csv", b'"' + b"x" * 16 * MIB, "x" * MAX_TEXT_BYTES),
    "open svg": ("svg", b"<svg><title>t</title>" + b"<g>" * MIB, None),
    "open html": ("html", b"<p>t" + b"<b>" * 1000, "\nt"),
    "external entity": ("svg", b'<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><s><text>a&x;b</text></s>', "\n\nab"),
    "billion laughs": (
        "svg",
        b'<!DOCTYPE s [<!ENTITY a "ha">'
        + b"".join(b'<!ENTITY a%d "%s">' % (at, (b"&a%d;" % (at - 1) if at else b"&a;") * 10) for at in range(12))
        + b"]><s><title>&a11;</title></s>",
        "",
    ),
    "quadratic blowup": ("svg", b'<!DOCTYPE s [<!ENTITY a "%s">]><s><text>%s</text></s>' % (b"x" * MIB, b"&a;" * MIB), "\n\n"),
    "quadratic attribute": ("svg", b'<!DOCTYPE s [<!ENTITY a "%s">]><s t="%s"/>' % (b"x" * MIB, b"&a;" * (MIB // 2)), ""),
    "lying footer": ("parquet", parquet(TABLE)[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1", ""),
    "short footer": ("parquet", parquet(TABLE)[:-8] + (40).to_bytes(4, "little") + b"PAR1", ""),
    "noise in footer": ("parquet", b"PAR1" + bytes(range(256)) * 40 + (10_000).to_bytes(4, "little") + b"PAR1", ""),
    "lying arrow": ("arrow", b"ARROW1\0\0" + b"\xff" * 64 + (2**31 - 1).to_bytes(4, "little") + b"ARROW1", ""),
    "lying stream": ("arrow", b"\xff\xff\xff\xff" + (2**31 - 1).to_bytes(4, "little") + b"\0" * 64, ""),
}


@pytest.mark.parametrize(("format", "body", "expected"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_harms_nobody(words: Words, format: str, body: bytes, expected: str | None) -> None:
    text = words(body, format)

    assert len(text.encode()) <= MAX_TEXT_BYTES
    assert expected is None or text == expected
    assert words(b"still here", "text") == "still here"


@pytest.mark.parametrize("format", sorted(EXTRACTORS))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=3000), gzipped=st.booleans(), packed=st.booleans(), sep=st.text(max_size=2))
def test_no_bytes_raise(
    shared: Extractor, tmp_path: Path, format: str, body: bytes, gzipped: bool, packed: bool, sep: str
) -> None:
    text = read(shared, tmp_path / "blob", gzip.compress(body) if packed else body, format, gzipped=gzipped, sep=sep)

    assert "\0" not in text
    assert len(text.encode()) <= MAX_TEXT_BYTES


@pytest.mark.parametrize("format", ["parquet", "arrow", "svg", "ipynb", "html"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_raises(shared: Extractor, tmp_path: Path, format: str, data: st.DataObject) -> None:
    whole = {
        "parquet": parquet(TABLE),
        "arrow": arrow(stream=False),
        "svg": b'<!DOCTYPE s [<!ENTITY a "b">]><s><title x="1">&a;</title></s>',
        "ipynb": b'{"cells": [{"cell_type": "code", "source": ["x"], "outputs": [{}]}]}',
        "html": b"<!DOCTYPE html><p class='x'>&amp;<script>x</script><!-- c --><![CDATA[x]]>",
    }[format]
    body = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    text = read(shared, tmp_path / "blob", bytes(body), format)

    assert len(text.encode()) <= MAX_TEXT_BYTES


def test_a_missing_file_has_no_words(shared: Extractor, tmp_path: Path) -> None:
    assert shared.text(tmp_path / "none", offset=0, size=5, format="text", gzipped=False, options={}) == ""


def test_a_failure_is_logged_in_one_line_that_tells_no_content(words: Words, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="epista.extraction"):
        words(b'{"cells": "patient Miller"}', "ipynb")

    (record,) = caplog.records
    assert record.name == "epista.extraction"
    assert record.getMessage().startswith("extraction failed: reason=ValidationError format=ipynb gzipped=False size_bytes=27 ")
    assert "Miller" not in record.getMessage()
    assert "\n" not in record.getMessage()


# Children


def test_one_warm_child_serves_one_caller(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor()
    child = _first_child(extractor, tmp_path)
    all_children = set(children())

    for _ in range(20):
        read(extractor, tmp_path / "blob", b"word", "text")

    assert set(children()) == all_children
    assert not is_dead(child)


def test_a_child_that_does_not_answer_is_killed_and_replaced(
    make_extractor: MakeExtractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extractor = make_extractor(timeout_seconds=0.5)
    child = _first_child(extractor, tmp_path)
    child.send_signal(signal.SIGSTOP)
    started = time.monotonic()

    late = read(extractor, tmp_path / "blob", b"word", "text")

    assert late == ""
    assert time.monotonic() - started < NO_HANG_SECONDS
    assert "reason=timeout" in caplog.text
    wait_for(lambda: is_dead(child))
    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_a_file_that_cannot_be_read_to_an_end_costs_only_its_own_time(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor(timeout_seconds=0.5)
    os.mkfifo(tmp_path / "pipe")

    assert extractor.text(tmp_path / "pipe", offset=0, size=9, format="text", gzipped=False, options={}) == ""
    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_a_child_that_was_killed_is_replaced(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor()
    child = _first_child(extractor, tmp_path)
    child.kill()
    # Its end is noticed by the end of its stderr, a moment after it.
    wait_for(lambda: is_dead(child))
    time.sleep(0.2)

    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_a_child_killed_in_the_middle_of_a_job_costs_that_job(
    make_extractor: MakeExtractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extractor = make_extractor()
    child = _first_child(extractor, tmp_path)
    os.mkfifo(tmp_path / "pipe")

    with ThreadPoolExecutor() as pool:
        job = pool.submit(extractor.text, tmp_path / "pipe", offset=0, size=9, format="text", gzipped=False, options={})
        time.sleep(0.2)
        child.kill()

        assert job.result(NO_HANG_SECONDS) == ""
    assert "reason=crash" in caplog.text
    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_a_child_is_replaced_after_its_share_of_jobs(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor(jobs_per_child=3)
    child = _first_child(extractor, tmp_path)
    for _ in range(2):
        assert read(extractor, tmp_path / "blob", b"word", "text") == "word"

    wait_for(lambda: is_dead(child))
    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_a_child_has_its_limits_and_almost_no_environment(
    make_extractor: MakeExtractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPISTA_TOKEN", "secret")
    child = _first_child(make_extractor(limits=Limits(memory_bytes=512 * MIB, open_files=32)), tmp_path)

    assert child.rlimit(psutil.RLIMIT_AS) == (512 * MIB, 512 * MIB)
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_NOFILE) == (32, 32)
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert os.getpgid(child.pid) == child.pid
    assert not {"EPISTA_TOKEN", "HOME", "PATH"} & set(child.environ())


def test_a_job_that_wants_too_much_memory_has_no_words(
    make_extractor: MakeExtractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Room for the interpreter, wherever it keeps what threads may need, but not for seven million texts in a notebook of 28 MB.
    caplog.set_level(logging.INFO, logger="epista.extraction")
    idle_bytes = _first_child(make_extractor(), tmp_path).memory_info().vms
    extractor = make_extractor(limits=Limits(memory_bytes=idle_bytes + 192 * MIB))
    notebook = b'{"cells": [{"cell_type": "code", "source": [' + b'"x",' * 7_000_000 + b'"x"]}]}'

    assert read(extractor, tmp_path / "blob", notebook, "ipynb") == ""
    # What decodes it may die of that; then another child takes its place.
    assert re.search("reason=(MemoryError|crash)", caplog.text)
    assert read(extractor, tmp_path / "blob", b"word", "text") == "word"


def test_many_threads_share_few_children(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor(children=2)
    others = set(children())
    (tmp_path / "pack").write_text("".join(f"word-{at:04}" for at in range(400)))

    def one(at: int) -> str:
        return extractor.text(tmp_path / "pack", offset=9 * at, size=9, format="text", gzipped=False, options={})

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(400)))

    assert found == [f"word-{at:04}" for at in range(400)]
    assert 1 <= len(set(children()) - others) <= 2


def test_who_waits_too_long_for_a_turn_goes_without(
    make_extractor: MakeExtractor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extractor = make_extractor(children=1, wait_seconds=0.1)
    child = _first_child(extractor, tmp_path)
    os.mkfifo(tmp_path / "pipe")

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(extractor.text, tmp_path / "pipe", offset=0, size=9, format="text", gzipped=False, options={})
        time.sleep(0.2)
        turned_away = read(extractor, tmp_path / "blob", b"word", "text")
        child.kill()
        slow.result(NO_HANG_SECONDS)

    assert turned_away == ""
    assert "reason=busy" in caplog.text


def test_close_ends_the_children_and_the_jobs_under_way(make_extractor: MakeExtractor, tmp_path: Path) -> None:
    extractor = make_extractor()
    child = _first_child(extractor, tmp_path)
    os.mkfifo(tmp_path / "pipe")

    with ThreadPoolExecutor() as pool:
        job = pool.submit(extractor.text, tmp_path / "pipe", offset=0, size=9, format="text", gzipped=False, options={})
        time.sleep(0.2)
        extractor.close()

        assert job.result(NO_HANG_SECONDS) == ""
    assert not child.is_running()
    assert read(extractor, tmp_path / "blob", b"word", "text") == ""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path: Path, busy: bool) -> None:
    (tmp_path / "blob").write_bytes(b"word")
    os.mkfifo(tmp_path / "pipe")
    script = f"""
import time
from epista.server.engines import extraction, extractors
from epista.server.engines.extraction import Extractor
extractor = Extractor(timeout_seconds=600)
options = dict(offset=0, size=4, format="text", gzipped=False, options={{}})
print(extractor.text({str(tmp_path / "blob")!r}, **options), flush=True)
extractor.text({str(tmp_path / "pipe")!r}, **options) if {busy} else time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "word\n"
        (child,) = children(parent.pid)
        time.sleep(0.3)
        parent.kill()

    wait_for(lambda: is_dead(child))


def test_the_server_process_loads_neither_arrow_nor_pandas(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(parquet(TABLE))
    script = f"""
import sys
from epista.server.engines import extraction, extractors
from epista.server.engines.extraction import Extractor
extractor = Extractor()
size = {(tmp_path / "blob").stat().st_size}
text = extractor.text({str(tmp_path / "blob")!r}, offset=0, size=size, format="parquet", gzipped=False, options={{}})
extractor.close()
print(text.split()[0], [name for name in ("pyarrow", "pandas", "numpy") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)

    assert (said.stdout, said.stderr) == ("FITC-A []\n", "")


def _first_child(extractor: Extractor, folder: Path) -> psutil.Process:
    others = set(children())
    assert read(extractor, folder / "first", b"word", "text") == "word"
    (child,) = set(children()) - others
    return child


def test_many_files_are_read_together_and_a_bad_one_costs_the_others_nothing(tmp_path: Path) -> None:
    jobs = []
    for number in range(60):
        file = tmp_path / f"{number}.txt"
        file.write_text(f"word{number}")
        jobs.append(extraction.job_of(file, offset=0, size=file.stat().st_size, format="text", gzipped=False, options={}))
    (tmp_path / "7.txt").unlink()
    extractor = Extractor(timeout_seconds=10)
    try:
        texts = extractor.texts(jobs)
    finally:
        extractor.close()
    assert texts == ["" if number == 7 else f"word{number}" for number in range(60)]
    assert Extractor().texts([]) == []


def test_a_child_that_dies_of_one_file_is_started_again_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(self: Any, jobs: bytes, **given: Any) -> bytes:
        wanted = msgspec.msgpack.decode(jobs, type=list[Job])
        asked.append(len(wanted))
        if any(job.size == 13 for job in wanted):
            raise NoReplyError("crash")
        return msgspec.msgpack.encode([extractors.Extracted(text=f"{job.size}") for job in wanted])

    monkeypatch.setattr(Sandbox, "run", run)
    jobs = [
        extraction.job_of(tmp_path / "x", offset=0, size=size, format="text", gzipped=False, options={}) for size in range(10, 20)
    ]
    texts = Extractor().texts(jobs)
    assert texts == ["" if size == 13 else f"{size}" for size in range(10, 20)]
    assert asked == [10, 1, 1, 1, 1, 6]
