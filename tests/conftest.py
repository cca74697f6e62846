"""
The real thing, in process: config -> app -> server -> ws.

One uvicorn thread serves the app of the current test over real sockets, so the client under test is the client that people use.
The bucket's acceptance tests run three times: on this server with a lab in a folder, on one embedded lab that is kept for the
whole run, and on this server with a lab in PostgreSQL and S3.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

import epista
from epista.client import workspaces
from epista.server import founding
from epista.server.app import catalog_of, create_app
from epista.server.config import Config
from epista.server.stores.s3 import Bucket
from tests import seaweed as seaweedfs
from tests import spark
from tests.makers import Clock, Server
from tests.postgres import Postgres
from tests.seaweed import Seaweed
from tests.spark import Spark as SparkCluster


class Delegate:
    """An ASGI app that passes every request on to the app of the current test."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Thread:
    """One event loop in a thread, with uvicorn on it."""

    def __init__(self) -> None:
        self.delegate = Delegate()
        self.loop = asyncio.new_event_loop()
        # With the protocol named, asyncio turns Nagle off, as the embedded server does.
        self._listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        config = uvicorn.Config(self.delegate, log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="test-server", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._server.serve(sockets=[self._listening]))

    def start(self, app: Starlette) -> Callable[[], None]:
        """Serve *app*; the result stops it."""
        context = app.router.lifespan_context(app)
        asyncio.run_coroutine_threadsafe(context.__aenter__(), self.loop).result(30)
        self.delegate.app = app

        def stop() -> None:
            asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), self.loop).result(30)

        return stop

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self.loop.close()


@pytest.fixture(scope="session")
def server_thread() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.close()


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the settings and credentials of whoever runs the tests out of them."""
    import os

    for name in list(os.environ):
        if name.startswith(("EPISTA_", "BIOLAKE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EPISTA_CREDENTIALS", str(tmp_path_factory.getbasetemp() / "no-credentials.json"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The settings of the test's server; a test module may override this fixture."""
    return Config(lab=str(tmp_path / "lab-of-the-server"))


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new lab, to be copied: migrations are run once, not for every test."""
    folder = tmp_path_factory.mktemp("founded") / "lab"
    founding.prepare(folder, user="manager")
    return folder


@pytest.fixture(scope="session")
def founded_database(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A new lab in a database, to be copied."""
    name = postgres.create()
    config = Config(lab=str(tmp_path_factory.mktemp("founded") / "lab"), database=postgres.url(name))
    founding.prepare(Path(config.lab), user="manager", database=catalog_of(config))
    return name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--elsewhere", action="store_true", help="have every catalog in PostgreSQL, the bytes in S3")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    drawn = [item for item in items if item.get_closest_marker("chrome")]
    if drawn and not any(map(shutil.which, ("chromium", "google-chrome", "chrome"))):
        items[:] = [item for item in items if item not in drawn]
        config.hook.pytest_deselected(items=drawn)


def is_elsewhere(request: pytest.FixtureRequest) -> bool:
    """Whether the test's server has nothing in its folder."""
    chosen = getattr(request.node, "callspec", None)
    places = [one for one in chosen.params.values() if isinstance(one, str)] if chosen is not None else []
    return bool(request.config.getoption("--elsewhere")) or "elsewhere" in places


@pytest.fixture
def placed(config: Config, request: pytest.FixtureRequest) -> Iterator[Config]:
    """The settings, with a lab where they say it is."""
    if not is_elsewhere(request):
        shutil.copytree(request.getfixturevalue("founded"), config.lab)
        yield config
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    database = postgres.create(request.getfixturevalue("founded_database"))
    bytes_in = seaweedfs.settings(request.getfixturevalue("bucket"))
    yield msgspec.structs.replace(config, database=postgres.url(database), **bytes_in)
    postgres.drop(database)


@pytest.fixture
def app(placed: Config, clock: Clock) -> Starlette:
    return create_app(placed, clock=clock)


@pytest.fixture
def server(app: Starlette, placed: Config, server_thread: Thread) -> Iterator[Server]:
    stop = server_thread.start(app)
    folder, database = Path(placed.lab), catalog_of(placed)
    link = founding.new_link(folder, address=server_thread.url, seconds=3600, only_if_locked_out=False, database=database)
    assert link
    yield Server(server_thread.url, folder, link.partition("#")[2])
    stop()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server, started once and only when a test asks for it."""
    with seaweedfs.running(tmp_path_factory.mktemp("seaweed"), keys=("tests-key", "tests-secret")) as running:
        yield running


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    """A real Spark cluster, started once and only when a test asks for it."""
    with spark.running(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture
def bucket(seaweed: Seaweed) -> Bucket:
    """An empty place of the test's own on it."""
    return seaweed.new_place()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole run, for tests that ask for it."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


_numbers = itertools.count(1)


class Guest(epista.Workspace):
    """A session on an embedded lab that another one keeps open; a server for every test would take minutes."""

    def __init__(
        self, kept: epista.Workspace, *, workspace: str, experiment: str | None = None, notebook: str | None = None
    ) -> None:
        vars(self).update(vars(kept))
        self._workspace, self._experiment, self._notebook = workspace, experiment, notebook

    def close(self) -> None:
        """The one who keeps it closes it."""


@pytest.fixture(scope="session")
def embedded_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one embedded lab, kept open for the whole run."""
    return tmp_path_factory.mktemp("embedded") / "lab"


@pytest.fixture(scope="session")
def embedded_ws(embedded_lab: Path) -> Iterator[epista.Workspace]:
    """The session that keeps the embedded lab open."""
    with epista.Workspace(embedded_lab) as kept:
        yield kept


@pytest.fixture(params=["http", "embedded", "elsewhere"])
def open_workspace(request: pytest.FixtureRequest) -> Iterator[Callable[..., epista.Workspace]]:
    """Open the test's own workspace: ``open_workspace(experiment=...)``; again for a second session on it."""
    with ExitStack() as opened:
        name = f"test-{next(_numbers)}"
        if request.param != "embedded":
            server: Server = request.getfixturevalue("server")
            server.api().create_workspace(name)

            def connect(**given: Any) -> epista.Workspace:
                settings = {"token": server.manager, "workspace": name} | given
                return opened.enter_context(epista.Workspace(server.url, **settings))

        else:
            kept: epista.Workspace = request.getfixturevalue("embedded_ws")
            workspaces.create(kept, name)

            def connect(**given: Any) -> epista.Workspace:
                return Guest(kept, **({"workspace": name} | given))

        yield connect


@pytest.fixture
def ws(open_workspace: Callable[..., epista.Workspace]) -> epista.Workspace:
    """An empty workspace: over HTTP, in an embedded lab, and over HTTP in a lab in PostgreSQL and S3."""
    return open_workspace()


@pytest.fixture
def http_ws(server: Server) -> Iterator[epista.Workspace]:
    """An empty workspace over HTTP."""
    with epista.Workspace(server.url, token=server.manager, workspace="lab") as workspace:
        yield workspace
