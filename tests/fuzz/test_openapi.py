"""
What the OpenAPI document says is what the server does: no fault and no undocumented answer, whatever is sent.

schemathesis makes the requests, allowed ones and others, from the document of a running server. A backup could write
anywhere, but this server has no ``backup_root``, so it refuses every destination.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import processes

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


LAST = ("workspaces.add_member", "workspaces.remove_member", "tokens.revoke")
"""Endpoints that can take from the caller the right to call the others; they come last."""


def fuzz(server: processes.Server, where: Path, *options: str) -> None:
    """Send requests that the document allows, and some that it does not, to every endpoint."""
    api = server.api()
    version = api.put("EXP-1/cells.txt", b"some cells", meta={"temp": 37}, tags=["qc"])["version"]
    # Else nearly every request would stop at a workspace that does not exist.
    (where / "schemathesis.toml").write_text(f'[parameters]\n"path.workspace" = "lab"\n"path.version" = "{version}"\n')

    run(server, where, *options, *(part for name in LAST for part in ("--exclude-operation-id", name)))
    assert api.ok(api.get("/lab/verify"))["problems"] == []
    assert api.ok(api.get("~/audit/verify"))["problems"] == []

    run(server, where, *options, *(part for name in LAST for part in ("--include-operation-id", name)))


def run(server: processes.Server, where: Path, *options: str) -> None:
    command = shutil.which("schemathesis", path=sysconfig.get_path("scripts")) or "schemathesis"
    done = subprocess.run(
        [
            *(command, "run", f"{server.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {server.token}"),
            *("--checks", ",".join(CHECKS)),
            *("--continue-on-failure", "--no-color", "--warnings", "off"),
            *options,
        ],
        cwd=where,
        capture_output=True,
        text=True,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr + server.said()[-5000:]
    assert '"fault"' not in server.said()


def test_every_endpoint_answers_a_few_requests_as_documented(tmp_path: Path) -> None:
    with processes.served(tmp_path / "lab", requests_per_minute=0) as server:
        # A fixed seed: a run of CI that fails says something about the change, not about its luck.
        fuzz(server, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "3", "--seed", "1", "--no-shrink")


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_every_endpoint_answers_many_requests_as_documented(tmp_path: Path) -> None:
    with processes.served(tmp_path / "lab", requests_per_minute=0) as server:
        fuzz(server, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "60", "--max-time", "120")
