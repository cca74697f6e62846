"""Workspaces, members, tokens, experiments, rules and the audit log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import epista
from epista.client import tokens
from epista.contract import audit, experiments, workspaces
from epista.contract import tokens as token_messages
from tests.cli.conftest import Run
from tests.makers import Server


def test_a_workspace_is_made_and_listed(run: Run) -> None:
    made = run("workspace", "create", "imaging")

    assert made.out == "made the workspace imaging; you are its admin\n"
    assert [line.split()[:2] for line in run("workspace", "list").lines[1:]] == [["imaging", "admin"], ["lab", "admin"]]


def test_workspace_before_or_after_the_command_chooses_and_the_nearest_wins(run: Run, tmp_path: Path) -> None:
    run("workspace", "create", "imaging")
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    run("--workspace", "imaging", "put", "a.txt", "EXP-1/")

    assert run("ls", "--workspace", "imaging", "--json").json["folders"] == ["EXP-1/"]
    assert run("--workspace", "imaging", "ls", "--workspace", "lab", "--json").json["folders"] == []


def test_a_new_member_gets_a_link_that_signs_in(run: Run, server: Server) -> None:
    done = run("member", "add", "eve", "viewer", "--experiment", "EXP-12")

    assert done.lines[0] == "eve is viewer in lab, only in EXP-12"
    code = re.findall(r"epista auth login '\S+#(\S+)'", done.lines[1])[0]
    assert run("auth", "login", f"{server.url}/sign-in#{code}").out.endswith(" as eve\n")


def test_a_member_who_lost_the_token_gets_a_new_link(run: Run, server: Server) -> None:
    server.member("eve", "viewer")

    assert "sign-in#" not in run("member", "add", "eve", "editor").out
    assert "sign-in#" in run("member", "add", "eve", "editor", "--new-link").out


def test_members_are_listed_changed_and_removed(run: Run) -> None:
    run("member", "add", "eve", "viewer")
    run("member", "add", "eve", "editor")

    assert ["eve", "editor"] in [line.split() for line in run("member", "list").lines]
    assert run("member", "remove", "eve").out == "eve is no longer a member of lab\n"
    assert "eve" not in run("member", "list").out


def test_a_role_that_does_not_exist_is_a_usage_error(run: Run) -> None:
    assert run("member", "add", "eve", "owner").code == 2


def test_the_secret_of_a_token_is_all_that_goes_to_stdout(run: Run, server: Server) -> None:
    done = run("token", "create", "plate-reader", "--scope", "write", "--experiment", "EXP-12", "--days", "30")

    with epista.Workspace(server.url, token=done.out.strip(), workspace="lab") as ws:
        me = tokens.me(ws)
    assert (me.scopes, me.experiments) == (("write",), ("EXP-12",))
    assert me.expires_at is not None
    assert "shown this once" in done.err


def test_tokens_are_listed_and_revoked(run: Run) -> None:
    run("token", "create", "robot", "--workspace", "lab")
    (made,) = [token for token in run("token", "list", "--json").json["tokens"] if token["name"] == "robot"]

    assert run("token", "revoke", made["id"]).out == f"revoked: {made['id']}\n"
    (line,) = [line for line in run("token", "list").lines if "robot" in line]
    assert line.split()[:3] == [made["id"], "robot", "revoked"]


def test_a_kernel_token_lives_for_minutes(run: Run) -> None:
    assert run("token", "create", "kernel", "--kernel", "--json").json["token"]["kind"] == "kernel"


def test_an_experiment_is_described_and_shown(run: Run) -> None:
    run("experiment", "create", "EXP-12", "--title", "Plate 1", "--meta", "temp=37")

    assert run("experiment", "list").lines[1].split()[:2] == ["EXP-12", "0"]
    assert run("experiment", "show", "EXP-12").lines[:3] == ["experiment  EXP-12", "title       Plate 1", "assets      0"]
    assert run("experiment", "show", "EXP-12", "--json").json["meta"] == {"temp": 37}
    assert run("experiment", "create", "EXP-12").code == 6
    assert run("experiment", "show", "EXP-13").code == 3


RULES: list[dict[str, Any]] = [{"name": "operators", "kind": "TABLE", "schema": {"required": ["operator"]}}]


def test_an_experiment_is_renamed_archived_and_moved_between_projects(run: Run) -> None:
    assert run("project", "list").err == "no projects yet\n"
    run("project", "create", "atlas", "--title", "All of it")
    run("experiment", "create", "EXP-12", "--number", "12", "--project", "atlas", "--tag", "mouse")

    assert run("experiment", "rename", "12", "DOSE-1").code == 0
    assert run("experiment", "show", "EXP-12").code == 3
    assert run("experiment", "update", "DOSE-1", "--status", "archived", "--project", "").code == 0
    assert run("experiment", "update", "DOSE-1", "--title", "late").code == 6
    assert run("experiment", "list", "--status", "archived", "--tag", "mouse").lines[1].split()[0] == "DOSE-1"
    assert run("experiment", "list", "--status", "done").err == "no such experiments\n"
    assert run("project", "update", "atlas", "--to", "map").code == 0
    assert run("project", "show", "map").lines[:3] == ["project      map", "title        All of it", "experiments  0"]
    assert run("project", "remove", "map").out == "removed map\n"


def test_who_is_what_in_an_experiment_is_said_and_shown(run: Run) -> None:
    run("member", "add", "eve", "viewer")
    run("experiment", "create", "EXP-12")

    assert run("experiment", "role", "EXP-12", "eve", "editor").out == "eve is editor in EXP-12\n"
    assert [line.split() for line in run("experiment", "roles", "EXP-12").lines[1:]] == [["eve", "editor"], ["manager", "owner"]]
    run("experiment", "role", "EXP-12", "manager", "none")
    run("experiment", "role", "EXP-12", "eve", "none")
    assert run("experiment", "roles", "EXP-12").err == "nobody has a role of their own in EXP-12\n"


def test_why_something_is_raw_is_shown(run: Run, server: Server) -> None:
    server.api().put("676909_2023-12-13_13-43-40/a.json")

    assert run("experiment", "why", "676909_2023-12-13_13-43-40").lines[-1].split()[:2] == ["name", "hit"]


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES), encoding="utf-8")
    return path


def test_rules_are_set_shown_and_set_again_from_what_was_shown(run: Run, rules_file: Path) -> None:
    assert "no rules yet" in run("rules", "show").err
    done = run("rules", "set", "rules.json", "--expect", "0")
    rules_file.write_text(run("rules", "show", "--json").out, encoding="utf-8")

    assert done.lines[0].startswith("version 1, ")
    assert done.lines[2:4] == ["rule    operators", "kind    TABLE"]
    assert run("rules", "set", "rules.json", "--expect", "1").code == 0
    assert run("rules", "set", "rules.json", "--expect", "0").code == 6


def test_assets_against_the_rules_are_named(run: Run, rules_file: Path, server: Server) -> None:
    server.api().put("EXP-12/a.csv", b"a\n1\n")
    run("rules", "set", "rules.json")

    done = run("rules", "check")

    assert done.code == 1
    assert done.lines[0] == "EXP-12/a.csv"
    assert done.lines[1].endswith("'operator' is a required property  [operators]")
    assert done.lines[-1] == "1 asset checked, 1 against the rules"
    assert run("rules", "check", "--json").json["breaks"][0]["key"] == "EXP-12/a.csv"


@pytest.mark.parametrize("text", ["{", '[{"schema": {}}]', '{"rules": 1}', '[{"name": "a", "schema": {}, "kinds": "FLOW"}]'])
def test_a_file_without_rules_is_refused_by_name(run: Run, rules_file: Path, text: str) -> None:
    rules_file.write_text(text, encoding="utf-8")

    done = run("rules", "set", "rules.json")

    assert done.code == 1
    assert "error: 'rules.json' holds no rules: " in done.err


def test_the_audit_log_is_shown_filtered_and_verified(run: Run, server: Server) -> None:
    server.api().put("EXP-12/a.csv", b"a\n1\n")
    run("get", "EXP-12/a.csv")

    rows = run("audit", "--action", "assets.get", "--actor", "manager", "--target", "EXP-12/a.csv").lines
    verdict = run("audit", "--verify")

    assert rows[0].split() == ["number", "at", "(UTC)", "actor", "action", "outcome", "target"]
    assert rows[1].split()[3:] == ["manager", "assets.get", "done", "EXP-12/a.csv"]
    assert len(run("audit", "--limit", "1").lines) == 2
    assert re.fullmatch(r"\d+ rows, whole\nhead [0-9a-f]{64}\n", verdict.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("workspace", "create", "imaging"), workspaces.Workspace),
        (("workspace", "list"), workspaces.Workspaces),
        (("member", "add", "eve", "viewer"), workspaces.Member),
        (("member", "list"), workspaces.Members),
        (("token", "create", "robot"), token_messages.NewToken),
        (("token", "list"), token_messages.Tokens),
        (("auth", "status"), token_messages.Me),
        (("experiment", "create", "EXP-1"), experiments.Experiment),
        (("experiment", "list"), experiments.Experiments),
        (("rules", "set", "rules.json"), workspaces.Rules),
        (("rules", "show"), workspaces.Rules),
        (("rules", "check"), workspaces.RuleBreaks),
        (("audit",), audit.AuditPage),
        (("audit", "--verify"), audit.AuditVerdict),
        (("verify",), audit.BlobVerdict),
        (("gc",), audit.Garbage),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else part.__name__,
)
def test_json_is_the_message_of_the_contract(
    run: Run, rules_file: Path, words: tuple[str, ...], message: type[msgspec.Struct]
) -> None:
    done = run(*words, "--json")

    assert done.code == 0
    assert msgspec.json.decode(msgspec.json.encode(msgspec.json.decode(done.out, type=message))) == done.json
