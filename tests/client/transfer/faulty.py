"""
A lab on loopback that fails on demand: it cuts, stalls, resets, flips bytes, ignores ranges, refuses, and lies.

It speaks the few endpoints that transfers use, keeps everything in memory, and writes down what it was asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import msgspec

from epista.client.session import Session
from epista.contract import frames
from epista.contract.assets import Asset, AssetPage, Version
from epista.contract.lineage import Lineage
from epista.contract.messages import Reply
from epista.contract.objects import Assets, Blob, CommitObjects, Framed, FrameHead, Missing


class Fault(NamedTuple):
    """What goes wrong with one answer."""

    kind: Literal["cut", "stall", "reset", "flip", "no_range", "status", "lie"]
    """``status`` answers the status `at`; ``lie`` returns another hash for an upload; the others happen at the byte `at`."""
    at: int = 0
    """Counted from the first byte of the content."""


class Lab:
    """What the lab holds, what it does wrong, and what it was asked."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.blobs: set[str] = set()
        self.faults: dict[str, list[Fault]] = {}
        self.failing: tuple[str, int, int] | None = None
        """A key of which the bytes from one place on, up to another, never arrive."""
        self.asked: list[tuple[str, str | None]] = []
        """Key and range of every download; or ``upload`` and the number of bytes, ``frame`` and that of objects."""
        self.commits: list[CommitObjects] = []
        self.listed_sha256: dict[str, str] = {}
        self.released = threading.Event()

    def fault(self, key: str) -> Fault | None:
        """Return what goes wrong with the next answer for *key*, once."""
        waiting = self.faults.get(key)
        return waiting.pop(0) if waiting else None

    def asset(self, key: str, content: bytes) -> Asset:
        """Return the message about an asset."""
        return Asset(
            id=f"as_{key}",
            key=key,
            name=key.rpartition("/")[2],
            kind="OTHER",
            format="bytes",
            size_bytes=len(content),
            sha256=self.listed_sha256.get(key) or hashlib.sha256(content).hexdigest(),
            version=_version_id(key),
            number=1,
            tags=(),
            experiment=None,
            experiment_number=None,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            created_by="ada",
            meta={},
        )


def _version_id(key: str) -> str:
    return "ve_" + key.encode().hex()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    lab: Lab

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are what this is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def lab(self) -> Lab:
        return cast("_Server", self.server).lab

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if found := re.search(r"/versions/ve_([0-9a-f]*)/content$", address.path):
            self.content(bytes.fromhex(found[1]).decode())
        elif address.path.endswith("/assets"):
            below = {key: value for key, value in self.lab.contents.items() if key.startswith(query["prefix"]) or "?" in key}
            self.answer(AssetPage(assets=tuple(self.lab.asset(key, value) for key, value in below.items()), next=None))
        elif address.path.endswith("/asset"):
            key = query["ref"]
            if key in self.lab.contents:
                self.answer(self.lab.asset(key, self.lab.contents[key]))
            else:
                self.refuse(404, "key_not_found", f"no asset at {key!r}")
        elif address.path.endswith("/version"):
            asset = self.lab.asset(query["key"], self.lab.contents[query["key"]])
            fields = {name: getattr(asset, name) for name in Version.__struct_fields__ if hasattr(asset, name)}
            self.answer(Version(**{**fields, "id": asset.version, "note": "", "lineage": Lineage()}))
        else:
            self.refuse(404, "not_found", self.path)

    def do_POST(self) -> None:
        address = urlsplit(self.path)
        size = int(self.headers["Content-Length"])
        if address.path.endswith("/blobs"):
            self.upload(size)
        elif address.path.endswith("/frames/read"):
            self.read_frame(size)
        elif address.path.endswith("/frames"):
            self.frame(size)
        elif address.path.endswith("/blobs/missing"):
            fields = msgspec.json.decode(self.rfile.read(size))
            self.answer(Missing(sha256=tuple(sha256 for sha256 in fields["sha256"] if sha256 not in self.lab.blobs)))
        elif address.path.endswith("/objects"):
            fields = {**msgspec.json.decode(self.rfile.read(size)), "workspace": "lab"}
            commit = msgspec.convert(fields, CommitObjects)
            self.lab.commits.append(commit)
            self.answer(Assets(assets=tuple(self.lab.asset(wanted.key, b"") for wanted in commit.objects)))

    def upload(self, size: int) -> None:
        fault = self.lab.fault("upload")
        self.lab.asked.append(("upload", str(size)))
        if fault and fault.kind == "cut":
            self.rfile.read(min(fault.at, size))
            self.leave()
            return
        content = self.rfile.read(size)
        sha256 = hashlib.sha256(content).hexdigest()
        if fault and fault.kind == "status":
            self.refuse(fault.at, "unavailable", "not now")
        elif fault and fault.kind == "lie":
            self.answer(Blob(sha256="0" * 64, size_bytes=size))
        else:
            self.lab.blobs.add(sha256)
            self.answer(Blob(sha256=sha256, size_bytes=size))

    def frame(self, size: int) -> None:
        fault = self.lab.fault("frame")
        told, frame = frames.split(self.rfile.read(size))
        head = msgspec.json.decode(told, type=FrameHead)
        placed = frames.parse(frame)
        self.lab.asked.append(("frame", str(len(placed))))
        if fault:
            self.refuse(fault.at, "unavailable" if fault.at == 503 else "server_error", "not now")
            return
        self.lab.blobs |= {one.sha256 for one in placed}
        if head.objects:
            self.lab.commits.append(CommitObjects(workspace="lab", objects=head.objects))
        self.answer(Framed(blobs=len(placed), assets=tuple(self.lab.asset(wanted.key, b"") for wanted in head.objects)))

    def read_frame(self, size: int) -> None:
        """Answer what has nothing wrong with it; the faults are about contents that are asked for by themselves."""
        versions = msgspec.json.decode(self.rfile.read(size))["versions"]
        keys = [bytes.fromhex(version.removeprefix("ve_")).decode() for version in versions]
        whole = [self.lab.contents[key] for key in keys if key in self.lab.contents and not self.lab.faults.get(key)]
        fault = self.lab.fault("frame")
        if fault and fault.kind == "status":
            self.refuse(fault.at, "unavailable", "not now")
            return
        self.lab.asked.append(("frame", str(len(whole))))
        data = bytearray(frames.frame({hashlib.sha256(content).hexdigest(): content for content in whole}.items()))
        if fault and fault.kind == "flip":
            data[fault.at] ^= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: fault.at] if fault and fault.kind == "cut" else data)
        if fault and fault.kind == "cut":
            self.leave()

    def content(self, key: str) -> None:
        fault = self.lab.fault(key) or Fault("cut", 1 << 60)
        wanted = self.headers["Range"]
        self.lab.asked.append((key, wanted))
        if fault.kind == "status":
            self.refuse(fault.at, "unavailable" if fault.at == 503 else "server_error", "not now")
            return
        content = bytearray(self.lab.contents[key])
        if fault.kind == "flip":
            content[fault.at] ^= 1
        start, stop = 0, len(content)
        if wanted and fault.kind != "no_range":
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1, stop) if last else stop
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if self.lab.failing and self.lab.failing[0] == key and self.lab.failing[1] < stop and start < self.lab.failing[2]:
            fault = Fault("cut", self.lab.failing[1])
        ends = fault.kind in ("cut", "stall", "reset") and fault.at < stop
        self.wfile.write(content[start : fault.at if ends else stop])
        if ends:
            self.wfile.flush()
            if fault.kind == "stall":
                self.lab.released.wait(30)
            elif fault.kind == "reset":
                time.sleep(0.05)  # let what was sent arrive before the reset overtakes it
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.leave()

    def leave(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, reply: Reply, status: int = 200) -> None:
        self.send_json(status, msgspec.json.encode(reply))

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send_json(status, msgspec.json.encode({"code": code, "detail": message, "status": status}))

    def send_json(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def running() -> Iterator[tuple[Lab, Session]]:
    """Run a lab that fails on demand, and open a session on it."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.lab = Lab()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with Session(f"http://127.0.0.1:{server.server_address[1]}", token="faulty", workspace="lab") as here:
            yield server.lab, here
    finally:
        server.lab.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
