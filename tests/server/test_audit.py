"""The audit log: a row for every request, and no way to change one that leaves no trace."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from epista.contract.endpoints import ENDPOINTS
from tests.makers import Api, Server
from tests.server.test_endpoints import Lab


@contextmanager
def catalog_of(server: Server) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(server.folder / "lab.db", timeout=30)) as catalog, catalog:
        yield catalog


def rows_of(server: Server) -> list[tuple[str, str, str, str]]:
    """Return request id, action, outcome and actor of every row of every chain."""
    server.api().ok(server.api().get("~/audit"))  # which writes what waits
    with catalog_of(server) as catalog:
        return list(catalog.execute("SELECT request_id, action, outcome, actor FROM audit ORDER BY workspace_id, number"))


def verdict(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.api().ok(server.api().get("~/audit/verify"))
    return found


def log(server: Server, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.api().ok(server.api().get("~/audit", **filters))["rows"]
    return found


@pytest.mark.parametrize("is_allowed", [True, False], ids=["allowed", "refused"])
def test_every_request_with_a_token_has_one_row(server: Server, is_allowed: bool) -> None:
    lab = Lab(server)
    caller = lab.manager if is_allowed else server.member("ada", "viewer", scopes=["tokens"])
    rows = [row for row in ENDPOINTS if row.scope is not None]

    answers = [(row, lab.request(row, caller)) for row in rows]

    found = rows_of(server)
    for row, answer in answers:
        outcome = "done" if answer.status_code < 300 else answer.json()["code"]
        mine = [one for one in found if one[0] == answer.headers["x-request-id"]]
        if row.name == "lab.gc":
            mine = mine[-1:]  # it writes as often as it forgets some contents
        assert mine == [(answer.headers["x-request-id"], row.name, outcome, "manager" if is_allowed else "ada")], row.name


def test_every_kind_of_refusal_has_a_row_with_its_code(server: Server) -> None:
    api = server.api()
    api.put("a.txt")

    answers = [
        api.get("~/assets", nosuch="x"),
        api.call("POST", "~/objects", data=b"{"),
        api.try_put("a//b"),
        api.get("~/asset", ref="nothing"),
        api.try_put("a.txt", expect="absent"),
        api.post("~/metadata", key="a.txt", meta={"x": {str(n): "y" for n in range(3)}} | {"z": "x" * 2_000_000}),
        api.get("~/search", query="nosuch:x"),
        Api(api.url, api.token, "elsewhere").get("~/keys"),
        api.call("POST", "~/blobs", data=b"x", headers={"Content-Digest": f"sha-256=:{'A' * 43}=:"}),
    ]

    codes = ["invalid_request", "invalid_request", "invalid_key", "key_not_found", "conflict", "too_large"]
    codes += ["search_syntax", "not_found", "integrity"]
    by_id = {id: outcome for id, _, outcome, _ in rows_of(server)}
    assert [by_id[answer.headers["x-request-id"]] for answer in answers] == codes


def test_a_row_says_who_did_what_to_what_and_when(server: Server) -> None:
    ada = server.member("ada")
    asset = ada.put("EXP-1/cells.txt", b"cells")
    ada.get("~/asset", ref="EXP-1/cells.txt")
    ada.get("~/search", query="cells")

    newest, search, get, put = log(server, actor="ada")[:4], *log(server, actor="ada")[:3]

    assert [row["action"] for row in newest] == ["assets.search", "assets.get", "objects.commit", "objects.upload"]
    assert (put["target"], put["outcome"]) == ("EXP-1/cells.txt", "done")
    assert put["details"] == {
        "assets": [{"key": "EXP-1/cells.txt", "version": asset["version"], "sha256": asset["sha256"]}],
        "count": 1,
    }
    assert (get["target"], get["details"]) == ("EXP-1/cells.txt", {"version": asset["version"]})
    assert (search["target"], search["details"]) == ("cells", {"total": 1})
    assert {row["token"] for row in newest} == {ada.ok(server.member("ada").get("/tokens"))["tokens"][1]["id"]}
    assert [row["number"] for row in newest] == sorted((row["number"] for row in newest), reverse=True)


def test_the_log_is_filtered_and_paged(server: Server) -> None:
    api = server.api()
    for number in range(5):
        api.put(f"{number}.txt", b"same")
    everything = log(server, limit=1000)

    pages, after = [], None
    while True:
        page = api.ok(api.get("~/audit", limit=3, **({"after": after} if after else {})))
        pages += page["rows"]
        after = page["next"]
        if not after:
            break

    assert [row["number"] for row in pages if row["number"] <= everything[0]["number"]] == [row["number"] for row in everything]
    assert [row["target"] for row in log(server, action="objects.commit")] == [f"{number}.txt" for number in (4, 3, 2, 1, 0)]
    assert [row["action"] for row in log(server, target="3.txt")] == ["objects.commit"]
    assert log(server, actor="nobody") == []
    assert log(server, actor="manager' OR '1'='1") == []


def test_a_write_and_its_row_are_one_commit(server: Server) -> None:
    with catalog_of(server) as catalog:
        catalog.execute(
            "CREATE TRIGGER fault BEFORE INSERT ON audit WHEN NEW.action = 'objects.commit' "
            "BEGIN SELECT RAISE(ABORT, 'fault'); END"
        )
    api = server.api()

    answer = api.try_put("a.txt")

    assert (answer.status_code, answer.json()["code"]) == (500, "server_error")
    assert api.keys() == []
    with catalog_of(server) as catalog:
        assert catalog.execute("SELECT count(*) FROM versions").fetchone() == (0,)
        catalog.execute("DROP TRIGGER fault")
    assert api.put("a.txt")["number"] == 1
    assert verdict(server)["problems"] == []


def test_the_database_itself_refuses_to_change_the_log(server: Server) -> None:
    server.api().put("a.txt")

    for statement in ("UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "DELETE FROM audit WHERE number = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="the audit log only grows"), catalog_of(server) as catalog:
            catalog.execute(statement)

    assert verdict(server)["problems"] == []


CHANGES: dict[str, tuple[str, list[str]]] = {
    "a changed actor": ("UPDATE audit SET actor = 'eve' WHERE workspace_id = 1 AND number = 3", ["row 3 was changed"]),
    "a changed moment": ("UPDATE audit SET at = at + 1 WHERE workspace_id = 1 AND number = 3", ["row 3 was changed"]),
    "a changed outcome": ("UPDATE audit SET outcome = 'x' WHERE workspace_id = 1 AND number = 1", ["row 1 was changed"]),
    "changed details": ("UPDATE audit SET details = '{}' WHERE workspace_id = 1 AND number = 2", ["row 2 was changed"]),
    "a token taken away": ("UPDATE audit SET token = NULL WHERE workspace_id = 1 AND number = 4", ["row 4 was changed"]),
    "a changed hash": (
        "UPDATE audit SET hash = 'x' WHERE workspace_id = 1 AND number = 3",
        ["row 3 was changed", "row 4 was changed"],
    ),
    "a row out of the middle": ("DELETE FROM audit WHERE workspace_id = 1 AND number = 3", ["row 3 missing"]),
    "rows out of the middle": ("DELETE FROM audit WHERE workspace_id = 1 AND number IN (2, 3)", ["rows 2 to 3 missing"]),
    "the first row": ("DELETE FROM audit WHERE workspace_id = 1 AND number = 1", ["row 1 missing"]),
    "the last row": ("DELETE FROM audit WHERE workspace_id = 1 AND number = 6", ["rows 6 to 6 missing at the end"]),
    "the tail": ("DELETE FROM audit WHERE workspace_id = 1 AND number > 2", ["rows 3 to 6 missing at the end"]),
    "everything": ("DELETE FROM audit WHERE workspace_id = 1", ["rows 1 to 6 missing at the end"]),
    "a row moved to another workspace": (
        "UPDATE audit SET workspace_id = 99 WHERE workspace_id = 1 AND number = 3",
        ["row 3 missing"],
    ),
    "two rows swapped": (
        "UPDATE audit SET number = CASE number WHEN 3 THEN 102 ELSE 103 END WHERE workspace_id = 1 AND number IN (2, 3);"
        "UPDATE audit SET number = number - 100 WHERE number > 100",
        ["row 2 was changed", "row 3 was changed", "row 4 was changed"],
    ),
    "the head": ("UPDATE audit_heads SET hash = 'x'", ["the last row is not the one that was written last"]),
    "no head": ("DELETE FROM audit_heads", ["the last row is not the one that was written last"]),
}


@pytest.mark.parametrize(("statement", "problems"), CHANGES.values(), ids=CHANGES)
def test_a_change_behind_the_servers_back_is_found(server: Server, statement: str, problems: list[str]) -> None:
    for number in range(3):
        server.api().put(f"{number}.txt", bytes([number]))
    with catalog_of(server) as catalog:
        assert catalog.execute("SELECT count(*) FROM audit WHERE workspace_id = 1").fetchone() == (6,)
        catalog.executescript("DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_cut")
        catalog.executescript(statement)

    found = verdict(server)

    assert found["problems"] == problems


def test_a_cut_end_is_found_although_the_log_goes_on(server: Server) -> None:
    server.api().put("a.txt", b"a")
    with catalog_of(server) as catalog:
        catalog.executescript("DROP TRIGGER audit_is_never_cut")
        catalog.execute("DELETE FROM audit WHERE workspace_id = 1 AND number = 2")
    server.api().put("b.txt", b"b")

    assert verdict(server)["problems"] == ["row 2 missing"]


def test_a_log_that_was_rewritten_as_a_whole_shows_in_the_head_that_was_noted_down(server: Server) -> None:
    server.api().put("a.txt")
    noted = verdict(server)["head"]
    server.api().put("b.txt")

    with catalog_of(server) as catalog:
        hashes = [row[0] for row in catalog.execute("SELECT hash FROM audit WHERE workspace_id = 1")]

    assert noted in hashes
    assert len(noted) == 64


def test_rows_stay_chained_while_many_write_and_read(server: Server) -> None:
    server.api().upload(b"same")

    def work(number: int) -> None:
        for step in range(5):
            server.api().put(f"{number}/{step}.txt", b"same")
            server.api().keys()

    run_together([lambda number=number: work(number) for number in range(6)])  # type: ignore[misc] # bound in the loop

    found = verdict(server)
    assert found["problems"] == []
    assert found["rows"] == 1 + 6 * 5 * 3


def run_together(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_each_workspace_has_a_log_of_its_own(server: Server) -> None:
    api = server.api()
    other = server.api(workspace="other")
    other.create_workspace("other")
    other.put("b.txt")
    api.put("a.txt")

    assert {row["target"] for row in log(server) if row["action"] == "objects.commit"} == {"a.txt"}
    assert other.ok(other.get("~/audit/verify"))["problems"] == []
    assert api.get("~/audit", workspace="other").status_code == 400


def test_a_put_that_changes_nothing_is_on_record_all_the_same(server: Server) -> None:
    api = server.api()
    first, again = api.put("a.txt"), api.put("a.txt")

    assert first["version"] == again["version"]
    assert len(log(server, action="objects.commit")) == 2


def test_a_retry_is_on_record_under_its_own_request(server: Server) -> None:
    api = server.api()
    body = {"objects": [{"key": "a.txt", "sha256": api.upload(b"data")}]}
    answers = [api.call("POST", "~/objects", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]

    assert answers[0].json() == answers[1].json()
    assert [row["request_id"] for row in log(server, action="objects.commit")] == [
        answer.headers["x-request-id"] for answer in reversed(answers)
    ]


def test_very_long_details_are_left_out_and_counted(server: Server) -> None:
    api = server.api()
    digest = api.upload(b"same")
    objects = [{"key": f"{'x' * 900}{number}.txt", "sha256": digest} for number in range(60)]

    api.ok(api.post("~/objects", objects=objects))

    [row] = log(server, action="objects.commit")
    assert row["target"] == "60 assets"
    assert set(row["details"]) == {"left_out"}
    assert verdict(server)["problems"] == []
