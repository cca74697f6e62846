"""Contents and commits, where raw HTTP asks what the client never would."""

from __future__ import annotations

from tests.makers import Server, sha256


def test_an_idempotency_key_never_answers_an_upload_with_other_content(server: Server) -> None:
    api = server.api()
    again = {"Idempotency-Key": "once"}
    api.ok(api.call("POST", "~/blobs", data=b"one", headers=again))

    second = api.ok(api.call("POST", "~/blobs", data=b"two", headers=again))

    assert second["sha256"] == sha256(b"two")
