"""The smallest valid things, overridden by keyword; and raw HTTP for what the client would never send."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from epista.contract.images import TILES
from epista.contract.scopes import SCOPES
from epista.server.stores import moments

API = "/api/v1"


class Clock:
    """The time, and whatever the test adds to it."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> int:
        return moments.now() + int(self.ahead_seconds * 1_000_000)


class Api:
    """Raw HTTP as one caller, without the client's checks and retries."""

    def __init__(self, url: str, token: str | None, workspace: str = "lab") -> None:
        self.url = url
        self.token = token
        self.workspace = workspace

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **given: Any) -> requests.Response:
        """Send a request; *path* is below the API, or one of tiles, or begins with ``~`` and is below the workspace."""
        if path.startswith("~"):
            path = f"/workspaces/{self.workspace}{path[1:]}"
        sent = ({"Authorization": f"Bearer {self.token}"} if self.token else {}) | (headers or {})
        below = "" if path.startswith(TILES + "/") else API
        return requests.request(method, self.url + below + path, headers=sent, timeout=60, **given)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.call("GET", path, params=params)

    def post(self, path: str, **body: Any) -> requests.Response:
        return self.call("POST", path, json=body)

    def ok(self, response: requests.Response) -> Any:
        assert response.status_code == 200, response.text
        return response.json()

    def create_workspace(self, name: str) -> Any:
        return self.ok(self.post("/workspaces", name=name))

    def upload(self, data: bytes) -> str:
        digest: str = self.ok(self.call("POST", "~/blobs", data=data))["sha256"]
        return digest

    def put(self, key: str, data: bytes = b"data", **wanted: Any) -> Any:
        """Put bytes at a key and return the asset."""
        response = self.try_put(key, data, **wanted)
        return self.ok(response)["assets"][0]

    def try_put(self, key: str, data: bytes = b"data", **wanted: Any) -> requests.Response:
        return self.post("~/objects", objects=[{"key": key, "sha256": self.upload(data)} | wanted])

    def get_asset(self, key: str) -> requests.Response:
        return self.get("~/asset", ref=key)

    def keys(self, prefix: str = "") -> list[str]:
        response = self.get("~/keys", prefix=prefix)
        assert response.status_code == 200, response.text
        response.encoding = "utf-8"
        return response.text.split("\n")[:-1]


class Server:
    """The server of a test, and tokens for it."""

    def __init__(self, url: str, folder: Path, code: str) -> None:
        self.url = url
        self.folder = folder
        self._code = code

    @cached_property
    def manager(self) -> str:
        """The secret of the lab's manager, with every scope."""
        secret: str = Api(self.url, None).ok(Api(self.url, None).post("/sign-in", code=self._code))["secret"]
        return secret

    def api(self, token: str | None = None, workspace: str = "lab") -> Api:
        """Raw HTTP with *token*, or as the manager."""
        return Api(self.url, token or self.manager, workspace)

    def member(
        self,
        user: str,
        role: str = "editor",
        *,
        workspace: str = "lab",
        experiments: list[str] | None = None,
        scopes: list[str] | None = None,
        **token: Any,
    ) -> Api:
        """Make a user a member and return raw HTTP with a token of theirs."""
        wanted = {"user": user, "role": role, "experiments": experiments}
        made = self.api(workspace=workspace).ok(self.api(workspace=workspace).post("~/members", **wanted))
        anonymous = Api(self.url, None, workspace)
        if made["sign_in_link"]:
            code = made["sign_in_link"].partition("#")[2]
            self._secrets[user] = anonymous.ok(anonymous.post("/sign-in", code=code))["secret"]
        own = Api(self.url, self._secrets[user], workspace)
        body = {"name": "test", "scopes": scopes if scopes is not None else list(SCOPES)} | token
        return Api(self.url, own.ok(own.post("/tokens", **body))["secret"], workspace)

    @cached_property
    def _secrets(self) -> dict[str, str]:
        return {}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
