"""Conditions and ranges against the rules of RFC 9110; each id names the section a row comes from."""

from __future__ import annotations

import pytest
import requests
from starlette.datastructures import Headers

from epista.server.routes.conditions import Answer, answer
from tests.makers import Server, sha256

TAG = '"' + "a" * 64 + '"'

WHOLE = Answer(200, 0, 10)

HERE = ("if-match", TAG)
OTHER = '"' + "b" * 64 + '"'


def rows(*found: tuple[str, list[tuple[str, str]], Answer]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("sent", "expected"), [pytest.param(sent, said, id=name) for name, sent, said in found])


def ask(sent: list[tuple[str, str]], *, method: str = "GET", size: int = 10) -> Answer:
    return answer(method, Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in sent]), tag=TAG, size=size)


@rows(
    ("13.1.1 none", [], WHOLE),
    ("13.1.1 the same", [("if-match", TAG)], WHOLE),
    ("13.1.1 any", [("if-match", "*")], WHOLE),
    ("13.1.1 one of several", [("if-match", f"{OTHER}, {TAG}")], WHOLE),
    ("13.1.1 in another line", [("if-match", OTHER), ("if-match", TAG)], WHOLE),
    ("13.1.1 another", [("if-match", OTHER)], Answer(412)),
    ("13.1.1 weak, and compared strongly", [("if-match", "W/" + TAG)], Answer(412)),
    ("13.1.1 without quotes", [("if-match", TAG.strip('"'))], Answer(412)),
    ("13.1.1 empty", [("if-match", "")], Answer(412)),
    ("13.1.2 the same", [("if-none-match", TAG)], Answer(304)),
    ("13.1.2 weak, and compared weakly", [("if-none-match", "W/" + TAG)], Answer(304)),
    ("13.1.2 any", [("if-none-match", "*")], Answer(304)),
    ("13.1.2 one of several", [("if-none-match", f"{OTHER},{TAG}")], Answer(304)),
    ("13.1.2 another", [("if-none-match", OTHER)], WHOLE),
    ("8.8.3 a star within a tag is no star", [("if-none-match", '"a, *, b"')], WHOLE),
    ("13.1.3 a date means nothing without one", [("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], WHOLE),
    ("13.1.4 a date means nothing without one", [("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], WHOLE),
    ("13.2.2 if-match comes first", [("if-match", OTHER), ("if-none-match", TAG)], Answer(412)),
    ("13.2.2 then if-none-match", [HERE, ("if-none-match", TAG), ("range", "bytes=0-1")], Answer(304)),
    ("13.2.2 then the range", [HERE, ("if-none-match", OTHER), ("range", "bytes=0-1")], Answer(206, 0, 2)),
    ("13.1.5 the same", [("range", "bytes=0-1"), ("if-range", TAG)], Answer(206, 0, 2)),
    ("13.1.5 another", [("range", "bytes=0-1"), ("if-range", OTHER)], WHOLE),
    ("13.1.5 weak", [("range", "bytes=0-1"), ("if-range", "W/" + TAG)], WHOLE),
    ("13.1.5 a date", [("range", "bytes=0-1"), ("if-range", "Fri, 01 Jan 2100 00:00:00 GMT")], WHOLE),
    ("13.1.5 without a range", [("if-range", OTHER)], WHOLE),
    ("13.1.5 another, and no such range", [("range", "bytes=99-"), ("if-range", OTHER)], WHOLE),
)
def test_a_condition_is_kept(sent: list[tuple[str, str]], expected: Answer) -> None:
    assert ask(sent) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=0-0", Answer(206, 0, 1)),
        ("bytes=9-9", Answer(206, 9, 10)),
        ("bytes=0-", Answer(206, 0, 10)),
        ("bytes=3-99", Answer(206, 3, 10)),
        ("bytes=-1", Answer(206, 9, 10)),
        ("bytes=-99", Answer(206, 0, 10)),
        ("Bytes=1-2", Answer(206, 1, 3)),
        ("bytes=10-", Answer(416)),
        ("bytes=10-11", Answer(416)),
        ("bytes=-0", Answer(416)),
        ("bytes=2-1", WHOLE),
        ("bytes=0-1,3-4", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes 0-1", WHOLE),
        ("lines=0-1", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=¹-¹", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_range_is_a_part_or_the_whole_or_refused(wanted: str, expected: Answer) -> None:
    assert ask([("range", wanted)]) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("bytes=0-", Answer(416)), ("bytes=-5", Answer(200, 0, 0)), ("bytes=-0", Answer(416)), ("bytes=0-1,2-3", Answer(200, 0, 0))],
)
def test_of_nothing_there_is_no_part(wanted: str, expected: Answer) -> None:
    assert ask([("range", wanted)], size=0) == expected


def test_a_range_means_nothing_for_head() -> None:
    assert ask([("range", "bytes=0-1")], method="HEAD") == WHOLE
    assert ask([("if-none-match", TAG)], method="HEAD") == Answer(304)
    assert ask([("if-match", OTHER)], method="HEAD") == Answer(412)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("sent", "status"),
    [({"If-None-Match": "*"}, 304), ({"If-Match": OTHER}, 412), ({"Range": "bytes=99-"}, 416)],
    ids=["304", "412", "416"],
)
def test_an_answer_without_content_says_which_content_it_is_about(
    server: Server, method: str, sent: dict[str, str], status: int
) -> None:
    api = server.api()
    asset = api.put("a.bin", b"0123456789")

    with requests.Session() as session:
        url = f"{api.url}/api/v1/workspaces/lab/versions/{asset['version']}/content"
        given = {"Authorization": f"Bearer {api.token}"}
        said = session.request(method, url, headers=given | sent, timeout=60)
        # The connection goes on, so no byte of a body was in the way.
        after = session.get(url, headers=given, timeout=60)

    expected = 200 if (method, status) == ("HEAD", 416) else status
    assert (said.status_code, said.content) == (expected, b"")
    assert said.headers["etag"] == f'"{sha256(b"0123456789")}"'
    assert said.headers.get("content-range") == ("bytes */10" if expected == 416 else None)
    assert said.headers["cache-control"] == ("no-store" if expected in (412, 416) else "private, max-age=31536000, immutable")
    assert after.content == b"0123456789"
