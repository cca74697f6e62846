"""What the server says of itself: health, figures, its log, and as little as possible of its faults."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import requests

from epista.contract import errors
from epista.contract.errors import EpistaError
from epista.contract.scopes import SCOPES
from epista.server.config import Config
from tests import processes
from tests.makers import Api, Server


def ask(server: Server, path: str, token: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.get(server.url + path, headers=headers, timeout=60)


class TestHealth:
    def test_it_needs_no_token(self, server: Server) -> None:
        live, ready = ask(server, "/health/live"), ask(server, "/health/ready")

        assert (live.status_code, live.json()) == (200, {"status": "live"})
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


class TestMetrics:
    def test_figures_are_for_managers_of_the_lab(self, server: Server) -> None:
        viewer = server.member("ada", "admin", scopes=list(SCOPES))
        narrow = server.api().ok(server.api().post("/tokens", name="n", scopes=["read"]))["secret"]
        one_workspace = server.api().ok(server.api().post("/tokens", name="w", scopes=["lab"], workspace="lab"))["secret"]

        tokens = (None, "forged", narrow, one_workspace, viewer.token, server.manager)
        statuses = [ask(server, "/metrics", token).status_code for token in tokens]

        assert statuses == [401, 401, 403, 403, 403, 200]

    def test_requests_are_counted_by_endpoint_and_never_by_what_was_asked(self, server: Server) -> None:
        api = server.api()
        api.put("EXP-1/patient-7.txt")
        api.get("~/asset", ref="EXP-1/patient-7.txt")
        api.get("~/asset", ref="nothing")
        ask(server, "/some/where/else")

        text = ask(server, "/metrics", server.manager).text

        assert 'epista_requests_total{endpoint="assets.get",method="GET",status="200"} 1.0' in text
        assert 'epista_requests_total{endpoint="assets.get",method="GET",status="404"} 1.0' in text
        assert 'epista_requests_total{endpoint="other",method="GET",status="404"} 1.0' in text
        assert "patient" not in text
        assert "where" not in text


class TestPublicMetrics:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, metrics_public=True)

    def test_figures_need_no_token_where_the_settings_say_so(self, server: Server) -> None:
        assert ask(server, "/metrics").status_code == 200


class TestRateLimit:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return msgspec.structs.replace(config, requests_per_minute=20)

    def test_more_requests_than_a_token_may_make_are_told_when_to_come_again(self, server: Server) -> None:
        other = server.api().ok(server.api().post("/tokens", name="other"))["secret"]

        answers = [server.api().get("/me") for _ in range(25)]

        assert {answer.status_code for answer in answers} == {200, 429}
        last = answers[-1]
        assert last.json()["code"] == "rate_limit"
        assert last.headers["retry-after"] == str(last.json()["details"]["retry_after_seconds"])
        assert server.api(other).get("/me").status_code == 200


def test_the_log_is_json_with_request_ids_and_nothing_of_what_was_asked(tmp_path: Path) -> None:
    with processes.served(tmp_path / "lab", log_level="info") as server:
        api = server.api()
        api.put("EXP-1/patient-7.txt", b"confidential", meta={"donor": "Confidential"}, tags=["hush"])
        answers = [
            api.get("~/search", query="confidential donor"),
            api.get("~/asset", ref="EXP-1/patient-7.txt"),
            api.get("~/asset", ref="EXP-1/patient-8.txt"),
            Api(server.url, "epista_pat_forged").get("~/assets", tags="hush"),
        ]
        created = api.ok(api.post("/tokens", name="hush"))["secret"]
        assert server.token
        secrets = [server.token, created, "epista_pat_forged", "patient", "onfidential", "donor", "hush"]
        server.terminate()
        lines = [json.loads(line) for line in server.said().splitlines()]

    by_id = {line["request_id"]: line for line in lines if line["message"] == "request"}
    assert [
        (by_id[answer.headers["x-request-id"]]["endpoint"], by_id[answer.headers["x-request-id"]]["status"]) for answer in answers
    ] == [("assets.search", 200), ("assets.get", 200), ("assets.get", 404), ("assets.find", 401)]
    assert all({"at", "level", "logger", "message"} <= set(line) for line in lines)
    assert not [secret for secret in secrets if secret in server.said()]


class TestErrors:
    def test_an_error_arrives_as_a_problem_document_with_all_its_fields(self, server: Server) -> None:
        api = server.api()
        api.put("EXP-12/cells.fcs")

        answer = api.get("~/asset", ref="EXP-12/cells.fc")

        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json() == {
            "type": "https://epista.dev/errors/key_not_found",
            "title": "key not found",
            "status": 404,
            "detail": "no asset at 'EXP-12/cells.fc'; nearest: 'EXP-12/cells.fcs'",
            "code": "key_not_found",
            "hint": "epista ls EXP-12/",
            "details": {"key": "EXP-12/cells.fc", "nearest": "EXP-12/cells.fcs"},
            "request_id": answer.headers["x-request-id"],
        }

    def test_a_fault_tells_its_request_id_and_nothing_else(self, server: Server) -> None:
        with closing(sqlite3.connect(server.folder / "lab.db")) as catalog, catalog:
            catalog.execute("ALTER TABLE rules RENAME TO confidential_rules")

        answer = server.api().get("~/rules")

        assert answer.status_code == 500
        assert answer.json() == {
            "type": "https://epista.dev/errors/server_error",
            "title": "server error",
            "status": 500,
            "detail": "the server failed on this request",
            "code": "server_error",
            "hint": "tell whoever runs the server the request id",
            "details": {},
            "request_id": answer.headers["x-request-id"],
        }
        assert server.api().get("~/keys").status_code == 200

    @pytest.mark.parametrize("code", sorted(errors.ERRORS))
    def test_every_error_has_a_problem_document_that_says_all_of_it(self, code: str) -> None:
        from epista.server.routes import problems

        error = errors.ERRORS[code]("the fact", hint="the next step", details={"violations": [{"path": "a"}], "n": 1})

        response = problems.response(error, "r1")

        found = json.loads(bytes(response.body))
        again: EpistaError = errors.ERRORS[found["code"]](
            found["detail"], hint=found["hint"], details=found["details"], request_id=found["request_id"]
        )
        assert response.status_code == error.status == found["status"]
        assert type(again) is type(error)
        assert (again.message, again.hint, again.details) == (error.message, error.hint, error.details)
