"""The grammar of keys."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epista.contract import keys
from epista.contract.errors import InvalidKeyError

LETTERS = st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/")
SEGMENTS = st.text(LETTERS, min_size=1, max_size=20).filter(lambda text: unicodedata.normalize("NFC", text) not in (".", ".."))
KEYS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


@given(KEYS)
def test_whatever_follows_the_grammar_is_a_key_and_its_normal_form_is_stable(typed: str) -> None:
    key = keys.normalise(typed)

    assert key == unicodedata.normalize("NFC", typed)
    assert keys.normalise(key) == key
    assert keys.normalise(unicodedata.normalize("NFD", typed)) == key


@given(st.text(max_size=60))
def test_any_text_is_a_key_or_an_invalid_key_error(text: str) -> None:
    try:
        key = keys.normalise(text)
    except InvalidKeyError:
        return

    segments = key.split("/")
    assert not {"", ".", ".."} & set(segments)
    assert len(key.encode()) <= 1024
    assert "/".join([*keys.folders_of(key)[-1:], keys.name_of(key)]) == key


@pytest.mark.parametrize("key", ["a #?%41 é\\x.csv", "EXP-1/a b/c.csv", " ", "...", "a/...", "~", "C:\\x", "🧬.txt", "a" * 1024])
def test_a_key_is_kept_as_typed(key: str) -> None:
    assert keys.normalise(key) == key


@pytest.mark.parametrize(
    ("key", "said"),
    [
        pytest.param("", "may not be empty", id="empty"),
        pytest.param("/a", "starts with '/'; nearest: 'a'", id="leading slash"),
        pytest.param("a/", "ends with '/', which means a folder; nearest: 'a'", id="trailing slash"),
        pytest.param("a//b", "empty segment ('//')", id="empty segment"),
        pytest.param("./a", "the segment '.'", id="dot"),
        pytest.param("a/../b", "the segment '..'", id="dots"),
        pytest.param("a\0b", "control character ('\\x00') at character 2", id="nul"),
        pytest.param("a\x85", "control character ('\\x85') at character 2", id="next line"),
        pytest.param("a\ud800", "half a surrogate pair at character 2", id="surrogate"),
        pytest.param("x" * 1025, "is 1025 bytes of UTF-8; at most 1024", id="long"),
        pytest.param("é" * 513, "is 1026 bytes of UTF-8; at most 1024", id="long in bytes"),
    ],
)
def test_a_bad_key_says_which_rule_it_breaks(key: str, said: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        keys.normalise(key)

    assert said in caught.value.message
    assert isinstance(caught.value, ValueError)


def test_the_limit_counts_the_normal_form() -> None:
    assert len(keys.normalise("e\u0301" * 512).encode()) == 1024
    # This character has no composed form in NFC: two bytes typed become six.
    with pytest.raises(InvalidKeyError):
        keys.normalise("\u0344" * 512)


def test_a_folder_begins_every_key_below_it() -> None:
    assert keys.normalise_folder("") == ""
    assert keys.normalise_folder("/") == ""
    assert keys.normalise_folder("EXP-1") == "EXP-1/"
    assert keys.normalise_folder("EXP-1/raw/") == "EXP-1/raw/"
    for bad in ("//", "a//", "../", "/a"):
        with pytest.raises(InvalidKeyError):
            keys.normalise_folder(bad)


def test_the_first_folder_names_the_experiment() -> None:
    assert keys.experiment_of("EXP-1/raw/a.csv") == "EXP-1"
    assert keys.experiment_of("a.csv") is None
    assert keys.name_of("EXP-1/raw/a.csv") == "a.csv"
    assert keys.folders_of("EXP-1/raw/a.csv") == ["EXP-1", "EXP-1/raw"]
