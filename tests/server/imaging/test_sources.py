"""Where bytes come from: files, parts of them, and links to a store that misbehaves."""

from __future__ import annotations

import http.server
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract.errors import UnavailableError, UnreadableImageError
from epista.server.imaging import sources
from epista.server.imaging.sources import BLOCK_BYTES, Blocks, File, Link, Part
from tests.server.imaging.makers import Memory

DATA = bytes(range(256)) * 4096


class Store(http.server.ThreadingHTTPServer):
    """A store of one object that gives ranges of it, or does what `faults` says."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/blob?signature=secret"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        body = DATA[first : last + 1]
        match self.server.faults.pop(0) if self.server.faults else "":
            case "":
                status, sent = 206, body
            case "cut":
                status, sent = 206, body[: len(body) // 2]
                self.close_connection = True
            case "all":
                status, body, sent = 200, DATA, DATA
            case code:
                status, body, sent = int(code), b"no", b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(sources, "_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def link(store: Store) -> Iterator[Link]:
    link = Link(store.url, len(DATA))
    yield link
    link.close()


def test_a_link_joins_neighbours_and_gives_what_was_asked_in_its_order(store: Store, link: Link) -> None:
    ranges = [(900_000, 10), (100, 50), (0, 20), (120, 300), (5, 0), (500_000, 1000)]

    assert link.read(ranges) == [DATA[offset : offset + size] for offset, size in ranges]

    assert sorted(store.asked) == ["bytes=0-419", "bytes=500000-500999", "bytes=900000-900009"]


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500)), max_size=30))
def test_joined_ranges_cover_all_that_was_asked(ranges: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_GAP_BYTES", 20)
        patch.setattr(sources, "_JOINED_BYTES", 300)
        spans = list(sources._joined(ranges))
        fetched = [DATA[offset : offset + size] for offset, size in spans]

        found = [sources._cut(fetched, [start for start, _ in spans], *one) for one in ranges]

    assert found == [DATA[offset : offset + size] for offset, size in ranges]


@pytest.mark.parametrize("fault", ["cut", "500", "503", "429"])
def test_what_passes_is_asked_again(store: Store, link: Link, fault: str) -> None:
    store.faults = [fault, fault]

    assert link.read([(10, 1000)]) == [DATA[10:1010]]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["403"], "the store answered 403"),
        (["302"], "the store answered 302"),
        (["all"], "the store answered 200"),
        (["cut"] * 3, "the store did not send"),
        (["500"] * 3, "the store answered 500"),
    ],
    ids=["refused", "redirected", "no-range", "cut", "broken"],
)
def test_a_store_that_does_not_give_is_unavailable_and_its_link_stays_secret(
    store: Store, link: Link, faults: list[str], message: str
) -> None:
    store.faults = list(faults)

    with pytest.raises(UnavailableError, match=message) as caught:
        link.read([(10, 1000)])

    assert len(store.asked) == len(faults)
    assert "signature" not in "".join(traceback.format_exception(caught.value))


def test_a_file_gives_ranges_and_says_when_it_is_shorter(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    file = File(path)

    assert file.size == len(DATA)
    assert file.read([(5, 3), (0, 2), (7, 0)]) == [DATA[5:8], DATA[:2], b""]
    with pytest.raises(UnreadableImageError):
        file.read([(len(DATA) - 1, 2)])
    file.close()


def test_a_part_is_shifted_and_never_gives_its_neighbours() -> None:
    part = Part(Memory(DATA), 1000, 100)

    assert part.read([(0, 4), (96, 4)]) == [DATA[1000:1004], DATA[1096:1100]]
    for beyond in ((96, 5), (-1, 1), (200, 1)):
        with pytest.raises(UnreadableImageError):
            part.read([beyond])


@given(st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 400_000)), max_size=8))
def test_blocks_are_a_file_without_a_descriptor(asked: list[tuple[int, int]]) -> None:
    file = Blocks(Memory(DATA), budget=10**9)

    assert not hasattr(file, "fileno")
    for offset, size in asked:
        assert file.seek(offset) == offset
        assert file.read(size) == DATA[offset : offset + size]
    assert file.seek(-3, 2) == len(DATA) - 3
    assert file.read() == DATA[-3:]


def test_blocks_fetch_each_block_once_and_end_with_their_budget() -> None:
    source = Memory(DATA)
    file = Blocks(source, budget=1000)

    file.read(100)
    file.read(300)
    assert source.ranges == [(0, BLOCK_BYTES)]
    with pytest.raises(UnreadableImageError, match="more headers"):
        file.read(601)
    assert file.is_spent
