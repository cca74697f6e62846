"""
One reader of images, ours or a peer's, alone in a process: driven line by line, or behind a tile server as small as can be.

Runs by itself, in whatever environment has the reader: it imports nothing of the tests. Each line on stdin is a JSON list of an
act and its arguments, each answer one JSON line. A region is ``[x, y, channel]`` in pixels of level 0, a tile ``[level, column,
row]`` of 256 pixels a side of its level, in all channels.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

TILE = 256
QUALITY = 85

COLORS = ("0000ff", "00ff00", "ff0000", "ff00ff")
LIMITS = (0, 200)
"""How the four channels are shown, by everybody."""


class Reader(Protocol):
    """What is measured."""

    def forget(self) -> None:
        """Empty the caches."""

    def region(self, x: int, y: int, size: int, channel: int) -> NDArray[Any]:
        """Return pixels of level 0 as (height, width)."""

    def tile(self, level: int, column: int, row: int) -> bytes:
        """Return a JPEG of all channels, with a colour for each pixel (4:4:4)."""


class Epista:
    """What a child of our server does: the index is at hand, tiles are kept as long as there is room."""

    package = "epista"

    def __init__(self, path: str) -> None:
        from epista.server.imaging import image, sources

        self._source = sources.File(path)
        self._index = image.read_index(self._source)
        self.forget()

    def forget(self) -> None:
        from epista.server.imaging import image
        from epista.server.imaging.cache import TileCache

        self._image = image.open_image(self._source, index=self._index, cache=TileCache())

    def region(self, x: int, y: int, size: int, channel: int) -> NDArray[Any]:
        return self._image.read_region(x, y, size, size, channels=[channel])

    def tile(self, level: int, column: int, row: int) -> bytes:
        from epista.server.imaging import drawing, iiif, rendering

        whole, step = self._index.scenes[0].levels[0], TILE << level
        asked = iiif.parse(
            whole.width,
            whole.height,
            region=f"{column * step},{row * step},{step},{step}",
            size=f"{TILE},",
            rotation="0",
            quality="default",
            format="jpg",
        )
        return drawing.picture(self._image, rendering.parse(RENDERING), asked)


RENDERING = ",".join(f"{number}:{color}:{LIMITS[0]}:{LIMITS[1]}" for number, color in enumerate(COLORS))
"""The same, as Epista's addresses have it."""


class Aszarr:
    """tifffile's Zarr store, read by zarr-python."""

    package = "zarr"

    def __init__(self, path: str) -> None:
        import tifffile
        import zarr

        self._levels: Any = zarr.open(tifffile.imread(path, aszarr=True), mode="r")

    def forget(self) -> None:
        """It keeps none."""

    def region(self, x: int, y: int, size: int, channel: int) -> NDArray[Any]:
        found: NDArray[Any] = self._levels["0"][channel, y : y + size, x : x + size]
        return found

    def tile(self, level: int, column: int, row: int) -> bytes:
        raise NotImplementedError("it draws nothing")


class LargeImage:
    """large_image, with the source that it chooses itself."""

    package = "large-image"

    def __init__(self, path: str) -> None:
        import large_image
        from large_image.cache_util import cachesClear

        # Of channels that meet in a color it shows the brightest, and does not add them.
        bands = [
            {"frame": number, "palette": ["#000000", f"#{color}"], "min": LIMITS[0], "max": LIMITS[1]}
            for number, color in enumerate(COLORS)
        ]
        self._plain: Any = large_image.open(path)
        self._shown: Any = large_image.open(path, style={"bands": bands})
        self._array = large_image.constants.TILE_FORMAT_NUMPY
        self.forget = cachesClear

    def region(self, x: int, y: int, size: int, channel: int) -> NDArray[Any]:
        where = {"left": x, "top": y, "width": size, "height": size, "units": "base_pixels"}
        found: NDArray[Any] = self._plain.getRegion(region=where, frame=channel, format=self._array)[0]
        return found[..., 0]

    def tile(self, level: int, column: int, row: int) -> bytes:
        step = TILE << level
        where = {"left": column * step, "top": row * step, "width": step, "height": step, "units": "base_pixels"}
        output = {"maxWidth": TILE, "maxHeight": TILE}
        found: bytes = self._shown.getRegion(
            region=where, output=output, encoding="JPEG", jpegQuality=QUALITY, jpegSubsampling=0
        )[0]
        return found


class RioTiler:
    """rio-tiler on GDAL; level 0 only, of the pages of a TIFF."""

    package = "rio-tiler"

    def __init__(self, path: str) -> None:
        from rasterio.windows import Window
        from rio_tiler.io import Reader as RioReader

        # Of images that lie on no map.
        warnings.simplefilter("ignore")
        self._window = Window
        self._open: Callable[[int], Any] = lambda number: RioReader(f"GTIFF_DIR:{number + 1}:{path}")
        self._pages: list[Any] = []
        # A file that GDAL has open is for one thread at a time; there is a process for each core.
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        # GDAL's cache of blocks lives as long as the files are open.
        for page in self._pages:
            page.close()
        self._pages = [self._open(number) for number in range(len(COLORS))]

    def region(self, x: int, y: int, size: int, channel: int) -> NDArray[Any]:
        found: NDArray[Any] = self._pages[channel].read(window=self._window(x, y, size, size)).data[0]
        return found

    def tile(self, level: int, column: int, row: int) -> bytes:
        assert level == 0
        total = np.zeros((TILE, TILE, 3), np.uint16)
        for page, color in zip(self._pages, COLORS, strict=True):
            with self._lock:
                part = page.read(window=self._window(column * TILE, row * TILE, TILE, TILE))
            part.rescale(in_range=(LIMITS,))
            for at in range(3):
                if color[2 * at : 2 * at + 2] == "ff":
                    total[..., at] += part.data[0]
        into = io.BytesIO()
        # Its own writer, GDAL's, knows one colour for four pixels only.
        Pillow.fromarray(np.minimum(total, 255).astype(np.uint8)).save(into, "JPEG", quality=QUALITY, subsampling=0)
        return into.getvalue()


READERS: dict[str, Any] = {
    "epista": Epista,
    "aszarr": Aszarr,
    "large_image": LargeImage,
    "rio-tiler": RioTiler,
}


def drive(reader: Reader) -> None:
    """Do what the lines on stdin ask for."""
    acts: dict[str, Callable[..., Any]] = {
        "pixels": lambda at, size, into: np.save(into, reader.region(at[0], at[1], size, at[2])),
        "picture": lambda at, into: Path(into).write_bytes(reader.tile(*at)),
        "regions": lambda many, size: _measured(reader, many, lambda at: reader.region(at[0], at[1], size, at[2])),
        "tiles": lambda many: _measured(reader, many, lambda at: reader.tile(*at)),
    }
    for line in sys.stdin:
        act, *given = json.loads(line)
        told = acts[act](*given)
        print(json.dumps(told if isinstance(told, dict) else None), flush=True)


def _measured(reader: Reader, many: list[Any], act: Callable[[Any], object]) -> dict[str, float]:
    """Time it for each of *many*, and take the peak memory of this process meanwhile."""
    reader.forget()
    is_linux = sys.platform.startswith("linux")
    if is_linux:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    spent, began = time.process_time(), time.perf_counter()
    for one in many:
        act(one)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    told = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8")) if is_linux else None
    peak = int(told[1]) / 1024 if told else 0.0
    return {"seconds": seconds, "cpu_ms": cpu / len(many) * 1000, "per_second": len(many) / seconds, "peak_mib": peak}


def serve(kind: str, path: str, port: int, workers: int) -> None:
    """Serve ``/LEVEL/COLUMN/ROW.jpg``, by uvicorn, from so many processes."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    for _ in range(workers - 1):
        if not os.fork():
            break
    reader = READERS[kind](path)

    def tile(request: Request) -> Response:
        at = request.path_params
        return Response(reader.tile(at["level"], at["column"], at["row"]), media_type="image/jpeg")

    app = Starlette(routes=[Route("/{level:int}/{column:int}/{row:int}.jpg", tile)])
    # People look at a screen for longer than its five seconds before they move on.
    uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_keep_alive=60)).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        wanted = READERS[sys.argv[2]]
        made = wanted(sys.argv[3])
        print(json.dumps(importlib.metadata.version(wanted.package)), flush=True)
        drive(made)
