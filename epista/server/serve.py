"""`epista serve`: granian over the app, in as many worker processes as wanted."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette

from epista.contract.errors import SettingsError
from epista.server import founding, logs
from epista.server.app import address_of, blob_store, catalog_of, create_app
from epista.server.config import Config
from epista.server.stores.blobs import BlobStore
from epista.server.stores.catalog import Catalog

MANAGER = "admin"
"""The name of the first user of a lab that begins with `serve`."""


def run(config: Config, *, new_link: bool, migrate_only: bool, say: Callable[[str], None]) -> None:
    """
    Make the lab ready, *say* where it is, and serve until a signal comes.

    Raises:
        SettingsError: the folder, the address or a setting cannot be used.
        UnavailableError: the store of the bytes does not answer.
    """
    folder = Path(config.lab)
    elsewhere = blob_store(config) if config.blobs else None
    founding.prepare(folder, user=MANAGER, blobs=elsewhere, database=_database(config))
    if elsewhere:
        _try_out(elsewhere)
    if migrate_only:
        say(f"the lab in {folder} is up to date")
        return
    config = msgspec.structs.replace(config, port=_free_port(config), lab=str(folder.absolute()))
    address = address_of(config)
    link = founding.new_link(
        folder,
        address=address,
        seconds=config.sign_in_link_seconds,
        only_if_locked_out=not new_link,
        database=_database(config),
    )
    say(f"Epista serves {folder}{f' with its bytes in {config.blobs}' if config.blobs else ''} at {address}")
    if link:
        say(f"Sign in, once, within {config.sign_in_link_seconds // 3600} h:  epista auth login '{link}'")
    _serve(config)


def _try_out(blobs: BlobStore) -> None:
    """Store, read and remove an object, so that a setting that is wrong shows now and not at the first upload."""
    incoming = blobs.create()
    incoming.write(b"Epista tries its store out")
    stored = incoming.finish()
    b"".join(blobs.read(stored.object, 0, stored.size))
    blobs.delete(stored.object)


def worker(config: Config, parent: int) -> Starlette:
    """Build the app in a worker process, which ends when the main process is gone."""
    logs.start(config.log_level)
    threading.Thread(target=_end_with, args=(parent, config.stop_timeout_seconds), name="epista-parent", daemon=True).start()
    return create_app(config)


def _serve(config: Config) -> None:
    from granian import Granian
    from granian.constants import Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    # Each worker is a fresh interpreter, not a copy of this one, which has read its environment already.
    multiprocessing.set_start_method("spawn", force=True)
    with contextlib.ExitStack() as stack:
        if config.workers > 1:
            # Read by prometheus_client in each worker: figures of all workers are summed.
            figures = stack.enter_context(tempfile.TemporaryDirectory(prefix="epista-metrics-"))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = figures
        server = Granian(
            "epista.server.serve:worker",
            address=config.host,
            port=config.port,
            interface=Interfaces.ASGI,
            workers=config.workers,
            respawn_failed_workers=True,
            workers_kill_timeout=config.stop_timeout_seconds,
            websockets=False,
            log_level=LogLevels.warning,
            log_dictconfig=logs.GRANIAN,
            http1_settings=HTTP1Settings(header_read_timeout=30_000, max_buffer_size=1024 * 1024),
        )
        server.serve(target_loader=functools.partial(_load, config, os.getpid()), wrap_loader=False)


def _load(config: Config, parent: int, *_: object) -> Starlette:
    return worker(config, parent)


def _database(config: Config) -> Catalog | None:
    return catalog_of(config) if config.database else None


def _free_port(config: Config) -> int:
    """Return the port to listen on, which must be free: granian would report a taken one as a crash of its workers."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}",
            hint="give another --port; 0 takes a free one",
        ) from error


def _end_with(parent: int, seconds: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    print("the main process is gone; this worker ends", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)
