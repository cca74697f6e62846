"""Tokens and links: what they say, and that none opens more than the one it was made with."""

from __future__ import annotations

import sqlite3

from tests.makers import Server


def kept_replies(server: Server) -> bytes:
    with sqlite3.connect(server.folder / "lab.db") as db:
        return b"".join(row[0] for row in db.execute("SELECT reply FROM replies"))


def test_a_secret_is_not_kept_for_a_retry(server: Server) -> None:
    api = server.api()
    again = {"Idempotency-Key": "once"}

    made = api.ok(api.call("POST", "/tokens", json={"name": "n"}, headers=again))
    link = api.ok(api.call("POST", "~/members", json={"user": "ann", "role": "viewer"}, headers=again))["sign_in_link"]

    assert made["secret"].encode() not in kept_replies(server)
    assert link.partition("#")[2].encode() not in kept_replies(server)


def test_a_token_says_which_workspace_it_is_restricted_to_also_if_its_maker_was(server: Server) -> None:
    narrow = server.member("ann", workspace="lab", scopes=["read", "tokens"])
    narrow.token = narrow.ok(narrow.post("/tokens", name="one", workspace="lab", scopes=["read", "tokens"]))["secret"]

    made = narrow.ok(narrow.post("/tokens", name="two", kind="kernel", scopes=["read"]))
    renewed = narrow.ok(server.api(made["secret"]).post("/tokens/renew"))

    assert made["token"]["workspace"] == "lab"
    assert renewed["token"]["workspace"] == "lab"


def test_the_last_moment_of_the_calendar_is_an_end_like_any_other(server: Server) -> None:
    api = server.api()

    made = api.ok(api.post("/tokens", name="n", expires_at="9999-12-31T23:59:59-12:00"))

    assert made["token"]["expires_at"] == "9999-12-31T23:59:59.999999Z"


def test_a_restricted_token_sees_and_ends_only_what_was_made_with_it(server: Server) -> None:
    api = server.api()
    api.create_workspace("secret")
    other = api.ok(api.post("/tokens", name="other", workspace="secret", experiments=["HIDDEN"]))["token"]["id"]
    narrow = server.api(api.ok(api.post("/tokens", name="narrow", workspace="lab", scopes=["read", "tokens"]))["secret"])
    child = narrow.ok(narrow.post("/tokens", name="child", scopes=["read"]))["token"]["id"]

    seen = narrow.get("/tokens")

    assert [token["name"] for token in narrow.ok(seen)["tokens"]] == ["child", "narrow"]
    assert narrow.call("DELETE", f"/tokens/{other}").status_code == 404
    assert narrow.call("DELETE", f"/tokens/{child}").status_code == 200


def test_a_restricted_token_makes_no_links(server: Server) -> None:
    api = server.api()
    server.member("ann")
    narrow = server.api(api.ok(api.post("/tokens", name="narrow", workspace="lab", scopes=["admin", "lab"]))["secret"])

    assert narrow.post("~/members", user="ann", role="viewer", new_link=True).status_code == 403
    assert narrow.post("~/members", user="stranger", role="viewer").status_code == 403


def test_nobody_gets_a_link_for_the_manager_of_the_lab_over_the_wire(server: Server) -> None:
    api = server.api()
    narrow = server.api(api.ok(api.post("/tokens", name="narrow", scopes=["admin", "lab"]))["secret"])

    answer = narrow.post("~/members", user="manager", role="admin", new_link=True)

    assert answer.status_code == 403
    assert "--new-link" in answer.json()["hint"]
