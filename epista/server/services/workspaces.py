"""Workspaces, members and metadata rules."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping

from epista.contract import messages
from epista.contract import workspaces as wire
from epista.contract.errors import ConflictError, ForbiddenError, NotFoundError, ValidationError
from epista.server.access import policy, secrets
from epista.server.access.actors import Actor
from epista.server.access.policy import Access
from epista.server.services import cursors, metadata_rules, tokens
from epista.server.services.resources import Resources, enter
from epista.server.stores import assets as asset_rows
from epista.server.stores import audit, moments, people


class Workspaces:
    """A workspace one is no member of does not exist; its last admin stays."""

    def __init__(self, resources: Resources, address: str) -> None:
        self._all = resources
        self._address = address

    def create(self, actor: Actor, wanted: wire.CreateWorkspace) -> wire.Workspace:
        """Make a workspace, for managers of the lab, who become its first admin."""
        policy.require_lab(actor)

        def work(tx: Connection) -> wire.Workspace:
            now = self._all.clock()
            if people.workspace(tx, wanted.name):
                raise ConflictError(f"there is a workspace {wanted.name!r} already", hint="give another name")
            made = people.add_workspace(tx, uid=secrets.identifier("ws"), name=wanted.name, at=now)
            people.set_member(tx, workspace_id=made, user_id=actor.user_id, role="admin", experiments=None)
            self._all.record(tx, actor, made, wanted.name)
            return _workspace(people.membership(tx, actor.user_id, wanted.name), enter(tx, actor, "any", wanted.name))

        return self._all.write_lab(actor, wire.Workspace, work)

    def find(self, actor: Actor, wanted: wire.ListWorkspaces) -> wire.Workspaces:
        """List the workspaces that exist for the caller."""
        with self._all.catalog.read() as tx:
            rows = [row for row in people.memberships(tx, actor.user_id) if actor.workspace_id in (None, row["id"])]
            found = tuple(_workspace(row, enter(tx, actor, "any", row["uid"])) for row in rows)
        self._all.note(actor, audit.LAB, actor.user)
        return wire.Workspaces(workspaces=found)

    def get(self, actor: Actor, wanted: wire.GetWorkspace) -> wire.Workspace:
        """Look at a workspace."""
        with self._all.read(actor, "any", wanted.workspace) as (tx, access):
            found = _workspace(people.membership(tx, actor.user_id, wanted.workspace), access)
        self._all.note(actor, access.workspace_id, access.workspace)
        return found

    def add_member(self, actor: Actor, wanted: wire.AddMember) -> wire.Member:
        """Make a user a member or change the membership; only managers of the lab make new users."""
        if wanted.role == "admin" and wanted.experiments is not None:
            raise ValidationError("an admin cannot be restricted to experiments", hint="make the member an editor")

        def work(tx: Connection, access: Access) -> wire.Member:
            now = self._all.clock()
            user = people.user(tx, wanted.user)
            manages = policy.manages_lab(actor)
            if not manages and (user is None or wanted.new_link):
                raise ForbiddenError(
                    "only a manager of the lab can make sign-in links"
                    if user
                    else f"the lab has no user {wanted.user!r}, and only a manager of the lab can make one",
                    hint="ask whoever runs the server",
                )
            if user is not None and user["is_lab_admin"] and wanted.new_link:
                # A link opens all that its user may open, which is more than the token that asks may allow.
                raise ForbiddenError(
                    f"{wanted.user!r} manages the lab, and signs in with a link from its machine",
                    hint="on the server's machine: epista serve LAB --new-link",
                )
            if user is None:
                user_id = people.add_user(tx, uid=secrets.identifier("us"), name=wanted.user, is_lab_admin=False, at=now)
            else:
                user_id = user["id"]
                if wanted.role != "admin":
                    _keep_an_admin(tx, access, user_id)
            link = None
            if wanted.new_link or (manages and user_id != actor.user_id and not people.live_sign_ins(tx, user_id, now)):
                seconds = self._all.config.sign_in_link_seconds
                link = sign_in_link(self._address, tokens.make_link(tx, user_id, now=now, seconds=seconds))
            people.set_member(
                tx, workspace_id=access.workspace_id, user_id=user_id, role=wanted.role, experiments=wanted.experiments
            )
            details = {"role": wanted.role, "experiments": wanted.experiments}
            self._all.record(tx, actor, access.workspace_id, wanted.user, details)
            return wire.Member(user=wanted.user, role=wanted.role, experiments=wanted.experiments, sign_in_link=link)

        return self._all.write(actor, "admin", wanted.workspace, wire.Member, work)

    def members(self, actor: Actor, wanted: wire.ListMembers) -> wire.Members:
        """List the members, for admins."""
        with self._all.read(actor, "admin", wanted.workspace) as (tx, access):
            rows = people.members_of(tx, access.workspace_id)
        self._all.note(actor, access.workspace_id, access.workspace)
        return wire.Members(
            members=tuple(
                wire.Member(user=row["name"], role=row["role"], experiments=_sorted(people.loaded(row["experiments"])))
                for row in rows
            )
        )

    def remove_member(self, actor: Actor, wanted: wire.RemoveMember) -> messages.Done:
        """End a membership."""

        def work(tx: Connection, access: Access) -> messages.Done:
            found = [row for row in people.members_of(tx, access.workspace_id) if row["name"] == wanted.user]
            if not found:
                raise NotFoundError(f"{wanted.user!r} is no member of {access.workspace!r}", hint="epista member list")
            _keep_an_admin(tx, access, found[0]["id"])
            people.remove_member(tx, workspace_id=access.workspace_id, user_id=found[0]["id"])
            self._all.record(tx, actor, access.workspace_id, wanted.user)
            return messages.Done()

        return self._all.write(actor, "admin", wanted.workspace, messages.Done, work)

    def set_rules(self, actor: Actor, wanted: wire.SetRules) -> wire.Rules:
        """Replace the metadata rules; the versions before are kept."""
        metadata_rules.check_schemas(self._all.schema_checks, wanted.rules)

        def work(tx: Connection, access: Access) -> wire.Rules:
            before = metadata_rules.current(tx, access.workspace_id)
            version = before["version"] if before else 0
            if wanted.expect is not None and wanted.expect != version:
                raise ConflictError(
                    f"the rules are at version {version}, not {wanted.expect}",
                    hint="epista rules show, then set them again",
                    details={"found": version},
                )
            metadata_rules.add(
                tx,
                workspace_id=access.workspace_id,
                version=version + 1,
                wanted=wanted.rules,
                user_id=actor.user_id,
                at=self._all.clock(),
            )
            self._all.record(tx, actor, access.workspace_id, f"version {version + 1}", {"rules": [r.name for r in wanted.rules]})
            return _rules(metadata_rules.current(tx, access.workspace_id), access)

        return self._all.write(actor, "admin", wanted.workspace, wire.Rules, work)

    def rules(self, actor: Actor, wanted: wire.ShowRules) -> wire.Rules:
        """Look at the metadata rules, for all members: whoever must follow them may read them, and no others."""
        with self._all.read(actor, "read", wanted.workspace) as (tx, access):
            row = metadata_rules.current(tx, access.workspace_id, wanted.version)
            if row is None and wanted.version not in (None, 0):
                raise NotFoundError(f"the rules have no version {wanted.version}", hint="epista rules show")
        self._all.note(actor, access.workspace_id, access.workspace)
        return _rules(row, access)

    def check_rules(self, actor: Actor, wanted: wire.CheckRules) -> wire.RuleBreaks:
        """Find assets that break the rules in force, one page at a time."""
        after = cursors.text(wanted.after)
        with self._all.read(actor, "admin", wanted.workspace) as (tx, access):
            rules = metadata_rules.loaded(metadata_rules.current(tx, access.workspace_id))
            found = asset_rows.keys_after(tx, access.workspace_id, None, prefix="", after=after, limit=wanted.limit)
            rows = asset_rows.by_keys(tx, access.workspace_id, found)
        subjects = [metadata_rules.Subject(key, rows[key]["kind"], rows[key]["meta"]) for key in found]
        broken: dict[str, list[dict[str, str]]] = {}
        for one in metadata_rules.violations(self._all.schema_checks, rules, subjects):
            broken.setdefault(one["key"], []).append(one)
        breaks = [wire.RuleBreak(key=key, violations=tuple(every)) for key, every in broken.items()]
        self._all.note(actor, access.workspace_id, access.workspace)
        more = cursors.of(found[-1]) if len(found) == wanted.limit else None
        return wire.RuleBreaks(checked=len(found), breaks=tuple(breaks), next=more)


def sign_in_link(address: str, code: str) -> str:
    """Return the link that signs a person in. The code stands behind ``#``, which browsers never send or log."""
    return f"{address}/sign-in#{code}"


def _keep_an_admin(tx: Connection, access: Access, leaving: int) -> None:
    admins = [row["id"] for row in people.members_of(tx, access.workspace_id) if row["role"] == "admin"]
    if admins == [leaving]:
        raise ConflictError(f"the last admin of {access.workspace!r} stays", hint="make somebody else an admin first")


def _workspace(row: RowMapping | None, access: Access) -> wire.Workspace:
    assert row is not None, "the policy just found the same membership"
    return wire.Workspace(
        id=row["uid"],
        name=row["name"],
        role=access.role,
        experiments=_sorted(access.experiments),
        created_at=moments.to_datetime(row["created_at"]),
    )


def _rules(row: RowMapping | None, access: Access) -> wire.Rules:
    return wire.Rules(
        version=row["version"] if row else 0,
        rules=metadata_rules.concerning(metadata_rules.loaded(row), access.experiments),
        changed_at=moments.to_datetime(row["created_at"]) if row else None,
        changed_by=row["author"] if row else None,
    )


def _sorted(names: object) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(names))  # type: ignore[call-overload]
