"""
Keys: where an asset stands in its workspace.

A key is a path such as ``EXP-12/raw/plate1.csv``. Any Unicode except control characters; no empty, ``.`` or ``..``
segment; at most 1,024 bytes of UTF-8; Unicode normal form C (UAX #15). Everything else round-trips as typed: case, spaces,
``#``, ``?``, ``%41``, ``\\``. The first folder names the experiment.
"""

from __future__ import annotations

import unicodedata

from epista.contract.errors import InvalidKeyError

MAX_KEY_BYTES = 1024
"""The longest key, in bytes of UTF-8."""

_HINT = "a key is a path like 'EXP-12/raw/plate1.csv'"


def normalise(key: str) -> str:
    """
    Return *key* in the form in which it is stored, normal form C.

    Raises:
        InvalidKeyError: *key* breaks the grammar; the message names the segment and the rule.
    """
    key = _text(key, "key")
    if not key:
        raise InvalidKeyError("a key may not be empty", hint=_HINT)
    if key.startswith("/"):
        raise InvalidKeyError(f"key {key!r} starts with '/'; nearest: {key.lstrip('/')!r}", hint=_HINT)
    if key.endswith("/"):
        raise InvalidKeyError(f"key {key!r} ends with '/', which means a folder; nearest: {key.rstrip('/')!r}", hint=_HINT)
    for segment in key.split("/"):
        if not segment:
            raise InvalidKeyError(f"key {key!r} has an empty segment ('//')", hint=_HINT)
        if segment in (".", ".."):
            raise InvalidKeyError(f"key {key!r} has the segment {segment!r}, which is not allowed", hint=_HINT)
    return key


def normalise_folder(path: str) -> str:
    """Return *path* as the start of every key below that folder: ``""`` for the root, else ending in ``/``."""
    if not isinstance(path, str):
        raise InvalidKeyError(f"a folder is a str, not {type(path).__name__}", hint="a folder is a path like 'EXP-12/raw/'")
    path = path.removesuffix("/")
    return normalise(path) + "/" if path else ""


def normalise_prefix(prefix: str) -> str:
    """Return the plain string *prefix* of keys in normal form C; it need not be a whole key."""
    return _text(prefix, "prefix")


def experiment_of(key: str) -> str | None:
    """Return the first folder of *key*, which names its experiment, or None at the root of the workspace."""
    first, slash, _ = key.partition("/")
    return first if slash else None


def name_of(key: str) -> str:
    """Return the last segment of *key*."""
    return key.rpartition("/")[2]


def folders_of(key: str) -> list[str]:
    """Return the folders above *key*, outermost first, without their slash: ``a/b/c`` gives ``["a", "a/b"]``."""
    parts = key.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _text(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise InvalidKeyError(f"a {what} is a str, not {type(text).__name__}", hint=_HINT)
    if text.isascii() and text.isprintable() and len(text) <= MAX_KEY_BYTES:
        return text
    for column, char in enumerate(text, start=1):
        category = unicodedata.category(char)
        if category == "Cc":
            raise InvalidKeyError(f"{what} {text!r} has a control character ({char!r}) at character {column}", hint=_HINT)
        if category == "Cs":
            raise InvalidKeyError(f"{what} {text!r} has half a surrogate pair at character {column}", hint=_HINT)
    # Normal form may be longer than what was typed, so the limit is checked after it.
    text = unicodedata.normalize("NFC", text)
    size = len(text.encode())
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(f"{what} {text[:40]!r}... is {size} bytes of UTF-8; at most {MAX_KEY_BYTES}", hint=_HINT)
    return text
