"""Signed addresses: equal to botocore's, letter by letter, and taken by a real store."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from epista.server.stores.presigner import Presigner

AT = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)

# What S3 puts into names and values: any text, but no control characters and no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)
KEYS = st.lists(TEXTS.filter(lambda part: part not in ("", ".", "..") and "/" not in part), min_size=1, max_size=3).map("/".join)
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "uploads",
            "uploadId",
            "partNumber",
            "response-content-disposition",
            "response-content-type",
            "x-id",
            "prefix",
            "versionId",
        ]
    ),
    TEXTS,
    max_size=4,
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-amz-checksum-sha256", "X-Amz-Checksum-Crc64nvme", "Content-Length", "content-md5", "x-amz-meta-a"]),
    st.text("abcXYZ019+/= ", min_size=1, max_size=44),
    max_size=3,
)


def presigner(
    endpoint: str | None = "http://127.0.0.1:8333", *, is_path_style: bool = True, secret: str = "secret/+key"
) -> Presigner:
    return Presigner(
        bucket="lab-1",
        endpoint=endpoint,
        region="eu-central-1",
        access_key="AKIA/1",
        secret_key=secret,
        is_path_style=is_path_style,
    )


def botocores(method: str, url: str, seconds: int, query: dict[str, str], headers: dict[str, str], secret: str) -> str:
    """Return what botocore makes of a request; its clock is told the time, which it does not take as an argument."""
    request = AWSRequest(method=method, url=url, params=query, headers=headers)
    credentials = Credentials("AKIA/1", secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: AT.replace(tzinfo=None))
        botocore.auth.S3SigV4QueryAuth(credentials, "s3", "eu-central-1", expires=seconds).add_auth(request)
    return str(request.prepare().url)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=KEYS,
    query=QUERIES,
    headers=HEADERS,
    seconds=st.integers(1, 604_800),
    secret=st.text("abc/+=0", min_size=1, max_size=40),
)
def test_an_address_is_what_botocore_makes_of_it(
    method: str, key: str, query: dict[str, str], headers: dict[str, str], seconds: int, secret: str
) -> None:
    ours = presigner(secret=secret).url(method, key, seconds=seconds, query=query, headers=headers, at=AT.timestamp())
    theirs = botocores(method, f"http://127.0.0.1:8333/lab-1/{quote(key, safe='/-._~')}", seconds, query, headers, secret)

    assert urlsplit(ours)[:3] == urlsplit(theirs)[:3]
    # The order of the parameters is free; the signature is over the sorted ones.
    assert sorted(parse_qsl(urlsplit(ours).query, keep_blank_values=True)) == sorted(
        parse_qsl(urlsplit(theirs).query, keep_blank_values=True)
    )


@pytest.mark.parametrize(
    ("endpoint", "is_path_style", "beginning"),
    [
        (None, False, "https://lab-1.s3.eu-central-1.amazonaws.com/a/b%20c?"),
        (None, True, "https://s3.eu-central-1.amazonaws.com/lab-1/a/b%20c?"),
        ("https://s3.lab.example:443", False, "https://lab-1.s3.lab.example/a/b%20c?"),
        ("http://s3.lab.example:80", True, "http://s3.lab.example/lab-1/a/b%20c?"),
        ("http://s3.lab.example:9000/", True, "http://s3.lab.example:9000/lab-1/a/b%20c?"),
    ],
)
def test_the_bucket_stands_in_the_host_or_in_the_path(endpoint: str | None, is_path_style: bool, beginning: str) -> None:
    ours = presigner(endpoint, is_path_style=is_path_style).url("GET", "a/b c", seconds=60, at=AT.timestamp())
    theirs = botocores("GET", beginning[:-1], 60, {}, {}, "secret/+key")

    assert ours.startswith(beginning)
    assert dict(parse_qsl(urlsplit(ours).query)) == dict(parse_qsl(urlsplit(theirs).query))


def test_the_example_of_the_s3_api_reference() -> None:
    """The signature is printed in the reference, under "Authenticating Requests: Using Query Parameters"."""
    ours = Presigner(
        bucket="examplebucket",
        endpoint="https://s3.amazonaws.com",
        region="us-east-1",
        access_key="AKIAIOSFODNN7EXAMPLE",
        secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        is_path_style=False,
    ).url("GET", "test.txt", seconds=86400, at=datetime(2013, 5, 24, tzinfo=UTC).timestamp())

    assert ours.endswith("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_no_address_is_good_for_longer_than_a_store_allows() -> None:
    assert "X-Amz-Expires=604800&" in presigner().url("GET", "a", seconds=10**9)


def test_the_secret_stands_nowhere() -> None:
    one = presigner(secret="very-secret")

    assert "very-secret" not in one.url("GET", "a", seconds=60) + repr(one)
