"""
What every service works with, and the three steps that every service method shares.

*Who may*: `enter` asks the policy. *One commit*: `write` runs the rows of an act, its audit row and the reply kept for a
retry in one transaction. *For the record*: `note` audits what was only read, in a group, at most a second later.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select

from epista.contract.errors import AuthenticationError, ConflictError, EpistaError, UnavailableError
from epista.contract.messages import Reply, Request
from epista.server.access import policy
from epista.server.access.actors import Actor
from epista.server.access.policy import Access, Membership
from epista.server.config import Config
from epista.server.engines.extraction import Extractor
from epista.server.engines.images import ImageReader
from epista.server.engines.previews import Previewer
from epista.server.engines.schema_checks import SchemaChecks
from epista.server.engines.sequences import Indexer
from epista.server.engines.tables import TableFiles
from epista.server.stores import audit, experiments, people
from epista.server.stores.blobs import BlobStore, is_name
from epista.server.stores.catalog import Catalog
from epista.server.stores.linked import Roots
from epista.server.stores.moments import Clock
from epista.server.stores.search.index import SearchIndex
from epista.server.stores.table_cache import TableCache
from epista.server.stores.tables import replies

R = TypeVar("R", bound=Reply)

REPLY_KEPT_MICROSECONDS = 24 * 3600 * 1_000_000
"""How long a reply is kept for a retry."""

MAX_DETAILS_BYTES = 16 * 1024
"""How much one audit row may say besides its columns."""

_TARGETS = ("key", "ref", "path", "query", "sql", "user", "version", "id", "name", "workspace")

log = logging.getLogger("epista.audit")

# Written once: to put a statement together costs more than SQLite takes to answer it.
_KEPT = select(replies).where(replies.c.user_id == bindparam("user_id"), replies.c.key == bindparam("key"))
_FORGET = delete(replies).where(replies.c.at < bindparam("before"))
_KEEP = insert(replies)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The stores, the engines, the clock and the settings."""

    config: Config
    catalog: Catalog
    blobs: BlobStore
    roots: Roots
    search: SearchIndex
    extractor: Extractor
    schema_checks: SchemaChecks
    table_files: TableFiles
    table_cache: TableCache
    previewer: Previewer
    indexer: Indexer
    images: ImageReader | None
    """None where the packages are missing that images are read with."""
    clock: Clock
    trail: Trail

    def file_of(self, object: str) -> Path | None:
        """Return the file of an object, for reading only; None where there is none, or where others may write in it."""
        return self.blobs.path(object) if is_name(object) else None

    @contextmanager
    def read(self, actor: Actor, scope: str, workspace: str) -> Iterator[tuple[Connection, Access]]:
        """Open a view of the catalog for what *actor* may do in *workspace*."""
        with self.catalog.read() as tx:
            yield tx, enter(tx, actor, scope, workspace)

    def write(self, actor: Actor, scope: str, workspace: str, reply: type[R], work: Callable[[Connection, Access], R]) -> R:
        """Run *work* as one commit, or give back what it gave when the same request was made before."""

        def committed(tx: Connection) -> R:
            _refuse_revoked(tx, actor)
            access = enter(tx, actor, scope, workspace)
            return self._once(tx, actor, access.workspace_id, reply, lambda: work(tx, access))

        return self.catalog.write(committed)

    def write_lab(self, actor: Actor, reply: type[R], work: Callable[[Connection], R]) -> R:
        """Run *work*, which belongs to no workspace, as one commit."""

        def committed(tx: Connection) -> R:
            _refuse_revoked(tx, actor)
            return self._once(tx, actor, audit.LAB, reply, lambda: work(tx))

        return self.catalog.write(committed)

    def record(self, tx: Connection, actor: Actor, workspace_id: int, target: str, details: Mapping[str, Any] = {}) -> None:
        """Audit an act within its own transaction."""
        audit.append(tx, [self.entry(actor, workspace_id, target, details=details)])

    def note(self, actor: Actor, workspace_id: int, target: str, details: Mapping[str, Any] = {}) -> None:
        """Audit something that was only read."""
        self.trail.add(self.entry(actor, workspace_id, target, details=details))

    def refused(self, actor: Actor, wanted: Request | None, error: EpistaError, address: Mapping[str, str]) -> None:
        """
        Audit a request that was refused, with the workspace if the actor is a member of it, else with the lab.

        *wanted* is None if the request could not be read; *address* has the fields that stand in its path all the same.
        """
        asked = next((value for name in _TARGETS if isinstance(value := getattr(wanted, name, address.get(name)), str)), "")
        found = None
        # While the catalog is away, the caller is still told why, and the lab's own log has the row when it is back.
        with suppress(UnavailableError), self.catalog.read() as tx:
            found = people.membership(tx, actor.user_id, address.get("workspace", ""))
        self.trail.add(self.entry(actor, found["id"] if found else audit.LAB, asked, outcome=error.code))

    def entry(
        self, actor: Actor, workspace_id: int, target: str, *, outcome: str = "done", details: Mapping[str, Any] = {}
    ) -> audit.Entry:
        """Return the audit row of an act."""
        text = json.dumps(details, ensure_ascii=False)
        if len(text.encode()) > MAX_DETAILS_BYTES:
            text = json.dumps({"left_out": f"{len(text)} characters of details"})
        return audit.Entry(
            workspace_id=workspace_id,
            at=self.clock(),
            actor=actor.user,
            token=actor.token,
            action=actor.request.endpoint,
            target=target[:2000],
            outcome=outcome,
            request_id=actor.request.id,
            details=text,
        )

    def kept(self, tx: Connection, actor: Actor, reply: type[R]) -> R | None:
        """Return what this request was answered when it was made before."""
        key = actor.request.idempotency_key
        if key is None:
            return None
        row = tx.execute(_KEPT, {"user_id": actor.user_id, "key": key}).mappings().first()
        if row is None:
            return None
        if row["request"] != actor.request.fingerprint:
            raise ConflictError("this idempotency key was used for another request", hint="use a new one for each request")
        return msgspec.json.decode(row["reply"], type=reply)

    def _once(self, tx: Connection, actor: Actor, workspace_id: int, reply: type[R], work: Callable[[], R]) -> R:
        key = actor.request.idempotency_key
        if (kept := self.kept(tx, actor, reply)) is not None:
            self.record(tx, actor, workspace_id, "", {"repeats": key})
            return kept
        done = work()
        if key is None:
            return done
        now = self.clock()
        tx.execute(_FORGET, {"before": now - REPLY_KEPT_MICROSECONDS})
        row = {"request": actor.request.fingerprint, "reply": msgspec.json.encode(done), "at": now}
        tx.execute(_KEEP, {"user_id": actor.user_id, "key": key, **row})
        return done


def enter(tx: Connection, actor: Actor, scope: str, workspace: str) -> Access:
    """Ask the policy what *actor* may do in *workspace*."""
    found = people.membership(tx, actor.user_id, workspace)
    membership = None
    if found:
        # Lists may have been written down before an experiment was renamed.
        allowed = people.loaded(found["experiments"])
        allowed = allowed and experiments.current(tx, found["id"], allowed)
        if actor.experiments is not None:
            actor = replace(actor, experiments=experiments.current(tx, found["id"], actor.experiments))
        membership = Membership(
            workspace_id=found["id"],
            workspace_uid=found["uid"],
            workspace=found["name"],
            role=found["role"],
            experiments=allowed,
            roles=people.roles(found["roles"]),
        )
    return policy.require(actor, scope, membership, workspace)


def _refuse_revoked(tx: Connection, actor: Actor) -> None:
    """Ask for the token again: the body of a request may come long after the token was shown."""
    if actor.token_id is not None and people.is_revoked(tx, actor.token_id):
        raise AuthenticationError("this token was revoked", hint="epista auth login")


class Trail:
    """Audit rows of reads and refusals on their way to the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: list[audit.Entry] = []
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="epista-audit", daemon=True)

    def open(self) -> None:
        """Start to write rows, at most a second after they came."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and stop."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self.flush()

    def add(self, entry: audit.Entry) -> None:
        """Take a row; it is written soon."""
        with self._guard:
            self._waiting.append(entry)
        self._wake.set()

    def flush(self) -> None:
        """Write what waits now."""
        with self._guard:
            rows, self._waiting = self._waiting, []
        if rows:
            try:
                self._catalog.write(lambda tx: audit.append(tx, rows))
            except EpistaError as error:
                # Reads go on when the disk is full; that they were not audited must at least be in the log.
                log.error("%d audit rows were not written: %s", len(rows), error.message)
            except Exception:  # a fault must not end the thread, or no read would be audited from then on
                log.exception("%d audit rows were not written", len(rows))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            # Let rows gather: one commit for all that come within this time.
            self._stop.wait(0.5)
            self._wake.clear()
            self.flush()
