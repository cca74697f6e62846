"""
Text that this server signed: what is said, a dot, and HMAC-SHA256 (RFC 2104) over a purpose and what is said.

What was signed for one purpose passes for no other, though the key is the same.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

KEY_BYTES = 32
"""The size of the secret of a signing key."""


def fresh_key() -> bytes:
    """Return the secret of a new signing key."""
    return secrets.token_bytes(KEY_BYTES)


def sign(said: str, secret: bytes, purpose: bytes) -> str:
    """Return *said* with its signature; all characters of that may stand in an address."""
    return f"{said}.{_signature(said, secret, purpose)}"


def is_signed(text: str, secret: bytes, purpose: bytes) -> bool:
    """Whether *text* was signed with *secret* for *purpose*, found out in a time that tells nothing."""
    said, _, signature = text.rpartition(".")
    return hmac.compare_digest(_signature(said, secret, purpose).encode(), signature.encode(errors="replace"))


def _signature(said: str, secret: bytes, purpose: bytes) -> str:
    digest = hmac.digest(secret, purpose + b"\0" + said.encode(errors="replace"), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
