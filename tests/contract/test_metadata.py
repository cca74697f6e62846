"""What is metadata, and what is not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract import metadata
from epista.contract.errors import TooLargeError, ValidationError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_every_json_object_is_metadata_and_comes_back_as_it_is(document: dict[str, Any]) -> None:
    metadata.check(document)

    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        pytest.param(math.nan, "a[1].b", "is nan", id="nan"),
        pytest.param(-math.inf, "a[1].b", "is -inf", id="infinity"),
        pytest.param((1, 2), "a[1].b", "is a tuple", id="tuple"),
        pytest.param(b"x", "a[1].b", "is a bytes", id="bytes"),
        pytest.param({1: 2}, "a[1].b", "has the key 1, which is no string", id="key"),
        pytest.param("\ud800", "a[1].b", "half a surrogate pair", id="surrogate"),
        pytest.param({"\udfff": 1}, "a[1].b", "half a surrogate pair", id="surrogate in a key"),
        pytest.param(10**4001, "a[1].b", "more than 4000 digits", id="digits"),
    ],
)
def test_what_is_no_json_is_refused_with_its_path(value: Any, path: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        metadata.check({"a": [0, {"b": value}]})

    assert [(one["path"], said in one["message"]) for one in caught.value.violations] == [(path, True)]


def test_every_violation_is_reported() -> None:
    with pytest.raises(ValidationError) as caught:
        metadata.check({"a": math.nan, "b": [math.inf, 1], "c": {"d": object()}})

    assert [one["path"] for one in caught.value.violations] == ["a", "b[0]", "c.d"]
    assert "(and 2 more)" in caught.value.message


def test_the_limits_are_one_mebibyte_and_64_levels() -> None:
    def nested(levels: int) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for _ in range(levels - 1):
            document = {"a": document}
        return document

    metadata.check(nested(64))
    metadata.check({"a": "x" * (1024 * 1024 - len('{"a":""}'))})
    metadata.check({"a": 10**3999})

    with pytest.raises(ValidationError, match="nests deeper than 64 levels"):
        metadata.check(nested(65))
    with pytest.raises(TooLargeError) as caught:
        metadata.check({"a": "x" * (1024 * 1024 - len('{"a":""}') + 1)})
    assert caught.value.details == {"limit_bytes": 1024 * 1024}


@pytest.mark.parametrize("document", [None, [], "text", 1], ids=["none", "list", "text", "number"])
def test_only_an_object_is_metadata(document: Any) -> None:
    with pytest.raises(ValidationError, match="metadata is a JSON object"):
        metadata.check(document)
