"""Usage: how much a workspace holds, how much it may, and who is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection, RowMapping

from epista.contract import usage as wire
from epista.contract.errors import NotFoundError, QuotaError
from epista.contract.messages import Done
from epista.server.access import policy
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services.resources import Resources
from epista.server.stores import audit, people
from epista.server.stores import usage as rows


class Usage:
    """Members see what they may read; only managers of the lab set quotas."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def get(self, actor: Actor, wanted: wire.ReadUsage) -> wire.Usage:
        """Tell how much of a workspace there is, as far as the caller may read it."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.of_workspace(tx, access.workspace_id)
            here = access.workspace_id, access.experiments
            experiments, kinds = _shares(rows.by_experiment(tx, *here)), _shares(rows.by_kind(tx, *here))
            if access.experiments is None:
                told = _told(found)
            else:
                stored, live, versions = rows.recounted(tx, *here)
                told = wire.Usage(
                    workspace=access.workspace,
                    stored_bytes=stored,
                    assets=live,
                    versions=versions,
                    quota_bytes=None,
                    quota_assets=None,
                )
        self._all.note(actor, access.workspace_id, access.workspace)
        return msgspec.structs.replace(told, experiments=experiments, kinds=kinds)

    def set_quota(self, actor: Actor, wanted: wire.SetQuota) -> Done:
        """Limit a workspace, for managers of the lab, whether they are members of it or not."""
        policy.require_lab(actor)

        def work(tx: Connection) -> Done:
            found = people.workspace(tx, wanted.name)
            if found is None:
                raise NotFoundError(f"no workspace {wanted.name!r}", hint="epista usage --of-lab")
            workspace_id = found["id"]
            rows.set_quota(tx, workspace_id, max_bytes=wanted.max_bytes, max_assets=wanted.max_assets)
            details = {"max_bytes": wanted.max_bytes, "max_assets": wanted.max_assets}
            self._all.record(tx, actor, workspace_id, wanted.name, details)
            return Done()

        return self._all.write_lab(actor, Done, work)

    def of_lab(self, actor: Actor, wanted: wire.ReadLabUsage) -> wire.LabUsage:
        """Tell how much the lab holds, and each of its workspaces."""
        policy.require_lab(actor)
        with self._all.catalog.read() as tx:
            count, size = rows.contents(tx)
            workspaces = tuple(map(_told, rows.of_lab(tx)))
        self._all.note(actor, audit.LAB, "usage")
        return wire.LabUsage(stored_bytes=size, blobs=count, workspaces=workspaces)


def count(tx: Connection, access: Access, *, stored_bytes: int = 0, assets: int = 0, versions: int = 0) -> None:
    """
    Count what a commit adds, or takes away.

    Raises:
        QuotaError: it adds to what is over the quota then.
    """
    now = rows.add(tx, access.workspace_id, stored_bytes=stored_bytes, assets=assets, versions=versions)
    if stored_bytes > 0:
        _refuse_over(access, "bytes", now["stored_bytes"] - stored_bytes, stored_bytes, now["max_bytes"])
    if assets > 0:
        _refuse_over(access, "assets", now["assets"] - assets, assets, now["max_assets"])


def refuse_early(tx: Connection, access: Access, size: int) -> None:
    """Refuse content of which there is no room for *size* bytes before it is sent; the commit counts for good."""
    now = rows.of_workspace(tx, access.workspace_id)
    _refuse_over(access, "bytes", now["stored_bytes"], size, now["max_bytes"])


def room(tx: Connection, access: Access) -> int | None:
    """Return how many bytes more a workspace may have; None if it has no quota."""
    now = rows.of_workspace(tx, access.workspace_id)
    return None if now["max_bytes"] is None else max(0, now["max_bytes"] - now["stored_bytes"])


def refuse_contents_early(tx: Connection, access: Access, sizes: Mapping[str, int]) -> None:
    """Refuse contents, by sha256, of which there is no room for those that the workspace does not have."""
    held = rows.held(tx, access.workspace_id, list(sizes))
    refuse_early(tx, access, sum(size for digest, size in sizes.items() if digest not in held))


def _refuse_over(access: Access, what: str, before: int, more: int, most: int | None) -> None:
    if most is None or before + more <= most:
        return
    hint = "epista usage shows what takes the room; a manager of the lab can give more: epista workspace quota"
    if access.experiments is not None:  # who sees only a part is not told how much there is of the rest
        raise QuotaError(f"the workspace {access.workspace!r} has no room for {more:,} {what} more", hint=hint)
    raise QuotaError(
        f"the workspace {access.workspace!r} has {before:,} of the {most:,} {what} it may have, and this would add {more:,}",
        hint=hint,
        details={"used": before, "more": more, "quota": most, "of": what},
    )


def _told(row: RowMapping) -> wire.Usage:
    return wire.Usage(
        workspace=row["name"],
        stored_bytes=row["stored_bytes"],
        assets=row["assets"],
        versions=row["versions"],
        quota_bytes=row["max_bytes"],
        quota_assets=row["max_assets"],
    )


def _shares(found: Iterable[RowMapping]) -> tuple[wire.Share, ...]:
    return tuple(wire.Share(name=row["name"], assets=row["assets"], size_bytes=int(row["size"])) for row in found)
