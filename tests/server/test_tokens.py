"""Tokens and sign-in links: what they open, for how long, and that their secrets are kept nowhere."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from epista.contract.scopes import SCOPES
from tests.makers import Api, Clock, Server
from tests.raw import Exchange

MINUTE = 60
HOUR = 3600
DAY = 24 * HOUR


def make(api: Api, **wanted: Any) -> tuple[Api, dict[str, Any]]:
    """Make a token as *api*; return raw HTTP with it, and what was answered."""
    made = api.ok(api.post("/tokens", **({"name": "test"} | wanted)))
    return Api(api.url, made["secret"], api.workspace), made


def status(api: Api) -> int:
    return api.get("/me").status_code


def problem(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class TestEnds:
    def test_a_token_ends_at_its_moment_and_not_before(self, server: Server, clock: Clock) -> None:
        ends = datetime.now(UTC) + timedelta(hours=1)
        token, made = make(server.api(), expires_at=ends.isoformat())
        assert datetime.fromisoformat(made["token"]["expires_at"]) == ends

        clock.ahead_seconds = HOUR - 30
        before = status(token)
        clock.ahead_seconds = HOUR + 1
        after = token.get("/me")

        assert before == 200
        assert problem(after) == (401, "unauthenticated")
        assert after.json()["detail"].startswith("this token expired at ")
        assert after.headers["www-authenticate"] == 'Bearer realm="epista"'

    def test_a_token_that_would_have_ended_already_is_refused(self, server: Server) -> None:
        answer = server.api().post("/tokens", name="late", expires_at="2020-01-01T00:00:00Z")

        assert problem(answer) == (422, "validation")

    def test_a_token_never_outlives_its_maker(self, server: Server, clock: Clock) -> None:
        ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        parent, made = make(server.api(), scopes=["read", "tokens"], expires_at=ends)

        child, of_child = make(parent, scopes=["read"])
        longer, of_longer = make(parent, scopes=["read"], expires_at="2999-01-01T00:00:00Z")
        kernel, of_kernel = make(parent, scopes=["read"], kind="kernel")

        assert of_child["token"]["expires_at"] == of_longer["token"]["expires_at"] == made["token"]["expires_at"]
        assert of_kernel["renew_until"] == made["token"]["expires_at"]
        clock.ahead_seconds = HOUR + 1
        assert [status(one) for one in (child, longer, kernel)] == [401, 401, 401]
        assert kernel.post("/tokens/renew").status_code == 401

    def test_a_revoked_token_ends_at_once_with_all_that_were_made_with_it(self, server: Server) -> None:
        parent, made = make(server.api(), scopes=["read", "tokens"])
        child, _ = make(parent, scopes=["read", "tokens"])
        grandchild, _ = make(child, scopes=["read"])
        kernel, _ = make(child, scopes=["read"], kind="kernel")
        renewed = Api(server.url, kernel.ok(kernel.post("/tokens/renew"))["secret"])
        all_of_them = (parent, child, grandchild, kernel, renewed)
        assert [status(one) for one in all_of_them] == [200] * 5

        first = server.api().call("DELETE", f"/tokens/{made['token']['id']}")
        again = server.api().call("DELETE", f"/tokens/{made['token']['id']}")

        assert (first.status_code, again.status_code) == (200, 200)
        assert [status(one) for one in all_of_them] == [401] * 5
        assert [one.post("/tokens/renew").status_code for one in (kernel, renewed)] == [401, 401]
        assert status(server.api()) == 200

    def test_a_request_whose_body_comes_after_the_end_of_its_token_does_nothing(self, server: Server) -> None:
        token, made = make(server.api(), scopes=["read", "write", "tokens"])
        digest = token.upload(b"data")
        commit = b'{"objects": [{"key": "late.txt", "sha256": "%s"}]}' % digest.encode()
        create = b'{"name": "late"}'

        with (
            Exchange(token, "POST", "/workspaces/lab/objects", {"Content-Length": str(len(commit))}) as put,
            Exchange(token, "POST", "/tokens", {"Content-Length": str(len(create))}) as child,
            Exchange(token, "POST", "/workspaces/lab/blobs", {"Content-Length": "4"}) as upload,
        ):
            time.sleep(0.3)  # for the server to let them in
            server.api().ok(server.api().call("DELETE", f"/tokens/{made['token']['id']}"))
            put.send(commit)
            child.send(create)
            upload.send(b"late")
            statuses = [exchange.read_head()[0] for exchange in (put, child, upload)]

        assert statuses == [401, 401, 401]
        assert server.api().keys() == []
        assert "late" not in [one["name"] for one in server.api().ok(server.api().get("/tokens"))["tokens"]]
        assert len([file for file in (server.folder / "blobs").rglob("*") if file.is_file()]) == 1

    def test_nobody_revokes_the_token_of_somebody_else(self, server: Server) -> None:
        ada = server.member("ada")
        theirs = ada.ok(ada.get("/tokens"))["tokens"][0]["id"]

        foreign = server.api().call("DELETE", f"/tokens/{theirs}")
        absent = server.api().call("DELETE", "/tokens/tk_none")

        assert problem(foreign) == problem(absent) == (404, "not_found")
        assert foreign.json()["detail"].replace(theirs, "tk_none") == absent.json()["detail"]
        assert status(ada) == 200


class TestWidth:
    def test_a_token_is_never_wider_than_its_maker(self, server: Server) -> None:
        server.api().create_workspace("other")
        narrow, _ = make(server.api(), scopes=["read", "tokens"], workspace="lab", experiments=["EXP-1", "EXP-2"])

        def refusal(**wanted: Any) -> tuple[int, str]:
            return problem(narrow.post("/tokens", name="wide", **({"scopes": ["read"], "experiments": ["EXP-1"]} | wanted)))

        assert refusal(scopes=["read", "write"]) == (403, "forbidden")
        assert refusal(scopes=list(SCOPES)) == (403, "forbidden")
        assert refusal(experiments=None) == (403, "forbidden")
        assert refusal(experiments=["EXP-1", "EXP-3"]) == (403, "forbidden")
        assert refusal(workspace="other") == (404, "not_found")
        assert refusal(workspace="nowhere") == (404, "not_found")
        child, made = make(narrow, scopes=["read"], experiments=["EXP-2"])
        assert (made["token"]["workspace"], made["token"]["experiments"]) == ("lab", ["EXP-2"])
        assert Api(server.url, child.token, "other").get("~/keys").status_code == 404

    @pytest.mark.parametrize("scopes", [[], ["root"], ["read", "READ"], ["any"]], ids=["none", "unknown", "capital", "any"])
    def test_only_known_scopes_are_given(self, server: Server, scopes: list[str]) -> None:
        answer = server.api().post("/tokens", name="odd", scopes=scopes)

        assert problem(answer) == (422, "validation")

    def test_a_token_allows_no_more_than_its_user_may_do(self, server: Server) -> None:
        viewer = server.member("ada", "viewer", scopes=list(SCOPES))

        assert viewer.get("~/keys").status_code == 200
        assert viewer.call("POST", "~/blobs", data=b"x").status_code == 403
        assert viewer.get("~/members").status_code == 403
        assert viewer.get("/lab/verify").status_code == 403
        assert viewer.post("/workspaces", name="mine").status_code == 403

    def test_a_new_token_reads_and_writes_and_nothing_else(self, server: Server) -> None:
        token, made = make(server.api())

        assert made["token"]["scopes"] == ["read", "write"]
        assert token.post("/tokens", name="child").status_code == 403
        assert token.get("/tokens").status_code == 403
        assert token.get("~/members").status_code == 403


class TestForged:
    @pytest.mark.parametrize(
        "header",
        [
            pytest.param("", id="empty"),
            pytest.param("Bearer", id="no secret"),
            pytest.param("Bearer  ", id="blank"),
            pytest.param("Basic {secret}", id="another scheme"),
            pytest.param("Bearer {secret}x", id="longer"),
            pytest.param("Bearer {shorter}", id="shorter"),
            pytest.param("Bearer {swapped}", id="other case"),
            pytest.param("Bearer {id}", id="the id"),
            pytest.param("Bearer {hash}", id="the hash"),
            pytest.param("Bearer ' OR 1=1 --", id="sql"),
            pytest.param("Bearer \xe9\xff", id="latin-1"),
            pytest.param("Bearer " + "x" * 10_000, id="long"),
        ],
    )
    def test_what_is_not_exactly_the_secret_opens_nothing(self, server: Server, header: str) -> None:
        import hashlib

        _, made = make(server.api())
        secret = made["secret"]
        forged = header.format(
            secret=secret,
            shorter=secret[:-1],
            swapped=secret.swapcase(),
            id=made["token"]["id"],
            hash=hashlib.sha256(secret.encode()).hexdigest(),
        )

        answer = Api(server.url, None).call("GET", "/me", headers={"Authorization": forged})

        assert problem(answer) == (401, "unauthenticated")

    def test_the_code_of_a_link_is_no_token_and_a_token_no_code(self, server: Server) -> None:
        link = server.api().ok(server.api().post("~/members", user="ada", role="viewer"))["sign_in_link"]
        code = link.partition("#")[2]
        _, made = make(server.api())

        assert status(Api(server.url, code)) == 401
        assert problem(Api(server.url, None).post("/sign-in", code=made["secret"])) == (401, "unauthenticated")
        assert problem(Api(server.url, code).post("/tokens/renew")) == (401, "unauthenticated")


class TestKernelTokens:
    def test_a_kernel_token_lives_minutes_and_renews_itself_for_a_day(self, server: Server, clock: Clock) -> None:
        kernel, made = make(server.api(), kind="kernel", scopes=["read"], experiments=["EXP-1"])
        assert made["secret"].startswith("epista_kernel_")

        clock.ahead_seconds = 15 * MINUTE + 1
        expired = status(kernel)
        renewed = kernel.ok(kernel.post("/tokens/renew"))

        assert expired == 401
        assert (renewed["token"]["scopes"], renewed["token"]["experiments"]) == (["read"], ["EXP-1"])
        assert renewed["renew_until"] == made["renew_until"]
        assert status(Api(server.url, renewed["secret"])) == 200

    def test_renewals_end_when_the_first_token_said(self, server: Server, clock: Clock) -> None:
        kernel, made = make(server.api(), kind="kernel", scopes=["read"])

        clock.ahead_seconds = DAY - 5 * MINUTE
        last = kernel.ok(kernel.post("/tokens/renew"))
        lived = status(Api(server.url, last["secret"]))
        clock.ahead_seconds = DAY + 1

        assert lived == 200
        assert last["token"]["expires_at"] == last["renew_until"] == made["renew_until"]
        assert status(Api(server.url, last["secret"])) == 401
        assert [problem(Api(server.url, one).post("/tokens/renew"))[0] for one in (made["secret"], last["secret"])] == [401, 401]

    def test_a_revoked_kernel_token_is_not_renewed(self, server: Server) -> None:
        kernel, made = make(server.api(), kind="kernel", scopes=["read"])

        server.api().ok(server.api().call("DELETE", f"/tokens/{made['token']['id']}"))

        assert problem(kernel.post("/tokens/renew")) == (401, "unauthenticated")

    def test_a_personal_token_is_not_renewed(self, server: Server) -> None:
        token, _ = make(server.api())

        assert problem(token.post("/tokens/renew")) == (400, "invalid_request")
        assert problem(Api(server.url, None).post("/tokens/renew")) == (401, "unauthenticated")

    def test_who_made_it_and_left_the_workspace_renews_a_token_that_opens_nothing(self, server: Server) -> None:
        ada = server.member("ada")
        kernel, _ = make(ada, kind="kernel", scopes=["read"], workspace="lab")
        server.api().ok(server.api().call("DELETE", "~/members/ada"))

        renewed = Api(server.url, kernel.ok(kernel.post("/tokens/renew"))["secret"])

        assert renewed.get("~/keys").status_code == 404


class TestLinks:
    def test_a_link_works_once(self, server: Server) -> None:
        made = server.api().ok(server.api().post("~/members", user="ada", role="viewer"))
        anonymous = Api(server.url, None)
        code = made["sign_in_link"].partition("#")[2]

        first = anonymous.post("/sign-in", code=code, name="laptop")
        second = anonymous.post("/sign-in", code=code)

        assert first.json()["token"]["scopes"] == sorted(SCOPES)
        assert first.json()["token"]["name"] == "laptop"
        assert problem(second) == (401, "unauthenticated")

    def test_a_link_works_for_a_day(self, server: Server, clock: Clock) -> None:
        made = server.api().ok(server.api().post("~/members", user="ada", role="viewer"))
        code = made["sign_in_link"].partition("#")[2]

        clock.ahead_seconds = DAY + 1

        assert problem(Api(server.url, None).post("/sign-in", code=code)) == (401, "unauthenticated")

    def test_of_many_who_use_one_link_at_once_one_gets_in(self, server: Server) -> None:
        from concurrent.futures import ThreadPoolExecutor

        code = server.api().ok(server.api().post("~/members", user="ada", role="viewer"))["sign_in_link"].partition("#")[2]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: Api(server.url, None).post("/sign-in", code=code).status_code, range(8)))

        assert sorted(answers) == [200] + [401] * 7

    def test_whoever_can_sign_in_gets_no_second_link_unasked(self, server: Server) -> None:
        manager = server.api()
        first = manager.ok(manager.post("~/members", user="ada", role="viewer"))
        Api(server.url, None).post("/sign-in", code=first["sign_in_link"].partition("#")[2])

        again = manager.ok(manager.post("~/members", user="ada", role="editor"))
        asked = manager.ok(manager.post("~/members", user="ada", role="editor", new_link=True))

        assert again["sign_in_link"] is None
        assert asked["sign_in_link"].startswith("http")

    def test_an_admin_of_a_workspace_makes_no_users_and_no_links(self, server: Server) -> None:
        admin = server.member("ada", "admin")
        server.member("bob", "viewer")

        assert problem(admin.post("~/members", user="stranger", role="viewer")) == (403, "forbidden")
        assert problem(admin.post("~/members", user="bob", role="viewer", new_link=True)) == (403, "forbidden")
        assert admin.ok(admin.post("~/members", user="bob", role="editor"))["sign_in_link"] is None


def test_a_secret_is_answered_once_and_kept_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    manager = server.api()
    again = {"Idempotency-Key": "once"}
    token = manager.ok(manager.call("POST", "/tokens", json={"name": "t", "scopes": list(SCOPES)}, headers=again))["secret"]
    other = manager.ok(manager.call("POST", "/tokens", json={"name": "t", "scopes": list(SCOPES)}, headers=again))["secret"]
    kernel = manager.ok(manager.post("/tokens", name="k", kind="kernel", scopes=["read"]))["secret"]
    renewed = Api(server.url, kernel).ok(Api(server.url, kernel).call("POST", "/tokens/renew", headers=again))["secret"]
    link = manager.ok(manager.call("POST", "~/members", json={"user": "ada", "role": "viewer"}, headers=again))["sign_in_link"]
    code = link.partition("#")[2]
    signed_in = manager.ok(Api(server.url, None).call("POST", "/sign-in", json={"code": code}, headers=again))["secret"]
    secrets = [token, other, kernel, renewed, code, signed_in, server.manager]
    assert len(set(secrets)) == 7

    shown = manager.get("/tokens").text + manager.get("/me").text + manager.get("~/audit").text
    with_the_log = Path(server.folder / "lab.db").read_bytes() + Path(server.folder / "lab.db-wal").read_bytes()

    for secret in secrets:
        assert secret not in shown
        assert secret.encode() not in with_the_log
    assert not [record for record in caplog.records if any(secret in str(vars(record)) for secret in secrets)]


def test_tokens_are_listed_newest_first_with_their_state(server: Server) -> None:
    ada = server.member("ada")
    _, first = make(ada, name="first", scopes=["read"])
    make(ada, name="second", kind="kernel", scopes=["read"], workspace="lab")
    ada.ok(ada.call("DELETE", f"/tokens/{first['token']['id']}"))

    listed = ada.ok(ada.get("/tokens"))["tokens"]

    assert [(one["name"], one["kind"], one["workspace"], one["revoked_at"] is not None) for one in listed] == [
        ("second", "kernel", "lab", False),
        ("first", "personal", None, True),
        ("test", "personal", None, False),
        ("sign-in", "personal", None, False),
    ]
