"""nginx on loopback, from Debian: as the proxy that the guide describes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.processes import wait_until

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "scaling.md"


@contextmanager
def in_front_of(urls: Sequence[str], folder: Path) -> Iterator[str]:
    """Run nginx with the configuration of the guide in front of servers, and give its address."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert binary, "nginx is not installed: apt-get install nginx-light"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid; worker_processes 2; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary}\n{_of_the_guide(urls, port)}\n}}\n"
    )
    command = [binary, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen([*command, "-g", "daemon off; master_process on; user root;"], start_new_session=True)
    try:
        wait_until(lambda: _listens(port), "nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _of_the_guide(urls: Sequence[str], port: int) -> str:
    """Return the guide's configuration, with the addresses of this machine and without TLS."""
    found = re.search(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "the guide has a configuration"
    lines: list[str] = []
    for line in found[1].splitlines():
        if re.match(r"\s*server \S+ max_fails", line):
            rest = line.split(None, 2)[2]
            if urls:
                lines += [f"server {url.removeprefix('http://')} {rest}" for url in urls]
                urls = ()
        elif "listen" in line:
            lines.append(f"listen 127.0.0.1:{port};")
        elif "ssl_" not in line:
            lines.append(line)
    return "\n".join(lines)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
