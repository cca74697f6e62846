"""Peak memory while the large object moves, of the server's processes and of a fresh client, as the kernel counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import lab
from tests.benchmarks.rounds import Absent, Contestant, Figures
from tests.benchmarks.scales import Scale

_CLIENT = """
import json, os, sys
import epista
from tests.benchmarks.lab import peak_mib
url, token, verb, *arguments = json.loads(sys.stdin.read())
with epista.Workspace(url, token=token, workspace="lab", progress=False) as ws:
    getattr(ws, verb)(*arguments)
print(peak_mib(os.getpid()))
"""


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return the two directions."""
    if not sys.platform.startswith("linux"):
        return dict.fromkeys(("epista put_file", "epista fetch"), Absent("peak memory is read from /proc, which is Linux's"))
    server, ws = stack.enter_context(lab.serving(folder / "lab"))
    source, target = folder / "source.bin", folder / "target.bin"
    lab.fill(source, scale.object_bytes)
    ws.put_file("fetch/large.bin", source)

    def move(verb: str, *arguments: str) -> Figures:
        lab.forget_peaks(server)
        asked = json.dumps([server.url, server.token, verb, *arguments])
        done = subprocess.run([sys.executable, "-c", _CLIENT], input=asked, text=True, stdout=subprocess.PIPE, check=True)
        peaks = lab.peaks_mib(server)
        return {"client_mib": float(done.stdout), "server_mib": max(peaks), "servers_mib": sum(peaks)}

    def put() -> Figures:
        lab.renew(source)
        with lab.room_given_back(server.folder):
            return move("put_file", "put/large.bin", str(source))

    def fetch() -> Figures:
        target.unlink(missing_ok=True)
        return move("fetch", "fetch/large.bin", str(target))

    return {"epista put_file": put, "epista fetch": fetch}
