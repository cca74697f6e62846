"""Who acts: the person behind a token, and the request in which they act."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The request that an act belongs to."""

    id: str
    """Stands in the log, in the audit row and in the client's error."""
    endpoint: str
    """The name of its row in the contract."""
    idempotency_key: str | None = None
    """Under which the reply is kept, so that a retry gets it again."""
    fingerprint: str = ""
    """sha256 of what was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """A caller who has shown a valid token."""

    user_id: int
    user: str
    is_lab_admin: bool
    scopes: frozenset[str]
    """What the token allows."""
    workspace_id: int | None = None
    """The one workspace the token opens; None for all of the user's."""
    experiments: frozenset[str] | None = None
    """The experiments the token is restricted to."""
    token_id: int | None = None
    token: str | None = None
    """The token's public id; None for the private token of an embedded lab."""
    expires_at: int | None = None
    """When the token ends."""
    ends_at: int | None = None
    """When the last renewal of the token ends, and with it whatever was made with it."""
    is_local: bool = False
    """Whether this is the user of an embedded lab, who owns its folder and may be told where in it bytes lie."""
    is_link: bool = False
    """Whether this is somebody with a signed link, for whom its maker stands."""
    request: Request

    @property
    def caller(self) -> str:
        """Whom limits count."""
        return ("links of " if self.is_link else "") + (self.token or "owner")

    @property
    def is_restricted(self) -> bool:
        """Whether the token opens less than all its user may open."""
        return self.workspace_id is not None or self.experiments is not None
