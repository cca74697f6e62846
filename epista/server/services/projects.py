"""Projects: named groups of experiments."""

from __future__ import annotations

from sqlalchemy import Connection

from epista.contract import messages
from epista.contract import projects as wire
from epista.contract.errors import ConflictError, NotFoundError
from epista.server.access import secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import cursors
from epista.server.services.resources import Resources
from epista.server.stores import experiments as rows
from epista.server.stores import moments


class Projects:
    """To whoever may read some experiments only, a project is there if one of these is in it, and holds these alone."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def create(self, actor: Actor, wanted: wire.CreateProject) -> wire.Project:
        """Make a project."""

        def work(tx: Connection, access: Access) -> wire.Project:
            access.require_everything("make projects")
            _refuse_taken(tx, access, wanted.name)
            rows.add_project(
                tx,
                uid=secrets.identifier("pr"),
                workspace_id=access.workspace_id,
                name=wanted.name,
                title=wanted.title or None,
                description=wanted.description or None,
                created_at=self._all.clock(),
                created_by=actor.user_id,
            )
            self._all.record(tx, actor, access.workspace_id, wanted.name, {"title": wanted.title})
            return _message(_row(tx, access, wanted.name))

        return self._all.write(actor, "write", wanted.workspace, wire.Project, work)

    def find(self, actor: Actor, wanted: wire.ListProjects) -> wire.Projects:
        """List projects by name."""
        after = cursors.text(wanted.after)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = rows.project_page(tx, access.workspace_id, access.experiments, after=after, limit=wanted.limit)
        self._all.note(actor, access.workspace_id, access.workspace)
        more = cursors.of(found[-1]["name"]) if len(found) == wanted.limit else None
        return wire.Projects(projects=tuple(map(_message, found)), next=more)

    def get(self, actor: Actor, wanted: wire.GetProject) -> wire.Project:
        """Look at one project."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = _message(_row(tx, access, wanted.name))
        self._all.note(actor, access.workspace_id, wanted.name)
        return found

    def update(self, actor: Actor, wanted: wire.UpdateProject) -> wire.Project:
        """Describe a project anew, or call it otherwise; its experiments stay in it."""

        def work(tx: Connection, access: Access) -> wire.Project:
            row = _row(tx, access, wanted.name)
            access.require_everything("change projects")
            said = {name: text or None for name in ("title", "description") if (text := getattr(wanted, name)) is not None}
            if wanted.to is not None and wanted.to != row["name"]:
                _refuse_taken(tx, access, wanted.to)
                said["name"] = wanted.to
            if said:
                rows.set_project(tx, row["id"], **said)
            self._all.record(tx, actor, access.workspace_id, row["name"], {"changed": sorted(said), "to": wanted.to})
            return _message(_row(tx, access, wanted.to or row["name"]))

        return self._all.write(actor, "write", wanted.workspace, wire.Project, work)

    def remove(self, actor: Actor, wanted: wire.RemoveProject) -> messages.Done:
        """Remove a project; its experiments stay."""

        def work(tx: Connection, access: Access) -> messages.Done:
            row = _row(tx, access, wanted.name)
            access.require_everything("remove projects")
            rows.remove_project(tx, row["id"])
            self._all.record(tx, actor, access.workspace_id, row["name"])
            return messages.Done()

        return self._all.write(actor, "write", wanted.workspace, messages.Done, work)


def _row(tx: Connection, access: Access, name: str) -> rows.Row:
    found = rows.project(tx, access.workspace_id, access.experiments, name)
    if found is None:
        raise NotFoundError(f"no project {name!r}", hint="epista project list")
    return found


def _refuse_taken(tx: Connection, access: Access, name: str) -> None:
    if rows.project_called(tx, access.workspace_id, name):
        raise ConflictError(f"there is a project {name!r} already", hint="give another name")


def _message(row: rows.Row) -> wire.Project:
    return wire.Project(
        id=row["uid"],
        name=row["name"],
        title=row["title"],
        description=row["description"],
        experiments=row["experiments"],
        created_at=moments.to_datetime(row["created_at"]),
        created_by=row["author"],
    )
