"""Signed links: bytes for whoever has the link, as long as its maker may read them, and nothing else."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests

import epista
from epista.client import signing_keys
from epista.client.links import Link
from epista.contract import links as messages
from epista.server.access import links
from tests import processes
from tests.makers import Api, Clock, Server

CSV = b"well,count\nA1,17\nA2,23\n"

NAME = "EXP-1/plate one.csv"


@pytest.fixture
def maker(server: Server) -> Api:
    """Somebody who may read one experiment."""
    return server.member("ada", "viewer", experiments=["EXP-1"])


@pytest.fixture
def asset(server: Server) -> dict[str, Any]:
    made: dict[str, Any] = server.api().put(NAME, CSV)
    return made


def make(api: Api, version: str, **given: Any) -> str:
    """Return the address of a new link."""
    url: str = api.url + api.ok(api.post("~/links", version=version, **given))["url"]
    return url


def follow(url: str, method: str = "GET", **headers: str) -> requests.Response:
    """Ask as somebody who has nothing but the link."""
    return requests.request(method, url, headers=headers, timeout=60)


def refused(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


class TestUse:
    def test_a_link_gives_the_bytes_to_whoever_has_it(self, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])

        answer = follow(url)

        assert (answer.status_code, answer.content) == (200, CSV)
        assert url.endswith("/plate%20one.csv")

    def test_ranges_and_head_are_understood(self, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])

        part, head = follow(url, Range="bytes=5-9"), follow(url, "HEAD")

        assert (part.status_code, part.content) == (206, b"count")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CSV)), b"")

    def test_pandas_and_the_standard_library_read_it_as_it_is(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        link = http_ws.link(NAME)

        assert pd.read_csv(link)["count"].tolist() == [17, 23]
        with urllib.request.urlopen(link) as answer:
            assert answer.read() == CSV

    def test_a_link_of_an_embedded_lab_works_on_its_machine(self, embedded_ws: epista.Workspace) -> None:
        embedded_ws.put_file("linked.csv", __file__)

        assert b"Signed links" in follow(embedded_ws.link("linked.csv")).content

    def test_an_old_version_can_be_linked(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        http_ws.put(NAME, pd.DataFrame({"other": [1]}))

        assert follow(http_ws.link(NAME, version=1)).content == CSV

    def test_users_bytes_are_never_run_as_a_page(self, server: Server) -> None:
        version = server.api().put("page.html", b"<script>alert(1)</script>")["version"]

        headers = follow(make(server.api(), version)).headers

        assert headers["content-disposition"].startswith("attachment")
        assert headers["content-security-policy"] == "sandbox"
        assert headers["x-content-type-options"] == "nosniff"

    def test_pages_of_other_sites_may_read_it_by_ranges_and_pass_it_on_to_nobody(self, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])
        origin = {"Origin": "https://igv.example"}
        asked = follow(url, "OPTIONS", **origin, **{"Access-Control-Request-Headers": "range"})

        for answer in (follow(url, **origin), follow(url + "x", **origin), asked):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-credentials" not in answer.headers
        assert asked.status_code == 204
        assert "range" in asked.headers["access-control-allow-headers"]
        assert "content-range" in asked.headers["access-control-expose-headers"]
        assert follow(url).headers["cache-control"] == "private, no-cache"

    def test_what_needs_a_token_is_open_to_no_other_site(self, server: Server, asset: dict[str, Any]) -> None:
        answer = server.api().call("GET", f"~/versions/{asset['version']}/content", headers={"Origin": "https://igv.example"})

        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    def test_a_link_is_for_reading(self, maker: Api, asset: dict[str, Any], method: str) -> None:
        assert follow(make(maker, asset["version"]), method).status_code == 405

    def test_a_link_is_no_token(self, maker: Api, asset: dict[str, Any]) -> None:
        link = make(maker, asset["version"]).split("/")[-2]

        assert Api(maker.url, link).get("/me").status_code == 401


class TestEnd:
    def test_a_link_ends_when_it_says(self, maker: Api, asset: dict[str, Any], clock: Clock) -> None:
        url = make(maker, asset["version"], seconds=60)
        clock.ahead_seconds = 58
        assert follow(url).status_code == 200

        clock.ahead_seconds = 61

        assert refused(follow(url)) == (403, "forbidden")
        assert "worked until" in follow(url).json()["detail"]

    def test_no_link_lives_longer_than_the_server_allows(self, maker: Api, asset: dict[str, Any]) -> None:
        assert refused(maker.post("~/links", version=asset["version"], seconds=12 * 3600 + 1)) == (422, "validation")

    def test_no_link_lives_longer_than_the_token_that_made_it(self, server: Server, asset: dict[str, Any], clock: Clock) -> None:
        ends = "2126-01-01T00:00:00Z"
        short = server.member("ada", "viewer", expires_at=ends)
        made = short.ok(short.post("~/links", version=asset["version"]))
        assert made["expires_at"] < ends
        clock.ahead_seconds = 100 * 366 * 24 * 3600

        assert follow(server.url + made["url"]).status_code == 403

    def test_a_link_of_a_kernel_outlives_the_token_and_ends_with_its_line(self, server: Server, asset: dict[str, Any]) -> None:
        kernel = server.member("ada", "viewer", kind="kernel", scopes=["read", "tokens"])
        url = make(kernel, asset["version"])
        renewed = kernel.ok(kernel.post("/tokens/renew"))
        assert follow(url).status_code == 200

        kernel.ok(kernel.call("DELETE", f"/tokens/{renewed['token']['id']}"))

        assert refused(follow(url)) == (403, "forbidden")

    def test_a_link_ends_with_the_token_that_made_it(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])
        token = maker.ok(maker.get("/me"))["token"]

        maker.ok(maker.call("DELETE", f"/tokens/{token}"))

        assert refused(follow(url)) == (403, "forbidden")

    @pytest.mark.parametrize("change", ["removed", "restricted"])
    def test_a_link_opens_nothing_that_its_maker_may_no_longer_read(
        self, server: Server, maker: Api, asset: dict[str, Any], change: str
    ) -> None:
        url = make(maker, asset["version"])
        admin = server.api()
        if change == "removed":
            admin.ok(admin.call("DELETE", "~/members/ada"))
        else:
            admin.ok(admin.post("~/members", user="ada", role="viewer", experiments=["EXP-2"]))

        assert refused(follow(url)) == (404, "not_found")

    def test_a_link_opens_no_deleted_asset_until_it_is_restored(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])
        admin = server.api()

        admin.ok(admin.post("~/delete", key=NAME))
        assert refused(follow(url)) == (404, "not_found")
        assert maker.post("~/links", version=asset["version"]).status_code == 404
        admin.ok(admin.post("~/restore", key=NAME))

        assert follow(url).status_code == 200

    def test_one_may_link_what_one_may_read_and_nothing_else(self, server: Server, maker: Api) -> None:
        hidden = server.api().put("EXP-2/secret.csv", CSV)["version"]

        assert refused(maker.post("~/links", version=hidden)) == refused(maker.post("~/links", version="ve_nowhere"))
        writer = server.member("ada", "editor", scopes=["write"])
        assert refused(writer.post("~/links", version=hidden)) == (403, "forbidden")


class TestForgery:
    def test_whatever_is_changed_in_a_link_ends_it(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        other = server.api().put("EXP-2/secret.csv", b"secret")["version"]
        base, link, name = make(maker, asset["version"]).rsplit("/", 2)
        key, workspace, version, token, ends, signature = link.split(".")
        forged = [
            (key, workspace, other, token, ends, signature),
            (key, workspace, version, "", ends, signature),
            (key, workspace, version, token, str(int(ends) + 1), signature),
            (key, workspace, version, token, "0" + ends, signature),
            (key, workspace, version, token, ends, signature[:-1]),
            (key, workspace, version, token, ends, signature + "="),
            (key, workspace, version, token, ends, ""),
            (key, workspace, version, token, ends, "é"),
            ("sk_0", workspace, version, token, ends, signature),
            (key, workspace, version, token, ends),
            ("",),
            ("....." * 2,),
            ("%00", workspace, version, token, ends, signature),
            (key, workspace, version, token, "9" * 400, signature),
        ]

        for parts in forged:
            answer = follow(f"{base}/{'.'.join(parts)}/{name}")
            assert answer.status_code in (403, 404), parts
            assert b"secret" not in answer.content

    def test_another_name_beside_it_is_another_file(self, maker: Api, asset: dict[str, Any]) -> None:
        url = make(maker, asset["version"])

        # As a genome browser does that looks for an index.
        assert refused(follow(url + ".bai")) == (404, "not_found")

    def test_a_signature_counts_for_its_purpose_alone(self) -> None:
        ticket = links.Ticket("sk_1", "ws_1", "ve_1", "tk_1", 1)
        signed = links.sign(ticket, b"k" * 32)

        assert links.read(signed) == ticket
        assert links.is_signed(signed, b"k" * 32)
        assert not links.is_signed(signed, b"l" * 32)


class TestKeys:
    def test_rotation_ends_no_link_before_its_time(self, http_ws: epista.Workspace, asset: dict[str, Any], clock: Clock) -> None:
        old = http_ws.link(NAME)
        keys = signing_keys.rotate(http_ws)
        new = http_ws.link(NAME)

        assert [key.retired_at is None for key in keys] == [True, False]
        assert follow(old).status_code == follow(new).status_code == 200
        assert keys[0].id in new
        assert keys[1].id in old
        clock.ahead_seconds = 12 * 3600 + 1
        assert "not made here" in follow(old).json()["detail"]

    def test_retiring_all_ends_every_link_at_once(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        older = http_ws.link(NAME)
        signing_keys.rotate(http_ws)
        old = http_ws.link(NAME)

        signing_keys.rotate(http_ws, retire_all=True)

        assert refused(follow(older)) == refused(follow(old)) == (403, "forbidden")
        assert follow(http_ws.link(NAME)).status_code == 200

    def test_no_answer_shows_the_secret_of_a_key(self, server: Server, maker: Api, asset: dict[str, Any]) -> None:
        make(maker, asset["version"])
        with closing(sqlite3.connect(server.folder / "lab.db")) as catalog:
            ((secret,),) = catalog.execute("SELECT secret FROM signing_keys").fetchall()
        api = server.api()

        shown = api.get("/lab/signing-keys").text + api.post("/lab/signing-keys").text + api.get("/lab/audit").text

        assert len(secret) == 32
        assert secret.hex() not in shown
        assert set(api.get("/lab/signing-keys").json()["keys"][0]) == {"id", "created_at", "retired_at"}


class TestRecords:
    def test_making_and_using_a_link_is_audited_as_its_maker_without_the_link(
        self, server: Server, maker: Api, asset: dict[str, Any]
    ) -> None:
        url = make(maker, asset["version"])
        answer = follow(url)
        api = server.api()

        made, used = (api.ok(api.get("~/audit", action=action))["rows"] for action in ("links.create", "links.open"))

        assert [(row["actor"], row["target"], row["outcome"]) for row in made + used] == [("ada", "plate one.csv", "done")] * 2
        assert used[0]["details"]["by"] == "link"
        assert used[0]["request_id"] == answer.headers["x-request-id"]
        assert used[0]["token"] == made[0]["token"]
        assert signature(url) not in json.dumps(made + used)

    @pytest.mark.parametrize("kind", ["granian", "uvicorn"])
    def test_the_log_and_the_figures_have_no_link(self, tmp_path: Path, kind: str) -> None:
        lab = tmp_path / "lab"
        running = processes.served(lab, log_level="debug") if kind == "granian" else processes.embedded(lab)
        with running as server:
            api = server.api()
            url = make(api, api.put(NAME, CSV)["version"])

            assert follow(url).status_code == 200
            assert follow(url + "x").status_code == 404
            assert follow(url, "OPTIONS").status_code == 204
            figures = requests.get(server.url + "/metrics", headers={"Authorization": f"Bearer {api.token}"}, timeout=60).text
            said = server.said()

        assert 'endpoint="links.open"' in figures
        assert kind == "uvicorn" or "links.open" in said
        assert signature(url) not in figures + said

    def test_no_repr_shows_a_link(self, http_ws: epista.Workspace, asset: dict[str, Any]) -> None:
        link = http_ws.link(NAME)
        reply = messages.Link(url=link, expires_at=link.expires_at, name=link.name)
        request = messages.OpenLink(link=link, name=link.name)

        for one in (link, reply, request, [link]):
            assert signature(link) not in repr(one)
        assert isinstance(link, Link)
        assert "plate one.csv" in repr(link)


def signature(url: str) -> str:
    return url.split("/")[-2].rpartition(".")[2]
