"""Many at once, over sockets: one wins, and nothing is torn."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.makers import Api, Server


def test_46_of_twenty_racing_puts_that_expect_nothing_one_wins(server: Server) -> None:
    api = server.api()
    digests = [api.upload(f"by {number}".encode()) for number in range(20)]

    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda digest: api.post("~/objects", objects=[{"key": "one.txt", "sha256": digest, "expect": "absent"}]), digests
            )
        )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    [won] = [answer.json()["assets"][0] for answer in answers if answer.status_code == 200]
    assert {answer.json()["details"]["found"] for answer in answers if answer.status_code == 409} == {won["version"]}
    assert api.call("GET", f"~/versions/{won['version']}/content").text == f"by {digests.index(won['sha256'])}"


def test_of_racing_puts_that_replace_one_version_one_wins(server: Server) -> None:
    api = server.api()
    first = api.put("one.txt", b"first")
    digests = [api.upload(f"by {number}".encode()) for number in range(12)]

    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(
                lambda digest: api.post("~/objects", objects=[{"key": "one.txt", "sha256": digest, "expect": first["version"]}]),
                digests,
            )
        )

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 11}
    assert [one["number"] for one in api.ok(api.get("~/versions", key="one.txt"))["versions"]] == [2, 1]


def test_04_a_name_that_is_raced_for_is_a_file_or_a_folder(server: Server) -> None:
    api = server.api()
    digest = api.upload(b"data")

    def put(key: str) -> int:
        return api.post("~/objects", objects=[{"key": key, "sha256": digest}]).status_code

    with ThreadPoolExecutor(8) as pool:
        for round in range(8):
            statuses = list(pool.map(put, [f"{round}", f"{round}/a", f"{round}/b/c", f"{round}"]))
            assert set(statuses) == {200, 409}, statuses

    keys = api.keys()
    assert not [key for key in keys if any(other.startswith(key + "/") for other in keys)]
    assert {key.partition("/")[0] for key in keys} == {str(round) for round in range(8)}


def test_puts_without_a_condition_all_count(server: Server) -> None:
    api = server.api()

    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda number: api.put("one.txt", f"by {number}".encode()), range(20)))

    assert sorted(one["number"] for one in made) == list(range(1, 21))
    assert [one["number"] for one in api.ok(api.get("~/versions", key="one.txt"))["versions"]] == list(range(20, 0, -1))


def test_deletes_restores_and_puts_in_any_order_leave_a_whole_lab(server: Server) -> None:
    api = server.api()
    for number in range(4):
        api.put(f"EXP-1/{number}.txt", b"data")

    def act(number: int) -> int:
        key = f"EXP-1/{number % 4}.txt"
        match number % 5:
            case 0:
                return api.post("~/delete", key=key).status_code
            case 1:
                return api.post("~/restore", key=key).status_code
            case 2:
                return api.call("POST", "~/delete-folder", json={"path": "EXP-1"}).status_code
            case 3:
                return api.post("~/metadata", key=key, meta={"n": number}).status_code
            case _:
                return api.try_put(key, b"data").status_code

    with ThreadPoolExecutor(10) as pool:
        statuses = set(pool.map(act, range(100)))

    assert statuses <= {200, 404}
    live = api.keys()
    assert api.ok(api.get("~/search"))["total"] == len(live)
    assert [one["key"] for one in api.ok(api.get("~/assets"))["assets"]] == live
    assert api.ok(api.get("~/audit/verify"))["problems"] == []
    assert api.ok(api.get("/lab/verify"))["problems"] == []


def test_the_same_content_sent_by_many_is_stored_once(server: Server) -> None:
    api = server.api()

    with ThreadPoolExecutor(10) as pool:
        digests = set(pool.map(lambda _: api.upload(b"the same" * 50_000), range(20)))

    assert len(digests) == 1
    assert len([file for file in (server.folder / "blobs").rglob("*") if file.is_file()]) == 1


def test_of_two_admins_who_remove_each_other_one_stays(server: Server) -> None:
    server.member("ada", "admin")
    ada, manager = server.member("ada", "admin"), server.api()

    def remove(caller: Api, user: str) -> int:
        return caller.call("DELETE", f"~/members/{user}").status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = [pool.submit(remove, ada, "manager"), pool.submit(remove, manager, "ada")]
        assert sorted(one.result() for one in statuses) == [200, 404]

    left = [caller for caller in (ada, manager) if caller.get("~/members").status_code == 200]
    assert len(left) == 1
