"""Sessions and workspaces, the current one, and the embedded lab under them."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import epista
from epista import Workspace
from epista.client import audit, current, embedded, experiments, tokens, workspaces
from epista.client.credentials import Saved, remember
from epista.contract.errors import (
    AuthenticationError,
    EpistaError,
    InvalidRequestError,
    KeyNotFoundError,
    NotFoundError,
    SettingsError,
    UnreachableError,
)
from epista.contract.workspaces import Rule
from tests.makers import Server

Open = Callable[..., Workspace]


@pytest.fixture(autouse=True)
def no_current_session() -> Iterator[None]:
    yield
    epista.use(None)


def pid_of(ws: Workspace) -> int:
    """Return the process that listens where *ws* asks."""
    import psutil

    port = int(ws.url.rpartition(":")[2])
    for child in psutil.Process().children():
        if any(line.laddr.port == port for line in child.net_connections("tcp") if line.status == "LISTEN"):
            return int(child.pid)
    raise AssertionError("no child listens")


def is_running(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int) -> None:
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is still there")


def test_the_only_workspace_is_chosen(server: Server) -> None:
    with Workspace(server.url, token=server.manager) as ws:
        assert ws.name == "lab"
        assert (ws.url, ws.session, ws.experiment_name, ws.is_embedded) == (server.url, ws, None, False)


def test_several_workspaces_are_named_and_none_is_guessed(server: Server) -> None:
    server.api().create_workspace("second")

    with Workspace(server.url, token=server.manager) as ws, pytest.raises(SettingsError, match="lab, second"):
        ws.keys()
    with Workspace(server.url, token=server.manager, workspace="second") as ws:
        assert ws.keys() == []
    with Workspace(server.url, token=server.manager, workspace="third") as ws, pytest.raises(NotFoundError):
        ws.keys()


def test_settings_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOLAKE_API_URL", server.url + "/")
    monkeypatch.setenv("EPISTA_PAT", server.manager)
    monkeypatch.setenv("EPISTA_EXPERIMENT_ID", "EXP-12")

    with Workspace() as ws:
        assert ws.put("a.txt", "x").key == "EXP-12/a.txt"


def test_settings_come_from_the_credentials(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPISTA_CREDENTIALS", str(tmp_path / "credentials.json"))
    remember(tmp_path / "credentials.json", server.url, Saved(token=server.manager, workspace="lab"))

    with Workspace() as ws:
        assert tokens.me(ws).user == "manager"


def test_an_unknown_token_is_refused_and_not_shown(server: Server) -> None:
    with Workspace(server.url, token="epista_pat_secret", workspace="lab") as ws:
        with pytest.raises(AuthenticationError) as caught:
            ws.keys()

        assert "secret" not in str(caught.value) + repr(ws) + repr(vars(ws))


def test_a_sign_in_link_works_once(server: Server) -> None:
    made = server.api().ok(server.api().post("~/members", user="ada", role="editor"))
    link = server.url + "/sign-in#" + made["sign_in_link"].partition("#")[2]

    url, new = tokens.sign_in(link, name="laptop")

    assert (url, new.token.name) == (server.url, "laptop")
    assert new.secret not in repr(new)
    with Workspace(url, token=new.secret) as ws:
        assert tokens.me(ws).user == "ada"
    with pytest.raises(AuthenticationError):
        tokens.sign_in(link)
    with pytest.raises(InvalidRequestError):
        tokens.sign_in(server.url)


def test_a_kernel_token_renews_itself(server: Server, http_ws: Workspace) -> None:
    kernel = tokens.create(http_ws, "kernel", kind="kernel", workspace="lab")

    with Workspace(server.url, token=kernel.secret) as ws:
        assert ws.keys() == []
        tokens.revoke(http_ws, kernel.token.id)
        with pytest.raises(AuthenticationError, match="revoked"):
            ws.keys()


def test_an_expired_kernel_token_is_followed_by_a_fresh_one(server: Server, http_ws: Workspace, clock: object) -> None:
    kernel = tokens.create(http_ws, "kernel", kind="kernel", workspace="lab")
    with Workspace(server.url, token=kernel.secret) as ws:
        ws.put("a.txt", "x")
        clock.ahead_seconds = 3600.0  # type: ignore[attr-defined]

        assert ws.keys() == ["a.txt"]
        assert ws.put("b.txt", "y" * 1_000_000).number == 1


def test_the_functions_of_every_noun_reach_the_server(http_ws: Workspace) -> None:
    made = tokens.create(http_ws, "t", scopes=["read"])
    assert made.token.id in [token.id for token in tokens.find(http_ws)]
    tokens.revoke(http_ws, made.token.id)

    assert workspaces.create(http_ws, "second").role == "admin"
    assert [workspace.name for workspace in workspaces.find(http_ws)] == ["lab", "second"]
    assert workspaces.get(http_ws).name == "lab"
    assert workspaces.add_member(http_ws, "ada", "viewer", experiments=["EXP-1"]).sign_in_link
    assert [member.user for member in workspaces.members(http_ws)] == ["ada", "manager"]
    workspaces.remove_member(http_ws, "ada")
    http_ws.put("EXP-1/a.txt", "x")
    rule = Rule(name="named", schema={"type": "object", "required": ["name"]})
    assert workspaces.set_rules(http_ws, [rule], expect=0).version == 1
    assert workspaces.rules(http_ws).rules == (rule,)
    assert [found.key for page in workspaces.check_rules(http_ws) for found in page.breaks] == ["EXP-1/a.txt"]

    assert experiments.create(http_ws, "EXP-1", title="first", meta={"n": (1,)}).meta == {"n": [1]}
    assert [experiment.name for experiment in experiments.find(http_ws)] == ["EXP-1"]
    assert experiments.get(http_ws, "EXP-1").title == "first"

    assert "objects.commit" in {row.action for row in audit.find(http_ws, limit=2)}
    assert audit.verify(http_ws).problems == ()
    assert sum(step.blobs for step in audit.verify_blobs(http_ws)) == 1
    assert audit.gc(http_ws, dry_run=True).blobs == 0


def test_a_backup_of_an_embedded_lab_is_a_lab(tmp_path: Path) -> None:
    with Workspace(tmp_path / "lab") as ws:
        ws.put("a.txt", "x")
        made = audit.backup(ws, tmp_path / "copy")

    with Workspace(made.path) as copy:
        assert copy("a.txt") == "x"


def test_the_module_functions_act_on_the_current_workspace(open_workspace: Open) -> None:
    first, second = open_workspace(), open_workspace(experiment="EXP-1")
    first.put("a.txt", "about cells")
    epista.use(first)

    assert epista.get("a.txt").key == "a.txt"
    assert [asset.key for asset in epista.assets()] == ["a.txt"]
    assert epista.search("cells").total == 1
    with epista.open("a.txt") as stream:
        assert stream.read() == b"about cells"
    with epista.open("a.txt", download=True, session=second.session) as path:
        assert path.read_bytes() == b"about cells"
    with pytest.raises(KeyNotFoundError):
        epista.get("b.txt", session=second)


def test_without_a_current_workspace_the_settings_decide(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="EPISTA_API_URL"):
        epista.assets()
    monkeypatch.setenv("EPISTA_API_URL", server.url)
    monkeypatch.setenv("EPISTA_TOKEN", server.manager)

    assert list(epista.assets()) == []
    assert current.current() is current.current()
    current.current().close()


@pytest.mark.parametrize("name", ["assets", "get", "open", "publish_figure", "publish_table", "query", "search"])
def test_a_module_function_is_the_verb_with_a_session(name: str) -> None:
    verb = list(inspect.signature(getattr(Workspace, name)).parameters.values())
    function = list(inspect.signature(getattr(epista, name)).parameters.values())

    (session,) = (p for p in function if p.name == "session")
    assert [(p.name, p.kind, p.default) for p in function if p is not session] == [(p.name, p.kind, p.default) for p in verb[1:]]
    assert (session.kind, session.default) == (inspect.Parameter.KEYWORD_ONLY, None)


def test_closing_an_embedded_lab_stops_its_server(tmp_path: Path) -> None:
    with Workspace(tmp_path / "lab") as ws:
        pid = pid_of(ws)
        assert (ws.name, ws.is_embedded) == ("lab", True)
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists():
            secret = ws.wire._token.current() if ws.wire._token else ""
            assert secret
            assert secret.encode() not in command.read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        ws.put("a.txt", "x")
    ws.close()

    assert not is_running(pid)
    with pytest.raises(UnreachableError, match="is closed"):
        ws.keys()
    with Workspace(tmp_path / "lab") as again:
        assert again("a.txt") == "x"


def test_a_forgotten_embedded_lab_stops_its_server(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "lab")
    pid = pid_of(ws)

    del ws
    gc.collect()

    wait_until_gone(pid)


def test_a_dead_server_of_an_embedded_lab_is_named_with_the_way_out(tmp_path: Path) -> None:
    with Workspace(tmp_path / "lab") as ws:
        os.kill(pid_of(ws), signal.SIGKILL)

        with pytest.raises(UnreachableError, match="ended with status -9") as caught:
            ws.keys()

    assert caught.value.hint == "open the workspace again"


def test_a_folder_that_cannot_be_a_lab_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")

    with pytest.raises(EpistaError, match="file"):
        Workspace(tmp_path / "file")


def test_a_server_that_dies_at_its_start_has_its_last_words_heard(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"did not start:\n"):
        embedded.start(str(tmp_path / "lab"), {"PYTHONHOME": str(tmp_path)})


def test_the_server_of_an_embedded_lab_gets_no_tokens_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPISTA_TOKEN", "hidden-1")
    monkeypatch.setenv("BIOLAKE_PAT", "hidden-2")

    with Workspace(tmp_path / "lab") as ws:
        environ = Path(f"/proc/{pid_of(ws)}/environ")
        if environ.exists():
            assert b"hidden" not in environ.read_bytes()


FORKED = """
import os, sys
import epista

if __name__ == "__main__":
    ws = epista.Workspace(sys.argv[1])
    ws.put("a.txt", "x")
    child = os.fork()
    if child == 0:
        assert ws("a.txt") == "x"
        ws.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ws("a.txt") == "x"
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_may_read_and_close_and_stops_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path / "lab")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout.strip(), done.returncode) == ("done", 0), done.stderr
