"""Experiments: folders at the root of a workspace, described, and the search for them by what names tell."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection

from epista.contract import experiments as wire
from epista.contract import keys, metadata, times
from epista.contract.errors import (
    AmbiguousNameError,
    ConflictError,
    ForbiddenError,
    InvalidKeyError,
    NotFoundError,
    ValidationError,
)
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import assets, cursors, experiment_names, metadata_rules, recordings
from epista.server.services.metadata_rules import Subject
from epista.server.services.resources import Resources
from epista.server.stores import assets as asset_rows
from epista.server.stores import experiments as rows
from epista.server.stores import moments, people
from epista.server.stores import recordings as names
from epista.server.stores.search.index import Document

MOST_CHECKS = 5
"""How often the rules are checked for new keys while they, or the assets, change."""

_INDEXED_AT_ONCE = 500


class _Changed(Exception):
    """The rules, or what they are about, changed since they were checked."""


class _Checked(NamedTuple):
    """Which assets were found to satisfy which version of the rules under their new keys."""

    rules: int
    heads: tuple[int, int]


class Experiments:
    """An experiment exists for whoever may read its assets."""

    def __init__(self, resources: Resources) -> None:
        self._all = resources

    def create(self, actor: Actor, wanted: wire.CreateExperiment) -> wire.Experiment:
        """Describe an experiment once; its folder may be there already. Who does it, owns it."""
        name = keys.normalise(wanted.name)
        metadata.check(wanted.meta)

        def work(tx: Connection, access: Access) -> wire.Experiment:
            access.require_key(name + "/")
            now = self._all.clock()
            experiment_names.ensure(tx, access, [name], user_id=actor.user_id, at=now, is_written=False)
            if way := asset_rows.in_the_way(tx, access.workspace_id, [], [name]):
                raise ConflictError(
                    f"{way!r} is an asset" if access.sees(way) else "this name cannot be used", hint=experiment_names.ANOTHER
                )
            row = rows.by_names(tx, access.workspace_id, [name])[name]
            if row["described"]:
                raise ConflictError(f"experiment {name!r} is described already", hint=f"epista experiment show {name}")
            rows.change(tx, row["id"], described=True, created_at=now, created_by=actor.user_id)
            self._describe(tx, access, row["id"], name, wanted)
            rows.set_role(tx, workspace_id=access.workspace_id, user_id=actor.user_id, experiment_id=row["id"], role="owner")
            self._all.record(tx, actor, access.workspace_id, name, {"title": wanted.title})
            return _one(tx, access, name)

        return self._all.write(actor, "write", wanted.workspace, wire.Experiment, work)

    def find(self, actor: Actor, wanted: wire.ListExperiments) -> wire.Experiments:
        """List experiments that satisfy every filter; one recording is one of them, however many names it has."""
        asked, after = _asked(wanted), _position(wanted.after)
        self._make_current(actor, wanted.workspace)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            here = access.workspace_id, access.experiments
            found = names.page(tx, *here, asked, after=after, limit=wanted.limit)
            page = _messages(tx, access, [(row["recording"], row["main"]) for row in found])
            notes = _notes(tx, access, wanted) if after is None and not found else ()
        self._all.note(actor, access.workspace_id, access.workspace)
        more = None
        if len(found) == wanted.limit:
            last = found[-1]
            more = cursors.of(json.dumps([last["started"], last["subject"], last["main"]]))
        return wire.Experiments(experiments=tuple(page), notes=notes, next=more)

    def get(self, actor: Actor, wanted: wire.GetExperiment) -> wire.Experiment:
        """Look at one experiment."""
        name = keys.normalise_prefix(wanted.name)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = _one(tx, access, name)
        self._all.note(actor, access.workspace_id, found.name)
        return found

    def resolve(self, actor: Actor, wanted: wire.ResolveExperiment) -> wire.Experiment:
        """Look at the experiment that a name, a number, an id or a path means."""
        self._make_current(actor, wanted.workspace)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            (found,) = _messages(tx, access, [_meant(tx, access, wanted.ref)])
        self._all.note(actor, access.workspace_id, found.key)
        return found

    def members(self, actor: Actor, wanted: wire.ListExperimentMembers) -> wire.ExperimentMembers:
        """List what belongs to a recording by its name, at any depth; else the folders and assets of the experiment."""
        after = cursors.text(wanted.after)
        self._make_current(actor, wanted.workspace)
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            recording, main = _meant(tx, access, wanted.ref)
            if recording.startswith("name:"):
                here = access.workspace_id, access.experiments
                folders, found, more = asset_rows.level(tx, *here, folder=main + "/", after=after, limit=wanted.limit)
                paths = sorted([folder.removesuffix("/") for folder in folders] + found)
            else:
                every = names.members(tx, access.workspace_id, access.experiments, [recording])
                paths = [row["key"] for row in every]
                start = int(after or 0) if (after or "0").isdigit() else 0
                more = str(start + wanted.limit) if len(paths) > start + wanted.limit else None
                paths = paths[start : start + wanted.limit]
            page = _members(tx, access, paths)
        self._all.note(actor, access.workspace_id, main)
        return wire.ExperimentMembers(members=tuple(page), next=None if more is None else cursors.of(more))

    def update(self, actor: Actor, wanted: wire.UpdateExperiment) -> wire.Experiment:
        """Describe an experiment anew, archive it, or move it to another project."""
        if wanted.meta is not None:
            metadata.check(wanted.meta)

        def work(tx: Connection, access: Access) -> wire.Experiment:
            row = _row(tx, access, wanted.name)
            access.require_key(row["name"] + "/")
            if row["status"] == "archived" and wanted.status in (None, "archived"):
                raise experiment_names.archived(row["name"])
            rows.change(tx, row["id"], described=True)
            said = self._describe(tx, access, row["id"], row["name"], wanted)
            self._all.record(tx, actor, access.workspace_id, row["name"], {"changed": said})
            return _one(tx, access, row["name"])

        return self._all.write(actor, "write", wanted.workspace, wire.Experiment, work)

    def _describe(
        self,
        tx: Connection,
        access: Access,
        experiment_id: int,
        name: str,
        wanted: wire.CreateExperiment | wire.UpdateExperiment,
    ) -> list[str]:
        """Write what is said of an experiment, and return the names of what was."""
        said: dict[str, Any] = {}
        if wanted.number is not None:
            if access.experiments is not None:
                # Whether another has that number is nothing they may find out.
                raise ForbiddenError("who may read some experiments only gives no numbers", hint="ask an admin of the workspace")
            said["number"] = number = keys.normalise_prefix(wanted.number)
            experiment_names.refuse_taken(tx, access, number, experiment_id)
        for field in ("title", "description"):
            if (text := getattr(wanted, field)) is not None:
                said[field] = text or None
        if wanted.status is not None:
            said["status"] = wanted.status
        if wanted.project is not None:
            said["project_id"] = _project_id(tx, access, wanted.project) if wanted.project else None
        if wanted.meta is not None:
            said["meta"] = json.dumps(wanted.meta, ensure_ascii=False)
        if said:
            rows.change(tx, experiment_id, **said)
        if wanted.tags is not None:
            rows.set_tags(tx, experiment_id, list(dict.fromkeys(wanted.tags)))
            said["tags"] = wanted.tags
        return sorted(said)

    def rename(self, actor: Actor, wanted: wire.RenameExperiment) -> wire.Experiment:
        """Call an experiment otherwise, with every key in it, in one transaction; its old name is kept for it."""
        to = keys.normalise(wanted.to)
        for _ in range(MOST_CHECKS):
            # As for every write: checks may take their time, and others must not wait.
            checked = self._check_rules(actor, wanted.workspace, wanted.name, to)

            def work(tx: Connection, access: Access, checked: _Checked | None = checked) -> wire.Experiment:
                return self._rename(tx, actor, access, wanted.name, to, checked)

            try:
                return self._all.write(actor, "write", wanted.workspace, wire.Experiment, work)
            except _Changed:
                continue
        raise ConflictError("the rules or the assets changed again and again meanwhile", hint="try again in a moment")

    def _rename(
        self, tx: Connection, actor: Actor, access: Access, ref: str, to: str, checked: _Checked | None
    ) -> wire.Experiment:
        row = _row(tx, access, ref)
        old = row["name"]
        access.require_key(old + "/")
        if access.experiments is not None and not access.sees(to + "/"):
            # Whether another has that name is nothing they may find out.
            raise ForbiddenError(
                f"you may not call it {to!r}: your access is restricted to {', '.join(sorted(access.experiments))}",
                hint="ask an admin of the workspace",
            )
        if row["status"] == "archived":
            raise experiment_names.archived(old)
        if to == old:
            raise ValidationError(f"{old!r} is its name already")
        experiment_names.refuse_taken(tx, access, to, row["id"])
        if way := rows.key_at(tx, access.workspace_id, to):
            told = f"there is {way!r} already, or was before it was deleted" if access.sees(way) else "this name cannot be used"
            raise ConflictError(f"{to!r} is not free: {told}", hint=experiment_names.ANOTHER)
        _refuse_long(tx, access, old, to)
        if checked != _found(tx, access, old):
            raise _Changed
        now = self._all.clock()
        rows.rename(tx, workspace_id=access.workspace_id, experiment_id=row["id"], old=old, new=to)
        recordings.note_experiment(tx, access.workspace_id, to, at=row["created_at"])
        self._index(tx, access, to)
        self._all.record(tx, actor, access.workspace_id, to, {"from": old, "at": now})
        found = rows.by_names(tx, access.workspace_id, [to])[to]
        return _message(tx, [found])[0]

    def _index(self, tx: Connection, access: Access, name: str) -> None:
        """Let the assets of an experiment be found by their new keys."""
        after: str | None = None
        while page := asset_rows.keys_after(
            tx, access.workspace_id, None, prefix=name + "/", after=after, limit=_INDEXED_AT_ONCE
        ):
            after = page[-1]
            known = asset_rows.by_keys(tx, access.workspace_id, page)
            texts = self._all.search.contents_of(tx, [row["asset_id"] for row in known.values()])
            self._all.search.index(
                tx,
                [
                    Document(
                        asset_id=row["asset_id"],
                        workspace_id=access.workspace_id,
                        key=key,
                        tags=json.loads(row["tags"]),
                        meta=json.loads(row["meta"]),
                        content=texts.get(row["asset_id"], ""),
                    )
                    for key, row in known.items()
                ],
            )

    def _check_rules(self, actor: Actor, workspace: str, ref: str, to: str) -> _Checked | None:
        """Hold the assets of an experiment to the rules that are in force at their new keys."""
        after: str | None = None
        broken: list[dict[str, str]] = []
        with self._all.read(actor, "write", workspace) as (tx, access):
            row = _row(tx, access, ref)
            access.require_key(row["name"] + "/")
            found = _found(tx, access, row["name"])
            rules = metadata_rules.loaded(metadata_rules.current(tx, access.workspace_id))
        prefix = row["name"] + "/"
        while found is not None:
            with self._all.read(actor, "write", workspace) as (tx, access):
                page = asset_rows.keys_after(tx, access.workspace_id, None, prefix=prefix, after=after, limit=_INDEXED_AT_ONCE)
                known = asset_rows.by_keys(tx, access.workspace_id, page)
            if not page:
                break
            after = page[-1]
            subjects = [Subject(f"{to}/{key.removeprefix(prefix)}", one["kind"], one["meta"]) for key, one in known.items()]
            broken += metadata_rules.violations(self._all.schema_checks, rules, subjects)
            if len(broken) > 1000:
                break
        metadata_rules.refuse(broken)
        return found

    def roles(self, actor: Actor, wanted: wire.ListExperimentRoles) -> wire.ExperimentRoles:
        """List who is what in one experiment."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            found = _roles(tx, _row(tx, access, wanted.name))
        self._all.note(actor, access.workspace_id, found.name)
        return found

    def set_role(self, actor: Actor, wanted: wire.SetExperimentRole) -> wire.ExperimentRoles:
        """Say what a member of the workspace is in one experiment, for its owners and admins of the workspace."""

        def work(tx: Connection, access: Access) -> wire.ExperimentRoles:
            row = _row(tx, access, wanted.name)
            if not _owns(access, row["name"]):
                raise ForbiddenError(
                    f"only an owner of {row['name']!r} says who is what in it", hint="ask one, or an admin of the workspace"
                )
            found = [one for one in people.members_of(tx, access.workspace_id) if one["name"] == wanted.user]
            if not found:
                raise NotFoundError(f"{wanted.user!r} is no member of {access.workspace!r}", hint="an admin adds members")
            rows.set_role(
                tx,
                workspace_id=access.workspace_id,
                user_id=found[0]["id"],
                experiment_id=row["id"],
                role=wanted.role,
            )
            details = {"user": wanted.user, "role": wanted.role}
            self._all.record(tx, actor, access.workspace_id, row["name"], details)
            return _roles(tx, row)

        return self._all.write(actor, "write", wanted.workspace, wire.ExperimentRoles, work)

    def _make_current(self, actor: Actor, workspace: str) -> None:
        """See to it that names are read by the conventions that the workspace has now."""
        with self._all.read(actor, "read", workspace) as (tx, access):
            if recordings.is_current(tx, access.workspace_id):
                return

        def work(tx: Connection) -> None:
            # Several may have found the same meanwhile.
            if not recordings.is_current(tx, access.workspace_id):
                recordings.make_anew(tx, access.workspace_id)

        self._all.catalog.write(work)


def _row(tx: Connection, access: Access, ref: str) -> rows.Row:
    """Return the row of the experiment of that name, number or id."""
    ref = keys.normalise_prefix(ref)
    if (found := rows.get(tx, access.workspace_id, access.experiments, ref)) is not None:
        return found
    raise experiment_names.absent(tx, access, ref)


def _owns(access: Access, name: str) -> bool:
    return access.owned is None or name in access.owned


def _refuse_long(tx: Connection, access: Access, old: str, to: str) -> None:
    """Refuse a name by which a key would be longer than one may be."""
    more = len(to.encode()) - len(old.encode())
    if more > 0:
        # No character has more than four bytes.
        for key in rows.longest_keys(tx, access.workspace_id, old, (keys.MAX_KEY_BYTES - more) // 4):
            if len(key.encode()) + more > keys.MAX_KEY_BYTES:
                raise InvalidKeyError(f"{key[:60]!r}... would be longer than {keys.MAX_KEY_BYTES} bytes", hint="a shorter name")


def _found(tx: Connection, access: Access, name: str) -> _Checked | None:
    """Return what a check of the rules is about; None without rules."""
    row = metadata_rules.current(tx, access.workspace_id)
    return None if row is None else _Checked(row["version"], rows.heads_of(tx, access.workspace_id, name))


def _project_id(tx: Connection, access: Access, name: str) -> int:
    found = rows.project(tx, access.workspace_id, access.experiments, name)
    if found is None:
        raise NotFoundError(f"no project {name!r}", hint="epista project list")
    return int(found["id"])


def _one(tx: Connection, access: Access, ref: str) -> wire.Experiment:
    return _message(tx, [_row(tx, access, ref)])[0]


def _meant(tx: Connection, access: Access, ref: str) -> tuple[str, str]:
    """
    Return the recording that a name, number, id or path means, and the key of its main name.

    A recording is meant by any of its spellings, also by one under which nothing lies.
    """
    text = keys.normalise_prefix(ref).strip("/")
    here = access.workspace_id, access.experiments
    if text and "/" not in text and (row := rows.get(tx, *here, text)) is not None:
        return _main(tx, access, _said(tx, access, row["name"]), row["name"])
    if text.startswith(("as_", "fo_")) and (key := _key_of(tx, access, text)) is not None:
        text = key
    parts = text.split("/") if text else []
    by = recordings.reader(tx, access.workspace_id)
    found: dict[str, tuple[str, str]] = {}
    for part in parts:
        parsed = by.said(part)
        if parsed is not None and (one := _main(tx, access, recordings.recording_of(parsed, ""), None))[1]:
            found[one[0]] = one
    if len(found) > 1:
        candidates = [main for _, main in found.values()]
        raise AmbiguousNameError(
            f"{text!r} names several recordings: {', '.join(candidates)}",
            hint="give one of these names",
            details={"candidates": candidates},
        )
    for one in found.values():
        return one
    if len(parts) > 1 and (row := rows.get(tx, *here, parts[0])) is not None and row["name"] == parts[0]:
        return _main(tx, access, _said(tx, access, row["name"]), row["name"])
    raise experiment_names.absent(tx, access, parts[0] if parts else text)


def _said(tx: Connection, access: Access, name: str) -> str:
    return recordings.recording_of(recordings.reader(tx, access.workspace_id).said(name), name)


def _main(tx: Connection, access: Access, recording: str, name: str | None) -> tuple[str, str]:
    found = names.members(tx, access.workspace_id, access.experiments, [recording], limit=1)
    return recording, found[0]["key"] if found else name or ""


def _key_of(tx: Connection, access: Access, id: str) -> str | None:
    """Return the key of the asset or folder of an id."""
    if id.startswith("as_"):
        row = asset_rows.by_uid(tx, access.workspace_id, access.experiments, id)
        return None if row is None else str(row["key"])
    every = names.folders(tx, access.workspace_id, access.experiments)
    return next((key for key in every if _folder_id(access, key) == id), None)


def _folder_id(access: Access, key: str) -> str:
    """Return the id of a folder: of nothing else, and always the same as long as it is called so."""
    return "fo_" + hashlib.sha256(f"{access.workspace_uid}/{key}".encode()).hexdigest()[:28]


def _messages(tx: Connection, access: Access, found: Sequence[tuple[str, str]]) -> list[wire.Experiment]:
    """Return experiments, each given as its recording and the key of its main name."""
    here = access.workspace_id, access.experiments
    every = names.members(tx, *here, [recording for recording, _ in found if not recording.startswith("name:")])
    of_recording: dict[str, list[Any]] = {}
    for row in every:
        of_recording.setdefault(row["recording"], []).append(row)
    described = rows.by_names(tx, access.workspace_id, [main for _, main in found if "/" not in main])
    whole = {one.key: one for one in _message(tx, list(described.values()))}
    messages = []
    for recording, main in found:
        said = of_recording.get(recording, [])
        parsed = next((recordings.message(row["parsed"]) for row in said if row["key"] == main), None)
        spelt = (one.platform for row in said if (one := recordings.message(row["parsed"])) and one.platform)
        platform = parsed.platform if parsed and parsed.platform else next(spelt, None)
        if main in whole:
            messages.append(msgspec.structs.replace(whole[main], parsed=parsed, platform=platform))
        else:
            messages.append(_undescribed(tx, access, main, parsed, platform))
    return messages


def _undescribed(
    tx: Connection, access: Access, key: str, parsed: wire.ParsedName | None, platform: str | None
) -> wire.Experiment:
    """Return what lies below other folders, or is a file, as an experiment."""
    (member,) = _members(tx, access, [key])
    return wire.Experiment(
        id=member.id,
        name=member.name,
        key=key,
        number=member.name,
        title=None,
        description=None,
        status="active",
        project=None,
        owners=(),
        meta=member.meta,
        tags=member.tags,
        parsed=parsed,
        platform=platform,
        assets=names.held(tx, access.workspace_id, access.experiments, key),
        created_at=member.created_at,
        created_by=names.author(tx, access.workspace_id, access.experiments, key),
    )


def _members(tx: Connection, access: Access, paths: Sequence[str]) -> list[wire.ExperimentMember]:
    here = access.workspace_id, access.experiments
    known = asset_rows.by_keys(tx, access.workspace_id, list(paths))
    described = rows.by_names(tx, access.workspace_id, [path for path in paths if "/" not in path])
    said = {row["key"]: row for row in names.at_keys(tx, *here, paths)}
    members = []
    for path in paths:
        row, experiment, asset = known.get(path), described.get(path), None
        parsed = recordings.message(said[path]["parsed"]) if path in said else None
        name = keys.name_of(path)
        if row is not None and row["deleted_at"] is None:
            (asset,) = assets.whole(tx, access, [row])
            id, is_folder, at, tags, meta = asset.id, False, row["created_at"], row["tags"], row["meta"]
        elif experiment is not None:
            id, is_folder, at = experiment["uid"], True, experiment["created_at"]
            tags, meta = experiment["tags"], experiment["meta"]
        else:
            at = said[path]["created_at"] if path in said else names.oldest(tx, access.workspace_id, path)
            id, is_folder, tags, meta = _folder_id(access, path), True, "[]", "{}"
        members.append(
            wire.ExperimentMember(
                id=id,
                key=path,
                name=name,
                is_folder=is_folder,
                created_at=moments.to_datetime(at),
                tags=tuple(json.loads(tags)),
                meta=cursors.document(meta),
                parsed=parsed,
                asset=asset,
            )
        )
    return members


def _message(tx: Connection, found: Sequence[rows.Row]) -> list[wire.Experiment]:
    roles = rows.roles_in(tx, [row["id"] for row in found]) if found else {}
    said = names.parsed(tx, {row["name"]: row["workspace_id"] for row in found}) if found else {}
    messages = []
    for row in found:
        parsed = recordings.message(said.get(row["name"]))
        messages.append(
            wire.Experiment(
                id=row["uid"] or "",
                name=row["name"],
                key=row["name"],
                number=row["number"],
                title=row["title"],
                description=row["description"],
                status=row["status"],
                project=row["project"],
                owners=tuple(user for user, role in roles.get(row["id"], {}).items() if role == "owner"),
                meta=cursors.document(row["meta"]),
                tags=tuple(json.loads(row["tags"])),
                parsed=parsed,
                platform=parsed.platform if parsed else None,
                assets=row["assets"],
                created_at=moments.to_datetime(row["created_at"]),
                created_by=row["author"],
            )
        )
    return messages


def _roles(tx: Connection, row: rows.Row) -> wire.ExperimentRoles:
    every = rows.roles_in(tx, [row["id"]]).get(row["id"], {})
    return wire.ExperimentRoles(
        name=row["name"], roles=tuple(wire.ExperimentRole(user=user, role=role) for user, role in every.items())
    )


def _asked(wanted: wire.ListExperiments) -> names.Asked:
    """Return what is searched for, as rows have it."""
    if wanted.date is not None and (wanted.since is not None or wanted.until is not None):
        raise ValidationError("date is both bounds, and goes with neither since nor until", hint="give date, or the two bounds")
    since = wanted.date if wanted.date is not None else wanted.since
    until = wanted.date if wanted.date is not None else wanted.until
    low = None if since is None else times.span(since).first
    high = None if until is None else times.span(until).last
    if low is not None and high is not None and high < low:
        raise ValidationError(f"until {until!r} lies before since {since!r}", hint="exchange them")
    near = None
    if wanted.near is not None:
        about, tolerance = times.span(wanted.near), int(wanted.tolerance_seconds * 1_000_000)
        near = times.microseconds(about.first) - tolerance, times.microseconds(about.last) + tolerance
    return names.Asked(
        subject=wanted.subject,
        platform=wanted.platform and wanted.platform.casefold(),
        convention=wanted.convention,
        label=wanted.label and wanted.label.casefold(),
        since=None if low is None else times.microseconds(low),
        until=None if high is None else times.microseconds(high),
        near=near,
        tags=wanted.tags,
        prefix=wanted.prefix and keys.normalise_prefix(wanted.prefix),
        project=wanted.project,
        status=wanted.status,
    )


def _position(cursor: str | None) -> names.Position | None:
    text = cursors.text(cursor)
    if text is None:
        return None
    try:
        match json.loads(text):
            case [int(started), str(subject), str(main)] if abs(started) <= names.NOWHEN:
                return names.Position(started, subject, main)
    except (ValueError, RecursionError):
        pass
    raise ValidationError("this page cursor was not made here", hint="use the 'next' field of the page before")


def _notes(tx: Connection, access: Access, wanted: wire.ListExperiments) -> tuple[str, ...]:
    """Return a sentence for each thing asked for that nothing has, as far as the caller may know."""
    notes = []
    for field in ("platform", "label", "convention"):
        if (value := getattr(wanted, field)) is None:
            continue
        known = names.values(tx, access.workspace_id, access.experiments, field)
        folded = value.casefold()
        if folded not in known:
            near = difflib.get_close_matches(folded, known, n=1)
            notes.append(f"no name here has the {field} {value!r}" + (f"; nearest: {near[0]!r}" if near else ""))
    return tuple(notes)
