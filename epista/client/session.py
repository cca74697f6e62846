"""Sessions: who is asking, and where."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING

from epista.client import embedded, namespaces, offline, settings
from epista.client.provenance import Provenance
from epista.client.transfer.cache import Cache
from epista.contract.errors import AmbiguousNameError, ForbiddenError, NotFoundError, SettingsError
from epista.contract.experiments import Experiment, ResolveExperiment
from epista.contract.workspaces import ListWorkspaces, Workspaces

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from epista.client.wire import Wire


class Session:
    """
    Who is asking and where: a server, a token, a workspace, and the experiment and notebook at work.

    *location* is a server's ``http(s)://`` address, or a folder: an embedded lab, created if absent, whose server is a child
    process that ends with the session. What is not given comes from the ``EPISTA_*`` variables, then from the credentials file.
    *workspace* is a name or id; without one, the only workspace that the token opens (in an embedded lab, ``lab``).

    Raises:
        SettingsError: no server or no token is known, or a setting makes no sense; the message lists every place looked in.
        UnreachableError: the server of an embedded lab did not start.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        *,
        token: str | None = None,
        workspace: str | None = None,
        experiment: str | None = None,
        notebook: str | None = None,
        progress: bool | None = None,
    ) -> None:
        namespaces.discover()
        found = settings.read(
            os.environ,
            location=location,
            token=token,
            workspace=workspace,
            experiment=experiment,
            notebook=notebook,
            progress=progress,
        )
        self._location = found.location
        self._workspace = found.workspace
        self._experiment = found.experiment
        self._notebook = found.notebook
        self._show_progress = found.show_progress
        self._provenance = Provenance(records_code=found.records_code)
        self._choosing = threading.Lock()
        self._experiments: dict[str, str] = {}
        with contextlib.ExitStack() as undo:
            lab = embedded.start(found.location, os.environ) if found.is_folder else None
            if lab:
                undo.callback(lab.stop)
            # Not before: `embedded` loads it while the child starts.
            from epista.client.wire import Wire

            if lab:
                self._workspace = found.workspace or embedded.WORKSPACE
                self._wire = Wire(lab.url, lab.secret, check=lab.check)
                # An embedded lab's own files are as near as a cache would be.
                self._cache = None
            else:
                self._cache = _cache(found)
                self._wire = Wire(found.location, found.token, refresh_url=found.refresh_url)
            undo.callback(self._wire.close)
            # Also runs when the session is forgotten, and at the end of the interpreter.
            self._finalizer = weakref.finalize(self, undo.pop_all().close)
        self._is_embedded = found.is_folder

    def __repr__(self) -> str:
        workspace = f" workspace={self._workspace!r}" if self._workspace else ""
        experiment = f" experiment={self._experiment!r}" if self._experiment else ""
        return f"<{type(self).__name__} {self._location!r}{workspace}{experiment}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and stop the server of an embedded lab if this process started it. Twice is fine."""
        self._finalizer()

    @property
    def wire(self) -> Wire:
        """The connection to the server."""
        return self._wire

    @property
    def cache(self) -> Cache | None:
        """Where what was read is kept on this machine, if the settings say so."""
        return self._cache

    @property
    def url(self) -> str:
        """The server's address."""
        return self._wire.url

    @property
    def location(self) -> str:
        """The server's address, or the folder of an embedded lab: what another process would open."""
        return self._location

    @property
    def name(self) -> str:
        """The workspace, by the name or id it was asked for; without one, the only one there is, looked up once."""
        with self._choosing:
            if self._workspace is None:
                found: str = offline.answer(self._cache, self._wire, ["workspace"], lambda: _only(self._wire))
                self._workspace = found
            return self._workspace

    @property
    def session(self) -> Session:
        """This session, without the verbs as far as types are concerned."""
        return self

    @property
    def experiment_name(self) -> str | None:
        """The active experiment, where keys without a folder are written and first looked up."""
        return self._experiment

    def experiment_called(self, called: str) -> str:
        """Return the name of the experiment that is meant where something is written: the one of that number, else *called*."""
        with self._choosing:
            if called in self._experiments:
                return self._experiments[called]
        try:
            found = self._wire.call("experiments.resolve", ResolveExperiment(workspace=self.name, ref=called), reply=Experiment)
            meant = found.name if found.number == called else called
        except (NotFoundError, AmbiguousNameError, ForbiddenError):
            meant = called  # the name of a new one, or one that this token may write and not read
        with self._choosing:
            self._experiments[called] = meant
        return meant

    @property
    def notebook(self) -> str | None:
        """The notebook, recorded with what it makes."""
        return self._notebook

    @property
    def provenance(self) -> Provenance:
        """What this session has read, and what is doing the reading."""
        return self._provenance

    @property
    def show_progress(self) -> bool | None:
        """Whether progress is shown; None: only on a terminal or in a notebook."""
        return self._show_progress

    @property
    def is_embedded(self) -> bool:
        """Whether the server is this session's own child, on this machine's disk."""
        return self._is_embedded


def _cache(found: settings.Settings) -> Cache | None:
    if found.cache_dir is None:
        return None
    return Cache(found.cache_dir, found.cache_bytes, f"{found.location}\0{found.token}")


def _only(wire: Wire) -> str:
    names = [workspace.name for workspace in wire.call("workspaces.find", ListWorkspaces(), reply=Workspaces).workspaces]
    if not names:
        raise NotFoundError(f"this token opens no workspace at {wire.url}", hint="ask an admin: epista member add USER ROLE")
    if len(names) > 1:
        raise SettingsError(
            f"no workspace named, and there are several: {', '.join(names)}",
            hint=f"epista.Workspace(..., workspace={names[0]!r}), or EPISTA_WORKSPACE_ID",
            details={"workspaces": names},
        )
    return names[0]
