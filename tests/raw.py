"""One HTTP exchange over a bare socket, for clients that stall, leave, or read as slowly as they like."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from tests.makers import API, Api


class Exchange:
    """A connection with one request on it; nothing more is sent or read than the test asks for."""

    def __init__(self, api: Api, method: str, path: str, headers: dict[str, str] | None = None, *, buffer_bytes: int = 0) -> None:
        host = urlsplit(api.url)
        assert host.hostname and host.port
        self.socket = socket.socket()
        if buffer_bytes:
            # Set before connecting, or the kernel has offered a large window already.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.socket.settimeout(60)
        self.socket.connect((host.hostname, host.port))
        sent = {"Host": host.netloc, "Authorization": f"Bearer {api.token}"} | (headers or {})
        lines = [f"{method} {API}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        """Return *size* bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size and (data := self.socket.recv(min(65536, size - len(found)))):
            found += data
        return bytes(found)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers, by lower-case name."""
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            data = self.socket.recv(1)
            assert data, f"the connection ended within the head: {found!r}"
            found += data
        first, *lines = found.decode("latin-1").rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}

    def read_rest(self) -> bytes:
        """Return everything up to the end of the connection, orderly or not."""
        try:
            return self.read(2**62)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Break the connection at once, as a machine does that fails."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()
