"""How long things take to start, in fresh processes, beside a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.rounds import Absent, Contestant, Figures, clock
from tests.benchmarks.scales import Scale


def contestants(stack: ExitStack, folder: Path, scale: Scale) -> dict[str, Contestant | Absent]:
    """Return the bare interpreter, the import, and a lab that answers."""

    def started(source: str) -> Contestant:
        def turn() -> Figures:
            with clock() as found:
                subprocess.run([sys.executable, "-c", source], check=True)
            return found

        return turn

    return {
        "bare interpreter": started("pass"),
        "epista import": started("import epista"),
        "epista opens a lab": started(f"import epista; epista.Workspace({str(folder / 'lab')!r}).keys()"),
    }
