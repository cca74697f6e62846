"""The goals, as data, and how they are judged."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tests.benchmarks.rounds import Record

Reading = Literal["speed", "time", "beyond", "value"]
"""
How a round becomes one number: ``speed`` is theirs / ours and should be at least the goal, ``time`` is ours / theirs and should
be at most the goal, ``beyond`` is ours - theirs and ``value`` is ours alone, and both should be below it.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison, with its goal if it has one."""

    number: str
    """Of the goal it belongs to."""
    what: str
    """What is done."""
    against: str
    """Compared with whom."""
    reading: Reading
    """How a round becomes one number."""
    goal: float | None
    """None for a comparison that is only reported."""
    group: str
    """Which benchmark measures it."""
    ours: str
    """Our contestant."""
    theirs: str | None = None
    """The other one; for ``value`` it is only shown beside."""
    figure: str = "seconds"
    """Which figure is compared."""
    unit: str = ""
    """Of ``value`` and ``beyond``: s, ms or MiB."""


def judge(row: Row, record: Record) -> dict[str, Any]:
    """Return the row with its value in each round, their median and spread, and whether the goal is met."""
    found: dict[str, Any] = asdict(row) | {"values": [], "median": None, "lowest": None, "highest": None, "is_met": None}
    found["beside"] = found["reason"] = None
    for name in (row.ours, row.theirs):
        if name is not None and name not in record.turns and (row.reading != "value" or name == row.ours):
            found["reason"] = record.missing.get(name, "not measured")
            return found
    ours = [turn[row.figure] for turn in record.turns[row.ours]]
    theirs = [turn[row.figure] for turn in record.turns.get(row.theirs or "", [])]
    match row.reading:
        case "speed":
            values = [their / our for our, their in zip(ours, theirs, strict=True)]
        case "time":
            values = [our / their for our, their in zip(ours, theirs, strict=True)]
        case "beyond":
            values = [our - their for our, their in zip(ours, theirs, strict=True)]
        case "value":
            values = ours
            found["beside"] = statistics.median(theirs) if theirs else None
    median = statistics.median(values)
    found |= {"values": values, "median": median, "lowest": min(values), "highest": max(values)}
    if row.goal is not None:
        found["is_met"] = median >= row.goal if row.reading == "speed" else median <= row.goal
    return found


def _speed(number: str, what: str, against: str, goal: float | None, group: str, ours: str, theirs: str, **more: Any) -> Row:
    return Row(
        number=number, what=what, against=against, reading="speed", goal=goal, group=group, ours=ours, theirs=theirs, **more
    )


def _time(number: str, what: str, against: str, goal: float | None, group: str, ours: str, theirs: str, **more: Any) -> Row:
    return Row(
        number=number, what=what, against=against, reading="time", goal=goal, group=group, ours=ours, theirs=theirs, **more
    )


def _value(number: str, what: str, against: str, goal: float | None, group: str, ours: str, **more: Any) -> Row:
    return Row(number=number, what=what, against=against, reading="value", goal=goal, group=group, ours=ours, **more)


_FETCH, _RAW = "fetch 1 GiB, verified", "fetch 1 GiB, transfer alone"
_PUT, _PUT_DIR, _FETCH_DIR = "put 1 GiB, durable", "put_dir 10k x 4 KiB, durable", "fetch a folder, 10k x 4 KiB"
_REGION = "512 px region of one channel, CPU"
_TILE = "256 px tile of four channels, JPEG 85 at 4:4:4, HTTP"

ROWS = (
    _speed("1", _FETCH, "nginx + curl, then sha256sum", 1.0, "transfer", "epista fetch", "nginx + curl + sha256sum"),
    _speed("1", _FETCH, "nginx + curl, then openssl dgst", None, "transfer", "epista fetch", "nginx + curl + openssl"),
    _speed("2", _RAW, "nginx + curl", 1.3, "transfer", "epista fetch, unverified", "nginx + curl"),
    _speed("3", _RAW, "boto3, SeaweedFS", 2.5, "transfer", "epista fetch, unverified", "boto3 get"),
    _speed("4", _RAW, "s5cmd, SeaweedFS", 1.3, "transfer", "epista fetch, unverified", "s5cmd get"),
    _speed("2", _FETCH, "nginx + curl", None, "transfer", "epista fetch", "nginx + curl"),
    _speed("3", _FETCH, "boto3, SeaweedFS", None, "transfer", "epista fetch", "boto3 get"),
    _speed("4", _FETCH, "s5cmd, SeaweedFS", None, "transfer", "epista fetch", "s5cmd get"),
    _speed("5", _PUT, "boto3, SeaweedFS", 2.5, "transfer", "epista put_file", "boto3 put"),
    _speed("5", _PUT, "s5cmd, SeaweedFS", 2.5, "transfer", "epista put_file", "s5cmd put"),
    _speed("5", _PUT, "boto3, SeaweedFS with fsync", None, "transfer", "epista put_file", "boto3 put, fsync"),
    _speed("5", _PUT, "s5cmd, SeaweedFS with fsync", None, "transfer", "epista put_file", "s5cmd put, fsync"),
    _speed("6", _PUT_DIR, "boto3, SeaweedFS", 80, "small", "epista put_dir", "boto3 put"),
    _speed("6", _PUT_DIR, "boto3 in 16 threads, SeaweedFS", None, "small", "epista put_dir", "boto3 put, 16 threads"),
    _speed("6", _PUT_DIR, "boto3, SeaweedFS with fsync", None, "small", "epista put_dir", "boto3 put, fsync"),
    _speed("7", _PUT_DIR, "s5cmd, SeaweedFS", 12, "small", "epista put_dir", "s5cmd put"),
    _speed("7", _PUT_DIR, "s5cmd, SeaweedFS with fsync", None, "small", "epista put_dir", "s5cmd put, fsync"),
    _time("7", _PUT_DIR, "cp -r", 1.2, "small", "epista put_dir", "cp -r"),
    _speed("8", _FETCH_DIR, "boto3, SeaweedFS", 20, "small", "epista fetch", "boto3 get"),
    _speed("8", _FETCH_DIR, "boto3 in 16 threads, SeaweedFS", None, "small", "epista fetch", "boto3 get, 16 threads"),
    _speed("8", _FETCH_DIR, "s5cmd, SeaweedFS", 3, "small", "epista fetch", "s5cmd get"),
    _time("8", _FETCH_DIR, "cp -r", 3, "small", "epista fetch", "cp -r"),
    _time("9", "embedded fetch, 1 GiB", "cp + fsync + hashlib", 0.85, "transfer", "epista embedded fetch", "cp + fsync + hashlib"),
    _time("9", "embedded put_file, 1 GiB", "cp + fsync + hashlib", 0.85, "transfer", "epista embedded put_file", "cp + fsync + hashlib"),
    _value("10", "list 1M keys, HTTP", "", 1.5, "catalog", "epista keys", unit="s", figure="seconds_per_million"),
    _speed("10", "list 1M keys, HTTP", "boto3 listing, per key", 20, "catalog", "epista keys", "boto3 listing", figure="seconds_per_million"),
    _value("11", "list 1M full asset rows, HTTP", "the same rows, in process", 6, "catalog", "epista rows", theirs="rows in process", unit="s", figure="seconds_per_million"),
    _value("12", "search a rare word among 1M assets", "the same search, in process", 10, "catalog", "epista search, rare word", theirs="rare word in process", unit="ms", figure="p50_ms"),
    _value("12", "search one value of metadata", "the same search, in process", 10, "catalog", "epista search, metadata", theirs="metadata in process", unit="ms", figure="p50_ms"),
    _value("12", "search two common words, ranked", "the same search, in process", 60, "catalog", "epista search, ranked pair", theirs="ranked pair in process", unit="ms", figure="p50_ms"),
    _value("13", "put + get of one 4 KiB object, HTTP", "4 KiB append + fdatasync", 6, "small", "epista put + get", theirs="4 KiB append + fdatasync", unit="ms", figure="p50_ms"),
    _time("14", "metadata GET, server CPU", "Tiled", 1 / 10, "tiled", "epista metadata", "tiled metadata", figure="cpu_ms"),
    _time("15", "page of 100, server CPU", "Tiled", 1 / 20, "tiled", "epista page of 100", "tiled page of 100", figure="cpu_ms"),
    _speed("16", "write an array", "Tiled", 5, "tiled", "epista write array", "tiled write array"),
    _speed("16", "read an array", "Tiled", 5, "tiled", "epista read array", "tiled read array"),
    _speed("16", "write a table", "Tiled", 5, "tiled", "epista write table", "tiled write table"),
    _speed("16", "read a table", "Tiled", 5, "tiled", "epista read table", "tiled read table"),
    Row(number="17", what="governed query, warm", against="the same SQL in bare DuckDB", reading="beyond", goal=0.060, group="query", ours="epista query, warm", theirs="duckdb", unit="s"),
    Row(number="17", what="governed query, cold", against="the same SQL in bare DuckDB", reading="beyond", goal=0.400, group="query", ours="epista query, cold", theirs="duckdb", unit="s"),
    Row(number="17", what="first batch of 6 million rows", against="bare DuckDB's", reading="beyond", goal=0.3, group="stream", ours="epista query_batches", theirs="duckdb, all rows", figure="first_seconds", unit="s"),
    Row(number="17", what="the last of them", against="bare DuckDB's", reading="time", goal=None, group="stream", ours="epista query_batches", theirs="duckdb, all rows"),
    _value("17", "memory of the server above idle meanwhile, children not counted", "", 200, "stream", "epista query_batches", unit="MiB", figure="server_mib"),
    _value("18", "peak memory of the server's largest process, putting 1 GiB", "", 200, "memory", "epista put_file", unit="MiB", figure="server_mib"),
    _value("18", "the same, fetching 1 GiB", "", 200, "memory", "epista fetch", unit="MiB", figure="server_mib"),
    _value("18", "peak memory of the client, putting 1 GiB", "", 150, "memory", "epista put_file", unit="MiB", figure="client_mib"),
    _value("18", "the same, fetching 1 GiB", "", 150, "memory", "epista fetch", unit="MiB", figure="client_mib"),
    _value("18", "peak memory of all processes of the server together", "", None, "memory", "epista fetch", unit="MiB", figure="servers_mib"),
    Row(number="19", what="import epista", against="bare interpreter", reading="beyond", goal=0.120, group="start", ours="epista import", theirs="bare interpreter", unit="s"),
    _value("20", "a new process opens a lab and answers one verb", "bare interpreter", 1.0, "start", "epista opens a lab", theirs="bare interpreter", unit="s"),
    _value("21", "read 10,000 names of sessions", "", 1.0, "naming", "epista parse", unit="s"),
    _value("21", "the same, CPU: 40 µs for each", "", 0.4, "naming", "epista parse", unit="s", figure="cpu_seconds"),
    _time("22", _REGION, "tifffile aszarr + zarr", 1 / 1.25, "images", "epista 512 px regions", "aszarr 512 px regions", figure="cpu_ms"),
    _time("22", "the same, 2,048 px", "tifffile aszarr + zarr", 1, "images", "epista 2,048 px regions", "aszarr 2,048 px regions", figure="cpu_ms"),
    _time("22", "the same, 512 px, LZW", "tifffile aszarr + zarr", 1, "images", "epista 512 px regions, LZW", "aszarr 512 px regions, LZW", figure="cpu_ms"),
    _time("23", _REGION, "large_image", 1 / 1.4, "images", "epista 512 px regions", "large_image 512 px regions", figure="cpu_ms"),
    _time("23", "the same, 2,048 px", "large_image", 1, "images", "epista 2,048 px regions", "large_image 2,048 px regions", figure="cpu_ms"),
    _time("23", "the same, 512 px, LZW", "large_image", 1, "images", "epista 512 px regions, LZW", "large_image 512 px regions, LZW", figure="cpu_ms"),
    _time("23", _REGION, "rio-tiler", None, "images", "epista 512 px regions", "rio-tiler 512 px regions", figure="cpu_ms"),
    _speed("24", _TILE, "large_image, starlette, uvicorn", 2, "viewers", "epista tiles, HTTP", "large_image tiles, HTTP"),
    _speed("24", _TILE + ", level 0 only", "rio-tiler, starlette, uvicorn", 2, "viewers", "epista tiles of level 0, HTTP", "rio-tiler tiles of level 0, HTTP"),
    _speed("24", "the same, drawn in one process", "large_image", None, "images", "epista tiles", "large_image tiles"),
    _speed("24", "the same, drawn in one process, level 0 only", "rio-tiler", None, "images", "epista tiles of level 0", "rio-tiler tiles of level 0"),
    _value("24", "fifty people pan and zoom at once, p95 of a tile", "large_image, starlette, uvicorn", None, "crowds", "epista many people", theirs="large_image many people", unit="ms", figure="p95_ms"),
    _value("24", "the same, p50 of a tile", "large_image, starlette, uvicorn", None, "crowds", "epista many people", theirs="large_image many people", unit="ms", figure="p50_ms"),
    _value("24", "the same, memory of all processes of the server", "large_image, starlette, uvicorn", None, "crowds", "epista many people", theirs="large_image many people", unit="MiB", figure="servers_mib"),
    _value("25", "peak memory of a process that reads regions", "large_image", 100, "images", "epista 512 px regions", theirs="large_image 512 px regions", unit="MiB", figure="peak_mib"),
    _value("25", "the same, that draws tiles", "large_image", 100, "images", "epista tiles", theirs="large_image tiles", unit="MiB", figure="peak_mib"),
)  # fmt: skip
"""In the order of the table."""

_DOWNLOAD = (
    "what is left is copying, once at each end: 0.9 s of the client's CPU per GiB, from the socket and into the file, and 0.9 to 1.1 of "
    "the server's; curl takes 1.5 for its end, and nginx lets the kernel send the file. `readinto` of reused buffers was tried, and saves "
    "nothing. Next: granian's extension that sends whole files past Python"
)
_ROW_COST = (
    "an object costs the server 0.17 ms of CPU (it was 0.32), where 0.04 ms is the budget for its rows, and the client 0.07. SQLite's "
    "own share is 0.04; the rest is Python: checks, drafts, ids, words of the search index and receipts. Next: receipts that are made "
    "of what was just written, and keys that are taken apart once"
)
_REQUEST_COST = (
    "a request with a token costs the server 1.2 to 1.8 ms of CPU, and a page 2.2 to 3.4: 0.5 for HTTP, 0.07 for each of four statements, "
    "and the change of thread. Next: token and membership in one statement"
)

NOTES: dict[str, str] = {
    "2": _DOWNLOAD,
    "3": _DOWNLOAD,
    "4": _DOWNLOAD,
    "5": "with 256 MiB it is 2.6 to 4 times. A GiB is hashed at both ends, and copied from the file, into the socket, out of it and onto the "
    "disk, in 4 s on two cores, which SeaweedFS leaves out by not syncing and boto3 by not hashing. Next: begin to write back what is "
    "written already while the rest comes, so that the sync at the end finds little",
    "6": _ROW_COST,
    "7": _ROW_COST,
    "8": "the client spends 0.1 ms on each file, the server 0.04 (it was 0.11). Next: write small files from a few threads while the "
    "next frame is on its way",
    "9": "the copy and its hash go on beside each other, and each wants a core; the server hashes and syncs beside each other too, "
    "once it has the copy. Next: let the server hash behind the copy, along the part that is written already",
    "10": "0.4 to 0.6 s of the server's CPU and 0.2 of the client's; the rest is waiting for a core. A covering index was tried, and "
    "saves less than a tenth of that",
    "11": "4 to 5 µs of CPU in process, some 7 of the server's over HTTP and 2 to 3 of the client's for each row of 420 bytes, side by side from the third page on; most "
    "of it is the join of three tables and the values of Python that it gives (2.6). Next: less in each row",
    "12": "two words that 14,000 assets have take 90 ms of CPU: relevance 40, of which FTS5 itself gives no part away, looking at the "
    "assets and their versions 25, facets 8, excerpts 6. Next: nothing known, short of a cheaper relevance",
    "13": "7 ms of the server's CPU for a put and 5 for a get on a busy machine (it was 14 and 6), and 3 of the client's. Next: receipts "
    "without reading them again, JSON past requests, and a get that learns the version and the bytes in one request",
    "14": _REQUEST_COST,
    "15": _REQUEST_COST,
    "16": "a put is hashed by both ends and synced before it is acknowledged, and what is read is hashed; a table is compressed besides. "
    "Next: serialize into the transfer, instead of before it",
    "20": "0.65 s of CPU in two processes, partly beside each other; the server's imports are most of it, SQLAlchemy's 0.15. Next: "
    "load its rarely used parts late",
}
"""Why a goal is missed, and what comes next, by its number."""
