"""
Provenance: what a session has read, and what is doing the reading.

What is written names what was read before, the newest `MAX_READ` of it; a `run` narrows that to what was read inside of it. Runs
belong to their context (`contextvars`), so threads and tasks do not mix theirs; a new thread begins outside of every run, unless
it is started with ``contextvars.copy_context().run``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from epista.client.settings import SECRETS
from epista.contract.lineage import MAX_QUERIES, MAX_READ, MAX_SOURCE, Activity, Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from epista.client.session import Session

GIT_SECONDS = 2.0
"""How long git may take to answer, once a session; without an answer nothing is recorded of it."""

_ASSIGNED = re.compile(r"""(?i)(\b\w*(?:token|passw(?:or)?d|secret|api_?key)\w*["']?\s*[=:]\s*[rbf]?)(["'])(?:(?!\2).)*\2""")
_TOKEN = re.compile(r"\bepista_(?:pat|kernel)_[\w-]+")


class _Noted:
    """The newest things that were noted; how many older ones were dropped is known."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}
        self.left_out = 0

    def add(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._ids.pop(id, None)
            self._ids[id] = None
            if len(self._ids) > self._most:
                del self._ids[next(iter(self._ids))]
                self.left_out += 1

    def ids(self) -> tuple[str, ...]:
        return tuple(self._ids)


class Run:
    """What was read between two moments: by a session so far, or inside of a `run`."""

    def __init__(self, provenance: Provenance, title: str | None, outer: Run | None) -> None:
        self.title = title
        """What it was called; None for the session itself."""
        self.started_at = datetime.now(UTC)
        """When it began."""
        self._provenance = provenance
        self._outer = outer
        self._versions = _Noted(MAX_READ)
        self._queries = _Noted(MAX_QUERIES)

    def __repr__(self) -> str:
        return f"<Run {self.title!r}: {len(self._versions.ids())} versions and {len(self._queries.ids())} queries read>"


_current: ContextVar[Run | None] = ContextVar("epista_run", default=None)


class Provenance:
    """What one session has read. *records_code* says whether script, git commit and cell are told."""

    def __init__(self, *, records_code: bool = True) -> None:
        self._lock = threading.Lock()
        self._all = Run(self, None, None)
        self._records_code = records_code
        self._program: _Program | None = None

    def read(self, version_ids: Iterable[str]) -> None:
        """Note versions that were read."""
        ids = tuple(version_ids)
        with self._lock:
            for run in (*self._runs(), self._all):
                run._versions.add(ids)

    def queried(self, query_id: str) -> None:
        """Note a query whose result was read; the lab's log knows what went into it."""
        with self._lock:
            for run in (*self._runs(), self._all):
                run._queries.add((query_id,))

    def activity(self) -> Activity:
        """Return what is to be told of versions that are made now: by the innermost run, with what was read inside of it."""
        run = next(self._runs(), self._all)
        with self._lock:
            read, left_out, queries = run._versions.ids(), run._versions.left_out, run._queries.ids()
        return self._told(run, read=read, left_out=left_out, queries=queries)

    def stated(self, queries: Iterable[str] = ()) -> Activity:
        """Return the same where whoever writes says what went in, and of queries only these."""
        return self._told(next(self._runs(), self._all), read=(), left_out=0, queries=tuple(queries))

    @contextlib.contextmanager
    def run(self, title: str) -> Iterator[Run]:
        """Narrow what is noted to what is read until the context ends."""
        outer = _current.get()
        entered = Run(self, title, outer)
        _current.set(entered)
        try:
            yield entered
        finally:
            # Not by a token, which another context, such as that of a generator's reader, would refuse.
            _current.set(outer)

    def _runs(self) -> Iterator[Run]:
        """Give the runs of this session that the caller is in, innermost first."""
        run = _current.get()
        while run is not None:
            if run._provenance is self:
                yield run
            run = run._outer

    def _told(self, run: Run, **noted: Any) -> Activity:
        program = self._found() if self._records_code else _Program(None, None, None)
        return Activity(
            title=run.title,
            cell=current_cell() if self._records_code else None,
            script=program.script,
            git_commit=program.git_commit,
            is_dirty=program.is_dirty,
            python=platform.python_version(),
            epista=importlib.metadata.version("epista"),
            started_at=run.started_at if run.title is not None else None,
            **noted,
        )

    def _found(self) -> _Program:
        with self._lock:
            if self._program is None:
                self._program = current_program()
            return self._program


class _Program(NamedTuple):
    """What runs, as far as it can be found."""

    script: str | None
    git_commit: str | None
    is_dirty: bool | None


def run(here: Session, title: str) -> contextlib.AbstractContextManager[Run]:
    """
    Call what is done inside of a ``with`` block *title*, and let what is written there name only what was read there.

    Blocks may be nested; what an inner one reads, the outer ones have read too. Threads that are started inside do not know of
    the block, unless they are run in a copy of the context: ``contextvars.copy_context().run(function)``.
    """
    return here.provenance.run(title)


def worth_telling(activity: Activity) -> Activity | None:
    """Return an activity; None if nothing was read, and it is not known what runs: a version need not say so."""
    known = activity.title, activity.cell, activity.script, activity.git_commit, activity.read, activity.queries
    return activity if any(known) else None


def without_secrets(source: str) -> str:
    """Return the source of a cell without tokens, and without texts that are given to names such as ``password``."""
    return _TOKEN.sub("...", _ASSIGNED.sub(r"\1\2...\2", source))


def current_cell() -> Cell | None:
    """Return the cell of a notebook, or of IPython, that is being run; None anywhere else."""
    # Never imported: where nobody else has, there is no cell.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is None:
        return None
    sources = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None) or []
    source = sources[-1] if sources and isinstance(sources[-1], str) else None
    id = _metadata(shell).get("cellId")
    return Cell(
        # Counted by the history: versions of IPython differ in when they begin to count the next cell.
        number=len(sources) - 1 if source else None,
        id=id[:500] if isinstance(id, str) else None,
        source=None if not source else without_secrets(source)[:MAX_SOURCE],
    )


def _metadata(shell: Any) -> dict[str, Any]:
    """Return what the notebook sent with the cell; an IPython without a kernel has no notebook."""
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    parent = get_parent("shell") if get_parent is not None else None
    found = parent.get("metadata") if isinstance(parent, dict) else None
    return found if isinstance(found, dict) else {}


def current_program() -> _Program:
    """Return the script that runs, and what git says of it; of a notebook, what git says of where it runs."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        module = spec.name.removesuffix(".__main__")
        # Our own command is not what made anything.
        return _Program(None if module.partition(".")[0] == "epista" else module[:500], None, None)
    if not isinstance(file, str):
        return _Program(None, *_commit(Path.cwd())[1:]) if current_cell() is not None else _Program(None, None, None)
    path = Path(file).absolute()
    if path.stem == "epista":
        return _Program(None, None, None)
    root, commit, is_dirty = _commit(path.parent)
    resolved = path.resolve()
    is_below = root is not None and resolved.is_relative_to(root)
    return _Program((resolved.relative_to(root).as_posix() if root and is_below else path.name)[:500], commit, is_dirty)


def _commit(folder: Path) -> tuple[Path | None, str | None, bool | None]:
    """Return the root of the repository of a folder, its commit, and whether tracked files differ from that."""
    found = _git(folder, "rev-parse", "--show-toplevel", "HEAD")
    lines = found.splitlines() if found else []
    if len(lines) != 2 or not re.fullmatch("[0-9a-f]{40,64}", lines[1]):
        return None, None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Path(lines[0]).resolve(), lines[1], None if changes is None else bool(changes.strip())


def _git(folder: Path, *arguments: str) -> str | None:
    # It shall neither write nor run what a repository's settings name, and has no business with our secrets.
    environ = {name: value for name, value in os.environ.items() if name not in SECRETS} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=GIT_SECONDS, env=environ, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
