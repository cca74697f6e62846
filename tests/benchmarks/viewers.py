"""
Tiles over HTTP: of our server by the IIIF Image API, and of tile servers as small as can be on other readers.

First from one browser alone, then for fifty people who look at the same image at once: each comes, looks at all of it, zooms in,
pans about and zooms out, and asks for what OpenSeadragon would ask for, six tiles at a time, and for no tile twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.benchmarks import image_readers, images, lab
from tests.benchmarks.image_readers import RENDERING, TILE
from tests.benchmarks.images import Made
from tests.benchmarks.rounds import Absent, Contestant, Figures
from tests.benchmarks.scales import Scale

Place = tuple[int, int, int]
"""A tile: level, column, row."""

CONNECTIONS = 6
"""Of one browser to one server."""

WORKERS = 2
"""Processes of a small tile server; ours has as many children that draw."""

_SCREEN = (1280, 800)
_LONGEST_SECONDS = 120


class Served:
    """A server: where it has a tile, and its processes."""

    def __init__(self, port: int, path: Callable[[Place], str], family: Callable[[], list[psutil.Process]]) -> None:
        self.port = port
        self.path = path
        self._family = family

    def cpu_seconds(self) -> float:
        # Children that ended are in what their parent waited for.
        return sum(sum(one.cpu_times()[:4]) for one in self._family())

    def memory_mib(self) -> float:
        """Return the memory of all its processes, what they share counted once."""
        return sum(getattr(one.memory_full_info(), "pss", one.memory_info().rss) for one in self._family()) / 1024**2


class Browser:
    """As many connections as a browser has, and what it was given already."""

    def __init__(self, server: Served) -> None:
        self.seconds: list[float] = []
        """How long each tile took, from the moment it was asked for, which is when a connection is free, to its last byte."""
        self._server = server
        self._known: set[Place] = set()
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(None)

    async def show(self, tiles: Sequence[Place]) -> None:
        """Get those that are not here yet."""
        missing = [tile for tile in tiles if tile not in self._known]
        self._known.update(missing)
        await asyncio.gather(*map(self.get, missing))

    async def get(self, tile: Place) -> bytes:
        connection = await self._free.get()
        if connection is None:
            connection = await asyncio.open_connection("127.0.0.1", self._server.port)
        reader, writer = connection
        began = time.perf_counter()
        writer.write(f"GET {self._server.path(tile)} HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.split()[1] == "200", head
        body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
        self.seconds.append(time.perf_counter() - began)
        self._free.put_nowait(connection)
        return body

    async def close(self) -> None:
        while not self._free.empty():
            if connection := self._free.get_nowait():
                connection[1].close()


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return each server, asked by one browser for tiles that nobody asked for before."""
    made = Made(scale.image_px)
    path = made.write(folder / "image.ome.tif", "zlib")
    found: dict[str, Contestant | Absent] = {}
    # Our two have a server each: it keeps what it drew.
    for kind, is_whole in (("epista", True), ("large_image", True), ("epista", False), ("rio-tiler", False)):
        name = f"{kind} tiles, HTTP" if is_whole else f"{kind} tiles of level 0, HTTP"
        server = _server(stack, kind, folder / name, path, made)
        if isinstance(server, Absent):
            found[name] = server
        else:
            shown = images.views(made, is_whole=is_whole)
            found[name] = _tiles(server, images.turns(shown, -(-scale.repeats // len(shown[0]))))
    return found


def crowds(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return each server, asked by many people at once; after the first round they ask for what others asked for before."""
    made = Made(scale.image_px)
    path = made.write(folder / "image.ome.tif", "zlib")
    found: dict[str, Contestant | Absent] = {}
    for kind in ("epista", "large_image"):
        server = _server(stack, kind, folder / kind, path, made)
        found[f"{kind} many people"] = server if isinstance(server, Absent) else _people(server, made, scale)
    return found


def _server(stack: ExitStack, kind: str, folder: Path, image: Path, made: Made) -> Served | Absent:
    """Start one, and look at what it draws."""
    if reason := images.missing(kind):
        return Absent(reason)
    folder.mkdir()
    server = stack.enter_context(_ours(folder / "lab", image) if kind == "epista" else _theirs(kind, image, folder))
    images.check_picture(asyncio.run(_one(server, (0, 1, 2))), kind, made, (0, 1, 2))
    return server


def walk(made: Made, person: int) -> list[list[Place]]:
    """Return the tiles of each screen that somebody sees, one after the other: always the same for the same *person*."""
    chance = random.Random(person)
    last = made.levels - 1
    whole = next((level for level in range(made.levels) if made.px >> level <= max(_SCREEN)), last)
    x, y = (chance.uniform(0.2, 0.8) * made.px for _ in range(2))
    screens = [_screen(made, whole, made.px / 2, made.px / 2)]
    for _ in range(2):
        screens += [_screen(made, level, x, y) for level in range(whole - 1, -1, -1)]
        direction = chance.choice([(1, 0), (0, 1), (1, 1), (-1, 0), (0, -1), (-1, -1)])
        for _ in range(4):
            x, y = x + direction[0] * _SCREEN[0] / 3, y + direction[1] * _SCREEN[1] / 3
            screens.append(_screen(made, 0, x, y))
        screens += [_screen(made, level, x, y) for level in range(1, whole)]
        x, y = (chance.uniform(0.2, 0.8) * made.px for _ in range(2))
    return screens


def _screen(made: Made, level: int, x: float, y: float) -> list[Place]:
    """Return the tiles of a level that a screen shows whose middle is a place in pixels of level 0."""
    count = max(1, (made.px >> level) // TILE)
    spans = []
    for middle, size in ((x, _SCREEN[0]), (y, _SCREEN[1])):
        at = middle / 2**level - size / 2
        spans.append(range(max(0, int(at // TILE)), min(count, int((at + size) // TILE) + 1)))
    return [(level, column, row) for row in spans[1] for column in spans[0]]


def _tiles(server: Served, asked: Iterator[list[list[Place]]]) -> Contestant:
    async def ask(tiles: list[Place]) -> float:
        browser = Browser(server)
        began = time.perf_counter()
        await browser.show(tiles)
        seconds = time.perf_counter() - began
        await browser.close()
        return seconds

    def turn() -> Figures:
        tiles = list(itertools.chain.from_iterable(next(asked)))
        before = server.cpu_seconds()
        seconds = asyncio.run(ask(tiles))
        spent = server.cpu_seconds() - before
        return {"seconds": seconds, "per_second": len(tiles) / seconds, "cpu_ms": spent / len(tiles) * 1000}

    return turn


def _people(server: Served, made: Made, scale: Scale) -> Contestant:
    walks = [walk(made, person) for person in range(scale.people)]

    async def look(person: int) -> list[float]:
        browser = Browser(server)
        chance = random.Random(person)
        # They do not all come at one moment, and look for a while before they move on.
        await asyncio.sleep(chance.uniform(0, scale.look_seconds))
        for screen in walks[person]:
            await browser.show(screen)
            await asyncio.sleep(chance.uniform(0.5, 1.5) * scale.look_seconds)
        await browser.close()
        return browser.seconds

    async def all_look() -> tuple[list[float], float]:
        highest = 0.0

        async def watch() -> None:
            nonlocal highest
            while True:
                highest = max(highest, await asyncio.to_thread(server.memory_mib))
                await asyncio.sleep(1)

        watching = asyncio.create_task(watch())
        taken = await asyncio.gather(*map(look, range(scale.people)))
        watching.cancel()
        return list(itertools.chain.from_iterable(taken)), max(highest, server.memory_mib())

    def turn() -> Figures:
        before, began = server.cpu_seconds(), time.perf_counter()
        taken, memory = asyncio.run(all_look())
        seconds = time.perf_counter() - began
        many = statistics.quantiles(taken, n=100)
        return {
            "seconds": seconds,
            "tiles": float(len(taken)),
            "p50_ms": many[49] * 1000,
            "p95_ms": many[94] * 1000,
            "per_second": len(taken) / seconds,
            "cpu_ms": (server.cpu_seconds() - before) / len(taken) * 1000,
            "servers_mib": memory,
        }

    return turn


async def _one(server: Served, tile: Place) -> bytes:
    browser = Browser(server)
    found = await browser.get(tile)
    await browser.close()
    return found


@contextmanager
def _ours(folder: Path, image: Path) -> Iterator[Served]:
    """Serve an image as anybody would; addresses are of one tile session."""
    with lab.serving(folder) as (server, ws):
        ws.put_file("image.ome.tif", image)
        api = server.api()
        opened = api.ok(api.post("~/tiles", ref="image.ome.tif"))
        base = f"/tiles/{opened['token']}/iiif/{opened['version']}~{RENDERING}"

        def path(tile: Place) -> str:
            level, column, row = tile
            step = TILE << level
            return f"{base}/{column * step},{row * step},{step},{step}/{TILE},/0/default.jpg"

        yield Served(int(server.url.rpartition(":")[2]), path, server.family)


@contextmanager
def _theirs(kind: str, image: Path, folder: Path) -> Iterator[Served]:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = [images.python_of(kind), "-P", image_readers.__file__, "serve", kind, str(image), str(port), str(WORKERS)]
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(given, stdout=log, stderr=log)
    main = psutil.Process(process.pid)
    try:
        served = Served(port, lambda tile: "/{}/{}/{}.jpg".format(*tile), lambda: [main, *main.children(recursive=True)])
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                asyncio.run(_one(served, (0, 0, 0)))
                break
            assert process.poll() is None and time.monotonic() < until, (folder / f"{kind}.log").read_text(encoding="utf-8")
            time.sleep(0.1)
        yield served
    finally:
        for one in main.children(recursive=True):
            one.send_signal(signal.SIGTERM)
        process.terminate()
        process.wait()
