"""Files that are catalogued where they lie."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from epista.client import objects
from epista.client.transfer import batches
from epista.contract import linked as wire
from epista.contract import objects as object_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epista.client.session import Session


class Linked(NamedTuple):
    """What was linked."""

    files: int
    """How many files stand in the catalog now as they are."""
    size_bytes: int
    """How many bytes they have, where they lie."""
    left_out: Sequence[wire.LeftOut]
    """What cannot be linked, and why; of very much, some."""
    left_out_count: int
    """How many cannot be linked."""


def link_dir(here: Session, source: str, prefix: str = "", *, dry_run: bool = False) -> Linked:
    """
    Catalogue the files at *source* below *prefix* without copying them, all or nothing; ``dry_run=True`` only tells of them.

    *source* lies below a root that the server's settings name for the workspace: ``ROOT/path`` or the whole address, such as
    ``s3://bucket/path``; in an embedded lab also a path that begins with ``.`` or ``~``. ``""`` for *prefix* is the active
    experiment, or the root without one. The lab reads these files and never writes them. Again, new files are added and those
    that changed get a new version; what is gone where it lay stays in the catalog, and reading it says so.

    Raises:
        NotFoundError: below no such root, or no file is there.
        ForbiddenError: you are no admin of the workspace.
        ConflictError: a name would be a file and a folder at once.
    """
    if here.is_embedded and source.startswith((".", "~")):
        source = str(Path(source).expanduser().absolute())
    batch = None if dry_run else uuid.uuid4().hex
    wanted = wire.LinkFiles(workspace=here.name, source=source, prefix=objects.folder_for(here, prefix), batch=batch)
    files = size = part = left_out_count = 0
    left_out: list[wire.LeftOut] = []
    while True:
        step = here.wire.call("linked.add", wanted, reply=wire.LinkedFiles, read_seconds=batches.COMMIT_SECONDS)
        files, size, part = files + step.files, size + step.size_bytes, part + step.parts
        left_out += step.left_out
        left_out_count += step.left_out_count
        if step.next is None:
            break
        wanted = msgspec.structs.replace(wanted, after=step.next, part=part)
    if batch is not None and part:
        commit = object_messages.CommitBatch(workspace=here.name, batch=batch, parts=part, notebook=here.notebook)
        batches.committed(here, commit, object_messages.Assets, keep=False)
    return Linked(files, size, left_out, left_out_count)
