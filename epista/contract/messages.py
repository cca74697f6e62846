"""
The two bases of every message on the wire.

Requests refuse fields they do not know, so a misspelt filter never means "no filter". Replies ignore them, so an older
client understands a newer server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller asks. Fields named in an endpoint's path travel there, the others as query parameters or JSON."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the server answers."""


class Done(Reply, frozen=True, kw_only=True):
    """The act is done, and there is nothing to say about it."""


PageSize = Annotated[int, msgspec.Meta(ge=1, le=1000)]
"""How many rows one page may have."""

Cursor = Annotated[str, msgspec.Meta(max_length=8192)]
"""Where the next page begins; opaque, from the `next` field of the page before."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]+$(?!\n)")]
"""A name that a person gave: no control characters, no slash."""

Restriction = Annotated[tuple[Name, ...], msgspec.Meta(max_length=1000)]
"""The experiments that a member or a token is restricted to."""

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its offset from UTC (RFC 3339); the server answers in UTC."""

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", max_length=64)]
"""A sha256 in lower-case hexadecimal (FIPS 180-4)."""

Text = Annotated[str, msgspec.Meta(max_length=8192)]
"""Free text, such as a key, a name or a query; what may stand in it is checked where it is used."""
