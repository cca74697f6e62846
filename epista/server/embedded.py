"""
The server of an embedded lab: a child process on loopback, gone when its parent goes.

``python -m epista.server.embedded FOLDER``. It reads its private token from the first line of stdin, and writes one JSON line to
stdout: ``{"port", "pid"}`` when it serves, or a problem when it cannot. No line means that it died.
"""

from __future__ import annotations

import gc
import getpass
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

END_SECONDS = 15
"""How long the child may take to end once its parent is gone; nothing that was acknowledged is lost by cutting it short."""

# Taken before the heavy imports: a parent that dies meanwhile must not leave a server behind.
_PARENT = os.getppid()


def main() -> None:
    """Serve the folder in ``sys.argv[1]`` until the parent is gone."""
    # Before anything that can wait: a parent may die before it has written the token.
    threading.Thread(target=_watch_parent, name="epista-parent-pid", daemon=True).start()
    secret = sys.stdin.readline().strip()
    if not secret:
        sys.exit(1)
    # With the protocol named, asyncio turns Nagle off; else each answer waits 40 ms for an acknowledgement.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    threading.Thread(target=_end_with_parent, name="epista-parent", daemon=True).start()

    # Nothing of what is loaded now becomes garbage before the end, so nobody looks for any in it.
    gc.disable()
    import uvicorn

    from epista.contract.errors import EpistaError
    from epista.server import founding, logs
    from epista.server.access import secrets
    from epista.server.app import create_app
    from epista.server.config import Config, link_roots_of
    from epista.server.services.tokens import Owner

    class Child(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                _say({"port": listening.getsockname()[1], "pid": os.getpid()})

    folder = Path(sys.argv[1])
    logs.start("warning")
    try:
        founding.prepare(folder, user=founding.user_name(_account()))
        port = listening.getsockname()[1]
        config = Config(lab=str(folder), port=port, requests_per_minute=0, link_roots=link_roots_of(folder))
        app = create_app(config, owner=Owner(secrets.digest(secret)))
    except EpistaError as error:
        _say({"code": error.code, "message": error.message, "hint": error.hint})
        sys.exit(1)
    gc.freeze()
    gc.enable()
    server = Child(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="on", ws="none"))
    server.run(sockets=[listening])


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "owner"


# Either may come first: the end of stdin when the parent closes it or dies, another parent when stdin was passed on to a
# process that outlives it.


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    _end()


def _watch_parent() -> None:
    while os.getppid() == _PARENT:
        time.sleep(0.5)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    # A write that waits for another process on the same folder could hold up the end for ever.
    time.sleep(END_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
