"""Signing keys of the lab: what links are signed with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.contract import signing_keys as wire

if TYPE_CHECKING:
    from epista.client.session import Session


def find(here: Session) -> tuple[wire.SigningKey, ...]:
    """List the signing keys, newest first."""
    return here.wire.call("signing_keys.find", wire.ListSigningKeys(), reply=wire.SigningKeys).keys


def rotate(here: Session, *, retire_all: bool = False) -> tuple[wire.SigningKey, ...]:
    """Sign new links with a new key; with *retire_all*, refuse every link that was made until now."""
    return here.wire.call("signing_keys.rotate", wire.RotateSigningKey(retire_all=retire_all), reply=wire.SigningKeys).keys
