"""Tokens: who a caller is, and how people and notebooks come by tokens."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, RowMapping

from epista.contract import messages
from epista.contract import tokens as wire
from epista.contract.errors import AuthenticationError, ForbiddenError, InvalidRequestError, NotFoundError, ValidationError
from epista.contract.scopes import SCOPES
from epista.server.access import policy, secrets
from epista.server.access.actors import Actor, Request
from epista.server.services.resources import Resources
from epista.server.stores import audit, moments, people

_SECOND = 1_000_000

_SIGN_IN_HINT = "epista auth login LINK, or epista auth login --token TOKEN"


@dataclass(frozen=True)
class Owner:
    """The user of an embedded lab, who proves it with a secret that only the two processes know."""

    secret_hash: str


class Tokens:
    """A token never allows more than the one it was made with, and ends with it."""

    def __init__(self, resources: Resources, owner: Owner | None = None) -> None:
        self._all = resources
        self._owner = owner

    def authenticate(self, secret: str, request: Request) -> Actor:
        """Return who presents *secret*; refused: unknown, expired and revoked ones."""
        digest = secrets.digest(secret)
        with self._all.catalog.read() as tx:
            if self._owner and hmac.compare_digest(digest, self._owner.secret_hash):
                return _owner_of(tx, request)
            row = people.token(tx, digest)
        if row is None or row["kind"] == "link":
            raise AuthenticationError("this token is not known here", hint=_SIGN_IN_HINT)
        self._refuse_ended(row, self._all.clock())
        return _actor(row, request)

    def maker(self, token: str, request: Request) -> Actor | None:
        """
        Return whoever made a link with the token of that id, empty for the owner of an embedded lab, to read and no more.

        None if the token has ended; a kernel token ends with its renewals.
        """
        with self._all.catalog.read() as tx:
            if not token:
                return _by_link(_owner_of(tx, request)) if self._owner else None
            row = people.token_called(tx, token)
            if row is None or row["kind"] == "link":
                return None
            if people.is_line_revoked(tx, row["id"]) if row["kind"] == "kernel" else row["revoked_at"] is not None:
                return None
        actor = _actor(row, request)
        if actor.ends_at is not None and self._all.clock() >= actor.ends_at:
            return None
        return _by_link(actor)

    def who(self, actor: Actor, wanted: wire.WhoAmI) -> wire.Me:
        """Tell callers about themselves."""
        with self._all.catalog.read() as tx:
            rows = people.memberships(tx, actor.user_id)
        self._all.note(actor, audit.LAB, actor.user)
        return wire.Me(
            user=actor.user,
            is_lab_admin=actor.is_lab_admin,
            scopes=tuple(sorted(actor.scopes)),
            workspaces=tuple(row["name"] for row in rows if actor.workspace_id in (None, row["id"])),
            experiments=None if actor.experiments is None else tuple(sorted(actor.experiments)),
            expires_at=None if actor.expires_at is None else moments.to_datetime(actor.expires_at),
            token=actor.token,
        )

    def create(self, actor: Actor, wanted: wire.CreateToken) -> wire.NewToken:
        """Make a token for oneself, never wider than the one presented."""
        policy.require_scope(actor, "tokens")
        unknown = sorted(set(wanted.scopes) - set(SCOPES))
        if unknown or not wanted.scopes:
            raise ValidationError(
                f"no scope {', '.join(map(repr, unknown)) or 'given'}; there are {', '.join(SCOPES)}",
                details={"violations": [{"path": "scopes", "message": f"unknown: {name}"} for name in unknown]},
            )
        wider = sorted(set(wanted.scopes) - actor.scopes)
        if wider:
            raise ForbiddenError(f"your own token has not the scope {', '.join(wider)}")
        if actor.experiments is not None and not (wanted.experiments and set(wanted.experiments) <= actor.experiments):
            raise ForbiddenError(f"your own token is restricted to the experiments {', '.join(sorted(actor.experiments))}")

        def work(tx: Connection) -> wire.NewToken:
            now = self._all.clock()
            workspace_id = actor.workspace_id
            if wanted.workspace is not None:
                found = people.membership(tx, actor.user_id, wanted.workspace)
                if found is None or actor.workspace_id not in (None, found["id"]):
                    raise NotFoundError(f"no workspace {wanted.workspace!r}", hint="epista workspace list")
                workspace_id = found["id"]
            wished = None if wanted.expires_at is None else moments.of(wanted.expires_at)
            if wished is not None and wished <= now:
                raise ValidationError("expires_at lies in the past")
            ends = min((end for end in (wished, actor.ends_at) if end is not None), default=None)
            made = self._add(
                tx,
                actor.user_id,
                kind=wanted.kind,
                name=wanted.name,
                scopes=wanted.scopes,
                workspace_id=workspace_id,
                experiments=wanted.experiments,
                ends=ends,
                parent_id=actor.token_id,
            )
            self._all.record(tx, actor, audit.LAB, made.token.id, {"name": wanted.name, "scopes": list(made.token.scopes)})
            return made

        return self._all.write_lab(actor, wire.NewToken, work)

    def find(self, actor: Actor, wanted: wire.ListTokens) -> wire.Tokens:
        """List one's own tokens; to a restricted one, itself and what was made with it: others name what it may not see."""
        policy.require_scope(actor, "tokens")
        with self._all.catalog.read() as tx:
            rows = _own(tx, actor)
        self._all.note(actor, audit.LAB, actor.user)
        return wire.Tokens(tokens=tuple(map(_message, rows)))

    def revoke(self, actor: Actor, wanted: wire.RevokeToken) -> messages.Done:
        """End one of one's own tokens, and all that were made with it; ending it again is fine."""
        policy.require_scope(actor, "tokens")

        def work(tx: Connection) -> messages.Done:
            own = [row for row in _own(tx, actor) if row["uid"] == wanted.id]
            if not own:
                raise NotFoundError(f"you have no token {wanted.id!r}", hint="epista token list")
            people.revoke(tx, own[0]["id"], self._all.clock())
            self._all.record(tx, actor, audit.LAB, wanted.id)
            return messages.Done()

        return self._all.write_lab(actor, messages.Done, work)

    def renew(self, secret: str | None, wanted: wire.RenewToken, request: Request) -> wire.NewToken:
        """Exchange a kernel token, also one that has just expired, for a fresh one with the same rights."""
        if secret is None:
            raise AuthenticationError("this needs the token that is to be renewed")
        digest = secrets.digest(secret)

        def work(tx: Connection) -> wire.NewToken:
            now = self._all.clock()
            row = people.token(tx, digest)
            if row is None or row["kind"] == "link":
                raise AuthenticationError("this token is not known here", hint=_SIGN_IN_HINT)
            if row["kind"] != "kernel":
                raise InvalidRequestError("only kernel tokens are renewed; this one is personal", hint="epista token create NAME")
            if row["revoked_at"] is not None or now >= (row["renew_until"] or 0):
                raise AuthenticationError("this kernel token can no longer be renewed", hint="start the notebook's kernel again")
            actor = _actor(row, request)
            made = self._add(
                tx,
                row["user_id"],
                kind="kernel",
                name=row["name"],
                scopes=json.loads(row["scopes"]),
                workspace_id=row["workspace_id"],
                experiments=people.loaded(row["experiments"]),
                ends=row["renew_until"],
                parent_id=row["id"],
            )
            self._all.record(tx, actor, audit.LAB, made.token.id)
            return made

        return self._all.catalog.write(work)

    def sign_in(self, secret: str | None, wanted: wire.SignIn, request: Request) -> wire.NewToken:
        """Turn the code of a sign-in link, once, into a token with everything its user may do."""
        digest = secrets.digest(wanted.code)

        def work(tx: Connection) -> wire.NewToken:
            now = self._all.clock()
            row = people.token(tx, digest)
            if row is None or row["kind"] != "link" or row["revoked_at"] is not None or now >= row["expires_at"]:
                raise AuthenticationError(
                    "this sign-in link was used, has expired or was never made",
                    hint="whoever runs the server can make a new one: epista serve LAB --new-link",
                )
            people.revoke(tx, row["id"], now)
            actor = _actor(row, request)
            made = self._add(
                tx,
                row["user_id"],
                kind="personal",
                name=wanted.name,
                scopes=tuple(SCOPES),
                workspace_id=None,
                experiments=None,
                ends=None,
                parent_id=None,
            )
            self._all.record(tx, actor, audit.LAB, made.token.id)
            return made

        return self._all.catalog.write(work)

    def _add(
        self,
        tx: Connection,
        user_id: int,
        *,
        kind: str,
        name: str,
        scopes: Any,
        workspace_id: int | None,
        experiments: Any,
        ends: int | None,
        parent_id: int | None,
    ) -> wire.NewToken:
        now, config = self._all.clock(), self._all.config
        renew_until = None
        if kind == "kernel":
            renew_until = min(now + config.kernel_renew_seconds * _SECOND, ends or 2**62)
            ends = min(now + config.kernel_token_seconds * _SECOND, renew_until)
        secret = secrets.make(kind)
        digest = secrets.digest(secret)
        people.add_token(
            tx,
            uid=secrets.identifier("tk"),
            user_id=user_id,
            kind=kind,
            name=name,
            hash=digest,
            scopes=people.dumped(scopes),
            workspace_id=workspace_id,
            experiments=people.dumped(experiments),
            created_at=now,
            expires_at=ends,
            renew_until=renew_until,
            parent_id=parent_id,
        )
        made = people.token(tx, digest)
        assert made is not None, "it was just added"
        return wire.NewToken(
            secret=secret,
            token=_message(made),
            renew_until=None if renew_until is None else moments.to_datetime(renew_until),
        )

    def _refuse_ended(self, row: RowMapping, now: int) -> None:
        if row["revoked_at"] is not None:
            raise AuthenticationError("this token was revoked", hint=_SIGN_IN_HINT)
        if row["expires_at"] is not None and now >= row["expires_at"]:
            ended = moments.to_datetime(row["expires_at"]).isoformat(timespec="seconds")
            raise AuthenticationError(f"this token expired at {ended}", hint=_SIGN_IN_HINT)


def make_link(tx: Connection, user_id: int, *, now: int, seconds: int) -> str:
    """Make the code of a one-time sign-in link for a user."""
    code = secrets.make("link")
    people.add_token(
        tx,
        uid=secrets.identifier("tk"),
        user_id=user_id,
        kind="link",
        name="sign-in link",
        hash=secrets.digest(code),
        scopes="[]",
        created_at=now,
        expires_at=now + seconds * _SECOND,
    )
    return code


def _actor(row: RowMapping, request: Request) -> Actor:
    return Actor(
        user_id=row["user_id"],
        user=row["user"],
        is_lab_admin=row["is_lab_admin"],
        scopes=frozenset(json.loads(row["scopes"])),
        workspace_id=row["workspace_id"],
        experiments=people.loaded(row["experiments"]),
        token_id=row["id"],
        token=row["uid"],
        expires_at=row["expires_at"],
        ends_at=row["renew_until"] or row["expires_at"],
        request=request,
    )


def _owner_of(tx: Connection, request: Request) -> Actor:
    row = people.first_lab_admin(tx)
    if row is None:
        raise AuthenticationError("the lab has no user yet")
    return Actor(user_id=row["id"], user=row["name"], is_lab_admin=True, scopes=frozenset(SCOPES), is_local=True, request=request)


def _by_link(maker: Actor) -> Actor:
    return replace(maker, scopes=maker.scopes & {"read"}, is_local=False, is_link=True)


def _own(tx: Connection, actor: Actor) -> list[RowMapping]:
    return people.tokens_of(tx, actor.user_id, of=actor.token_id if actor.is_restricted else None)


def _message(row: RowMapping) -> wire.Token:
    experiments = people.loaded(row["experiments"])

    def moment(name: str) -> Any:
        return None if row[name] is None else moments.to_datetime(row[name])

    return wire.Token(
        id=row["uid"],
        name=row["name"],
        kind=row["kind"],
        scopes=tuple(json.loads(row["scopes"])),
        workspace=row["workspace"],
        experiments=None if experiments is None else tuple(sorted(experiments)),
        created_at=moment("created_at"),
        expires_at=moment("expires_at"),
        revoked_at=moment("revoked_at"),
    )
