"""
The credentials file: which servers a person has signed in to, with the token for each.

Keyed by the server's address, so that a token is never presented to another server. Mode 0600; written whole or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path

import msgspec

from epista.contract.errors import SettingsError


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one server."""

    token: str
    """The secret."""
    workspace: str | None = None
    """The workspace to open, if the person chose one."""
    user: str | None = None
    """Whose token it is."""

    def __repr__(self) -> str:
        return f"Saved(token=<hidden>, workspace={self.workspace!r}, user={self.user!r})"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    default: str | None = None
    """The server that is opened when none is named."""
    servers: Mapping[str, Saved] = {}
    """By address, normalised as `settings.normalise` does."""


def load(path: Path) -> Credentials:
    """Return what the file holds; nothing, if there is none."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Credentials()
    except OSError as error:
        raise SettingsError(f"the credentials file {str(path)!r} cannot be read: {error.strerror}") from error
    warn_if_open(path)
    try:
        return msgspec.json.decode(text, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Not chained: the decoder's message may quote a part of a token.
        raise SettingsError(
            f"the credentials file {str(path)!r} is not what it should be",
            hint="remove it and sign in again: epista auth login LINK",
        ) from None


def remember(path: Path, url: str, saved: Saved) -> None:
    """Keep *saved* for the server at *url*, and make that server the default."""
    known = load(path)
    _write(path, Credentials(default=url, servers={**known.servers, url: saved}))


def forget(path: Path, url: str) -> bool:
    """Forget the server at *url*; return whether it was known. Another known server becomes the default, if there is just one."""
    known = load(path)
    others = {name: saved for name, saved in known.servers.items() if name != url}
    default = known.default if known.default in others else (next(iter(others)) if len(others) == 1 else None)
    _write(path, Credentials(default=default, servers=others))
    return url in known.servers


def warn_if_open(path: Path) -> None:
    """Warn of a file with secrets that other users of the machine may read."""
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn(f"other users may read {str(path)!r}, which may hold a token; chmod 600 it", UserWarning, stacklevel=3)


def _write(path: Path, credentials: Credentials) -> None:
    # Through a link, the file it points to is replaced, not the link.
    path = path.resolve()
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    text = json.dumps(msgspec.to_builtins(credentials), indent=2, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"the credentials file {str(path)!r} cannot be written: {error.strerror}") from error
