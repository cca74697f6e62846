"""What experiments are called, were called, and may not be called; and whether one may write in them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from epista.contract import keys
from epista.contract.errors import ConflictError, NotFoundError
from epista.server.access import secrets
from epista.server.access.policy import Access
from epista.server.services import recordings
from epista.server.stores import experiments as rows

ANOTHER = "choose another"


def ensure(
    tx: Connection, access: Access, wanted: Iterable[str | None], *, user_id: int, at: int, is_written: bool = True
) -> None:
    """
    Make the experiments that a put's folders name known, where nobody described them.

    Raises:
        ConflictError: one is archived, or its name is the number of another, or was its name before.
    """
    every = [name for name in dict.fromkeys(wanted) if name]
    there = rows.known(tx, access.workspace_id, every)
    if is_written:
        refusearchived(there)
    new = [name for name in every if name not in there]
    if not new:
        return
    for called, current in rows.called(tx, access.workspace_id, new).items():
        if not access.sees(current + "/"):
            raise ConflictError(f"{called!r} cannot be the name of an experiment", hint=ANOTHER)
        raise ConflictError(
            f"{called!r} is a number or an old name of experiment {current!r}",
            hint=f"use its name: {current}/",
            details={"experiment": current},
        )
    uids = {name: secrets.identifier("ex") for name in new}
    rows.add(tx, workspace_id=access.workspace_id, uids=uids, user_id=user_id, at=at)
    recordings.note(tx, access.workspace_id, (), experiments=new, at=at)


def require_writable(tx: Connection, access: Access, wanted: Iterable[str]) -> None:
    """Refuse to change what is at keys that the caller may not write, or in an experiment that is archived."""
    by_experiment = {keys.experiment_of(key): key for key in wanted}
    for key in by_experiment.values():
        access.require_key(key)
    refusearchived(rows.known(tx, access.workspace_id, [name for name in by_experiment if name]))


def refusearchived(statuses: dict[str, str]) -> None:
    """Refuse to write in an experiment that is archived."""
    for name, status in statuses.items():
        if status == "archived":
            raise archived(name)


def archived(name: str) -> ConflictError:
    return ConflictError(
        f"experiment {name!r} is archived, and can only be read", hint=f"epista experiment update {name} --status active"
    )


def refuse_taken(tx: Connection, access: Access, name: str, experiment_id: int) -> None:
    """Refuse a name or a number that is, or was, that of another experiment."""
    if (other := rows.is_free(tx, access.workspace_id, name, experiment_id)) is not None:
        if not access.sees(other + "/"):
            raise ConflictError(f"{name!r} cannot be used", hint=ANOTHER)
        raise ConflictError(f"{name!r} is, or was, a name or number of experiment {other!r}", hint=ANOTHER)


def called_now(tx: Connection, access: Access, name: str) -> str | None:
    """Return what an experiment is called that was called *name*, or has that number, if it exists for the caller."""
    current = rows.called(tx, access.workspace_id, [name]).get(name)
    return current if current is not None and access.sees(current + "/") else None


def name_of(tx: Connection, access: Access, ref: str | None) -> str | None:
    """Return the name of the experiment that a name or a number means; *ref* itself if there is none."""
    if ref is None or rows.known(tx, access.workspace_id, [ref]):
        return ref
    found = rows.get(tx, access.workspace_id, access.experiments, ref)
    return found["name"] if found is not None and found["number"] == ref else ref


def absent(tx: Connection, access: Access, ref: str) -> NotFoundError:
    now = called_now(tx, access, ref)
    if now is not None:
        return NotFoundError(
            f"no experiment {ref!r}; it is called {now!r} now", hint=f"epista experiment show {now}", details={"renamed": now}
        )
    return NotFoundError(f"no experiment {ref!r}", hint="epista experiment list")
