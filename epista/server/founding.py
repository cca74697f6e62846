"""What happens once: a folder becomes a lab, with its first user and workspace."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection

from epista.contract.errors import SettingsError
from epista.server.access import secrets
from epista.server.services.tokens import make_link
from epista.server.services.workspaces import sign_in_link
from epista.server.stores import care, moments, people
from epista.server.stores.blobs import BlobStore
from epista.server.stores.catalog import Catalog
from epista.server.stores.local import LocalBlobs
from epista.server.stores.sqlite import SqliteCatalog

WORKSPACE = "lab"
"""The first workspace of every lab."""

_ELSEWHERE = ".database"
"""The file that says that the catalog is not in the folder."""

_OURS = {"lab.db", "lab.db-wal", "lab.db-shm", ".writer", "blobs", "parts", "staging", "logs", "tables", "lab.toml", _ELSEWHERE}


def prepare(folder: Path, *, user: str, blobs: BlobStore | None = None, database: Catalog | None = None) -> None:
    """
    Make *folder* a lab if it is none, with *user* as its manager, and bring its catalog up to date.

    The catalog is *database*, closed in the end, and the bytes are in *blobs*; what is not given lies in the folder.

    Raises:
        SettingsError: the folder holds other files, cannot be written, belongs to another catalog, was made by a newer Epista, or
            its bytes are elsewhere.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        strangers = sorted({file.name for file in folder.iterdir()} - _OURS)
        if strangers and not (folder / "lab.db").exists() and not (folder / _ELSEWHERE).exists():
            raise SettingsError(
                f"the folder {str(folder)!r} is no lab, and is not empty: it has {strangers[0]!r}",
                hint="give a new or an empty folder, such as './lab'",
            )
        _refuse_another(folder, database)
        store = blobs or LocalBlobs(folder)
    except OSError as error:
        raise SettingsError(
            f"the folder {str(folder)!r} cannot be a lab: {error.strerror or error}", hint="give a folder that you may write"
        ) from error
    catalog = database or SqliteCatalog(folder / "lab.db")
    try:
        catalog.open()
        with catalog.read() as tx:
            founded = people.first_lab_admin(tx) is not None
            named = care.newest_object(tx)
        if named is not None and _is_empty(store):
            raise SettingsError(
                f"the bytes of the lab in {str(folder)!r} are not where the settings say: there are none at all",
                hint="serve it with the setting `blobs` that it had before",
            )
        if not founded:
            catalog.write(lambda tx: _found(tx, user))
    finally:
        catalog.close()


def _is_empty(store: BlobStore) -> bool:
    if isinstance(store, LocalBlobs):
        # A folder for objects, also one whose files were lost, shows that the bytes belong here.
        return not any(store.root.iterdir())
    return next(store.objects(), None) is None


def new_link(
    folder: Path, *, address: str, seconds: int, only_if_locked_out: bool, database: Catalog | None = None
) -> str | None:
    """Make a sign-in link for the manager of the lab; None if it is only for somebody locked out and nobody is."""
    catalog = database or SqliteCatalog(folder / "lab.db")
    now = moments.now()

    def work(tx: Connection) -> str | None:
        manager = people.first_lab_admin(tx)
        assert manager is not None, "a prepared lab has a manager"
        if only_if_locked_out and people.live_sign_ins(tx, manager["id"], now):
            return None
        return sign_in_link(address, make_link(tx, manager["id"], now=now, seconds=seconds))

    try:
        catalog.open()
        return catalog.write(work)
    finally:
        catalog.close()


def _refuse_another(folder: Path, database: Catalog | None) -> None:
    """Keep to one catalog for one folder: a second one would take all bytes of the first for garbage."""
    mark = folder / _ELSEWHERE
    if database is None and mark.exists():
        raise SettingsError(
            f"the catalog of the lab in {str(folder)!r} is in a PostgreSQL database",
            hint="give its address: the setting `database`",
        )
    if database is not None and (folder / "lab.db").exists():
        raise SettingsError(
            f"the lab in {str(folder)!r} has its catalog in the folder, lab.db", hint="give a database a folder of its own"
        )
    if database is not None:
        mark.touch(mode=0o600)


def user_name(wished: str) -> str:
    """Return the name of the account of an operating system as a name that a user of a lab can have."""
    plain = re.sub(r"[^A-Za-z0-9._@+-]", "-", wished).strip(".-_@+")
    return plain[:128] or "owner"


def _found(tx: Connection, user: str) -> None:
    if people.first_lab_admin(tx) is not None:
        return  # another process was faster
    now = moments.now()
    user_id = people.add_user(tx, uid=secrets.identifier("us"), name=user, is_lab_admin=True, at=now)
    workspace_id = people.add_workspace(tx, uid=secrets.identifier("ws"), name=WORKSPACE, at=now)
    people.set_member(tx, workspace_id=workspace_id, user_id=user_id, role="admin", experiments=None)
