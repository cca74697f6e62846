"""What a workspace holds is counted as it changes, and no more than it may comes in."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

import epista
from epista.client import usage, workspaces
from epista.contract import frames
from epista.contract.errors import EpistaError, QuotaError
from tests.makers import Server, sha256


def held(ws: epista.Workspace) -> tuple[int, int, int]:
    found = ws.usage()
    return found.stored_bytes, found.assets, found.versions


def test_the_same_content_counts_once_and_old_versions_count(ws: epista.Workspace) -> None:
    ws.put("a.bin", b"12345")
    ws.put("EXP-1/b.bin", b"12345")
    ws.put("a.bin", b"123")
    ws.set_meta("a.bin", {"other": "words"})
    ws.put("a.bin", b"123", meta={"other": "words"})

    assert held(ws) == (8, 2, 4)


def test_what_is_deleted_is_no_live_asset_but_needs_its_bytes(ws: epista.Workspace) -> None:
    ws.put("EXP-1/a.bin", b"12345")
    ws.put("EXP-1/b.bin", b"678")
    ws.delete("EXP-1/a.bin")
    assert held(ws) == (8, 1, 2)
    ws.restore("EXP-1/a.bin")
    assert held(ws) == (8, 2, 2)
    ws.delete_dir("EXP-1")
    assert held(ws) == (8, 0, 2)


def test_shares_are_told_by_experiment_and_kind(ws: epista.Workspace) -> None:
    ws.put("EXP-1/a.csv", b"a\n1\n")
    ws.put("EXP-1/b.png", b"picture")
    ws.put("c.png", b"another")

    found = ws.usage()

    assert [(one.name, one.assets, one.size_bytes) for one in found.experiments] == [("EXP-1", 2, 11), (None, 1, 7)]
    assert [(one.name, one.assets, one.size_bytes) for one in found.kinds] == [("IMAGE", 2, 14), ("TABLE", 1, 4)]


def test_the_counters_are_what_a_recount_finds_after_any_acts(server: Server) -> None:
    chance = random.Random(20261123)
    with epista.Workspace(server.url, token=server.manager, workspace="lab") as ws:
        names = [f"EXP-{number % 3}/{number}.bin" for number in range(9)]
        acts: list[Any] = [
            lambda: ws.put(chance.choice(names), chance.choice([b"", b"one", b"twofold", b"x" * 400_000])),
            lambda: ws.delete(chance.choice(names)),
            lambda: ws.restore(chance.choice(names)),
            lambda: ws.restore(chance.choice(names), version=1),
            lambda: ws.set_meta(chance.choice(names), {"n": chance.random()}),
            lambda: ws.delete_dir(f"EXP-{chance.randrange(3)}"),
            lambda: ws.copy(chance.choice(names), chance.choice(names)),
            lambda: ws.move(chance.choice(names), chance.choice(names)),
            lambda: ws.move_dir("EXP-1", "EXP-9"),
        ]
        done = 0
        for _ in range(200):
            try:
                chance.choice(acts)()
                done += 1
            except EpistaError:
                continue
        # Somebody restricted is told by counting; and to nothing but these experiments is no restriction here.
        guest = server.member("guest", experiments=["EXP-0", "EXP-1", "EXP-2", "EXP-9"])
        with epista.Workspace(server.url, token=guest.token, workspace="lab") as restricted:
            assert held(ws) == held(restricted)
    assert done > 50


def test_a_full_workspace_takes_nothing_more_and_says_so(ws: epista.Workspace) -> None:
    ws.put("a.bin", b"x" * 600)
    usage.set_quota(ws, ws.name, max_bytes=1000, max_assets=None)

    with pytest.raises(QuotaError, match=r"has 600 of the 1,000 bytes it may have, and this would add 500"):
        ws.put("b.bin", b"y" * 500)
    with pytest.raises(QuotaError):
        ws.put_file("c.bin", __file__)

    assert ws.keys() == ["a.bin"]
    assert held(ws) == (600, 1, 1)
    ws.put("b.bin", b"y" * 400)
    # What adds no bytes still fits, and so does what only describes.
    ws.put("c.bin", b"y" * 400)
    ws.set_meta("c.bin", {"is": "full"})


def test_only_so_many_assets_are_live(ws: epista.Workspace) -> None:
    usage.set_quota(ws, ws.name, max_bytes=None, max_assets=2)
    ws.put("a.bin", b"1")
    ws.put("b.bin", b"2")

    with pytest.raises(QuotaError, match="2 of the 2 assets"):
        ws.put("c.bin", b"3")
    ws.put("b.bin", b"more of it")
    ws.delete("a.bin")
    ws.put("c.bin", b"3")
    with pytest.raises(QuotaError):
        ws.restore("a.bin")


def test_an_upload_that_cannot_fit_is_refused_before_its_bytes_are_sent(server: Server) -> None:
    api = server.api()
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": 1000}))

    refused = api.call("POST", "~/blobs", data=b"x" * 2000)

    assert (refused.status_code, refused.json()["code"]) == (507, "quota")
    assert not [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]


def test_racing_puts_do_not_overshoot(server: Server) -> None:
    api = server.api()
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": 1000}))
    data = [bytes([number]) * 150 for number in range(20)]

    def put(one: bytes) -> int:
        uploaded = api.call("POST", "~/blobs", data=one)
        if uploaded.status_code != 200:
            return uploaded.status_code
        return api.post("~/objects", objects=[{"key": f"{one[0]}.bin", "sha256": sha256(one)}]).status_code

    with ThreadPoolExecutor(10) as callers:
        outcomes = list(callers.map(put, data))

    assert outcomes.count(200) == 6
    assert set(outcomes) == {200, 507}
    assert api.ok(api.get("~/usage"))["stored_bytes"] == 900


def test_who_sees_only_a_part_is_told_of_that_part(server: Server) -> None:
    api = server.api()
    api.put("EXP-1/a.bin", b"12345")
    api.put("EXP-2/b.bin", b"123")
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": 8}))
    guest = server.member("guest", experiments=["EXP-2"])

    found = guest.ok(guest.get("~/usage"))
    refused = guest.call("POST", "~/blobs", data=b"1")

    assert (found["stored_bytes"], found["assets"], found["quota_bytes"]) == (3, 1, None)
    assert [one["name"] for one in found["experiments"]] == ["EXP-2"]
    assert refused.status_code == 507
    assert "8" not in refused.json()["detail"]
    assert refused.json()["details"] == {}


def test_only_managers_of_the_lab_set_quotas_and_see_all_of_it(server: Server) -> None:
    api = server.api()
    api.create_workspace("second")
    api.put("a.bin", b"12345")
    server.api(workspace="second").put("a.bin", b"12345")
    admin = server.member("ada", "admin")

    found = api.ok(api.get("/lab/usage"))

    assert (found["stored_bytes"], found["blobs"]) == (5, 1)
    assert sorted((one["workspace"], one["stored_bytes"]) for one in found["workspaces"]) == [("lab", 5), ("second", 5)]
    assert admin.call("PUT", "/lab/quotas/lab", json={"max_bytes": 10**9}).status_code == 403
    assert admin.get("/lab/usage").status_code == 403


def test_a_quota_for_no_workspace_is_not_found(http_ws: epista.Workspace) -> None:
    with pytest.raises(epista.NotFoundError, match="no workspace 'nowhere'"):
        usage.set_quota(http_ws, "nowhere", max_bytes=1, max_assets=None)
    assert [one.name for one in workspaces.find(http_ws)] == ["lab"]


def test_what_cannot_fit_is_not_even_set_aside(server: Server) -> None:
    api = server.api()
    api.put("a.bin", b"x" * 600)
    api.ok(api.call("PUT", "/lab/quotas/lab", json={"max_bytes": 1000}))

    def set_aside(*contents: bytes) -> requests.Response:
        objects = [{"key": f"{number}.bin", "sha256": sha256(data)} for number, data in enumerate(contents)]
        head = json.dumps({"objects": objects, "batch": "0" * 32, "part": 0}).encode()
        return api.call("POST", "~/frames", data=frames.joined(head, frames.frame((sha256(one), one) for one in contents)))

    refused = set_aside(b"y" * 500)

    assert (refused.status_code, refused.json()["code"]) == (507, "quota")
    # What the workspace has adds nothing.
    api.ok(set_aside(b"x" * 600))
    api.ok(set_aside(b"x" * 600, b"z" * 400))
