"""
How long things take to start, in fresh processes, beside a bare interpreter: until the first answer, not until all is closed.

Modules are compiled, as they are where pip has installed them: by the round that does not count, into a folder of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return the bare interpreter, the import, and a lab that answers."""

    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")

    def started(source: str) -> Contestant:
        command = [sys.executable, "-c", f"{source}; print('answered', flush=True)"]

        def turn() -> Figures:
            with clock() as found:
                process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
                assert process.stdout
                answer = process.stdout.readline()
            rest, _ = process.communicate()
            assert (answer, rest, process.returncode) == (b"answered\n", b"", 0), "it ends as it should"
            return found

        return turn

    return {
        "bare interpreter": started("pass"),
        "epista import": started("import epista"),
        "epista opens a lab": started(f"import epista; ws = epista.Workspace({str(folder / 'lab')!r}); ws.keys()"),
    }
