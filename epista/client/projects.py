"""Projects: named groups of experiments, never part of a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epista.client import listings
from epista.client.listings import Listing, Pages
from epista.contract import projects as wire
from epista.contract.messages import Done

if TYPE_CHECKING:
    from epista.client.session import Session


def create(here: Session, name: str, *, title: str | None = None, description: str | None = None) -> wire.Project:
    """
    Make a project, which holds experiments: ``exp.update(project=name)``.

    Raises:
        ConflictError: there is one of that name.
    """
    wanted = wire.CreateProject(workspace=here.name, name=name, title=title, description=description)
    return here.wire.call("projects.create", wanted, reply=wire.Project)


def find(here: Session) -> Listing[wire.Project]:
    """List the projects that hold an experiment that you may read, by name, lazily paged."""
    workspace = here.name

    def fetch(after: str | None) -> wire.Projects:
        return here.wire.call("projects.find", wire.ListProjects(workspace=workspace, after=after), reply=wire.Projects)

    return Listing(
        Pages(fetch),
        lambda page: page.projects,
        identity=lambda project: project.id,
        columns=("project", "title", "experiments", "created", "by"),
        row=lambda one: (
            one.name,
            one.title or "",
            str(one.experiments),
            listings.moment(one.created_at),
            one.created_by,
        ),
    )


def get(here: Session, name: str) -> wire.Project:
    """Look at one project."""
    return here.wire.call("projects.get", wire.GetProject(workspace=here.name, name=name), reply=wire.Project)


def update(
    here: Session, name: str, *, to: str | None = None, title: str | None = None, description: str | None = None
) -> wire.Project:
    """Describe a project anew, or call it otherwise. None keeps what there is, ``""`` clears it."""
    wanted = wire.UpdateProject(workspace=here.name, name=name, to=to, title=title, description=description)
    return here.wire.call("projects.update", wanted, reply=wire.Project)


def remove(here: Session, name: str) -> None:
    """Remove a project; its experiments stay, and are in none then."""
    here.wire.call("projects.remove", wire.RemoveProject(workspace=here.name, name=name), reply=Done)
