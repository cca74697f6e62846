"""Linked files: catalogued where they lie, below the roots that the settings name for a workspace."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping

from epista.contract import keys
from epista.contract import linked as wire
from epista.contract.errors import (
    IntegrityError,
    InvalidKeyError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from epista.contract.frames import MAX_OBJECTS
from epista.contract.messages import Done
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import cursors, spans
from epista.server.services.batches import Batches, Linking
from epista.server.services.resources import Resources
from epista.server.services.spans import Span
from epista.server.stores import assets as rows
from epista.server.stores.linked import LeftOut, Origin, Place, Seen

STEP_SECONDS = 5.0
"""How long one step walks; the caller asks again for the next."""

STEP_FILES = 20_000
"""How many files one step sets aside at most."""

MOST_TOLD = 100
"""How many of the files that are left out one step names."""


class _Source(NamedTuple):
    """What shall be linked."""

    root: str
    origin: Origin
    path: str
    """Below the root."""
    folder: str
    """What its files are named from."""


class Linked:
    """The operator says what a workspace may link, its admins what of that they do; nothing is written where the files lie."""

    def __init__(self, resources: Resources, batches: Batches) -> None:
        self._all = resources
        self._batches = batches

    def add(self, actor: Actor, wanted: wire.LinkFiles) -> wire.LinkedFiles:
        """Set files aside, in parts, until the step has taken long enough."""
        folder = keys.normalise_folder(wanted.prefix)
        after = cursors.text(wanted.after) or ""
        with self._all.read(actor, "admin", wanted.workspace) as (_, access):
            source = self._source(access, wanted.source)
        step = _Step(source, folder)
        until = time.monotonic() + STEP_SECONDS
        parts = 0
        for files in step.parts(after):
            if wanted.batch is not None:
                self._set_aside(actor, wanted, wanted.part + parts, files)
                parts += 1
            if time.monotonic() > until or step.files >= STEP_FILES:
                break
        else:
            step.last = None
        if not wanted.after and step.last is None and not step.files and not step.left_out_count:
            raise NotFoundError(f"there is no file at or below {wanted.source!r}", hint="give a folder with files, or one file")
        details = {"files": step.files, "left_out": step.left_out_count, "dry_run": wanted.batch is None}
        self._all.note(actor, access.workspace_id, f"{source.root}/{source.path}", details)
        return wire.LinkedFiles(
            files=step.files,
            size_bytes=step.size,
            parts=parts,
            left_out=tuple(step.left_out),
            left_out_count=step.left_out_count,
            next=None if step.last is None else cursors.of(step.last),
        )

    def _set_aside(self, actor: Actor, wanted: wire.LinkFiles, part: int, files: Sequence[Linking]) -> None:
        batch = wanted.batch
        assert batch is not None, "a dry run sets nothing aside"

        def work(tx: Connection, access: Access) -> Done:
            self._batches.set_linked_aside(tx, actor, access, batch, part, files)
            details = {"batch": batch, "part": part, "count": len(files)}
            self._all.record(tx, actor, access.workspace_id, f"{len(files)} files set aside", details)
            return Done()

        self._all.write(actor, "admin", wanted.workspace, Done, work)

    def _source(self, access: Access, said: str) -> _Source:
        """Return what *said* means to this workspace; of roots of others it is told nothing."""
        own = {
            name: root
            for name, root in self._all.config.link_roots.items()
            if "*" in root.workspaces or access.workspace in root.workspaces
        }
        places = [(address, name) for name, root in own.items() for address in (name, root.url.rstrip("/"))]
        for address, name in sorted(places, key=lambda place: len(place[0]), reverse=True):
            if said == address or said.startswith(address + "/"):
                path = said.removeprefix(address).strip("/")
                if any(part in ("", ".", "..") for part in path.split("/") if path) or "\0" in path:
                    raise InvalidRequestError(f"{said!r} is no plain path: it has an empty, '.' or '..' part")
                return self._found(name, path)
        raise NotFoundError(
            f"{said!r} lies below no root that the workspace {access.workspace!r} may link from",
            hint=f"its roots: {', '.join(sorted(own))}" if own else "whoever runs the server can name one: link_roots",
        )

    def _found(self, root: str, path: str) -> _Source:
        origin = self._all.roots.origin(root)
        seen = origin.look(path) if path else None
        # A single file is named by its last part, the files of a folder by what stands below the folder.
        folder = path.rpartition("/")[0] if seen is not None else path
        return _Source(root, origin, path, folder + "/" if folder else "")


class _Step:
    """One walk, from where the last one ended."""

    def __init__(self, source: _Source, folder: str) -> None:
        self._source = source
        self._folder = folder
        self.files = 0
        self.size = 0
        self.left_out: list[wire.LeftOut] = []
        self.left_out_count = 0
        self.last: str | None = None
        """The last file that was taken."""

    def parts(self, after: str) -> Iterator[list[Linking]]:
        """Give what can be linked, as much at a time as becomes one part."""
        part: list[Linking] = []
        for found in self._walk(after):
            linking = self._linking(found)
            if isinstance(linking, LeftOut):
                self._leave(linking)
                continue
            part.append(linking)
            self.files, self.size, self.last = self.files + 1, self.size + linking.size, found.path
            if len(part) == MAX_OBJECTS:
                yield part
                part = []
        if part:
            yield part

    def _walk(self, after: str) -> Iterator[Seen | LeftOut]:
        origin, path = self._source.origin, self._source.path
        alone = origin.look(path) if path else None
        return iter([alone]) if alone is not None else origin.walk(path, after)

    def _linking(self, found: Seen | LeftOut) -> Linking | LeftOut:
        name = found.path.removeprefix(self._source.folder)
        if isinstance(found, LeftOut):
            return LeftOut(name, found.reason)
        try:
            key = keys.normalise(self._folder + name)
        except InvalidKeyError as error:
            return LeftOut(name, error.message)
        if key != self._folder + name and self._is_taken(found.path):
            return LeftOut(name, f"has the key {key!r} of another file")
        place = Place(self._source.root, found.tag, found.path)
        return Linking(key=key, root=self._source.root, object=str(place), size=found.size)

    def _is_taken(self, path: str) -> bool:
        """Whether another file has the name in normal form, in which keys are stored."""
        normal = unicodedata.normalize("NFC", path)
        return normal != path and self._source.origin.look(normal) is not None

    def _leave(self, found: LeftOut) -> None:
        self.left_out_count += 1
        if len(self.left_out) < MOST_TOLD:
            # A name need not be text.
            told = found.path.encode("utf-8", "backslashreplace").decode()
            self.left_out.append(wire.LeftOut(path=told, reason=found.reason))


def problem(resources: Resources, row: RowMapping) -> str | None:
    """Read a linked file whole, and say what is wrong with it; the sha256 is taken if nobody knows it yet."""
    digest = hashlib.sha256()
    try:
        for piece in spans.read(resources, [Span(row["sha256"], row["object"], 0, 0, row["size"])]):
            digest.update(piece)
    except (IntegrityError, UnavailableError) as error:
        return error.message
    if row["sha256"] is None:
        taken = {"object": row["object"], "sha256": digest.hexdigest()}
        resources.catalog.write(lambda tx: rows.take_sha256(tx, **taken))
    elif digest.hexdigest() != row["sha256"]:
        return f"has the sha256 {digest.hexdigest()} instead"
    return None
