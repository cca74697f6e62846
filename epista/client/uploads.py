"""Uploads: large contents that are under way in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.contract import uploads as wire
from epista.contract.messages import Done

if TYPE_CHECKING:
    from epista.client.session import Session


def find(here: Session, *, everyone: bool = False) -> tuple[wire.Upload, ...]:
    """List incomplete uploads, newest first: your own, or, as an admin of the workspace, those of *everyone*."""
    return here.wire.call("uploads.find", wire.FindUploads(workspace=here.name, everyone=everyone), reply=wire.Uploads).uploads


def abort(here: Session, id: str) -> None:
    """Give up an upload: what has arrived of it is removed, and the next run begins anew."""
    here.wire.call("uploads.abort", wire.AbortUpload(workspace=here.name, upload=id), reply=Done)
