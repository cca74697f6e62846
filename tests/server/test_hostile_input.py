"""What the client would never send: every answer is the documented one, and nothing is left behind."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import os
import shutil
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from epista.server import founding
from epista.server.app import create_app
from epista.server.config import Config
from tests.conftest import Thread
from tests.makers import Api, Server, sha256
from tests.raw import Exchange

DIGITS = b"1" * 5000

CURSORS = {
    "no base64": "!!!!",
    "one character": "x",
    "not ascii": "é",
    "no json": base64.urlsafe_b64encode(b"{").decode(),
    "a list": base64.urlsafe_b64encode(b"[[]]").decode(),
    "nan": base64.urlsafe_b64encode(b"NaN").decode(),
    "true": base64.urlsafe_b64encode(b"true").decode(),
    "a fraction": base64.urlsafe_b64encode(b"1.5").decode(),
    "a negative number": base64.urlsafe_b64encode(b"-1").decode(),
    "a huge number": base64.urlsafe_b64encode(b"1" * 30).decode(),
    "5,000 digits": base64.urlsafe_b64encode(DIGITS).decode(),
    "deep": base64.urlsafe_b64encode(b"[" * 3000).decode(),
    "half a surrogate pair": base64.urlsafe_b64encode(b'"\\ud800"').decode(),
    "null": base64.urlsafe_b64encode(b"null").decode(),
}

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(server_thread: Thread, founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of this, which none of it may harm."""
    folder = tmp_path_factory.mktemp("hostile") / "lab"
    shutil.copytree(founded, folder)
    stop = server_thread.start(create_app(Config(lab=str(folder))))
    link = founding.new_link(folder, address=server_thread.url, seconds=3600, only_if_locked_out=False)
    assert link
    yield Server(server_thread.url, folder, link.partition("#")[2])
    stop()


@pytest.fixture
def api(server: Server) -> Api:
    """Raw HTTP for a workspace of the test's own."""
    name = f"test-{next(_numbers)}"
    server.api().create_workspace(name)
    return server.api(workspace=name)


def problem(answer: requests.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:300]
    return answer.status_code, answer.json()["code"]


def send(api: Api, path: str, body: bytes, method: str = "POST") -> requests.Response:
    """Send a body as it is."""
    return api.call(method, path, data=body, headers={"Content-Type": "application/json"})


def files_of(server: Server) -> list[str]:
    return [file.name for folder in ("blobs", "staging") for file in (server.folder / folder).rglob("*") if file.is_file()]


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "a #?%41 é\\x.csv",
            "a b/c+d&e=f;g.csv",
            "%2e%2e/%2f",
            "'; DROP TABLE assets; --",
            "a\u2028b",
            "😀/\U0010ffff",
            '"quoted".csv',
            "~root",
            "C:\\Windows\\x",
            "-rf *",
            "a\u200bb",
            "x" * 1024,
            "é" * 512,
            "/".join("x" * 512),
        ],
        ids=lambda key: key[:12],
    )
    def test_an_odd_key_round_trips_through_every_endpoint(self, api: Api, key: str) -> None:
        asset = api.put(key, b"odd")

        assert asset["key"] == key
        assert api.keys() == [key]
        assert api.ok(api.get_asset(key))["id"] == asset["id"]
        assert api.ok(api.get("~/versions", key=key))["key"] == key
        assert api.ok(api.get("~/version", key=key, version="1"))["id"] == asset["version"]
        assert [one["key"] for one in api.ok(api.get("~/assets", prefix=key[:5]))["assets"]] == [key]
        assert api.call("GET", f"~/versions/{asset['version']}/content").content == b"odd"
        assert api.ok(api.post("~/metadata", key=key, meta={"a": 1}))["number"] == 2
        assert api.ok(api.post("~/delete", key=key))["key"] == key
        assert api.ok(api.post("~/restore", key=key))["key"] == key

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "./a",
            "a/.",
            "a\0b",
            "a\nb",
            "a\r\nX: y",
            "\x7f",
            "a\u0085",
            "x" * 1025,
        ],
        ids=lambda key: repr(key[:8]),
    )
    def test_a_bad_key_is_refused_wherever_a_key_is_taken(self, api: Api, key: str) -> None:
        digest = api.upload(b"data")
        answers = [
            api.post("~/objects", objects=[{"key": key, "sha256": digest}]),
            api.get("~/asset", ref=key),
            api.get("~/versions", key=key),
            api.get("~/version", key=key, version="1"),
            api.post("~/metadata", key=key, meta={}),
            api.post("~/delete", key=key),
            api.post("~/restore", key=key),
        ]

        assert [problem(answer) for answer in answers] == [(400, "invalid_key")] * 7
        assert api.keys() == []

    def test_both_normal_forms_reach_one_asset(self, api: Api) -> None:
        composed, decomposed = unicodedata.normalize("NFC", "é.csv"), unicodedata.normalize("NFD", "é.csv")
        first = api.put(decomposed, b"1")
        second = api.put(composed, b"2")

        assert first["id"] == second["id"]
        assert (second["key"], second["number"]) == (composed, 2)
        assert api.ok(api.get_asset(decomposed))["version"] == second["version"]
        assert api.keys(decomposed) == [composed]

    def test_both_normal_forms_in_one_commit_are_one_key_twice(self, api: Api) -> None:
        digest = api.upload(b"data")
        objects = [{"key": unicodedata.normalize(form, "é"), "sha256": digest} for form in ("NFC", "NFD")]

        assert problem(api.post("~/objects", objects=objects)) == (422, "validation")

    def test_no_file_of_the_server_has_the_name_of_a_key(self, api: Api, server: Server) -> None:
        before = set(server.folder.parent.rglob("*"))
        api.put("..\\..\\escaped.txt")
        api.put("%2e%2e/%2e%2e/escaped.txt")

        new = set(server.folder.parent.rglob("*")) - before
        assert not [path for path in new if "escaped" in str(path)]


class TestJson:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b"NaN", id="nan"),
            pytest.param(b"Infinity", id="infinity"),
            pytest.param(b"-Infinity", id="minus infinity"),
            pytest.param(b"1e999", id="over the range"),
            pytest.param(b"-1e999", id="under the range"),
            pytest.param(DIGITS, id="5,000 digits"),
            pytest.param(b'"\\ud800"', id="half a surrogate pair"),
            pytest.param(b'"\\udc00\\ud800"', id="a pair the wrong way round"),
            pytest.param(b'"\xed\xa0\x80"', id="a surrogate in utf-8"),
            pytest.param(b'"\xff"', id="no utf-8"),
            pytest.param(b"[" * 100_000, id="100,000 levels"),
            pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100,000 closed levels"),
            pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100,000 objects"),
            pytest.param(b"1 2", id="two values"),
            pytest.param(b"'x'", id="single quotes"),
            pytest.param(b"01", id="a leading zero"),
            pytest.param(b'"a\x01"', id="a control character"),
        ],
    )
    @pytest.mark.parametrize("place", ["meta", "options", "experiment", "rules"])
    def test_what_json_cannot_say_is_refused_in_every_document(self, api: Api, place: str, value: bytes) -> None:
        digest = api.upload(b"data").encode()
        method, path, body = {
            "meta": ("POST", "~/objects", b'{"objects":[{"key":"a","sha256":"%s","meta":{"x":%s}}]}' % (digest, value)),
            "options": ("POST", "~/objects", b'{"objects":[{"key":"a","sha256":"%s","options":{"x":%s}}]}' % (digest, value)),
            "experiment": ("POST", "~/experiments", b'{"name":"E","meta":{"x":%s}}' % value),
            "rules": ("PUT", "~/rules", b'{"rules":[{"name":"r","schema":{"default":%s}}]}' % value),
        }[place]

        answer = send(api, path, body, method)

        assert problem(answer) in [(400, "invalid_request"), (422, "validation")]
        assert api.keys() == []
        assert api.ok(api.get("~/rules"))["version"] == 0

    @pytest.mark.parametrize("levels", [63, 64, 65, 200, 500, 900, 980])
    def test_documents_are_64_levels_deep_at_most_and_deeper_ones_no_fault(self, api: Api, levels: int) -> None:
        digest = api.upload(b"data").encode()
        nested = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)

        in_meta = send(api, "~/objects", b'{"objects":[{"key":"a","sha256":"%s","meta":%s}]}' % (digest, nested))
        in_options = send(api, "~/objects", b'{"objects":[{"key":"b","sha256":"%s","options":%s}]}' % (digest, nested))
        in_rules = send(api, "~/rules", b'{"rules":[{"name":"r","schema":{"default":%s}}]}' % nested, "PUT")

        assert in_meta.status_code in ({200} if levels <= 64 else {400, 422})
        assert {in_options.status_code, in_rules.status_code} <= {200, 400, 422}
        # What was taken can be read.
        for path in ("~/assets", "~/rules", "~/search", "~/asset?ref=a", "~/asset?ref=b", "~/versions?key=b"):
            assert api.call("GET", path).status_code in (200, 404), path

    def test_a_metadata_document_of_five_megabytes_is_too_large(self, api: Api) -> None:
        answer = api.try_put("a.txt", meta={"x": "y" * 5_000_000})

        assert problem(answer) in [(413, "too_large"), (422, "validation")]
        assert api.keys() == []

    def test_millions_of_empty_lists_are_refused_before_they_are_decoded(self, api: Api) -> None:
        body = b'{"key": "a.txt", "meta": {"a": [' + b"[]," * 5_000_000 + b"1]}}"

        refused = api.call("POST", "~/metadata", data=body)

        assert problem(refused) == (413, "too_large")
        assert "more lists and objects" in refused.json()["detail"]

    def test_large_numbers_come_back_as_they_are(self, api: Api) -> None:
        meta = {"big": 10**3999, "negative": -(2**64), "small": 5e-324, "float": 1e308, "true": True, "one": 1, "point": 1.0}

        api.put("a.txt", meta=meta)

        found = json.loads(api.get_asset("a.txt").text)["meta"]
        assert found == meta
        assert [type(found[name]) for name in ("true", "one", "point")] == [bool, int, float]

    @pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (1, 1.0), (True, 1.0)])
    def test_what_python_takes_for_equal_is_other_metadata(self, api: Api, before: Any, after: Any) -> None:
        api.put("a.txt", b"same", meta={"x": before}, options={"y": 0})

        second = api.put("a.txt", b"same", meta={"x": after}, options={"y": 0})
        third = api.put("a.txt", b"same", meta={"x": after}, options={"y": False})

        assert (second["number"], third["number"]) == (2, 3)
        assert json.dumps(second["meta"]) == json.dumps({"x": after})
        assert third["options"] == {"y": False}

    def test_the_order_of_keys_is_no_difference(self, api: Api) -> None:
        api.put("a.txt", b"same", meta={"a": 1, "b": {"c": 1, "d": 2}})

        assert api.put("a.txt", b"same", meta={"b": {"d": 2, "c": 1}, "a": 1})["number"] == 1

    def test_a_repeated_name_in_an_object_never_means_two_things(self, api: Api) -> None:
        digest = api.upload(b"data")
        body = f'{{"objects":[{{"key":"a","key":"b","sha256":"{digest}"}}]}}'.encode()

        made = api.ok(send(api, "~/objects", body))["assets"]

        assert [one["key"] for one in made] == api.keys() == ["b"]

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x"])
    def test_a_body_with_an_encoding_is_refused(self, api: Api, encoding: str) -> None:
        headers = {"Content-Encoding": encoding}

        answers = [api.call("POST", path, data=gzip.compress(b"{}"), headers=headers) for path in ("~/objects", "~/blobs")]

        assert [problem(answer) for answer in answers] == [(400, "invalid_request")] * 2

    def test_numbers_out_of_range_are_refused(self, api: Api) -> None:
        huge = "9" * 40
        answers = [
            api.get("~/assets", limit="0"),
            api.get("~/assets", limit="-1"),
            api.get("~/assets", limit="5001"),
            api.get("~/assets", limit=huge),
            api.get("~/rules", version=huge),
            api.get("~/rules", version="-1"),
            send(api, "/lab/gc", b'{"dry_run": true, "grace_seconds": %s}' % huge.encode()),
            send(api, "/lab/gc", b'{"dry_run": true, "grace_seconds": -1}'),
            api.get("~/assets", created_after="0000-01-01T00:00:00Z"),
            api.get("~/assets", created_after="2026-01-01"),
            api.get("~/assets", created_after="2026-01-01T00:00:00"),
        ]

        assert [problem(answer) for answer in answers] == [(400, "invalid_request")] * len(answers)
        assert api.get("~/assets", created_after="0001-01-01T00:00:00+14:00").status_code == 200
        assert api.get("~/assets", created_before="9999-12-31T23:59:59-14:00").status_code == 200
        assert problem(api.get("~/version", key="a", version=huge)) == (404, "key_not_found")


class TestQueryStrings:
    @pytest.mark.parametrize("word", ["null", "true", "false", "1e3", "0", "NaN", "[]", "{}", '""', " "])
    def test_a_word_stays_a_word(self, api: Api, word: str) -> None:
        api.put(word, b"root")

        assert api.ok(api.get("~/asset", ref=word))["key"] == word
        assert api.ok(api.get("~/versions", key=word, experiment="null"))["key"] == word
        assert api.keys(word) == [word]
        for field in ("experiment", "format", "created_by", "tags", "kind"):
            assert api.ok(api.get("~/assets", **{field: word}))["assets"] == [], field
        assert api.ok(api.get("~/audit", actor=word))["rows"] == []
        assert problem(api.get("~/assets", after=word)) == (400, "invalid_request")

    def test_workspaces_and_users_may_be_called_null(self, server: Server) -> None:
        server.api().create_workspace("null")
        server.api().create_workspace("true")
        member = server.member("null", "editor", workspace="null")

        assert member.put("a.txt")["created_by"] == "null"
        assert server.api(workspace="true").keys() == []
        assert Api(server.url, member.token, "NULL").get("~/keys").status_code == 404
        assert server.api(workspace="null").call("DELETE", "~/members/null").status_code == 200

    @pytest.mark.parametrize(
        "query",
        [
            "ref=a&ref=b",
            "ref=a&REF=b",
            "ref=a&exact=maybe",
            "ref=a&exact=null",
            "ref=a&workspace=other",
            "ref=" + "x" * 9000,
            "ref",
        ],
        ids=lambda query: query[:20],
    )
    def test_an_odd_query_string_is_refused(self, api: Api, query: str) -> None:
        answer = api.call("GET", f"~/asset?{query}")

        assert answer.status_code == 400
        assert answer.json()["code"] in ("invalid_request", "invalid_key")

    def test_bytes_that_are_no_utf8_are_no_fault(self, api: Api) -> None:
        for path in (
            "~/asset?ref=%ff%fe",
            "~/search?query=%ed%a0%80",
            "/workspaces/%ff/keys",
            "~/level?path=%00",
            "~/keys?prefix=%f8",
        ):
            assert api.call("GET", path).status_code in (200, 400, 404), path

    @pytest.mark.parametrize(
        "typed",
        [
            "' OR '1'='1",
            '" OR 1=1 --',
            "a'; DROP TABLE assets; --",
            "%",
            "_",
            "*",
            "\\",
            "a\0b",
            "NEAR(a b)",
            "{name key}: a",
            'a" AND "b',
        ],
        ids=range(11),
    )
    def test_sql_and_index_syntax_is_text_in_every_filter(self, api: Api, typed: str) -> None:
        api.put("EXP-1/a.txt", b"text", tags=["qc"], meta={"a": "b"})
        asked: list[tuple[str, dict[str, str]]] = [
            *(("~/assets", {field: typed}) for field in ("experiment", "kind", "format", "tags", "prefix", "created_by")),
            ("~/keys", {"prefix": typed}),
            ("~/level", {"path": typed}),
            ("~/asset", {"ref": typed}),
            ("~/versions", {"key": typed}),
            ("~/experiments/" + quote(typed, safe=""), {}),
            ("~/audit", {"actor": typed}),
            ("~/audit", {"action": typed}),
            ("~/audit", {"target": typed}),
            *(
                ("~/search", {"query": query})
                for query in (typed, f"name:({typed})", f'tags:"{typed}"', f"user_meta.a:{typed}", f"key:{typed}")
            ),
        ]

        for path, params in asked:
            answer = api.call("GET", path, params=params)
            assert answer.status_code in (200, 400, 404), (path, params, answer.text)
            if answer.status_code == 200 and path in ("~/assets", "~/keys"):
                assert "EXP-1/a.txt" not in answer.text, (path, params)
        assert api.keys() == ["EXP-1/a.txt"]

    @pytest.mark.parametrize("cursor", CURSORS.values(), ids=CURSORS)
    def test_a_cursor_that_was_not_made_here_is_refused_on_every_list(self, api: Api, cursor: str) -> None:
        api.put("a.txt")
        lists: list[tuple[str, dict[str, str]]] = [
            ("~/assets", {}),
            ("~/level", {}),
            ("~/experiments", {}),
            ("~/versions", {"key": "a.txt"}),
            ("~/search", {}),
            ("~/search", {"query": "a"}),
            ("~/audit", {}),
            ("~/rules/check", {}),
            ("/lab/verify", {}),
        ]

        answers = [api.call("GET", path, params=params | {"after": cursor}) for path, params in lists]

        assert [problem(answer) for answer in answers] == [(400, "invalid_request")] * len(lists)


class TestUploads:
    def upload(self, api: Api, data: bytes, **headers: str) -> requests.Response:
        return api.call("POST", "~/blobs", data=data, headers=headers)

    def test_a_body_that_ends_early_leaves_nothing(self, api: Api, server: Server) -> None:
        api.upload(b"to make the folders")
        before = files_of(server)
        with Exchange(api, "POST", f"/workspaces/{api.workspace}/blobs", {"Content-Length": "100000"}) as exchange:
            exchange.send(b"half of it")

        time.sleep(0.3)

        assert files_of(server) == before
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(b"half of it")]))["sha256"] == [sha256(b"half of it")]

    def test_a_json_body_that_ends_early_does_nothing(self, api: Api) -> None:
        digest = api.upload(b"data")
        body = json.dumps({"objects": [{"key": "a", "sha256": digest}]}).encode()
        with Exchange(api, "POST", f"/workspaces/{api.workspace}/objects", {"Content-Length": str(len(body) + 1)}) as exchange:
            exchange.send(body)

        time.sleep(0.3)

        assert api.keys() == []

    def test_a_body_that_is_longer_than_it_says_is_cut_there(self, api: Api) -> None:
        with Exchange(
            api, "POST", f"/workspaces/{api.workspace}/blobs", {"Content-Length": "4", "Connection": "close"}
        ) as exchange:
            exchange.send(b"dataand more")
            status, _ = exchange.read_head()
            reply = json.loads(exchange.read_rest())

        assert (status, reply) == (200, {"sha256": sha256(b"data"), "size_bytes": 4})

    def test_a_chunked_body_needs_no_length(self, api: Api) -> None:
        headers = {"Transfer-Encoding": "chunked", "Connection": "close"}
        with Exchange(api, "POST", f"/workspaces/{api.workspace}/blobs", headers) as exchange:
            exchange.send(b"4\r\ndata\r\n3\r\nabc\r\n0\r\n\r\n")
            status, _ = exchange.read_head()

        assert status == 200
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(b"dataabc")]))["sha256"] == []

    def test_a_chunked_body_that_ends_early_leaves_nothing(self, api: Api, server: Server) -> None:
        api.upload(b"to make the folders")
        before = files_of(server)
        with Exchange(api, "POST", f"/workspaces/{api.workspace}/blobs", {"Transfer-Encoding": "chunked"}) as exchange:
            exchange.send(b"4\r\ndata\r\n")

        time.sleep(0.3)

        assert files_of(server) == before

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Content-Length": "4", "Transfer-Encoding": "chunked"}, id="a length and chunks"),
            pytest.param({"Content-Length": "-4"}, id="a negative length"),
            pytest.param({"Content-Length": "4x"}, id="a length that is no number"),
            pytest.param({"Content-Length": "4, 5"}, id="two lengths"),
        ],
    )
    def test_a_body_whose_length_is_unclear_is_never_kept_whole(self, api: Api, headers: dict[str, str]) -> None:
        with Exchange(api, "POST", f"/workspaces/{api.workspace}/blobs", headers | {"Connection": "close"}) as exchange:
            exchange.send(b"0\r\n\r\nPOST /smuggled HTTP/1.1\r\n\r\n")
            answer = exchange.read_rest()

        assert answer.count(b"HTTP/1.1 ") <= 1
        assert b"smuggled" not in answer

    def digest(self, data: bytes) -> str:
        return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"

    def test_a_digest_that_agrees_is_fine(self, api: Api) -> None:
        assert self.upload(api, b"data", **{"Content-Digest": self.digest(b"data")}).status_code == 200
        assert self.upload(api, b"data", **{"Content-Digest": f"md5=:xx:, {self.digest(b'data')}"}).status_code == 200

    def test_a_digest_that_disagrees_is_an_integrity_error_at_once_and_leaves_nothing(self, api: Api, server: Server) -> None:
        began = time.monotonic()

        before = files_of(server)
        answer = self.upload(api, b"fresh data", **{"Content-Digest": self.digest(b"date")})

        assert problem(answer) == (422, "integrity")
        assert answer.json()["details"] == {"sha256": sha256(b"fresh data")}
        assert time.monotonic() - began < 3
        assert files_of(server) == before
        assert api.ok(api.post("~/blobs/missing", sha256=[sha256(b"fresh data")]))["sha256"] == [sha256(b"fresh data")]

    @pytest.mark.parametrize(
        "header", ["", "sha-256", "sha-256=x", "sha-256=::", "sha-512=:AAAA:", "sha-256=:!!!!:", "sha-256=:AAAA:"]
    )
    def test_a_digest_that_is_none_is_refused(self, api: Api, server: Server, header: str) -> None:
        before = files_of(server)

        assert problem(self.upload(api, b"data", **{"Content-Digest": header})) == (400, "invalid_request")
        assert files_of(server) == before

    def test_an_upload_takes_no_fields(self, api: Api) -> None:
        assert problem(api.call("POST", "~/blobs?key=a", data=b"data")) == (400, "invalid_request")


class TestBombs:
    def test_a_bomb_is_stored_quickly_and_found_by_its_name(self, api: Api) -> None:
        bomb = gzip.compress(b'["' + b"word " * 20_000_000 + b'"]', 9)
        began = time.monotonic()

        api.put("EXP-1/bomb.json.gz", bomb)

        assert time.monotonic() - began < 20
        assert [hit["key"] for hit in api.ok(api.get("~/search", query="bomb"))["hits"]] == ["EXP-1/bomb.json.gz"]
        assert api.get("/me").status_code == 200

    @pytest.mark.parametrize(
        ("key", "data"),
        [
            ("deep.json", b"[" * 200_000),
            ("digits.json", DIGITS * 20),
            ("cut.csv.gz", gzip.compress(b"a,b\n" * 1000)[:-20]),
            ("no.parquet", b"PAR1" + bytes(100) + b"PAR1"),
            ("wide.csv", b"x," * 500_000),
            ("laughs.xml", b"<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><a>&c;</a>"),
            ("no.fcs", b"FCS3.1    " + b"9" * 48),
            ("no.ipynb", b'{"cells": 5}'),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_file_that_is_not_what_it_says_is_stored_and_found_by_its_name(self, api: Api, key: str, data: bytes) -> None:
        assert api.put(key, data)["sha256"] == sha256(data)
        assert api.ok(api.get("~/search", query=f"name:{key.partition('.')[0]}"))["total"] == 1


class TestDownloads:
    def content(self, api: Api, version: str, **headers: str) -> requests.Response:
        return api.call("GET", f"~/versions/{version}/content", headers=headers)

    @pytest.mark.parametrize(
        ("wanted", "status", "body", "span"),
        [
            ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
            ("bytes=9-", 206, b"9", "bytes 9-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=99-100", 416, b"", "bytes */10"),
            ("bytes=-0", 416, b"", "bytes */10"),
            ("bytes=5-2", 200, b"0123456789", None),
            ("bytes=0-1,4-5", 200, b"0123456789", None),
            ("bytes=a-b", 200, b"0123456789", None),
            ("bytes=-", 200, b"0123456789", None),
            ("items=0-1", 200, b"0123456789", None),
            ("bytes=0-99999999999999999999", 200, b"0123456789", None),
            ("bytes=" + "9" * 5000 + "-", 200, b"0123456789", None),
        ],
        ids=lambda value: value[:16] if isinstance(value, str) else "",
    )
    def test_a_range_gives_its_part_or_all(self, api: Api, wanted: str, status: int, body: bytes, span: str | None) -> None:
        version = api.put("a.bin", b"0123456789")["version"]

        answer = self.content(api, version, Range=wanted)

        assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, span)

    def test_a_range_of_other_bytes_is_not_given(self, api: Api) -> None:
        asset = api.put("a.bin", b"0123456789")

        same = self.content(api, asset["version"], Range="bytes=0-1", **{"If-Range": f'"{asset["sha256"]}"'})
        other = self.content(api, asset["version"], Range="bytes=0-1", **{"If-Range": '"other"'})

        assert (same.status_code, same.content) == (206, b"01")
        assert (other.status_code, other.content) == (200, b"0123456789")

    @pytest.mark.parametrize(
        ("sent", "status"),
        [('"{tag}"', 304), ('W/"{tag}"', 304), ('"a", "{tag}"', 304), ("*", 304), ('"a"', 200), ("{tag}", 200), ("", 200)],
    )
    def test_bytes_that_the_caller_has_are_not_sent_again(self, api: Api, sent: str, status: int) -> None:
        asset = api.put("a.bin", b"0123456789")

        answer = self.content(api, asset["version"], **{"If-None-Match": sent.replace("{tag}", asset["sha256"])})

        assert (answer.status_code, answer.headers["etag"]) == (status, f'"{asset["sha256"]}"')

    @pytest.mark.parametrize(
        ("key", "shown"),
        [
            ('a"b.txt', 'attachment; filename="a\\"b.txt"; filename*=UTF-8\'\'a%22b.txt'),
            ("a\\b.txt", "attachment; filename=\"a\\\\b.txt\"; filename*=UTF-8''a%5Cb.txt"),
            ("é;x.txt", "attachment; filename=\"_;x.txt\"; filename*=UTF-8''%C3%A9%3Bx.txt"),
            ("EXP-1/😀.html", "attachment; filename=\"_.html\"; filename*=UTF-8''%F0%9F%98%80.html"),
            (
                "a\u2028Set-Cookie: x.txt",
                "attachment; filename=\"a_Set-Cookie: x.txt\"; filename*=UTF-8''a%E2%80%A8Set-Cookie%3A%20x.txt",
            ),
            ("%0d%0aX: y", "attachment; filename=\"%0d%0aX: y\"; filename*=UTF-8''%250d%250aX%3A%20y"),
        ],
        ids=["quote", "backslash", "semicolon", "emoji", "line separator", "percent"],
    )
    def test_a_name_stays_within_its_header(self, api: Api, key: str, shown: str) -> None:
        answer = self.content(api, api.put(key)["version"])

        assert answer.headers["content-disposition"] == shown
        assert "set-cookie" not in answer.headers
        assert "x" not in answer.headers

    @pytest.mark.parametrize("key", ["page.html", "image.svg", "doc.xml", "script.js", "data.json", "a.pdf"])
    def test_no_browser_runs_what_a_user_put(self, api: Api, key: str) -> None:
        headers = self.content(api, api.put(key, b"<script>alert(1)</script>")["version"]).headers

        assert headers["content-disposition"].startswith("attachment; ")
        assert headers["content-security-policy"] == "sandbox"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"].startswith("private,")


class TestIdempotency:
    @pytest.fixture
    def once(self) -> str:
        """A key that no other test uses."""
        return f"once-{next(_numbers)}"

    def commit(self, api: Api, key: str, idempotency: str, data: bytes = b"data") -> requests.Response:
        body = {"objects": [{"key": key, "sha256": api.upload(data)}]}
        return api.call("POST", "~/objects", json=body, headers={"Idempotency-Key": idempotency})

    def test_one_key_for_two_requests_is_a_conflict(self, api: Api, once: str) -> None:
        first = self.commit(api, "a.txt", once)
        other_body = self.commit(api, "b.txt", once)
        other_act = api.call("POST", "~/delete", json={"key": "a.txt"}, headers={"Idempotency-Key": once})

        assert first.status_code == 200
        assert [problem(answer) for answer in (other_body, other_act)] == [(409, "conflict")] * 2
        assert api.keys() == ["a.txt"]

    def test_one_request_sent_many_times_at_once_makes_one_version(self, api: Api, once: str) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.commit(api, "a.txt", once), range(16)))

        assert {answer.text for answer in answers} == {answers[0].text}
        assert [one["number"] for one in api.ok(api.get("~/versions", key="a.txt"))["versions"]] == [1]

    def test_a_retry_is_answered_as_before_although_others_went_on(self, api: Api, once: str) -> None:
        first = self.commit(api, "a.txt", once, b"1")
        api.put("a.txt", b"2")

        again = self.commit(api, "a.txt", once, b"1")

        assert again.json() == first.json()
        assert api.ok(api.get_asset("a.txt"))["number"] == 2

    def test_a_refused_request_may_be_tried_again_under_its_key(self, api: Api, once: str) -> None:
        body = {"key": "a.txt", "meta": {"x": 1}}
        headers = {"Idempotency-Key": once}
        first = api.call("POST", "~/metadata", json=body, headers=headers)
        api.put("a.txt")

        again = api.call("POST", "~/metadata", json=body, headers=headers)

        assert (first.status_code, again.status_code) == (404, 200)

    def test_the_key_of_somebody_else_is_another_key(self, server: Server, once: str) -> None:
        ada, bob = server.member("ada"), server.member("bob")

        first = self.commit(ada, "a.txt", once, b"ada")
        second = self.commit(bob, "b.txt", once, b"bob")

        assert (first.status_code, second.status_code) == (200, 200)

    @pytest.mark.parametrize("key", ["", "x" * 129, "é\x80"], ids=["empty", "long", "unprintable"])
    def test_a_key_has_some_printable_characters(self, api: Api, key: str) -> None:
        assert problem(self.commit(api, "a.txt", key)) == (400, "invalid_request")

    def test_whoever_lost_the_right_gets_no_kept_reply(self, server: Server, once: str) -> None:
        carol = server.member("carol")
        assert self.commit(carol, "carol.txt", once).status_code == 200
        server.api().ok(server.api().post("~/members", user="carol", role="viewer"))
        body = {"objects": [{"key": "carol.txt", "sha256": sha256(b"data")}]}

        again = carol.call("POST", "~/objects", json=body, headers={"Idempotency-Key": once})

        assert problem(again) == (403, "forbidden")


class TestAddresses:
    @pytest.mark.parametrize("method", ["PATCH", "DELETE", "PUT", "OPTIONS", "TRACE"])
    def test_a_method_that_no_row_has_is_refused(self, api: Api, method: str) -> None:
        assert api.call(method, "~/keys").status_code == 405

    @pytest.mark.parametrize(
        "path", ["/lab.db", "/static/../lab.db", "/etc/passwd", "/api/v1", "/api/v2/me", "/API/V1/me", "//api/v1/me"]
    )
    def test_nothing_else_is_answered(self, server: Server, path: str) -> None:
        answer = requests.get(server.url + path, headers={"Authorization": f"Bearer {server.manager}"}, timeout=60)

        assert problem(answer) == (404, "not_found")

    def test_a_get_takes_no_body_and_a_post_no_query(self, api: Api) -> None:
        assert problem(api.call("GET", "~/assets", data=b'{"limit": 1}')) == (400, "invalid_request")
        assert problem(api.call("POST", "~/delete?key=a", json={})) == (400, "invalid_request")


def test_odd_text_in_the_audit_log_never_stops_it(server: Server, api: Api) -> None:
    for target in ("\u2028", "\ufeff", "😀" * 2000, "\0", "'\"\\"):
        api.get("~/asset", ref=target)
        api.get("~/search", query=target)

    assert api.ok(api.get("~/audit/verify"))["problems"] == []
    assert len(api.ok(api.get("~/audit"))["rows"]) == 12


def test_the_lab_is_readable_by_nobody_else(server: Server, api: Api) -> None:
    api.put("a.txt")

    assert {oct(path.stat().st_mode & 0o077) for path in _all(server.folder) if path.is_dir()} == {"0o0"}
    assert os.name == "nt" or not [
        path for path in _all(server.folder / "blobs") if path.is_file() and path.stat().st_mode & 0o222
    ]


def _all(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]
