"""Usage: how much a workspace holds, and how much it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.contract import usage as wire
from epista.contract.messages import Done

if TYPE_CHECKING:
    from epista.client.session import Session


def get(here: Session) -> wire.Usage:
    """
    Tell how much the workspace holds: bytes, live assets and versions, by experiment and by kind.

    Bytes are counted as they are stored: all versions, also those of deleted assets, and the same content once. Who may read
    only some experiments is told of those alone, and of no quota.
    """
    return here.wire.call("usage.get", wire.ReadUsage(workspace=here.name), reply=wire.Usage)


def of_lab(here: Session) -> wire.LabUsage:
    """Tell how much the whole lab holds, and each of its workspaces; for managers of the lab."""
    return here.wire.call("usage.of_lab", wire.ReadLabUsage(), reply=wire.LabUsage)


def set_quota(here: Session, workspace: str, *, max_bytes: int | None, max_assets: int | None) -> None:
    """Limit what a workspace may hold, None for no limit; for managers of the lab. What is there already stays."""
    request = wire.SetQuota(name=workspace, max_bytes=max_bytes, max_assets=max_assets)
    here.wire.call("usage.set_quota", request, reply=Done)
