"""What happens to requests before a service sees them."""

from __future__ import annotations

from tests.makers import Api, Server


def test_a_stranger_cannot_make_the_server_hold_a_large_body(server: Server) -> None:
    stranger = Api(server.url, None)

    answer = stranger.post("/sign-in", code="x" * 100_000)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_address_with_a_slash_too_many_is_another_address(server: Server) -> None:
    answer = server.api().call("GET", "~/experiments/", allow_redirects=False)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_more_tags_than_an_asset_can_have_are_refused(server: Server) -> None:
    answer = server.api().get("~/assets", tags=["a"] * 1200)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_request_that_cannot_be_read_is_on_record_in_its_workspace(server: Server) -> None:
    api = server.api()

    assert api.get("~/asset", nonsense="1").status_code == 400

    rows = api.ok(api.get("~/audit"))["rows"]
    assert [(row["action"], row["target"], row["outcome"]) for row in rows] == [("assets.get", "lab", "invalid_request")]
