"""
Scopes: what a token may be used for, never more than its user may do.

No scope implies another. Which role each one needs besides stands in the server's policy table.
"""

from __future__ import annotations

SCOPES = {
    "read": "see, search and download assets",
    "write": "put, describe, copy, move, delete and restore assets; create experiments",
    "admin": "manage the members and metadata rules of a workspace; purge versions; read and verify its audit log",
    "tokens": "make, list and revoke one's own tokens",
    "lab": "create workspaces and users; verify, clean and back up the lab; read its metrics",
}
"""Every scope, and what it allows."""

DATA_SCOPES = ("read", "write")
"""What a new token gets unless its maker says otherwise."""

ROLES = ("viewer", "editor", "admin")
"""What a member of a workspace can be, from least to most."""
