"""Contents and commits, where raw HTTP asks what the client never would."""

from __future__ import annotations

from tests.makers import Server, sha256


def test_an_idempotency_key_never_answers_an_upload_with_other_content(server: Server) -> None:
    api = server.api()
    again = {"Idempotency-Key": "once"}
    api.ok(api.call("POST", "~/blobs", data=b"one", headers=again))

    second = api.ok(api.call("POST", "~/blobs", data=b"two", headers=again))

    assert second["sha256"] == sha256(b"two")


def test_a_commit_has_no_more_lineage_than_other_writers_can_wait_for(server: Server) -> None:
    api = server.api()
    digest = api.upload(b"cells")
    wanted = [{"key": f"{number}.bin", "sha256": digest} for number in range(1000)]

    answer = api.post("~/objects", objects=wanted, inputs=["ve_1"] * 1000)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation")
    assert api.keys() == []
