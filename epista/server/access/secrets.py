"""Secrets of tokens and sign-in links: made from 256 random bits, kept only as a hash."""

from __future__ import annotations

import hashlib
import os
import secrets
import time

PREFIXES = {"personal": "epista_pat_", "kernel": "epista_kernel_", "link": ""}
"""What a secret of each kind begins with, so that people and scanners recognise a leaked one."""


def make(kind: str) -> str:
    """Return a fresh secret."""
    return PREFIXES[kind] + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is kept of a secret. It is random, so a slow hash would add nothing but time."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def identifier(kind: str) -> str:
    """
    Return a fresh opaque id such as ``as_...`` for a thing of that *kind*.

    Begins with the time, so that new ids lie side by side in an index; the rest is random.
    """
    stamp = int(time.time() * 1000).to_bytes(6, "big").hex()
    return f"{kind}_{stamp}{os.urandom(8).hex()}"
