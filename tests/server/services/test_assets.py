"""Pages of assets and versions, and what they hold in memory."""

from __future__ import annotations

import json

from tests.makers import Server

LARGE = "x" * 1_000_000


def test_a_page_of_versions_ends_early_where_their_metadata_is_large_and_none_is_missed(server: Server) -> None:
    api = server.api()
    digest = api.upload(b"cells")
    for number in range(20):
        meta = {"number": number, "text": LARGE}
        api.ok(api.post("~/objects", objects=[{"key": "a.bin", "sha256": digest, "meta": meta}]))

    first = api.ok(api.get("~/versions", key="a.bin"))
    second = api.ok(api.get("~/versions", key="a.bin", after=first["next"]))

    assert 1 < len(first["versions"]) < 20
    assert [one["number"] for one in first["versions"] + second["versions"]] == list(range(20, 0, -1))
    assert second["next"] is None


def test_metadata_that_is_far_too_large_is_refused_before_it_is_walked_through(server: Server) -> None:
    api = server.api()
    body = json.dumps({"key": "a.bin", "meta": {"a": [[]] * 1_000_000}})

    answer = api.call("POST", "~/metadata", data=body)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
