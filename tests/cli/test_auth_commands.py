"""Signing in and out: what is saved, and what never is."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from epista.server import founding
from tests.cli.conftest import Run, process
from tests.makers import Server


def link(server: Server) -> str:
    made = founding.new_link(server.folder, address=server.url, seconds=3600, only_if_locked_out=False)
    assert made
    return made


def saved(folder: Path) -> Any:
    return json.loads((folder / "credentials.json").read_text(encoding="utf-8"))


def test_a_link_becomes_a_token_in_the_credentials_file(alone: Run, server: Server, tmp_path: Path) -> None:
    done = alone("auth", "login", link(server))

    assert done.lines == [f"signed in to {server.url} as manager"]
    assert saved(tmp_path)["default"] == server.url
    assert saved(tmp_path)["servers"][server.url]["user"] == "manager"
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert saved(tmp_path)["servers"][server.url]["token"] not in done.out + done.err
    assert alone("ls").code == 0


def test_the_only_workspace_stays_the_one_to_open_when_another_is_made(alone: Run, server: Server) -> None:
    alone("auth", "login", link(server))
    alone("workspace", "create", "imaging")

    assert alone("ls").code == 0


def test_of_several_workspaces_one_is_chosen_at_sign_in(alone: Run, server: Server, tmp_path: Path) -> None:
    server.api().create_workspace("imaging")

    undecided = alone("auth", "login", link(server))
    chosen = alone("auth", "login", link(server), "--workspace", "imaging")

    assert "workspaces: imaging, lab" in undecided.err
    assert chosen.code == 0
    assert saved(tmp_path)["servers"][server.url]["workspace"] == "imaging"


def test_a_used_link_is_refused_and_nothing_is_saved(alone: Run, server: Server, tmp_path: Path) -> None:
    once = link(server)
    alone("auth", "login", once)
    (tmp_path / "credentials.json").unlink()

    done = alone("auth", "login", once)

    assert done.code == 4
    assert "was used, has expired or was never made" in done.err
    assert not (tmp_path / "credentials.json").exists()


def test_a_link_used_with_a_wrong_workspace_is_not_lost(alone: Run, server: Server, tmp_path: Path) -> None:
    done = alone("auth", "login", link(server), "--workspace", "nothing")

    assert done.code == 3
    assert saved(tmp_path)["servers"][server.url]["token"]


def test_what_is_no_link_is_refused(alone: Run) -> None:
    assert alone("auth", "login", "lab").code == 1


def test_a_token_is_tried_before_it_is_saved(alone: Run, server: Server, tmp_path: Path) -> None:
    wrong = alone("auth", "login", "--token", "wrong", "--api-url", server.url)
    nothing_saved = not (tmp_path / "credentials.json").exists()
    right = alone("auth", "login", "--token", server.manager, "--api-url", server.url)

    assert (wrong.code, nothing_saved, right.code) == (4, True, 0)
    assert saved(tmp_path)["servers"][server.url]["token"] == server.manager


def test_a_token_comes_from_stdin(server: Server, tmp_path: Path) -> None:
    done = process(
        "auth", "login", "--token", "-", "--api-url", server.url,
        folder=tmp_path, stdin=server.manager + "\n", EPISTA_CREDENTIALS=str(tmp_path / "credentials.json"),
    )  # fmt: skip

    assert (done.code, done.err) == (0, "")
    assert saved(tmp_path)["servers"][server.url]["token"] == server.manager


@pytest.mark.parametrize(
    "words",
    [(), ("--token", "a"), ("http://127.0.0.1:1/sign-in#a", "--token", "a"), ("--api-url", "http://127.0.0.1:1", "--token", " ")],
    ids=["nothing", "no server", "both", "empty"],
)
def test_signing_in_without_knowing_where_or_as_whom_is_a_usage_error(alone: Run, words: tuple[str, ...]) -> None:
    assert alone("auth", "login", *words).code == 2


def test_status_says_who_one_is(run: Run, server: Server) -> None:
    assert run("auth", "status").lines == [
        f"server      {server.url}",
        "user        manager, who manages the lab",
        "workspaces  lab",
        "token       for admin, lab, read, tokens, write",
    ]


def test_signing_out_forgets_the_token(alone: Run, server: Server, tmp_path: Path) -> None:
    alone("auth", "login", link(server))

    assert alone("auth", "logout").out == f"signed out of {server.url}\n"
    assert saved(tmp_path) == {"default": None, "servers": {}}
    assert alone("auth", "logout").out == "signed in nowhere\n"
    assert alone("auth", "logout", "--lab", server.url).out == f"not signed in to {server.url}\n"
