"""How far a transfer has come: a bar on stderr for people, nothing for programs, and the way to stop it."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tqdm import tqdm

    from epista.client.session import Session

_log = logging.getLogger("epista")

_TINY_BYTES = 8 * 1024 * 1024
_TINY_FILES = 50
_PATIENCE_SECONDS = 0.5


class Stopped(Exception):
    """The transfer was given up; raised in its threads, never seen by a user."""


class Progress:
    """Counts what has moved, and in `unanswered` calls in a row without an answer; `advance` raises `Stopped` after `stop`."""

    def __init__(self, bar: tqdm[Any] | None = None) -> None:
        self.unanswered = 0
        self._bar = bar
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def advance(self, moved_bytes: int) -> None:
        """Count bytes that have moved; negative when some have to move again."""
        if self._stopped.is_set():
            raise Stopped
        if self._bar is not None:
            with self._lock:
                self._bar.update(moved_bytes)

    def wait(self, seconds: float) -> None:
        """Pause, but not longer than until `stop`."""
        self._stopped.wait(seconds)
        self.advance(0)

    def stop(self) -> None:
        """Make every thread of this transfer end at its next piece."""
        self._stopped.set()

    def note(self, text: str) -> None:
        """Say something worth knowing: in the log, and above the bar if there is one."""
        _log.info(text)
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)


@contextlib.contextmanager
def shown(here: Session, verb: str, total_bytes: int, files: int = 1) -> Iterator[Progress]:
    """
    Show the progress of a transfer while the block runs.

    Without a setting only a terminal sees it, and only for a transfer that is not over at once.
    """
    if not _wanted(here.show_progress, total_bytes, files):
        yield Progress()
        return
    from tqdm import tqdm

    delay = 0.0 if here.show_progress else _PATIENCE_SECONDS
    with tqdm(
        total=total_bytes, desc=verb, unit="B", unit_scale=True, unit_divisor=1024, delay=delay, file=sys.stderr, leave=False
    ) as bar:
        yield Progress(bar)


def _wanted(setting: bool | None, total_bytes: int, files: int) -> bool:
    if setting is not None:
        return setting
    # Python without a console (pythonw) has no stderr at all.
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    return on_terminal and (total_bytes >= _TINY_BYTES or files >= _TINY_FILES)
