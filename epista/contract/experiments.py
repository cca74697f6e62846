"""Experiments: the first folders of keys, described; what their names say, and what belongs to a recording."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from epista.contract.assets import Asset
from epista.contract.messages import Cursor, Instant, Name, PageSize, Reply, Request, Text

STATUSES = ("planned", "active", "done", "archived")
"""What an experiment can be. What is archived can be read, and not be written."""

ROLES = ("viewer", "editor", "owner")
"""What a member can be in one experiment, from least to most; an owner says who else is what."""

Status = Literal["planned", "active", "done", "archived"]
"""One of `STATUSES`."""

Tags = Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], ...], msgspec.Meta(max_length=100)]
"""Tags of an experiment."""

Local = Annotated[dt.datetime, msgspec.Meta(tz=False)]
"""A moment of the clock on the wall where something was recorded, without an offset."""


class ParsedName(Reply, frozen=True, kw_only=True):
    """What a name says, by the convention that read it."""

    convention: str
    """Which convention."""
    text: str
    """The name, as it is spelt."""
    span: tuple[int, int]
    """Where it stands in what was parsed."""
    canonical: str
    """The same name as its convention writes it."""
    recording: tuple[str | int | None, ...]
    """What two spellings of one recording share; moments as text."""
    kind: str
    """``raw``, ``derived`` or ``other``."""
    subject_id: str | None = None
    """Who was recorded."""
    platform: str | None = None
    """With what, as it is spelt."""
    date: dt.date | None = None
    """On which day."""
    started: Local | None = None
    """When the session began; null without a time of day."""
    number: int | None = None
    """Which session of the day, from 1."""
    lims_id: str | None = None
    """Its number in the LIMS."""
    label: str | None = None
    """What was made of it."""
    label_time: Local | None = None
    """When that was made."""
    earlier: tuple[tuple[str, Local | None], ...] = ()
    """Labels before the last, with their times."""
    tokens: tuple[tuple[str, str], ...] = ()
    """What else the convention reads."""
    prefix: str | None = None
    """What stands before the name proper."""
    extension: str | None = None
    """With its dot."""
    parent: str | None = None
    """The canonical name less its last label."""
    warnings: tuple[str, ...] = ()
    """What is odd about it."""


class Experiment(Reply, frozen=True, kw_only=True):
    """One experiment. A folder at the root of the workspace is one, also if nobody described it."""

    id: str
    """Opaque; stays the same when it is renamed."""
    name: str
    """The first folder of its keys; of a recording below other folders, the name of its folder or file."""
    key: str
    """Where that stands."""
    number: str
    """As the lab counts; the name until it is given another."""
    title: str | None
    """What it is about."""
    description: str | None
    """The same, at length."""
    status: str
    """``planned``, ``active``, ``done`` or ``archived``."""
    project: str | None
    """The project that it is in."""
    owners: tuple[str, ...]
    """Who says who may do what in it, besides admins of the workspace."""
    meta: dict[str, Any]
    """The user's metadata, exactly as given."""
    tags: tuple[str, ...]
    """In the order in which they were given."""
    parsed: ParsedName | None
    """What its name says; null if no convention reads it."""
    platform: str | None
    """What its name or that of another member says."""
    assets: int
    """How many live assets are in it."""
    created_at: Instant
    """When it was described, or else when its first asset came."""
    created_by: str
    """By whom."""


class Experiments(Reply, frozen=True, kw_only=True):
    """One page of experiments."""

    experiments: tuple[Experiment, ...]
    """By the time at which they started, then by subject and key; those whose names tell of no time are last."""
    notes: tuple[str, ...] = ()
    """What was asked for and is the case nowhere; on the first page."""
    next: str | None
    """Where the next page begins, or null at the end."""


class ExperimentMember(Reply, frozen=True, kw_only=True):
    """A folder or an asset that belongs to a recording by its name; or to an experiment whose name tells of none."""

    id: str
    """Of the asset, of the experiment, or of the folder; opaque."""
    key: str
    """Where it stands."""
    name: str
    """The last segment of its key."""
    is_folder: bool
    """Whether it is a folder."""
    created_at: Instant
    """When its current version was made; of a folder, the first in it."""
    tags: tuple[str, ...]
    """Of the asset, or of an experiment that is this folder."""
    meta: dict[str, Any]
    """Of the asset, or of an experiment that is this folder."""
    parsed: ParsedName | None
    """What its name says."""
    asset: Asset | None = None
    """The asset, whole, if it is one."""


class ExperimentMembers(Reply, frozen=True, kw_only=True):
    """What belongs to a recording."""

    members: tuple[ExperimentMember, ...]
    """The main one first, then by depth and key."""
    next: str | None
    """Where the next page begins, or null at the end."""


class CreateExperiment(Request, frozen=True, kw_only=True):
    """Describe an experiment; its folder may hold assets already."""

    workspace: Text
    """The workspace."""
    name: Name
    """The folder."""
    number: Name | None = None
    """As the lab counts; null for the name."""
    title: Text | None = None
    """What it is about."""
    description: Text | None = None
    """The same, at length."""
    status: Status = "active"
    """What it is."""
    project: Name | None = None
    """The project that it is in."""
    meta: dict[str, Any] = {}
    """Metadata of the experiment itself."""
    tags: Tags = ()
    """Tags of the experiment itself."""


class ListExperiments(Request, frozen=True, kw_only=True):
    """List the experiments that the caller may read and that satisfy every filter."""

    workspace: Text
    """The workspace."""
    subject: Text | None = None
    """Who was recorded."""
    platform: Text | None = None
    """With what, in any case."""
    convention: Text | None = None
    """The convention that reads a name of it."""
    label: Text | None = None
    """What was made of it, in any case."""
    date: Text | None = None
    """When it started: a day, month, minute or second, whole."""
    since: Text | None = None
    """When it started at the earliest, included."""
    until: Text | None = None
    """When it started at the latest, included whole."""
    near: Text | None = None
    """About when it started."""
    tolerance_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e11)] = 0.0
    """How far from that, at most."""
    tags: Annotated[tuple[Text, ...], msgspec.Meta(max_length=100)] = ()
    """Tags that it has, all of them."""
    prefix: Text | None = None
    """How its key begins."""
    project: Text | None = None
    """The project that it is in."""
    status: Text | None = None
    """What it is."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class GetExperiment(Request, frozen=True, kw_only=True):
    """Look at one experiment, by its name, number or id."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""


class ResolveExperiment(Request, frozen=True, kw_only=True):
    """Look at the experiment that is meant by a name, a number, an id, or a path in it."""

    workspace: Text
    """The workspace."""
    ref: Text
    """What means it: of a path, the deepest folder or file whose name tells of a recording, else the first folder."""


class ListExperimentMembers(Request, frozen=True, kw_only=True):
    """List what belongs to the recording of an experiment."""

    workspace: Text
    """The workspace."""
    ref: Text
    """As for `ResolveExperiment`."""
    after: Cursor | None = None
    """Where the page begins."""
    limit: PageSize = 1000
    """The size of the page."""


class UpdateExperiment(Request, frozen=True, kw_only=True):
    """Describe an experiment anew. What is null stays as it is."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""
    number: Name | None = None
    """As the lab counts."""
    title: Text | None = None
    """What it is about; empty for nothing."""
    description: Text | None = None
    """The same, at length; empty for nothing."""
    status: Status | None = None
    """What it is; ``archived`` lets nobody write in it."""
    project: Text | None = None
    """The project that it moves to; empty for none."""
    meta: dict[str, Any] | None = None
    """Its whole metadata."""
    tags: Tags | None = None
    """All its tags."""


class RenameExperiment(Request, frozen=True, kw_only=True):
    """Call an experiment otherwise, with every key in it."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""
    to: Name
    """Its new name, which must be free."""


class SetExperimentRole(Request, frozen=True, kw_only=True):
    """Say what a member of the workspace is in one experiment, for its owners and admins of the workspace."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which experiment."""
    user: Name
    """Who."""
    role: Literal["viewer", "editor", "owner"] | None = None
    """What; null for nothing more than in the workspace."""


class ListExperimentRoles(Request, frozen=True, kw_only=True):
    """List who is what in one experiment."""

    workspace: Text
    """The workspace."""
    name: Text
    """Which."""


class ExperimentRole(Reply, frozen=True, kw_only=True):
    """What a member is in one experiment."""

    user: str
    """Who."""
    role: str
    """``viewer``, ``editor`` or ``owner``."""


class ExperimentRoles(Reply, frozen=True, kw_only=True):
    """Who is what in one experiment, besides what everybody is in the workspace."""

    name: str
    """The experiment."""
    roles: tuple[ExperimentRole, ...]
    """By user."""
