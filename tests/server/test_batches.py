"""What is set aside in parts becomes visible as one, however oddly it is asked for."""

from __future__ import annotations

import json
import secrets

import requests

from epista.contract import frames
from epista.server.services.batches import MOST_UNMADE
from tests.makers import Api, Server, sha256


def set_aside(api: Api, batch: str, part: int, *keys: str) -> requests.Response:
    bodies = {sha256(key.encode()): key.encode() for key in keys}
    objects = [{"key": key, "sha256": digest} for digest, key in zip(bodies, keys, strict=True)]
    head = json.dumps({"objects": objects, "batch": batch, "part": part}).encode()
    return api.call("POST", "~/frames", data=frames.joined(head, frames.frame(bodies.items())))


def test_the_parts_of_a_commit_are_those_that_were_set_aside(server: Server) -> None:
    api, batch = server.api(), secrets.token_hex(16)
    for part, keys in enumerate([("a", "b"), ("c",), ("d",)]):
        api.ok(set_aside(api, batch, part, *keys))

    too_few = api.post("~/batches/commit", batch=batch, parts=2)
    too_many = api.post("~/batches/commit", batch=batch, parts=4)

    assert (too_few.status_code, too_many.status_code) == (400, 404)
    assert api.keys() == []
    made = api.post("~/batches/commit", batch=batch, parts=3)
    assert made.status_code == 200
    assert api.keys() == ["a", "b", "c", "d"]


def test_a_batch_that_is_made_answers_only_as_it_was_made(server: Server) -> None:
    api, batch = server.api(), secrets.token_hex(16)
    for part, key in enumerate("ab"):
        api.ok(set_aside(api, batch, part, key))
    first = api.post("~/batches/commit", batch=batch, parts=2)

    again = api.post("~/batches/commit", batch=batch, parts=2)

    assert (again.status_code, again.text) == (200, first.text)
    for parts in (1, 3, 1000):
        assert api.post("~/batches/commit", batch=batch, parts=parts).status_code == 400


def test_a_token_for_some_experiments_is_given_no_receipts_of_others(server: Server) -> None:
    api, batch = server.api(), secrets.token_hex(16)
    api.ok(set_aside(api, batch, 0, "EXP-1/a", "EXP-2/secret"))
    api.ok(api.post("~/batches/commit", batch=batch, parts=1))
    narrow = Api(api.url, api.ok(api.post("/tokens", name="t", scopes=["read", "write"], experiments=["EXP-1"]))["secret"], "lab")

    again = narrow.post("~/batches/commit", batch=batch, parts=1)

    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert "secret" not in again.text


def test_a_token_for_some_experiments_repeats_no_put_of_others(server: Server) -> None:
    api = server.api()
    api.put("EXP-2/secret", b"x", meta={"n": "secret"})
    put = {"objects": [{"key": "EXP-2/other", "sha256": sha256(b"x")}]}
    once = {"Idempotency-Key": "the same"}
    api.ok(api.call("POST", "~/objects", json=put, headers=once))
    narrow = Api(api.url, api.ok(api.post("/tokens", name="t", scopes=["read", "write"], experiments=["EXP-1"]))["secret"], "lab")

    again = narrow.call("POST", "~/objects", json=put, headers=once)

    assert (again.status_code, again.json()["code"]) == (404, "not_found")


def test_one_user_has_only_so_many_batches_under_way_and_the_oldest_goes(server: Server) -> None:
    api, bob = server.api(), server.member("bob")
    of_bob = secrets.token_hex(16)
    bob.ok(set_aside(bob, of_bob, 0, "b"))
    begun = [secrets.token_hex(16) for _ in range(MOST_UNMADE)]
    for batch in begun:
        api.ok(set_aside(api, batch, 0, "a"))

    api.ok(set_aside(api, secrets.token_hex(16), 0, "a"))

    assert api.post("~/batches/commit", batch=begun[0], parts=1).status_code == 404
    assert api.post("~/batches/commit", batch=begun[1], parts=1).status_code == 200
    assert bob.post("~/batches/commit", batch=of_bob, parts=1).status_code == 200
